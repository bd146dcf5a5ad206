"""Questions as text, and the passages found for them ranked again by the vectors of their tokens.

A memory version of a multi-vector retriever holds the passages' side. The retriever itself, which gives a
question's vectors, is loaded when one is opened here, and PyTorch with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retrieval import maxsim
from retrieval.memory import MemoryReader
from storage import errors
from storage.folder import CorpusFolder

if TYPE_CHECKING:
    from encoders.multi_vector import MultiVectors


class Reranker:
    """A version's memory, and the retriever that wrote it. Made by `open_reranker`."""

    def __init__(self, memory: MemoryReader, model: MultiVectors) -> None:
        from encoders.multi_vector import MEAN_MAXSIM

        self.memory = memory
        self._model = model
        self._mean = model.similarity == MEAN_MAXSIM

    def queries(self, texts: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """The vectors of each question, [its tokens, width]."""
        return self._model.queries(texts)

    def rank(
        self, texts: Sequence[str], passage_ids: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The passages of each question, best first, and their scores, [questions, k] both; see
        `maxsim.rerank`."""
        return maxsim.rerank(self.queries(texts), passage_ids, self.memory, mean=self._mean)


def open_reranker(memory: MemoryReader, folder: CorpusFolder, *, encoder: str | None = None) -> Reranker:
    """Load what reranks by a version's memory.

    Args:
        memory: of the version.
        folder: of its corpus, which tells where the retriever was.
        encoder: where it is, if not there.

    Raises:
        CorpusError: another kind of model wrote the version; it is not known where the retriever is; or a
            library that it needs is not installed.
        MismatchError: another retriever lies there.
        ModelFolderError: it cannot be loaded.
    """
    # Loads no framework.
    from encoders import fingerprint
    from encoders.memory_encoders import open_encoder
    from encoders.memory_spec import MemorySpec
    from encoders.multi_vector import MultiVectors
    from encoders.token_encoder import MULTI_VECTOR

    card = memory.card
    if card.encoder.get("kind") != MULTI_VECTOR:
        raise errors.CorpusError(
            f"memory version {card.version} holds no vectors of a multi-vector retriever, by which passages "
            "are reranked; add one by `memcorpus reencode --memory-encoder` of a ColBERT"
        )
    name = encoder or _found(folder, card.version)
    opened = open_encoder(name, MemorySpec.from_json(card.settings))
    if opened.fingerprint.hex != card.encoder_fingerprint:
        other = fingerprint.differences(card.encoder, opened.fingerprint.description)
        raise errors.MismatchError(
            f"retriever {name} is not the one that wrote memory version {card.version}: they differ in "
            f"{', '.join(other[:3])}; name the folder of that one"
        )
    model = opened.load()
    assert isinstance(model, MultiVectors)  # as its card's kind says
    return Reranker(memory, model)


def _found(folder: CorpusFolder, version: str) -> str:
    """Where the run that wrote a version found its encoder."""
    run = folder.run_of(version)
    if run is None or run.memory_encoder is None:
        raise errors.CorpusError(
            f"it is not known where the retriever of memory version {version} lies; name it: --reranker, or "
            "`reranker(encoder=)` in Python"
        )
    return run.memory_encoder
