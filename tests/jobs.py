"""Jobs on a corpus as commands run them: each opens the folder anew, and knows nothing of the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.accounts import facts, figures
from pipeline.components.settings import BuildSettings
from pipeline.jobs import build as build_module
from pipeline.jobs import compact as compact_module
from pipeline.jobs import job, versions
from pipeline.jobs import neighbours as neighbours_module
from pipeline.jobs import reencode as reencode_module
from pipeline.jobs import repair as repair_module
from pipeline.jobs import update as update_module
from pipeline.jobs import verify as verify_job_module
from pipeline.jobs.job import Outcome
from pipeline.jobs.neighbours import NeighboursSettings
from pipeline.jobs.reencode import ReencodeSettings
from pipeline.units import engines
from storage import verify as verify_module
from storage.folder import CorpusFolder
from storage.manifest import Manifest


def build(settings: BuildSettings, out: Path, **arguments: Any) -> Outcome:
    return build_module.build(settings, CorpusFolder(out), **arguments)


def reencode(root: Path, settings: ReencodeSettings, **arguments: Any) -> tuple[Outcome, str]:
    return reencode_module.reencode(CorpusFolder(root), settings, **arguments)


def update(root: Path, *sources: str, **arguments: Any) -> update_module.Updated:
    passed = {k: arguments.pop(k) for k in ("engine", "observer", "exact_limit") if k in arguments}
    settings = update_module.UpdateSettings(sources=sources, **arguments)
    return update_module.update(CorpusFolder(root), settings, **passed)


def compact(root: Path, **arguments: Any) -> compact_module.Compacted:
    return compact_module.compact(CorpusFolder(root), **arguments)


def repair(root: Path, **arguments: Any) -> repair_module.Repaired:
    return repair_module.repair(CorpusFolder(root), **arguments)


def verify(root: Path, **arguments: Any) -> verify_module.Verification:
    return verify_module.verify_corpus(CorpusFolder(root), **arguments)


def verify_job(root: Path, **arguments: Any) -> verify_module.Verification:
    arguments.setdefault("engine", engines.chosen())
    return verify_job_module.verify(CorpusFolder(root), **arguments)


def neighbours(root: Path, *, of: Path | None = None, **arguments: Any) -> str:
    """The name of the table."""
    passed = {name: arguments.pop(name) for name in ("engine", "observer") if name in arguments}
    other = None if of is None else CorpusFolder(of)
    settings = NeighboursSettings(**arguments)
    return neighbours_module.make(CorpusFolder(root), settings, of=other, **passed)[1]


def use(root: Path, version: str | None, **arguments: Any) -> str:
    return versions.use(CorpusFolder(root), version, **arguments)


def forget(root: Path, alias: str) -> None:
    versions.forget(CorpusFolder(root), alias)


def diff(root: Path, first: str, second: str, **arguments: Any) -> dict[str, Any]:
    return versions.diff(CorpusFolder(root), first, second, **arguments)


def garbage(root: Path, **arguments: Any) -> list[versions.Garbage]:
    return versions.garbage(CorpusFolder(root), **arguments)


def collect(root: Path, **arguments: Any) -> list[versions.Garbage]:
    return versions.collect(CorpusFolder(root), **arguments)


def load_encoder(root: Path, name: str | None, version: str | None) -> Any:
    return versions.load_encoder(CorpusFolder(root), name, version)


def listed(root: Path) -> list[dict[str, Any]]:
    return figures.versions(facts.read(CorpusFolder(root)))


def manifest(root: Path) -> Manifest:
    return CorpusFolder(root).manifest


def unfinished(root: Path) -> str | None:
    return job.unfinished(CorpusFolder(root))
