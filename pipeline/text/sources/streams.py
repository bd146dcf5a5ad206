"""Where the streams of a bzip2 file start: from a multistream index, or found in the file."""

from __future__ import annotations

import bz2
import re
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.text.sources import blocks
from pipeline.text.sources.base import SourceError, reading

# A stream's header and the mark of its first block. Inside a stream nothing is byte-aligned, so a
# chance match is rare (2**-76 a byte); what looks like a start is still tried before it is used.
_START = re.compile(rb"BZh[1-9]1AY&SY")
_START_BYTES = 10
_SCAN_BYTES = 1 << 20
# A block of bzip2 holds 900 kB, and is hardly longer when it cannot be compressed.
_BLOCK_BYTES = 2 << 20

# The mark that ends a stream, before its 32-bit checksum and up to seven bits of padding.
_END = 0x177245385090
_END_BITS = 48
# Some writers fill a file up with zeros.
_TAIL_BYTES = 1 << 16

_MULTISTREAM = re.compile(r"(.*multistream)(\d*)\.xml(.*)")
_INDEX_LINE = re.compile(rb"^(\d+):", re.MULTILINE)


def index_of(file: Path) -> Path | None:
    """The multistream index beside `file`, by Wikimedia's naming, if there is one."""
    found = _MULTISTREAM.fullmatch(file.name)
    if found is None:
        return None
    stem, number, rest = found.groups()
    name = f"{stem}-index{number}.txt{rest}"
    for candidate in (name, name.removesuffix(".bz2")):
        if (index := file.with_name(candidate)).is_file():
            return index
    return None


def choose_starts(file: Path, split_bytes: int, index: Path | None) -> list[int]:
    """Stream starts at least `split_bytes` apart, the first one 0.

    Without an index the file is searched: from each start, as far as the next one lies; to the end
    if there is one stream only.

    Raises:
        SourceError: the index names a byte where no stream starts, or cannot be read.
    """
    size = file.stat().st_size
    with reading(file), file.open("rb") as stream:
        found = _from_index(index, size) if index else None
        starts = [0]
        while (target := starts[-1] + split_bytes) < size:
            if found is None:
                start = _search(stream, target)
            else:
                place = bisect_left(found, target)
                start = found[place] if place < len(found) else None
            if start is None:
                break
            if index and not _is_start(stream, start):
                raise SourceError(
                    f"{index} names byte {start:,} of {file.name}, and no bzip2 stream starts "
                    "there; get index and dump of the same date, or remove the index"
                )
            starts.append(start)
    return starts


def _from_index(index: Path, size: int) -> list[int]:
    starts: list[int] = []
    rest = b""
    for block in blocks.open_blocks(index, 0, index.stat().st_size):
        lines, newline, rest = (rest + block).rpartition(b"\n")
        starts += _offsets(index, lines + newline, starts[-1] if starts else -1)
    starts += _offsets(index, rest, starts[-1] if starts else -1)
    if not starts or starts[-1] >= size:
        what = f"ends at byte {starts[-1]:,}" if starts else "names no stream"
        raise SourceError(
            f"{index} {what}, the dump beside it has {size:,} bytes; "
            "get both whole and of the same date, or remove the index"
        )
    return starts


def _offsets(index: Path, lines: bytes, last: int) -> Iterator[int]:
    """The stream starts that lines of "start:page id:title" name, each once."""
    if lines.strip() and not _INDEX_LINE.match(lines):
        raise SourceError(f"{index} is no multistream index: no line is START:PAGE_ID:TITLE")
    for text in _INDEX_LINE.findall(lines):
        start = int(text)
        if start < last:
            raise SourceError(f"{index} names byte {start:,} after byte {last:,}; get it again")
        if start > last:
            yield start
            last = start


def require_end(file: Path) -> None:
    """Tell at once, from its last bytes, that a file was cut off; reading it would tell at the end.

    Raises:
        SourceError: the file does not end as a bzip2 stream does.
    """
    size = file.stat().st_size
    with reading(file), file.open("rb") as stream:
        stream.seek(max(0, size - _TAIL_BYTES))
        tail = stream.read()
    kept = tail.rstrip(b"\0")
    # The checksum itself may end in zeros.
    window = tail[max(0, len(kept) - 16) : len(kept) + 4]
    bits = int.from_bytes(window, "big")
    ends = (bits >> shift & (1 << _END_BITS) - 1 == _END for shift in range(8 * len(window)))
    if kept and not any(ends):
        raise SourceError(
            f"{file} is cut off: it ends at byte {size:,}, inside a bzip2 stream; finish its download"
        )


def _search(stream: BinaryIO, position: int) -> int | None:
    """The first stream that starts at `position` or later."""
    kept = b""
    while True:
        stream.seek(position + len(kept))
        data = stream.read(_SCAN_BYTES)
        if not data:
            return None
        data = kept + data
        for found in _START.finditer(data):
            if _is_start(stream, position + found.start()):
                return position + found.start()
        kept = data[-(_START_BYTES - 1) :]
        position += len(data) - len(kept)


def _is_start(stream: BinaryIO, position: int) -> bool:
    """Whether a first block can be decompressed from `position`."""
    stream.seek(position)
    if not _START.match(stream.read(_START_BYTES)):
        return False
    stream.seek(position)
    decompressor = bz2.BZ2Decompressor()
    for _ in range(_BLOCK_BYTES // _SCAN_BYTES + 1):
        data = stream.read(_SCAN_BYTES)
        if not data:
            return False
        try:
            if decompressor.decompress(data, 1) or decompressor.eof:
                return True
        except OSError:
            return False
    return False
