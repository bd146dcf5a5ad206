"""Shards by their numbers, as people name them: 12, 10-20, and of what an update added 3:12 or 3:10-20."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from storage import codec_parameters, components, errors, segments
from storage.folder import CorpusFolder
from storage.segments import Home

# How the file of a shard ends, in an array of any number of dimensions.
_FILE: Final = re.compile(r".+/c/(\d{1,18})(?:/0)*")
_GIVEN: Final = re.compile(r"(?:(\d{1,9}):)?(\d{1,18})(?:-(\d{1,18}))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRange:
    """Shards `first` to `last`, both meant, of a generation's segment."""

    generation: int
    first: int
    last: int

    def __str__(self) -> str:
        of = f"{self.generation}:" if self.generation else ""
        return f"{of}{self.first}" if self.first == self.last else f"{of}{self.first}-{self.last}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardNumbers:
    """Some shards: of each component those files whose names bear the numbers."""

    ranges: tuple[ShardRange, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.ranges))

    @classmethod
    def parse(cls, texts: Iterable[str]) -> ShardNumbers:
        """
        Raises:
            CorpusError: one is no number and no range.
        """
        ranges = []
        for text in texts:
            found = _GIVEN.fullmatch(text.strip())
            if found is None:
                raise errors.CorpusError(
                    f"shard {text!r:.60} is no number and no range; wanted N or N-M, or G:N of generation G"
                )
            first = int(found[2])
            last = first if found[3] is None else int(found[3])
            if last < first:
                raise errors.CorpusError(f"shards {text!r:.60} end before they begin; wanted {last}-{first}")
            ranges.append(ShardRange(generation=int(found[1] or 0), first=first, last=last))
        return cls(ranges=tuple(ranges))

    def holds(self, generation: int, path: str) -> bool:
        """Is the file of a generation's segment one of theirs?"""
        found = _FILE.fullmatch(path)
        if found is None or f"/{codec_parameters.FOLDER}/" in path:  # code books are of all shards
            return False
        number = int(found[1])
        return any(r.generation == generation and r.first <= number <= r.last for r in self.ranges)


def require_there(corpus: CorpusFolder, shards: ShardNumbers) -> None:
    """Refuse numbers that no component has.

    Raises:
        CorpusError: naming the first of them, and those that there are.
    """
    counts = {home.number: _shards_of(home) for home in segments.homes(corpus)}
    for wanted in shards.ranges:
        count = counts.get(wanted.generation, 0)
        if count is not None and wanted.last >= count:
            have = f"there are 0 to {count - 1:,}" if count else "there are none"
            of = f" of generation {wanted.generation}" if wanted.generation else ""
            raise errors.CorpusError(f"{corpus} has no shard {wanted.last:,}{of}: {have}")


def _shards_of(home: Home) -> int | None:
    """How many the component with the most of them has; None where a card cannot tell."""
    most = 0
    for component in components.TABLE:
        for name in home.manifest.of(component):
            try:
                layout = getattr(home.folder.card(component, name), "layout", None)
            except (errors.CorpusError, errors.UnreadableError):
                return None
            if (grid := getattr(layout, "grid", None)) is not None:
                most = max(most, grid.shards)
    return most
