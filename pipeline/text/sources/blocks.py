"""The decompressed bytes of a file from a point on, in blocks, whatever it is packed in.

bzip2 dumps come as one stream, as one stream for a hundred pages ("multistream"), or as one for
every 900 kB with pages cut anywhere (pbzip2). A reader that goes on into the next stream sees no
difference: only where one can *begin* differs.
"""

from __future__ import annotations

import bz2
import codecs
import re
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from pipeline.text.sources import kinds
from pipeline.text.sources.base import SourceError, reading

PLAIN_BLOCK_BYTES = 256 << 10
_READ_BYTES = 64 << 10
_OUTPUT_BYTES = 1 << 20
_BZ2_HEADER = re.compile(rb"BZh[1-9]")


class Blocks(Protocol):
    """Iterable once; the counts are those of the blocks yielded so far."""

    position: int  # byte of the file that has been read up to
    delivered: int  # decompressed bytes
    # How many decompressed bytes belong to the range that was asked for; known at the latest when
    # the first byte after it is yielded. Reading goes on past it, to the end of the file.
    limit: int | None

    def __iter__(self) -> Iterator[bytes]: ...


def open_blocks(file: Path, start: int, stop: int) -> Blocks:
    """The blocks of `file` from byte `start`, with the limit where `stop` lies.

    For bzip2 `start` is where a stream starts, and the limit is the end of the last stream that
    starts before `stop`. gzip is read as a whole.
    """
    match kinds.compression(kinds.head_of(file)):
        case kinds.BZ2:
            return Bz2Blocks(file, start, stop)
        case kinds.GZIP:
            return GzipBlocks(file)
    return PlainBlocks(file, start, stop)


class PlainBlocks:
    """A file as it lies on disk."""

    def __init__(self, file: Path, start: int, stop: int) -> None:
        self._file = file
        self.position = start
        self.delivered = 0
        self.limit: int | None = stop - start

    def __iter__(self) -> Iterator[bytes]:
        with reading(self._file), self._file.open("rb") as stream:
            stream.seek(self.position)
            while block := stream.read(PLAIN_BLOCK_BYTES):
                self.position += len(block)
                self.delivered += len(block)
                yield block


class Bz2Blocks:
    """A bzip2 file from the stream at `start` on: all streams, empty ones and zero padding too.

    Raises while iterated:
        SourceError: the file is cut off inside a stream, damaged, or goes on with something else.
    """

    def __init__(self, file: Path, start: int, stop: int) -> None:
        self._file = file
        self._stop = stop
        self.position = start
        self.delivered = 0
        self.limit: int | None = None

    def __iter__(self) -> Iterator[bytes]:
        with reading(self._file), self._file.open("rb") as stream:
            stream.seek(self.position)
            pending = self._next_header(stream, b"")
            while pending:
                if self.limit is None and self.position >= self._stop:
                    self.limit = self.delivered
                pending = yield from self._stream(stream, pending)
                pending = self._next_header(stream, pending)
            if self.limit is None:
                self.limit = self.delivered

    def _next_header(self, stream: BinaryIO, pending: bytes) -> bytes:
        """Skip zero padding; the bytes from the next stream's header on, or none at the end."""
        while True:
            stripped = pending.lstrip(b"\0")
            self.position += len(pending) - len(stripped)
            pending = stripped
            if len(pending) >= 4 or not (more := stream.read(_READ_BYTES)):
                break
            pending += more
        if not pending or _BZ2_HEADER.match(pending):
            return pending
        if b"BZh".startswith(pending[:3]) and len(pending) < 4:
            raise self._cut_off(self.position, self.position + len(pending))
        raise SourceError(
            f"{self._file}: byte {self.position:,} is neither the start of a bzip2 stream nor "
            f"padding ({kinds.describe(pending)}); the file is damaged, get it again"
        )

    def _stream(self, stream: BinaryIO, pending: bytes) -> Generator[bytes, None, bytes]:
        begin = self.position
        decompressor = bz2.BZ2Decompressor()
        while not decompressor.eof:
            if decompressor.needs_input:
                data = pending or stream.read(_READ_BYTES)
                pending = b""
                if not data:
                    raise self._cut_off(begin, self.position)
                self.position += len(data)
            else:
                data = b""
            try:
                block = decompressor.decompress(data, _OUTPUT_BYTES)
            except (OSError, ValueError) as error:
                raise SourceError(
                    f"{self._file}: the bzip2 stream that starts at byte {begin:,} is damaged "
                    f"before byte {self.position:,}; get the file again"
                ) from error
            if block:
                self.delivered += len(block)
                yield block
        self.position -= len(decompressor.unused_data)
        return decompressor.unused_data

    def _cut_off(self, begin: int, end: int) -> SourceError:
        return SourceError(
            f"{self._file} is cut off: it ends at byte {end:,}, inside the bzip2 stream that starts "
            f"at byte {begin:,}; finish its download"
        )


class GzipBlocks:
    """A gzip file as a whole, all its members.

    Raises while iterated:
        SourceError: the file is cut off or damaged.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.position = 0
        self.delivered = 0
        self.limit: int | None = None

    def __iter__(self) -> Iterator[bytes]:
        with reading(self._file), self._file.open("rb") as stream:
            member = zlib.decompressobj(31)
            while data := stream.read(_READ_BYTES):
                self.position += len(data)
                while data:
                    if member.eof:
                        data = data.lstrip(b"\0")  # padding between and after members
                        if not data:
                            break
                        member = zlib.decompressobj(31)
                    try:
                        block = member.decompress(data, _OUTPUT_BYTES)
                    except zlib.error as error:
                        raise SourceError(
                            f"{self._file}: gzip data is damaged before byte {self.position:,}; "
                            "get the file again"
                        ) from error
                    data = member.unused_data or member.unconsumed_tail
                    if block:
                        self.delivered += len(block)
                        yield block
            if not member.eof:
                raise SourceError(
                    f"{self._file} is cut off: it ends at byte {self.position:,}, inside a gzip "
                    "member; finish its download"
                )
        self.limit = self.delivered


class Transcoded:
    """Blocks of text in another encoding, as UTF-8, for a file that is read as a whole.

    Bytes that are invalid in the encoding become NUL, which no XML may hold: so the page that they
    are in is found to be broken, and no other.
    """

    def __init__(self, blocks: Blocks, encoding: str) -> None:
        self._blocks = blocks
        self._encoding = encoding
        self.delivered = 0
        self.limit: int | None = None

    @property
    def position(self) -> int:
        return self._blocks.position

    @position.setter
    def position(self, value: int) -> None:
        self._blocks.position = value

    def __iter__(self) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(self._encoding)(errors=_MARK_INVALID)
        for block in self._blocks:
            text = decoder.decode(block).encode("utf-8", "replace")
            self.delivered += len(text)
            yield text
        if rest := decoder.decode(b"", final=True):
            text = rest.encode("utf-8", "replace")
            self.delivered += len(text)
            yield text


_MARK_INVALID = "memcorpus-mark-invalid"


def _mark_invalid(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError):
        return "\0", error.end
    raise error


codecs.register_error(_MARK_INVALID, _mark_invalid)
