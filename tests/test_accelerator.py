"""The accelerator's benchmark: its figures agree with each other, and no section takes the others along."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import accelerator
from benchmarks.device import boxes, encoding, tables, work
from benchmarks.device.boxes import Section
from encoders import attention
from encoders.t5_config import PUBLISHED_SIZES, T5Config

HERE = "tests.boxed_sections"


def sections(*names: str, weight: float = 1.0) -> list[Section]:
    return [Section(name=name, function=f"{HERE}:{name}", weight=weight) for name in names]


def test_what_fails_is_a_result_and_the_others_go_on() -> None:
    told: list[list[str]] = []
    asked = sections("good", "raises", "crashes", "missing") + sections("good")
    asked[-1] = Section(name="last", function=f"{HERE}:good", weight=1)
    found = boxes.run(asked, {"given": 7}, 120, after=lambda so_far: told.append(list(so_far)))
    assert told == [["good", "raises", "crashes", "missing", "last"][:n] for n in range(1, 6)]
    assert found["good"]["entries"] == {
        "one": {"given": 7, "earlier": [], "time": True},
        "two": {"value": 2.0},
    }
    assert found["last"]["entries"]["one"]["earlier"] == ["crashes", "good", "missing", "raises"]
    assert found["raises"]["entries"] == {
        "first": {"value": 1.0},
        "no room": {"error": "ZeroDivisionError: division by zero"},
        "after it": {"value": 3.0},
    }
    assert found["raises"]["error"] == "RuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 3 GiB"
    assert found["crashes"]["entries"] == {"before": {"value": 1.0}}
    assert "ended with status -6" in found["crashes"]["error"]
    assert "AttributeError" in found["missing"]["error"]
    assert "error" not in found["good"].keys() | found["last"].keys()
    table = tables.of({"sections": found})
    assert "- no room: ZeroDivisionError: division by zero" in table
    assert "- crashes: its process ended with status -6" in table


def test_time_is_shared_and_runs_out() -> None:
    begun = time.monotonic()
    found = boxes.run(sections("hangs", "spends", "good"), {"given": 1}, 9)
    assert time.monotonic() - begun < 20
    assert found["hangs"]["entries"] == {"before": {"value": 1.0}}
    assert "its share was 3 s" in found["hangs"]["error"]
    assert found["spends"]["entries"] == {"late": {"skipped": "the section's time was spent"}}
    late = boxes.run(sections("good", "spends"), {"given": 1}, 1)
    assert [row["skipped"] for row in late.values()] == ["1 of 1 s were left"] * 2
    assert "- good: 1 of 1 s were left" in tables.of({"sections": late})


def test_the_formula_is_what_xla_counts() -> None:
    """Matrices and scores by the formula against XLA's own count of the program, rows at once."""
    shapes = {"tiny": work.SIZES["tiny"], "small": PUBLISHED_SIZES["small"]}

    for name, config in shapes.items():
        program = _lowered(config, rows=2)
        counted = program.cost_analysis()["flops"]
        layers = work.layers_of(config)
        formula = encoding.model_flops(config, layers, np.full(2, encoding.MAX_TOKENS))
        # XLA counts norms, softmax and gates as well, which weigh the more the narrower the model.
        assert 1.0 <= counted / formula < {"tiny": 1.6, "small": 1.2}[name]


def _lowered(config: T5Config, rows: int) -> Any:
    import jax
    import jax.numpy as jnp

    from encoders import inference, sharding

    layers = work.layers_of(config)
    mesh = sharding.mesh_for(config, layers, "float32", devices=jax.devices()[:1])
    run = inference.program(
        config,
        layers,
        compute_dtype="float32",
        mesh=mesh,
        finish=lambda h, real: h,
        kernel=attention.AT_ONCE,
    )
    weights = jax.tree.map(lambda p: p.struct(mesh), sharding.parameters(config, layers, "float32"))
    ids = jax.ShapeDtypeStruct((rows, encoding.MAX_TOKENS), jnp.int32)
    return run.lower(weights, ids, jax.ShapeDtypeStruct((rows,), jnp.int32))


def test_figures_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, table = tmp_path / "figures.json", tmp_path / "figures.md"
    small = ["--sizes", "tiny", "--budgets", "608", "--seconds", "300", "--folder", str(tmp_path)]
    only = ["--only", "matrix rate", "attention", "encoder"]
    assert accelerator.main([*small, *only, "--json", str(path), "--table", str(table)]) == 0
    told = capsys.readouterr()
    result = json.loads(path.read_text())
    assert list(result["sections"]) == ["device", "matrix rate", "attention", "encoder"]
    assert not any(section.keys() & {"error", "skipped"} for section in result["sections"].values())
    if not result["accelerator"]:
        assert "jax sees no GPU and no TPU" in told.err
    assert told.out.strip() == table.read_text().strip()
    products = result["sections"]["matrix rate"]["entries"]
    for name, row in products.items():
        m, k, n = (int(side.replace(",", "")) for side in name.split(", ", 1)[1].split(" x "))
        assert row["flops_per_s"] == pytest.approx(2 * m * n * k / row["seconds"])
    peak = max(row["flops_per_s"] for row in products.values() if row["dtype"] == "bfloat16")
    kernels = {row["kernel"]: row for row in result["sections"]["attention"]["entries"].values()}
    assert set(kernels) == set(work.tried())
    assert all(row["right"] and row["error"] < row["bound"] for row in kernels.values())
    best = min(kernels, key=lambda name: kernels[name]["seconds"])
    entries = result["sections"]["encoder"]["entries"]
    assert f"tiny, 608 tokens, {best}" in entries
    for name, row in entries.items():
        assert row["tokens_per_s"] == pytest.approx(row["tokens"] / row["seconds"])
        assert row["utilisation"] == pytest.approx(row["flops"] / row["seconds"] / peak)
        if "delivered" not in name:
            a_token = row["flops"] / row["tokens"]
            assert row["utilisation"] == pytest.approx(row["tokens_per_s"] * a_token / peak)
            assert row["tokens"] == 2 * encoding.MAX_TOKENS
    assert 0 <= entries["tiny, delivered, 608 tokens"]["waste"] < 0.3


def test_large_sizes_want_an_accelerator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    status = accelerator.main(["--only", "device", "--json", str(path)])
    seen = json.loads(path.read_text())["sections"]["device"]["entries"]["device"]["platform"]
    if seen in accelerator.ACCELERATORS:
        assert status == 0
    else:
        assert status == 2
        assert "figures are of this machine's CPU; measure it with --sizes tiny" in capsys.readouterr().err


@pytest.mark.slow
def test_every_section_at_tiny_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    small = ["--sizes", "tiny", "--seconds", "1200", "--folder", str(tmp_path)]
    assert accelerator.main([*small, "--json", str(path)]) == 0
    found = json.loads(path.read_text())["sections"]
    assert list(found) == [section.name for section in accelerator.SECTIONS]
    for name, section in found.items():
        assert not section.keys() & {"error", "skipped"}, (name, section)
        for entry, row in section["entries"].items():
            assert "error" not in row or isinstance(row["error"], float), (entry, row)
            assert row.get("right", True), (entry, row)
    assert found["build"]["entries"]["warm"]["whole"] > 0
    losses = found["training"]["entries"]["GLIMMER, tiny, 2 questions of 3 passages"]["loss"]
    assert all(math.isfinite(loss) for loss in losses)
    assert not [p.name for p in tmp_path.iterdir() if p.name != "figures.json"]
