"""The segments of a corpus: what the build made, and what each update added, each as a corpus of its own.

Ids of passages run through all segments. Within one its own count from 0, as if nothing else were there, so
that whatever writes, checks or reads a corpus does so with a segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from storage import components, errors, tombstones
from storage.components import Component
from storage.components.base import C
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.manifest import Manifest
from storage.passage_table import Part
from storage.tombstones import Tombstones


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Some of the passages of a corpus.

    Attributes:
        number: of the generation that added it; 0: the build.
        first: the first of its ids.
        passages: how many it has.
        prefix: its folder below the corpus; "" for the corpus folder itself.
        folder: the same, opened as a corpus.
        manifest: what the corpus's manifest says of it.
    """

    number: int
    first: int
    passages: int
    prefix: str
    folder: CorpusFolder
    manifest: Manifest

    @property
    def stop(self) -> int:
        return self.first + self.passages

    def card(self, component: Component[C], name: str = "") -> C:
        """As `CorpusFolder.card`, as the corpus was when its segments were opened."""
        entries = self.manifest.of(component)
        if name not in entries:
            raise errors.CorpusError(f"{self.folder} has no {component.noun} {name[:100]!r}")
        return self.folder.card_at(component, name, entries[name])

    def path(self, relative: str) -> str:
        """The name below the corpus of what has one below the segment."""
        return f"{self.prefix}/{relative}" if self.prefix else relative

    def entry(self, entry: FileEntry) -> FileEntry:
        """An entry of the segment as one of the corpus."""
        return replace(entry, path=self.path(entry.path))


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """Where a segment lies, before any card of it is read; attributes as of `Segment`."""

    number: int
    prefix: str
    folder: CorpusFolder
    manifest: Manifest

    def path(self, relative: str) -> str:
        """The name below the corpus of what has one below the segment."""
        return f"{self.prefix}/{relative}" if self.prefix else relative

    def entry(self, entry: FileEntry) -> FileEntry:
        """An entry of the segment as one of the corpus."""
        return replace(entry, path=self.path(entry.path))


def homes(corpus: CorpusFolder, found: Manifest | None = None) -> Iterator[Home]:
    """Where the segments lie that have passages, in order; the build's first. See `of`."""
    found = corpus.manifest if found is None else found
    base = replace(found, generations=(), compacted=None)
    prefix = "" if found.compacted is None else found.compacted.folder
    # Once there are others, what the build made is not the whole.
    folder = corpus.segment(prefix, base) if found.generations else corpus
    yield Home(number=0, prefix=prefix, folder=folder, manifest=base)
    for generation in found.generations:
        if not generation.added:
            continue
        own = replace(
            base,
            sources=generation.sources,
            cards=dict(generation.cards),
            aliases={k: v for k, v in found.aliases.items() if v in generation.of(components.MEMORY)},
        )
        prefix = generation.folder
        yield Home(number=generation.number, prefix=prefix, folder=corpus.segment(prefix, own), manifest=own)


def of(corpus: CorpusFolder, found: Manifest | None = None) -> tuple[Segment, ...]:
    """The segments that have passages, in order of their ids.

    Args:
        corpus: the folder.
        found: its manifest, or that of an earlier generation; None: as it is now.

    Raises:
        CorpusError: ids of two segments are the same.
        DamagedError: a segment is of other passages than the manifest says.
    """
    found = corpus.manifest if found is None else found
    segments: list[Segment] = []
    stop = 0
    for home in homes(corpus, found):
        entry = home.manifest.of(components.PASSAGES).get("")
        if entry is None:
            raise errors.CorpusError(f"generation {home.number} of {corpus} has no passages")
        card = home.folder.card_at(components.PASSAGES, "", entry)
        wanted = stop, card.passages
        if home.number:
            generation = found.generations[home.number - 1]
            wanted = generation.first_passage_id, generation.added
        if (stop, card.passages) != wanted:
            raise errors.DamagedError(
                f"generation {home.number} of {corpus} has {card.passages:,} passages from {stop:,}, the "
                f"manifest says {wanted[1]:,} from {wanted[0]:,}"
            )
        segments.append(
            Segment(
                number=home.number,
                first=stop,
                passages=card.passages,
                prefix=home.prefix,
                folder=home.folder,
                manifest=home.manifest,
            )
        )
        stop += card.passages
    return tuple(segments)


def ids_given(segments: tuple[Segment, ...]) -> int:
    """One more than the last id that was ever given."""
    return segments[-1].stop


def parts(segments: tuple[Segment, ...]) -> tuple[Part, ...]:
    """The parts of all passages, with paths and ids of the corpus."""
    return tuple(
        replace(part, file=segment.entry(part.file), first_passage_id=segment.first + part.first_passage_id)
        for segment in segments
        for part in segment.card(components.PASSAGES).parts
    )


def removed(corpus: CorpusFolder, found: Manifest, passages: int) -> Tombstones:
    """The tombstones at a generation, their lists checked.

    Raises:
        CorpusError: a list is none.
        DamagedError: it is not as it was written.
    """
    lists = []
    for generation in found.generations:
        if (entry := generation.removed_entry) is None:
            continue
        corpus.ensure(entry)
        corpus.require_whole(entry)
        # An update removes what was there before it.
        ids = tombstones.read(corpus.path(entry.path), entry, stop=generation.first_passage_id)
        if len(ids) != generation.counts["vanished"]:
            raise errors.DamagedError(
                f"{entry.path} lists {len(ids):,} passages, the manifest {generation.counts['vanished']:,}"
            )
        lists.append((generation.number, ids))
    dropped = 0 if found.compacted is None else found.compacted.generation
    return Tombstones(passages, lists, dropped=dropped)
