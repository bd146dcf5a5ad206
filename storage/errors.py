"""Errors of the store: each a builtin that callers already catch, saying thing, value, rule, remedy."""

from __future__ import annotations


class CorpusError(ValueError):
    """Something asked of a corpus, or found in its folder, that cannot be used as it is."""


class DamagedError(CorpusError):
    """Stored bytes that do not match their checksum. Nothing read from them is returned."""


class MismatchError(CorpusError):
    """Two things that must agree do not: an encoder and a memory version, a plan and a rerun."""


class UnknownPassageError(CorpusError, LookupError):
    """Passage ids that the corpus does not hold; `ids` lists them."""

    def __init__(self, ids: list[int], passages: int) -> None:
        shown = ", ".join(map(str, ids[:10])) + (", ..." if len(ids) > 10 else "")
        last = "the corpus holds none" if passages == 0 else f"the corpus holds 0 to {passages - 1}"
        super().__init__(f"unknown passage id{'s' if len(ids) > 1 else ''} {shown}: {last}")
        self.ids = ids
