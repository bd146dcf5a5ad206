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
from storage import codecs, components, errors, segments, work_folder
from storage.folder import CorpusFolder
from storage.generations import folder_of


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


# Pages that may be quarantined whatever their share: small sources have few pages.
FREE_QUARANTINED: Final = 10
# In a job's plan, the number of the generation that is added.
GENERATION: Final = "generation"
# In a job's plan, the name of a table of neighbours that is written; a memory version's is under "version".
TABLE: Final = "neighbours"


@dataclass(frozen=True, kw_only=True)
class Begun:
    """What a job has begun and not finished.

    Attributes:
        name: of a memory version or a table of neighbours, or the number of a generation.
        words: what it is.
        folders: where it lies, below the corpus.
    """

    name: str
    words: str
    folders: tuple[str, ...]


def begun(corpus: CorpusFolder) -> Begun | None:
    """What was begun and is not finished: a memory version, a table of neighbours or a generation.

    A job that is killed between the manifest and the end of its clearing up leaves the plan of something
    that is there.
    """
    plan = corpus.work.read_plan() or {}
    found = corpus.manifest
    number = plan.get(GENERATION)
    if isinstance(number, int) and number > found.generation:
        return Begun(
            name=str(number),
            words=f"update {number}",
            folders=(folder_of(number),),
        )
    version = plan.get("version")
    if version is not None:
        every = segments.of(corpus)
        lacking = [part for part in every if version not in part.manifest.of(components.MEMORY)]
        if lacking:
            folder = components.MEMORY.folder(str(version))
            return Begun(
                name=str(version),
                words=f"version {version}",
                folders=tuple(part.path(folder) for part in lacking),
            )
    table = plan.get(TABLE)
    if table is not None and table not in found.of(components.NEIGHBOURS):
        folder = components.NEIGHBOURS.folder(str(table))
        return Begun(name=str(table), words=f"table {table} of neighbours", folders=(folder,))
    return None


def unfinished(corpus: CorpusFolder) -> str | None:
    """The name of what was begun and is not finished; see `begun`."""
    found = begun(corpus)
    return None if found is None else found.name


def told(corpus: CorpusFolder) -> str:
    """What is unfinished, in words."""
    found = begun(corpus)
    return "nothing" if found is None else found.words


def require_none_begun(corpus: CorpusFolder) -> None:
    """Refuse to work where something is unfinished; clear what a job left that was killed after its commit.

    Raises:
        CorpusError: another job's work is unfinished.
    """
    if begun(corpus) is not None:
        raise errors.CorpusError(
            f"{told(corpus)} is unfinished in {corpus}; finish it, or drop it by `memcorpus gc --unfinished`"
        )
    clear_finished(corpus)


def clear_finished(corpus: CorpusFolder) -> None:
    """Take away what a job left that was killed after its commit: in every segment, and its plan last."""
    if begun(corpus) is None:
        clear(corpus)


def clear(corpus: CorpusFolder) -> None:
    """As `clear_finished`, for the job itself, which knows that it is done."""
    for path in works(corpus):
        corpus.remove_folder(path)
    if corpus.work.has_plan() or corpus.work.is_empty():
        corpus.work.remove()


def require_local(corpus: CorpusFolder, what: str) -> None:
    """Refuse an object store, for what is written on a local disk alone.

    Raises:
        CorpusError: the corpus is in one.
    """
    if corpus.values is not None:
        raise errors.CorpusError(
            f"corpus {corpus}: {what} is done on a local disk; copy the corpus there, and back again"
        )


def works(corpus: CorpusFolder) -> list[str]:
    """Where jobs have worked beside the corpus's own work folder, below the corpus."""
    folders = [generation.folder for generation in corpus.manifest.generations]
    if corpus.manifest.compacted is not None:
        folders.append(corpus.manifest.compacted.folder)
    paths = [f"{folder}/{work_folder.NAME}" for folder in folders if folder]
    return [path for path in paths if corpus.path(path).is_dir()]


def allowed_quarantined(share: float, pages: int) -> int:
    """Pages that may be unreadable before a job gives up."""
    return max(FREE_QUARANTINED, int(share * pages)) if share else 0


def location(model: str) -> str:
    """Where a model can be found again: a hub name as it is, a folder in full."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model
