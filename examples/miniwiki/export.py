"""Pages written as a MediaWiki export: plain XML, bz2, or multistream bz2 with its index."""

from __future__ import annotations

import bz2
import codecs
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import BinaryIO, Literal, Protocol
from xml.sax.saxutils import escape

from examples.miniwiki.pages import NAMESPACES, WikiPage, pages

Form = Literal["xml", "bz2", "multistream"]
FORMS: tuple[Form, ...] = ("xml", "bz2", "multistream")
FILE_NAMES: dict[Form, str] = {
    "xml": "miniwiki-pages-articles.xml",
    "bz2": "miniwiki-pages-articles.xml.bz2",
    "multistream": "miniwiki-pages-articles-multistream.xml.bz2",
}
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_EDITORS = ("Example", "Table reader", "Fact checker", "Mapmaker")
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, kw_only=True, slots=True)
class DumpTruth:
    """What a dump holds, counted while it was written; a reader's counts must add up to it."""

    path: Path
    index_path: Path | None
    streams: int
    articles: int
    disambiguations: int
    redirects: int
    other_namespace: int
    not_wikitext: int
    empty: int
    deleted: int
    broken: int

    @property
    def kept(self) -> int:
        """Pages a reader keeps: articles, and disambiguations, which are articles to a reader."""
        return self.articles + self.disambiguations

    @property
    def pages(self) -> int:
        """All pages."""
        dropped = self.redirects + self.other_namespace + self.not_wikitext
        return self.kept + dropped + self.empty + self.deleted + self.broken

    def as_dict(self) -> dict[str, object]:
        """Plain values, ready for JSON."""
        values = asdict(self)
        values["path"] = str(self.path)
        values["index_path"] = None if self.index_path is None else str(self.index_path)
        return values | {"kept": self.kept, "pages": self.pages}


class _Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


def write_dump(
    path: Path | str,
    *,
    articles: int | None = None,
    seed: int = 0,
    form: Form = "multistream",
    pages_per_stream: int = 100,
    encoding: str = "utf-8",
    broken: bool = True,
    invented: int = 0,
) -> DumpTruth:
    """Write a dump; the same arguments give the same bytes, and memory does not grow with it.

    Args:
      path: the file, or an existing folder, in which the file gets its usual name (FILE_NAMES).
      articles: how many articles; None for those of the tables. Other pages come on top.
      seed: of the phrasing, of ids and times, and of the invented entities.
      form: plain XML, one bz2 stream, or multistream bz2 with an index beside it.
      pages_per_stream: pages in one bz2 stream of a multistream dump; Wikimedia has 100.
      encoding: of the XML; other than UTF-8 (say UTF-16) it is named in an XML declaration.
      broken: whether one page is no well-formed XML.
      invented: how many articles about invented entities come on top; those of the tables come
        first, and keep their page ids.

    Returns:
      The counts of pages by kind.

    Raises:
      ValueError: for a count below 1, or a multistream dump that is not UTF-8 (its streams are
        joined as bytes, and each would begin with a byte order mark).
    """
    path = Path(path)
    if path.is_dir():
        path = path / FILE_NAMES[form]
    if pages_per_stream < 1:
        raise ValueError(f"pages_per_stream is {pages_per_stream}, wanted at least 1")
    codec = codecs.lookup(encoding)
    if form == "multistream" and codec.name != "utf-8":
        raise ValueError(f"a multistream dump is UTF-8, not {encoding}; use form 'xml' or 'bz2'")
    counts: Counter[str] = Counter()
    everything = pages(articles, seed, broken=broken, invented=invented)
    numbered = _numbered(everything, seed, counts)
    index_path, streams = None, 1
    with ExitStack() as stack:
        out = stack.enter_context(path.open("wb"))
        if form == "multistream":
            index_path = path.with_name(path.name.removesuffix(".xml.bz2") + "-index.txt.bz2")
            index = stack.enter_context(bz2.open(index_path, "wb"))
            streams = _write_multistream(out, index, numbered, pages_per_stream)
        else:
            sink: _Sink = stack.enter_context(bz2.open(out, "wb")) if form == "bz2" else out
            _write_whole(sink, numbered, codec)
    return DumpTruth(
        path=path,
        index_path=index_path,
        streams=streams,
        articles=counts["article"],
        disambiguations=counts["disambiguation"],
        redirects=counts["redirect"],
        other_namespace=counts["other namespace"],
        not_wikitext=counts["not wikitext"],
        empty=counts["empty"],
        deleted=counts["deleted"],
        broken=counts["broken"],
    )


def page_ids(*, seed: int = 0, invented: int = 0) -> dict[str, int]:
    """The page id of each article, by title, in the dump that `write_dump` writes by default.

    The form, the encoding and the pages in a stream change no id; `articles` and `broken` do.
    """
    numbered = _numbered(pages(seed=seed, invented=invented), seed, Counter())
    return {item.page.title: item.page_id for item in numbered if item.page.kind == "article"}


@dataclass(frozen=True, slots=True)
class _Numbered:
    page_id: int
    page: WikiPage
    xml: str


def _write_whole(sink: _Sink, numbered: Iterable[_Numbered], codec: codecs.CodecInfo) -> None:
    # The incremental encoder writes a byte order mark once, before the first character.
    encode = codec.incrementalencoder().encode
    if codec.name != "utf-8":
        sink.write(encode(f'<?xml version="1.0" encoding="{codec.name.upper()}"?>\n'))
    sink.write(encode(_header()))
    for item in numbered:
        sink.write(encode(item.xml))
    sink.write(encode(_FOOTER))


def _write_multistream(
    out: BinaryIO, index: _Sink, numbered: Iterator[_Numbered], pages_per_stream: int
) -> int:
    """Header, page streams and footer, each a bz2 stream of its own; returns their number."""
    offset = out.write(bz2.compress(_header().encode()))
    streams = 2
    while batch := list(itertools.islice(numbered, pages_per_stream)):
        # Titles stand in Wikimedia's indexes as they stand in the XML, escaped.
        lines = (f"{offset}:{item.page_id}:{_escape(item.page.title)}\n" for item in batch)
        index.write("".join(lines).encode())
        offset += out.write(bz2.compress("".join(item.xml for item in batch).encode()))
        streams += 1
    out.write(bz2.compress(_FOOTER.encode()))
    return streams


def _numbered(stream: Iterable[WikiPage], seed: int, counts: Counter[str]) -> Iterator[_Numbered]:
    """Give each page its ids, time and editor, and count it."""
    rng = Random(f"ids/{seed}")
    page_id, revision, time = 9, 100_000, _EPOCH
    for page in stream:
        # Ids grow with gaps, as in a wiki where pages have been deleted.
        page_id += rng.randint(1, 3)
        revision += rng.randint(1, 40)
        time += timedelta(seconds=rng.randint(1, 3600))
        counts[page.kind] += 1
        xml = _page_xml(page, page_id, revision, time, rng.randrange(256))
        yield _Numbered(page_id, page, xml)


def _page_xml(page: WikiPage, page_id: int, revision: int, time: datetime, dice: int) -> str:
    data = page.text.encode()
    size = len(data)
    sha1 = _sha1(data)
    if page.kind == "deleted":
        text, stamp = '<text bytes="0" deleted="deleted" />', "<sha1 />"
    else:
        stamp = f"<sha1>{sha1}</sha1>"
        attributes = f'bytes="{size}" sha1="{sha1}" xml:space="preserve"'
        body = page.text if page.kind == "broken" else _escape(page.text)
        text = f"<text {attributes}>{body}</text>" if size else f"<text {attributes} />"
    redirect = f'\n    <redirect title="{_escape(page.redirect)}" />' if page.redirect else ""
    parent = f"\n      <parentid>{revision - 1}</parentid>" if dice % 2 else ""
    comment = "\n      <comment>figures, and &quot;names&quot; &lt;checked&gt;</comment>" * (dice % 3 == 0)
    editor = dice % len(_EDITORS)
    if dice % 7:
        who = f"<username>{_EDITORS[editor]}</username>\n        <id>{editor + 1}</id>"
    else:
        who = f"<ip>192.0.2.{dice}</ip>"  # a block of addresses set aside for documentation
    return f"""\
  <page>
    <title>{_escape(page.title)}</title>
    <ns>{page.ns}</ns>
    <id>{page_id}</id>{redirect}
    <revision>
      <id>{revision}</id>{parent}
      <timestamp>{time:%Y-%m-%dT%H:%M:%SZ}</timestamp>
      <contributor>
        {who}
      </contributor>{comment}
      <origin>{revision}</origin>
      <model>{page.model}</model>
      <format>{page.format}</format>
      {text}
      {stamp}
    </revision>
  </page>
"""


def _escape(text: str) -> str:
    return escape(text, {'"': "&quot;"})


def _sha1(data: bytes) -> str:
    """SHA-1 as MediaWiki prints it: 31 digits to the base 36."""
    number = int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest(), "big")
    digits = []
    for _ in range(31):
        number, digit = divmod(number, 36)
        digits.append(_BASE36[digit])
    return "".join(reversed(digits))


def _header() -> str:
    spaces = "".join(
        f'\n      <namespace key="{key}" case="first-letter"' + (f">{name}</namespace>" if name else " />")
        for key, name in NAMESPACES.items()
    )
    base = "http://www.mediawiki.org/xml/export-0.11"
    return f"""\
<mediawiki xmlns="{base}/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="{base}/ {base}.xsd" version="0.11" xml:lang="en">
  <siteinfo>
    <sitename>Miniwiki</sitename>
    <dbname>miniwiki</dbname>
    <base>https://example.org/wiki/Main_Page</base>
    <generator>MediaWiki 1.43.0</generator>
    <case>first-letter</case>
    <namespaces>{spaces}
    </namespaces>
  </siteinfo>
"""


_FOOTER = "</mediawiki>\n"
