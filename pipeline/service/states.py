"""The corpus as it is served: one state at a time, and the one before for who opened that.

A state is a corpus as it was opened. A request takes one at its beginning and keeps it to its end, so no
answer mixes two. A switch of the current memory version gives a new state of the same passages, which takes
over index, retriever and open versions. Other passages, vectors or another index give one of another name.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final

from pipeline.service import problems
from pipeline.service.settings import ServiceSettings
from retrieval import wire
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import components, errors
from storage.aliases import Json
from storage.components import AnyComponent
from storage.manifest import CURRENT, Manifest

# States beside the newest that are kept for clients who opened them, and for how long after they last asked.
KEPT: Final = 1
KEPT_SECONDS: Final = 600.0
# Columns that a hit is shown with, and how many rows of them are kept: some 1.5 KB each.
SHOWN: Final = ("passage_id", "page_id", "title", "section", "ordinal", "text")
KEPT_ROWS: Final = 50_000
# Components whose cards are told to clients; none of them names a place outside the corpus.
_TOLD: Final[tuple[AnyComponent, ...]] = (
    components.MEMORY,
    components.VECTORS,
    components.INDEX,
    components.TOKENS,
)


def name_of(manifest: Manifest) -> str:
    """The name of a corpus's state: of all its components but memory, whose versions name themselves."""
    cards: Json = {
        component.noun: component.entries_to_json(entries)
        for component in components.TABLE
        if component is not components.MEMORY and (entries := manifest.of(component))
    }
    updates = []
    for generation in manifest.generations:
        told = generation.to_json()
        told["cards"].pop(components.MEMORY.field, None)
        updates.append(told)
    compacted = None if manifest.compacted is None else manifest.compacted.to_json()
    cards |= {"generations": updates, "compacted": compacted} if updates or compacted else {}
    return hashlib.sha256(json.dumps(cards, sort_keys=True).encode()).hexdigest()[:16]


class Rows:
    """Rows of the passage table as they are shown, the last ones that were asked for kept. Thread-safe.

    Parquet is read by groups of a thousand rows, milliseconds for each hit of a search; and what many search
    for is the same.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Json] = OrderedDict()

    def take(self, ids: Iterable[int]) -> dict[int, Json]:
        """Rows by id, of the columns in `SHOWN`."""
        wanted = set(ids)
        with self._lock:
            found = {one: self._kept[one] for one in wanted if one in self._kept}
        missing = sorted(wanted - found.keys())
        if missing:
            table = self._corpus.passages(missing, columns=list(SHOWN))
            found |= {row["passage_id"]: row for row in table.to_pylist()}
        with self._lock:
            for one in wanted:
                self._kept[one] = found[one]
                self._kept.move_to_end(one)
            while len(self._kept) > KEPT_ROWS:
                self._kept.popitem(last=False)
        return found


class State:
    """A corpus as it was opened, and its memory versions as they are asked for. Thread-safe."""

    def __init__(self, corpus: Corpus, settings: ServiceSettings, *, before: State | None = None) -> None:
        self.corpus = corpus
        self.name = name_of(corpus.manifest)
        self.used = time.monotonic()
        self._settings = settings
        self._lock = threading.Lock()
        self._readers: dict[str, MemoryReader] = {}
        self._asked: dict[str, float] = {}
        self.rows = Rows(corpus)
        if before is not None and before.name == self.name:
            # The same passages, vectors and index: nothing of them is read again.
            corpus.take_over(before.corpus)
            self._readers = {
                name: reader
                for name, reader in before._readers.items()
                if corpus.manifest.of(components.MEMORY).get(name)
                == before.corpus.manifest.of(components.MEMORY).get(name)
            }
            self.rows = before.rows
        self._description: dict[str, Any] | None = None

    def version(self, asked: str | None) -> str:
        """The version that a request names, or that is served where it names none.

        Raises:
            CorpusError: there is none of that name.
        """
        return self.corpus.manifest.version(asked if asked is not None else self._settings.version)

    @property
    def has_vectors(self) -> bool:
        return bool(self.corpus.manifest.of(components.VECTORS))

    @property
    def has_index(self) -> bool:
        return self.has_vectors and bool(self.corpus.manifest.of(components.INDEX))

    def memory(self, version: str) -> MemoryReader:
        """A reader of a version by its own name, opened when it is first asked for."""
        with self._lock:
            if version not in self._readers:
                self._readers[version] = self.corpus.memory(version)
            self._asked[version] = time.monotonic()
            return self._readers[version]

    def opened(self, version: str) -> MemoryReader | None:
        """The reader of a version, if it is open; nothing is waited for."""
        found = self._readers.get(version)
        if found is not None:
            self._asked[version] = time.monotonic()
        return found

    def let_go(self, limit: float) -> None:
        """Close versions that nobody asked for since then: `gc` removes none that is open."""
        with self._lock:
            asked = self._asked
            self._readers = {name: one for name, one in self._readers.items() if asked.get(name, 0) >= limit}

    def description(self) -> dict[str, Any]:
        """What `GET /v1/corpus` says: of the corpus, and nothing of where it lies."""
        if self._description is None:
            corpus, manifest = self.corpus, self.corpus.manifest
            aliases = dict(manifest.aliases)
            if self._settings.version is not None:
                aliases[CURRENT] = manifest.version(self._settings.version)
            self._description = {
                "service": wire.SERVICE,
                "protocol": wire.PROTOCOL,
                "state": self.name,
                "passages": len(corpus),
                "ids_given": corpus.ids_given,
                "removed": len(corpus.tombstones),
                "generation": corpus.generation,
                "counts": corpus.counts,
                "aliases": aliases,
                "cards": {
                    component.noun: {
                        name: corpus.segments[0].card(component, name).to_json()
                        for name in manifest.of(component)
                    }
                    for component in _TOLD
                },
                "answers": self._settings.reader is not None,
                "refines": self.has_index and corpus.refines,
                "limits": self._settings.limits.to_json(),
            }
        return self._description


class States:
    """The newest state, and those before it that are still asked for."""

    def __init__(self, open_corpus: Callable[[], Corpus], settings: ServiceSettings) -> None:
        """Open the corpus.

        Raises:
            CorpusError: there is none, or not what the settings ask of it.
        """
        self._open, self._settings = open_corpus, settings
        self._newest = State(open_corpus(), settings)
        self._before: list[State] = []
        self._newest.version(None)
        self.switches = 0

    def take(self, name: str | None) -> State:
        """The state that a request asks for by name; the newest, if by none.

        Raises:
            Problem: it is not kept any more.
        """
        if name is None or name == self._newest.name:
            return self._newest
        for state in self._before:
            if state.name == name:
                state.used = time.monotonic()
                return state
        raise problems.Problem(
            410,
            problems.CHANGED,
            f"the corpus has been changed since its state {name[:40]!r} was opened; open it again",
        )

    def look(self) -> None:
        """Take up a switch or an update. What cannot be opened now is left for the next look."""
        limit = time.monotonic() - KEPT_SECONDS
        for state in [old for old in self._before if old.used < limit]:
            self._before.remove(state)
        for state in (self._newest, *self._before):
            state.let_go(limit)
        folder = self._newest.corpus.folder
        try:
            folder.refresh()
            if folder.manifest == self._newest.corpus.manifest:
                return
            new = State(self._open(), self._settings, before=self._newest)
            new.version(None)
            new.description()
            if new.name != self._newest.name and new.has_index:
                new.corpus.open_index()
        except (errors.CorpusError, OSError) as e:
            problems.LOG.error("the corpus has changed and cannot be opened, the old one is served on: %s", e)
            return
        old, self._newest = self._newest, new
        self.switches += 1
        if old.name != new.name:
            old.used = time.monotonic()
            self._before = [old, *self._before][:KEPT]
        problems.LOG.warning("serves state %s, memory %s", new.name, new.version(None))

    async def follow(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(self._settings.follow_seconds)
            await asyncio.to_thread(self.look)
