"""The facts of a corpus, read once: from the manifest, the cards, the lists of files and the statistics.

`info`, `versions` and `report` are views of these facts; `figures` gives them as JSON.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from encoders.token_encoder import MULTI_VECTOR, TRANSFORMERS
from pipeline.accounts import contents, form
from pipeline.accounts.contents import Size
from pipeline.components.shards import STAGE as SHARDS
from storage import codecs, components, manifest, run_statistics, segments
from storage.components import IndexCard, MemoryCard, NeighboursCard, PassagesCard, TokensCard, VectorsCard
from storage.folder import CorpusFolder
from storage.generations import NEW, VANISHED, Generation
from storage.run_statistics import RunStatistics
from storage.segments import Segment

# Parts of a corpus beside its components.
MANIFEST: Final = "manifest"
TIMES: Final = run_statistics.FOLDER
GENERATIONS: Final = "generations"
_PLAIN: Final = "bfloat16"


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A memory version: its card, its names, and what lies on the disk of it.

    Attributes:
        bytes: of all its files. `bytes_by_content`: the same by what they hold.
        run: statistics of the run that wrote it, where they can be read.
    """

    card: MemoryCard
    aliases: tuple[str, ...]
    bytes_by_content: Mapping[str, int]
    run: RunStatistics | None

    @property
    def name(self) -> str:
        return self.card.version

    @property
    def bytes(self) -> int:
        return sum(self.bytes_by_content.values())

    @property
    def current(self) -> bool:
        return manifest.CURRENT in self.aliases

    @property
    def layers(self) -> int | None:
        """Layers of the memory encoder; None where an encoder of another kind wrote it."""
        found = self.card.encoder.get("layers")
        assert found is None or isinstance(found, int)  # as its card was read
        return found

    @property
    def compute_dtype(self) -> str | None:
        found = self.card.encoder.get("compute_dtype")
        assert found is None or isinstance(found, str)
        return found

    @property
    def other_encoder(self) -> bool:
        """Did an encoder write it that is no T5?"""
        return self.card.encoder.get("kind") in (TRANSFORMERS, MULTI_VECTOR)

    @property
    def encode_seconds(self) -> float | None:
        """Workers' seconds in its shards."""
        if self.run is None:
            return None
        return sum(self.run.worker_seconds.get(SHARDS.name, {}).values()) or None

    @property
    def bytes_uncoded(self) -> int:
        """Of its tokens as they would be in bfloat16."""
        return self.card.counts.tokens * codecs.by_name(_PLAIN).token_bytes(self.card.layout.width)


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of a corpus without opening its arrays."""

    corpus: CorpusFolder
    passages: PassagesCard
    vectors: tuple[VectorsCard, ...]
    indexes: tuple[IndexCard, ...]
    versions: tuple[Version, ...]
    tokens: TokensCard | None
    tables: tuple[NeighboursCard, ...]
    sizes: tuple[Size, ...]
    updates: tuple[form.Update, ...]
    runs: Mapping[str, RunStatistics]

    @property
    def build(self) -> RunStatistics | None:
        """Statistics of the build; None where they are damaged or gone."""
        return self.runs.get(run_statistics.BUILD)

    @property
    def current(self) -> Version | None:
        """The version that readers open; any, where none is."""
        return next((v for v in self.versions if v.current), self.versions[0] if self.versions else None)

    @property
    def removed(self) -> int:
        """Passages that updates removed."""
        return _removed(self.corpus.manifest)

    def bytes_of(self, part: str, version: str | None = None) -> int:
        return sum(s.bytes for s in self.sizes if s.part == part and version in (None, s.version))


def read(corpus: CorpusFolder) -> Facts:
    """Read them.

    Raises:
        CorpusError: no corpus, or a card that is not as it should be.
        DamagedError: a card or list is not as it was written.
    """
    found = corpus.manifest
    sizes: list[Size] = []
    cards: dict[str, list[Any]] = {component.noun: [] for component in components.TABLE}
    every = segments.of(corpus)
    updates: list[form.Update] = []
    built: Rates | None = None
    for part in every:
        begun = len(sizes)
        for component in components.TABLE:
            for name, entry in part.manifest.of(component).items():
                card = part.card(component, name)
                sizes += contents.of_component(part.folder, component, name, card, entry)
                if not part.number:
                    cards[component.noun].append(card)
        if not part.number:
            # Statistics are read once, for who has no use of them twice.
            built = Rates(part, sizes) if found.generations else None
        elif built is not None:
            updates.append(_update(part, found.generations[part.number - 1], sizes[begun:], built))
    if built is not None:
        updates += [_update(None, g, [], built) for g in found.generations if not g.added]
        updates.sort(key=lambda update: update["generation"])
        gone = [g.removed.bytes for g in found.generations if g.removed is not None]
        if gone:
            sizes.append(contents.summed(GENERATIONS, "tombstones", gone))
        cards = _summed(cards, every, found)
        sizes = contents.merged(sizes)
    runs = dict(corpus.runs())
    sizes.append(contents.summed(MANIFEST, manifest.NAME, [corpus.bytes_of(manifest.NAME)]))
    times = [size for run, value in runs.items() for size in _run_bytes(corpus, run, value)]
    if times:
        sizes.append(contents.summed(TIMES, "times of units", times))
    return Facts(
        corpus=corpus,
        passages=cards[components.PASSAGES.noun][0],
        vectors=tuple(cards[components.VECTORS.noun]),
        indexes=tuple(cards[components.INDEX.noun]),
        versions=tuple(
            Version(
                card=card,
                aliases=tuple(alias for alias, target in found.aliases.items() if target == card.version),
                bytes_by_content={
                    size.content: size.bytes
                    for size in sizes
                    if (size.part, size.version) == (components.MEMORY.noun, card.version)
                },
                run=runs.get(card.version) or _run_naming(card.version, runs),
            )
            for card in cards[components.MEMORY.noun]
        ),
        tokens=next(iter(cards[components.TOKENS.noun]), None),
        tables=tuple(cards[components.NEIGHBOURS.noun]),
        sizes=tuple(sizes),
        updates=tuple(updates),
        runs=runs,
    )


def _summed(
    cards: dict[str, list[Any]], every: tuple[Segment, ...], found: manifest.Manifest
) -> dict[str, list[Any]]:
    """The build's cards with the counts of all segments: passages that are there, words and tokens of all."""
    given = segments.ids_given(every)
    (passages,) = cards[components.PASSAGES.noun]
    words = sum(part.card(components.PASSAGES).words for part in every)

    def of_all(component: components.AnyComponent, name: str) -> list[Any]:
        return [part.card(component, name) for part in every if name in part.manifest.of(component)]

    versions = []
    for card in cards[components.MEMORY.noun]:
        own = of_all(components.MEMORY, card.version)
        grid = replace(card.layout.grid, passages=sum(other.layout.grid.passages for other in own))
        counts = _sum([other.counts for other in own])
        versions.append(replace(card, counts=counts, layout=replace(card.layout, grid=grid)))
    vectors = []
    for card in cards[components.VECTORS.noun]:
        read = [other.counts for other in of_all(components.VECTORS, card.name)]
        vectors.append(replace(card, counts=None if None in read else _sum(read)))
    tokens = [
        replace(card, counts=_sum([other.counts for other in of_all(components.TOKENS, card.name)]))
        for card in cards[components.TOKENS.noun]
    ]
    return {
        **cards,
        components.TOKENS.noun: tokens,
        components.VECTORS.noun: vectors,
        components.PASSAGES.noun: [replace(passages, passages=given - _removed(found), words=words)],
        components.MEMORY.noun: versions,
    }


def _removed(found: manifest.Manifest) -> int:
    return sum(update.counts[VANISHED] for update in found.generations)


def _sum(counts: Sequence[Any]) -> Any:
    """Of one or more counts that can be added."""
    return functools.reduce(operator.add, counts)


class Rates:
    """What a passage took in the build: bytes by part and version, and seconds of workers."""

    def __init__(self, part: Segment, sizes: list[Size]) -> None:
        self._passages = part.passages
        self._bytes: dict[tuple[str, str], int] = {}
        for size in sizes:
            key = size.part, size.version
            self._bytes[key] = self._bytes.get(key, 0) + size.bytes
        self._runs = dict(part.folder.runs())

    def bytes(self, passages: int, versions: Iterable[str]) -> int:
        """Of so many passages, with these versions."""
        wanted = set(versions)
        memory = components.MEMORY.noun
        total = sum(
            count
            for (part, version), count in self._bytes.items()
            if part != components.NEIGHBOURS.noun and (part != memory or version in wanted)
        )
        return total * passages // self._passages

    def seconds(self, passages: int, versions: Iterable[str]) -> float | None:
        """Likewise; None where it is not known."""
        names = {run_statistics.BUILD, *versions}
        spent = [
            sum(run.worker_seconds.get(SHARDS.name, {}).values())
            for name, run in self._runs.items()
            if name in names
        ]
        return round(sum(spent) * passages / self._passages, 3) if spent else None


def rates(corpus: CorpusFolder) -> Rates:
    """What a passage took in the build of a corpus."""
    part = segments.of(corpus)[0]
    sizes = [
        size
        for component in components.TABLE
        for name, entry in part.manifest.of(component).items()
        for size in contents.of_component(part.folder, component, name, part.card(component, name), entry)
    ]
    return Rates(part, sizes)


def _update(part: Segment | None, generation: Generation, sizes: list[Size], built: Rates) -> form.Update:
    """An update as JSON."""
    runs = {} if part is None else dict(part.folder.runs())
    seconds = sum(sum(run.worker_seconds.get(SHARDS.name, {}).values()) for run in runs.values())
    held = [] if part is None else list(part.manifest.of(components.MEMORY))
    return {
        "generation": generation.number,
        "first_passage_id": generation.first_passage_id,
        "counts": dict(generation.counts),
        "recall_at_10": generation.recall_at_10,
        "versions": held,
        "bytes": sum(size.bytes for size in sizes),
        "worker_seconds": round(seconds, 3),
        "rebuild_bytes": built.bytes(generation.counts[NEW], held),
        "rebuild_worker_seconds": built.seconds(generation.counts[NEW], held),
    }


def _run_naming(version: str, runs: Mapping[str, RunStatistics]) -> RunStatistics | None:
    return next((run for run in runs.values() if run.version == version), None)


def _run_bytes(corpus: CorpusFolder, name: str, run: RunStatistics) -> list[int]:
    return [corpus.bytes_of(run_statistics.path_of(name)), run.units.bytes]
