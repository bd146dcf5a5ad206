"""Which passages of an update are there already, which have gone, and which are new.

Two passages are the same where their keys are; several with one key are matched as often as they come, the
first with the first. Keys are compared in ranges of their values, each sorted in memory and forgotten: about
80 bytes for each of `RANGE_KEYS`, and a byte for each passage. Of 36 million on either side that is 0.4 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline.components.passages import keys
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from storage import errors, files, ids
from storage.folder import CorpusFolder
from storage.receipts import Counts, Receipt
from storage.tombstones import Tombstones
from storage.work_folder import WorkFolder

# Keys that are sorted at a time, about.
RANGE_KEYS: Final = 4 << 20
_KEY: Final = np.dtype([("high", ">u8"), ("low", ">u8")])
_ADDED: Final = "added.bits"
_REMOVED: Final = "removed.ids"

Keys = npt.NDArray[np.void]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class CompareCounts(Counts):
    """Passages before = kept + vanished; after = kept + added. `unread_pages` are those of `kept` that were
    not looked for, since their page could not be read or is not among the changes."""

    old: int = 0
    kept: int = 0
    vanished: int = 0
    new: int = 0
    added: int = 0
    unread: int = 0


STAGE: Final = Stage(name="compare", title="compare passages", counts=CompareCounts, measure="old")


def matched(old: Keys, new: Keys, ranges: int = 1) -> tuple[Mask, Mask]:
    """Which of the old keys have a partner among the new, and the reverse. Bool [old], bool [new].

    Of a key that comes a times here and b times there the first min(a, b) of each have one.

    Args:
        old, new: keys.
        ranges: in so many parts, by value; it decides nothing but the memory that it takes.
    """
    found = np.zeros(len(old), bool), np.zeros(len(new), bool)
    width = -(-(1 << 16) // ranges)
    for number in range(ranges):
        sides = []
        for side in (old, new):
            places = np.arange(len(side))
            if ranges > 1:
                # The first 16 bits, of a digest: values are spread evenly.
                top = (np.asarray(side["high"]) >> np.uint64(48)).astype(np.int64)
                places = np.flatnonzero((top >= number * width) & (top < (number + 1) * width))
            sides.append(places)
        for mask, places in zip(found, _matched(old, new, sides[0], sides[1]), strict=True):
            mask[places] = True
    return found


def _matched(
    old: Keys, new: Keys, old_places: npt.NDArray[np.int64], new_places: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Places of those that have a partner."""
    highs, lows, ranks = [], [], []
    for side, places in ((old, old_places), (new, new_places)):
        high = side["high"][places].astype(np.uint64)
        low = side["low"][places].astype(np.uint64)
        order = np.lexsort((places, low, high))
        begins = np.ones(len(order), bool)
        begins[1:] = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
        starts = np.flatnonzero(begins)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
        highs.append(high)
        lows.append(low)
        ranks.append(rank)
    high, low, rank = np.concatenate(highs), np.concatenate(lows), np.concatenate(ranks)
    order = np.lexsort((rank, low, high))
    same = (high[order][1:] == high[order][:-1]) & (low[order][1:] == low[order][:-1])
    same &= rank[order][1:] == rank[order][:-1]
    # (key, rank) comes once on each side, so equal ones are partners.
    both = np.concatenate([order[:-1][same], order[1:][same]])
    here = both < len(old_places)
    return old_places[both[here]], new_places[both[~here] - len(old_places)]


def within(pages: Keys, chosen: Keys) -> Mask:
    """Of the keys of pages [n], which are among the chosen."""
    if not len(chosen):
        return np.zeros(len(pages), bool)
    order = np.lexsort((chosen["low"], chosen["high"]))
    # As numbers of the machine's own order, which are found by bisection.
    high = chosen["high"][order].astype(np.uint64)
    low = chosen["low"][order].astype(np.uint64)
    found = np.zeros(len(pages), bool)
    asked_high, asked_low = pages["high"].astype(np.uint64), pages["low"].astype(np.uint64)
    place = np.searchsorted(high, asked_high, side="left")
    # Of digests, two with the same first half are one; a second look costs nothing.
    while len(rest := np.flatnonzero(~found & (place < len(high)))):
        here = place[rest]
        same = high[here] == asked_high[rest]
        found[rest[same & (low[here] == asked_low[rest])]] = True
        place[rest] += 1
        place[rest[~same]] = len(high)
    return found


def joined(paths: Sequence[Path]) -> Keys:
    """The keys in files, one after the other."""
    sizes = [path.stat().st_size // ids.KEY_BYTES for path in paths]
    result = np.empty(sum(sizes), _KEY)
    at = 0
    for path, size in zip(paths, sizes, strict=True):
        result[at : at + size] = np.frombuffer(files.read_bytes(path), _KEY)
        at += size
    return result


def key_array(found: Sequence[bytes]) -> Keys:
    """Keys as `joined` gives them."""
    return np.frombuffer(b"".join(found), _KEY)


@dataclass(frozen=True, kw_only=True)
class ComparePassages:
    """The one unit: compares the keys that lie in the work folder.

    Attributes:
        corpus: in whose work folder they lie.
        old_units, new_units: how many files of keys there are of either side.
        tombstones: of the old ones.
        only: keys of the pages that are looked at, sorted or not; None: all.
        never: of those that are not, since they could not be read.
    """

    corpus: CorpusFolder
    old_units: int
    new_units: int
    tombstones: Tombstones
    only: bytes | None = None
    never: bytes = b""
    stage: Stage[CompareCounts] = STAGE

    def run(self, unit: int, meter: Meter) -> Receipt[CompareCounts]:
        work = self.corpus.work
        with meter.time("reading"):
            gone = ~self.tombstones.are_there(np.arange(self.tombstones.passages))
            looked_at = ~gone
            if self.only is not None or self.never:
                pages = joined([keys.pages_path(work, keys.OLD, n) for n in range(self.old_units)])
                if self.only is not None:
                    looked_at &= within(pages, np.frombuffer(self.only, _KEY))
                looked_at &= ~within(pages, np.frombuffer(self.never, _KEY))
                del pages
            old = joined([keys.keys_path(work, keys.OLD, n) for n in range(self.old_units)])
            if len(old) != len(gone):
                raise errors.DamagedError(
                    f"{len(old):,} passages have a key, {len(gone):,} are in the corpus; run the same again"
                )
            new = joined([keys.keys_path(work, keys.NEW, n) for n in range(self.new_units)])
        with meter.time("comparing"):
            places = np.flatnonzero(looked_at)
            ranges = 1 + (len(places) + len(new)) // RANGE_KEYS
            same, there = matched(old[places] if len(places) < len(old) else old, new, ranges)
            removed = places[~same]
        written = []
        for path, data in (
            (added_path(work), np.packbits(~there).tobytes()),
            (removed_path(work), removed.astype("<i8").tobytes()),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomic(path, data)
            written.append(self.corpus.entry(path))
        before = int(np.count_nonzero(~gone))
        added = int(np.count_nonzero(~there))
        meter.count("old", before)
        return Receipt(
            unit=unit,
            files=tuple(written),
            counts=CompareCounts(
                old=before,
                kept=before - len(removed),
                vanished=len(removed),
                new=before - len(removed) + added,
                added=added,
                unread=before - len(places),
            ),
            seconds=dict(meter.seconds),
            worker=worker_name(),
        )


def added_path(work: WorkFolder) -> Path:
    return work.file(f"{STAGE.name}/{_ADDED}")


def removed_path(work: WorkFolder) -> Path:
    return work.file(f"{STAGE.name}/{_REMOVED}")


def added(work: WorkFolder, first: int, rows: int) -> Mask:
    """Of the new passages from `first` on, which are added: bool [rows]."""
    begin = first // 8
    data = np.fromfile(added_path(work), np.uint8, count=-(-(first + rows) // 8) - begin, offset=begin)
    return np.unpackbits(data)[first - 8 * begin :][:rows].astype(bool)


def removed(work: WorkFolder) -> npt.NDArray[np.int64]:
    """The ids that have gone, ascending."""
    return np.frombuffer(files.read_bytes(removed_path(work)), "<i8").astype(np.int64)
