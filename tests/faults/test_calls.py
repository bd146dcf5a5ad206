"""A fault at every call of a command: it ends plainly, and the same command again gives the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from storage.folder import CorpusFolder
from tests.faults import tries
from tests.faults.tries import Forker, Scene, Tally

pytestmark = pytest.mark.faults


def after(forker: Forker, before: Path, folder: Path, *command: str) -> Path:
    """A copy of a corpus on which a command was run without a fault."""
    root = folder / "undisturbed"
    shutil.copytree(before, root)
    ended = forker.run([command[0], root, *command[1:]], root)
    assert ended.status == 0, ended.told
    return root


def run(forker: Forker, scene: Scene, folder: Path, tally: Tally) -> None:
    wrong = tries.run(forker, scene, folder, tally)
    assert not wrong, "\n".join(wrong)


def test_recode(forker: Forker, built: Path, versioned: Path, tmp_path: Path, tally: Tally) -> None:
    scene = Scene(
        name="recode",
        before=built,
        command=lambda root: ["reencode", root, "--from", "current", "--codec", "int8", "--as", "small"],
        after=tries.content(versioned),
        tries=80,
    )
    run(forker, scene, tmp_path, tally)


def test_use(forker: Forker, versioned: Path, tmp_path: Path, tally: Tally) -> None:
    scene = Scene(
        name="use",
        before=versioned,
        command=lambda root: ["use", root, "small"],
        after=tries.content(after(forker, versioned, tmp_path, "use", "small")),
        tries=100,
    )
    run(forker, scene, tmp_path, tally)


def test_gc(forker: Forker, versioned: Path, built: Path, tmp_path: Path, tally: Tally) -> None:
    before = after(forker, versioned, tmp_path, "use", "--forget", "--alias", "small")
    expected = tries.content(built)
    # The two manifests say the same, but not of the same moment.
    scene = Scene(
        name="gc",
        before=before,
        command=lambda root: ["gc", root, "--yes"],
        after=expected,
        tries=200,
    )
    run(forker, scene, tmp_path, tally)


def test_repair_of_what_was_recoded(forker: Forker, versioned: Path, tmp_path: Path, tally: Tally) -> None:
    before = tmp_path / "damaged"
    shutil.copytree(versioned, before)
    version = before / "memory" / CorpusFolder(before).manifest.version("small")
    (index,) = before.glob("index/*/*.faiss")
    for path in (version / "values/c/1/0/0", version / "offsets/c/0/0", version / "values/zarr.json", index):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)
    scene = Scene(
        name="repair",
        before=before,
        command=lambda root: ["repair", root],
        after=tries.content(versioned),
        whole=False,
        tries=80,
    )
    run(forker, scene, tmp_path, tally)


def test_build(forker: Forker, build_command: list[str], built: Path, tmp_path: Path, tally: Tally) -> None:
    scene = Scene(
        name="build",
        before=None,
        command=lambda root: [*build_command, "--out", root],
        after=tries.content(built),
        whole=False,
        tries=24,
    )
    run(forker, scene, tmp_path, tally)


def test_reencode(
    forker: Forker, build_command: list[str], built: Path, tmp_path: Path, tally: Tally
) -> None:
    from tests import small_models

    encoder = str(small_models.make_t5_folder(tmp_path / "t5", layers=3, seed=3))
    undisturbed = after(forker, built, tmp_path, "reencode", "--memory-encoder", encoder, "--as", "next")
    scene = Scene(
        name="reencode",
        before=built,
        command=lambda root: ["reencode", root, "--memory-encoder", encoder, "--as", "next"],
        after=tries.content(undisturbed),
        tries=24,
    )
    run(forker, scene, tmp_path, tally)
