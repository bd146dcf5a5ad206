"""A verification as a job: the files of a corpus in units, which an engine deals out to workers.

A unit is a run of files of one component, by their places. Its receipt tells what is wrong with which of
them, and what the system says of each (size, time of change); so a job that was interrupted reads no file
again that nobody has touched since. The findings are put together by `storage.verify`, as if one process had
read everything.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from pipeline.units.stages import Stages
from storage import checked_json, errors, segments, verify
from storage.aliases import Json
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Counts, Receipt
from storage.shard_numbers import ShardNumbers
from storage.verify import Checked, Roll, Verification

# A unit has about so many bytes: some seconds of a disk, so that a worker that dies costs little. Of small
# files it has at most so many.
UNIT_BYTES: Final = 2 << 30
UNIT_FILES: Final = 4096
# Entries that a worker reads out of a list at a time.
_BLOCK: Final = 16384

# What a receipt's notes say of a file, beside its place; or of the whole unit.
_PLACE: Final = "place"
_DAMAGED: Final = "damaged"
_UNREADABLE: Final = "unreadable"
_STAMP: Final = "stamp"
_UNKNOWN: Final = "unknown from"


@dataclass(frozen=True, kw_only=True)
class CheckedCounts(Counts):
    """Files that were looked at, their bytes, and those that are damaged or cannot be read."""

    files: int = 0
    bytes: int = 0
    damaged: int = 0
    unreadable: int = 0


STAGE: Final = Stage(name="verify", title="check files", counts=CheckedCounts, measure="bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """A roll of files as units: `step` files each, from `first_unit` on. Named, since it travels.

    Attributes:
        home: the place of its segment among the segments.
        place: the place of its component among those of the segment.
        files: how many it has.
        bytes: of them, about.
        step: files of a unit.
        first_unit: the first of its units.
    """

    home: int
    place: int
    files: int
    bytes: int
    step: int
    first_unit: int

    @property
    def units(self) -> int:
        return -(-self.files // self.step)

    def bounds(self, unit: int) -> tuple[int, int]:
        """The places of a unit's files: first, and one more than the last."""
        first = (unit - self.first_unit) * self.step
        return first, min(first + self.step, self.files)


def stretches(corpus: CorpusFolder) -> tuple[Stretch, ...]:
    """All files of a corpus, in units; as many stretches as there are components, however many files."""
    made: list[Stretch] = []
    unit = 0
    for number, home in enumerate(segments.homes(corpus)):
        for place, roll in enumerate(verify.rolls_of(home)):
            count, size = home.folder.totals(roll.component, roll.name)
            step = max(1, min(UNIT_FILES, count * UNIT_BYTES // max(size, 1)))
            stretch = Stretch(home=number, place=place, files=count, bytes=size, step=step, first_unit=unit)
            made.append(stretch)
            unit += stretch.units
    return tuple(made)


@dataclass(frozen=True, kw_only=True)
class CheckFiles:
    """Checks the files of units."""

    corpus: CorpusFolder
    stretches: tuple[Stretch, ...]
    full: bool
    shards: ShardNumbers | None = None
    stage: Stage[CheckedCounts] = STAGE

    @functools.cached_property
    def _rolls(self) -> list[list[Roll]]:
        return [list(verify.rolls_of(home)) for home in segments.homes(self.corpus)]

    @functools.cached_property
    def _blocks(self) -> dict[tuple[int, int], tuple[list[FileEntry], Exception | None]]:
        """The entries that were read last, by stretch and block."""
        return {}

    def entries(self, unit: int) -> tuple[list[tuple[int, FileEntry]], tuple[int, Exception] | None]:
        """The files of a unit with their places; and from which place on they are not known, and why."""
        stretch = next(s for s in reversed(self.stretches) if s.first_unit <= unit)
        roll = self._rolls[stretch.home][stretch.place]
        first, stop = stretch.bounds(unit)
        found: list[tuple[int, FileEntry]] = []
        unknown: tuple[int, Exception] | None = None
        for block in range(first // _BLOCK, -(-stop // _BLOCK)):
            known, ended = self._read(stretch, roll, block)
            begin = block * _BLOCK
            low, high = max(first - begin, 0), min(stop - begin, len(known))
            found += [(begin + at, known[at]) for at in range(low, high)]
            if ended is not None and begin + len(known) < stop:
                unknown = begin + len(known), ended
                break
        return found if self.shards is None else list(roll.only(self.shards, found)), unknown

    def _read(self, stretch: Stretch, roll: Roll, block: int) -> tuple[list[FileEntry], Exception | None]:
        key = stretch.first_unit, block
        if (held := self._blocks.get(key)) is not None:
            return held
        entries: list[FileEntry] = []
        ended: Exception | None = None
        try:
            stop = min((block + 1) * _BLOCK, stretch.files)
            entries.extend(entry for _, entry in roll.entries(block * _BLOCK, stop))
        except (errors.CorpusError, errors.UnreadableError) as e:
            ended = e
        self._blocks.clear()
        self._blocks[key] = entries, ended
        return entries, ended

    def run(self, unit: int, meter: Meter) -> Receipt[CheckedCounts]:
        entries, unknown = self.entries(unit)
        # Before the bytes are read: what is changed meanwhile is read again.
        stamp = self._stamp(entries)
        notes: list[dict[str, str]] = [{_STAMP: stamp}]
        size = damaged = unreadable = 0

        def check(item: tuple[int, FileEntry]) -> tuple[int, Checked]:
            return item[0], verify.check_file(self.corpus, item[1], full=self.full)

        with meter.time("checking"), ThreadPoolExecutor(verify.THREADS) as pool:
            for place, checked in pool.map(check, entries):
                size += checked.entry.bytes
                if checked.damaged:
                    damaged += 1
                    notes.append({_PLACE: str(place), _DAMAGED: checked.damaged})
                if checked.unreadable:
                    unreadable += 1
                    notes.append({_PLACE: str(place), _UNREADABLE: checked.unreadable})
                meter.count("files")
                meter.count("bytes", checked.entry.bytes)
                meter.show()
        if unknown is not None:
            place, error = unknown
            kind = _DAMAGED if isinstance(error, errors.CorpusError) else _UNREADABLE
            notes.append({_UNKNOWN: str(place), kind: str(error)})
        return Receipt(
            unit=unit,
            files=(),
            counts=CheckedCounts(files=len(entries), bytes=size, damaged=damaged, unreadable=unreadable),
            seconds=dict(meter.seconds),
            worker=worker_name(),
            notes=tuple(notes),
        )

    def still_holds(self, receipt: Receipt[Any]) -> bool:
        """Was every byte of a unit found whole, and has nobody touched its files since?"""
        if not self.full or len(receipt.notes) != 1:
            return False
        entries, unknown = self.entries(receipt.unit)
        return unknown is None and receipt.notes[0].get(_STAMP) == self._stamp(entries)

    def _stamp(self, entries: Sequence[tuple[int, FileEntry]]) -> str:
        """What the system says of files; as cheap as looking at their sizes."""
        if not self.full:
            return ""
        found = hashlib.blake2b(digest_size=16)
        for _, entry in entries:
            found.update(f"{entry.path}\0{self.corpus.stamp(entry.path)}\0".encode())
        return found.hexdigest()


def plan_of(corpus: CorpusFolder, made: Sequence[Stretch], shards: ShardNumbers | None) -> Json:
    """What decides which files a unit has: with another plan receipts mean others."""
    manifest = checked_json.encode(corpus.manifest.to_json())
    return {
        "manifest": hashlib.blake2b(manifest, digest_size=16).hexdigest(),
        "stretches": [[s.files, s.step] for s in made],
        "shards": None if shards is None else str(shards),
    }


def check(
    stages: Stages, made: tuple[Stretch, ...], *, full: bool, shards: ShardNumbers | None = None
) -> Verification:
    """Have the files checked by workers, and put together what they found.

    Args:
        stages: of the corpus, whose plan is written.
        made: its files in units.
        full: every byte is read.
        shards: of these alone.

    Raises:
        Failed: units left no receipt.
        Exception: what a unit raised; see `Stages.run`.
    """
    corpus = stages.corpus
    units = sum(stretch.units for stretch in made)
    job = CheckFiles(corpus=corpus, stretches=made, full=full, shards=shards)
    if not full:
        corpus.work.forget_stage(STAGE.name)
    only: Sequence[int] = range(units)
    total = sum(stretch.bytes for stretch in made)
    if shards is not None:
        only, total = _with_shards(replace(job), units)
    stages.run(STAGE, job, units, total=total, only=only)
    stages.ran.pop(STAGE.name)  # no part of a run's statistics
    reports = _Reports(corpus, made, only)
    found = verify.verify_corpus(corpus, full=full, shards=shards, check=reports.of)
    # What this job has left is no stranger.
    own = f"{corpus.relative(corpus.work.path)}/"
    found.strays = [name for name in found.strays if not name.startswith(own)]
    return found


def _with_shards(job: CheckFiles, units: int) -> tuple[list[int], int]:
    """The units that have files of the shards, and the bytes of these."""
    found: list[int] = []
    size = 0
    for unit in range(units):
        entries, unknown = job.entries(unit)
        if entries or unknown is not None:
            found.append(unit)
            size += sum(entry.bytes for _, entry in entries)
    return found, size


class _Reports:
    """What workers have said of the files, read as the files come by."""

    def __init__(self, corpus: CorpusFolder, made: tuple[Stretch, ...], only: Sequence[int]) -> None:
        self._receipts = corpus.work.receipts(STAGE.name, only, STAGE.counts)
        # In the order of the files.
        self._made = iter(made)

    def of(self, roll: Roll, entries: Iterator[tuple[int, FileEntry]]) -> Iterator[Checked]:
        """See `verify.Check`."""
        stretch = next(self._made)
        unit = -1
        told: dict[int, dict[str, str]] = {}
        unknown: tuple[int, Exception] | None = None
        for place, entry in entries:
            if (wanted := stretch.first_unit + place // stretch.step) != unit:
                unit = wanted
                told, unknown = self._told(unit)
            if unknown is not None and place >= unknown[0]:
                raise unknown[1]
            note = told.get(place, {})
            yield Checked(entry=entry, damaged=note.get(_DAMAGED), unreadable=note.get(_UNREADABLE))

    def _told(self, unit: int) -> tuple[dict[int, dict[str, str]], tuple[int, Exception] | None]:
        """What is said of a unit's files by their places; and from which place on nothing, and why."""
        told: dict[int, dict[str, str]] = {}
        unknown: tuple[int, Exception] | None = None
        # Those of files that are hidden here, behind a list that is damaged, are passed over.
        receipt = next(receipt for receipt in self._receipts if receipt.unit == unit)
        for note in receipt.notes:
            if _PLACE in note:
                told[int(note[_PLACE])] = dict(note)
            elif _UNKNOWN in note:
                error: Exception = (
                    errors.DamagedError(note[_DAMAGED])
                    if _DAMAGED in note
                    else errors.UnreadableError(note[_UNREADABLE])
                )
                unknown = int(note[_UNKNOWN]), error
        return told, unknown
