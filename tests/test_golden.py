"""Corpora that earlier versions have written are read for ever, each with what a reader must find in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.jobs import versions
from retrieval import open_corpus
from storage import verify as verification
from tests.golden.make import FOLDER, expectations

FORMATS = sorted(path.stem for path in FOLDER.glob("format-*.json"))


def test_there_is_one() -> None:
    assert "format-1" in FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_a_golden_corpus_is_read(name: str) -> None:
    expected = json.loads((FOLDER / f"{name}.json").read_text())
    found = expectations(open_corpus(FOLDER / name))
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
    listed = versions.listed(root)
    versions.use(root, listed[1]["version"])
    versions.forget(root, listed[2]["aliases"][0])
    assert len(versions.collect(root)) == 1
    assert verification(root, full=True).ok
    assert versions.diff(root, "current", "previous")["relative_error"] < 0.01
