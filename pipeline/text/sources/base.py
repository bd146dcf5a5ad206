"""What every source has in common: splits, readers, and opening one by its name.

A source format is a module of this package with three things: `PATTERNS` (which files of a folder
are its own), `open_files(files)` (checks them and returns a `Source`) and `read(split, progress)`
(yields the split's pages). Modules are imported on first use, so that reading JSONL needs no
pyarrow and a worker pays for its own format only.
"""

from __future__ import annotations

import glob
import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, cast

from pipeline.text.articles import Article, Page
from pipeline.text.wikitext import own_templates
from pipeline.text.wikitext.own_templates import OwnTemplates
from storage import errors, stored_file

_MODULES = {
    "mediawiki": "pipeline.text.sources.mediawiki",
    "kilt": "pipeline.text.sources.kilt",
    "dpr": "pipeline.text.sources.dpr",
    "wikipedia": "pipeline.text.sources.wikipedia_parquet",
    "jsonl": "pipeline.text.sources.jsonl",
}
FORMATS = tuple(_MODULES)
# Those whose pages are wikitext: their readers take the templates of a user's file as well.
_WIKITEXT = frozenset(("mediawiki",))


class SourceError(errors.CorpusError):
    """A source that cannot be read as what it was given for; the message says where and why."""


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """A block that opens or reads a file of a source.

    Raises:
        SourceError: there is no such file.
        UnreadableError: the disk fails, say: nothing is wrong with what was given.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a library's own, of bytes that make no sense
            raise
        found = errors.from_os(file, error)
        if isinstance(found, errors.UnreadableError):
            raise found from error
        raise SourceError(f"{file}: cannot be read: {error.strerror}; check the path") from error


@dataclass(frozen=True, kw_only=True)
class Split:
    """A part of one file that is read alone, in any process.

    Args:
        format: one of `FORMATS`.
        path: the file, absolute.
        start: first byte of the file as it lies on disk (so of the compressed stream for bz2), or
            first row group of a Parquet file.
        stop: end of that range, exclusive. What belongs to the split is what *starts* in it: its
            last page is read to its end, wherever that is.
        size_bytes: bytes on disk it covers; the splits of a file add up to the file's data.
    """

    format: str
    path: str
    start: int
    stop: int
    size_bytes: int


class Source(Protocol):
    """The files of one `FORMAT:PATH`."""

    @property
    def format(self) -> str:
        """One of `FORMATS`."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file whose bytes decide the outcome, sorted by name."""

    def splits(self, split_bytes: int) -> list[Split]:
        """Splits of about `split_bytes` on disk, in document order; the same on every call."""


class SplitProgress:
    """How far a split has been read. Both counts only grow."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._bytes_read = 0
        self.text_bytes = 0

    @property
    def bytes_read(self) -> int:
        """Bytes on disk, at most the split's size.

        A split's last page may lie in the next split's bytes: those are not counted twice.
        """
        return self._bytes_read

    def advance_to(self, bytes_read: int) -> None:
        """Note that the split's first `bytes_read` bytes on disk have been consumed."""
        self._bytes_read = max(self._bytes_read, min(bytes_read, self._size_bytes))

    def finish(self) -> None:
        """Note that the split has been read to its end."""
        self._bytes_read = self._size_bytes


@dataclass(frozen=True, kw_only=True)
class Skimmed:
    """A page that was found but not converted: its bytes, and the page itself on demand."""

    size: int
    parse: Callable[[], Page]


class SplitReader:
    """Iterates over a split's pages, once, and says how far it is.

    Raises while iterated:
        SourceError: the file is cut off, damaged, or was changed since the source was opened.
    """

    def __init__(self, split: Split, own: OwnTemplates) -> None:
        self.split = split
        self._progress = SplitProgress(split.size_bytes)
        self._given = _given(split, self._progress, own)
        self._pages = self._read()

    def __iter__(self) -> Iterator[Page]:
        return self

    def __next__(self) -> Page:
        return next(self._pages)

    @property
    def bytes_read(self) -> int:
        """Bytes on disk consumed so far; `split.size_bytes` at the end."""
        return self._progress.bytes_read

    @property
    def xml_bytes(self) -> int:
        """Uncompressed bytes consumed so far (of XML, JSON, TSV or text, by format)."""
        return self._progress.text_bytes

    def _read(self) -> Iterator[Page]:
        yield from _module(self.split.format).read(*self._given)
        self._progress.finish()


class SplitSkimmer:
    """As `SplitReader`, for whoever wants the sizes of all pages and the content of few."""

    def __init__(self, split: Split, own: OwnTemplates) -> None:
        self.split = split
        self._progress = SplitProgress(split.size_bytes)
        self._given = _given(split, self._progress, own)
        self._pages = self._skim()

    def __iter__(self) -> Iterator[Skimmed]:
        return self._pages

    @property
    def bytes_read(self) -> int:
        """As `SplitReader.bytes_read`."""
        return self._progress.bytes_read

    def _skim(self) -> Iterator[Skimmed]:
        module = _module(self.split.format)
        native = getattr(module, "skim", None)
        if native is not None:
            yield from native(*self._given)
        else:
            for page in module.read(*self._given):
                yield Skimmed(size=_text_size(page), parse=partial(_same, page))
        self._progress.finish()


def _same(page: Page) -> Page:
    return page


def _text_size(page: Page) -> int:
    """Bytes by which a page of a format that is cheap to read is weighed."""
    if not isinstance(page, Article):
        return 1
    return max(1, sum(len(section.text.encode()) for section in page.sections))


class _Format(Protocol):
    PATTERNS: tuple[str, ...]

    def open_files(self, files: tuple[Path, ...]) -> Source: ...

    # (split, progress), and the user's templates where pages are wikitext.
    read: Callable[..., Iterator[Page]]


def _given(split: Split, progress: SplitProgress, own: OwnTemplates) -> tuple[object, ...]:
    """What the reader of a split's format takes."""
    return (split, progress, own) if split.format in _WIKITEXT else (split, progress)


def _module(name: str) -> _Format:
    return cast(_Format, importlib.import_module(_MODULES[name]))


def read_split(split: Split, own: OwnTemplates = own_templates.NONE) -> SplitReader:
    """Read one split; nothing but the split is needed, the file at its path, and a user's own templates."""
    return SplitReader(split, own)


def skim_split(split: Split, own: OwnTemplates = own_templates.NONE) -> SplitSkimmer:
    """Skim one split: see `SplitSkimmer`."""
    return SplitSkimmer(split, own)


def open_source(spec: str) -> Source:
    """Open "FORMAT:PATH"; PATH is a file, a folder (its files of that format) or a glob.

    Raises:
        SourceError: an unknown format, no such file, or a file that is something else. What can
            be seen without reading the whole is checked here, before any work.
    """
    name, colon, path = spec.partition(":")
    if not colon or not path or name not in _MODULES:
        raise SourceError(
            f"source {spec!r} is not FORMAT:PATH with a known format; "
            f"write one of {', '.join(f'{known}:PATH' for known in FORMATS)}"
        )
    module = _module(name)
    return module.open_files(_find(name, path, module.PATTERNS))


def open_sources(specs: Iterable[str]) -> tuple[Source, ...]:
    """Open each; no file may be in two of them, nor twice in one.

    Raises:
        SourceError: see `open_source` and `refuse_copies`.
    """
    opened = tuple(open_source(spec) for spec in specs)
    files = [file for source in opened for file in source.files]
    # By the file itself, whatever its names and the links to it.
    refuse_copies((file, f"{file.stat().st_dev}:{file.stat().st_ino}") for file in files)
    return opened


def refuse_copies(files: Iterable[tuple[Path, str]]) -> None:
    """Refuse files with the same mark, a digest or a place on disk: every passage would be there twice.

    Raises:
        SourceError: names both.
    """
    seen: dict[str, Path] = {}
    for file, mark in files:
        if (other := seen.setdefault(mark, file)) is not file:
            twice = f"{file} is given twice" if file == other else f"{file} is {other} once more"
            raise SourceError(f"{twice}; give it once, or every passage would be in the corpus twice")


def _find(name: str, path: str, patterns: tuple[str, ...]) -> tuple[Path, ...]:
    stored = stored_file.is_stored(path)
    root = stored_file.StoredFile.of(path) if stored else Path(path).expanduser().absolute()
    if root.is_file():
        return (root,)
    found: set[Path]
    if root.is_dir():
        if isinstance(root, stored_file.StoredFile):
            found = set(root.found(patterns))
        else:
            found = {file for pattern in patterns for file in root.glob(pattern) if file.is_file()}
        if not found:
            raise SourceError(
                f"source {name}:{path} is a folder without {' or '.join(patterns)}; "
                "give the files themselves, or a glob"
            )
    else:
        if isinstance(root, stored_file.StoredFile):
            found = set(root.fitting())
        else:
            globbed = (Path(file) for file in glob.glob(str(root), recursive=True))
            found = {file for file in globbed if file.is_file()}
        if not found:
            raise SourceError(f"source {name}:{path}: no such file; check the path (a glob must match files)")
    return tuple(sorted(found, key=lambda file: (file.name, str(file))))


def byte_splits(name: str, file: Path, *, starts: list[int], size_bytes: int) -> list[Split]:
    """Splits of `file` that begin at `starts` (ascending, the first is 0) and end at its end."""
    stops = [*starts[1:], size_bytes]
    return [
        Split(format=name, path=str(file), start=start, stop=stop, size_bytes=stop - start)
        for start, stop in zip(starts, stops, strict=True)
    ]


def check_split_bytes(split_bytes: int) -> None:
    """Refuse a split size that would never advance."""
    if split_bytes < 1:
        raise SourceError(f"split_bytes is {split_bytes}, wanted at least 1")
