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

from storage import components, errors
from storage.aliases import Json
from storage.components import AnyComponent
from storage.fields import Fields
from storage.files import FileEntry

FORMAT: Final = 1
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
    """

    settings: Mapping[str, object]
    sources: tuple[Mapping[str, object], ...]
    cards: Mapping[str, Mapping[str, FileEntry]]
    aliases: Mapping[str, str]

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
            "format": FORMAT,
            "settings": dict(self.settings),
            "sources": [dict(source) for source in self.sources],
            # A corpus without a component has the bytes of before there was one.
            **{
                c.field: c.entries_to_json(self.of(c))
                for c in components.TABLE
                if self.of(c) or not c.optional
            },
            "aliases": dict(self.aliases),
        }

    @classmethod
    def from_json(cls, value: Json, where: str) -> Manifest:
        """Read strictly.

        Raises:
            CorpusError: another format, a field that is missing or wrong, a component's name that
                is no plain name.
        """
        if value.get("format") != FORMAT or isinstance(value["format"], bool):
            raise errors.CorpusError(
                f"{where} has format {value.get('format')!r:.100}, this version reads {FORMAT}; "
                "use a newer memcorpus"
            )
        fields = Fields(value, where)
        fields.integer("format")
        found = cls(
            settings=fields.object("settings"),
            sources=fields.each("sources", lambda source: _object(source, f"{where}: a source")),
            cards={
                c.noun: {} if c.optional and c.field not in fields else c.read_entries(fields.object(c.field))
                for c in components.TABLE
            },
            aliases=fields.texts_by_name("aliases"),
        )
        for component in components.TABLE:
            for name in () if component.single else found.of(component):
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
