"""Where passages lie: found for many at once, kept within a bound, shared by forked processes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.memory import MemoryReader
from storage import descriptors, errors, files, memory_rows, memory_store
from storage.joined_memory import JoinedMemoryFiles, Piece
from storage.memory_files import MemoryFiles
from storage.memory_rows import MemoryRows
from storage.memory_store import MemoryLayout
from tests.test_memory_store import layout_of, reader, write


def expected(folder: Path, layout: MemoryLayout, passage: int) -> tuple[int, ...]:
    """Read from the two files as docs/format.md has them: shard, first row, stop, rows of the shard, sum."""
    per_shard = layout.grid.shard_passages
    shard, local = divmod(passage, per_shard)
    offsets = np.fromfile(folder / "offsets/c/0/0", "<u4", (per_shard + 2) * layout.grid.shards)
    checksums = np.fromfile(folder / "checksums/c/0/0", "<u4", (per_shard + 1) * layout.grid.shards)
    row = offsets.reshape(-1, per_shard + 2)[shard, :-1].tolist()
    sums = checksums.reshape(-1, per_shard + 1)[shard, :-1].tolist()
    return shard, row[local], row[local + 1], row[-1], sums[local]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_are_those_of_the_files(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    passages = data.draw(st.integers(1, 60))
    shard = data.draw(st.integers(1, 9))
    layout = layout_of(passages, shard=shard)
    folder = tmp_path_factory.mktemp("rows")
    write(folder, layout, np.random.default_rng(passages).integers(1, 41, passages))
    monkeypatch.setattr(memory_rows, "KNOWN_PASSAGES", data.draw(st.sampled_from([1, 2 * shard, 1000])))
    monkeypatch.setattr(memory_rows, "_SHARDS_AT_ONCE", data.draw(st.sampled_from([1, 2, 4096])))
    rows = MemoryRows(folder, layout)
    most = rows._most
    for wanted in data.draw(st.lists(st.lists(st.integers(0, passages - 1), max_size=9), max_size=6)):
        found = rows.find(np.array(wanted, np.int64))
        got = zip(found.shards, found.firsts, found.stops, found.ends, found.checksums, strict=True)
        right = [expected(folder, layout, passage) for passage in wanted]
        assert list(got) == right
        assert [rows.find_one(passage) for passage in wanted] == right
        # As much as is allowed, or as one call needed.
        most = max(most, len({passage // shard for passage in wanted}))
        assert rows.known <= most
    rows.read_ahead()
    kept = rows.shard(0)
    assert kept.offsets.tolist()[-1] == expected(folder, layout, 0)[3]
    assert kept.checksums.tolist()[0] == expected(folder, layout, 0)[4]


def test_what_makes_no_sense_names_the_shard(tmp_path: Path) -> None:
    layout = layout_of(32)
    write(tmp_path, layout, np.full(32, 3))
    path = tmp_path / memory_store.OFFSETS / "c/0/0"
    data = bytearray(path.read_bytes())
    row = np.frombuffer(data, "<u4", 9, 2 * 40).copy()
    for wrong in ((0, 1), (3, 1), (8, 3000)):
        bad = row.copy()
        bad[wrong[0]] = wrong[1]
        body = bad.tobytes()
        data[80:120] = body + files.crc32c(body).to_bytes(4, "little")
        path.write_bytes(data)
        rows = MemoryRows(tmp_path, layout)
        assert rows.find(np.array([3, 31])).firsts.tolist() == [9, 21]
        with pytest.raises(errors.DamagedError, match="offsets of shard 2"):
            rows.find(np.array([3, 17]))
    data[81] ^= 1
    path.write_bytes(data)
    with pytest.raises(errors.DamagedError, match="chunk 2 of"):
        MemoryRows(tmp_path, layout).find(np.arange(32))


def test_a_card_that_claims_more_shards_than_there_are_takes_no_memory(tmp_path: Path) -> None:
    layout = layout_of(8)
    write(tmp_path, layout, np.full(8, 3))
    with pytest.raises(errors.DamagedError, match="bytes, wanted"):
        MemoryRows(tmp_path, layout_of(1 << 50))


def swap(folder: Path, shard: int, data: bytes) -> None:
    """Put other bytes in the place of a shard's file: beside it, then renamed."""
    path = folder / memory_store.VALUES / f"c/{shard}/0/0"
    beside = path.with_name("new")
    beside.write_bytes(data)
    beside.replace(path)


@pytest.fixture
def swapped(tmp_path: Path) -> tuple[MemoryReader, list[Any], bytes]:
    """A reader that has checked all passages and has no file open, and shard 1 as it was."""
    layout = layout_of(32)
    truth = write(tmp_path, layout, np.full(32, 5))
    opened = reader(tmp_path, layout)
    opened.fetch(range(32))
    opened._files._values.clear()
    return opened, truth, (tmp_path / memory_store.VALUES / "c/1/0/0").read_bytes()


def test_a_file_that_was_replaced_is_checked_anew(
    swapped: tuple[MemoryReader, list[Any], bytes], tmp_path: Path
) -> None:
    """Descriptors run short, the file is closed, and what has come in its place is not what was checked."""
    opened, truth, whole = swapped
    swap(tmp_path, 1, bytes([whole[0] ^ 1]) + whole[1:])
    np.testing.assert_array_equal(opened.fetch([9])[0], truth[9])
    for part in (None, slice(0, 2), slice(-1, None)):
        with pytest.raises(errors.DamagedError, match=r"passage 8 in .*c/1/0/0 does not match"):
            opened.fetch([3, 8, 9], tokens=part)
    np.testing.assert_array_equal(opened.fetch([3], tokens=slice(0, 2))[0], truth[3][:2])
    # The same bytes again, as a repair puts them there.
    opened._files._values.clear()
    swap(tmp_path, 1, whole)
    for part in (slice(1, 3), None):
        for got, i in zip(opened.fetch([8, 9, 8], tokens=part), (8, 9, 8), strict=True):
            np.testing.assert_array_equal(got, truth[i] if part is None else truth[i][part])


def test_a_part_that_is_no_longer_known_to_be_right_is_read_with_its_passage(
    swapped: tuple[MemoryReader, list[Any], bytes], tmp_path: Path
) -> None:
    opened, truth, whole = swapped
    assert opened._reading.trusted(np.array([8])).all()
    swap(tmp_path, 1, whole)
    np.testing.assert_array_equal(opened.fetch([8, 3], tokens=slice(4, 9))[0], truth[8][4:9])
    assert opened._reading.trusted(np.array([8])).all()
    assert not opened._reading.trusted(np.array([9])).any()


def test_files_that_are_replaced_all_the_time_are_refused(
    swapped: tuple[MemoryReader, list[Any], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, _, whole = swapped
    real = opened._files._fill

    def replaced(run: Any, nowait: bool) -> None:
        opened._files._values.clear()
        swap(tmp_path, 1, whole)
        real(run, nowait)

    monkeypatch.setattr(opened._files, "_fill", replaced)
    # Another thread has always just checked it, in the file before.
    monkeypatch.setattr(opened._reading, "trusted", lambda wanted: np.ones(len(wanted), bool))
    with pytest.raises(errors.CorpusError, match="replaced again and again"):
        opened.fetch([8], tokens=slice(0, 2))


@pytest.mark.parametrize("what", ["cut off", "longer", "gone", "a folder"])
def test_a_shard_that_is_not_what_it_was_is_named(tmp_path: Path, what: str) -> None:
    layout = layout_of(32)
    write(tmp_path, layout, np.full(32, 5))
    path = tmp_path / memory_store.VALUES / "c/2/0/0"
    whole = path.read_bytes()
    path.unlink()
    if what == "a folder":
        path.mkdir()
    elif what != "gone":
        path.write_bytes(whole[:-1] if what == "cut off" else whole + b"x")
    opened = reader(tmp_path, layout)
    with pytest.raises(errors.DamagedError, match="values/c/2/0/0"):
        opened.fetch(range(32))
    assert len(opened.fetch([0, 31])) == 2


def test_a_shard_that_is_cut_off_under_a_reader_is_an_error(tmp_path: Path) -> None:
    """Nothing is mapped: a mapping's reader would be killed."""
    layout = layout_of(32)
    write(tmp_path, layout, np.full(32, 5))
    opened = reader(tmp_path, layout)
    opened.fetch(range(32))
    path = tmp_path / memory_store.VALUES / "c/2/0/0"
    os.truncate(path, 10)
    with pytest.raises(errors.DamagedError, match=r"values/c/2/0/0 ends before"):
        opened.fetch([17])
    os.truncate(tmp_path / memory_store.OFFSETS / "c/0/0", 10)
    assert opened.fetch([0]).offsets.tolist() == [0, 5]


# JAX warns where it is loaded, which other tests of this process may have done.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_a_forked_process_goes_on_with_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = layout_of(64)
    write(tmp_path, layout, np.full(64, 3))
    rows = MemoryRows(tmp_path, layout)
    rows.read_ahead()
    assert rows.known == 8
    monkeypatch.setattr(descriptors.OPEN, "open", None)
    monkeypatch.setattr(os, "preadv", None)
    child = os.fork()
    if child == 0:
        os._exit(0 if rows.find(np.arange(64)).stops[63] == 24 else 1)
    assert os.waitpid(child, 0)[1] == 0


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pieces_of_several_segments_are_read_as_one(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """With shards of other sizes in each, and one that has no memory."""
    root = tmp_path_factory.mktemp("joined")
    pieces, truth, card, first = [], [], None, 0
    for number, (passages, shard) in enumerate(((20, 8), (5, 8), (13, 4), (9, 64))):
        files_ = None
        if number != 1:
            layout = layout_of(passages, shard=shard)
            lengths = np.random.default_rng(number).integers(1, 41, passages)
            truth += write(root / str(number), layout, lengths, seed=number)
            card = card or reader(root / str(number), layout).card
            files_ = MemoryFiles(root / str(number), layout, first=first)
        else:
            truth += [None] * passages
        pieces.append(Piece(first=first, passages=passages, files=files_, why="left behind"))
        first += passages
    assert card is not None
    opened = MemoryReader(JoinedMemoryFiles(pieces), card, passages=first)
    there = [i for i in range(first) if truth[i] is not None]
    for _ in range(3):
        wanted = data.draw(st.lists(st.sampled_from(there), max_size=9))
        tokens = data.draw(st.sampled_from([None, slice(0, 2), slice(-3, None)]))
        found = opened.fetch(wanted, tokens=tokens)
        for got, i in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(got, truth[i] if tokens is None else truth[i][tokens])
        assert opened.tokens(wanted).tolist() == [len(truth[i]) for i in wanted]
        values, _ = opened.fetch(wanted).padded(7)
        np.testing.assert_array_equal(opened.padded(wanted, 7).values, values)
    assert opened.holds(np.arange(first)).tolist() == [one is not None for one in truth]
    for left in ([22], [3, 22]):
        with pytest.raises(errors.CorpusError, match="passage 22: left behind"):
            opened.fetch(left)
    # What is wrong there is named by its id in the corpus.
    path = root / "2/values/c/0/0/0"
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    again = MemoryReader(
        JoinedMemoryFiles(
            [
                *pieces[:2],
                replace(pieces[2], files=MemoryFiles(root / "2", layout_of(13, shard=4), first=25)),
                pieces[3],
            ]
        ),
        card,
        passages=first,
    )
    for ids in ([25], [25, 3]):
        with pytest.raises(errors.DamagedError, match=r"memory of passage 25 in .*/2/values/c/0/0/0"):
            again.fetch(ids)
