"""Verification: is every byte that the manifest answers for there, and as it was written?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from storage import errors, files, manifest
from storage.files import FileEntry

_BATCH: Final = 1024


@dataclass(kw_only=True, slots=True)
class Verification:
    """What `verify` saw. `damaged` holds one line for each file that is not as it was written, `entries`
    the listed ones among them as they should be.

    `strays` are files in the folder that the manifest does not speak of: no harm to any reader, and
    no part of the corpus.
    """

    files: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    entries: list[FileEntry] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.damaged


def verify(
    root: Path,
    *,
    full: bool,
    on_file: Callable[[files.FileEntry], None] | None = None,
    threads: int = 4,
) -> Verification:
    """Check a corpus: presence and size of every file, and with `full` every checksum.

    A damaged card hides the files behind it; it is reported, and what can still be reached is checked.

    Raises:
        CorpusError: there is no corpus in `root`, or of a format that this version does not read.
    """
    result = Verification()
    try:
        found = manifest.Manifest.read(root)
    except errors.DamagedError as e:
        result.damaged.append(str(e))
        return result
    known = {manifest.NAME}

    def check(entry: files.FileEntry) -> tuple[files.FileEntry, str | None]:
        try:
            return entry, files.damage(root, entry, full=full)
        except errors.CorpusError as e:  # a path that leaves the folder
            return entry, str(e)

    hidden: list[str] = []
    with ThreadPoolExecutor(threads) as pool:
        for folder, entries in manifest.components(root, found):
            try:
                while batch := list(islice(entries, _BATCH)):
                    for entry, wrong in pool.map(check, batch):
                        result.files += 1
                        result.bytes += entry.bytes
                        known.add(entry.path)
                        if wrong:
                            result.damaged.append(wrong)
                            result.entries.append(entry)
                        if on_file:
                            on_file(entry)
            except errors.CorpusError as e:
                result.damaged.append(str(e))
                hidden.append(f"{folder}/")
    _check_statistics(root, result, known)
    # Where a card or a list is damaged, nothing can be said of the files behind it.
    result.strays = [
        name
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and (name := path.relative_to(root).as_posix()) not in known
        and not name.startswith(tuple(hidden))
    ]
    return result


def _check_statistics(root: Path, result: Verification, known: set[str]) -> None:
    """Times are not under the manifest, being different in every run, but they check themselves."""
    folder = root / "statistics"
    names = {path.stem for path in folder.glob("*.json")} | {manifest.BUILD}
    for name in sorted(names):
        relative = manifest.statistics_path(name)
        known.add(relative)
        try:
            path = files.inside(root, relative)
            entry = files.FileEntry.from_json(files.read_json(path)["units"])
            known.add(entry.path)
            result.files += 2
            result.bytes += path.stat().st_size + entry.bytes
            if wrong := files.damage(root, entry):
                result.damaged.append(wrong)
        except FileNotFoundError:
            result.damaged.append(f"{relative} is missing")
        except OSError as e:
            result.damaged.append(f"{relative} cannot be read: {e.strerror}")
        except (errors.CorpusError, KeyError) as e:
            result.damaged.append(str(e))
