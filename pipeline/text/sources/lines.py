"""Lines of a text file by byte range: a line belongs to the split in which it starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.text.sources import base, kinds
from pipeline.text.sources.base import Split, SplitProgress
from pipeline.text.sources.blocks import open_blocks
from storage import stored_file

# Longer than any article as JSON. A longer line is skipped without being held in memory.
MAX_LINE_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line without its newline; `start` is its first byte in the (uncompressed) file.

    `data` is None for a line over `MAX_LINE_BYTES`. `ended` is False for a last line that has no
    newline.
    """

    start: int
    data: bytes | None
    ended: bool = True


def split_file(name: str, file: Path, split_bytes: int) -> list[Split]:
    """Byte ranges of `file`; one, where it is compressed."""
    base.check_split_bytes(split_bytes)
    size = file.stat().st_size
    compressed = kinds.compression(kinds.head_of(file)) is not None
    starts = [0] if compressed else list(range(0, size, split_bytes))
    return base.byte_splits(name, file, starts=starts, size_bytes=size)


def first_line(file: Path) -> bytes:
    """The first line of a file that is not blank, or the beginning of it, from its first 64 KiB.

    Raises:
        SourceError: the file cannot be read, is empty, or is damaged at once.
    """
    kinds.head_of(file)
    data = b""
    for block in open_blocks(file, 0, file.stat().st_size):
        data += block
        if b"\n" in data.lstrip() or len(data) >= 64 << 10:
            break
    data = data[: 64 << 10].removeprefix(b"\xef\xbb\xbf")
    return data.lstrip().split(b"\n", 1)[0]


def read_lines(split: Split, progress: SplitProgress, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """The lines that start in the split.

    Raises:
        SourceError: a compressed file is cut off or damaged.
    """
    # One byte earlier: a newline there means that a line starts at the first byte.
    begin = max(0, split.start - 1)
    blocks = open_blocks(stored_file.at(split.path), begin, split.stop)
    rest = bytearray()
    start = begin  # of the line that `rest` is the beginning of
    skipping = split.start > 0  # the line that the previous split owns
    too_long = False
    position = begin
    for block in blocks:
        offset = 0
        while (newline := block.find(b"\n", offset)) >= 0:
            rest += block[offset:newline]
            if not skipping:
                progress.advance_to(position + newline + 1 - split.start)
                progress.text_bytes = position + newline + 1 - begin
                long = too_long or len(rest) > max_line_bytes
                yield Line(start=start, data=None if long else bytes(rest))
            offset = newline + 1
            rest.clear()
            skipping = too_long = False
            start = position + offset
            if blocks.limit is not None and start - begin >= blocks.limit:
                return
        if not skipping:
            rest += block[offset:]
            if len(rest) > max_line_bytes:
                too_long = True
                rest.clear()
        position += len(block)
    if (rest or too_long) and not skipping:
        yield Line(start=start, data=None if too_long else bytes(rest), ended=False)
