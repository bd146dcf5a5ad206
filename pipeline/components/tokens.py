"""Tokens of chunks: put into arrays by passage id, committed, made again.

They were cut with the passages; what is done here, once the chunks have their ids, is to copy them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from encoders import fingerprint
from encoders.document_tokenizer import DocumentTokenizer
from pipeline.components.base import Remaking
from pipeline.components.passages import cut, number, read
from pipeline.components.passages.cut import TokenCut
from pipeline.components.settings import BuildSettings
from pipeline.components.shards import ShardCounts
from pipeline.units.meter import Meter, worker_name
from pipeline.units.stage import Stage
from storage import components, errors, file_list, ids, passage_table, row_array
from storage.aliases import AnyArray
from storage.components import Component, TokensCard
from storage.components import tokens as tokens_component
from storage.components.tokens import LENGTHS, ORDINALS, VALUES, TokensLayout, TokenTotals
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Counts, Receipt


@dataclass(frozen=True, kw_only=True)
class TokenCounts(Counts):
    """Chunks of a shard, and what they hold; see `TokenTotals`."""

    passages: int = 0
    documents: int = 0
    tokens: int = 0
    unknown: int = 0
    special: int = 0
    short: int = 0


STAGE: Final = Stage(name="tokens", title="store tokens", counts=TokenCounts, measure="passages")


@dataclass(frozen=True, kw_only=True)
class TokensPlan:
    """Tokens that are to be stored: how they were cut, by which tokenizer, and in what arrays."""

    cut: TokenCut
    tokenizer: fingerprint.Fingerprint
    vocabulary: int
    layout: TokensLayout


@dataclass(frozen=True, kw_only=True)
class OpenedTokenizer:
    """A tokenizer that cuts passages, and how."""

    cut: TokenCut
    fingerprint: fingerprint.Fingerprint
    vocabulary: int

    def plan(self, passages: int) -> TokensPlan:
        """What is stored of so many chunks."""
        layout = TokensLayout.sized(
            passages=passages, passage_tokens=self.cut.passage_tokens, vocabulary=self.vocabulary
        )
        return TokensPlan(cut=self.cut, tokenizer=self.fingerprint, vocabulary=self.vocabulary, layout=layout)


def open_tokenizer(settings: BuildSettings) -> OpenedTokenizer | None:
    """The tokenizer that a build names, if it cuts passages by one.

    Raises:
        EncoderError: it is none.
    """
    if settings.passage_tokens is None or settings.tokenizer is None:
        return None
    opened = DocumentTokenizer(settings.tokenizer)
    taken = TokenCut(
        passage_tokens=settings.passage_tokens,
        tokenizer=settings.tokenizer,
        fingerprint=opened.fingerprint.hex,
        dtype=tokens_component.token_dtype(opened.vocabulary),
    )
    return OpenedTokenizer(cut=taken, fingerprint=opened.fingerprint, vocabulary=opened.vocabulary)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Some chunks: their tokens [rows, passage_tokens], and of each its length, its ordinal and what its
    document left out."""

    values: AnyArray
    lengths: AnyArray
    ordinals: AnyArray
    special: int

    def arrays(self) -> Mapping[str, AnyArray]:
        return {VALUES: self.values, LENGTHS: self.lengths, ORDINALS: self.ordinals}

    @classmethod
    def of(cls, table: pa.Table, cut: TokenCut) -> Rows:
        """Of rows as `cut.tokens_schema` has them."""
        column = table.column("tokens").combine_chunks()
        data = b"".join(column.to_pylist())
        values = np.frombuffer(data, np.dtype(cut.dtype).newbyteorder("<")).reshape(-1, cut.passage_tokens)
        return cls(
            values=values.astype(cut.dtype, copy=False),
            lengths=table.column("length").to_numpy().astype(np.uint16),
            ordinals=table.column("ordinal").to_numpy().astype(np.int32),
            special=int(table.column("special").to_numpy().sum()),
        )


def create(corpus: CorpusFolder, layout: TokensLayout, folder: str) -> list[str]:
    """Write the arrays' metadata, before any worker writes data. Returns the files, below the corpus."""
    made = []
    for name, array in layout.arrays.items():
        path = row_array.create(corpus.path(f"{folder}/{name}"), array, {})
        made.append(corpus.relative(path))
    corpus.publish(map(corpus.path, made))
    return made


@dataclass(frozen=True, kw_only=True)
class StoreTokens:
    """Copies the tokens of shards out of what the splits left, into `folder` below the corpus."""

    corpus: CorpusFolder
    plan: TokensPlan
    folder: str
    stage: Stage[TokenCounts] = STAGE

    @functools.cached_property
    def _parts(self) -> tuple[dict[str, int], ...]:
        return number.read_parts(self.corpus.work)

    def run(self, unit: int, meter: Meter) -> Receipt[TokenCounts]:
        first, stop = self.plan.layout.grid.bounds(unit)
        with meter.time("reading"):
            table = pa.concat_tables(self._tables(first, stop))
            rows = Rows.of(table, self.plan.cut)
        return write(self.corpus, self.plan, self.folder, unit, rows, meter)

    def _tables(self, first: int, stop: int) -> Iterator[pa.Table]:
        """The rows of passages first to stop, from the files of the splits that they lie in."""
        for part in self._parts:
            begin, end = part["first_passage_id"], part["first_passage_id"] + part["rows"]
            if begin < stop and first < end:
                path = self.corpus.work.here(cut.tokens_path(self.corpus.work, part["split"]))
                yield _rows_of(path, part["rows"], max(first, begin) - begin, min(stop, end) - begin)


def _rows_of(path: object, rows: int, first: int, stop: int) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            groups = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            firsts = np.array(ids.first_ids(groups), np.int64)
            if firsts[-1] != rows:
                raise errors.DamagedError(f"{path} has {firsts[-1]} rows of tokens, wanted {rows}")
            low = int(np.searchsorted(firsts, first, side="right")) - 1
            high = int(np.searchsorted(firsts, stop, side="left"))
            table = file.read_row_groups(list(range(low, high)))
            return table.slice(first - int(firsts[low]), stop - first)
    except (pa.ArrowException, OSError) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise errors.DamagedError(f"{path} was changed since it was written: {e}") from e


def write(
    corpus: CorpusFolder, plan: TokensPlan, folder: str, unit: int, rows: Rows, meter: Meter
) -> Receipt[TokenCounts]:
    """Write a shard's arrays; the receipt says what is in them."""
    layout = plan.layout
    full = rows.lengths == layout.passage_tokens
    # Behind a short chunk its document ends; what else would follow is another document's.
    follows = np.append(rows.ordinals[1:] != 0, False)
    if (rows.lengths < 1).any() or (~full & follows).any():
        raise errors.DamagedError(f"shard {unit} has a chunk of tokens that is cut short, wanted full ones")
    with meter.time("writing"):
        entries = []
        for name, values in rows.arrays().items():
            path, measured = row_array.write_shard(
                corpus.path(f"{folder}/{name}"), layout.arrays[name], unit, values
            )
            entries.append(corpus.placed(path, measured))
    some = rows.values[np.arange(layout.passage_tokens) < rows.lengths[:, None]]
    tokenizer = cut.load_tokenizer(plan.cut)
    if some.max() >= plan.vocabulary:
        raise errors.DamagedError(f"shard {unit} has token {some.max()} of {plan.vocabulary}")
    meter.count("passages", len(full))
    return Receipt(
        unit=unit,
        files=tuple(entries),
        counts=TokenCounts(
            passages=len(full),
            documents=int(np.count_nonzero(rows.ordinals == 0)),
            tokens=len(some),
            unknown=tokenizer.count_unknown(some),
            special=rows.special,
            short=int(np.count_nonzero(~full)),
        ),
        seconds=dict(meter.seconds),
        worker=worker_name(),
    )


class CommitTokens:
    """Adds up the shards, lists their files, and writes the card; see `base.Commit`."""

    component: Component[TokensCard] = components.TOKENS

    def __init__(self, corpus: CorpusFolder, plan: TokensPlan) -> None:
        self._corpus, self._plan = corpus, plan

    def add(self, receipt: Receipt[ShardCounts]) -> None:
        """Shards of vectors and memory have no part in it."""

    def finish(self) -> tuple[str, FileEntry]:
        """See `base.Commit`.

        Raises:
            CorpusError: chunks or documents are not those that were read.
        """
        corpus, plan = self._corpus, self._plan
        folder = components.TOKENS.folder("")
        path = corpus.path(f"{folder}/{file_list.NAME}")
        written = file_list.Writer(path)
        for name in tokens_component.metadata_paths(plan.layout):
            written.add(corpus.entry(corpus.path(f"{folder}/{name}")))
        sums = TokenCounts()
        for receipt in corpus.work.receipts(STAGE.name, range(plan.layout.grid.shards), STAGE.counts):
            sums += receipt.counts
            for entry in receipt.files:
                written.add(entry)
        written.close()
        splits = corpus.work.receipts(
            read.STAGE.name, range(len(read.read_splits(corpus.work))), read.STAGE.counts
        )
        kept = sum(receipt.counts.kept for receipt in splits)
        for what, found, wanted in (
            ("chunks", sums.passages, plan.layout.grid.passages),
            ("documents", sums.documents, kept),
        ):
            if found != wanted:
                raise errors.CorpusError(
                    f"tokens of {found} {what} were stored, {wanted} were read; the corpus is not committed"
                )
        card = TokensCard(
            tokenizer=plan.tokenizer.hex,
            tokenizer_files={k: str(v) for k, v in plan.tokenizer.description["files"].items()},
            vocabulary=plan.vocabulary,
            layout=plan.layout,
            counts=TokenTotals(
                documents=sums.documents,
                tokens=sums.tokens,
                unknown=sums.unknown,
                special=sums.special,
                short=sums.short,
            ),
            files=corpus.entry(path),
        )
        return card.name, corpus.write_card(components.TOKENS, card)


_SHARD: Final = re.compile(r"tokens/([a-z]+)/c/(\d+)(?:/0)?")


@dataclass(frozen=True, kw_only=True)
class CutTokens:
    """Cuts the tokens of shards again out of the passages' texts, which put together are the documents."""

    corpus: CorpusFolder
    parts: tuple[passage_table.Part, ...]
    plan: TokensPlan
    folder: str
    stage: Stage[TokenCounts] = STAGE

    def run(self, unit: int, meter: Meter) -> Receipt[TokenCounts]:
        first, stop = self.plan.layout.grid.bounds(unit)
        table = passage_table.PassageTable(self.corpus.root, self.parts, ensure=self.corpus.ensure)
        tokenizer = cut.load_tokenizer(self.plan.cut)
        wanted = self.plan.layout.passage_tokens
        with meter.time("reading"):
            begin = first - int(table.read(first, first + 1).column("ordinal")[0].as_py())
            rows = _documents(table, begin, stop)
        values = np.zeros((stop - first, wanted), self.plan.layout.dtype)
        lengths = np.zeros(stop - first, np.uint16)
        ordinals = np.zeros(stop - first, np.int32)
        special = 0
        with meter.time("tokenizing"):
            for at, texts in rows:
                found = tokenizer("".join(texts))
                if -(-len(found.ids) // wanted) != len(texts):
                    raise errors.DamagedError(
                        f"the document of passages {at} to {at + len(texts) - 1} has {len(found.ids)} tokens "
                        f"by this tokenizer, wanted {len(texts)} chunks of {wanted}"
                    )
                special += found.special if at >= first else 0
                for ordinal in range(len(texts)):
                    row = at + ordinal - first
                    if 0 <= row < stop - first:
                        ids_ = found.ids[ordinal * wanted : (ordinal + 1) * wanted]
                        values[row, : len(ids_)], lengths[row], ordinals[row] = ids_, len(ids_), ordinal
        made = Rows(values=values, lengths=lengths, ordinals=ordinals, special=special)
        return write(self.corpus, self.plan, self.folder, unit, made, meter)


def _documents(table: passage_table.PassageTable, begin: int, stop: int) -> Iterator[tuple[int, list[str]]]:
    """The documents that begin from `begin` on and before `stop`: (first id, texts of the chunks) of each."""
    texts: list[str] = []
    at = begin
    for first in range(begin, len(table), passage_table.ROW_GROUP):
        rows = table.read(first, min(first + passage_table.ROW_GROUP, len(table)))
        pairs = zip(rows.column("ordinal").to_pylist(), rows.column("text").to_pylist(), strict=True)
        for number_, (ordinal, text) in enumerate(pairs, first):
            if ordinal == 0 and texts:
                yield at, texts
                texts, at = [], number_
                if number_ >= stop:
                    return
            texts.append(text)
    if texts:
        yield at, texts


def remake(remaking: Remaking, name: str, damaged: Iterable[str]) -> None:
    """Make damaged files again: metadata from the card, shards from the passages' texts."""
    corpus = remaking.corpus
    card = corpus.card(components.TOKENS, name)
    folder = components.TOKENS.folder(name)
    staged = remaking.staged(folder)
    for made in create(corpus, card.layout, staged):
        remaking.offer(made.removeprefix(f"{staged.removesuffix(folder)}"), corpus.path(made))
    paths = {path: int(found[2]) for path in damaged if (found := _SHARD.fullmatch(path))}
    shards = remaking.give_up_emptied(card.layout.grid, paths)
    if not shards:
        return
    tokenizer = remaking.model("tokenizer", "")
    plan = TokensPlan(
        cut=TokenCut(
            passage_tokens=card.passage_tokens,
            tokenizer=tokenizer,
            fingerprint=card.tokenizer,
            dtype=card.layout.dtype,
        ),
        tokenizer=fingerprint.Fingerprint(card.tokenizer, {}),
        vocabulary=card.vocabulary,
        layout=card.layout,
    )
    job = CutTokens(corpus=corpus, parts=corpus.passages.parts, plan=plan, folder=staged)
    remaking.run(STAGE, job, shards, card.layout.grid.shards, staged)
    for path in paths:
        remaking.offer(path, corpus.path(remaking.staged(path)))
