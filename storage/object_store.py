"""An object store as a corpus is written there: objects by name below one prefix, whole or absent.

A put is the atomic step. One that must be the only one carries a name of its writer: where the store refuses
it, whoever has won is read back, since the answer to a put that succeeded may have been lost.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from storage import bucket, errors, files
from storage.bucket import Bucket
from storage.files import FileEntry
from storage.traffic import TRAFFIC

# What is read by one request, and a part of what is put by several.
BLOCK_BYTES: Final = 16 << 20
# Larger files are put in parts.
WHOLE_BYTES: Final = 32 << 20
PARTS_AT_A_TIME: Final = 4
DELETES_AT_A_TIME: Final = 1000
# The user's metadata that names the writer of a conditional put.
WRITER: Final = "memcorpus-writer"


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


class ObjectStore:
    """Objects below a URL: s3://bucket/prefix or gs://bucket/prefix. Thread-safe; not in a forked process."""

    def __init__(self, url: str) -> None:
        """
        Raises:
            CorpusError: the URL names no bucket, obstore is not installed, or keys are of a kind that it
                cannot use.
        """
        self._bucket = Bucket(url)
        self.url = self._bucket.url
        self._library = self._bucket.library
        self._store = self._bucket.store

    # --- reading

    def get(self, name: str, *, most: int | None = None) -> Found | None:
        """An object whole; None where there is none. One of more than `most` bytes comes without them."""

        def read() -> Found:
            result = self._library.get(self._store, name)
            size = int(result.meta["size"])
            data = b"" if most is not None and size > most else bytes(result.bytes())
            if data and len(data) != size:
                raise bucket.ShortError(f"{name} gave {len(data):,} bytes of {size:,}")
            state = {"e_tag": result.meta["e_tag"], "version": result.meta["version"]}
            writer = {str(k).lower(): v for k, v in result.attributes.items()}.get(WRITER)
            return Found(data=data, bytes=size, writer=writer, state=state)

        try:
            found = self._bucket.tried(f"{self.url}/{name}", read)
        except FileNotFoundError:
            return None
        TRAFFIC.add(gets=1, bytes_got=len(found.data))
        return found

    def head(self, name: str) -> Listed | None:
        """What a listing would say of an object; None where there is none."""
        try:
            found = self._bucket.tried(f"{self.url}/{name}", lambda: self._library.head(self._store, name))
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
                raise bucket.ShortError(f"{what} gave {len(data):,} bytes of {length:,}")
            return data

        try:
            data = self._bucket.tried(what, read)
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
                raise self._bucket.refused(what, e) from e
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
        for time_tried in range(1, bucket.TRIES + 1):
            try:
                for found in self._list(prefix):
                    if found.name > last:
                        last = found.name
                        yield found
                return
            except errors.UnreadableError:
                if time_tried == bucket.TRIES:
                    raise
                bucket.pause(time_tried)

    def children(self, prefix: str) -> list[str]:
        """What lies right below a prefix that ends with a slash: objects and, as of folders, prefixes."""
        what = f"{self.url}/{prefix}"

        def read() -> list[str]:
            result = self._library.list_with_delimiter(self._store, prefix=prefix)
            names = [*result["common_prefixes"], *(found["path"] for found in result["objects"])]
            return sorted(str(name).strip("/") for name in names)

        TRAFFIC.add(lists=1)
        return self._bucket.tried(what, read)

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
                self._bucket.parts,
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
            self._bucket.tried(f"{self.url}/{name}", call)
        except FileNotFoundError as e:
            raise self._bucket.missing() from e

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
        for time_tried in range(1, bucket.TRIES + 1):
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
                raise self._bucket.refused(what, e) from e
            # A 412 may be the answer to our own second try, and a 409, which the library does not tell from
            # it, says no more than that two came at once.
            found = self.get(name)
            if found is not None and found.writer == writer:
                return found
            unchanged = found is None if state is None else found is not None and found.state == state
            if not unchanged:
                raise TakenError(name) from refusal
            if time_tried == bucket.TRIES:
                raise self._bucket.refused(what, refusal) from refusal
            TRAFFIC.add(retries=1)
            bucket.pause(time_tried)
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
            self._bucket.tried(self.url, lambda: self._library.delete(self._store, names))
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
            self._bucket.tried(what, lambda: self._library.copy(self._store, name, to, overwrite=True))
        except FileNotFoundError as e:
            raise errors.DamagedError(f"{what} is missing") from e
        TRAFFIC.add(copies=1)


def _listed(found: Mapping[str, Any], name: str) -> Listed:
    changed = found["last_modified"]
    return Listed(
        name=name,
        bytes=int(found["size"]),
        changed_ns=int(changed.timestamp() * 1_000_000) * 1000,
        e_tag=str(found["e_tag"] or ""),
    )
