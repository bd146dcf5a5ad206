"""`corpus.json`, the manifest: what a corpus is made of. Written last; a folder without it is no corpus.

The manifest points at the card of each component (passages, vectors, index, memory version) with the
card's checksum, and each card at its files with theirs, so every stored byte hangs on the manifest.
Manifest and cards depend on the sources and settings alone; times and machines are in `statistics/`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from storage import components, errors, generations
from storage.aliases import Json
from storage.components import AnyComponent
from storage.fields import Fields
from storage.files import FileEntry
from storage.generations import Compaction, Generation

# Of a corpus that was never updated, and of one that was: readers of the first know nothing of tombstones.
FORMAT: Final = 1
GENERATIONS_FORMAT: Final = 2
NAME: Final = "corpus.json"
# The version that readers open, and the one they opened before the last switch.
CURRENT: Final = "current"
PREVIOUS: Final = "previous"
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The content of `corpus.json`.

    Attributes:
        settings: what was to be built, as the plan of the build named it.
        sources: of the passages.
        cards: by a component's noun, the entries of its cards by name.
        aliases: names of memory versions.
        generations: the updates since the build, in order. Cards are of the build's own passages; each
            generation has those of its own.
        compacted: whether bytes of tombstones were dropped.
    """

    settings: Mapping[str, object]
    sources: tuple[Mapping[str, object], ...]
    cards: Mapping[str, Mapping[str, FileEntry]]
    aliases: Mapping[str, str]
    generations: tuple[Generation, ...] = ()
    compacted: Compaction | None = None

    @property
    def format(self) -> int:
        """The number in the file."""
        return GENERATIONS_FORMAT if self.generations else FORMAT

    @property
    def generation(self) -> int:
        """Of the last update; 0: there was none."""
        return len(self.generations)

    def of(self, component: AnyComponent) -> Mapping[str, FileEntry]:
        """The entries of a component's cards, by name."""
        return self.cards.get(component.noun, {}) if component.optional else self.cards[component.noun]

    @property
    def built(self) -> Json:
        """The settings of the build that decide what is built, whose values are their reader's to check.

        Raises:
            CorpusError: there are none.
        """
        return Fields(self.settings, f"{NAME}: settings").object("settings")

    @property
    def versions(self) -> tuple[str, ...]:
        """Names of the memory versions, in the order they were added."""
        return tuple(self.of(components.MEMORY))

    def with_cards(self, component: AnyComponent, entries: Mapping[str, FileEntry]) -> Manifest:
        """With other cards of one component."""
        return replace(self, cards={**self.cards, component.noun: dict(entries)})

    def to_json(self) -> Json:
        return {
            "format": self.format,
            "settings": dict(self.settings),
            "sources": [dict(source) for source in self.sources],
            # A corpus without a component has the bytes of before there was one.
            **{
                c.field: c.entries_to_json(self.of(c))
                for c in components.TABLE
                if self.of(c) or not c.optional
            },
            "aliases": dict(self.aliases),
            **({"generations": [g.to_json() for g in self.generations]} if self.generations else {}),
            **({} if self.compacted is None else {"compacted": self.compacted.to_json()}),
        }

    @classmethod
    def from_json(cls, value: Json, where: str) -> Manifest:
        """Read strictly.

        Raises:
            CorpusError: another format, a field that is missing or wrong, a component's name that
                is no plain name.
        """
        known = (FORMAT, GENERATIONS_FORMAT)
        if value.get("format") not in known or isinstance(value["format"], bool):
            raise errors.CorpusError(
                f"{where} has format {value.get('format')!r:.100}, this version reads "
                f"{' and '.join(map(str, known))}; use a newer memcorpus"
            )
        fields = Fields(value, where)
        updated = fields.integer("format") == GENERATIONS_FORMAT
        found = cls(
            settings=fields.object("settings"),
            sources=fields.each("sources", lambda source: _object(source, f"{where}: a source")),
            cards={
                c.noun: {} if c.optional and c.field not in fields else c.read_entries(fields.object(c.field))
                for c in components.TABLE
            },
            aliases=fields.texts_by_name("aliases"),
            generations=generations.read(fields.items("generations"), where) if updated else (),
            compacted=Compaction.from_json(fields.object("compacted"), f"{where}: compacted")
            if updated and "compacted" in fields
            else None,
        )
        for component in components.TABLE:
            names = [*found.of(component), *(n for g in found.generations for n in g.of(component))]
            for name in () if component.single else names:
                # They name folders, which are read, and removed.
                if not _NAME.fullmatch(name):
                    raise errors.CorpusError(
                        f"{where} names a component {name!r:.100}, which is no plain name"
                    )
        return found

    def version(self, name: str | None) -> str:
        """The memory version that a name, an alias or None (the current one) stands for.

        Raises:
            CorpusError: there is none of that name; lists those that are known.
        """
        wanted = CURRENT if name is None else name
        version = self.aliases.get(wanted, wanted)
        if version not in self.versions:
            known = ", ".join([*self.versions, *self.aliases]) or "none"
            raise errors.CorpusError(f"no memory version {wanted!r} in this corpus; known: {known}")
        return version

    def at(self, generation: int) -> Manifest:
        """As it was after that update; 0: as it was built. Names of versions are those of today.

        Raises:
            CorpusError: there was none such yet, or its bytes were dropped.
        """
        if not 0 <= generation <= self.generation:
            raise errors.CorpusError(
                f"generation {generation} is not in this corpus, which has 0 to {self.generation}"
            )
        if self.compacted is not None and generation < self.compacted.generation:
            raise errors.CorpusError(
                f"generation {generation} can be read no more: `memcorpus compact` dropped what had gone by "
                f"generation {self.compacted.generation}"
            )
        return replace(self, generations=self.generations[:generation])

    def switched(self, version: str) -> Manifest:
        """With another current version; the one before stays known as `previous`."""
        before = self.aliases.get(CURRENT)
        if before == version:
            return self
        previous = {} if before is None else {PREVIOUS: before}
        return replace(self, aliases={**self.aliases, CURRENT: version, **previous})


def _object(value: object, where: str) -> Json:
    if not isinstance(value, dict):
        raise errors.CorpusError(f"{where} is {value!r:.100}, wanted an object")
    return value
