"""An object store as a corpus is written there: objects by name below one prefix, whole or absent.

A put is the atomic step. Requests that fail for a while are tried again, a bounded number of times with
jitter, and counted. A put that must be the only one carries a name of its writer: where the store refuses
it, whoever has won is read back, since the answer to a put that succeeded may have been lost.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

from storage import errors, files, s3_credentials
from storage.files import FileEntry

T = TypeVar("T")

SCHEMES: Final = ("s3", "gs")
# An S3 server other than Amazon's: the variable that Amazon's own tools read.
S3_ENDPOINT: Final = "AWS_ENDPOINT_URL"
# A server of Google's protocol other than Google's: the variable that obstore reads.
GCS_ENDPOINT: Final = "GOOGLE_BASE_URL"
# Tries of a request, and seconds before the second; they double, up to a most, and are drawn at random below.
TRIES: Final = 8
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
CONNECT_SECONDS: Final = 10
# Without a byte, and of a whole request.
READ_SECONDS: Final = 60
REQUEST_SECONDS: Final = 300
# What is read by one request, and a part of what is put by several.
BLOCK_BYTES: Final = 16 << 20
# Larger files are put in parts.
WHOLE_BYTES: Final = 32 << 20
PARTS_AT_A_TIME: Final = 4
DELETES_AT_A_TIME: Final = 1000
# The user's metadata that names the writer of a conditional put.
WRITER: Final = "memcorpus-writer"

_used = False
_lost = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """An object as a listing has it: its name below the prefix, its size, when it was put, and what tells
    that state of it from another."""

    name: str
    bytes: int
    changed_ns: int = 0
    e_tag: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """An object that was read: its bytes, who wrote it where it says so, and what stands for this very
    state of it in a conditional put."""

    data: bytes
    bytes: int
    writer: str | None
    state: Mapping[str, str | None]


class TakenError(Exception):
    """A conditional put came too late: another's object is there, or what it was to replace is gone."""


class Traffic:
    """Requests and bytes of this process, by kind; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._told: Counter[str] = Counter()

    def add(self, **counts: int) -> None:
        with self._lock:
            self._counts.update(counts)

    def counts(self) -> dict[str, int]:
        """gets, puts, lists, deletes, copies, retries; bytes_got, bytes_put. Each part is a put."""
        with self._lock:
            return dict(self._counts)

    def since_told(self) -> dict[str, int]:
        """What has come since this was asked last, each name with "store " before it."""
        with self._lock:
            new = self._counts - self._told
            self._told = self._counts.copy()
        return {f"store {name.replace('_', ' ')}": count for name, count in new.items()}


TRAFFIC: Final = Traffic()


class ObjectStore:
    """Objects below a URL: s3://bucket/prefix or gs://bucket/prefix. Thread-safe; not in a forked process."""

    def __init__(self, url: str) -> None:
        """
        Raises:
            CorpusError: the URL names no bucket, obstore is not installed, or keys are of a kind that it
                cannot use.
        """
        global _used
        if _lost:
            raise errors.CorpusError(
                f"{url} cannot be written in a process that was forked after its parent had used an object "
                "store: start processes by spawn"
            )
        try:
            import obstore
            import obstore.exceptions
        except ImportError as e:
            raise errors.CorpusError(
                f"{url}: obstore is not installed, and writes to object stores; pip install "
                "'memcorpus[stores]'"
            ) from e
        _used = True
        self.url = url.rstrip("/")
        self._library: Any = obstore
        # Retries are ours, to be counted; but parts of a large object are better sent again than all of it.
        self._store = _open(self.url, retries=0)
        self._parts = _open(self.url, retries=TRIES - 1)

    # --- reading

    def get(self, name: str, *, most: int | None = None) -> Found | None:
        """An object whole; None where there is none. One of more than `most` bytes comes without them."""

        def read() -> Found:
            result = self._library.get(self._store, name)
            size = int(result.meta["size"])
            data = b"" if most is not None and size > most else bytes(result.bytes())
            if data and len(data) != size:
                raise _Short(f"{name} gave {len(data):,} bytes of {size:,}")
            state = {"e_tag": result.meta["e_tag"], "version": result.meta["version"]}
            writer = {str(k).lower(): v for k, v in result.attributes.items()}.get(WRITER)
            return Found(data=data, bytes=size, writer=writer, state=state)

        try:
            found = self._tried(f"{self.url}/{name}", read)
        except FileNotFoundError:
            return None
        TRAFFIC.add(gets=1, bytes_got=len(found.data))
        return found

    def head(self, name: str) -> Listed | None:
        """What a listing would say of an object; None where there is none."""
        try:
            found = self._tried(f"{self.url}/{name}", lambda: self._library.head(self._store, name))
        except FileNotFoundError:
            return None
        finally:
            TRAFFIC.add(gets=1)
        return _listed(found, name)

    def size(self, name: str) -> int | None:
        """Bytes of an object; None where there is none."""
        found = self.head(name)
        return None if found is None else found.bytes

    def blocks(self, name: str, size: int) -> Iterator[bytes]:
        """An object of a known size, a block at a time.

        Raises:
            DamagedError: it is gone, or ends before.
        """
        for start in range(0, size, BLOCK_BYTES):
            yield self.range(name, start, min(BLOCK_BYTES, size - start))

    def range(self, name: str, start: int, length: int) -> bytes:
        """Some bytes of an object, 1 or more.

        Raises:
            DamagedError: it is gone, or ends before.
        """
        what = f"{self.url}/{name}"

        def read() -> bytes:
            data = bytes(self._library.get_range(self._store, name, start=start, length=length))
            if len(data) != length:
                raise _Short(f"{what} gave {len(data):,} bytes of {length:,}")
            return data

        try:
            data = self._tried(what, read)
        except FileNotFoundError as e:
            raise errors.DamagedError(f"{what} is missing") from e
        TRAFFIC.add(gets=1, bytes_got=length)
        return data

    def damage(self, entry: FileEntry, *, full: bool = True) -> str | None:
        """As `files.damage`, of what is stored there; with `full` every byte is read."""
        size = self.size(entry.path)
        if size is None:
            return f"{entry.path} is missing"
        if size != entry.bytes:
            return f"{entry.path} has {size:,} bytes, wanted {entry.bytes:,}"
        if full and (found := self.crc32(entry.path, size)) != entry.crc32:
            return f"{entry.path} has CRC-32 {found:08x}, wanted {entry.crc32:08x}"
        return None

    def crc32(self, name: str, size: int) -> int:
        """Of an object's bytes, as they come over the network."""
        value = 0
        for block in self.blocks(name, size):
            value = zlib.crc32(block, value)
        return value

    def get_file(self, name: str, path: Path, size: int | None = None) -> bool:
        """Copy an object to a file, which appears whole; False where there is none.

        Args:
            name: of the object.
            path: of the file; folders above it are made.
            size: of the object, where it is known: large ones are got in blocks.
        """
        if size is None or size <= BLOCK_BYTES:
            found = self.get(name, most=BLOCK_BYTES)
            if found is None:
                return False
            blocks: Iterable[bytes] = (found.data,)
            if len(found.data) != found.bytes:
                blocks = self.blocks(name, found.bytes)
        else:
            blocks = self.blocks(name, size)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = files.partial_path(path)
        try:
            with partial.open("xb") as file:
                for block in blocks:
                    file.write(block)
            partial.replace(path)  # a copy: no fsync, what is damaged is copied again
        finally:
            partial.unlink(missing_ok=True)
        return True

    def _list(self, prefix: str) -> Iterator[Listed]:
        what = f"{self.url}/{prefix}"
        batches = self._library.list(self._store, prefix=prefix or None, chunk_size=1000)
        while True:
            # A listing cannot go on where it failed: what it has given out must not come again.
            try:
                batch = next(batches, None)
            except Exception as e:
                raise self._refused(what, e) from e
            TRAFFIC.add(lists=1)
            if batch is None:
                return
            for found in batch:
                yield _listed(found, found["path"])

    def listed(self, prefix: str = "") -> Iterator[Listed]:
        """All objects whose names begin so, `prefix` being "" or ending with a slash, in order.

        Tried again where it fails: names that were given out already are passed over.
        """
        last = ""
        for time_tried in range(1, TRIES + 1):
            try:
                for found in self._list(prefix):
                    if found.name > last:
                        last = found.name
                        yield found
                return
            except errors.UnreadableError:
                if time_tried == TRIES:
                    raise
                _pause(time_tried)

    def children(self, prefix: str) -> list[str]:
        """What lies right below a prefix that ends with a slash: objects and, as of folders, prefixes."""
        what = f"{self.url}/{prefix}"

        def read() -> list[str]:
            result = self._library.list_with_delimiter(self._store, prefix=prefix)
            names = [*result["common_prefixes"], *(found["path"] for found in result["objects"])]
            return sorted(str(name).strip("/") for name in names)

        TRAFFIC.add(lists=1)
        return self._tried(what, read)

    # --- writing

    def put(self, name: str, data: bytes) -> None:
        """Put a small object, in place of whatever has its name."""
        self._put(name, lambda: self._library.put(self._store, name, data, use_multipart=False))
        TRAFFIC.add(puts=1, bytes_put=len(data))

    def put_file(self, name: str, path: Path) -> None:
        """Put a file, a large one in parts."""
        size = path.stat().st_size
        if size <= WHOLE_BYTES:
            self.put(name, path.read_bytes())
            return
        self._put(
            name,
            lambda: self._library.put(
                self._parts,
                name,
                path,
                use_multipart=True,
                chunk_size=BLOCK_BYTES,
                max_concurrency=PARTS_AT_A_TIME,
            ),
        )
        TRAFFIC.add(puts=-(-size // BLOCK_BYTES) + 2, bytes_put=size)

    def _put(self, name: str, call: Callable[[], object]) -> None:
        try:
            self._tried(f"{self.url}/{name}", call)
        except FileNotFoundError as e:
            raise self._no_bucket() from e

    def _no_bucket(self) -> errors.CorpusError:
        return errors.CorpusError(f"{self.url} cannot be used: there is no such bucket; make it first")

    def put_if(self, name: str, data: bytes, state: Mapping[str, str | None] | None) -> Found:
        """Put an object only if it is as it was read, or, with None, if there is none.

        Returns:
            What is there now.

        Raises:
            TakenError: it is not: another has written it, or it is gone.
            UnreadableError: the store cannot be reached, or refuses; whether it was put is not known.
        """
        writer = uuid.uuid4().hex
        mode: Any = "create" if state is None else {k: v for k, v in state.items() if v is not None}
        exceptions = self._library.exceptions
        what = f"{self.url}/{name}"
        for time_tried in range(1, TRIES + 1):
            try:
                result = self._library.put(
                    self._store, name, data, attributes={WRITER: writer}, mode=mode, use_multipart=False
                )
                TRAFFIC.add(puts=1, bytes_put=len(data))
                new = {"e_tag": result["e_tag"], "version": result["version"]}
                return Found(data=data, bytes=len(data), writer=writer, state=new)
            except (
                exceptions.AlreadyExistsError,
                exceptions.PreconditionError,
                exceptions.NotFoundError,
            ) as e:
                TRAFFIC.add(puts=1)
                refusal: Exception = e
            except exceptions.GenericError as e:
                TRAFFIC.add(puts=1)
                refusal = e
            except Exception as e:
                raise self._refused(what, e) from e
            # A 412 may be the answer to our own second try, and a 409, which the library does not tell from
            # it, says no more than that two came at once.
            found = self.get(name)
            if found is not None and found.writer == writer:
                return found
            unchanged = found is None if state is None else found is not None and found.state == state
            if not unchanged:
                raise TakenError(name) from refusal
            if time_tried == TRIES:
                raise self._refused(what, refusal) from refusal
            TRAFFIC.add(retries=1)
            _pause(time_tried)
        raise AssertionError("the last try returns or raises")

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are not there are none to delete."""
        batch: list[str] = []
        for name in names:
            batch.append(name)
            if len(batch) == DELETES_AT_A_TIME:
                self._delete(batch)
                batch = []
        if batch:
            self._delete(batch)

    def _delete(self, names: list[str]) -> None:
        try:
            self._tried(self.url, lambda: self._library.delete(self._store, names))
        except FileNotFoundError:
            if len(names) > 1:  # a store that stops at the first that is not there
                for name in names:
                    self._delete([name])
                return
        TRAFFIC.add(deletes=len(names))

    def delete_below(self, prefix: str) -> None:
        """Delete all whose names begin so."""
        self.delete(found.name for found in self.listed(prefix))

    def copy(self, name: str, to: str) -> None:
        """Copy an object within the store.

        Raises:
            DamagedError: there is none.
        """
        what = f"{self.url}/{name}"
        try:
            self._tried(what, lambda: self._library.copy(self._store, name, to, overwrite=True))
        except FileNotFoundError as e:
            raise errors.DamagedError(f"{what} is missing") from e
        TRAFFIC.add(copies=1)

    # --- tries

    def _tried(self, what: str, call: Callable[[], T]) -> T:
        """Make a call, again where it fails for a reason that may pass.

        Raises:
            FileNotFoundError: there is no such object.
            UnreadableError: it failed to the last; or the store refuses.
        """
        exceptions = self._library.exceptions
        time_tried = 1
        while True:
            try:
                return call()
            except (exceptions.NotFoundError, FileNotFoundError) as e:
                raise FileNotFoundError(what) from e
            except (exceptions.GenericError, exceptions.JoinError, _Short, OSError) as e:
                final = getattr(e, "errno", None) is not None or "NoSuchBucket" in str(e)
                if time_tried == TRIES or final:
                    raise self._refused(what, e) from e
                TRAFFIC.add(retries=1)
                _pause(time_tried)
                time_tried += 1
            except exceptions.BaseError as e:
                raise self._refused(what, e) from e

    def _refused(self, what: str, error: Exception) -> errors.UnreadableError | errors.CorpusError:
        if isinstance(error, errors.UnreadableError | errors.CorpusError):
            return error
        if "NoSuchBucket" in str(error):
            return self._no_bucket()
        told = " ".join(str(error).split("\n")[0].split())[:300]
        return errors.UnreadableError(
            f"{what} cannot be read or written ({told}); look after the network, the bucket and the keys, "
            "and run the same command again: what is done is kept"
        )


def _listed(found: Mapping[str, Any], name: str) -> Listed:
    changed = found["last_modified"]
    return Listed(
        name=name,
        bytes=int(found["size"]),
        changed_ns=int(changed.timestamp() * 1_000_000) * 1000,
        e_tag=str(found["e_tag"] or ""),
    )


class _Short(Exception):
    """A body that ended before its length."""


def _pause(time_tried: int) -> None:
    time.sleep(random.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2**time_tried))


def _open(url: str, *, retries: int) -> Any:
    from obstore import store as stores

    parts = urlsplit(url)
    if not parts.netloc:
        raise errors.CorpusError(f"{url} names no bucket; wanted {parts.scheme}://bucket/path")
    prefix = unquote(parts.path).strip("/") or None
    client: Any = {
        "timeout": timedelta(seconds=REQUEST_SECONDS),
        "read_timeout": timedelta(seconds=READ_SECONDS),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
    }
    retry: Any = {
        "max_retries": retries,
        "backoff": {
            "init_backoff": timedelta(seconds=FIRST_PAUSE),
            "max_backoff": timedelta(seconds=LONGEST_PAUSE),
        },
    }
    if parts.scheme == "gs":
        if os.environ.get(GCS_ENDPOINT, "").startswith("http://"):
            client["allow_http"] = True
        return stores.GCSStore(parts.netloc, prefix=prefix, client_options=client, retry_config=retry)
    config: dict[str, Any] = {"conditional_put": "etag", **s3_credentials.for_writing()}
    config.setdefault("region", _region())
    if endpoint := os.environ.get(S3_ENDPOINT):
        config["endpoint"] = endpoint
        client["allow_http"] = True
    return stores.S3Store(parts.netloc, prefix=prefix, client_options=client, retry_config=retry, **config)


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _after_fork() -> None:
    global _lost
    _lost = _lost or _used


os.register_at_fork(after_in_child=_after_fork)
