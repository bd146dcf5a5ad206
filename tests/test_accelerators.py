"""GPUs are dealt out to workers: each its own, evenly, or a share of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.units import accelerators, launcher, worker

ROOT = Path(__file__).parents[1]
TWO = """GPU 0: NVIDIA H200 (UUID: GPU-1a)
GPU 1: NVIDIA H200 (UUID: GPU-2b)
"""
SPLIT = """GPU 0: NVIDIA H200 (UUID: GPU-1a)
  MIG 1g.18gb     Device  0: (UUID: MIG-3c)
  MIG 1g.18gb     Device  1: (UUID: MIG-4d)
"""


@given(st.integers(1, 16), st.integers(1, 16), st.integers(0, 100))
def test_each_gets_as_many_and_none_is_taken_twice_without_need(count: int, workers: int, first: int) -> None:
    gpus = [f"GPU-{i}" for i in range(count)]
    # Beam goes on counting from stage to stage.
    dealt = [accelerators.deal(gpus, number, workers) for number in range(first, first + workers)]
    assert {len(own) for own, _ in dealt} == {max(1, count // workers)}
    taken = [gpu for own, _ in dealt for gpu in own]
    sharing = {sharing for _, sharing in dealt}
    if workers <= count:
        assert len(set(taken)) == len(taken)
        assert sharing == {1}
    else:
        assert set(taken) == set(gpus)
        assert sharing == {max(taken.count(gpu) for gpu in gpus)}


def asked(number: int, workers: int, folder: Path, listed: str | None, **environment: str) -> list[str]:
    """What a worker process leaves itself of a machine whose driver lists these."""
    folder.mkdir(exist_ok=True)
    if listed is not None:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{listed}END\n")
        (folder / "nvidia-smi").chmod(0o755)
    code = (
        "import os, sys, types\n"
        "from pipeline.units import worker\n"
        "def main(_):\n"
        "    assert not {'jax', 'torch'} & set(sys.modules)\n"
        "    names = ('CUDA_VISIBLE_DEVICES', 'XLA_PYTHON_CLIENT_MEM_FRACTION')\n"
        "    print([os.environ.get(name) for name in names])\n"
        "import apache_beam.runners.worker.sdk_worker_main as beam\n"
        "beam.main = main\n"
        "worker.main()\n"
    )
    plain = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", accelerators.WORKERS)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **plain,
            "PATH": f"{folder}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "WORKER_ID": f"worker_{number}",
            accelerators.WORKERS: str(workers),
            launcher.VARIABLE: launcher.named(),
            **environment,
        },
        check=True,
        capture_output=True,
        text=True,
    )
    found: list[str] = eval(done.stdout)
    return found


@pytest.mark.parametrize(
    ("number", "workers", "listed", "environment", "expected"),
    [
        (5, 2, TWO, {}, ["GPU-2b", None]),
        (1, 1, TWO, {}, [None, None]),
        (2, 4, TWO, {}, ["GPU-1a", "0.375"]),
        (2, 4, TWO, {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.2"}, ["GPU-1a", "0.2"]),
        (1, 2, SPLIT, {}, ["MIG-4d", None]),
        (1, 2, TWO, {"CUDA_VISIBLE_DEVICES": "4, 6"}, ["6", None]),
        (1, 2, TWO, {"CUDA_VISIBLE_DEVICES": ""}, ["", None]),
    ],
)
def test_a_worker_leaves_itself_its_own(
    number: int,
    workers: int,
    listed: str,
    environment: dict[str, str],
    expected: list[str | None],
    tmp_path: Path,
) -> None:
    assert asked(number, workers, tmp_path / "bin", listed, **environment) == expected


def test_the_command_tells_each_how_many_there_are() -> None:
    script = worker.command(3).replace(f"-P -m {worker.MODULE}", "-c 'import os; print(dict(os.environ))'")
    assert script != worker.command(3)
    done = subprocess.run(script, shell=True, check=True, capture_output=True, text=True)
    assert eval(done.stdout)[accelerators.WORKERS] == "3"
