"""The codec that a reader is trained with: what parameters it begins with, kept for a resumed run."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import numpy.typing as npt
from flax import nnx
from safetensors.numpy import save

from encoders.reader import folder as reader_folder
from encoders.reader.model import Reader
from pipeline.readers.collate import Collator
from pipeline.readers.training.preparing import Parts
from retrieval.corpus import Corpus
from storage import codecs, files

# Passages that are encoded at a time.
_BATCH = 64


def coder_of(parts: Parts, corpus: Corpus, out: Path, plain: Reader) -> codecs.Coder | None:
    """The coder to begin with; None for a reader without a codec.

    It is the store's where memory is fetched, that of the reader which training begins with where it has
    the same codec, and else trained on what that encodes of the corpus.

    Args:
        parts: of the run.
        corpus: whose passages are encoded.
        out: the run's folder, which keeps the parameters: a run that is resumed does not train them again.
        plain: the reader as it begins, without a codec.
    """
    settings = parts.settings.reader
    if settings.codec is None:
        return None
    if parts.store is not None:
        return parts.store.coder
    codec, width = codecs.from_json(dict(settings.codec)), settings.config.t5.d_model
    if not codec.trained:
        return codec.bind(width, {})
    begun = parts.opened.settings.codec
    if (
        begun is not None
        and codecs.from_json(dict(begun)) == codec
        and (own := parts.opened.codec_parameters())
    ):
        return codec.bind(width, own)
    kept = out / reader_folder.CODEC
    if not kept.exists():
        parameters = codec.train(_sample(plain, parts.collate, corpus, codec.sample_tokens(width)))
        files.write_atomic(kept, save(dict(reader_folder.to_tensors(parameters))))
    return codec.bind(width, reader_folder.from_tensors(kept))


def _sample(reader: Reader, collate: Collator, corpus: Corpus, tokens: int) -> npt.NDArray[np.float32]:
    """States of `tokens` tokens of passages drawn from the corpus, [n, width]; fewer where it has fewer."""
    graph, state = nnx.split(reader)
    encode = jax.jit(lambda state, ids, lengths: nnx.merge(graph, state).states(ids, lengths))
    # The same for the same corpus: parameters are to be those of any run like this.
    order = np.random.default_rng(0).permutation(corpus.passage_ids)
    found: list[npt.NDArray[np.float32]] = []
    count = 0
    for first in range(0, len(order), _BATCH):
        ids = np.full(_BATCH, -1, np.int64)
        here = order[first : first + _BATCH]
        ids[: len(here)] = here
        passages, lengths = collate.read(ids[None])
        states = np.asarray(encode(state, passages, lengths))[0]
        real = np.arange(states.shape[1]) < lengths[0][:, None]
        found.append(states[real])
        count += len(found[-1])
        if count >= tokens:
            break
    return np.concatenate(found)[:tokens]
