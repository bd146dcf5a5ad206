"""The commands that faults are tried on, each with what lies there before and after."""

from __future__ import annotations

import shutil
from pathlib import Path

from storage.folder import CorpusFolder
from tests.faults import tries
from tests.faults.tries import Forker, Scene


def after(forker: Forker, before: Path, folder: Path, *command: str) -> Path:
    """A copy of a corpus on which a command was run without a fault."""
    root = folder / f"after-{command[0]}"
    shutil.copytree(before, root)
    ended = forker.run([command[0], root, *command[1:]], root)
    assert ended.status == 0, ended.told
    return root


def recode(built: Path, versioned: Path) -> Scene:
    return Scene(
        name="recode",
        before=built,
        command=lambda root: ["reencode", root, "--from", "current", "--codec", "int8", "--as", "small"],
        after=tries.content(versioned),
        tries=60,
    )


def use(forker: Forker, versioned: Path, folder: Path) -> Scene:
    return Scene(
        name="use",
        before=versioned,
        command=lambda root: ["use", root, "small"],
        after=tries.content(after(forker, versioned, folder, "use", "small")),
        tries=60,
    )


def gc(forker: Forker, built: Path, versioned: Path, folder: Path) -> Scene:
    return Scene(
        name="gc",
        before=after(forker, versioned, folder, "use", "--forget", "--alias", "small"),
        command=lambda root: ["gc", root, "--yes"],
        after=tries.content(built),
        tries=60,
    )


def repair(versioned: Path, folder: Path) -> Scene:
    """Of what needs no model: a version that was recoded, and the index."""
    before = folder / "damaged"
    shutil.copytree(versioned, before)
    version = before / "memory" / CorpusFolder(before).manifest.version("small")
    (index,) = before.glob("index/*/*.faiss")
    for path in (version / "values/c/1/0/0", version / "offsets/c/0/0", version / "values/zarr.json", index):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)
    return Scene(
        name="repair",
        before=before,
        command=lambda root: ["repair", root],
        after=tries.content(versioned),
        whole=False,
        tries=60,
    )


def build(build_command: list[str], built: Path) -> Scene:
    return Scene(
        name="build",
        before=None,
        command=lambda root: [*build_command, "--out", root],
        after=tries.content(built),
        whole=False,
        tries=12,
    )


def reencode(forker: Forker, built: Path, folder: Path) -> Scene:
    from tests import small_models

    encoder = str(small_models.make_t5_folder(folder / "t5", layers=3, seed=3))
    undisturbed = after(forker, built, folder, "reencode", "--memory-encoder", encoder, "--as", "next")
    return Scene(
        name="reencode",
        before=built,
        command=lambda root: ["reencode", root, "--memory-encoder", encoder, "--as", "next"],
        after=tries.content(undisturbed),
        tries=12,
    )
