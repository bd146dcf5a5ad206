"""DPR's `psgs_w100.tsv`: 21 M passages of 100 words, which stay the passages they are.

Tab-separated `id`, `text`, `title` with a header, quoted as Python's csv module writes it. A quoted
field may hold newlines, so a split begins at a newline with an even number of quotes before it;
finding it reads the file once. A .gz or .bz2 file is one split.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.text.articles import EMPTY, Article, Dropped, Page, Quarantined, Section
from pipeline.text.sources import base, kinds, lines, plain
from pipeline.text.sources.base import Meter, Source, SourceError, Split

FORMAT = "dpr"
PATTERNS = ("*.tsv", "*.tsv.gz", "*.tsv.bz2")

HEADER = ("id", "text", "title")
_READ_BYTES = 4 << 20
_MAX_FIELD_CHARS = 64 << 20


@dataclass(frozen=True)
class Dpr:
    """Files of DPR passages."""

    files: tuple[Path, ...]
    format: str = FORMAT

    def splits(self, split_bytes: int) -> list[Split]:
        """Byte ranges that begin at rows, of `split_bytes` or a row more; reads the files once."""
        base.check_split_bytes(split_bytes)
        return [
            split
            for file in self.files
            for split in base.byte_splits(
                FORMAT, file, starts=_starts(file, split_bytes), size_bytes=file.stat().st_size
            )
        ]


def open_files(files: tuple[Path, ...]) -> Source:
    """See `base.open_source`."""
    for file in files:
        line = lines.first_line(file).rstrip(b"\r")
        names = tuple(name.strip('"') for name in line.decode("utf-8", "replace").split("\t"))
        if names != HEADER:
            raise SourceError(
                f"{file}: its first line is {line[:60].decode('utf-8', 'replace')!r}, wanted the "
                f"header {'<tab>'.join(HEADER)} of psgs_w100.tsv"
            )
    return Dpr(files)


def _starts(file: Path, split_bytes: int) -> list[int]:
    starts = [0]
    if kinds.compression(kinds.head_of(file)) is not None:
        return starts
    size = file.stat().st_size
    quotes = position = 0
    with file.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            counted = 0  # bytes of the block whose quotes are in `quotes`
            while (target := starts[-1] + split_bytes) <= position + len(block):
                # A row starts after a newline, so the newline lies at target - 1 or later.
                newline = block.find(b"\n", max(counted, target - 1 - position))
                while newline >= 0:
                    quotes += block.count(b'"', counted, newline)
                    counted = newline
                    if quotes % 2 == 0:
                        break
                    newline = block.find(b"\n", newline + 1)
                if newline < 0 or position + newline + 1 >= size:
                    break
                starts.append(position + newline + 1)
            quotes += block.count(b'"', counted)
            position += len(block)
    return starts


def read(split: Split, meter: Meter) -> Iterator[Page]:
    """The rows of the split, each an article of one passage; a row's id is its page id.

    Raises:
        SourceError: the last row is cut off: a quote is open, or the file ends without a newline
            (a title that was cut cannot be told from a short one).
    """
    # Process-wide, and only ever larger: the default of 128 KiB is less than a row may have.
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_FIELD_CHARS))
    rows = csv.reader(_text(split, meter), delimiter="\t", strict=True)
    header = split.start == 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise SourceError(
                    f"{split.path} is cut off: it ends inside a quoted field; finish its download"
                ) from error
            yield Quarantined(page_id="", title="", reason=f"row is not read: {error}")
            continue
        if header:
            header = False
        elif row:
            yield _page(row)


def _page(row: list[str]) -> Page:
    if len(row) != len(HEADER):
        page_id = plain.title(row[0])[:40]
        reason = f"row has {len(row)} fields, wanted {len(HEADER)}"
        return Quarantined(page_id=page_id, title="", reason=reason)
    page_id, title = plain.title(row[0]), plain.title(row[2])
    text = plain.paragraphs(row[1])
    if not page_id:
        return Quarantined(page_id="", title=title, reason="row has no id")
    if not text:
        return Dropped(reason=EMPTY)
    section = Section(path=(), text=text)
    return Article(page_id=page_id, title=title, sections=(section,), split=False)


def _text(split: Split, meter: Meter) -> Iterator[str]:
    for line in lines.read_lines(split, meter):
        if line.data is None:
            raise SourceError(
                f"{split.path}: the line at byte {line.start:,} is longer than "
                f"{lines.MAX_LINE_BYTES:,} bytes; is it a DPR file?"
            )
        if not line.ended:
            raise SourceError(
                f"{split.path} is cut off: its last line, at byte {line.start:,}, has no newline; "
                "finish its download, or end the file with a newline if it is whole"
            )
        # The csv module takes a carriage return outside quotes for a row's end, and writes it unquoted.
        text = line.data.decode("utf-8", "replace").removesuffix("\r").replace("\r", " ")
        yield (text.removeprefix("\ufeff") if line.start == 0 else text) + "\n"
