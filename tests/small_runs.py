"""Small training runs: a task whose answers stand in the passages, and a command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from retrieval import open_corpus


def write_task(corpus: Path, path: Path) -> Path:
    """Questions for the titles of passages, which stand in them."""
    rows = open_corpus(corpus).passages(np.arange(0, 60, 3)).to_pylist()
    with path.open("w") as file:
        for number, row in enumerate(rows):
            page = {"wikipedia_id": str(row["page_id"]), "title": row["title"]}
            output = {"answer": row["title"].split()[0], "provenance": [page]}
            record = {"id": str(number), "input": row["text"][:60], "output": [output]}
            file.write(json.dumps(record) + "\n")
    return path


def arguments(corpus: Path, t5: Path, task: Path, out: Path, **changes: Any) -> list[str]:
    options: dict[str, Any] = {
        "model": t5,
        "out": out,
        "train": f"qa={task}",
        "dev": f"qa={task}",
        "dev-examples": 8,
        "rerank-proportion": "1",
        "retrieved": 4,
        "selected": 2,
        "steps": 6,
        "every": 2,
        "batch": 4,
        "learning-rate": 1e-3,
        "max-tokens": 64,
        "question-tokens": 24,
        "answer-tokens": 6,
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    given = [(name, value) for name, value in options.items() if value is not None]
    return ["train", str(corpus), *(part for name, value in given for part in (f"--{name}", str(value)))]


def same(one: Path, other: Path) -> None:
    for name in ("metrics.csv", "dev.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for name in ("model.safetensors", "reader.safetensors", "reader.json"):
        assert (one / "reader" / name).read_bytes() == (other / "reader" / name).read_bytes(), name
