"""A model's token states in twenty lines: written by key, killed and gone on with at will, read by id.

    python -m examples.any_states FOLDER

The "model" is a table of random states; put your own in its place.
"""

import sys

import numpy as np

import memcorpus

texts = {f"caption-{i}": "a picture of the sea " * (1 + i % 3) for i in range(300)}
table = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)


def states_of(text: str) -> np.ndarray:
    return table[[len(word) for word in text.split()]]  # [tokens, 64]


with memcorpus.open_writer(
    sys.argv[1], keys=texts, width=64, max_tokens=20, encoder="random table, seed 0", codec="turbo4"
) as writer:
    for shard in writer.missing():
        writer.write(shard, (states_of(texts[key]) for key in shard.keys))
    writer.publish()

corpus = memcorpus.open(sys.argv[1])
memory = corpus.memory().fetch(corpus.ids(["caption-7", "caption-200"]))
print(f"{len(corpus)} passages; of two: {memory[0].shape} and {memory[1].shape} {memory.values.dtype}")
