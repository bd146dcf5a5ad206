"""What comes of a question: the answer, and the passages that it was read from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """One passage that was retrieved for a question.

    Attributes:
        passage_id: in the corpus.
        score: the reader's, or None if it scores none.
        read: whether the decoder saw it.
    """

    passage_id: int
    score: float | None
    read: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """An answer, its log-probability, and the passages in the order they were retrieved."""

    text: str
    log_probability: float
    passages: tuple[Read, ...]
