"""A corpus in an object store, for whatever writes or checks it: the same jobs as on a local disk.

A file is written in a scratch folder of the process, and is there for others when it is put: a
put is what a rename is elsewhere. A shard's file leaves the scratch folder then. What others have put is
copied here when it is wanted. So workers need to share no disk.
"""

from __future__ import annotations

import atexit
import shutil
import threading
import uuid
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from storage import (
    checked_json,
    errors,
    file_names,
    files,
    manifest,
    object_lock,
    processes,
    remote,
    work_folder,
)
from storage.aliases import Json
from storage.bucket import SCHEMES
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.manifest import Manifest
from storage.object_lock import ObjectLock
from storage.object_store import Found, Listed, ObjectStore, TakenError
from storage.remote import RemoteFolder
from storage.stored_work import StoredWork

# Behind the name of a reader's cache: what is written has a folder of its own.
_SCRATCH: Final = "-scratch"
# Objects that are copied at a time, and names that are held meanwhile.
_BROUGHT: Final = 8
_BATCH: Final = 1024
# Below the scratch folder: copies that go when they have been read.
_BORROWED: Final = "borrowed"


class StoredFolder(RemoteFolder):
    """A corpus in a bucket, finished or not, or still to be made; `root` is the scratch folder."""

    def __init__(self, url: str, scratch: Path | None = None, *, fixed: Manifest | None = None) -> None:
        """
        Raises:
            CorpusError: the URL cannot be opened, or obstore is not installed.
        """
        url = url.rstrip("/")
        self._given = scratch
        self.objects = ObjectStore(url)
        super().__init__(url, scratch or _scratch_of(url), fixed=fixed)
        self.work = StoredWork(self.root, self.objects)
        self._lock: ObjectLock | None = None
        self._sizes: _Sizes | None = None
        if fixed is None:
            _OPEN[url, scratch] = self

    def __reduce__(self) -> tuple[object, ...]:
        """A worker elsewhere has its own scratch folder, unless one was named."""
        if self._fixed is not None:
            return _segment, (self.url, self._fixed)
        return _opened, (self.url, self._given)

    def segment(self, name: str, own: Manifest) -> StoredFolder:
        if not name:
            return StoredFolder(self.url, self.root, fixed=own)
        return StoredFolder(f"{self.url}/{name}", self.path(name), fixed=own)

    # --- the folder and its manifest

    def require_folder(self) -> None:
        """There are no folders in a bucket; that it can be read is seen when it is."""

    def is_finished(self) -> bool:
        return self._fixed is not None or self.objects.size(manifest.NAME) is not None

    def foreign(self, ours: Callable[[str], bool]) -> str | None:
        below = f"{work_folder.NAME}/"
        for found in self.objects.listed():
            name = found.name
            if name == object_lock.NAME or (name.startswith(below) and ours(name.removeprefix(below))):
                continue
            return name
        return None

    def refresh(self) -> None:
        if self._fixed is not None:
            return
        _, there = self._stored_manifest()
        if there is None:
            raise self._no_corpus()
        self._manifest = there

    def _stored_manifest(self) -> tuple[Found | None, Manifest | None]:
        """The manifest's object as it is now, and what it says; None, None where there is none."""
        found = self.objects.get(manifest.NAME)
        if found is None:
            return None, None
        where = f"{self.url}/{manifest.NAME}"
        return found, Manifest.from_json(checked_json.decode(found.data, where), where)

    def _no_corpus(self) -> errors.CorpusError:
        if self.work.has_plan():
            return errors.CorpusError(
                f"the corpus in {self.url} is not finished; run the same `memcorpus build` again"
            )
        return errors.CorpusError(f"{self.url} holds no corpus: there is no {manifest.NAME} in it")

    def write_manifest(self, new: Manifest) -> None:
        """One conditional put, in the place of the manifest that this job has seen and of no other.

        Raises:
            CorpusError: another job has the lock, or has written the manifest.
        """
        assert self._fixed is None, "the corpus's manifest speaks of its segments"
        known = self._manifest
        if self._lock is None:
            raise RuntimeError("a manifest is written by the job that is alone; see `alone`")
        self._lock.require()
        found, there = self._stored_manifest()
        try:
            if there != known:
                raise TakenError(manifest.NAME)
            state = None if found is None else found.state
            self.objects.put_if(manifest.NAME, checked_json.encode(new.to_json()), state)
        except TakenError as e:
            raise errors.CorpusError(
                f"{self.url} was changed by another job while this one was at work; nothing was made "
                "visible: run the command again"
            ) from e
        self._manifest = new

    @contextmanager
    def alone(self, *, checking: bool = False) -> Iterator[None]:
        """See `CorpusFolder.alone`; the lock is an object, see `object_lock`."""
        with object_lock.held(self.objects) as lock:
            if not checking:
                self._refuse_generations()
            self._clear()  # what was read before the lock, which may have changed since
            self._lock = lock
            try:
                yield
            finally:
                self._lock = None
                self._clear()

    def _refuse_generations(self) -> None:
        _, there = self._stored_manifest()
        if there is not None and there.generations:
            raise errors.CorpusError(
                f"{self.url} has generations of an update, and such a corpus is changed on a disk alone: "
                "change a copy there, and put that into the bucket"
            )

    def _clear(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True, exist_ok=True)

    # --- files

    def entry(self, path: Path) -> FileEntry:
        found = super().entry(path)
        self.objects.put_file(found.path, path)
        return found

    def placed(self, path: Path, measured: files.Measured) -> FileEntry:
        found = super().placed(path, measured)
        self.objects.put_file(found.path, path)
        path.unlink(missing_ok=True)
        return found

    def publish(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self.objects.put_file(self.relative(path), path)

    def bring(self, folder: str) -> None:
        def get(found: Listed) -> None:
            self.objects.get_file(found.name, self.path(found.name), found.bytes)

        listed = self.objects.listed(f"{folder}/")
        with ThreadPoolExecutor(_BROUGHT) as pool:
            while batch := list(islice(listed, _BATCH)):
                list(pool.map(get, batch))

    @contextmanager
    def borrowed(self, folder: str, names: Iterable[str]) -> Iterator[Json]:
        """They are copied here for so long; into a folder of its own, as others may borrow the same."""
        own = self.path(f"{_BORROWED}/{uuid.uuid4().hex}")

        def get(name: str) -> None:
            if not self.objects.get_file(f"{folder}/{name}", own / name):
                raise errors.DamagedError(f"{self.url}/{folder}/{name} is missing")

        try:
            with ThreadPoolExecutor(_BROUGHT) as pool:
                list(pool.map(get, names))
            yield {"driver": "file", "path": f"{own.resolve()}/"}
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def scanned(self, folder: str) -> Json:
        """Its files are copied here: read there, an array takes a request or two for each chunk."""
        self.bring(folder)
        return {"driver": "file", "path": f"{self.path(folder).resolve()}/"}

    def take(self, made: Path, entry: FileEntry) -> bool:
        if made.is_file():
            found = files.measure(made)
            if same := (found.bytes, found.crc32) == (entry.bytes, entry.crc32):
                self.objects.put_file(entry.path, made)
            return same
        # Made by a worker, who has put it where the job told it to.
        name = self.relative(made)
        if same := self.is_same(name, entry):
            self.objects.copy(name, entry.path)
        return same

    def is_same(self, name: str, entry: FileEntry) -> bool:
        size = self.objects.size(name)
        return size == entry.bytes and self.objects.crc32(name, entry.bytes) == entry.crc32

    def damage(self, entry: FileEntry, *, full: bool = True) -> str | None:
        file_names.inside(self.root, entry.path)
        if not full and self._sizes is not None and self._sizes.get(entry.path) == entry.bytes:
            return None
        return self.objects.damage(entry, full=full)

    def stamp(self, name: str) -> str:
        found = self.objects.head(name)
        return "" if found is None else f"{found.bytes} {found.changed_ns} {found.e_tag}"

    def require_whole(self, entry: FileEntry) -> None:
        if wrong := files.damage(self.root, entry):
            raise errors.DamagedError(f"{wrong}; run `memcorpus verify`")

    def look(self) -> None:
        self._sizes = _Sizes((found.name, found.bytes) for found in self.objects.listed())

    def bytes_of(self, name: str) -> int:
        whole = self.objects.size(name)
        return sum(found.bytes for found in self.objects.listed(f"{name}/")) if whole is None else whole

    def bytes_on_disk(self) -> int:
        return sum(found.bytes for found in self.objects.listed())

    def names(self) -> Iterator[str]:
        return (found.name for found in self.objects.listed() if found.name != object_lock.NAME)

    def below(self, folder: str) -> list[str]:
        return self.objects.children(f"{folder}/")

    def leftovers(self) -> Iterator[str]:
        """A put leaves nothing half written that has a name."""
        return iter(())

    def remove(self, name: str) -> None:
        self.objects.delete([name])
        self.objects.delete_below(f"{name}/")

    def remove_folder(self, name: str) -> None:
        self.objects.delete_below(f"{name}/")

    def disk(self) -> Path | None:
        return None

    def _read_json(self, relative: str) -> Json | None:
        found = self.objects.get(relative)
        return None if found is None else checked_json.decode(found.data, f"{self.url}/{relative}")

    def _blocks(self, entry: FileEntry) -> Iterator[bytes]:
        size = self.objects.size(entry.path)
        if size is None:
            raise errors.DamagedError(f"{self.url}/{entry.path} is missing")
        return self.objects.blocks(entry.path, min(size, entry.bytes))


class _Sizes:
    """Sizes of all objects, by name: 16 bytes for each, of whatever length the names are."""

    def __init__(self, listed: Iterable[tuple[str, int]]) -> None:
        pairs = array("Q")
        for name, size in listed:
            pairs.append(_hash(name))
            pairs.append(size)
        import numpy as np

        found = np.frombuffer(pairs, np.uint64).reshape(-1, 2) if pairs else np.zeros((0, 2), np.uint64)
        found = found[np.argsort(found[:, 0], kind="stable")]
        self._hashes, self._bytes = found[:, 0], found[:, 1]

    def get(self, name: str) -> int | None:
        wanted = _hash(name)
        at = bisect_left(self._hashes, wanted)
        return int(self._bytes[at]) if at < len(self._hashes) and self._hashes[at] == wanted else None


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


def _scratch_of(url: str) -> Path:
    """A folder of this process's own: what others have in theirs may be of another build.

    It goes with the process. Those of processes that were killed go when the next one starts on this machine.
    """
    cache = remote.cache_of(url)
    folder = cache.with_name(f"{cache.name}{_SCRATCH}")
    machine = blake2b(processes.machine().encode(), digest_size=6).hexdigest()
    for left in folder.glob(f"{machine}-*:*"):
        if not processes.lives(left.name.removeprefix(f"{machine}-")):
            shutil.rmtree(left, ignore_errors=True)
    own = folder / f"{machine}-{processes.named()}"
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own


# As `folder._OPEN`.
_OPEN: Final[weakref.WeakValueDictionary[tuple[str, Path | None], StoredFolder]] = (
    weakref.WeakValueDictionary()
)
_OPENING: Final = threading.Lock()


def _opened(url: str, scratch: Path | None) -> StoredFolder:
    with _OPENING:
        return _OPEN.get((url, scratch)) or StoredFolder(url, scratch)


def _segment(url: str, fixed: Manifest) -> StoredFolder:
    return StoredFolder(url, fixed=fixed)


def open_for_writing(url: str | Path) -> CorpusFolder:
    """The folder that a path or URL names, for what writes, checks or reports on a corpus.

    Raises:
        CorpusError: it names a place that can be read alone, or that is not known.
    """
    if remote.is_remote(url):
        scheme = urlsplit(str(url)).scheme
        if scheme not in SCHEMES:
            raise errors.CorpusError(
                f"corpus {url} can be read alone: written and checked are local folders, "
                f"{' and '.join(f'{name}://' for name in SCHEMES)}"
            )
        return StoredFolder(str(url))
    return remote.open_folder(url)
