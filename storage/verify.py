"""Verification: is every byte that the manifest answers for there, and as it was written?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from storage import components, errors, manifest, run_statistics, segments
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.segments import Home

_BATCH: Final = 1024


@dataclass(kw_only=True, slots=True)
class Verification:
    """What `verify_corpus` saw. `damaged` holds one line for each file that is not as it was written,
    `entries` the listed ones among them as they should be. `unreadable` holds one for each of which nobody
    can say: it may be whole, so it is not to be made again.

    `strays` are files in the folder that the manifest does not speak of: no harm to any reader, and
    no part of the corpus.
    """

    files: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    entries: list[FileEntry] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.damaged and not self.unreadable


def verify_corpus(
    corpus: CorpusFolder,
    *,
    full: bool,
    on_file: Callable[[FileEntry], None] | None = None,
    threads: int = 4,
) -> Verification:
    """Check a corpus: presence and size of every file, and with `full` every checksum.

    A card that is damaged or cannot be read hides the files behind it; it is reported, and what can still be
    reached is checked.

    Raises:
        CorpusError: there is no corpus in the folder, or of a format that this version does not read.
        UnreadableError: the manifest cannot be read.
    """
    result = Verification()
    try:
        corpus.refresh()
    except errors.DamagedError as e:
        result.damaged.append(str(e))
        return result
    known = {manifest.NAME}
    if not full:
        corpus.look()

    def check(entry: FileEntry) -> tuple[FileEntry, str | None, errors.UnreadableError | None]:
        try:
            return entry, corpus.damage(entry, full=full), None
        except errors.CorpusError as e:  # a path that leaves the folder
            return entry, str(e), None
        except errors.UnreadableError as e:
            return entry, None, e

    hidden: list[str] = []
    with ThreadPoolExecutor(threads) as pool:

        def check_all(entries: Iterator[FileEntry], folder: str, prefix: str = "") -> None:
            try:
                while batch := list(islice(entries, _BATCH)):
                    for entry, wrong, unreadable in pool.map(check, batch):
                        result.files += 1
                        result.bytes += entry.bytes
                        known.add(entry.path)
                        if wrong:
                            result.damaged.append(wrong)
                            result.entries.append(entry)
                        if unreadable:
                            result.unreadable.append(str(unreadable))
                        if on_file:
                            on_file(entry)
            except (errors.CorpusError, errors.UnreadableError) as e:
                said = str(e)
                if prefix:  # the segment knows its own names alone
                    said = f"{prefix}/{said}" if "/" in said.split(" ")[0] else f"{prefix}: {said}"
                (result.damaged if isinstance(e, errors.CorpusError) else result.unreadable).append(said)
                hidden.append(f"{folder}/")

        for home in segments.homes(corpus):
            for component in components.TABLE:
                for name in home.manifest.of(component):
                    folder = home.path(component.folder(name))
                    own = home.folder.files_of(component, name)
                    check_all(map(home.entry, own), folder, home.prefix)
            _check_statistics(home, result, known)
        for generation in corpus.manifest.generations:
            if (listed := generation.removed_entry) is not None:
                check_all(iter((listed,)), listed.path)
    # Where a card or a list is damaged, nothing can be said of the files behind it.
    result.strays = [
        name for name in corpus.names() if name not in known and not name.startswith(tuple(hidden))
    ]
    return result


def _check_statistics(home: Home, result: Verification, known: set[str]) -> None:
    """Times are not under the manifest, being different in every run, but they check themselves."""
    corpus = home.folder
    for name in corpus.run_names():
        relative = run_statistics.path_of(name)
        known.add(home.path(relative))
        try:
            found = corpus.run(name)
            if found is None:
                result.damaged.append(f"{home.path(relative)} is missing")
                continue
            known.add(home.path(found.units.path))
            result.files += 2
            result.bytes += corpus.bytes_of(relative) + found.units.bytes
            if wrong := corpus.damage(found.units):
                result.damaged.append(wrong)
        except errors.UnreadableError as e:
            result.unreadable.append(str(e))
        except errors.CorpusError as e:
            result.damaged.append(str(e))
