"""The corpus folder as one object: its paths, its manifest and cards, what is written into it.

Opened once by a command or a reader, and handed on; nobody else spells a path of a corpus. The manifest and
each card are read once and kept, until they are replaced.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, cast

import tensorstore as ts

from storage import (
    checked_json,
    components,
    errors,
    file_list,
    file_names,
    files,
    locks,
    manifest,
    run_statistics,
    work_folder,
)
from storage.aliases import Json
from storage.components import AnyComponent, Card, Component, IndexCard, MemoryCard, PassagesCard, VectorsCard
from storage.components.base import C
from storage.files import FileEntry
from storage.manifest import Manifest
from storage.run_statistics import RunStatistics
from storage.work_folder import WorkFolder


class CorpusFolder:
    """A corpus folder on a local disk, finished or not, or still to be made."""

    def __init__(self, root: Path, *, fixed: Manifest | None = None) -> None:
        """`fixed` is the manifest of a segment, which has no file of its own; see `segment`."""
        self.root = root
        self.work: WorkFolder = WorkFolder(root)
        self._fixed = fixed
        self._manifest: Manifest | None = fixed
        self._stamp: tuple[int, ...] | None = None
        # By what the manifest says of a card's file, so that another card is never taken for it.
        self._cards: dict[tuple[str, FileEntry], Card] = {}
        if fixed is None:
            _OPEN[root.resolve()] = self

    def __str__(self) -> str:
        return str(self.root)

    @property
    def place(self) -> str:
        """Where it is, in full, for people."""
        return str(self.root.resolve())

    def __reduce__(self) -> tuple[object, ...]:
        """Jobs carry it to workers: where it lies travels, what was read of it does not."""
        if self._fixed is not None:
            return _segment, (self.root.resolve(), self._fixed)
        return _opened, (self.root.resolve(),)

    def segment(self, name: str, own: Manifest) -> CorpusFolder:
        """A folder of the corpus that holds some of its passages, as a corpus whose manifest is `own`.

        "" is the corpus folder, of those that the build made.
        """
        return CorpusFolder(self.path(name) if name else self.root, fixed=own)

    def require_folder(self) -> None:
        """
        Raises:
            CorpusError: a file is where the folder, or one above it, is or would be.
        """
        existing = next(path for path in (self.root, *self.root.resolve().parents) if path.exists())
        if not existing.is_dir():
            raise errors.CorpusError(f"output {existing} is a file, wanted a folder that is new or empty")

    # --- the manifest

    def is_finished(self) -> bool:
        """Is there a corpus? Without a manifest there is none."""
        if self._fixed is not None:
            return True
        return self.path(manifest.NAME).exists()

    def foreign(self, ours: Callable[[str], bool]) -> str | None:
        """Something in the folder, or in `work/`, that no job of ours puts there before its plan; or None.

        Args:
            ours: of names in `work/`: what a job may have left that was stopped before its plan was written.
        """
        held = [path.name for path in self.root.iterdir()] if self.root.exists() else []
        held = [name for name in held if name != work_folder.NAME]
        return next(iter([*held, *(name for name in self.work.content() if not ours(name))]), None)

    @property
    def manifest(self) -> Manifest:
        """Read when it is first asked for.

        Raises:
            CorpusError: no corpus there, one that is still being built, or another format.
            DamagedError: the file does not match its own checksum.
        """
        if self._manifest is None:
            self.refresh()
        assert self._manifest is not None
        return self._manifest

    def refresh(self) -> None:
        """Read the manifest again, if it was replaced since."""
        if self._fixed is not None:
            return
        path = self.root / manifest.NAME
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise self._no_corpus() from None
        except OSError as e:
            raise errors.from_os(path, e) from e
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._manifest is None or stamp != self._stamp:
            self._manifest = Manifest.from_json(checked_json.read(path), str(path))
            self._stamp = stamp

    def _no_corpus(self) -> errors.CorpusError:
        if self.work.has_plan():
            return errors.CorpusError(
                f"the corpus in {self.root} is not finished; run the same `memcorpus build` again, or the "
                "same writer"
            )
        return errors.CorpusError(f"{self.root} holds no corpus: there is no {manifest.NAME} in it")

    def write_manifest(self, new: Manifest) -> None:
        """Make a corpus, or a change of it, visible: one rename. The job that does is alone; see `alone`."""
        assert self._fixed is None, "the corpus's manifest speaks of its segments"
        path = self.root / manifest.NAME
        for left in self.root.glob(f"{manifest.NAME}.*{files.PARTIAL_SUFFIX}"):
            left.unlink()  # by a job that was killed here
        checked_json.write(path, new.to_json())
        status = path.stat()
        self._manifest = new
        self._stamp = (status.st_ino, status.st_size, status.st_mtime_ns)

    # --- cards

    def card(self, component: Component[C], name: str = "") -> C:
        """The card of a component that the manifest names, checked against its entry there.

        Raises:
            CorpusError: the manifest names none such; a field is missing or wrong.
            DamagedError: the file is not as it was written.
            MismatchError: it is another component's card.
        """
        entries = self.manifest.of(component)
        if name not in entries:
            raise errors.CorpusError(f"{self.root} has no {component.noun} {name[:100]!r}")
        return self.card_at(component, name, entries[name])

    def card_at(self, component: Component[C], name: str, entry: FileEntry) -> C:
        """As `card`, for an entry of a manifest that may not be the newest."""
        key = component.noun, entry
        if key not in self._cards:
            if entry.bytes > checked_json.MAX_BYTES:
                raise errors.CorpusError(f"{entry.path} has {entry.bytes:,} bytes, which no card has")
            self.ensure(entry)
            self.require_whole(entry)
            value = checked_json.read(self.path(entry.path))
            card = component.card.from_json(value, entry.path)
            if card.name != name:
                raise errors.MismatchError(
                    f"the card of {component.noun} {name[:100]} is that of {card.name[:100]!r}"
                )
            self._cards[key] = card
        return cast(C, self._cards[key])

    @property
    def passages(self) -> PassagesCard:
        return self.card(components.PASSAGES)

    def vectors(self, fingerprint: str) -> VectorsCard:
        return self.card(components.VECTORS, fingerprint)

    def index(self, fingerprint: str) -> IndexCard:
        return self.card(components.INDEX, fingerprint)

    def memory(self, version: str) -> MemoryCard:
        return self.card(components.MEMORY, version)

    def write_card(self, component: Component[C], card: C) -> FileEntry:
        """Write a card into its component's folder. Returns its entry, for the manifest."""
        path = self.path(component.card_path(card.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        checked_json.write(path, card.to_json())
        entry = self.entry(path)
        self._cards[component.noun, entry] = card
        return entry

    def files_of(
        self, component: AnyComponent, name: str, first: int = 0, stop: int | None = None
    ) -> Iterator[FileEntry]:
        """Every file that a component answers for, its card first, or some of them by their places in that
        order.

        Raises while it is iterated, where the card or the list of files is damaged.
        """
        if first == 0:
            yield self.manifest.of(component)[name]
        if stop == 1:
            return
        named = self.named(component, name)
        yield from named[max(first, 1) : stop]
        listed = self.card(component, name).listed
        if listed is not None and (stop is None or stop > len(named)):
            left = None if stop is None else stop - len(named)
            yield from self.listed(listed, max(0, first - len(named)), left)

    def named(self, component: AnyComponent, name: str) -> tuple[FileEntry, ...]:
        """The files of a component that its card names, and that itself; the others are in its list."""
        card = self.card(component, name)
        listed = () if card.listed is None else (card.listed,)
        return (self.manifest.of(component)[name], *card.entries, *listed)

    def totals(self, component: AnyComponent, name: str) -> tuple[int, int]:
        """How many files `files_of` gives until it raises, if it does, and about how many bytes they have."""
        count, size = 1, 0
        with contextlib.suppress(errors.CorpusError, errors.UnreadableError):
            named = self.named(component, name)
            count, size = len(named), sum(entry.bytes for entry in named)
            if (listed := self.card(component, name).listed) is not None:
                self.ensure(listed)
                self.require_whole(listed)
                rows, below = file_list.totals(self.path(listed.path), listed)
                count, size = count + rows, size + below
        return count, size

    def listed(self, entry: FileEntry, first: int = 0, stop: int | None = None) -> Iterator[FileEntry]:
        """The files in a component's list, or some by their places, after the list itself was checked."""
        self.ensure(entry)
        self.require_whole(entry)
        path = self.path(entry.path)
        if first == 0 and stop is None:
            return file_list.read(path, entry)
        return file_list.between(path, entry, first, sys.maxsize if stop is None else stop)

    # --- files

    def path(self, relative: str) -> Path:
        """Where a stored name lies; refused where it would leave the folder."""
        return file_names.inside(self.root, relative)

    def relative(self, path: Path) -> str:
        """The stored name of a path within."""
        return path.relative_to(self.root).as_posix()

    def entry(self, path: Path) -> FileEntry:
        """Measure a file that has just been written, and answer for it: it is there for everyone."""
        return files.entry_of(self.root, path)

    def placed(self, path: Path, measured: files.Measured) -> FileEntry:
        """As `entry`, for a shard's file that was measured as it was written; it need not stay in `root`."""
        return measured.entry(self.root, path)

    def publish(self, paths: Iterable[Path]) -> None:
        """Have others see files that were just written, before anything answers for them."""

    def bring(self, folder: str) -> None:
        """Have the small files below a folder, which others may have written, in `root`."""

    def take(self, made: Path, entry: FileEntry) -> bool:
        """Put a file that was made again in the place of `entry`, if it has that one's bytes."""
        found = files.measure(made)
        if (found.bytes, found.crc32) != (entry.bytes, entry.crc32):
            return False
        target = self.path(entry.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        made.replace(target)
        files.sync_folder(target.parent)
        return True

    def look(self) -> None:
        """All files are about to be looked for: list them once, where that is cheaper."""

    def is_same(self, name: str, entry: FileEntry) -> bool:
        """Has a stored file the bytes of `entry`, whatever its own name?"""
        path = self.path(name)
        if not path.is_file() or path.stat().st_size != entry.bytes:
            return False
        return files.measure(path).crc32 == entry.crc32

    def bytes_of(self, name: str) -> int:
        """Of one stored file, or of all below a folder."""
        path = self.path(name)
        if not path.is_dir():
            return path.stat().st_size
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())

    def names(self) -> Iterator[str]:
        """All files there are now, whoever wrote them, in order."""
        return (name for name, _ in file_names.names_below(self.root))

    def below(self, folder: str) -> list[str]:
        """The folders and files right below one, in order."""
        return sorted(self.relative(path) for path in (self.root / folder).glob("*"))

    def leftovers(self) -> Iterator[str]:
        """What writers that were killed left half written."""
        return (self.relative(path) for path in files.leftovers(self.root))

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        path = self.path(name)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # the manifest's writing takes away what is left of earlier ones

    def disk(self) -> Path | None:
        """A folder on the disk that the corpus needs room on; None where the store has room for all."""
        return self.root

    def damage(self, entry: FileEntry, *, full: bool = True) -> str | None:
        """What is wrong with a stored file, in words, or None; see `files.damage`."""
        return files.damage(self.root, entry, full=full)

    def stamp(self, name: str) -> str:
        """What tells that a stored file was written since: its size and times; "" where there is none."""
        try:
            found = os.stat(self.root / name)
        except OSError:
            return ""
        return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"

    def require_whole(self, entry: FileEntry) -> None:
        """
        Raises:
            DamagedError: the file is not as it was written.
        """
        if wrong := self.damage(entry):
            raise errors.DamagedError(f"{wrong}; run `memcorpus verify`")

    def bytes_on_disk(self) -> int:
        """Of all files that are there now, whoever wrote them."""
        return sum(size for _, size in file_names.names_below(self.root, sizes=True))

    def remove_leftovers(self) -> None:
        """Whatever writers that were killed left half written."""
        for path in list(files.leftovers(self.root)):
            path.unlink()

    def link(self, source: CorpusFolder, name: str) -> None:
        """Have a file of another folder here too, under its name: by a link, or copied where none can be."""
        path, origin = self.path(name), source.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            os.link(origin, path)
        except OSError:
            with files.aside(path) as partial:
                shutil.copyfile(origin, partial)

    def remove_folder(self, name: str) -> None:
        """Remove a folder below the corpus, with all that is in it."""
        shutil.rmtree(self.path(name))

    def alone(self, *, checking: bool = False) -> AbstractContextManager[None]:
        """One writer at a time; with `checking`, of what writes nothing that a reader sees.

        Raises:
            CorpusError: another job is at work.
        """
        return locks.one_job(self.root)

    # --- statistics

    def run(self, name: str = run_statistics.BUILD) -> RunStatistics | None:
        """The statistics of the build, or of what added a version; None where there are none.

        Raises:
            CorpusError: they are misshapen.
            DamagedError: they are not as they were written.
        """
        relative = run_statistics.path_of(name)
        value = self._read_json(relative)
        return None if value is None else RunStatistics.from_json(value, relative)

    def _read_json(self, relative: str) -> Json | None:
        """A small file that checks itself, as it is now; None where there is none."""
        try:
            return checked_json.read(self.path(relative))
        except FileNotFoundError:
            return None

    def run_names(self) -> list[str]:
        """The build's, whether its statistics are there or not, and those of all other runs."""
        names = self.below(run_statistics.FOLDER)
        found = {Path(name).stem for name in names if name.endswith(".json")}
        return [run_statistics.BUILD, *sorted(found - {run_statistics.BUILD})]

    def run_files(self) -> Iterator[str]:
        """The files of statistics, below the corpus."""
        for name in self.run_names():
            for relative in (run_statistics.path_of(name), run_statistics.units_path_of(name)):
                if self.path(relative).is_file():
                    yield relative

    def runs(self) -> Iterator[tuple[str, RunStatistics]]:
        """Those of all runs that can be read, the build's first; what is damaged `verify` tells."""
        for name in self.run_names():
            try:
                found = self.run(name)
            except (errors.CorpusError, OSError):
                continue
            if found is not None:
                yield name, found

    def run_of(self, version: str) -> RunStatistics | None:
        """Those of the run that wrote a memory version: it bears its name, or names it."""
        for name in (version, run_statistics.BUILD):
            try:
                found = self.run(name)
            except (errors.CorpusError, OSError):
                continue
            if found is not None and version in (name, found.version):
                return found
        return None

    def forget_run(self, name: str) -> None:
        """Take the statistics of a run away, of what was not kept."""
        for relative in (run_statistics.path_of(name), run_statistics.units_path_of(name)):
            self.path(relative).unlink(missing_ok=True)

    def write_run(self, name: str, statistics: RunStatistics) -> None:
        """Write a run's statistics; the file of its units lies there already."""
        path = self.path(run_statistics.path_of(name))
        checked_json.write(path, statistics.to_json())
        self.publish([path])

    # --- reading, here or from an object store (`remote.RemoteFolder`)

    def ensure(self, *entries: FileEntry) -> None:
        """Make sure that these files are in `root`. They are, on a local disk."""

    def store(self, folder: str) -> Json:
        """TensorStore's name for a folder of the corpus."""
        return {"driver": "file", "path": f"{self.path(folder).resolve()}/"}

    @contextmanager
    def borrowed(self, folder: str, names: Iterable[str]) -> Iterator[Json]:
        """As `store`, for whoever reads some of its files whole, once, and within the block."""
        yield self.store(folder)

    def scanned(self, folder: str) -> Json:
        """As `store`, for whoever reads all of it, and more than once."""
        return self.store(folder)

    @property
    def values(self) -> ts.KvStore | None:
        """Where memory is read from by byte ranges; None for the files in `root`."""
        return None


# The folders that are open in this process. A job that comes back to the process that sent it, as with Beam's
# local runner, finds the one that it was sent from, with what that has read.
_OPEN: Final[weakref.WeakValueDictionary[Path, CorpusFolder]] = weakref.WeakValueDictionary()


def _opened(root: Path) -> CorpusFolder:
    return _OPEN.get(root) or CorpusFolder(root)


def _segment(root: Path, fixed: Manifest) -> CorpusFolder:
    return CorpusFolder(root, fixed=fixed)
