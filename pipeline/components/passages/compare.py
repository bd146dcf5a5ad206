"""Which passages of an update are there already, which have gone, and which are new.

Two passages are the same where their keys are; several with one key are matched as often as they come, the
first with the first. Keys are compared in parts by their values: each is read from the files, sorted in
memory and forgotten. So no array is as long as the corpus but four of a byte a passage.
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


def matched(old: Keys, new: Keys) -> tuple[Mask, Mask]:
    """Which of the old keys have a partner among the new, and the reverse. Bool [old], bool [new].

    Of a key that comes a times here and b times there the first min(a, b) of each have one.
    """
    highs, lows, ranks = [], [], []
    for side in (old, new):
        high = side["high"].astype(np.uint64)
        low = side["low"].astype(np.uint64)
        order = np.lexsort((low, high))  # stable: equal ones stay in order
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
    found = np.zeros(len(order), bool)
    found[order[:-1][same]] = found[order[1:][same]] = True
    return found[: len(old)], found[len(old) :]


def matched_files(
    old: Sequence[Path], new: Sequence[Path], looked_at: Mask, *, range_keys: int = RANGE_KEYS
) -> tuple[Mask, Mask]:
    """As `matched`, of keys in files; of the old ones those that are looked at, in parts by their values.

    Args:
        old, new: files of keys, one after the other.
        looked_at: bool [old].
        range_keys: how many keys a part has, about; it decides nothing but the memory that it takes.
    """
    count = sum(path.stat().st_size for path in new) // ids.KEY_BYTES
    same, there = np.zeros(len(looked_at), bool), np.zeros(count, bool)
    ranges = 1 + (len(looked_at) + count) // range_keys
    # Of digests the first 16 bits are spread evenly.
    width = -(-(1 << 16) // ranges)
    for first in range(0, 1 << 16, width):
        one, one_at = _within_range(old, first, first + width, looked_at)
        two, two_at = _within_range(new, first, first + width, None)
        for mask, places, found in zip((same, there), (one_at, two_at), matched(one, two), strict=True):
            mask[places[found]] = True
    return same, there


def _within_range(
    paths: Sequence[Path], first: int, stop: int, looked_at: Mask | None
) -> tuple[Keys, npt.NDArray[np.int64]]:
    """The keys in files whose first 16 bits are from `first` to `stop`, and their places."""
    found, places = [np.zeros(0, _KEY)], [np.zeros(0, np.int64)]
    at = 0
    for path in paths:
        here = np.frombuffer(files.read_bytes(path), _KEY)
        top = (here["high"] >> np.uint64(48)).astype(np.int64)
        wanted = (top >= first) & (top < stop)
        if looked_at is not None:
            wanted &= looked_at[at : at + len(here)]
        found.append(here[wanted])
        places.append(at + np.flatnonzero(wanted))
        at += len(here)
    if looked_at is not None and at != len(looked_at):
        raise errors.DamagedError(
            f"{at:,} passages have a key, {len(looked_at):,} are in the corpus; run the same again"
        )
    return np.concatenate(found), np.concatenate(places)


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
        gone = self.tombstones
        old = [keys.keys_path(work, keys.OLD, number) for number in range(self.old_units)]
        new = [keys.keys_path(work, keys.NEW, number) for number in range(self.new_units)]
        with meter.time("reading"):
            looked_at = np.unpackbits(gone.bits, count=gone.passages, bitorder="little").view(bool)
            at = 0
            for number in range(self.old_units if self.only is not None or self.never else 0):
                pages = np.frombuffer(files.read_bytes(keys.pages_path(work, keys.OLD, number)), _KEY)
                here = looked_at[at : at + len(pages)]
                if self.only is not None:
                    here &= within(pages, np.frombuffer(self.only, _KEY))
                here &= ~within(pages, np.frombuffer(self.never, _KEY))
                at += len(pages)
        with meter.time("comparing"):
            same, there = matched_files(old, new, looked_at)
            removed = np.flatnonzero(looked_at & ~same)
        written = []
        for path, data in (
            (added_path(work), np.packbits(~there).tobytes()),
            (removed_path(work), removed.astype("<i8").tobytes()),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomic(path, data)
            written.append(self.corpus.entry(path))
        before = gone.passages - len(gone)
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
                unread=before - int(np.count_nonzero(looked_at)),
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
