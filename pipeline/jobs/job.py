"""What every job on a corpus needs: its outcome, names that are ours, what is unfinished."""

from __future__ import annotations

import functools
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from encoders import processor
from pipeline.components.settings import ALL_DEVICES
from pipeline.units import accelerators, work
from storage import codecs, components, errors
from storage.components import AnyComponent
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


# In a job's plan, the name of a table of neighbours that is written; a memory version's is under "version".
TABLE: Final = "neighbours"


def begun(corpus: CorpusFolder) -> tuple[AnyComponent, str] | None:
    """What was begun and is not finished, a memory version or a table of neighbours, if anything is.

    A job that is killed between the manifest and the end of its clearing up leaves the plan of something
    that is there.
    """
    plan = corpus.work.read_plan() or {}
    kinds: dict[str, AnyComponent] = {"version": components.MEMORY, TABLE: components.NEIGHBOURS}
    for key, component in kinds.items():
        name = plan.get(key)
        if name is not None and name not in corpus.manifest.of(component):
            return component, str(name)
    return None


def unfinished(corpus: CorpusFolder) -> str | None:
    """The name of what was begun and is not finished; see `begun`."""
    found = begun(corpus)
    return None if found is None else found[1]


def told(corpus: CorpusFolder) -> str:
    """What is unfinished, in words."""
    found = begun(corpus)
    if found is None:
        return "nothing"
    return f"version {found[1]}" if found[0] == components.MEMORY else f"table {found[1]} of neighbours"


def require_none_begun(corpus: CorpusFolder) -> None:
    """Refuse to work where something is unfinished; clear what a job left that was killed after its commit.

    Raises:
        CorpusError: another job's work is unfinished.
    """
    if begun(corpus) is not None:
        raise errors.CorpusError(
            f"{told(corpus)} is unfinished in {corpus}; finish it, or drop it by `memcorpus gc --unfinished`"
        )
    if corpus.work.has_plan() or corpus.work.is_empty():
        corpus.work.remove()


def location(model: str) -> str:
    """Where a model can be found again: a hub name as it is, a folder in full."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model
