"""Verification: is every byte that the manifest answers for there, and as it was written?

Whoever checks a file's bytes, this process or workers elsewhere, the findings are put together here, in
one order and in the same words. What is held does not grow with the corpus, but for eight bytes a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from storage import components, errors, file_list, manifest, run_statistics, segments, shard_numbers
from storage.components import AnyComponent
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.name_set import NameSet
from storage.segments import Home
from storage.shard_numbers import ShardNumbers

_BATCH: Final = 1024
THREADS: Final = 4


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Roll:
    """One component of one segment, whose files have places; see `CorpusFolder.files_of`."""

    home: Home
    component: AnyComponent
    name: str

    @property
    def folder(self) -> str:
        """Below the corpus."""
        return self.home.path(self.component.folder(self.name))

    @property
    def speaks(self) -> tuple[str, str]:
        """The card, and the list of files if there is one, by which all others are known."""
        folder = self.component.folder(self.name)
        return self.component.card_path(self.name), f"{folder}/{file_list.NAME}"

    def entries(self, first: int = 0, stop: int | None = None) -> Iterator[tuple[int, FileEntry]]:
        """Places and files, by their names below the corpus.

        Raises while it is iterated, where the card or the list of files is damaged.
        """
        own = self.home.folder.files_of(self.component, self.name, first, stop)
        return ((place, self.home.entry(entry)) for place, entry in enumerate(own, first))

    def only(
        self, shards: ShardNumbers, entries: Iterable[tuple[int, FileEntry]]
    ) -> Iterator[tuple[int, FileEntry]]:
        """Of some of its files those that are of shards."""
        named: int | None = None
        for place, entry in entries:
            if shards.holds(self.home.number, entry.path):
                # The arrays that the card itself names are of all shards.
                if named is None:
                    named = len(self.home.folder.named(self.component, self.name))
                if place >= named:
                    yield place, entry


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """A file, and what is wrong with it, in words; or why nobody can say."""

    entry: FileEntry
    damaged: str | None = None
    unreadable: str | None = None


class Check(Protocol):
    """Whoever looks at files."""

    def __call__(self, roll: Roll, entries: Iterator[tuple[int, FileEntry]], /) -> Iterator[Checked]:
        """What is to be said of each file, in order.

        Raises:
            CorpusError, UnreadableError: of those behind nothing can be said.
        """


def rolls_of(home: Home) -> Iterator[Roll]:
    """All components of a segment, in the order in which they are checked."""
    for component in components.TABLE:
        for name in home.manifest.of(component):
            yield Roll(home=home, component=component, name=name)


def check_file(corpus: CorpusFolder, entry: FileEntry, *, full: bool) -> Checked:
    """Look at one file: its presence and size, and with `full` every byte."""
    try:
        return Checked(entry=entry, damaged=corpus.damage(entry, full=full))
    except errors.CorpusError as e:  # a path that leaves the folder
        return Checked(entry=entry, damaged=str(e))
    except errors.UnreadableError as e:
        return Checked(entry=entry, unreadable=str(e))


def verify_corpus(
    corpus: CorpusFolder,
    *,
    full: bool,
    shards: ShardNumbers | None = None,
    on_file: Callable[[FileEntry], None] | None = None,
    threads: int = THREADS,
    check: Check | None = None,
) -> Verification:
    """Check a corpus: presence and size of every file, and with `full` every checksum.

    A card that is damaged or cannot be read hides the files behind it; it is reported, and what can still be
    reached is checked.

    Args:
        corpus: a finished one.
        full: every byte is read.
        shards: of these alone; then nothing else is looked at, and strays are not looked for.
        on_file: told of each file that was checked.
        threads: that check files at the same time, where nobody else does.
        check: who looks at files; None: this process.

    Raises:
        CorpusError: there is no corpus in the folder, or of a format that this version does not read; no
            such shards.
        UnreadableError: the manifest cannot be read.
    """
    try:
        corpus.refresh()
    except errors.DamagedError as e:
        return Verification(damaged=[str(e)])
    if shards is not None:
        shard_numbers.require_there(corpus, shards)
    if check is not None:
        return _Verifying(corpus, shards, on_file, check).run()
    if not full and shards is None:
        corpus.look()
    with ThreadPoolExecutor(threads) as pool:

        def check_here(roll: Roll, entries: Iterator[tuple[int, FileEntry]]) -> Iterator[Checked]:
            for batch in _batches(entries):
                yield from pool.map(lambda item: check_file(corpus, item[1], full=full), batch)

        return _Verifying(corpus, shards, on_file, check_here).run()


def _batches(entries: Iterator[tuple[int, FileEntry]]) -> Iterator[list[tuple[int, FileEntry]]]:
    """Some at a time; what came before an error is checked before that is raised."""
    failed: Exception | None = None
    while failed is None:
        batch: list[tuple[int, FileEntry]] = []
        try:
            batch.extend(islice(entries, _BATCH))
        except (errors.CorpusError, errors.UnreadableError) as e:
            failed = e
        if batch:
            yield batch
        elif failed is None:
            return
    raise failed


def _without(lines: list[str], begun: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith(tuple(begun))]


class _Verifying:
    """One verification."""

    def __init__(
        self,
        corpus: CorpusFolder,
        shards: ShardNumbers | None,
        on_file: Callable[[FileEntry], None] | None,
        check: Check,
    ) -> None:
        self._corpus, self._shards, self._on_file, self._check = corpus, shards, on_file, check
        self._result = Verification()
        self._known = NameSet()
        self._known.add(manifest.NAME)
        # Where a card or a list is damaged, nothing can be said of the files behind it.
        self._hidden: list[str] = []

    def run(self) -> Verification:
        corpus = self._corpus
        for home in segments.homes(corpus):
            for roll in rolls_of(home):
                self._files(roll)
            self._statistics(home)
        if self._shards is not None:
            return self._result
        for generation in corpus.manifest.generations:
            if (listed := generation.removed_entry) is not None:
                self._take(check_file(corpus, listed, full=True))
        hidden = tuple(self._hidden)
        self._result.strays = [
            name for name in self._known.strangers(corpus.names()) if not name.startswith(hidden)
        ]
        return self._result

    def _files(self, roll: Roll) -> None:
        result, lines = self._result, len(self._result.damaged)
        unreadable = len(result.unreadable)
        try:
            entries = roll.entries()
            if self._shards is not None:
                entries = roll.only(self._shards, entries)
            for checked in self._check(roll, entries):
                self._take(checked)
        except (errors.CorpusError, errors.UnreadableError) as e:
            # What is wrong with the card or the list is why nothing more can be said: that is said once.
            told = [f"{roll.home.path(name)} " for name in roll.speaks]
            result.damaged[lines:] = _without(result.damaged[lines:], told)
            result.entries = [entry for entry in result.entries if f"{entry.path} " not in told]
            said, prefix = str(e), roll.home.prefix
            first = said.split(" ")[0]
            if prefix and not first.startswith("/") and "://" not in first:
                # The segment knows its own names alone.
                said = f"{prefix}/{said}" if "/" in first else f"{prefix}: {said}"
            if isinstance(e, errors.CorpusError):
                result.damaged.append(said)
            elif said not in result.unreadable[unreadable:]:
                result.unreadable.append(said)
            self._hidden.append(f"{roll.folder}/")

    def _take(self, checked: Checked) -> None:
        result, entry = self._result, checked.entry
        result.files += 1
        result.bytes += entry.bytes
        self._known.add(entry.path)
        if checked.damaged:
            result.damaged.append(checked.damaged)
            result.entries.append(entry)
        if checked.unreadable:
            result.unreadable.append(checked.unreadable)
        if self._on_file:
            self._on_file(entry)

    def _statistics(self, home: Home) -> None:
        """Times are not under the manifest, being different in every run, but they check themselves."""
        if self._shards is not None:
            return
        corpus, result = home.folder, self._result
        for name in corpus.run_names():
            relative = run_statistics.path_of(name)
            self._known.add(home.path(relative))
            try:
                found = corpus.run(name)
                if found is None:
                    result.damaged.append(f"{home.path(relative)} is missing")
                    continue
                self._known.add(home.path(found.units.path))
                result.files += 2
                result.bytes += corpus.bytes_of(relative) + found.units.bytes
                if wrong := corpus.damage(found.units):
                    result.damaged.append(wrong)
            except errors.UnreadableError as e:
                result.unreadable.append(str(e))
            except errors.CorpusError as e:
                result.damaged.append(str(e))
