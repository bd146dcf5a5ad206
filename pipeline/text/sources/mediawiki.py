"""MediaWiki XML exports: Wikimedia's dumps, whole or in parts, plain or compressed.

Versions 0.3 to 0.11 of the export schema. Splits are byte ranges of plain XML, and runs of streams
of bzip2 (a dump of one stream is one split; so is gzip, and XML in another encoding than UTF-8).
"""

from __future__ import annotations

import codecs
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.text.articles import Page, Quarantined
from pipeline.text.sources import base, kinds, mediawiki_page, page_scan, plain, streams
from pipeline.text.sources.base import Skimmed, Source, SourceError, Split, SplitProgress
from pipeline.text.sources.blocks import Blocks, Transcoded, open_blocks
from pipeline.text.wikitext import Namespaces, own_templates
from pipeline.text.wikitext.own_templates import OwnTemplates
from storage import stored_file

FORMAT = "mediawiki"
PATTERNS = ("*.xml", "*.xml.bz2", "*.xml.gz", "*.xml-p*.bz2", "*.xml-p*.gz", "*.xml-p*[0-9]")

_HEAD_BYTES = 1 << 20
_TAIL_BYTES = 1 << 16
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0?\0", "utf-16-le"),
    (b"\0<\0?", "utf-16-be"),
    (b"<\0m\0", "utf-16-le"),
    (b"\0<\0m", "utf-16-be"),
)
_DECLARED = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.\-]+)["']""")
_ROOT = re.compile(r"<mediawiki(?=[\s>])[^>]*>?")
_LANGUAGE = re.compile(r"""xml:lang\s*+=\s*+["']([\w\-]{1,40})""")
_HEAD_END = re.compile(r"</siteinfo\s*>|<page[\s>]|</mediawiki\s*>")
_SITEINFO = re.compile(r"<siteinfo>|</siteinfo\s*>")
# "pages-articles-multistream1.xml-p1p41242.bz2": stem, number of the part, its pages.
_NAME = re.compile(r"(.*?)(?:-multistream)?(\d*)\.xml(-p\d+p\d+)?(?:\.bz2|\.gz)?")


@dataclass(frozen=True)
class Head:
    """What an export says before its first page."""

    encoding: str
    namespaces: Namespaces
    language: str = ""


@dataclass(frozen=True)
class MediaWiki:
    """One or more export files."""

    dumps: tuple[Path, ...]
    format: str = FORMAT

    @property
    def files(self) -> tuple[Path, ...]:
        indexes = (streams.index_of(dump) for dump in self.dumps)
        return tuple(sorted({*self.dumps, *(index for index in indexes if index)}, key=lambda f: f.name))

    def splits(self, split_bytes: int) -> list[Split]:
        """Splits of about `split_bytes` compressed bytes.

        Reads the indexes, and searches files of bzip2 streams that have none.
        """
        base.check_split_bytes(split_bytes)
        return [split for dump in self.dumps for split in _splits(dump, split_bytes)]


def open_files(files: tuple[Path, ...]) -> Source:
    """See `base.open_source`."""
    dumps = tuple(file for file in files if "-multistream-index" not in file.name)
    if not dumps:
        raise SourceError(f"{files[0]} is a multistream index; give the dump beside it")
    _refuse_duplicates(dumps)
    for dump in dumps:
        head = read_head(dump)
        compression = kinds.compression(kinds.head_of(dump))
        if compression == kinds.BZ2:
            streams.require_end(dump)
        elif compression is None and head.encoding in ("utf-8", "ascii"):
            _require_end(dump)
    return MediaWiki(dumps)


def _require_end(dump: Path) -> None:
    """As `streams.require_end`, for plain XML."""
    size = dump.stat().st_size
    with base.reading(dump), dump.open("rb") as stream:
        stream.seek(max(0, size - _TAIL_BYTES))
        if b"</mediawiki" not in stream.read():
            raise SourceError(
                f"{dump} is cut off: it ends at byte {size:,} without </mediawiki>; finish its download"
            )


def _refuse_duplicates(dumps: tuple[Path, ...]) -> None:
    """A folder of downloads often holds the same dump as one file, as many, and as multistream."""
    seen: dict[tuple[Path, str], dict[str, Path]] = {}
    for dump in dumps:
        if found := _NAME.fullmatch(dump.name):
            stem, number, pages = found.groups(default="")
            parts = seen.setdefault((dump.parent, stem), {})
            part = number + pages
            whole = parts.get("")
            other = parts.get(part) or (whole if pages else None)
            if other is None and not part:
                other = next((file for name, file in parts.items() if "-p" in name), None)
            if other is not None:
                raise SourceError(f"{other.name} and {dump.name} are the same pages twice; give one of them")
            parts[part] = dump


def read_head(dump: Path) -> Head:
    """Encoding and namespaces of an export, from its first bytes (1 MiB at most).

    Raises:
        SourceError: the file is no MediaWiki export, or is cut off or damaged before its pages.
    """
    start = kinds.head_of(dump)
    data = b""
    for block in open_blocks(dump, 0, dump.stat().st_size):
        data += block
        if len(data) >= _HEAD_BYTES or _HEAD_END.search(data.decode("latin-1")):
            break
    data = data[:_HEAD_BYTES]
    encoding = _encoding(dump, data)
    text = data.decode(encoding, "replace").removeprefix("\ufeff")
    if not text.lstrip().startswith(("<mediawiki", "<?xml", "<!--")) or not (root := _ROOT.search(text)):
        seen = start if kinds.compression(start) is None else data
        inside = "" if seen is start else "inside, "
        raise SourceError(
            f"{dump}: {inside}{kinds.describe(seen)}, not a MediaWiki export; give a dump such as "
            "enwiki-20250101-pages-articles-multistream.xml.bz2"
        )
    language = _LANGUAGE.search(root.group())
    return Head(encoding, _namespaces(dump, text), language.group(1) if language else "")


def _encoding(dump: Path, data: bytes) -> str:
    for mark, name in _BOMS:
        if data.startswith(mark):
            return name
    declared = _DECLARED.search(data[:512])
    name = declared.group(1).decode() if declared else "utf-8"
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise SourceError(
            f"{dump} declares encoding {name!r}, which Python does not know; convert it to UTF-8"
        ) from None


def _namespaces(dump: Path, text: str) -> Namespaces:
    start, end = _SITEINFO.search(text), None
    if start is not None:
        end = next((tag for tag in _SITEINFO.finditer(text, start.end()) if tag.group()[1] == "/"), None)
    if start is None or end is None:
        return Namespaces()
    try:
        siteinfo = ElementTree.fromstring(text[start.start() : end.end()].encode("utf-8", "replace"))
        names = {
            int(element.get("key", "")): plain.title(element.text or "")
            for element in siteinfo.iter("namespace")
        }
    except (ElementTree.ParseError, ValueError) as error:
        raise SourceError(f"{dump}: its <siteinfo> cannot be read ({error}); get it again") from error
    return Namespaces(names)


def _splits(dump: Path, split_bytes: int) -> list[Split]:
    size = dump.stat().st_size
    compression = kinds.compression(kinds.head_of(dump))
    if compression == kinds.GZIP or read_head(dump).encoding not in ("utf-8", "ascii"):
        starts = [0]
    elif compression == kinds.BZ2:
        starts = streams.choose_starts(dump, split_bytes, streams.index_of(dump))
    else:
        starts = list(range(0, size, split_bytes))
    # The last split says whether the file is whole, so it must see how the file ends: one that
    # begins inside "</mediawiki>" does not.
    while len(starts) > 1 and not _sees_end(open_blocks(dump, starts[-1], size)):
        starts.pop()
    return base.byte_splits(FORMAT, dump, starts=starts, size_bytes=size)


def _sees_end(blocks: Blocks) -> bool:
    tail = b""
    try:
        for block in blocks:
            tail = tail[-16:] + block
            if b"</mediawiki" in tail or b"<page" in tail or blocks.delivered > 4 << 20:
                return True
    except SourceError:
        return True  # its reader will raise it
    return False


def read(split: Split, progress: SplitProgress, own: OwnTemplates = own_templates.NONE) -> Iterator[Page]:
    """The pages whose `<page>` starts in the split. What precedes the first one is its neighbour's.

    Args:
        split: of one file.
        progress: shown how far it is.
        own: templates that a user's file names.

    Raises:
        SourceError: the file is cut off or damaged; the message says where.
    """
    for page in skim(split, progress, own):
        yield page.parse()


def skim(split: Split, progress: SplitProgress, own: OwnTemplates = own_templates.NONE) -> Iterator[Skimmed]:
    """The same pages by their bytes of XML, cut out but not converted, which is what takes the time."""
    dump = stored_file.at(split.path)
    head = read_head(dump)
    blocks = open_blocks(dump, split.start, split.stop)
    if head.encoding not in ("utf-8", "ascii"):
        blocks = Transcoded(blocks, head.encoding)
    for fragment in page_scan.fragments(blocks, dump):
        progress.advance_to(blocks.position - split.start)
        progress.text_bytes = blocks.delivered
        yield Skimmed(size=len(fragment.data), parse=partial(_page, fragment, head, own))
    progress.text_bytes = blocks.delivered


def _page(fragment: page_scan.Fragment, head: Head, own: OwnTemplates) -> Page:
    if fragment.problem:
        return Quarantined(page_id=fragment.page_id, title=fragment.title, reason=fragment.problem)
    return mediawiki_page.parse(fragment, head.namespaces, head.language, own)
