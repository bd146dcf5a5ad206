"""What every job on a corpus needs: its outcome, names that are ours, a plan that must agree."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoders import fingerprint
from pipeline.units import work
from storage import errors
from storage.folder import CorpusFolder


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`already` is True where everything stood before, and nothing was done."""

    corpus: CorpusFolder
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


def unfinished(corpus: CorpusFolder) -> str | None:
    """The memory version that was begun and is not finished; None if what lies in `work/` is no such thing.

    A job that is killed between the manifest and the end of its clearing up leaves the plan of a version
    that is there.
    """
    version = (corpus.work.read_plan() or {}).get("version")
    return None if version is None or version in corpus.manifest.versions else str(version)


def location(model: str) -> str:
    """Where a model can be found again: a hub name as it is, a folder in full."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def require_same(corpus: CorpusFolder, found: Mapping[str, Any], wanted: Mapping[str, Any], how: str) -> None:
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
        f"{corpus} {how} with {key} = {_short(here)}, this command has {_short(now)}{more}; "
        "use the same, or another folder"
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
