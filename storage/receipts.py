"""Receipts: what a unit of work has written, left behind as the last thing it does.

A receipt on the disk means that every file it lists was whole when it was written. The commit
believes nothing else, and a resumed job checks the files against it before it skips the unit.

What is counted differs from stage to stage, so each stage has its own `Counts`: a frozen dataclass whose
fields are whole numbers. Counts of many units are folded one at a time by `+`; nobody keeps them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from storage import checked_json, errors, files
from storage.aliases import Json
from storage.fields import Fields


def least() -> Any:
    """A field whose fold is the smallest; 0 is that of no unit."""
    return field(default=0, metadata={"fold": lambda a, b: min(a, b) if a and b else a or b})


def most() -> Any:
    """A field whose fold is the largest."""
    return field(default=0, metadata={"fold": max})


def named(prefix: str) -> Any:
    """A field of counts that have names of their own, in JSON behind a prefix."""
    return field(default_factory=dict, metadata={"prefix": prefix, "fold": _added})


def _added(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return {name: a.get(name, 0) + b.get(name, 0) for name in (*a, *(n for n in b if n not in a))}


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What the units of a stage count; each stage has its own subclass. JSON is flat: name to number."""

    # Fields that receipts of an earlier release do not have.
    optional: ClassVar[frozenset[str]] = frozenset()

    def __add__(self, other: Self) -> Self:
        """The fold: sums, but for what `least` and `most` made, which is the smallest or largest."""
        return type(self)(
            **{
                f.name: f.metadata.get("fold", int.__add__)(getattr(self, f.name), getattr(other, f.name))
                for f in dataclasses.fields(self)
            }
        )

    def to_json(self) -> dict[str, int]:
        result: dict[str, int] = {}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            prefix = f.metadata.get("prefix")
            result |= {f.name: value} if prefix is None else {prefix + name: n for name, n in value.items()}
        return result

    @classmethod
    def from_json(cls, value: Json, where: str = "counts") -> Self:
        """Read strictly.

        Raises:
            CorpusError: a count is missing, or no whole number of 0 or more.
        """
        fields = Fields(value, where)
        found: Json = {}
        for f in dataclasses.fields(cls):
            prefix = f.metadata.get("prefix")
            if prefix is not None:
                names = [name for name in value if name.startswith(prefix)]
                found[f.name] = {name.removeprefix(prefix): fields.integer(name) for name in names}
            elif f.name in fields or f.name not in cls.optional:
                found[f.name] = fields.integer(f.name)
        return cls(**found)


C = TypeVar("C", bound=Counts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt(Generic[C]):
    """Of one unit: its files, counts (rows, tokens, ...), seconds by step, and a worker's name.

    `notes` holds what is neither (quarantined pages). Files, counts and notes depend on the source
    and the settings alone. Seconds and worker are kept out of everything that must be the same
    from run to run, and so are `waited`, seconds by who waited for whom, and `events`, how often
    something happened on the way (programs compiled, batches halved).
    """

    unit: int
    files: tuple[files.FileEntry, ...]
    counts: C
    seconds: Mapping[str, float]
    worker: str
    notes: tuple[Mapping[str, str], ...] = field(default=())
    waited: Mapping[str, float] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        checked_json.write(path, self.to_json())

    def to_json(self) -> Json:
        return {
            "unit": self.unit,
            "files": [entry.to_json() for entry in self.files],
            "counts": self.counts.to_json(),
            "seconds": {k: round(v, 6) for k, v in self.seconds.items()},
            "waited": {k: round(v, 6) for k, v in self.waited.items()},
            "events": dict(self.events),
            "worker": self.worker,
            "notes": [dict(note) for note in self.notes],
        }


def read(path: Path, counts: type[C]) -> Receipt[C]:
    """The receipt in a file.

    Raises:
        FileNotFoundError: there is none.
        CorpusError: it is of another stage, or misshapen.
        DamagedError: it is not as it was written.
    """
    return from_json(checked_json.read(path), counts, f"receipt {path}")


def from_json(value: Json, counts: type[C], where: str) -> Receipt[C]:
    """A receipt, read strictly; `where` names it in errors.

    Raises:
        CorpusError: it is of another stage, or misshapen.
    """
    fields = Fields(value, where)
    return Receipt(
        unit=fields.integer("unit"),
        files=fields.each("files", files.FileEntry.from_json),
        counts=counts.from_json(fields.object("counts"), f"{where}: counts"),
        seconds=fields.numbers_by_name("seconds"),
        worker=fields.text("worker"),
        notes=fields.each("notes", lambda note: _texts(note, where)),
        # Receipts of an earlier release have neither.
        waited=fields.numbers_by_name("waited") if "waited" in fields else {},
        events=fields.integers_by_name("events") if "events" in fields else {},
    )


def _texts(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise errors.CorpusError(f"{where}: note {value!r:.100} is no object of strings")
    return value
