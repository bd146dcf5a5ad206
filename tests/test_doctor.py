"""`memcorpus doctor`, and the warning of a build: what is there and unused is said, what fails is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.accounts import doctor
from pipeline.units import accelerators
from retrieval.memory import MemoryReader
from storage import native
from tests.commands import Command, refused


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /dev of our own, and an environment that says nothing."""
    folder = tmp_path / "dev"
    folder.mkdir()
    monkeypatch.setattr(accelerators, "DEVICES", folder)
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_an_accelerator_that_is_there_and_unused(
    devices: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (devices / "nvidiactl").touch()
    assert (accelerators.present(), accelerators.unused()) == ({}, None)
    for i in range(2):
        (devices / f"nvidia{i}").touch()
    assert accelerators.present() == {"NVIDIA GPU": 2}
    line = accelerators.unused()
    assert line is not None
    assert "2 NVIDIA GPUs" in line
    assert "pip install 'memcorpus[cuda]'" in line
    # Somebody wants it so; or jax can use them.
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert accelerators.unused() is None
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert accelerators.unused() is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    (tmp_path / "site" / "jax_cuda12_plugin").mkdir(parents=True)
    (tmp_path / "site" / "jax_cuda12_plugin" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert accelerators.unused() is None
    (devices / "accel0").touch()
    assert "memcorpus[tpu]" in str(accelerators.unused())


def test_the_command(devices: Path, tmp_path: Path, command: Command) -> None:
    status, out, err = command("doctor", "--folder", tmp_path)
    assert (status, err) == (0, "")
    assert "write, read, verify: well" in out
    assert "a program of jax: well" in out
    assert f"numpy {np.__version__}" in out
    assert "devices that jax sees: cpu:0" in out
    assert f"memory is decoded by {native.description()}" in out
    assert "warning" not in out or "free" in out
    (devices / "nvidia0").touch()
    status, out, _ = command("doctor", "--folder", tmp_path, "--json")
    found = json.loads(out)
    assert (status, found["ok"], found["accelerators"]) == (0, True, {"NVIDIA GPU": 1})
    assert any("memcorpus[cuda]" in line for line in found["warnings"])
    assert found["free_bytes"] > 0
    assert [test["error"] for test in found["tests"]] == ["", ""]
    assert sum(test["seconds"] for test in found["tests"]) < 10
    assert sorted(os.listdir(tmp_path)) == ["dev"]  # nothing is left
    refused(command, ["doctor", "--folder", tmp_path / "none"], "is no folder")


def test_what_does_not_work_is_told(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MemoryReader.fetch

    def wrong(self: MemoryReader, *arguments: Any, **named: Any) -> Any:
        found = real(self, *arguments, **named)
        found.values[3, 3] += 1
        return found

    monkeypatch.setattr(MemoryReader, "fetch", wrong)
    status, out, _ = command("doctor", "--folder", tmp_path)
    assert status == 1
    assert "DamagedError: what was read is not what was written" in out
    monkeypatch.undo()
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 1 << 60)
    assert "GB free: see `memcorpus plan`" in command("doctor", "--folder", tmp_path)[1]


def test_a_build_says_it(devices: Path, tmp_path: Path, command: Command) -> None:
    (devices / "nvidia0").touch()
    _, _, err = command(
        *("build", "--source", f"jsonl:{tmp_path / 'none.jsonl'}", "--out", tmp_path / "c"),
        *("--retriever", "none", "--memory-encoder", "none", "--live-proportion", "1/3"),
    )
    assert "memcorpus: this machine has 1 NVIDIA GPU, and the jax" in err
