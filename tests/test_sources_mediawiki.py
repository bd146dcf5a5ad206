"""MediaWiki exports: every packing gives the same pages, and nothing that is cut off looks whole."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import pickle
import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.text import articles, sources
from pipeline.text.articles import Article, Dropped, Page, Quarantined
from pipeline.text.sources import SourceError, Split, blocks, page_scan, streams

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "enwiki"
BIG = 1 << 40
HYPOTHESIS = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

SITEINFO = (
    "<siteinfo><sitename>W</sitename><namespaces>"
    '<namespace key="0" case="first-letter" />'
    '<namespace key="1" case="first-letter">Diskussion</namespace>'
    '<namespace key="6" case="first-letter">Datei</namespace>'
    '<namespace key="14" case="first-letter">Kategorie</namespace>'
    "</namespaces></siteinfo>\n"
)
HEAD = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11">\n' + SITEINFO


def page_xml(
    page_id: int | str, text: str, *, title: str = "", ns: str | None = "0", extra: str = "",
    model: str | None = "wikitext", attributes: str = ""
) -> str:  # fmt: skip
    """A page as dumps write it."""
    return (
        f"  <page>\n    <title>{title or f'Title {page_id}'}</title>\n"
        + (f"    <ns>{ns}</ns>\n" if ns is not None else "")
        + f"    <id>{page_id}</id>\n{extra}    <revision>\n      <id>9{page_id}</id>\n"
        "      <timestamp>2020-01-01T00:00:00Z</timestamp>\n"
        + (f"      <model>{model}</model>\n" if model else "")
        + f'      <text bytes="1" xml:space="preserve"{attributes}>{escape(text)}</text>\n'
        "    </revision>\n  </page>\n"
    )


PAGES = [page_xml(i, f"Prose {i} mit ä, 中 und <page> im Text. " * (1 + i % 7)) for i in range(40)]
EXPORT = (HEAD + "".join(PAGES) + "</mediawiki>\n").encode()


def read(path: Path, split_bytes: int = BIG) -> list[Page]:
    source = sources.open_source(f"mediawiki:{path}")
    splits = source.splits(split_bytes)
    assert splits == source.splits(split_bytes)
    assert sum(split.size_bytes for split in splits) == sum(
        file.stat().st_size for file in source.files if "index" not in file.name
    )
    return [page for split in splits for page in read_one(split)]


def read_one(split: Split) -> list[Page]:
    reader = sources.read_split(pickle.loads(pickle.dumps(split)))
    pages, last = [], (0, 0)
    for page in reader:
        pages.append(page)
        assert (reader.bytes_read, reader.xml_bytes) >= last
        last = (reader.bytes_read, reader.xml_bytes)
        assert reader.bytes_read <= split.size_bytes
    assert reader.bytes_read == split.size_bytes
    return pages


def read_text(tmp_path: Path, body: str, *, head: str = HEAD) -> list[Page]:
    file = tmp_path / "dump.xml"
    file.write_bytes((head + body + "</mediawiki>").encode())
    return read(file)


def only(pages: list[Page]) -> Page:
    assert len(pages) == 1
    return pages[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Page]:
    """The pages of EXPORT."""
    file = tmp_path_factory.mktemp("whole") / "dump.xml"
    file.write_bytes(EXPORT)
    pages = read(file)
    assert [page.page_id for page in pages if isinstance(page, Article)] == [str(i) for i in range(40)]
    return pages


def multistream(folder: Path, *, index: bool, packed_index: bool = True, numbered: str = "") -> Path:
    """EXPORT as Wikimedia writes it: head, seven pages a stream, end."""
    groups = [PAGES[i : i + 7] for i in range(0, len(PAGES), 7)]
    data = bz2.compress(HEAD.encode())
    lines = []
    for number, group in enumerate(groups):
        lines += [f"{len(data)}:{7 * number + i}:Title: {i}" for i in range(len(group))]
        data += bz2.compress("".join(group).encode())
    data += bz2.compress(b"</mediawiki>\n")
    part = f"{numbered}.xml-p0p39" if numbered else ".xml"
    file = folder / f"xwiki-2020-pages-articles-multistream{part}.bz2"
    file.write_bytes(data)
    if index:
        name = file.name.replace(f"{numbered}.xml", f"-index{numbered}.txt")
        text = ("\n".join(lines) + "\n").encode()
        if packed_index:
            (folder / name).write_bytes(bz2.compress(text))
        else:
            (folder / name.removesuffix(".bz2")).write_bytes(text)
    return file


@HYPOTHESIS
@given(split_bytes=st.integers(1, len(EXPORT) + 1))
def test_plain_xml_split_anywhere(split_bytes: int, tmp_path: Path, whole: list[Page]) -> None:
    file = tmp_path / "dump.xml"
    file.write_bytes(EXPORT)
    assert read(file, max(split_bytes, 40)) == whole


@HYPOTHESIS
@given(
    cuts=st.lists(st.integers(0, len(EXPORT)), max_size=12),
    split_bytes=st.integers(1, 4000),
    level=st.sampled_from([1, 9]),
    padding=st.sampled_from([0, 1, 5000]),
)
def test_streams_cut_anywhere(
    cuts: list[int], split_bytes: int, level: int, padding: int, tmp_path: Path, whole: list[Page]
) -> None:
    """pbzip2 style, with empty streams where two cuts are equal, and zeros at the end."""
    edges = [0, *sorted(cuts), len(EXPORT)]
    streams = [bz2.compress(EXPORT[a:b], level) for a, b in itertools.pairwise(edges)]
    file = tmp_path / "dump.xml.bz2"
    file.write_bytes(b"".join(streams) + b"\0" * padding)
    assert read(file, split_bytes) == whole


def test_streams_cut_inside_tags(tmp_path: Path, whole: list[Page]) -> None:
    file = tmp_path / "dump.xml.bz2"
    for tag in (b"<page>", b"</page>", b"</mediawiki>", "ä".encode()):
        place = EXPORT.rindex(tag)
        for cut in range(place, place + len(tag) + 1):
            file.write_bytes(bz2.compress(EXPORT[:cut]) + bz2.compress(EXPORT[cut:]))
            assert read(file, 1) == whole


@HYPOTHESIS
@given(split_bytes=st.integers(1, 6000), index=st.booleans(), packed=st.booleans(), part=st.booleans())
def test_multistream_with_and_without_index(
    split_bytes: int, index: bool, packed: bool, part: bool,
    tmp_path_factory: pytest.TempPathFactory, whole: list[Page]
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("multistream")
    file = multistream(folder, index=index, packed_index=packed, numbered="3" if part else "")
    assert len(sources.open_source(f"mediawiki:{file}").files) == 1 + index
    assert read(file, split_bytes) == whole
    assert read(folder, split_bytes) == whole


def test_multistream_has_a_split_for_each_stream(tmp_path: Path) -> None:
    file = multistream(tmp_path, index=True)
    splits = sources.open_source(f"mediawiki:{file}").splits(1)
    assert len(splits) == 7  # the head, then six groups; the end goes with the last
    counts = [len(list(sources.read_split(split))) for split in splits]
    assert counts == [0, 7, 7, 7, 7, 7, 5]
    assert splits[-1].stop == file.stat().st_size
    assert asdict(splits[0]) == json.loads(json.dumps(asdict(splits[0])))


def test_index_of_another_dump(tmp_path: Path) -> None:
    file = multistream(tmp_path, index=False)
    index = file.with_name(file.name.replace(".xml", "-index.txt"))
    for text, message in [
        ("17:1:A\n", "names byte 17 of .*, and no bzip2 stream starts there"),
        (f"{file.stat().st_size}:1:A\n", "get both whole and of the same date"),
        ("no index\n", "is no multistream index"),
        ("500:1:A\n40:2:B\n", "names byte 40 after byte 500"),
        ("", "names no stream"),
    ]:
        index.write_bytes(bz2.compress(text.encode()))
        with pytest.raises(SourceError, match=message):
            sources.open_source(f"mediawiki:{file}").splits(1)


def test_something_that_looks_like_a_stream_is_none(tmp_path: Path, whole: list[Page]) -> None:
    """Uncompressible data may hold a stream's first ten bytes, so a start is tried before it is used."""
    file = tmp_path / "dump.xml.bz2"
    file.write_bytes(bz2.compress(EXPORT[:9000]) + bz2.compress(EXPORT[9000:]))
    data = file.read_bytes()
    start = data.index(b"BZh91AY&SY", 1)
    assert streams.choose_starts(file, 1, None) == [0, start]
    file.write_bytes(data[: start + 10] + b"\xff" * 2000)
    assert streams.choose_starts(file, 1, None) == [0]
    file.write_bytes(data[: start + 10])
    assert streams.choose_starts(file, 1, None) == [0]


@pytest.mark.parametrize("name", ["dump.xml.gz", "a dump without an ending"])
def test_gzip_is_told_by_content(tmp_path: Path, name: str, whole: list[Page]) -> None:
    file = tmp_path / name
    file.write_bytes(gzip.compress(EXPORT[:999]) + gzip.compress(EXPORT[999:]) + b"\0\0")
    assert read(file, 100) == whole


@pytest.mark.parametrize(
    ("encoding", "mark", "declared"),
    [
        ("utf-16-le", b"\xff\xfe", "UTF-16"),
        ("utf-16-be", b"\xfe\xff", "UTF-16"),
        ("utf-16-le", b"", "UTF-16"),
        ("utf-16-be", b"", ""),
        ("utf-8", b"\xef\xbb\xbf", "UTF-8"),
        ("utf-8", b"", "utf-8"),
        ("gb18030", b"", "GB18030"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_encodings(
    tmp_path: Path, encoding: str, mark: bytes, declared: str, packed: bool, whole: list[Page]
) -> None:
    declaration = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    data = mark + (declaration + EXPORT.decode()).encode(encoding)
    file = tmp_path / "dump.xml"
    file.write_bytes(bz2.compress(data) if packed else data)
    assert read(file, 5000) == whole


def test_invalid_utf_16_breaks_its_page_only(tmp_path: Path) -> None:
    text = (HEAD + page_xml(1, "eins") + page_xml(2, "zwei") + "</mediawiki>").encode("utf-16-le")
    broken = text.replace("eins".encode("utf-16-le"), b"\x00\xd8x\x00")
    (tmp_path / "dump.xml").write_bytes(b"\xff\xfe" + broken)
    bad, good = read(tmp_path / "dump.xml")
    assert isinstance(bad, Quarantined)
    assert isinstance(good, Article)


def test_unknown_encoding(tmp_path: Path) -> None:
    (tmp_path / "dump.xml").write_bytes(b'<?xml version="1.0" encoding="klingon"?>' + EXPORT)
    with pytest.raises(SourceError, match="declares encoding 'klingon'"):
        sources.open_source(f"mediawiki:{tmp_path / 'dump.xml'}")


# What is cut off ----------------------------------------------------------------------------


def outcome(file: Path, split_bytes: int) -> list[Page] | None:
    """The pages, or None where reading fails as it should."""
    message = ""
    try:
        return read(file, split_bytes)
    except SourceError as error:
        message = str(error)
    assert str(file) in message
    assert "\n" not in message
    return None


def read_unopened(file: Path) -> list[Page]:
    """The pages of a file that was damaged after its source was opened, as one split."""
    size = file.stat().st_size
    return read_one(Split(format="mediawiki", path=str(file), start=0, stop=size, size_bytes=size))


@pytest.mark.parametrize("split_bytes", [300, BIG])
def test_plain_xml_cut_off_anywhere(tmp_path: Path, split_bytes: int, whole: list[Page]) -> None:
    file = tmp_path / "dump.xml"
    end = EXPORT.index(b"</mediawiki>") + len(b"</mediawiki>")
    for size in [*range(0, len(EXPORT), 97), *range(end - 40, len(EXPORT) + 1)]:
        file.write_bytes(EXPORT[:size])
        assert outcome(file, split_bytes) == (whole if size >= end else None), size


@pytest.mark.parametrize("kind", ["one stream", "multistream", "cut anywhere"])
@pytest.mark.parametrize("split_bytes", [1, BIG])
def test_bz2_cut_off_anywhere(tmp_path: Path, kind: str, split_bytes: int, whole: list[Page]) -> None:
    file = multistream(tmp_path, index=False)
    if kind == "one stream":
        file.write_bytes(bz2.compress(EXPORT))
    elif kind == "cut anywhere":
        file.write_bytes(b"".join(bz2.compress(EXPORT[i : i + 3000]) for i in range(0, len(EXPORT), 3000)))
    data = file.read_bytes()
    for size in [*range(0, len(data), 41), *range(len(data) - 40, len(data))]:
        file.write_bytes(data[:size])
        assert outcome(file, split_bytes) is None, size
    file.write_bytes(data)
    assert outcome(file, split_bytes) == whole


def test_cut_off_messages_say_where(tmp_path: Path) -> None:
    file = multistream(tmp_path, index=False)
    data = file.read_bytes()
    last = data.rindex(b"BZh9")
    file.write_bytes(data[: last + 20])
    with pytest.raises(
        SourceError,
        match=f"cut off: it ends at byte {last + 20:,}, inside the bzip2 stream that starts at byte {last:,}",
    ):
        read_unopened(file)
    file.write_bytes(data[:last])
    with pytest.raises(SourceError, match="ends without </mediawiki>, after the page 'Title 39'"):
        read_unopened(file)
    file.write_bytes(data + b"garbage")
    with pytest.raises(SourceError, match=f"byte {len(data):,} is neither the start of a bzip2 stream"):
        read_unopened(file)
    middle = data.index(b"BZh9", 1000)
    file.write_bytes(data[: middle + 30] + bytes(100) + data[middle + 130 :])
    with pytest.raises(SourceError, match=f"the bzip2 stream that starts at byte {middle:,} is damaged"):
        read_unopened(file)
    plain = tmp_path / "x.xml"
    plain.write_bytes(EXPORT[: EXPORT.index(b"Prose 7 ")])
    with pytest.raises(SourceError, match=r"ends inside the page 'Title 7' \(id 7\), \d+ bytes after"):
        read_unopened(plain)


def test_gzip_cut_off_or_damaged(tmp_path: Path) -> None:
    file = tmp_path / "dump.xml.gz"
    data = gzip.compress(EXPORT)
    file.write_bytes(data[:-9])
    with pytest.raises(SourceError, match=f"ends at byte {len(data) - 9:,}, inside a gzip member"):
        read_unopened(file)
    file.write_bytes(data[:-8] + b"12345678")
    with pytest.raises(SourceError, match="gzip data is damaged"):
        read_unopened(file)


# What is refused at once --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"%PDF-1.7\n%\xe2", "'%PDF-1.7' is a PDF, not a MediaWiki export"),
        (b"", r"is empty \(0 bytes\)"),
        (b"<!DOCTYPE html><html>", "is an HTML page, not a MediaWiki export"),
        (b'{"id": 1}', "is JSON, not a MediaWiki export"),
        (b"<?xml version='1.0'?><feed></feed>", "is an XML file, not a MediaWiki export"),
        (bz2.compress(b"%PDF-1.7"), "inside, '%PDF-1.7' is a PDF"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "is a 7z archive"),
        (b"plain text", "it starts with 'plain text'"),
        (b"\xff\x00\x12", "it starts with bytes ff 00 12"),
        (b"BZh9", "ends at byte 4"),
        (b"BZ", "it starts with 'BZ', not a MediaWiki export"),
        (b"<mediawiki><siteinfo><b></siteinfo>", "<siteinfo> cannot be read"),
    ],
)
def test_other_files_are_refused_when_opened(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "dump.xml.bz2"
    file.write_bytes(data)
    with pytest.raises(SourceError, match=message):
        sources.open_source(f"mediawiki:{file}")


def test_the_same_dump_twice_in_a_folder(tmp_path: Path) -> None:
    names = ("x-pages-articles.xml.bz2", "x-pages-articles-multistream.xml.bz2")
    for name in names:
        (tmp_path / name).write_bytes(bz2.compress(EXPORT))
    with pytest.raises(SourceError, match="are the same pages twice"):
        sources.open_source(f"mediawiki:{tmp_path}")
    (tmp_path / names[0]).rename(tmp_path / "x-pages-articles1.xml-p1p9.bz2")
    with pytest.raises(SourceError, match="are the same pages twice"):
        sources.open_source(f"mediawiki:{tmp_path}")
    (tmp_path / names[1]).rename(tmp_path / "x-pages-articles2.xml-p10p19.bz2")
    assert len(sources.open_source(f"mediawiki:{tmp_path}").files) == 2


# Pages --------------------------------------------------------------------------------------


def test_article(tmp_path: Path) -> None:
    body = page_xml(7, "Lead [[Datei:A.jpg|x]].\n== H ==\nText.", title="A &amp; B: C")
    assert only(read_text(tmp_path, body)) == Article(
        page_id="7",
        title="A & B: C",
        sections=(
            articles.Section(path=(), text="Lead."),
            articles.Section(path=("H",), text="Text."),
        ),
    )


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (page_xml(1, "a", ns="1"), articles.OTHER_NAMESPACE),
        (page_xml(1, "a", ns=None, title="Diskussion:A"), articles.OTHER_NAMESPACE),
        (page_xml(1, "a", ns=None, title="Talk:A"), articles.OTHER_NAMESPACE),
        (page_xml(1, "a", model="Scribunto"), articles.NOT_WIKITEXT),
        (page_xml(1, "", attributes=' deleted="deleted"'), articles.DELETED),
        (page_xml(1, "#WEITERLEITUNG [[B]]"), articles.REDIRECT),
        (page_xml(1, "a", extra='<redirect title="B" />'), articles.REDIRECT),
        (page_xml(1, ""), articles.EMPTY),
        (page_xml(1, " \n "), articles.EMPTY),
        (page_xml(1, "{{Infobox}}\n[[Kategorie:B]]"), articles.EMPTY),
        (page_xml(1, "x").replace(">x</text>", " />"), articles.EMPTY),
    ],
)
def test_dropped_with_a_reason(tmp_path: Path, page: str, reason: str) -> None:
    assert only(read_text(tmp_path, page)) == Dropped(reason=reason)


def test_titles_with_a_colon_and_old_exports(tmp_path: Path) -> None:
    pages = [
        page_xml(1, "a", title="2001: Odyssee"),
        page_xml(2, "a", ns=None, title="2001: Odyssee", model=None),
        page_xml(3, "a", ns=None, title="Title"),
    ]
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.3/" version="0.3">'
    assert [type(page) for page in read_text(tmp_path, "".join(pages), head=head)] == [Article] * 3


def revision(time: str, text: str) -> str:
    return f"<revision><timestamp>{time}</timestamp><text>{text}</text></revision>"


def test_the_latest_revision_counts(tmp_path: Path) -> None:
    start = "<page><title>A</title><ns>0</ns><id>1</id>"
    late, early = "2020-01-02T00:00:00Z", "2020-01-01T00:00:00Z"
    body = (
        start + revision(early, "old") + revision(late, "new") + revision(early, "older") + "</page>"
        + start + revision(late, "first") + revision(late, "last") + "</page>"
    )  # fmt: skip
    texts = [page.sections[0].text for page in read_text(tmp_path, body) if isinstance(page, Article)]
    assert texts == ["new", "last"]


def test_the_main_slot_counts(tmp_path: Path) -> None:
    slot = "<content><role>x</role><model>json</model><text>{}</text></content></revision>"
    body = page_xml(1, "main").replace("</revision>", slot)
    page = only(read_text(tmp_path, body))
    assert isinstance(page, Article)
    assert page.sections[0].text == "main"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (page_xml(5, "x").replace("<ns>0</ns>", "<ns>0"), "XML: mismatched tag"),
        (page_xml(5, "x\x01"), r"XML: not well-formed \(invalid token\)"),
        (page_xml(5, "x").replace("<ns>0", "<ns>null"), "<ns> is 'null', wanted a number"),
        (page_xml(5, "x").replace("revision>", "version>"), "page has no <revision>"),
        (page_xml(5, "x").replace("<text", "<txt").replace("/text", "/txt"), "revision has no <text>"),
        (page_xml(5, "x").replace("<title>Title 5</title>", ""), "page has no <title>"),
        (page_xml(5, "x" * (4 << 20) + "x"), "4,194,305 characters, the limit is"),
        (page_xml(5, "x").split("</revision>")[0], "the next page starts before its </page>"),
    ],
)
def test_a_bad_page_is_quarantined_and_its_neighbours_are_not(tmp_path: Path, bad: str, reason: str) -> None:
    before, page, after = read_text(tmp_path, page_xml(4, "a") + bad + page_xml(6, "b"))
    assert isinstance(before, Article)
    assert isinstance(after, Article)
    assert isinstance(page, Quarantined)
    assert page.page_id == "5"
    assert page.title == ("" if "<title>" in reason else "Title 5")
    assert re.search(reason, page.reason)


def test_invalid_utf_8_is_quarantined(tmp_path: Path) -> None:
    data = (HEAD + page_xml(1, "aXb") + page_xml(2, "c") + "</mediawiki>").encode()
    (tmp_path / "dump.xml").write_bytes(data.replace(b"aXb", b"a\xff\xfeb"))
    bad, good = read(tmp_path / "dump.xml")
    assert isinstance(bad, Quarantined)
    assert bad.title == "Title 1"
    assert isinstance(good, Article)


def test_a_parser_that_fails_costs_its_page_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.text import wikitext

    real = wikitext.sections

    def sections(markup: str, **about: Any) -> list[articles.Section]:
        if "boom" in markup:
            raise RecursionError("deep")
        return real(markup, **about)

    monkeypatch.setattr(wikitext, "sections", sections)
    bad, good = read_text(tmp_path, page_xml(1, "boom") + page_xml(2, "fine"))
    assert bad == Quarantined(page_id="1", title="Title 1", reason="wikitext: RecursionError")
    assert isinstance(good, Article)


def test_a_page_too_long_is_skipped_without_being_held(tmp_path: Path) -> None:
    body = page_xml(1, "a") + page_xml(2, "b" * 5_000_000) + page_xml(3, "c")
    file = tmp_path / "dump.xml"
    file.write_bytes((HEAD + body + "</mediawiki>").encode())
    found = blocks.open_blocks(file, 0, file.stat().st_size)
    longest = 0
    problems = []
    scan = page_scan._Scan(1_000_000)
    for block in found:
        scan.buffer += block
        longest = max(longest, len(scan.buffer))
        problems += [fragment.problem for fragment in scan.pages(found)]
    assert problems == ["", f"its XML has {len(page_xml(2, 'b' * 5_000_000)) - 3:,} bytes, "
                        "the limit is 1,000,000", ""]  # fmt: skip
    assert longest < 1_000_000 + 2 * blocks.PLAIN_BLOCK_BYTES


def test_control_characters_and_references(tmp_path: Path) -> None:
    page = only(read_text(tmp_path, page_xml(1, "a &#9;b\u0085c \ufeffd", title="A\tB")))
    assert isinstance(page, Article)
    assert page.title == "A B"
    assert page.sections[0].text == "a b c d"


@pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/enwiki is not there")
def test_real_excerpt() -> None:
    source = sources.open_source(f"mediawiki:{DATA}")
    pages = [page for split in source.splits(1 << 20) for page in sources.read_split(split)]
    kinds = Counter(page.reason if isinstance(page, Dropped) else type(page).__name__ for page in pages)
    assert kinds == {"Article": 111, "redirect": 99, "other namespace": 1}
    titles = [page.title for page in pages if isinstance(page, Article)]
    assert titles[:3] == ["Anarchism", "Autism", "Albedo"]
