"""Questions and passage ids become a reader's arrays, with memory from text or from a store."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoders import batching
from encoders.reader.examples import Examples
from encoders.reader.folder import ReaderSettings
from encoders.template import PassageTemplate
from encoders.tokenizing import Tokenizer
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader

# Passages whose tokens are kept: at 304 tokens of four bytes each about a quarter of a GiB.
KEPT_PASSAGES = 200_000


class Collator:
    """Makes batches for one reader from one corpus. Thread-safe.

    Args:
        corpus: where passages' texts come from.
        settings: the reader's.
        folder: with the reader's tokenizer.
        memory: a version to fetch memory from; None gives token ids, for a reader that encodes passages
            itself.

    Raises:
        MismatchError: `memory` was written by another encoder than the one in `folder`.
    """

    def __init__(
        self, corpus: Corpus, settings: ReaderSettings, folder: Path, *, memory: MemoryReader | None = None
    ) -> None:
        if memory is not None:
            memory.require_encoder(settings.memory_fingerprint(folder).hex)
        self.settings = settings
        self._corpus, self._memory = corpus, memory
        self._passage = PassageTemplate(settings.template)
        self._question = PassageTemplate(settings.question_template)
        self._questions = Tokenizer(folder, max_tokens=settings.config.question_tokens)
        self._passages = Tokenizer(folder, max_tokens=settings.max_tokens)
        self._answers = Tokenizer(folder, max_tokens=settings.answer_tokens)
        self._buckets = batching.bucket_lengths(settings.max_tokens)
        self._kept: dict[int, npt.NDArray[np.int32]] = {}
        # Batches are made ahead by a thread, while dev questions are answered by another.
        self._lock = threading.Lock()

    def __call__(
        self,
        inputs: Sequence[str],
        passage_ids: npt.NDArray[np.int64],
        answers: Sequence[str] | None = None,
        *,
        rows: int | None = None,
    ) -> Examples:
        """A batch of static shape: `rows` questions, each text padded to what it may have at most, passages
        to the lowest bucket that holds the longest of them.

        Args:
            inputs: questions, as the task has them.
            passage_ids: [questions, k]; -1 where there is none.
            answers: one for each question, to train on.
            rows: of the batch; those beyond the questions are filler. As many as questions if not given.
        """
        with self._lock:
            return self._collated(inputs, passage_ids, answers, len(inputs) if rows is None else rows)

    def _collated(
        self,
        inputs: Sequence[str],
        passage_ids: npt.NDArray[np.int64],
        answers: Sequence[str] | None,
        rows: int,
    ) -> Examples:
        k = passage_ids.shape[1]
        texts = [self._question.render(title="", text=text) for text in inputs]
        questions, question_lengths = _rectangle(
            self._questions(texts).split(), rows, self.settings.config.question_tokens
        )
        targets, target_lengths = _rectangle(
            self._answers(list(answers)).split() if answers is not None else [],
            rows,
            self.settings.answer_tokens,
        )
        ids = np.full((rows, k), -1, np.int64)
        ids[: len(inputs)] = passage_ids
        passages, lengths = self.read(ids) if self._memory is None else self._fetch(ids, self._memory)
        return Examples(
            questions=questions,
            question_lengths=np.maximum(question_lengths, 1),
            passages=passages,
            lengths=lengths,
            targets=targets,
            target_lengths=target_lengths,
        )

    def decode(self, tokens: npt.NDArray[np.int32]) -> list[str]:
        """Answers as text, without what stands behind EOS."""
        with self._lock:
            return self._answers.decode(tokens)

    def _bucket(self, longest: int) -> int:
        return self._buckets[int(np.searchsorted(self._buckets, longest))]

    def read(self, ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Token ids [rows, k, tokens] of passages [rows, k], -1 where there is none, and their lengths."""
        wanted = [int(i) for i in np.unique(ids) if i >= 0]
        missing = [i for i in wanted if i not in self._kept]
        if len(self._kept) + len(missing) > KEPT_PASSAGES:
            self._kept.clear()
            missing = wanted
        if missing:
            table = self._corpus.passages(missing, columns=["title", "section", "text"]).to_pylist()
            texts = [
                self._passage.render(title=row["title"], section=row["section"], text=row["text"])
                for row in table
            ]
            self._kept |= dict(zip(missing, self._passages(texts).split(), strict=True))
        longest = max((len(self._kept[i]) for i in wanted), default=1)
        flat, lengths = _rectangle(
            [self._kept[int(i)] if i >= 0 else np.empty(0, np.int32) for i in ids.reshape(-1)],
            ids.size,
            self._bucket(longest),
        )
        return flat.reshape(*ids.shape, -1), lengths.reshape(ids.shape)

    def _fetch(
        self, ids: npt.NDArray[np.int64], memory: MemoryReader
    ) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.int32]]:
        """Memory [rows, k, tokens, d] as it is stored or decoded, and lengths."""
        present = ids >= 0
        fetched = memory.fetch(ids[present])
        counts = np.diff(fetched.offsets)
        lengths = np.zeros(ids.shape, np.int32)
        lengths[present] = counts
        tokens = self._bucket(int(counts.max(initial=1)))
        values = np.zeros((*ids.shape, tokens, memory.width), fetched.values.dtype)
        for (row, place), one in zip(np.argwhere(present), fetched, strict=True):
            values[row, place, : len(one)] = one
        return values, lengths


def _rectangle(
    sequences: Sequence[npt.NDArray[np.int32]], rows: int, width: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """ids [rows, width], padded with 0, and lengths [rows]."""
    ids = np.zeros((rows, width), np.int32)
    lengths = np.zeros(rows, np.int32)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        lengths[row] = len(sequence)
    return ids, lengths
