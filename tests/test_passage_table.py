"""The passage table: rows by id in the order asked, by us, DuckDB and pandas; damage raises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
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
