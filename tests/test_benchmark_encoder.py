"""The encoder's benchmark: everyone encodes every passage once, and the figures are all there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.encoder import __main__ as benchmark
from benchmarks.encoder import contenders
from benchmarks.encoder.work import MAX_TOKENS, Work, passage_lengths


def test_passages_are_as_long_as_those_of_wikipedia() -> None:
    for count in (32, 1000):
        lengths = passage_lengths(count)
        assert lengths.min() >= 8
        assert lengths.max() <= MAX_TOKENS
        assert lengths.mean() == pytest.approx(243, abs=5)
        np.testing.assert_array_equal(lengths, passage_lengths(count))


@pytest.mark.parametrize("batches", [contenders.padded, contenders.by_length, contenders.in_buckets])
def test_every_token_is_in_one_batch(batches: object) -> None:
    lengths = passage_lengths(40)
    work = Work(
        config=None, model=None, passages=[np.full(n, i + 1, np.int32) for i, n in enumerate(lengths)]
    )  # type: ignore[arg-type]
    seen = np.zeros(40, int)
    for batch in batches(work, 700):  # type: ignore[operator]
        for row, passage in enumerate(batch.passages):
            seen[passage] += int((batch.ids[row] == passage + 1).sum())
            assert batch.mask[row].sum() == lengths[passage]
    np.testing.assert_array_equal(seen, lengths)


def test_a_small_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    small = ["--size", "small", "--layers", "1", "--passages", "3", "--rounds", "2", "--dtype", "float32"]
    only = ["--only", "memcorpus", "transformers"]
    result = benchmark.main([*small, *only, "--shapes", "304", "--json", str(path)])
    assert json.loads(path.read_text())["encoder"] == result["encoder"]
    figures = result["encoder"]["float32"]
    ours = {"memcorpus", "memcorpus, rows at once"}
    assert set(figures["contenders"]) == ours | {"transformers, padded", "transformers, sorted"}
    for row in figures["contenders"].values():
        assert 0 < row["error"] < 1e-5
        assert row["tokens_per_s"] > 0
        assert 0 < row["of_peak"] < 1
        assert 0 <= row["waste"] < 1
        assert 0 < row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
    assert figures["contenders"]["memcorpus"]["ratio"]["median"] == 1
    assert all(rate > 0 for rates in result["shapes"]["float32"].values() for rate in rates.values())
    assert "GEMM peak" in capsys.readouterr().out
