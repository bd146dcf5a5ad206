"""The wheel: exactly five folders, and it works installed, from another directory, with worker processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from examples.miniwiki.export import DumpTruth
from storage import native
from storage.native import building

ROOT = Path(__file__).parents[1]
PACKAGES = {"memcorpus", "pipeline", "encoders", "storage", "retrieval"}


def built(folder: Path, root: Path = ROOT, **variables: str) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(root)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **variables}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("dist"))


def test_the_wheel_holds_five_folders(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    inside = {str(p.relative_to(ROOT)) for package in PACKAGES for p in (ROOT / package).rglob("*.py")}
    assert inside <= set(names)


def test_decoders_are_in_the_wheel_where_there_is_a_compiler(wheel: Path, tmp_path: Path) -> None:
    library = f"storage/native/{building.name()}"
    sources = {f"storage/native/{name}" for name in building.SOURCES}

    def inside(path: Path) -> tuple[str, set[str], str]:
        with zipfile.ZipFile(path) as archive:
            (described,) = (n for n in archive.namelist() if n.endswith(".dist-info/WHEEL"))
            return path.stem.split("-", 2)[2], set(archive.namelist()), archive.read(described).decode()

    # Without one, or where nobody wants it, nothing fails, and the wheel is for every machine.
    for case, variables in (("none", {"CC": "false"}), ("off", {"MEMCORPUS_NATIVE": "off"})):
        tag, names, described = inside(built(tmp_path / case, **variables))
        assert tag == "py3-none-any"
        assert "Root-Is-Purelib: true" in described
        assert not any(name.endswith(".so") for name in names)
        assert sources <= names
    try:
        building.compiler()
    except building.BuildError as e:
        pytest.skip(str(e))
    tag, names, described = inside(wheel)
    # For every Python of one system: nothing in it depends on Python's ABI.
    assert tag == f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
    assert "Root-Is-Purelib: false" in described
    assert {name for name in names if name.endswith(".so")} == {library}
    assert sources <= names
    with zipfile.ZipFile(wheel) as archive:
        loaded = native.Library(Path(archive.extract(library, tmp_path)))
    assert loaded.instructions in native.INSTRUCTIONS


@pytest.mark.parametrize("compiler", [None, "false"])
def test_an_editable_installation_builds_them_in_place(tmp_path: Path, compiler: str | None) -> None:
    root = tmp_path / "checkout"
    for name in ("storage", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            root.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    # What `pip install -e .` has the build backend do before it writes the paths.
    source = (
        "import sys; from hatchling.builders.wheel import WheelBuilder; builder = WheelBuilder(sys.argv[1])\n"
        "(hook,) = builder.get_build_hooks(sys.argv[2]).values()\n"
        "data = builder.get_default_build_data(); hook.initialize('editable', data)"
    )
    done = subprocess.run(
        [sys.executable, "-c", source, str(root), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **({} if compiler is None else {"CC": compiler})},
    )
    assert done.returncode == 0, done.stderr
    try:
        there = compiler is None and bool(building.compiler())
    except building.BuildError:
        there = False
    assert [path.name for path in root.rglob("*.so")] == [building.name()] * there


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
