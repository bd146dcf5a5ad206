"""The store's benchmark: every contender gives back the true rows, and the figures are all there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import warm
from benchmarks.store import __main__ as store
from benchmarks.store import ours, page_cache, reading, report
from benchmarks.store.contender import Contender
from benchmarks.store.truth import BFLOAT16, Truth
from storage import codecs

pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a tiny run, as its JSON has them."""
    folder = tmp_path_factory.mktemp("benchmark")
    path = folder / "figures.json"
    small = ["--passages", "64", "--width", "32", "--rounds", "2", "--threads", "1", "3"]
    result = store.main([*small, "--folder", str(folder), "--json", str(path)])
    written: dict[str, Any] = json.loads(path.read_text())
    assert written == result
    assert [p.name for p in folder.iterdir()] == ["figures.json"]  # the stores are gone
    return written


def test_every_contender_is_in_every_table_or_skipped(figures: dict[str, Any]) -> None:
    peers = {"Lance", "LMDB", "HDF5", "Parquet", "safetensors", "zarr-python, our arrays"}
    own = {"np.memmap", "np.memmap, MADV_WILLNEED", "pread, 20 threads", "TensorStore, our arrays"}
    shown = set(figures["checked"])
    assert own | peers <= shown | set(figures["skipped"])
    for codec in codecs.NAMES:
        assert f"memcorpus {codec}, check=once" in shown
    assert set(figures["disk"]) == shown
    settings = [(r["cold"], r["threads"]) for r in figures["reading"]]
    assert settings == [(False, 1), (False, 3), (True, 1), (True, 3)]
    for setting in figures["reading"]:
        assert set(setting["contenders"]) == shown
        assert setting["base"] == ("pread, 20 threads" if setting["cold"] else "np.memmap")
        for name, row in setting["contenders"].items():
            assert 0 < row["p50_ms"] <= row["p99_ms"]
            assert row["mb_per_s"] > 0
            assert 0 < row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
            assert row["fetches"] >= 2 * setting["threads"]
            if "memcorpus pq" in name:
                assert row["error"] is None
            elif "memcorpus int8" in name or "memcorpus turbo" in name:
                assert 0 < row["error"] < 1
            else:  # float16 holds these bfloat16 rows as they are
                assert row["error"] == 0


def test_writing_and_disk(figures: dict[str, Any]) -> None:
    assert figures["raw_bytes"] == figures["tokens"] * 32 * 2
    assert figures["disk"]["np.memmap"]["overhead_percent"] == 0.0
    disk = figures["disk"]["memcorpus pq16x16, check=once"]
    assert disk["bytes"] >= figures["tokens"] * 2 * 2
    assert disk["fixed_bytes"] > 2 * 65536 * 16 * 2
    assert 2 < disk["smaller"] < 16
    written = figures["writing"]["contenders"]
    assert set(written) == {"plain write() + fsync", *(f"memcorpus {codec}" for codec in codecs.NAMES)}
    assert all(row["gb_per_s"] > 0 and row["ratio"]["median"] > 0 for row in written.values())
    decoded = figures["decoding"]["contenders"]
    assert {"memcpy", "int8", "turbo4", "pq8x8"} <= set(decoded)
    assert all(row["gb_per_s"] > 0 for row in decoded.values())
    counted = figures["files"]
    assert counted["files_per_shard"] == 1
    assert counted["files_per_terabyte"] == pytest.approx(
        1e12 / counted["xxl_shard_bytes"] * counted["files_per_shard"]
    )


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    return Truth.create(tmp_path, passages=30, width=8)


def test_the_truth_is_as_real_passages(tmp_path: Path) -> None:
    truth = Truth.create(tmp_path, passages=3000, width=2)
    assert 262 < truth.lengths.mean() < 268
    assert truth.lengths.max() == 304
    assert truth.path.stat().st_size == truth.raw_bytes
    assert len({truth.passage(i).tobytes() for i in range(3000)}) == 3000


class Wrong(Contender):
    """Gives back a passage's rows, but for what a test changes."""

    name = "wrong"

    def __init__(self, truth: Truth, how: str) -> None:
        super().__init__(truth)
        self.paths = (truth.path,)
        self.how = how

    def fetch(self, ids: Any, out: Any) -> Any:
        rows = self.truth.rows_of(ids)
        if self.how == "one bit":
            rows[-1, -1] ^= 1
        elif self.how == "neighbour":
            rows = self.truth.rows_of((ids + 1) % self.truth.passages)
        elif self.how == "short":
            rows = rows[:-1]
        elif self.how == "rows swapped":
            rows[[0, 1]] = rows[[1, 0]]
        out[: len(rows)] = rows
        return out[: len(rows)]


@pytest.mark.parametrize("how", ["one bit", "neighbour", "short", "rows swapped"])
def test_wrong_rows_are_found(truth: Truth, how: str) -> None:
    assert reading.check(Wrong(truth, "not at all"), truth, 7).error == 0.0
    with pytest.raises(reading.ParityError, match="wrong gives other rows"):
        reading.check(Wrong(truth, how), truth, 7)


def test_errors_are_of_the_worst_row(truth: Truth) -> None:
    values = truth.values.view(BFLOAT16).astype(np.float32)
    assert reading.row_error(values, truth.values) == 0.0
    assert 0.009 < reading.row_error(values * 1.01, truth.values) < 0.011
    values[3] = np.roll(values[3], 1)
    assert reading.row_error(values, truth.values) > 0.5


def test_files_are_kept_and_dropped(truth: Truth) -> None:
    page_cache.write_back([truth.path])
    values = np.array(truth.values)  # maps every page
    page_cache.evict([truth.path])
    if page_cache.resident_share([truth.path]) > 0:
        pytest.skip("this file system keeps its pages")
    kept = page_cache.Kept([truth.path])
    kept.refresh([truth.path])
    assert page_cache.resident_share([truth.path]) == 1.0
    kept.release()
    page_cache.evict([truth.path])
    assert page_cache.resident_share([truth.path]) == 0.0
    np.testing.assert_array_equal(truth.values, values)


def test_only_some_contenders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--passages", "20", "--width", "8", "--rounds", "1", "--threads", "1", "--warm"]
    result = store.main([*small, "--folder", str(tmp_path), "--only", "pread", "float32"])
    assert set(result["checked"]) == {"pread, 20 threads", "memcorpus float32, check=once"}
    (setting,) = result["reading"]
    assert setting["base"] is None
    assert "warm, 1 thread" in capsys.readouterr().out


def test_a_missing_peer_is_skipped_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(store.importlib.util, "find_spec", lambda name: None)
    small = ["--passages", "20", "--width", "8", "--rounds", "1", "--threads", "1", "--warm"]
    result = store.main([*small, "--folder", str(tmp_path), "--only", "LMDB"])
    assert result["checked"] == {}
    assert "skipped: LMDB: lmdb is not installed" in capsys.readouterr().out


def test_ratios_are_taken_round_by_round() -> None:
    ratios = report.spread([2.0, 30.0, 8.0, 5.0, 60.0], [1.0, 10.0, 2.0, 1.0, 10.0])
    assert ratios == {"low": 3.0, "median": 4.0, "high": 5.0}


def test_shards_are_as_large_as_in_a_large_corpus(truth: Truth, tmp_path: Path) -> None:
    assert ours.Coded(truth, codecs.BFLOAT16, tmp_path).layout.grid.shard_passages == 4096
    assert ours.shard_passages(codecs.BFLOAT16, 4096) == 128


@pytest.mark.parametrize("name", codecs.NAMES)
def test_codes_are_of_the_true_rows(tmp_path: Path, name: str) -> None:
    truth = Truth.create(tmp_path, passages=5, width=32)
    coded = ours.Coded(truth, codecs.by_name(name), tmp_path)
    values = coded.values(np.array([3, 1]))
    assert values.shape == (truth.lengths[3] + truth.lengths[1], 32)
    offsets, buffer = coded.shard(0)
    assert offsets.tolist() == truth.starts.tolist()
    np.testing.assert_array_equal(
        coded.coder.decoded(buffer[offsets[3] : offsets[4]]), values[: truth.lengths[3]]
    )
    if not coded.random:
        assert reading.row_error(values, truth.rows_of(np.array([3, 1]))) < 0.6


def test_warm_fetches_beside_a_mapping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--width", "64", "--passages", "20", "--rounds", "2", "--folder", str(tmp_path)]
    result = warm.main([*options, "--json", str(tmp_path / "figures")])
    assert json.loads((tmp_path / "figures").read_text()) == result
    printed = capsys.readouterr().out
    for fetches, size in zip(result["fetches"], warm.FETCHED, strict=True):
        assert fetches["passages"] == size
        figures = fetches["contenders"]
        assert set(warm.GOALS) < set(figures)
        assert figures["np.memmap"]["ratio"]["median"] == figures["np.memmap"]["best"] == 1
        for name, row in figures.items():
            assert f"{row['ratio']['median']:.2f} ({row['ratio']['low']:.2f}" in printed
            # Of two rounds the quartiles lie between the two.
            assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"], name
    with pytest.raises(SystemExit):
        warm.main(["--passages", "19"])
