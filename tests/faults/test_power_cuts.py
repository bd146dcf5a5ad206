"""Power cuts: what an ext4 holds at moments of a command, mounted again, its journal replayed.

The command runs on a file system in a file and is stopped at evenly spaced calls that change something. Each
time the file is copied as it is: what the kernel has not yet written is not in it. So a rename that overtook
its file's bytes, or a success that was told before the disk had it, is seen. The device is taken to keep what
it has said is written, and to write in order; a disk that lies is not tried.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import disks, scenes, tries
from tests.faults.shim import Fault
from tests.faults.tries import Forker, Scene, Tally

pytestmark = pytest.mark.faults

_CHANGING = ("write", "fsync", "rename", "unlink", "mkdir", "truncate")


def run(forker: Forker, scene: Scene, folder: Path, tally: Tally, *, cuts: int) -> None:
    image = disks.make_image(folder)
    at = folder / "disk"
    root = at / "corpus"
    command = scene.command(root)
    copies: list[Path] = []
    with disks.mounted(image, at) as disk:

        def copy() -> None:
            copies.append(folder / f"copy-{len(copies)}")
            disk.copy(copies[-1])

        tries.lay_down(scene, root)
        counted = forker.run(command, root, Fault(calls=_CHANGING))
        assert counted.status == 0, counted.told
        tries.lay_down(scene, root)
        disks.sync(at)
        every = max(1, len(counted.calls) // cuts)
        stops = Fault(calls=_CHANGING, kind="stop", first=every // 2 + 1, every=every)
        ended = forker.run(command, root, stops, stopped=copy)
        assert ended.status == 0, ended.told
        copy()
    wrong = []
    for number, image in enumerate(copies):
        told = number == len(copies) - 1
        with disks.mounted(image, at):
            try:
                if told:
                    # What was removed may be there again: the next command takes it away.
                    found = tries.content(root)
                    lost = [name for name, data in scene.after.items() if found.get(name) != data]
                    assert not lost, f"success was told, and {lost[0]} is not as it was"
                tries.finish(forker, scene, root)
                tally.add(scene.name, "power cut", "resumed")
            except AssertionError as e:
                tally.add(scene.name, "power cut", "BROKEN")
                wrong.append(f"{scene.name}: cut {number} of {len(copies)}: {str(e).splitlines()[0]}")
        image.unlink()
    assert not wrong, "\n".join(wrong)


def test_recode(forker: Forker, built: Path, versioned: Path, tmp_path: Path, tally: Tally) -> None:
    run(forker, scenes.recode(built, versioned), tmp_path, tally, cuts=15)


def test_use(forker: Forker, versioned: Path, tmp_path: Path, tally: Tally) -> None:
    run(forker, scenes.use(forker, versioned, tmp_path), tmp_path, tally, cuts=10)


def test_gc(forker: Forker, built: Path, versioned: Path, tmp_path: Path, tally: Tally) -> None:
    run(forker, scenes.gc(forker, built, versioned, tmp_path), tmp_path, tally, cuts=15)


def test_repair(forker: Forker, versioned: Path, tmp_path: Path, tally: Tally) -> None:
    run(forker, scenes.repair(versioned, tmp_path), tmp_path, tally, cuts=15)


def test_build(forker: Forker, build_command: list[str], built: Path, tmp_path: Path, tally: Tally) -> None:
    run(forker, scenes.build(build_command, built), tmp_path, tally, cuts=5)


def test_a_cut_is_seen(tmp_path: Path) -> None:
    """What was written and not synced is not in a copy."""
    image = disks.make_image(tmp_path)
    with disks.mounted(image, tmp_path / "disk") as disk:
        (tmp_path / "disk/synced").write_bytes(b"1" * 5000)
        disks.sync(tmp_path / "disk")
        (tmp_path / "disk/not").write_bytes(b"2" * 5000)
        disk.copy(tmp_path / "copy")
    with disks.mounted(tmp_path / "copy", tmp_path / "disk"):
        assert (tmp_path / "disk/synced").read_bytes() == b"1" * 5000
        assert not (tmp_path / "disk/not").exists() or (tmp_path / "disk/not").stat().st_size == 0
