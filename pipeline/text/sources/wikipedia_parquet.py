"""Parquet as Hugging Face's `wikimedia/wikipedia` has it: `id`, `url`, `title`, `text`.

Headings are plain lines of `text` and cannot be told from short paragraphs, so an article is one section
without a path; its end may be one more, which is no prose. `url`, where it is there, tells the language. A
split is a run of row groups; its `start` and `stop` count them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.text.articles import EMPTY, Article, Dropped, Page, Quarantined
from pipeline.text.sources import base, kinds, plain
from pipeline.text.sources.base import Source, SourceError, Split, SplitProgress, reading
from storage import errors, stored_file

FORMAT = "wikipedia"
PATTERNS = ("*.parquet",)
COLUMNS = ("id", "title", "text")
_URL = "url"
_BATCH_ROWS = 512


@dataclass(frozen=True)
class WikipediaParquet:
    """Parquet files of articles."""

    files: tuple[Path, ...]
    format: str = FORMAT

    def splits(self, split_bytes: int) -> list[Split]:
        """Runs of row groups that begin within `split_bytes` of their first."""
        base.check_split_bytes(split_bytes)
        return [split for file in self.files for split in _splits(file, split_bytes)]


def open_files(files: tuple[Path, ...]) -> Source:
    """See `base.open_source`."""
    for file in files:
        with _open(file) as parquet:
            schema = parquet.schema_arrow
        if missing := [column for column in COLUMNS if column not in schema.names]:
            raise SourceError(
                f"{file}: column {missing[0]!r} is missing, it has {', '.join(schema.names)}; wanted "
                f"{', '.join(COLUMNS)}"
            )
        for column in COLUMNS:
            if (times := schema.names.count(column)) > 1:
                raise SourceError(f"{file}: column {column!r} is there {times} times, wanted once")
            kind = schema.field(column).type
            if not (_is_string(kind) or (column == "id" and _is_whole(kind))):
                wanted = "strings or whole numbers" if column == "id" else "strings"
                raise SourceError(
                    f"{file}: column {column!r} is {kind}, wanted {wanted}; write it anew with that type"
                )
    return WikipediaParquet(files)


def _is_string(kind: pa.DataType) -> bool:
    """Strings in any of Arrow's layouts; a dictionary's are read as what it holds."""
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or (pa.types.is_dictionary(kind) and _is_string(kind.value_type))
    )


def _is_whole(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or (pa.types.is_dictionary(kind) and pa.types.is_integer(kind.value_type))
    )


def _open(file: Path) -> pq.ParquetFile:
    head = kinds.head_of(file)
    if not head.startswith(b"PAR1"):
        raise SourceError(f"{file}: {kinds.describe(head)}, not Parquet")
    try:
        with reading(file):
            stored = stored_file.is_stored(file)
            return pq.ParquetFile(file.open("rb") if stored else file)
    except errors.UnreadableError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise SourceError(
            f"{file}: its footer cannot be read, so it is cut off or damaged "
            f"({plain.title(str(error))[:120]}); finish its download"
        ) from error


def _splits(file: Path, split_bytes: int) -> list[Split]:
    with _open(file) as parquet:
        sizes = [_group_bytes(parquet, group) for group in range(parquet.num_row_groups)]
    splits: list[Split] = []
    start = 0
    while start < len(sizes):
        stop = start + 1
        while stop < len(sizes) and sum(sizes[start:stop]) < split_bytes:
            stop += 1
        splits.append(
            Split(
                format=FORMAT,
                path=str(file),
                start=start,
                stop=stop,
                size_bytes=sum(sizes[start:stop]),
            )
        )
        start = stop
    return splits


def _group_bytes(parquet: pq.ParquetFile, group: int) -> int:
    metadata = parquet.metadata.row_group(group)
    return sum(metadata.column(column).total_compressed_size for column in range(metadata.num_columns))


def read(split: Split, progress: SplitProgress) -> Iterator[Page]:
    """The articles of the split's row groups.

    `bytes_read` grows with the rows, in proportion within the split.

    Raises:
        SourceError: the file is damaged.
    """
    file = stored_file.at(split.path)
    with _open(file) as parquet:
        groups = list(range(split.start, split.stop))
        total = sum(parquet.metadata.row_group(group).num_rows for group in groups)
        columns = [*COLUMNS, *_url_of(parquet)]
        batches = parquet.iter_batches(
            batch_size=_BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False
        )
        done = 0
        while True:
            try:
                with reading(file):
                    batch = next(batches, None)
            except errors.UnreadableError:
                raise
            except (pa.ArrowException, OSError) as error:
                raise SourceError(
                    f"{file}: row groups {split.start} to {split.stop - 1} are damaged "
                    f"({plain.title(str(error))[:120]}); get the file again"
                ) from error
            if batch is None:
                return
            for row in range(batch.num_rows):
                page_id, title, text, *url = (batch.column(name)[row] for name in columns)
                done += 1
                progress.advance_to(split.size_bytes * done // total)
                yield _page(page_id, title, text, _language(*url), progress)


def _url_of(parquet: pq.ParquetFile) -> list[str]:
    """The column of addresses, where there is one of strings."""
    schema = parquet.schema_arrow
    return [_URL] if schema.names.count(_URL) == 1 and _is_string(schema.field(_URL).type) else []


def _language(url: pa.Scalar | None = None) -> str:
    try:
        return plain.language_of(url.as_py() if url is not None else None)
    except UnicodeDecodeError:
        return plain.language_of(None)


def _page(
    page_id: pa.Scalar, title: pa.Scalar, text: pa.Scalar, language: str, progress: SplitProgress
) -> Page:
    values: dict[str, str] = {}
    for name, scalar in zip(COLUMNS, (page_id, title, text), strict=True):
        try:
            value = scalar.as_py()
        except UnicodeDecodeError:
            return Quarantined(
                page_id=values.get("id", ""),
                title=values.get("title", ""),
                reason=f"{name!r} is no UTF-8",
            )
        if value is None:
            return Quarantined(
                page_id=values.get("id", ""),
                title=values.get("title", ""),
                reason=f"{name!r} is null",
            )
        values[name] = plain.title(str(value)) if name != "text" else value
    if not values["id"]:
        return Quarantined(page_id="", title=values["title"], reason="'id' is empty")
    progress.text_bytes += len(values["text"].encode("utf-8", "replace"))
    sections = plain.sections(values["text"], language)
    if not sections:
        return Dropped(reason=EMPTY)
    return Article(page_id=values["id"], title=values["title"], sections=sections)
