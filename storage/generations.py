"""Generations: what an update added to a corpus and took out of it, as the manifest tells it.

A generation adds a *segment*: passages with ids from the first that was never given, in a folder of their own
that holds the components of a corpus of so many passages. Its tombstones are ids that it took out. Nothing
that was there before is written again, so the manifest of any earlier generation still describes a corpus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from storage import components, errors
from storage.aliases import Json
from storage.components import AnyComponent
from storage.fields import Fields
from storage.files import FileEntry

FOLDER: Final = "generations"
# Bounds what a hostile manifest can have a reader open; an update a day for eleven years.
MOST: Final = 4096

# Of `Generation.counts`; each generation has all of them.
OLD: Final = "old"
KEPT: Final = "kept"
VANISHED: Final = "vanished"
NEW: Final = "new"
ADDED: Final = "added"
_SUMS: Final = (OLD, KEPT, VANISHED, NEW, ADDED)


def folder_of(number: int, written: int = 0) -> str:
    """Where the segment of a generation lies, 0 for the build's; `written`: by a compaction, in which one."""
    name = f"{FOLDER}/{number:04d}"
    return f"{name}-{written:04d}" if written else name


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """One update.

    Attributes:
        number: 1 for the first update; the build is generation 0.
        folder: of its segment, below the corpus. All entries are of files below it.
        first_passage_id: the first id that it gave.
        added: how many; 0: the segment holds no component.
        sources: what was read, as `Manifest.sources`.
        counts: `old` = `kept` + `vanished` passages, and `new` = `kept` + `added`; of what was read, as in
            the counts of passages, behind "read: ".
        removed: the list of its tombstones; None: there are none.
        cards: of its segment's components, as `Manifest.cards`.
        recall_at_10: of the index after it; None: there is no index.
    """

    number: int
    folder: str
    first_passage_id: int
    added: int
    sources: tuple[Mapping[str, object], ...]
    counts: Mapping[str, int]
    removed: FileEntry | None
    cards: Mapping[str, Mapping[str, FileEntry]]
    recall_at_10: float | None = None

    def of(self, component: AnyComponent) -> Mapping[str, FileEntry]:
        """The entries of a component's cards, by name."""
        return self.cards.get(component.noun, {})

    @property
    def removed_entry(self) -> FileEntry | None:
        """The list of its tombstones, by its name below the corpus."""
        return self.removed and replace(self.removed, path=f"{self.folder}/{self.removed.path}")

    @property
    def stop(self) -> int:
        """One more than the last id given so far."""
        return self.first_passage_id + self.added

    def to_json(self) -> Json:
        return {
            "generation": self.number,
            "folder": self.folder,
            "first_passage_id": self.first_passage_id,
            "added": self.added,
            "sources": [dict(source) for source in self.sources],
            "counts": dict(self.counts),
            "removed": None if self.removed is None else self.removed.to_json(),
            "recall_at_10": self.recall_at_10,
            "cards": {c.field: c.entries_to_json(self.of(c)) for c in components.TABLE if self.of(c)},
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> Generation:
        """Read strictly.

        Raises:
            CorpusError: a field is missing or wrong, or sums that must hold do not.
        """
        fields = Fields(value, where)
        cards = fields.nested("cards")
        found = cls(
            number=fields.integer("generation", least=1, most=MOST),
            folder=fields.text("folder"),
            first_passage_id=fields.integer("first_passage_id", least=1),
            added=fields.integer("added"),
            sources=fields.each("sources", lambda source: dict(_object(source, where))),
            counts=fields.integers_by_name("counts"),
            removed=None if fields.is_null("removed") else FileEntry.from_json(fields.object("removed")),
            recall_at_10=None if fields.is_null("recall_at_10") else fields.number("recall_at_10", most=1),
            cards={
                c.noun: c.read_entries(cards.object(c.field)) for c in components.TABLE if c.field in cards
            },
        )
        found.check(where)
        return found

    def check(self, where: str) -> None:
        """Refuse counts that do not reconcile.

        Raises:
            CorpusError: naming them.
        """
        if missing := [name for name in _SUMS if name not in self.counts]:
            raise errors.CorpusError(f"{where}: counts lack {missing[0]!r}")
        old, kept, vanished, new, added = (self.counts[name] for name in _SUMS)
        if (old, new, added) != (kept + vanished, kept + added, self.added):
            raise errors.CorpusError(
                f"{where}: {old:,} passages are not {kept:,} kept and {vanished:,} vanished, or {new:,} not "
                f"those and {added:,} added, of {self.added:,}"
            )
        if (vanished > 0) != (self.removed is not None):
            raise errors.CorpusError(f"{where}: {vanished:,} passages vanished, but the list says otherwise")
        if bool(self.added) != bool(self.cards):
            raise errors.CorpusError(f"{where}: {self.added:,} passages were added, with other components")


@dataclass(frozen=True, kw_only=True, slots=True)
class Compaction:
    """The bytes of tombstones up to a generation were dropped: earlier ones can be read no more.

    Attributes:
        generation: the last one when it was done.
        folder: of the build's segment since then; "" where it lies as it was built.
    """

    generation: int
    folder: str

    def to_json(self) -> Json:
        return {"generation": self.generation, "folder": self.folder}

    @classmethod
    def from_json(cls, value: object, where: str) -> Compaction:
        fields = Fields(value, where)
        return cls(generation=fields.integer("generation", least=1, most=MOST), folder=fields.text("folder"))


def _object(value: object, where: str) -> Json:
    if not isinstance(value, dict):
        raise errors.CorpusError(f"{where}: a source is {value!r:.100}, wanted an object")
    return value


def read(value: object, where: str) -> tuple[Generation, ...]:
    """The list of generations of a manifest.

    Raises:
        CorpusError: it is none, or its numbers and ids do not follow each other.
    """
    if not isinstance(value, list) or len(value) > MOST:
        raise errors.CorpusError(f"{where}: generations are no list of up to {MOST:,}")
    found = tuple(
        Generation.from_json(item, f"{where}: generation {number}") for number, item in enumerate(value, 1)
    )
    stop = None
    for number, generation in enumerate(found, 1):
        if generation.number != number or stop not in (None, generation.first_passage_id):
            raise errors.CorpusError(
                f"{where}: generation {generation.number} from passage {generation.first_passage_id} does "
                f"not follow those before it (wanted {number}, from {stop})"
            )
        stop = generation.stop
        if not generation.folder.startswith(f"{FOLDER}/"):
            raise errors.CorpusError(f"{where}: generation {number} lies in {generation.folder!r:.100}")
    return found
