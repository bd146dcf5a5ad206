"""A fault at every call of a command: it ends plainly, and the same command again gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import scenes, tries
from tests.faults.tries import Forker, Scene, Tally

pytestmark = pytest.mark.faults


def run(forker: Forker, scene: Scene, folder: Path, tally: Tally) -> None:
    wrong = tries.run(forker, scene, folder, tally)
    assert not wrong, "\n".join(wrong)


def test_recode(forker: Forker, built: Path, versioned: Path, tmp_path: Path, tally: Tally) -> None:
    run(forker, scenes.recode(built, versioned), tmp_path, tally)


def test_use(forker: Forker, versioned: Path, tmp_path: Path, tally: Tally) -> None:
    run(forker, scenes.use(forker, versioned, tmp_path), tmp_path, tally)


def test_gc(forker: Forker, built: Path, versioned: Path, tmp_path: Path, tally: Tally) -> None:
    run(forker, scenes.gc(forker, built, versioned, tmp_path), tmp_path, tally)


def test_repair(forker: Forker, versioned: Path, tmp_path: Path, tally: Tally) -> None:
    run(forker, scenes.repair(versioned, tmp_path), tmp_path, tally)


def test_build(forker: Forker, build_command: list[str], built: Path, tmp_path: Path, tally: Tally) -> None:
    run(forker, scenes.build(build_command, built), tmp_path, tally)


def test_reencode(forker: Forker, built: Path, tmp_path: Path, tally: Tally) -> None:
    run(forker, scenes.reencode(forker, built, tmp_path), tmp_path, tally)
