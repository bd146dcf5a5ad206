"""Corpora that earlier versions have written are read for ever, each with what a reader must find in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from retrieval import open_corpus
from tests import jobs
from tests.golden.make import FOLDER, expectations
from tests.jobs import verify as verification

FORMATS = sorted(path.stem for path in FOLDER.glob("format-*.json"))


def test_there_is_one() -> None:
    assert {"format-1", "format-1-chunks"} <= set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_a_golden_corpus_is_read(name: str) -> None:
    expected = json.loads((FOLDER / f"{name}.json").read_text())
    found = expectations(open_corpus(FOLDER / name))
    if name.endswith("-chunks"):
        assert len(expected["lengths"]) == expected["passages"]
    else:
        assert {codec["codec"] for codec in expected["memory"].values()} >= {
            "bfloat16",
            "int8",
            "turbo4",
            "pq4x4",
        }
    for version in expected["memory"]:
        for key in ("sum", "norm"):
            assert found["memory"][version].pop(key) == pytest.approx(  # type: ignore[index]
                expected["memory"][version].pop(key), rel=1e-4
            )
    assert found == expected
    result = verification(FOLDER / name, full=True)
    assert result.ok
    assert result.strays == []


def test_what_works_on_a_new_corpus_works_on_it(tmp_path: Path) -> None:
    root = Path(shutil.copytree(FOLDER / FORMATS[0], tmp_path / "corpus"))
    listed = jobs.listed(root)
    jobs.use(root, listed[1]["version"])
    jobs.forget(root, listed[2]["aliases"][0])
    assert len(jobs.collect(root)) == 1
    assert verification(root, full=True).ok
    assert jobs.diff(root, "current", "previous")["relative_error"] < 0.01
