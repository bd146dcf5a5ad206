"""What every job on a corpus needs: its outcome, names that are ours, what is unfinished."""

from __future__ import annotations

import functools
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from encoders import processor
from pipeline.components.settings import ALL_DEVICES
from pipeline.units import accelerators, work
from storage import codecs, errors
from storage.folder import CorpusFolder


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`already` is True where everything stood before, and nothing was done."""

    corpus: CorpusFolder
    already: bool
    seconds: float


@functools.cache  # what is installed is the same as long as the process lives, and looking takes long
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


def require_codec(codec: codecs.Codec, device: str) -> None:
    """Refuse a codec that this machine's processor cannot compute, where that is what computes.

    Before anything is written; what workers on other machines find, they say.

    Raises:
        Float16Error: it cannot.
    """
    kind = device.partition(":")[0]
    on_processor = kind == "cpu" or (kind == ALL_DEVICES and not accelerators.visible())
    if codec == codecs.FLOAT16 and on_processor:
        processor.require_float16()


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
