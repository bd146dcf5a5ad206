"""Makes a folder of random hidden states as vLLM's connector writes them.

    python -m benchmarks.states_folder FOLDER

What `memcorpus import` then says of it is the table of docs/writer.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file


def make(folder: Path, *, samples: int, layers: int, width: int) -> None:
    """Samples of 32 to 159 tokens, whose channels differ in size as those of models do."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    scale = np.exp(random.normal(size=width)).astype(np.float32)
    for i in range(samples):
        tokens = int(random.integers(32, 160))
        values = random.normal(size=(tokens, layers, width)).astype(np.float32) * scale
        save_file(
            {
                "hidden_states": values.astype(ml_dtypes.bfloat16),
                "token_ids": np.arange(tokens, dtype=np.int64),
            },
            folder / f"hs_{i}.safetensors",
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=512)
    asked = parser.parse_args()
    make(asked.folder, samples=asked.samples, layers=asked.layers, width=asked.width)


if __name__ == "__main__":
    main()
