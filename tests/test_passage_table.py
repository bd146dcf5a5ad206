"""The passage table: rows by id in the order asked, by us, DuckDB and pandas; damage raises."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import errors, files, ids, passage_parts, passage_table
from storage.passage_table import Part, PassageTable


def rows_of(count: int) -> list[dict[str, Any]]:
    return [
        {
            "passage_key": ids.passage_key(str(i), (), 0, text=f"text {i}", splitter="1"),
            "page_id": str(i // 3),
            "title": f"Title {i // 3}",
            "section": ["History", f"S{i}"][: i % 3],
            "ordinal": i % 3,
            "text": f"text {i} – ключ",
            "words": 4,
        }
        for i in range(count)
    ]


def write(root: Path, counts: list[int], monkeypatch: pytest.MonkeyPatch | None = None) -> PassageTable:
    (root / "passages").mkdir()
    rows = rows_of(sum(counts))
    parts = []
    first = 0
    for number, count in enumerate(counts):
        batch = pa.RecordBatch.from_pylist(rows[first : first + count], schema=passage_table.UNNUMBERED)
        source = root / f"unnumbered-{number}"
        assert passage_table.write_part(source, passage_table.UNNUMBERED, iter([batch])) == count
        target = root / "passages" / passage_table.part_name(number)
        assert passage_table.number_part(source, target, first) == count
        parts.append(Part(file=files.entry_of(root, target), first_passage_id=first, rows=count))
        first += count
    return PassageTable(root, parts)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_take_gives_rows_in_the_order_asked(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    monkeypatch.setattr(passage_parts, "GROUP_ROWS", 3)
    monkeypatch.setattr(passage_table, "KEPT_GROUPS", data.draw(st.sampled_from([1, 5, 100])))
    monkeypatch.setattr(passage_table, "_WINDOW", data.draw(st.sampled_from([1, 2, 64])))
    counts = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    table = write(tmp_path_factory.mktemp("t"), counts)
    expected = rows_of(sum(counts))
    wanted = data.draw(st.lists(st.integers(0, sum(counts) - 1), max_size=12))
    found = table.take(wanted)
    assert found.schema.equals(passage_table.SCHEMA)
    assert found.to_pylist() == [{"passage_id": i, **expected[i]} for i in wanted]


def test_duckdb_and_pandas_read_it(tmp_path: Path) -> None:
    write(tmp_path, [5, 4])
    pattern = str(tmp_path / "passages" / "*.parquet")
    found = duckdb.sql(f"select passage_id, title, section, text from '{pattern}' order by 1").fetchall()
    expected = rows_of(9)
    assert found == [(i, r["title"], r["section"], r["text"]) for i, r in enumerate(expected)]
    frame = pd.read_parquet(tmp_path / "passages")
    assert sorted(frame["passage_id"]) == list(range(9))
    assert bytes(frame["passage_key"].iloc[0]) == expected[0]["passage_key"]


def test_unknown_ids_are_named(tmp_path: Path) -> None:
    table = write(tmp_path, [3])
    with pytest.raises(errors.UnknownPassageError, match="passage ids 3, -1: the corpus holds 0 to 2"):
        table.take([0, 3, -1])


def test_every_flipped_byte_raises(tmp_path: Path) -> None:
    table = write(tmp_path, [3])
    path = tmp_path / table.parts[0].file.path
    whole = path.read_bytes()
    right = table.take([0])
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        damaged = PassageTable(tmp_path, table.parts)
        with pytest.raises(errors.DamagedError, match="CRC-32"):
            damaged.first_of(["0"])
        if position < 4:  # the magic number at the beginning, which nothing is made of
            assert damaged.take([0]).equals(right)
            continue
        with pytest.raises(errors.DamagedError, match="CRC-32"):
            damaged.take([0])


def test_parts_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    table = write(tmp_path, [3, 2])
    with pytest.raises(errors.CorpusError, match="wanted 1 or more from 0"):
        PassageTable(tmp_path, table.parts[1:])
    wrong = Part(file=table.parts[0].file, first_passage_id=0, rows=4)
    with pytest.raises(errors.DamagedError, match="3 rows"):
        PassageTable(tmp_path, [wrong]).take([0])


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = write(tmp_path / "a", [7]), write(tmp_path / "b", [7])
    assert one.parts[0].file.crc32 == two.parts[0].file.crc32


class Counting:
    """Ranges out of a folder, as of an object store; `asked` are the bytes of each request."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[int] = []

    def __call__(self, entry: files.FileEntry, first: int, stop: int) -> bytes:
        self.asked.append(stop - first)
        return (self.root / entry.path).read_bytes()[first:stop]


def long_rows(root: Path, rows: int = 3000) -> PassageTable:
    """A part of a dozen row groups, with text that hardly compresses."""
    rng = np.random.default_rng(0)
    (root / "passages").mkdir()
    table = [{"passage_id": i, **row, "text": rng.bytes(400).hex()} for i, row in enumerate(rows_of(rows))]
    path = root / "passages" / passage_table.part_name(0)
    batch = pa.RecordBatch.from_pylist(table, schema=passage_table.SCHEMA)
    passage_table.write_part(path, passage_table.SCHEMA, iter([batch]))
    return PassageTable(root, [Part(file=files.entry_of(root, path), first_passage_id=0, rows=rows)])


def test_rows_are_read_by_ranges_alone(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    local = long_rows(there)
    ranges = Counting(there)
    table = PassageTable(here, local.parts, ranges=ranges, ensure=None)
    wanted = [2999, 5, 5, 1400, 6]
    assert table.take(wanted).equals(local.take(wanted))
    assert table.take([7], columns=["text"]).equals(local.take([7], columns=["text"]))
    # The footer, three row groups, and one again; of a part of 1.3 MB.
    assert len(ranges.asked) == 5
    assert sum(ranges.asked[1:]) < 5 * 130_000 < 0.5 * local.parts[0].file.bytes
    assert table.read(0, 3000).equals(local.read(0, 3000))
    assert len(ranges.asked) == 6  # those that follow each other by one request
    assert list(here.rglob("*.parquet")) == []


def test_damage_in_ranges_raises_or_matters_to_no_row(tmp_path: Path) -> None:
    local = long_rows(tmp_path)
    path = tmp_path / local.parts[0].file.path
    whole = path.read_bytes()
    right = local.read(0, 3000)
    metadata = pq.read_metadata(path)
    rng = np.random.default_rng(1)
    starts = [metadata.row_group(g).column(0).dictionary_page_offset for g in range(metadata.num_row_groups)]
    places = [4, *rng.integers(4, len(whole), 40).tolist(), len(whole) - 1, len(whole) - 6, starts[3] + 1]
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(errors.DamagedError, match="CRC-32"):
            PassageTable(tmp_path, local.parts).read(0, 3000)
        # A row of another group is as it was, or refused: nothing wrong is given.
        for passage in (0, 2999):
            try:
                found = PassageTable(tmp_path, local.parts).take([passage])
            except errors.DamagedError:
                continue
            assert found.equals(right.slice(passage, 1))
    for length in (0, 5, 11, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(errors.DamagedError, match="wanted"):
            PassageTable(tmp_path, local.parts).take([0])
    path.unlink()
    with pytest.raises(errors.DamagedError, match="missing"):
        PassageTable(tmp_path, local.parts).take([0])


def test_another_part_with_sums_of_its_own_is_no_stand_in(tmp_path: Path) -> None:
    """All is right in itself; that it is this part, the card's checksum tells, without reading all of it."""
    local = long_rows(tmp_path)
    (tmp_path / "other").mkdir()
    other = long_rows(tmp_path / "other", 2999)
    path = tmp_path / local.parts[0].file.path
    data = (tmp_path / "other" / other.parts[0].file.path).read_bytes()
    path.write_bytes(data)
    wrong = Part(
        file=files.FileEntry(path=local.parts[0].file.path, bytes=len(data), crc32=local.parts[0].file.crc32),
        first_passage_id=0,
        rows=2999,
    )
    with pytest.raises(errors.DamagedError, match="CRC-32"):
        PassageTable(tmp_path, [wrong]).take([0])


def test_what_the_footer_says_is_what_parquet_says(tmp_path: Path) -> None:
    """Groups lie back to back between the magic number and the footer, as their sums have it."""
    local = long_rows(tmp_path)
    path = tmp_path / local.parts[0].file.path
    whole = path.read_bytes()
    metadata = pq.read_metadata(path)
    groups = passage_parts.groups_of(metadata)
    assert groups is not None
    assert [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)] == [256] * 11 + [184]
    at = 4
    for g, (length, value) in enumerate(groups.tolist()):
        columns = [metadata.row_group(g).column(c) for c in range(metadata.num_columns)]
        begins = [c.dictionary_page_offset or c.data_page_offset for c in columns]
        assert min(begins) == at
        assert sum(c.total_compressed_size for c in columns) == length
        assert zlib.crc32(whole[at : at + length]) == value
        at += length
    assert at + metadata.serialized_size + 8 == len(whole)


@pytest.mark.parametrize("told", [None, b"", b"AAAA", b"!!", "good"])
def test_older_parts_are_read_whole(tmp_path: Path, told: bytes | str | None) -> None:
    """Without sums, or with some that mean nothing; row groups of 1,024 rows."""
    (tmp_path / "passages").mkdir()
    path = tmp_path / "passages" / passage_table.part_name(0)
    rows = [{"passage_id": i, **row} for i, row in enumerate(rows_of(2500))]
    table = pa.Table.from_pylist(rows, schema=passage_table.SCHEMA)
    with pq.ParquetWriter(path, passage_table.SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(table, row_group_size=1024)
        if told is not None:
            # As many as there are groups, but of other bytes.
            value = base64.b64encode(bytes(24)) if told == "good" else told
            writer.add_key_value_metadata({passage_parts.GROUPS: value})
    part = Part(file=files.entry_of(tmp_path, path), first_passage_id=0, rows=2500)
    brought: list[files.FileEntry] = []
    ranges = Counting(tmp_path)
    for more in ({}, {"ensure": brought.append}):
        found = PassageTable(tmp_path, [part], **more).take([2400, 1, 1024])  # type: ignore[arg-type]
        assert found.column("text").to_pylist() == [rows[i]["text"] for i in (2400, 1, 1024)]
    assert brought
    # Out of an object store: brought, as ever.
    (tmp_path / "cache/passages").mkdir(parents=True)

    def bring(entry: files.FileEntry) -> None:
        (tmp_path / "cache" / entry.path).write_bytes((tmp_path / entry.path).read_bytes())

    remote = PassageTable(tmp_path / "cache", [part], ensure=bring, ranges=ranges)
    assert remote.take([2400]).column("passage_id").to_pylist() == [2400]
    assert len(ranges.asked) == 1
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(errors.DamagedError, match="CRC-32"):
        PassageTable(tmp_path, [part]).take([0])


def test_a_chunk_without_words_is_not_one_that_a_compaction_emptied() -> None:
    """Within a long word, and where one character became several tokens."""
    key, place = b"k" * 16, {"page_id": "1", "ordinal": 1}
    rows = [
        {"title": "T", "section": [], "text": "ization", "words": 0},
        {"title": "T", "section": [], "text": "", "words": 0},
        {"title": "", "section": ["S"], "text": "", "words": 0},
        {"title": "", "section": [], "text": "...", "words": 0},
        {"title": "", "section": [], "text": "a", "words": 1},
        dict(passage_table.EMPTIED),
    ]
    table = pa.Table.from_pylist(
        [{"passage_id": i, "passage_key": key} | place | row for i, row in enumerate(rows)],
        schema=passage_table.SCHEMA,
    )
    assert passage_table.emptied(table).tolist() == [False] * 5 + [True]
    assert passage_table.emptied(table.slice(0, 0)).tolist() == []
