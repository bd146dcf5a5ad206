"""DPR's `psgs_w100.tsv`: 21 M passages of 100 words, which stay the passages they are.

Tab-separated `id`, `text`, `title` with a header; `tsv_rows` says what a row is. A quoted field may
hold newlines, so that where rows begin is found by reading the file once. A .gz or .bz2 file is one
split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.text.articles import EMPTY, Article, Dropped, Page, Quarantined, Section
from pipeline.text.sources import base, kinds, lines, plain, tsv_rows
from pipeline.text.sources.base import Source, SourceError, Split, SplitProgress
from storage import stored_file

FORMAT = "dpr"
PATTERNS = ("*.tsv", "*.tsv.gz", "*.tsv.bz2")

HEADER = ("id", "text", "title")


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
    whole = Split(format=FORMAT, path=str(file), start=0, stop=size, size_bytes=size)
    rows = tsv_rows.rows_of(lines.read_lines(whole, SplitProgress(size)), len(HEADER), to_end=True)
    next((row for row in rows if not _is_blank(row)), None)  # the header
    for row in rows:
        if (start := row.lines[0].start) - starts[-1] >= split_bytes:
            starts.append(start)
    return starts


def read(split: Split, progress: SplitProgress) -> Iterator[Page]:
    """The rows of the split, each an article of one passage; a row's id is its page id.

    Raises:
        SourceError: the last row is cut off: a quote is open, or the file ends without a newline
            (a title that was cut cannot be told from a short one).
    """
    header = split.start == 0
    to_end = split.stop >= stored_file.at(split.path).stat().st_size
    for row in tsv_rows.rows_of(lines.read_lines(split, progress), len(HEADER), to_end=to_end):
        _require_whole(split, row)
        if _is_blank(row):
            continue
        if header:
            header = False
        else:
            yield _page(tsv_rows.fields_of(row, len(HEADER)))


def _is_blank(row: tsv_rows.Row) -> bool:
    """Whether a row is a blank line; one of as many empty fields as wanted is none."""
    data = row.lines[0].data or b""
    if len(row.lines) > 1 or data.count(b"\t") == len(HEADER) - 1:
        return False
    return not data.removeprefix(b"\xef\xbb\xbf").strip()


def _require_whole(split: Split, row: tsv_rows.Row) -> None:
    first, last = row.lines[0], row.lines[-1]
    if first.data is None:
        raise SourceError(
            f"{split.path}: the line at byte {first.start:,} is longer than "
            f"{lines.MAX_LINE_BYTES:,} bytes; is it a DPR file?"
        )
    if not last.ended:
        raise SourceError(
            f"{split.path} is cut off: its last line, at byte {last.start:,}, has no newline; "
            "finish its download, or end the file with a newline if it is whole"
        )
    if row.open:
        raise SourceError(
            f"{split.path} is cut off: it ends inside the quoted field of the row at byte "
            f"{first.start:,}; finish its download"
        )


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
