"""How the models read the passages: what was cut at their limits, what their vocabularies lack. Judged.

Two shares are told, and warned of where they are many:

    cut      tokens beyond the limit, of all that the passages have
    unknown  tokens that stand for text which is not in the vocabulary, of those that the model was given
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol, TypedDict

# A twentieth. Of an English dump's passages of 200 words a retriever that ends at 256 tokens cuts 1.9 %
# (docs/retrievers.md), and T5's vocabulary at 304 next to nothing; of Ukrainian ones it is 63 %.
MANY_CUT: Final = 0.05
# One in a hundred. Of an English dump one token in a thousand is unknown to a small English vocabulary, names
# in other scripts mostly; of Japanese text 26 % are unknown to T5, of Korean 38 %.
MANY_UNKNOWN: Final = 0.01

NOT_COUNTED: Final = "not counted"


class Reading(TypedDict):
    """Tokens as a model read them, in JSON: estimates in a plan, counts elsewhere.

    See `storage.components.ReadCounts`.
    """

    tokens: float
    passages_cut: float
    tokens_cut: float
    tokens_unknown: float


class _Counted(Protocol):
    """`storage.components.ReadCounts`, or what stands for them in an estimate."""

    @property
    def tokens(self) -> float: ...
    @property
    def passages_cut(self) -> float: ...
    @property
    def tokens_cut(self) -> float: ...
    @property
    def tokens_unknown(self) -> float: ...


def to_json(counts: _Counted | None) -> Reading | None:
    """None where nobody counted."""
    if counts is None:
        return None
    return {
        "tokens": counts.tokens,
        "passages_cut": counts.passages_cut,
        "tokens_cut": counts.tokens_cut,
        "tokens_unknown": counts.tokens_unknown,
    }


def share_cut(reading: Reading) -> float:
    """Of the tokens that the passages have."""
    return reading["tokens_cut"] / max(1.0, reading["tokens"] + reading["tokens_cut"])


def share_unknown(reading: Reading) -> float:
    """Of the tokens that the model was given."""
    return reading["tokens_unknown"] / max(1.0, reading["tokens"])


def told_cut(reading: Reading | None) -> str:
    """Passages and tokens that were cut, in a cell of a table."""
    if reading is None:
        return NOT_COUNTED
    cut = f"{reading['passages_cut']:,.0f} / {reading['tokens_cut']:,.0f}"
    return f"{cut} ({share_cut(reading):.1%})"


def told_unknown(reading: Reading | None) -> str:
    """Tokens that are unknown, in a cell of a table."""
    if reading is None:
        return NOT_COUNTED
    return f"{reading['tokens_unknown']:,.0f} ({share_unknown(reading):.1%})"


def of_memory(reading: Reading | None, *, limit: int, version: str = "") -> Iterator[str]:
    """A line for each thing of which there is much, and what can be done: of a memory version."""
    if reading is None:
        return
    whose = f"memory{version and f' {version}'}"
    if share_cut(reading) > MANY_CUT:
        yield (
            f"{whose}: {share_cut(reading):.0%} of the tokens are beyond the limit of {limit:,} a passage "
            f"and not in it ({reading['passages_cut']:,.0f} passages are cut); "
            "raise --max-tokens, or cut shorter passages (--passage-words)"
        )
    if share_unknown(reading) > MANY_UNKNOWN:
        yield (
            f"{whose}: {share_unknown(reading):.0%} of the tokens are unknown to the memory encoder, so that "
            "passages that differ may have the same memory; take an encoder for the language (an mT5)"
        )


def of_retriever(reading: Reading | None, *, limit: int | None) -> Iterator[str]:
    """Likewise, of the retriever."""
    if reading is None:
        return
    if share_cut(reading) > MANY_CUT:
        told = "its limit" if limit is None else f"its limit of {limit:,} a passage"
        yield (
            f"retriever: {share_cut(reading):.0%} of the tokens are beyond {told} and in no vector "
            f"({reading['passages_cut']:,.0f} passages are cut); "
            "cut shorter passages (--passage-words), or take a retriever that reads longer ones"
        )
    if share_unknown(reading) > MANY_UNKNOWN:
        yield (
            f"retriever: {share_unknown(reading):.0%} of the tokens are unknown to it, so that passages that "
            "differ may have the same vector; take a retriever for the language"
        )
