"""`work/`: what an unfinished job has in a corpus folder: its plan, and the receipts of its units.

By stage there is a folder of receipts, each with what its unit left for the commit beside it. Receipts are
read as a stream, in order, one at a time: a corpus of 80 TB has 300,000.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from storage import checked_json, errors, files, receipts
from storage.aliases import Json
from storage.receipts import C, Receipt

NAME: Final = "work"
PLAN: Final = "plan.json"
PROGRESS: Final = "progress"
RECEIPT: Final = ".json"
ERROR: Final = ".error"


def marked(units: Iterable[int]) -> bytearray:
    """1 at each of some units: a byte for each of a stage's, in place of a list of numbers."""
    found = bytearray()
    for unit in units:
        if unit >= len(found):
            found.extend(bytes(unit + 1 - len(found)))
        found[unit] = 1
    return found


class WorkFolder:
    """The folder `work/` below `root`, whether it is there or not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / NAME

    def __str__(self) -> str:
        return str(self.path)

    def make(self) -> None:
        """Make the folder, and the corpus folder, where they are not."""
        self.path.mkdir(parents=True, exist_ok=True)

    # --- the plan

    def has_plan(self) -> bool:
        return (self.path / PLAN).is_file()

    def read_plan(self) -> Json | None:
        """What the job that is unfinished was to do; None where there is none."""
        try:
            return checked_json.read(self.path / PLAN)
        except FileNotFoundError:
            return None

    def write_plan(self, plan: Json) -> None:
        """Lay it down, before the first unit."""
        self.write(PLAN, plan)

    # --- other files of a job

    def file(self, name: str) -> Path:
        return self.path / name

    def read(self, name: str) -> Json:
        """A JSON file that the job wrote, checked."""
        return checked_json.read(self.path / name)

    def write(self, name: str, value: Json) -> None:
        self.make()
        checked_json.write(self.path / name, value)

    def content(self) -> Iterator[str]:
        """Names of what lies in it, whoever put it there."""
        if self.path.is_dir():
            yield from (path.name for path in self.path.iterdir())

    # --- units

    def open_stage(self, stage: str) -> None:
        """Make the folder of a stage's receipts, and forget what went wrong the last time."""
        (self.path / stage).mkdir(parents=True, exist_ok=True)
        for path in list(self._scan(stage, ERROR)):
            path.unlink(missing_ok=True)

    def forget_stage(self, stage: str) -> None:
        """Remove a stage's receipts, where its units are to be done for another version."""
        shutil.rmtree(self.path / stage, ignore_errors=True)

    def side_file(self, stage: str, unit: int, suffix: str) -> Path:
        """What a unit leaves beside its receipt: where it writes it. `here` is for whoever reads it."""
        return self.path / stage / f"{unit:06d}{suffix}"

    def here(self, path: Path) -> Path:
        """A file that some unit left, on this machine. On a local disk it is."""
        return path

    def left(self, stage: str, units: Iterable[int], suffix: str) -> Iterator[bytes]:
        """What each of some units left under a suffix, in order.

        Raises:
            DamagedError: one is missing.
            UnreadableError: one cannot be read.
        """
        return (files.read_bytes(self.side_file(stage, unit, suffix)) for unit in units)

    def side_files(self, stage: str, suffix: str) -> Iterable[tuple[int, Path]]:
        """Of all units that left one: (unit, path), in order."""
        return sorted((int(path.name.removesuffix(suffix)), path) for path in self._scan(stage, suffix))

    def _scan(self, stage: str, suffix: str) -> Iterator[Path]:
        """A stage's files that end so. Not by `glob`, which lists a whole folder before it matches."""
        try:
            with os.scandir(self.path / stage) as entries:
                yield from (Path(entry.path) for entry in entries if entry.name.endswith(suffix))
        except FileNotFoundError:
            return

    def receipt_path(self, stage: str, unit: int) -> Path:
        return self.side_file(stage, unit, RECEIPT)

    def has_receipt(self, stage: str, unit: int) -> bool:
        return self.receipt_path(stage, unit).exists()

    def write_receipt(self, stage: str, receipt: Receipt[Any]) -> None:
        """All that a unit leaves is there: say so."""
        receipt.write(self.receipt_path(stage, receipt.unit))

    def remove_receipt(self, stage: str, unit: int) -> None:
        """The unit is to be done again."""
        path = self.receipt_path(stage, unit)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)

    def leave_error(self, stage: str, unit: int, text: str) -> None:
        """Say what went wrong with a unit."""
        self.side_file(stage, unit, ERROR).write_text(text)

    def remove_error(self, stage: str, unit: int) -> None:
        self.side_file(stage, unit, ERROR).unlink(missing_ok=True)

    def errors(self, stage: str) -> Iterator[tuple[int, str]]:
        """What went wrong with units: (unit, text), in order."""
        for unit, path in self.side_files(stage, ERROR):
            try:
                yield unit, path.read_text()
            except (OSError, ValueError):
                continue

    def read_if_whole(self, stage: str, unit: int, counts: type[C]) -> Receipt[C] | None:
        """The receipt of a unit that is done, its files checked byte by byte; None if it must be redone.

        Raises:
            UnreadableError: nobody can say, and what is there may be whole.
        """
        try:
            receipt = self.read_receipt(stage, unit, counts)
        except (FileNotFoundError, errors.CorpusError):
            return None
        if any(self.damage(entry) for entry in receipt.files):
            return None
        return receipt

    def read_receipt(self, stage: str, unit: int, counts: type[C]) -> Receipt[C]:
        """
        Raises:
            FileNotFoundError: there is none.
            CorpusError: it is of another stage, or misshapen, or (a DamagedError) not as it was written.
        """
        return receipts.read(self.receipt_path(stage, unit), counts)

    def damage(self, entry: files.FileEntry) -> str | None:
        """What is wrong with a stored file, in words; every byte is read."""
        return files.damage(self.root, entry)

    def there(self, stage: str, units: Sequence[int], counts: type[C]) -> Iterator[Receipt[C]]:
        """The receipts that are there, in order; those of units that must be redone are left out."""
        if next(self._scan(stage, RECEIPT), None) is None:
            return
        for unit in units:
            try:
                yield self.read_receipt(stage, unit, counts)
            except (FileNotFoundError, errors.CorpusError):
                continue

    def missing(self, stage: str, units: Sequence[int]) -> Iterator[int]:
        """Of some units, those that have no receipt, in order: by one listing, and not a look for each."""
        names = (path.name.removesuffix(RECEIPT) for path in self._scan(stage, RECEIPT))
        found = marked(int(name) for name in names if name.isdigit())
        return (unit for unit in units if unit >= len(found) or not found[unit])

    def receipts(self, stage: str, units: Sequence[int], counts: type[C]) -> Iterator[Receipt[C]]:
        """The receipts of units of a stage, in order, as a stream.

        Raises:
            CorpusError: one is missing: some runner or worker lost it, and the stage is not done.
        """
        for unit in units:
            try:
                receipt = self.read_receipt(stage, unit, counts)
            except FileNotFoundError:
                raise errors.CorpusError(
                    f"{stage} {unit} of {len(units)} left no receipt; run the same command again"
                ) from None
            if receipt.unit != unit:
                path = self.receipt_path(stage, unit)
                raise errors.CorpusError(f"receipt {path} speaks of unit {receipt.unit}")
            yield receipt

    # --- how far workers are; no harm if it is lost: nothing but the progress line reads it

    def show(self, name: str, text: str) -> None:
        """Let whoever watches the job see what a worker has to say, in a file of its own."""
        path = self.path / PROGRESS / name
        partial = files.partial_path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(text)  # no fsync
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise

    def is_shown(self, name: str) -> bool:
        """Has nobody cleared what a worker showed?"""
        return (self.path / PROGRESS / name).exists()

    def shown(self, stage: str) -> Iterator[str]:
        """What the workers of a stage show now."""
        for path in (self.path / PROGRESS).glob(f"{stage}-*.json"):
            try:
                text = path.read_text()
            except (OSError, ValueError):
                continue  # just being replaced
            yield text

    def clear_shown(self, stage: str) -> None:
        """Forget what workers of an earlier run showed."""
        for path in (self.path / PROGRESS).glob(f"{stage}-*.json"):
            path.unlink(missing_ok=True)

    # --- the end

    def is_empty(self) -> bool:
        """Is the folder there, with nothing in it: what a job left that was killed at its very last step?"""
        return self.path.is_dir() and next(self.path.iterdir(), None) is None

    def remove(self) -> None:
        """The job is done: what led to it may go, the plan last, by which the folder is known as ours."""
        for path in self.path.iterdir():
            if path.name != PLAN:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.path / PLAN).unlink(missing_ok=True)
        self.path.rmdir()
