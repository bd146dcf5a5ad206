"""Corners of file systems, for jobs and readers: no locks, read-only, a dead disk, a disk full at a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import disks, scenes, tries
from tests.faults.shim import Fault
from tests.faults.tries import Ended, Forker, Scene, Tally

pytestmark = pytest.mark.faults

JOBS = {
    "recode": ("reencode", "--from", "current", "--codec", "float16", "--as", "half"),
    "use": ("use", "small"),
    "gc": ("gc", "--yes"),
}
READERS = {
    "get": ("get", "0", "5", "--memory", "--json"),
    "info": ("info", "--json"),
    "verify": ("verify", "--full"),
    "versions": ("versions", "--json"),
}
# Pages that a full disk is tried with, spread over what the command needs.
FULL_AT = 12


def at(root: Path, command: tuple[str, ...]) -> list[str | Path]:
    return [command[0], root, *command[1:]]


def seconds_aside(ended: Ended) -> list[str]:
    """What was printed, without the time it took."""
    return [line.split(" checked in ")[0] for line in ended.printed]


@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS"])
def test_no_flock(forker: Forker, versioned: Path, tmp_path: Path, tally: Tally, error: str) -> None:
    root = tmp_path / "corpus"
    scene = Scene(name="", before=versioned, command=lambda root: [], after={})
    tries.lay_down(scene, root)
    before = tries.content(root)
    fault = Fault(calls=("flock",), kind=error, first=1, every=1)
    for name, command in JOBS.items():
        ended = forker.run(at(root, command), root, fault)
        assert ended.status == 1, (name, ended.told)
        assert tries.judged(ended, fault) == "refused, 1"
        assert "flock" in ended.told[0]
        assert tries.content(root) == before
        tally.add(name, f"no flock {error}", "refused, 1")
    for name, command in READERS.items():
        ended = forker.run(at(root, command), root, fault)
        assert ended.status == 0, (name, ended.told)
        undisturbed = forker.run(at(versioned, command), root)
        assert len(ended.printed) == len(undisturbed.printed) > 0
        tally.add(name, f"no flock {error}", "done")
    assert tries.content(root) == before


def test_read_only(forker: Forker, versioned: Path, tmp_path: Path, tally: Tally) -> None:
    image = disks.make_image(tmp_path)
    root = tmp_path / "disk/corpus"
    with disks.mounted(image, tmp_path / "disk"):
        tries.lay_down(Scene(name="", before=versioned, command=lambda root: [], after={}), root)
        before = tries.content(root)
        undisturbed = {name: forker.run(at(root, command), root) for name, command in READERS.items()}
        disks.set_read_only(tmp_path / "disk", read_only=True)
        for name, command in READERS.items():
            ended = forker.run(at(root, command), root)
            assert ended.status == 0, (name, ended.told)
            assert seconds_aside(ended) == seconds_aside(undisturbed[name])
            tally.add(name, "read-only", "done")
        for name, command in JOBS.items():
            ended = forker.run(at(root, command), root)
            if name == "gc":  # there is nothing to remove
                assert ended.status == 0, ended.told
                end = "done"
            else:
                assert ended.status == 1, (name, ended.told)
                assert "Read-only file system" in ended.told[0]
                end = tries.judged(ended, Fault(calls=()))
            tally.add(name, "read-only", end)
        disks.set_read_only(tmp_path / "disk", read_only=False)
        assert tries.content(root) == before


def test_a_disk_that_reads_no_more(forker: Forker, versioned: Path, tally: Tally) -> None:
    """A reader says so in one line, or has read all it needs; it never prints other rows."""
    for name, command in READERS.items():
        arguments = at(versioned, command)
        undisturbed = forker.run(arguments, versioned)
        for calls in (("read",), ("open",)):
            counted = len(forker.run(arguments, versioned, Fault(calls=calls)).calls)
            for first in sorted({1 + counted * part // 8 for part in range(8)}):
                fault = Fault(calls=calls, kind="EIO", first=first, every=1)
                ended = forker.run(arguments, versioned, fault)
                end = tries.judged(ended, fault)
                if ended.status == 0:
                    assert seconds_aside(ended) == seconds_aside(undisturbed), (name, str(fault))
                tally.add(name, f"{calls[0]} EIO for ever", end)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    disks.require_mounts(tmp_path)
    folder = tmp_path / "memory"
    with disks.in_memory(folder):
        yield folder


def fill(forker: Forker, scene: Scene, folder: Path, tally: Tally) -> None:
    """The command with room for k pages, for k from none to all that it needs; and again with more."""
    # At first how much it needs, by doubling; then what lies between.
    needed = 1
    while not _full(forker, scene, folder, tally, needed):
        needed *= 2
    for pages in sorted({needed * part // FULL_AT for part in range(FULL_AT)}):
        _full(forker, scene, folder, tally, pages)


def _full(forker: Forker, scene: Scene, folder: Path, tally: Tally, pages: int) -> bool:
    """Did the command succeed with so many pages?"""
    root = folder / "corpus"
    disks.set_room(folder, 1 << 13)
    tries.lay_down(scene, root)
    disks.set_room(folder, pages)
    ended = forker.run(scene.command(root), root)
    end = tries.judged(ended, Fault(calls=()))
    if ended.status == 0:
        assert tries.content(root) == scene.after, (pages, tries.differences(root, scene.after))
    elif end.startswith("refused"):
        assert "space" in ended.told[0], (pages, ended.told)
    if scene.whole:
        # A reader needs no room.
        tries.require_whole(root)
    disks.set_room(folder, 1 << 13)
    tries.finish(forker, scene, root)
    tally.add(scene.name, "full at a page", end)
    return ended.status == 0


def test_full_while_recoding(
    forker: Forker, built: Path, versioned: Path, memory: Path, tally: Tally
) -> None:
    """It foretells what it needs, so the disk has that when it begins; then somebody else takes it."""
    scene = scenes.recode(built, versioned)
    root = memory / "corpus"
    command = scene.command(root)
    tries.lay_down(scene, root)
    counted = len(forker.run(command, root, Fault(calls=("write",))).calls)
    for first in sorted({1 + counted * part // FULL_AT for part in range(FULL_AT)}):
        tries.lay_down(scene, root)
        fault = Fault(calls=("write",), kind="stop", first=first)
        ended = forker.run(command, root, fault, stopped=lambda: disks.set_room(memory, 0))
        end = tries.judged(ended, fault)
        if ended.status == 0:
            assert tries.content(root) == scene.after, (first, tries.differences(root, scene.after))
        else:
            assert "space" in ended.told[0], (first, ended.told)
        tries.require_whole(root)
        disks.set_room(memory, 1 << 13)
        tries.finish(forker, scene, root)
        tally.add(scene.name, "full from a call on", end)


def test_full_while_switching(
    forker: Forker, versioned: Path, memory: Path, tmp_path: Path, tally: Tally
) -> None:
    fill(forker, scenes.use(forker, versioned, tmp_path), memory, tally)


def test_full_while_repairing(
    forker: Forker, versioned: Path, memory: Path, tmp_path: Path, tally: Tally
) -> None:
    fill(forker, scenes.repair(versioned, tmp_path), memory, tally)
