"""A corpus in an object store, with a local cache of its small files.

It is read as the same files. Manifest, cards, parts and index are copied into the cache when they are
first needed, and checked like those of a local one; memory and vectors are read by byte ranges. What writes
such a corpus is `stored_folder`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import tensorstore as ts

from storage import errors, files, manifest, s3_credentials, tensorstore_use
from storage.aliases import Json
from storage.bucket import S3_ENDPOINT
from storage.folder import CorpusFolder
from storage.manifest import Manifest

# TensorStore's drivers, by the scheme of a URL.
SCHEMES: Final = ("s3", "gs", "http", "https")
_BLOCK_BYTES: Final = 64 << 20


class RemoteFolder(CorpusFolder):
    """A corpus in an object store, for reading; `root` is the cache."""

    def __init__(self, url: str, cache: Path | None = None, *, fixed: Manifest | None = None) -> None:
        """
        Raises:
            CorpusError: the URL cannot be opened.
        """
        self.url = url.rstrip("/")
        super().__init__(cache or cache_of(self.url), fixed=fixed)
        self.root.mkdir(parents=True, exist_ok=True)
        self._spec = _spec(self.url)
        tensorstore_use.begin(self.url)
        try:
            self._store = ts.KvStore.open(self._spec).result()
        except ValueError as e:
            raise errors.CorpusError(f"corpus {url} cannot be opened: {e}") from e

    def __str__(self) -> str:
        return self.url

    @property
    def place(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[object, ...]:
        return _opened, (self.url, self.root, self._fixed)

    def segment(self, name: str, own: Manifest) -> RemoteFolder:
        if not name:
            return RemoteFolder(self.url, self.root, fixed=own)
        return RemoteFolder(f"{self.url}/{name}", self.path(name), fixed=own)

    def alone(self, *, checking: bool = False) -> AbstractContextManager[None]:
        """
        Raises:
            CorpusError: always; `stored_folder.StoredFolder` is for those who write.
        """
        raise errors.CorpusError(f"{self.url} is open for reading, and cannot be written")

    def refresh(self) -> None:
        if self._fixed is not None:
            return
        data = self._read(manifest.NAME)
        if data is None:
            raise errors.CorpusError(f"{self.url} holds no corpus: there is no {manifest.NAME} in it")
        path = self.root / manifest.NAME
        if not path.exists() or files.read_bytes(path) != data:
            files.write_atomic(path, data)
        super().refresh()

    def ensure(self, *entries: files.FileEntry) -> None:
        for entry in entries:
            if files.damage(self.root, entry) is None:
                continue
            path = self.path(entry.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = files.partial_path(path)
            try:
                with partial.open("xb") as file:
                    for data in self._blocks(entry):
                        file.write(data)
                files.finish_partial(partial, path)
            finally:
                partial.unlink(missing_ok=True)
            if wrong := files.damage(self.root, entry):
                path.unlink()
                raise errors.DamagedError(f"{self.url}: {wrong}")

    def read_range(self, entry: files.FileEntry, first: int, stop: int) -> bytes:
        """Bytes of a file that lies there, of which nothing is kept here.

        Raises:
            DamagedError: it is missing.
            UnreadableError: the store cannot be reached, or refuses.
        """
        data = self._read(entry.path, slice(first, stop))
        if data is None:
            raise errors.DamagedError(f"{self.url}/{entry.path} is missing")
        return data

    def _blocks(self, entry: files.FileEntry) -> Iterator[bytes]:
        """A file as it is stored there, a piece at a time."""
        for first in range(0, max(entry.bytes, 1), _BLOCK_BYTES):
            data = self._read(entry.path, slice(first, min(first + _BLOCK_BYTES, entry.bytes)))
            if data is None:
                raise errors.DamagedError(f"{self.url}/{entry.path} is missing")
            yield data

    def store(self, folder: str) -> Json:
        return {**self._spec, "path": f"{self._spec['path']}{folder}/"}

    @property
    def values(self) -> ts.KvStore:
        return self._store

    def _read(self, name: str, part: slice | None = None) -> bytes | None:
        return read(self._store, name, part, self.url)


def _opened(url: str, cache: Path, fixed: Manifest | None) -> RemoteFolder:
    return RemoteFolder(url, cache, fixed=fixed)


def cache_of(url: str) -> Path:
    """Where copies of a corpus's small files are kept, if nobody says where."""
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "memcorpus" / name


def read(store: ts.KvStore, name: str, part: slice | None, url: str) -> bytes | None:
    """Bytes of an object, or None where it is not there.

    Raises:
        UnreadableError: the store cannot be reached, or refuses.
        DamagedError: the object ends before.
        CorpusError: in a process that was forked since the store was opened.
    """
    if part is not None and part.start == part.stop:
        part = None
    tensorstore_use.begin(f"{url}/{name}")
    try:
        result = store.read(name, byte_range=part).result()
    except ValueError as e:
        raise tensorstore_use.failure(f"{url}/{name}", e, tensorstore_use.OF_BYTES) from e
    return None if result.state == "missing" else bytes(result.value)


def _spec(url: str) -> Json:
    parts = urlsplit(url)
    path = unquote(parts.path).strip("/")
    folder = f"{path}/" if path else ""
    if parts.scheme in ("http", "https"):
        return {"driver": "http", "base_url": f"{parts.scheme}://{parts.netloc}", "path": f"/{folder}"}
    spec: Json = {
        "driver": {"s3": "s3", "gs": "gcs"}[parts.scheme],
        "bucket": parts.netloc,
        "path": folder,
    }
    if parts.scheme == "s3" and (endpoint := os.environ.get(S3_ENDPOINT)):
        spec |= {"endpoint": endpoint, "aws_region": os.environ.get("AWS_REGION", "us-east-1")}
    if parts.scheme == "s3":
        spec |= {"aws_credentials": s3_credentials.chosen()}
    return spec


def is_remote(url: str | Path) -> bool:
    """Does it name an object store?"""
    return isinstance(url, str) and "://" in url and urlsplit(url).scheme in SCHEMES


def open_folder(url: str | Path, cache: Path | None = None) -> CorpusFolder:
    """The corpus folder that a path or URL names.

    Args:
        url: a folder, a file:// URL, or s3://bucket/path, gs://bucket/path, http(s)://host/path.
        cache: where a remote corpus's small files are kept; by default below ~/.cache/memcorpus.

    Raises:
        CorpusError: a scheme that is not known.
    """
    if isinstance(url, Path):
        return CorpusFolder(url)
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return CorpusFolder(Path(unquote(parts.path)))
    if is_remote(url):
        return RemoteFolder(url, cache)
    if "://" in url:
        known = ", ".join(f"{scheme}://" for scheme in ("file", *SCHEMES))
        raise errors.CorpusError(f"corpus {url!r} cannot be opened: known are local paths, {known}")
    return CorpusFolder(Path(url))
