"""A stage: the units of one kind of work on a corpus, and what they count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from storage.receipts import C


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[C]):
    """A row of the table of stages. Small and picklable: it travels to every worker with its job.

    Attributes:
        name: of its folder of receipts, and in statistics.
        title: for people, in the imperative.
        counts: what its units count.
        measure: the count by which people see how far it is.
    """

    name: str
    title: str
    counts: type[C]
    measure: str
