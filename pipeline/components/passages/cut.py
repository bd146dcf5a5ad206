"""An article becomes rows of the passage table: passages of so many words, or chunks of so many tokens.

Chunks' tokens travel beside the rows until all have their ids: in a Parquet file for each split, parallel to
its part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NotRequired

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from encoders.document_tokenizer import DocumentTokenizer
from encoders.template import PassageText
from pipeline.components.vectors import require_planned
from pipeline.text import articles, chunks, passages
from pipeline.units import work
from storage import files, ids
from storage.work_folder import WorkFolder

_TOKENS: Final = ".tokens"
# The folder of the stage that reads splits; its own module imports this one.
_SPLITS: Final = "splits"


@dataclass(frozen=True, kw_only=True)
class TokenCut:
    """Passages are runs of tokens.

    Attributes:
        passage_tokens: of a chunk, at most.
        tokenizer: name or folder.
        fingerprint: of its files, as the plan saw them.
        dtype: in which its ids are stored.
    """

    passage_tokens: int
    tokenizer: str
    fingerprint: str
    dtype: str


class PassageRow(PassageText):
    """A row of the passage table, without the id that it gets when all passages are numbered.

    A chunk's has its tokens too: ids as stored, how many are some, and how many special ones its document
    left out (told by its first chunk).
    """

    passage_key: bytes
    page_id: str
    ordinal: int
    words: int
    tokens: NotRequired[bytes]
    length: NotRequired[int]
    special: NotRequired[int]


@work.Once
def load_tokenizer(cut: TokenCut) -> DocumentTokenizer:
    """The tokenizer of a plan, loaded once a process."""
    tokenizer = DocumentTokenizer(cut.tokenizer)
    require_planned(cut.tokenizer, tokenizer.fingerprint.hex, cut.fingerprint)
    return tokenizer


def passage_rows(article: articles.Article, cut: int | TokenCut) -> Sequence[PassageRow]:
    """The passages of an article as rows of the passage table, which have no ids yet.

    Args:
        article: what is cut.
        cut: words of a passage, at most; or how to cut tokens.
    """
    if isinstance(cut, int):
        splitter = json.dumps(passages.splitter(cut), sort_keys=True)
        return [_row(article, passage, splitter) for passage in passages.passages(article, cut)]
    splitter = json.dumps(chunks.splitter(cut.passage_tokens, cut.fingerprint), sort_keys=True)
    found = load_tokenizer(cut)(chunks.document(article))
    stored = found.ids.astype(np.dtype(cut.dtype).newbyteorder("<"))
    rows = []
    for chunk in chunks.chunks(article, found.starts, cut.passage_tokens):
        row = _row(article, chunk, splitter)
        whole = np.zeros(cut.passage_tokens, stored.dtype)
        whole[: chunk.stop - chunk.first] = stored[chunk.first : chunk.stop]
        row["tokens"] = whole.tobytes()
        row["length"] = chunk.stop - chunk.first
        row["special"] = 0 if chunk.ordinal else found.special
        rows.append(row)
    return rows


def _row(article: articles.Article, passage: passages.Passage, splitter: str) -> PassageRow:
    key = ids.passage_key(
        article.page_id, passage.section, passage.ordinal, text=passage.text, splitter=splitter
    )
    return {
        "passage_key": key,
        "page_id": article.page_id,
        "title": article.title,
        "section": list(passage.section),
        "ordinal": passage.ordinal,
        "text": passage.text,
        "words": passage.words,
    }


def tokens_path(work_folder: WorkFolder, split: int) -> Path:
    """Where the tokens of a split's rows wait for their ids."""
    return work_folder.side_file(_SPLITS, split, _TOKENS)


def tokens_schema(cut: TokenCut) -> pa.Schema:
    """Of that file."""
    width = cut.passage_tokens * np.dtype(cut.dtype).itemsize
    return pa.schema(
        [
            pa.field("ordinal", pa.int32(), nullable=False),
            pa.field("length", pa.int32(), nullable=False),
            pa.field("special", pa.int32(), nullable=False),
            pa.field("tokens", pa.binary(width), nullable=False),
        ]
    )


@contextmanager
def writing_tokens(
    path: Path, cut: TokenCut
) -> Iterator[Callable[[Sequence[PassageRow]], Sequence[PassageRow]]]:
    """Write the tokens of rows, whole or not at all: a function that takes note of rows and returns them."""
    schema = tokens_schema(cut)
    with (
        files.aside(path) as partial,
        pq.ParquetWriter(partial, schema, compression="zstd", write_page_checksum=True) as writer,
    ):

        def write(rows: Sequence[PassageRow]) -> Sequence[PassageRow]:
            writer.write_batch(pa.RecordBatch.from_pylist(list(rows), schema=schema))
            return rows

        yield write
