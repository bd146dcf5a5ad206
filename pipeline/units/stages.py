"""What every job on a corpus needs: one writer at a time, stages that resume, a plan that must agree."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoders import fingerprint
from pipeline.units import overlap, progress, runner, work
from storage import errors, files, locks, manifest


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`already` is True where everything stood before, and nothing was done."""

    root: Path
    already: bool
    seconds: float


def check_names() -> None:
    """Refuse to run where another distribution owns one of the four package names.

    Beam's workers import by these names; with another `storage` in the way they would run other code.
    """
    owners = importlib.metadata.packages_distributions()
    for name in work.PACKAGES:
        others = sorted(set(owners.get(name, [])) - {"memcorpus"})
        if others:
            raise errors.CorpusError(
                f"package name {name!r} is also installed by {others[0]}; "
                "install memcorpus in an environment of its own"
            )


def lock(root: Path) -> AbstractContextManager[None]:
    """One writer at a time in a corpus folder."""
    return locks.alone(root, f"another job is at work in {root}; wait for it, or end it")


def unfinished(root: Path) -> str | None:
    """The memory version that was begun and is not finished; None if what lies in `work/` is no such thing.

    A job that is killed between the manifest and the end of its clearing up leaves the plan of a version
    that is there.
    """
    path = work.folder(root) / work.PLAN
    if not path.exists():
        return None
    version = files.read_json(path).get("version")
    return None if version is None or version in manifest.Manifest.read(root).memory else str(version)


def location(model: str) -> str:
    """Where a model can be found again: a hub name as it is, a folder in full."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def require_same(root: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], how: str) -> None:
    """Name the first thing in which what was planned differs from what is asked for now."""
    different = fingerprint.differences(found, wanted)
    if not different:
        return
    key = different[0]
    here: Any = found
    now: Any = wanted
    for name in key.split("."):
        here = here.get(name) if isinstance(here, Mapping) else None
        now = now.get(name) if isinstance(now, Mapping) else None
    more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
    raise errors.MismatchError(
        f"{root} {how} with {key} = {_short(here)}, this command has {_short(now)}{more}; "
        "use the same, or another folder"
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Silent:
    """Shows nothing."""

    def stage_started(self, stage: str, *, measure: str, total: int) -> None: ...
    def stage_polled(self, stage: str, snapshot: progress.Snapshot) -> None: ...
    def stage_finished(self, stage: str, snapshot: progress.Snapshot) -> None: ...


class Stages:
    """Runs stages, each on all units that lack a receipt, and keeps their wall time."""

    def __init__(
        self, root: Path, beam_options: Sequence[str], observer: progress.Observer | None = None
    ) -> None:
        """
        Raises:
            CorpusError: options that Beam or its local runner does not know.
        """
        self.root = root
        self.seconds: dict[str, float] = {}
        self._options = runner.parse_options(beam_options)
        self._observer = observer or _Silent()

    def run(
        self,
        job: runner.AnyJob,
        units: int,
        *,
        measure: str,
        total: int,
        local: bool = False,
        only: Sequence[int] | None = None,
    ) -> None:
        """Run a stage; `local` in this process, without Beam; `only` some of its units."""
        started = time.monotonic()
        (work.folder(self.root) / job.stage).mkdir(parents=True, exist_ok=True)
        self._observer.stage_started(job.stage, measure=measure, total=total)
        tracker = progress.Tracker(self.root, job.stage, units)

        def on_poll() -> None:
            self._observer.stage_polled(job.stage, tracker.snapshot())

        if local:
            overlap.run_units(job, range(units) if only is None else only)
        else:
            runner.run(job, range(units) if only is None else only, self._options, on_poll)
        self.seconds[job.stage] = round(time.monotonic() - started, 3)
        self._observer.stage_finished(job.stage, tracker.snapshot())
