"""The facts of a corpus, read once: from the manifest, the cards, the lists of files and the statistics.

No array and no part is opened, and lists of a million files are summed up by column. `info`, `versions` and
`report` are views of these facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.accounts import form, reading, statistics
from pipeline.components.shards import STAGE as SHARDS
from storage import codecs, components, file_list, manifest, run_statistics, segments
from storage.components import (
    AnyComponent,
    Card,
    IndexCard,
    MemoryCard,
    NeighboursCard,
    PassagesCard,
    TokensCard,
    VectorsCard,
)
from storage.components.base import SHORT
from storage.fields import Fields
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.generations import NEW, VANISHED, Generation
from storage.run_statistics import RunStatistics
from storage.segments import Segment

# What a component's files are that hold no data.
LISTS: Final = "cards and lists"
# Parts of a corpus beside its components.
MANIFEST: Final = "manifest"
TIMES: Final = run_statistics.FOLDER
GENERATIONS: Final = "generations"
_PLAIN: Final = "bfloat16"


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Files that hold the same thing, summed up.

    Attributes:
        part: a component's noun, "manifest" or "statistics".
        version: which component of that noun, where there may be several.
        codec: in what it is stored.
        content: what the files hold.
    """

    part: str
    version: str
    codec: str
    content: str
    files: int
    bytes: int


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
                sizes += _sizes(part.folder, component, name, card, entry)
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
            sizes.append(_size(GENERATIONS, "tombstones", gone))
        cards = _summed(cards, every, found)
        sizes = _merged(sizes)
    runs = dict(corpus.runs())
    sizes.append(_size(MANIFEST, manifest.NAME, [corpus.bytes_of(manifest.NAME)]))
    times = [size for run, value in runs.items() for size in _run_bytes(corpus, run, value)]
    if times:
        sizes.append(_size(TIMES, "times of units", times))
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
    gone = sum(g.counts[VANISHED] for g in found.generations)
    (passages,) = cards[components.PASSAGES.noun]
    words = sum(part.card(components.PASSAGES).words for part in every)
    versions = []
    for card in cards[components.MEMORY.noun]:
        own = [
            part.card(components.MEMORY, card.version)
            for part in every
            if card.version in part.manifest.of(components.MEMORY)
        ]
        grid = replace(card.layout.grid, passages=sum(other.layout.grid.passages for other in own))
        counts = own[0].counts
        for other in own[1:]:
            counts = counts + other.counts
        versions.append(replace(card, counts=counts, layout=replace(card.layout, grid=grid)))
    return {
        **cards,
        components.PASSAGES.noun: [replace(passages, passages=given - gone, words=words)],
        components.MEMORY.noun: versions,
    }


def _merged(sizes: list[Size]) -> list[Size]:
    """Sizes of the same content in several segments, as one."""
    found: dict[tuple[str, str, str, str], Size] = {}
    for size in sizes:
        key = size.part, size.version, size.codec, size.content
        other = found.get(key)
        found[key] = (
            size
            if other is None
            else replace(size, files=size.files + other.files, bytes=size.bytes + other.bytes)
        )
    return list(found.values())


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
        for size in _sizes(part.folder, component, name, part.card(component, name), entry)
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


def _size(part: str, content: str, sizes: list[int], *, version: str = "", codec: str = "") -> Size:
    return Size(part=part, version=version, codec=codec, content=content, files=len(sizes), bytes=sum(sizes))


def _sizes(
    corpus: CorpusFolder, component: AnyComponent, name: str, card: Card, entry: FileEntry
) -> list[Size]:
    """One row for each content of a component, and one for its card, lists and metadata.

    Together they are all of its files.
    """
    version, codec = name[:SHORT], card.label
    rows: list[Size] = []
    rest_files, rest_bytes = 1, entry.bytes
    inside = {content.below: [0, 0] for content in card.contents if content.below}
    if card.listed is not None:
        corpus.ensure(card.listed)
        corpus.require_whole(card.listed)
        rest_files, rest_bytes = rest_files + 1, rest_bytes + card.listed.bytes
        for paths, listed in file_list.batches(corpus.path(card.listed.path), card.listed, ["path", "bytes"]):
            rest_files, rest_bytes = rest_files + len(listed), rest_bytes + _sum(listed)
            for below, counted in inside.items():
                found = pc.filter(listed, pc.starts_with(paths, below))
                counted[0] += len(found)
                counted[1] += _sum(found)
    rest_files += len(card.entries)
    rest_bytes += sum(entry.bytes for entry in card.entries)
    for content in card.contents:
        sizes = [entry.bytes for entry in content.entries]
        row = _size(component.noun, content.name, sizes, version=version, codec=codec)
        if content.below and card.listed is not None:
            count, total = inside[content.below]
            row = replace(row, files=count, bytes=total)
        rest_files, rest_bytes = rest_files - row.files, rest_bytes - row.bytes
        rows.append(row)
    lists = Size(
        part=component.noun,
        version=version,
        codec=codec,
        content=LISTS,
        files=rest_files,
        bytes=rest_bytes,
    )
    return [*rows, lists]


def _sum(sizes: pa.Array) -> int:
    return int(pc.sum(sizes).as_py() or 0)


def summary(facts: Facts) -> form.Summary:
    """A corpus in figures, as JSON."""
    found = facts.corpus.manifest
    result: form.Summary = {
        "corpus": str(facts.corpus),
        "format": found.format,
        "passages": facts.passages.passages,
        "words": facts.passages.words,
        "counts": dict(facts.passages.counts),
        "sources": list(found.sources),
        "vectors": {
            card.fingerprint[:SHORT]: {
                "dim": card.layout.dim,
                "dtype": card.layout.dtype,
                "shard_passages": card.layout.grid.shard_passages,
                "bytes": facts.bytes_of(components.VECTORS.noun, card.fingerprint[:SHORT]),
                "similarity": card.similarity,
                "max_tokens": retriever_limit(card),
                "read": reading.to_json(card.counts),
            }
            for card in facts.vectors
        },
        "index": {
            card.fingerprint[:SHORT]: {
                "kind": card.kind,
                "parameters": dict(card.parameters),
                "recall_at_10": card.recall_at_10,
                "recall_queries": card.recall_queries,
                "bytes": facts.bytes_of(components.INDEX.noun, card.fingerprint[:SHORT]),
            }
            for card in facts.indexes
        },
        "memory": {version.name: _version_summary(version) for version in facts.versions},
        "aliases": dict(found.aliases),
        "bytes": {
            component.noun: facts.bytes_of(component.noun)
            for component in components.TABLE
            if found.of(component) or not component.optional
        },
        "warnings": warnings(facts),
    }
    if facts.tokens is not None:
        result["tokens"] = tokens(facts, facts.tokens)
    if facts.tables:
        result["neighbours"] = tables(facts)
    if facts.updates:
        result["updates"] = list(facts.updates)
    run = facts.build
    if run is not None:
        result["worker_seconds"] = run.worker_seconds
        result["stage_seconds"] = run.stage_seconds
        result["worker_waited"] = run.worker_waited
        result["bottleneck"] = statistics.bottleneck(run, SHARDS.name)
        result["computed_tokens"] = run.computed_tokens
        result["events"] = run.events
    return result


def retriever_limit(card: VectorsCard) -> int | None:
    """The retriever's limit on tokens; None where an encoder of another kind made the vectors."""
    found = card.encoder.get("max_tokens")
    return found if isinstance(found, int) else None


def warnings(facts: Facts, version: str | None = None) -> list[str]:
    """What the models could not read of the passages, where it is much: a line of it each.

    Args:
        version: of this memory version alone; None: of the current one, and of the retriever.
    """
    current = facts.current.name if facts.current else None
    wanted = current if version is None else version
    lines: list[str] = []
    for found in facts.versions:
        if found.name == wanted:
            counts = reading.to_json(found.card.counts.read)
            lines += reading.of_memory(counts, limit=found.card.layout.max_tokens, version=found.name)
    if version is None:
        for card in facts.vectors:
            lines += reading.of_retriever(reading.to_json(card.counts), limit=retriever_limit(card))
    return lines


def tokens(facts: Facts, card: TokensCard) -> form.Tokens:
    return {
        "tokenizer": card.tokenizer,
        "vocabulary": card.vocabulary,
        "passage_tokens": card.passage_tokens,
        "dtype": card.layout.dtype,
        "documents": card.counts.documents,
        "tokens": card.counts.tokens,
        "unknown": card.counts.unknown,
        "special": card.counts.special,
        "short": card.counts.short,
        "bytes": facts.bytes_of(components.TOKENS.noun),
    }


def tables(facts: Facts) -> dict[str, form.Table]:
    """All tables of neighbours, by name."""
    return {card.name: table(facts, card.name) for card in facts.tables}


def table(facts: Facts, name: str) -> form.Table:
    """A table of neighbours as JSON."""
    card = next(card for card in facts.tables if card.name == name)
    search = Fields(card.search, f"the search of table {name}")
    return {
        "title": card.title,
        "k": card.layout.k,
        "database": card.database.name,
        "rule": search.text("rule"),
        "method": search.text("method"),
        "probes": None if card.search.get("probes") is None else search.integer("probes"),
        "searched": card.counts.searched,
        "found": card.counts.found,
        "missing": card.counts.missing,
        "short": card.counts.short,
        "excluded": card.counts.excluded,
        "recall": card.recall,
        "recall_queries": card.recall_queries,
        "bytes": facts.bytes_of(components.NEIGHBOURS.noun, name),
    }


def _version_summary(version: Version) -> form.Memory:
    layout = version.card.layout
    return {
        "codec": layout.codec.name,
        "width": layout.width,
        "layers": version.layers,
        "compute_dtype": version.compute_dtype,
        "max_tokens": layout.max_tokens,
        "shards": layout.grid.shards,
        "shard_passages": layout.grid.shard_passages,
        "encoder_fingerprint": version.card.encoder_fingerprint,
        "counts": version.card.counts.to_json(),
        "read": reading.to_json(version.card.counts.read),
        "quality": dict(version.card.quality),
        "bytes": version.bytes,
    }


def versions(facts: Facts) -> list[form.Version]:
    """Every version as JSON, in the order they were added."""
    return [
        {
            "version": version.name,
            "aliases": list(version.aliases),
            "codec": version.card.layout.codec.name,
            "origin": version.card.origin and version.card.origin[:SHORT],
            "encoder": version.card.encoder_fingerprint,
            "layers": version.layers,
            "compute_dtype": version.compute_dtype,
            "tokens": version.card.counts.tokens,
            "bytes": version.bytes,
            "quality": dict(version.card.quality),
            "seconds": version.run.stage_seconds.get(SHARDS.name) if version.run else None,
        }
        for version in facts.versions
    ]
