"""`work/` in an object store: the same plan, receipts and side files, as objects.

Whether units are done is seen by one listing of a stage. Receipts are read as a stream, some of them ahead.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from storage import checked_json, errors, file_names, files, receipts
from storage.aliases import Json
from storage.errors import CorpusError
from storage.object_store import ObjectStore
from storage.receipts import C, Receipt
from storage.traffic import TRAFFIC
from storage.work_folder import ERROR, NAME, PLAN, PROGRESS, RECEIPT, WorkFolder, marked

T = TypeVar("T")

# Receipts that are asked for before their turn.
AHEAD: Final = 32
# Between two times that a worker shows how far it is, and that a launcher looks.
SHOW_SECONDS: Final = 5.0
# Ends the name of the folder of what went wrong, which is looked through each time a stage begins.
_ERRORS: Final = "-errors"


class StoredWork(WorkFolder):
    """The folder `work/` of a bucket; `path` is its part of the scratch folder."""

    def __init__(self, root: Path, objects: ObjectStore) -> None:
        super().__init__(root)
        self._objects = objects
        # When each worker showed something last; which stage was looked at, when, and what was seen.
        self._showed: dict[str, float] = {}
        self._seen: tuple[str, float, list[str]] = "", 0.0, []

    def has_plan(self) -> bool:
        return self._objects.size(f"{NAME}/{PLAN}") is not None

    def read_plan(self) -> Json | None:
        try:
            return self.read(PLAN)
        except FileNotFoundError:
            return None

    def read(self, name: str) -> Json:
        return self._read(f"{NAME}/{name}")

    def _read(self, name: str) -> Json:
        found = self._objects.get(name)
        where = f"{self._objects.url}/{name}"
        if found is None:
            raise FileNotFoundError(where)
        return checked_json.decode(found.data, where)

    def write(self, name: str, value: Json) -> None:
        self._objects.put(f"{NAME}/{name}", checked_json.encode(value))

    def content(self) -> Iterator[str]:
        return (found.name.removeprefix(f"{NAME}/") for found in self._objects.listed(f"{NAME}/"))

    # --- units

    def open_stage(self, stage: str) -> None:
        (self.path / stage).mkdir(parents=True, exist_ok=True)
        self._objects.delete_below(f"{NAME}/{stage}{_ERRORS}/")

    def forget_stage(self, stage: str) -> None:
        shutil.rmtree(self.path / stage, ignore_errors=True)
        self._objects.delete_below(f"{NAME}/{stage}/")

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def here(self, path: Path) -> Path:
        """Copied anew each time: what lies here may be another job's."""
        if not self._objects.get_file(self._name(path), path):
            raise errors.DamagedError(f"{self._objects.url}/{self._name(path)} is missing")
        return path

    def left(self, stage: str, units: Iterable[int], suffix: str) -> Iterator[bytes]:
        def read(unit: int) -> bytes:
            name = self._name(self.side_file(stage, unit, suffix))
            found = self._objects.get(name)
            if found is None:
                raise errors.DamagedError(f"{self._objects.url}/{name} is missing")
            return found.data

        return _ahead(iter(units), read)

    def side_files(self, stage: str, suffix: str) -> Iterator[tuple[int, Path]]:
        """As they are listed, which is in order."""
        return ((unit, self.side_file(stage, unit, suffix)) for unit in self._units(stage, suffix))

    def _units(self, stage: str, suffix: str) -> Iterator[int]:
        prefix = f"{NAME}/{stage}/"
        for found in self._objects.listed(prefix):
            name = found.name.removeprefix(prefix)
            if name.endswith(suffix) and name.removesuffix(suffix).isdigit():
                yield int(name.removesuffix(suffix))

    def has_receipt(self, stage: str, unit: int) -> bool:
        return self._objects.size(self._name(self.receipt_path(stage, unit))) is not None

    def write_receipt(self, stage: str, receipt: Receipt[Any]) -> None:
        name = self._name(self.receipt_path(stage, receipt.unit))
        # Of the process, since its last receipt: units overlap. Added up, they are what its units took.
        told = replace(receipt, events={**receipt.events, **TRAFFIC.since_told()})
        self._objects.put(name, checked_json.encode(told.to_json()))

    def remove_receipt(self, stage: str, unit: int) -> None:
        (self.path / stage).mkdir(parents=True, exist_ok=True)
        self._objects.delete([self._name(self.receipt_path(stage, unit))])

    def _error(self, stage: str, unit: int) -> str:
        return f"{NAME}/{stage}{_ERRORS}/{unit:06d}{ERROR}"

    def leave_error(self, stage: str, unit: int, text: str) -> None:
        self._objects.put(self._error(stage, unit), text.encode())

    def remove_error(self, stage: str, unit: int) -> None:
        """Left to the next `open_stage`: there hardly ever is one, and it would take a request a unit."""

    def errors(self, stage: str) -> Iterator[tuple[int, str]]:
        for found in self._objects.listed(f"{NAME}/{stage}{_ERRORS}/"):
            left = self._objects.get(found.name)
            if left is not None:
                yield int(Path(found.name).stem), left.data.decode(errors="replace")

    def read_receipt(self, stage: str, unit: int, counts: type[C]) -> Receipt[C]:
        name = self._name(self.receipt_path(stage, unit))
        return receipts.from_json(self._read(name), counts, f"receipt {self._objects.url}/{name}")

    def damage(self, entry: files.FileEntry) -> str | None:
        file_names.inside(self.root, entry.path)
        return self._objects.damage(entry)

    def there(self, stage: str, units: Sequence[int], counts: type[C]) -> Iterator[Receipt[C]]:
        found = marked(self._units(stage, RECEIPT))
        wanted = (unit for unit in units if unit < len(found) and found[unit])
        for receipt in self._receipts(stage, wanted, counts):
            if isinstance(receipt, Receipt):
                yield receipt

    def missing(self, stage: str, units: Sequence[int]) -> Iterator[int]:
        found = marked(self._units(stage, RECEIPT))
        return (unit for unit in units if unit >= len(found) or not found[unit])

    def receipts(self, stage: str, units: Sequence[int], counts: type[C]) -> Iterator[Receipt[C]]:
        for unit, receipt in zip(units, self._receipts(stage, iter(units), counts), strict=True):
            if isinstance(receipt, FileNotFoundError):
                raise errors.CorpusError(
                    f"{stage} {unit} of {len(units)} left no receipt; run the same command again"
                )
            if isinstance(receipt, Exception):
                raise receipt
            if receipt.unit != unit:
                raise errors.CorpusError(
                    f"receipt {self.receipt_path(stage, unit).name} of {stage} speaks of unit {receipt.unit}"
                )
            yield receipt

    def _receipts(
        self, stage: str, units: Iterator[int], counts: type[C]
    ) -> Iterator[Receipt[C] | FileNotFoundError | CorpusError]:
        """Receipts, or why there is none, in order."""

        def read(unit: int) -> Receipt[C] | FileNotFoundError | CorpusError:
            try:
                return self.read_receipt(stage, unit, counts)
            except (FileNotFoundError, errors.CorpusError) as e:
                return e

        return _ahead(units, read)

    # --- how far workers are

    def __str__(self) -> str:
        return f"{self._objects.url}/{NAME}"

    def show(self, name: str, text: str) -> None:
        """Seldom: an object that is put again and again gets slow, and a look takes a request a worker."""
        now = time.monotonic()
        if now - self._showed.get(name, -SHOW_SECONDS) < SHOW_SECONDS:
            return
        self._showed[name] = now
        with contextlib.suppress(OSError, CorpusError):
            self._objects.put(f"{NAME}/{PROGRESS}/{name}", text.encode())

    def is_shown(self, name: str) -> bool:
        return self._objects.size(f"{NAME}/{PROGRESS}/{name}") is not None

    def shown(self, stage: str) -> Iterator[str]:
        now = time.monotonic()
        seen, since, texts = self._seen
        if seen != stage or now - since >= SHOW_SECONDS:
            texts = []
            with contextlib.suppress(OSError, CorpusError):
                for name in self._showing(stage):
                    if (found := self._objects.get(name)) is not None:
                        texts.append(found.data.decode(errors="replace"))
            self._seen = stage, time.monotonic(), texts
        return iter(texts)

    def clear_shown(self, stage: str) -> None:
        self._seen = "", 0.0, []
        self._objects.delete(self._showing(stage))

    def _showing(self, stage: str) -> Iterator[str]:
        prefix = f"{NAME}/{PROGRESS}/"
        for found in self._objects.listed(prefix):
            if found.name.startswith(f"{prefix}{stage}-"):
                yield found.name

    # --- the end

    def is_empty(self) -> bool:
        """There is no such thing as an empty folder."""
        return False

    def remove(self) -> None:
        plan = f"{NAME}/{PLAN}"
        self._objects.delete(found.name for found in self._objects.listed(f"{NAME}/") if found.name != plan)
        self._objects.delete([plan])
        shutil.rmtree(self.path, ignore_errors=True)


def _ahead(items: Iterator[int], read: Callable[[int], T]) -> Iterator[T]:
    """What is read of each, in order; some are asked for before their turn."""
    with ThreadPoolExecutor(AHEAD // 2) as pool:
        asked: deque[Future[T]] = deque()
        try:
            for item in items:
                asked.append(pool.submit(read, item))
                if len(asked) == AHEAD:
                    yield asked.popleft().result()
            while asked:
                yield asked.popleft().result()
        finally:
            for future in asked:
                future.cancel()
