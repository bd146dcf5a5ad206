"""Real file systems for a test: an ext4 in a file, a small one in memory. They need root."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

IMAGE_BYTES: Final = 48 << 20
# How often a copy is tried again, because the kernel wrote meanwhile.
_COPIES: Final = 100


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def require_mounts(folder: Path) -> None:
    """Skip the test where nothing can be mounted."""
    if os.geteuid() != 0:
        pytest.skip("file systems are mounted by root alone")
    at = folder / "tried"
    at.mkdir()
    tried = subprocess.run(["mount", "-t", "tmpfs", "none", at], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"nothing can be mounted here: {tried.stderr.strip()}")
    _run("umount", at)


def make_image(folder: Path) -> Path:
    """An empty ext4 in a file; skips the test where there are no loop devices."""
    require_mounts(folder)
    for tool in ("losetup", "mkfs.ext4"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    _run("mkfs.ext4", "-q", image)
    tried = subprocess.run(["losetup", "--find"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no loop devices: {tried.stderr.strip()}")
    return image


class Disk:
    """An image that is mounted."""

    def __init__(self, image: Path, device: str) -> None:
        self._image = image
        self._state = Path("/sys/block") / Path(device).name

    def copy(self, to: Path) -> None:
        """What the disk holds at this moment, and would after a power cut: nothing is written back for it."""
        for _ in range(_COPIES):
            before = self._written()
            _run("cp", "--sparse=always", self._image, to)
            if before is not None and before == self._written():
                return
            time.sleep(0.02)
        raise TimeoutError(f"the kernel does not stop writing to {self._image}")

    def _written(self) -> str | None:
        """How many writes the device has done; None while it is at one."""
        # Fields 5 to 7 are writes, merged and sectors, 9 is what is in flight.
        fields = (self._state / "stat").read_text().split()
        return None if fields[8] != "0" else " ".join(fields[4:7])


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Disk]:
    """Mount an image at a folder, its journal replayed if it was not unmounted."""
    at.mkdir(exist_ok=True)
    device = _run("losetup", "--find", "--show", image)
    try:
        _run("mount", device, at)
        try:
            yield Disk(image, device)
        finally:
            _run("umount", at)
    finally:
        _run("losetup", "--detach", device)


@contextmanager
def in_memory(at: Path) -> Iterator[None]:
    """A file system in memory at a folder, with room for all."""
    at.mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", "size=64m", "none", at)
    try:
        yield
    finally:
        _run("umount", at)


def set_room(at: Path, pages: int) -> None:
    """Let the file system in memory take so many pages more than it holds."""
    state = os.statvfs(at)
    held = state.f_blocks - state.f_bfree
    _run("mount", "-o", f"remount,size={(held + pages) * state.f_frsize}", at)


def set_read_only(at: Path, *, read_only: bool) -> None:
    _run("mount", "-o", f"remount,{'ro' if read_only else 'rw'}", at)


def sync(at: Path) -> None:
    """All that was written is on the disk."""
    _run("sync", "-f", at)
