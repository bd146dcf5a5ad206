"""The benchmark of RETRO's open questions: its text, its arithmetic, and its runs at the smallest size."""

from __future__ import annotations

import gzip
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import retro, retro_questions, retro_tables, retro_text
from benchmarks.retro_questions import FITS
from benchmarks.retro_tables import STORE

# Of numbers in a dictionary's index, as dictd(8) has them.
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def test_debian_manuals_are_read_node_by_node(tmp_path: Path) -> None:
    (tmp_path / "info").mkdir()
    (tmp_path / "doc" / "bc").mkdir(parents=True)
    node = "File: bc.info,  Node: {}\n\n{}  {}\n\n\nThe  end.\n"
    nodes = [node.format(name, name, "word " * 100) for name in ("Top", "Second")]
    index = "Tag Table:\n" + "Node: Top\x7f12\n" * 60
    (tmp_path / "info" / "bc.info.gz").write_bytes(gzip.compress("\x1f\n".join([*nodes, index]).encode()))
    (tmp_path / "doc" / "bc" / "README.Debian").write_text("A note. " * 80)
    (tmp_path / "doc" / "bc" / "NEWS.gz").write_bytes(gzip.compress(b"too short"))
    found = list(retro_text.documents(f"debian:{tmp_path}"))
    assert len(found) == 3
    assert found[0] == "Top " + "word " * 100 + "\nThe end."
    assert found[1].startswith("Second word")
    assert found[2].startswith("A note. A note.")


def test_a_dictionary_is_read_article_by_article(tmp_path: Path) -> None:
    articles = [
        "00-database-info\n" + "about " * 90,
        "ash\n\n   <chemistry> What {fire}\n   leaves. " + "It is. " * 60,
        "b\n",
    ]
    data, lines = b"", []
    for article in articles:
        # Places are counted in bytes; 64 * B + i is Bi.
        places = "\t".join(
            "".join(DIGITS[(number >> shift) & 63] for shift in (12, 6, 0))
            for number in (len(data), len(article.encode()))
        )
        word = article.split("\n")[0]
        lines += [f"{word}\t{places}", f"{word} again\t{places}"]
        data += article.encode()
    (tmp_path / "some.index").write_text("\n".join(lines) + "\n")
    (tmp_path / "some.dict.dz").write_bytes(gzip.compress(data))
    found = list(retro_text.documents(f"dictd:{tmp_path}/some"))
    assert found == ["ash\n<chemistry> What fire leaves. " + ("It is. " * 60).strip()]


def test_the_nearest_leave_out_the_own_document() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 8)).astype(np.float32)
    first = np.repeat(np.arange(0, 40, 4), 4)
    found = retro.table_of(vectors, vectors, leave_out=(first, first)).values
    for row, ids in enumerate(found):
        others = [i for i in range(40) if first[i] != first[row]]
        assert ids.tolist() == sorted(others, key=lambda i: -float(vectors[row] @ vectors[i]))[:10]
    # Fewer than ten elsewhere: none is -1.
    few = retro.table_of(vectors[:12], vectors[:12], leave_out=(first[:12], first[:12])).values
    assert (few[:, :8] >= 0).all()
    assert (few[:, 8:] == -1).all()


def test_the_equal_baseline_is_log_linear_between_two() -> None:
    points = [(math.log(1e6), 3.0), (math.log(4e6), 2.0), (math.log(16e6), 1.5)]
    assert retro_tables.equivalent(points, 2.5) == "a baseline of 2.00"
    assert retro_tables.equivalent(points, 1.5) == "a baseline of 16.00"
    assert retro_tables.equivalent(points, 3.1) == "less than the smallest"
    assert retro_tables.equivalent(points, 1.4) == "more than the largest"


def test_a_share_of_the_gain_is_taken_seed_by_seed(tmp_path: Path) -> None:
    for seed, (off, gain) in enumerate([(2.0, 0.25), (3.0, 0.5), (4.0, 1.0)]):
        (tmp_path / f"seed-{seed}").mkdir()
        bits = {"off": off, "on": off - gain, "stale": off - gain / 2, "stale-as-found": off - gain / 4}
        (tmp_path / f"seed-{seed}" / "conditioned-stale.json").write_text(
            json.dumps({"run": "conditioned-stale", "seed": seed, "bits": bits})
        )
    said = retro_tables.report(tmp_path)
    assert "| stale | on | 2.4167 ± 0.6292 | 0.5833 ± 0.3819 | 1.00 ± 0.00 |" in said
    assert "| stale | stale | 2.7083 ± 0.8133 | 0.2917 ± 0.1909 | 0.50 ± 0.00 |" in said
    assert "Question b" not in said


class NoModel:
    """Stands for MiniLM: states that hang on a text's characters."""

    def __call__(self, texts: list[str]) -> tuple[Any, Any, Any]:
        real = np.arange(retro_text.PLACES) < np.array([4 + len(text) % 9 for text in texts])[:, None]
        seeds = [sum(text.encode()) for text in texts]
        states = np.stack(
            [np.random.default_rng(s).standard_normal((retro_text.PLACES, 384)) for s in seeds]
        ).astype(np.float32)
        return states, -states, real

    def vector(self, text: str) -> Any:
        return self([text])[0][0, 1]


@pytest.mark.slow
def test_runs_are_made_once_and_give_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(retro_text, "Encode", NoModel)
    arguments = ["--chunks=300", "--vocabulary=300", "--steps=3", "--fit-steps=3", "--batch=2", "--seeds=0"]
    arguments += ["--only", "conditioned", "unconditioned", "vectors", STORE]
    monkeypatch.setattr(sys, "argv", ["retro_questions", "--out", str(tmp_path), *arguments])
    retro_questions.main()
    said = capsys.readouterr().out
    for question in ("c", "d, e", "f", "leak", "store"):
        assert f"Question {question}\n" in said
    made = {path.stem: path.read_bytes() for path in (tmp_path / "seed-0").glob("*.json")}
    assert set(made) == {"conditioned", "unconditioned", "vectors", STORE}
    rows = {name: json.loads(data) for name, data in made.items()}
    copied = rows["conditioned"]["copied"]
    assert sum(row["share_of_tokens"] for row in copied) == pytest.approx(1)
    assert sum(row["share_of_gain"] for row in copied) == pytest.approx(1)
    # Off is the frozen language model's, whatever was fitted to it.
    fits = [rows[name]["bits"] for name in FITS if name in rows]
    assert len({one["off"] for one in fits}) == 1
    assert len({one["on"] for one in fits}) == 3
    stored = rows[STORE]
    assert stored["bits"]["stored"] == pytest.approx(stored["bits"]["live"], rel=1e-6)
    assert stored["bits"]["live"] == rows["unconditioned"]["bits"]["on"]
    gone = tmp_path / "seed-0" / "vectors.json"
    gone.unlink()
    retro_questions.main()
    for name, data in made.items():
        again = (tmp_path / "seed-0" / f"{name}.json").read_bytes()
        assert json.loads(again)["bits"] == rows[name]["bits"]
        assert (again == data) or name == "vectors"
