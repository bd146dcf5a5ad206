"""The wheel: exactly five folders, and it works installed, from another directory, with worker processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from examples.miniwiki.export import DumpTruth

ROOT = Path(__file__).parents[1]
PACKAGES = {"memcorpus", "pipeline", "encoders", "storage", "retrieval"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_five_folders(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    inside = {str(p.relative_to(ROOT)) for package in PACKAGES for p in (ROOT / package).rglob("*.py")}
    assert inside <= set(names)


def test_the_wheel_builds_a_corpus_from_another_directory(
    wheel: Path, dump: DumpTruth, models: Path, tmp_path: Path
) -> None:
    """In an environment of its own: the wheel, and this environment's libraries, but not this checkout."""
    environment = tmp_path / "env"
    venv.create(environment, with_pip=False)
    python = environment / "bin/python"
    site = Path(sysconfig.get_path("purelib", vars={"base": environment}))
    site = environment / site.relative_to(environment)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # A plain line adds a folder to the path without reading the .pth files in it, so the editable
    # installation of this checkout stays out.
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(python), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=elsewhere,
            env=variables,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("-c", "import memcorpus, pipeline; print(memcorpus.__file__, pipeline.__file__, sep='\\n')")
    assert [path.startswith(str(site)) for path in where.splitlines()] == [True, True]
    version = run("-c", "import memcorpus; print(memcorpus.__version__)").strip()
    assert run("-m", "memcorpus", "--version").split()[-1] == version
    out = run(
        *("-m", "pipeline", "build", "--json", "--source", f"mediawiki:{dump.path}", "--out", "corpus"),
        *("--retriever", str(models / "gtr"), "--memory-encoder", str(models / "t5")),
        *("--live-proportion", "1/3", "--shard-passages", "64", "--split-bytes", "20000"),
        *("--", "--direct_running_mode=multi_processing", "--direct_num_workers=2"),
    )
    summary = json.loads(out.splitlines()[-1])
    assert summary["counts"]["kept"] == dump.kept
    assert (elsewhere / "corpus/corpus.json").is_file()
    assert json.loads(run("-m", "pipeline", "verify", "corpus", "--full", "--json"))["ok"] is True
