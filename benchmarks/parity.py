"""Stored memory of random passages against transformers, computed from the passages' text alone.

    python -m benchmarks.parity CORPUS ENCODER_FOLDER [--passages 100]

ENCODER_FOLDER is the model that the corpus's memory was built with. transformers runs it in float32.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from transformers import AutoTokenizer, T5EncoderModel

from encoders import PassageTemplate
from retrieval import open_corpus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("encoder")
    parser.add_argument("--passages", type=int, default=100)
    arguments = parser.parse_args()
    corpus = open_corpus(arguments.corpus)
    reader = corpus.memory()
    described = reader.card.encoder
    template = PassageTemplate(described["template"])
    tokenizer = AutoTokenizer.from_pretrained(arguments.encoder)
    model = T5EncoderModel.from_pretrained(arguments.encoder, dtype=torch.float32).eval()
    count = min(arguments.passages, len(corpus))
    ids = np.random.default_rng(0).choice(len(corpus), count, replace=False)
    tokens, largest, worst_token = 0, 0.0, 0.0
    for row, stored in zip(corpus.passages(ids).to_pylist(), reader.fetch(ids), strict=True):
        text = template.render(title=row["title"], section=row["section"], text=row["text"])
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=described["max_tokens"])
        with torch.inference_mode():
            outputs = model(**inputs, output_hidden_states=True)
        last = described["final_norm"]
        states = outputs.last_hidden_state if last else outputs.hidden_states[described["layers"]]
        wanted = states[0].numpy()
        difference = stored.astype(np.float32) - wanted
        largest = max(largest, float(np.abs(difference).max() / np.abs(wanted).max()))
        by_token = np.linalg.norm(difference, axis=1) / np.linalg.norm(wanted, axis=1)
        worst_token = max(worst_token, float(by_token.max()))
        tokens += len(wanted)
    print(
        f"{tokens:,} tokens of {count} passages, computed in {described['compute_dtype']}, stored as "
        f"{reader.dtype}: max|a-b| / max|b| {largest:.1e}, worst token |a-b| / |b| {worst_token:.1e}"
    )


if __name__ == "__main__":
    main()
