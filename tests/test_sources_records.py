"""Sources of records: KILT, JSON lines, DPR's passages, Parquet; and opening a source by its name."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.text import articles, sources
from pipeline.text.articles import Article, Dropped, Page, Quarantined, Section
from pipeline.text.sources import SourceError, Split, kilt, lines
from pipeline.text.sources.base import SplitProgress

BIG = 1 << 40
HYPOTHESIS = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read(spec: str, split_bytes: int = BIG) -> list[Page]:
    pages = []
    for split in sources.open_source(spec).splits(split_bytes):
        reader = sources.read_split(split)
        pages += list(reader)
        assert reader.bytes_read == split.size_bytes
        assert reader.xml_bytes >= 0
    return pages


def write_lines(file: Path, records: list[Any], end: str = "\n") -> Path:
    text = "".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records)
    file.write_bytes((text.removesuffix("\n") + end).encode())
    return file


def article(page_id: str, title: str, *sections: tuple[tuple[str, ...], str]) -> Article:
    return Article(
        page_id=page_id,
        title=title,
        sections=tuple(Section(path=path, text=text) for path, text in sections),
    )


# By name ------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["file.xml", "xml:file", "jsonl:", ":x", ""])
def test_specs_name_a_known_format(spec: str) -> None:
    with pytest.raises(SourceError, match="mediawiki:PATH, kilt:PATH, dpr:PATH, wikipedia:PATH, jsonl:PATH"):
        sources.open_source(spec)


def test_files_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.txt"):
        write_lines(tmp_path / name, [{"id": name, "title": "T", "text": "x"}])
    for path, expected in [
        (tmp_path, ["a.jsonl", "b.jsonl"]),
        (tmp_path / "[ab].*", ["a.jsonl", "b.jsonl"]),
        (tmp_path / "c.txt", ["c.txt"]),
    ]:
        source = sources.open_source(f"jsonl:{path}")
        assert [file.name for file in source.files] == expected
        assert [page.page_id for page in read(f"jsonl:{path}") if isinstance(page, Article)] == expected
        assert all(Path(split.path).is_absolute() for split in source.splits(BIG))
    for path, message in [
        (tmp_path / "missing.jsonl", "no such file"),
        (tmp_path / "*.csv", "no such file"),
    ]:
        with pytest.raises(SourceError, match=message):
            sources.open_source(f"jsonl:{path}")
    with pytest.raises(SourceError, match=r"is a folder without \*.parquet"):
        sources.open_source(f"wikipedia:{tmp_path}")
    with pytest.raises(SourceError, match="split_bytes is 0"):
        sources.open_source(f"jsonl:{tmp_path}").splits(0)


def test_a_file_is_given_once(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", [{"id": "1", "title": "T", "text": "x"}])
    other = write_lines(tmp_path / "b.jsonl", [{"id": "2", "title": "T", "text": "x"}])
    assert [s.files for s in sources.open_sources([f"jsonl:{file}", f"jsonl:{other}"])] == [(file,), (other,)]
    (tmp_path / "links").mkdir()
    soft, hard = tmp_path / "links" / "soft.jsonl", tmp_path / "links" / "hard.jsonl"
    soft.symlink_to(file)
    hard.hardlink_to(file)
    for again in (file, tmp_path / "links" / ".." / "a.jsonl", soft, hard, tmp_path / "a*"):
        with pytest.raises(SourceError, match=r"(is given twice|is .*a\.jsonl once more); give it once"):
            sources.open_sources([f"jsonl:{file}", f"jsonl:{other}", f"jsonl:{again}"])
    with pytest.raises(SourceError, match="give it once"):  # twice in one source
        sources.open_sources([f"jsonl:{tmp_path / 'links'}"])


def test_copies_are_refused_by_their_digest() -> None:
    sources.refuse_copies([(Path("/a"), "1"), (Path("/b"), "2")])
    with pytest.raises(SourceError, match="/c is /a once more; give it once"):
        sources.refuse_copies([(Path("/a"), "1"), (Path("/b"), "2"), (Path("/c"), "1")])


# Lines --------------------------------------------------------------------------------------


@HYPOTHESIS
@given(
    parts=st.lists(st.text("ab\n\r ä", max_size=6), max_size=20),
    split_bytes=st.integers(1, 30),
    longest=st.sampled_from([3, 1000]),
)
def test_every_line_is_in_one_split(parts: list[str], split_bytes: int, longest: int, tmp_path: Path) -> None:
    data = "\n".join(parts).encode() or b"x"
    file = tmp_path / "file"
    file.write_bytes(data)
    found = [
        line
        for split in lines.split_file("jsonl", file, split_bytes)
        for line in lines.read_lines(split, SplitProgress(split.size_bytes), longest)
    ]
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert [line.data for line in found] == [line if len(line) <= longest else None for line in expected]
    starts = [sum(len(line) + 1 for line in expected[:number]) for number in range(len(expected))]
    assert [line.start for line in found] == starts
    assert [line.ended for line in found[:-1]] == [True] * len(found[:-1])
    if found:
        assert found[-1].ended == data.endswith(b"\n")


def test_a_line_longer_than_a_block(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a" * 700_000 + b"\n" + b"b" * 1_200_000 + b"\nc")
    split = lines.split_file("jsonl", file, BIG)[0]
    found = list(lines.read_lines(split, SplitProgress(split.size_bytes), 1_000_000))
    assert [line.data and len(line.data) for line in found] == [700_000, None, 1]


# JSON lines ---------------------------------------------------------------------------------


def test_jsonl_articles(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "a.jsonl",
        [
            {"id": 7, "title": "A\tB", "text": "one\r\n\r\n two \n\x00three"},
            "",
            {"id": "x", "title": "", "text": "lone \ud800 surrogate"},
            {"id": "y", "title": "S", "text": "not this", "sections": [
                {"path": [], "text": "lead"}, {"path": ["H", 2], "text": "\n"},
                {"path": ["H", "I"], "text": "in\nit"}]},
            {"id": "z", "title": "S", "text": " \n "},
        ],
    )  # fmt: skip
    assert read(f"jsonl:{file}") == [
        article("7", "A B", ((), "one\ntwo\nthree")),
        article("x", "", ((), "lone \ufffd surrogate")),
        article("y", "S", ((), "lead"), (("H", "I"), "in\nit")),
        Dropped(reason=articles.EMPTY),
    ]


@pytest.mark.parametrize("part", ["\x0b", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r"])
def test_controls_that_part_lines_part_them(tmp_path: Path, part: str) -> None:
    record = {"id": f"a{part}1", "title": f"A{part}B", "text": f"one{part}two {part} {part}three{part}"}
    (page,) = read(f"jsonl:{write_lines(tmp_path / 'a.jsonl', [record])}")
    assert page == article("a 1", "A B", ((), "one\ntwo\nthree"))


def test_controls_within_a_line(tmp_path: Path) -> None:
    record = {"id": "1", "title": "A\x1fB", "text": "one\x1ftwo\x00\x7f\x9f\ufeff\tthree"}
    (page,) = read(f"jsonl:{write_lines(tmp_path / 'a.jsonl', [record])}")
    assert page == article("1", "A B", ((), "one two\tthree"))


@pytest.mark.parametrize("blank", ["\n", "\r\n\n", " \n\t\n", "\n" * 400_000, "\ufeff\n"])
def test_blank_lines_before_the_first(tmp_path: Path, blank: str) -> None:
    json_lines, tsv = tmp_path / "a.jsonl", tmp_path / "a.tsv"
    json_lines.write_bytes((blank + '{"id": "1", "title": "T", "text": "x"}\n').encode())
    tsv.write_bytes((blank + "id\ttext\ttitle\n1\tx\tT\n").encode())
    if len(blank) > 64 << 10:
        for spec in (f"jsonl:{json_lines}", f"dpr:{tsv}"):
            with pytest.raises(SourceError, match=r"blank lines|first line is ''"):
                sources.open_source(spec)
        return
    for split_bytes in (1, BIG):
        assert read(f"jsonl:{json_lines}", split_bytes) == [article("1", "T", ((), "x"))]
        (page,) = read(f"dpr:{tsv}", split_bytes)
        assert isinstance(page, Article)
        assert (page.page_id, page.title) == ("1", "T")


@pytest.mark.parametrize(
    ("record", "page_id", "reason"),
    [
        ({"id": "5", "title": "T"}, "5", "'text' is missing, wanted a string"),
        ({"id": "5", "title": "T", "text": None}, "5", "'text' is null"),
        ({"id": "5", "title": "T", "text": ["a"]}, "5", "'text' is list"),
        ({"id": 5, "title": None, "text": "a"}, "5", "'title' is null"),
        ({"id": 5.5, "title": "T", "text": "a"}, "", "'id' is float '5.5', wanted a string or a whole"),
        ({"id": True, "title": "T", "text": "a"}, "True", "'id' is bool"),
        ({"id": "", "title": "T", "text": "a"}, "", "'id' is str ''"),
        ({"id": "5", "title": "T", "sections": 3}, "5", "'sections' is no list"),
        ({"id": "5", "title": "T", "sections": [{"text": "a"}]}, "5", "no {path: \\[\\], text}"),
        ([1], "", "it is no object but list"),
        ("5", "", "it is no object but int"),
        ('{"id": "5"', "", "is no JSON"),
        ('{"id": "5", "title": "\xff', "", "is no JSON"),
        ("[" * 100_000, "", "is no JSON"),
    ],
)
def test_a_bad_line_is_quarantined(tmp_path: Path, record: Any, page_id: str, reason: str) -> None:
    good = {"id": "1", "title": "T", "text": "a"}
    first, bad, last = read(f"jsonl:{write_lines(tmp_path / 'a.jsonl', [good, record, good])}")
    assert first == last == article("1", "T", ((), "a"))
    assert isinstance(bad, Quarantined)
    assert bad.page_id == page_id
    assert bad.reason.startswith(f"line at byte {len(json.dumps(good)) + 1}")
    pytest.fail(bad.reason) if reason.replace("\\", "") not in bad.reason else None


def test_invalid_utf_8_in_a_line(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", [{"id": "1", "title": "T", "text": "aXb"}] * 2)
    file.write_bytes(file.read_bytes().replace(b"aXb", b"a\xffb", 1))
    bad, good = read(f"jsonl:{file}")
    assert isinstance(bad, Quarantined)
    assert "line at byte 0 is no JSON" in bad.reason
    assert isinstance(good, Article)


@pytest.mark.parametrize("pack", [None, gzip.compress, bz2.compress])
def test_a_last_line_that_is_cut_off(tmp_path: Path, pack: Any) -> None:
    records = [{"id": str(i), "title": "T", "text": "x" * i} for i in range(5)]
    file = write_lines(tmp_path / "a.jsonl", records, end="")
    data = file.read_bytes()
    file.write_bytes(pack(data) if pack else data)
    assert len(read(f"jsonl:{file}", 10)) == 5  # whole, but for the newline
    file.write_bytes(pack(data[:-3]) if pack else data[:-3])
    with pytest.raises(SourceError, match=r"is cut off: its last line, at byte \d+, has no newline"):
        read(f"jsonl:{file}", 10)
    if pack:
        file.write_bytes(pack(data)[:-6])
        with pytest.raises(SourceError, match="is cut off"):
            read(f"jsonl:{file}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"%PDF-1.4\n", "'%PDF-1.4' is a PDF, not JSON lines"),
        (b"", "is empty"),
        (b'{"question": "a"}\n', "has 'question', wanted id, title, text; is it another format"),
        (b"{}\n", "has no keys"),
        (b"[1, 2]\n", "is JSON, not JSON lines"),
    ],
)
def test_files_that_are_no_json_lines(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    with pytest.raises(SourceError, match=message):
        sources.open_source(f"jsonl:{tmp_path / 'a.jsonl'}")


# KILT ---------------------------------------------------------------------------------------

KILT = {
    "_id": "290",
    "wikipedia_id": "290",
    "wikipedia_title": "A",
    "text": [
        "A\n", "A is a letter.\n", "Section::::History.\n", "It is old.\n",
        "Section::::History.:Egypt: the start.:Uses.\n", "BULLET::::- An ox.\n", "BULLET::::- \n",
        "Section::::Empty.\n", "Section::::Works:Books.\n", "Last \ud800.\n",
    ],
    "categories": "Letters",
}  # fmt: skip


def test_kilt(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "kilt.json", [KILT, {**KILT, "text": ["A\n"]}])
    assert read(f"kilt:{file}") == [
        article(
            "290", "A",
            ((), "A is a letter."),
            (("History",), "It is old."),
            (("History", "Egypt: the start", "Uses"), "An ox."),
            (("Works", "Books"), "Last \ufffd."),
        ),
        Dropped(reason=articles.EMPTY),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("heading", "path"),
    [
        ("Section::::Life.", ("Life",)),
        ("Section::::Life:Work.", ("Life", "Work")),
        ("Section::::Life.:Work.:1. Books.", ("Life", "Work", "1. Books")),
        ("Section::::Part 2: the return.", ("Part 2: the return",)),
        ("Section::::.", ()),
    ],
)
def test_kilt_headings(heading: str, path: tuple[str, ...]) -> None:
    assert kilt.heading_path(heading) == path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"text": "a string"}, "'text' is no list of strings"),
        ({"text": ["a", None]}, "'text' is no list of strings"),
        ({"wikipedia_id": None}, "'wikipedia_id' is null"),
        ({"wikipedia_title": None}, "'wikipedia_title' is null"),
    ],
)
def test_kilt_records_that_are_quarantined(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    page, _ = read(f"kilt:{write_lines(tmp_path / 'k.json', [{**KILT, **change}, KILT])}")
    assert isinstance(page, Quarantined)
    assert reason in page.reason


@HYPOTHESIS
@given(split_bytes=st.integers(1, 5000))
def test_kilt_split_anywhere(split_bytes: int, tmp_path: Path) -> None:
    records = [{**KILT, "wikipedia_id": str(i), "text": ["A", "ä" * i]} for i in range(1, 30)]
    file = write_lines(tmp_path / "k.json", records)
    assert read(f"kilt:{file}", split_bytes) == [article(str(i), "A", ((), "ä" * i)) for i in range(1, 30)]


# DPR ----------------------------------------------------------------------------------------

FIELD = st.text('ab"\n\t,ä \r', max_size=12)


def write_dpr(file: Path, rows: list[tuple[str, str, str]], terminator: str = "\n") -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator=terminator)
    writer.writerows([("id", "text", "title"), *rows])
    file.write_bytes(text.getvalue().encode())
    return file.read_bytes()


def test_dpr_rows_are_passages(tmp_path: Path) -> None:
    file = tmp_path / "psgs_w100.tsv"
    rows = [
        ("1", 'Aaron ( or ; ""Ahärôn"") is "a" prophet', "Aaron"),
        ("2", "two\nlines\tand a tab", '"Weird Al" Yankovic'),
        ("3", "", "Empty"),
    ]
    write_dpr(file, rows)
    first, second, third = read(f"dpr:{file}")
    assert first == Article(
        page_id="1", title="Aaron", sections=(Section(path=(), text=rows[0][1]),), split=False
    )
    assert isinstance(second, Article)
    assert second.title == rows[1][2]
    assert second.sections[0].text == rows[1][1]
    assert third == Dropped(reason=articles.EMPTY)
    (tmp_path / "x.tsv.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert read(f"dpr:{tmp_path / 'x.tsv.gz'}", 1) == [first, second, third]


@HYPOTHESIS
@given(
    fields=st.lists(st.tuples(FIELD, FIELD), max_size=20),
    split_bytes=st.integers(1, 80),
    terminator=st.sampled_from(["\n", "\r\n"]),
)
def test_dpr_split_anywhere(
    fields: list[tuple[str, str]], split_bytes: int, terminator: str, tmp_path: Path
) -> None:
    file = tmp_path / "psgs.tsv"
    data = write_dpr(file, [(str(i), *pair) for i, pair in enumerate(fields)], terminator)
    splits = sources.open_source(f"dpr:{file}").splits(split_bytes)
    assert [split.start for split in splits[1:]] == [split.stop for split in splits[:-1]]
    assert splits[-1].stop == len(data)
    assert all(split.size_bytes >= split_bytes for split in splits[:-1])
    whole = read(f"dpr:{file}")
    assert len(whole) == len(fields)
    assert read(f"dpr:{file}", split_bytes) == whole


def test_dpr_is_really_split(tmp_path: Path) -> None:
    file = tmp_path / "psgs.tsv"
    write_dpr(file, [(str(i), 'say "a\nb" now', "T") for i in range(100)])
    splits = sources.open_source(f"dpr:{file}").splits(200)
    assert len(splits) > 8
    assert all(len(list(sources.read_split(split))) >= 5 for split in splits[:-1])


def test_dpr_rows_that_are_quarantined(tmp_path: Path) -> None:
    file = tmp_path / "psgs.tsv"
    file.write_bytes(b'id\ttext\ttitle\n1\ta\n2\ta\tb\tc\n\ta\tb\n3\t"a\n4\tok\tb\n')
    *bad, good = read(f"dpr:{file}")
    assert [page.reason for page in bad if isinstance(page, Quarantined)] == [
        "row has 2 fields, wanted 3",
        "row has 4 fields, wanted 3",
        "row has no id",
        "row has 2 fields, wanted 3",
    ]
    assert isinstance(good, Article)


# Quotes of a file that was written without quoting, with the text and title that they are part of.
@pytest.mark.parametrize(
    "rows",
    [
        [('"Hello', "A"), ("he said", "B"), ('the end"', "C")],
        [('"a" is a letter', "A"), ("x", '"Heroes" (song)')],
        [('5" nail', "A"), ('a 6" nail', "B")],
        [('He said: "go', '"A'), ('and "stay" too', "B"), ("x", 'B"')],
        [('"' * 3, '"'), ("x", '""')],
        [('"', "A"), ("x", "B")],
    ],
)
@pytest.mark.parametrize("ids", ["{}", "doc-{}", "wiki{}_0"])
def test_dpr_quotes_that_are_text(tmp_path: Path, rows: list[tuple[str, str]], ids: str) -> None:
    file = tmp_path / "psgs.tsv"
    lines = [f"{ids.format(number)}\t{text}\t{title}\n" for number, (text, title) in enumerate(rows, 98)]
    file.write_text("id\ttext\ttitle\n" + "".join(lines))
    for split_bytes in (1, 20, BIG):
        pages = read(f"dpr:{file}", split_bytes)
        assert [page.page_id for page in pages if isinstance(page, Article)] == [
            ids.format(number) for number in range(98, 98 + len(rows))
        ]
    found = [(page.sections[0].text, page.title) for page in pages if isinstance(page, Article)]
    assert found[0][0] == rows[0][0]
    assert [text.strip('"') for text, _ in found] == [text.strip('"') for text, _ in rows]


PLAIN = st.text('ab" é', min_size=1, max_size=8).map(str.strip).filter(bool)
QUOTED = st.text('ab"\t\n é', max_size=12).map(lambda text: "a" + text + "b")


@HYPOTHESIS
@given(
    rows=st.lists(st.tuples(st.sampled_from(["text", "csv", "bad"]), PLAIN, QUOTED, QUOTED), max_size=20),
    split_bytes=st.integers(1, 80),
)
def test_every_dpr_row_is_counted(
    rows: list[tuple[str, str, str, str]], split_bytes: int, tmp_path: Path
) -> None:
    """Rows that the csv module wrote, rows whose quotes are text, rows with a field less, in any order."""
    file = tmp_path / "psgs.tsv"
    written = ["id\ttext\ttitle\n"]
    expected: list[tuple[str, str] | None] = []
    for number, (kind, plain_text, text, title) in enumerate(rows):
        if kind == "csv":
            line = io.StringIO()
            csv.writer(line, delimiter="\t", lineterminator="\n").writerow([str(number), text, title])
            written.append(line.getvalue())
            expected.append((re.sub(r"[ \t]*\n\s*", "\n", text), " ".join(title.split())))
        elif kind == "text":
            # An odd quote at the field's start, and even ones within.
            written.append(f'{number}\t"{plain_text.replace(chr(34), chr(39))} "x" y\tT\n')
            expected.append((f'"{plain_text.replace(chr(34), chr(39))} "x" y', "T"))
        else:
            written.append(f"{number}\tonly a text\n")
            expected.append(None)
    file.write_text("".join(written))
    pages = read(f"dpr:{file}", split_bytes)
    found = [(p.sections[0].text, p.title) if isinstance(p, Article) else None for p in pages]
    assert found == expected


@HYPOTHESIS
@given(text=st.text('12a"\t\n\r', max_size=60), split_bytes=st.integers(1, 40), ended=st.booleans())
def test_any_dpr_file_is_the_same_in_any_splits(
    text: str, split_bytes: int, ended: bool, tmp_path: Path
) -> None:
    file = tmp_path / "psgs.tsv"
    file.write_bytes(b"id\ttext\ttitle\n" + text.encode() + (b"\n" if ended else b""))

    def outcome(size: int) -> tuple[list[Page], str]:
        pages = []
        try:
            for split in sources.open_source(f"dpr:{file}").splits(size):
                for page in sources.read_split(split):
                    pages.append(page)  # noqa: PERF402
        except SourceError as error:
            return pages, str(error)
        return pages, ""

    pages, error = outcome(BIG)
    assert outcome(split_bytes) == (pages, error)
    lines_read = [line for line in file.read_bytes().split(b"\n")[1:] if line.strip(b"\r")]
    if not error:
        assert len(pages) <= len(lines_read)
    elif file.read_bytes().endswith(b"\n"):
        # It ends in an open quote, behind which no line is a row.
        assert "inside the quoted field" in error
        assert lines_read[-1].count(b"\t") != 2


def test_dpr_quotes_are_read_in_linear_time(tmp_path: Path) -> None:
    file = tmp_path / "psgs.tsv"
    for rows in (['x\t"a\tb'] + ["x"] * 20_000, ['1\t"a\tb'] * 10_000, ['x\t"a', "", ""] * 7_000):
        file.write_text("\n".join(["id\ttext\ttitle", *rows, "y\tb\tc", ""]))
        started = time.process_time()
        pages = read(f"dpr:{file}", 1_000)
        assert time.process_time() - started < 10
        assert pages[-1] == Article(
            page_id="y", title="c", sections=(Section(path=(), text="b"),), split=False
        )


def test_dpr_cut_off_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "psgs.tsv"
    data = write_dpr(file, [(str(i), 'say "a\nb" now', "Title") for i in range(20)])
    rows = len(read(f"dpr:{file}"))
    for size in range(len(b"id\ttext\ttitle"), len(data)):
        file.write_bytes(data[:size])
        ends_a_row = data[:size].endswith(b"Title\n") or data[:size].endswith(b"title\n")
        if ends_a_row:  # cannot be told from a shorter file
            assert len(read(f"dpr:{file}", 100)) < rows
        else:
            with pytest.raises(SourceError, match="is cut off"):
                read(f"dpr:{file}", 100)


def test_dpr_needs_its_header(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("1\tsome text\tTitle\n")
    with pytest.raises(SourceError, match=r"its first line is '1\\tsome text\\tTitle', wanted the header"):
        sources.open_source(f"dpr:{tmp_path / 'a.tsv'}")


# Parquet ------------------------------------------------------------------------------------


def write_parquet(file: Path, rows: int = 50, **changes: Any) -> Path:
    columns: dict[str, Any] = {
        "id": [str(i) for i in range(rows)],
        "url": [f"https://en.wikipedia.org/wiki/{i}" for i in range(rows)],
        "title": [f"Title {i}" for i in range(rows)],
        "text": [f"Lead {i}.\n\nHistory\n\nMore." for i in range(rows)],
    }
    columns |= changes
    table = pa.table({name: values for name, values in columns.items() if values is not None})
    pq.write_table(table, file, row_group_size=7)
    return file


@HYPOTHESIS
@given(split_bytes=st.integers(1, 6000))
def test_parquet_split_anywhere(split_bytes: int, tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet")
    expected = [article(str(i), f"Title {i}", ((), f"Lead {i}.\nHistory\nMore.")) for i in range(50)]
    assert read(f"wikipedia:{file}", split_bytes) == expected
    splits = sources.open_source(f"wikipedia:{file}").splits(split_bytes)
    assert [split.start for split in splits[1:]] == [split.stop for split in splits[:-1]]
    assert splits[-1].stop == 8
    assert len(sources.open_source(f"wikipedia:{file}").splits(1)) == 8


def test_parquet_odd_rows(tmp_path: Path) -> None:
    file = write_parquet(
        tmp_path / "a.parquet", 4, id=[1, 2, None, 4], title=["A", None, "C", "D"],
        text=["x", "x", "x", "\n"],
    )  # fmt: skip
    assert read(f"wikipedia:{file}") == [
        article("1", "A", ((), "x")),
        Quarantined(page_id="2", title="", reason="'title' is null"),
        Quarantined(page_id="", title="", reason="'id' is null"),
        Dropped(reason=articles.EMPTY),
    ]


STRINGS = ["1", None, "", " ", "5"]


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()),
     pa.dictionary(pa.int32(), pa.large_string())],
    ids=str,
)  # fmt: skip
def test_parquet_strings_in_every_layout(tmp_path: Path, kind: pa.DataType) -> None:
    titles, texts = ["A", "B", "C", "D", "A"], ["x", "y", "z", "x", "x"]
    dictionary = pa.types.is_dictionary(kind)
    columns = {
        name: pa.array(values).dictionary_encode().cast(kind) if dictionary else pa.array(values).cast(kind)
        for name, values in (("id", STRINGS), ("title", titles), ("text", texts))
    }
    file = write_parquet(tmp_path / "a.parquet", 5, url=None, **columns)
    assert read(f"wikipedia:{file}") == [
        article("1", "A", ((), "x")),
        Quarantined(page_id="", title="", reason="'id' is null"),
        Quarantined(page_id="", title="C", reason="'id' is empty"),
        Quarantined(page_id="", title="D", reason="'id' is empty"),
        article("5", "A", ((), "x")),
    ]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.dictionary(pa.int8(), pa.int64())], ids=str)
def test_parquet_whole_numbers_as_ids(tmp_path: Path, kind: pa.DataType) -> None:
    ids = pa.array([7, 0, 7], pa.int64())
    ids = ids.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else ids.cast(kind)
    file = write_parquet(tmp_path / "a.parquet", 3, id=ids)
    assert [page.page_id for page in read(f"wikipedia:{file}") if isinstance(page, Article)] == [
        "7",
        "0",
        "7",
    ]


@pytest.mark.parametrize(
    "ids",
    [[12.0, 13.0], [b"12", b"13"], [True, False], [{"a": 1}, {"a": 2}], [[1], [2]], [None, None],
     pa.array([1, 2], pa.timestamp("s")), pa.array([1, 2], pa.date32()),
     pa.array(["1", "2"]).cast(pa.binary_view()),
     pa.array([1.5, 2.5]).dictionary_encode(), pa.array([1, 2]).cast(pa.decimal128(20, 0))],
)  # fmt: skip
def test_parquet_ids_of_other_types_are_refused(tmp_path: Path, ids: Any) -> None:
    file = write_parquet(tmp_path / "a.parquet", 2, id=ids)
    with pytest.raises(SourceError, match=r"column 'id' is .*, wanted strings or whole numbers"):
        sources.open_source(f"wikipedia:{file}")


def test_parquet_columns_are_there_once(tmp_path: Path) -> None:
    table = pa.table([["1"], ["2"], ["T"], ["x"]], names=["id", "id", "title", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="column 'id' is there 2 times, wanted once"):
        sources.open_source(f"wikipedia:{tmp_path / 'a.parquet'}")


def test_parquet_files_that_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    for changes, message in [
        ({"title": None}, "column 'title' is missing, it has id, url, text; wanted id, title, text"),
        ({"text": list(range(50))}, "column 'text' is int64, wanted strings"),
    ]:
        write_parquet(file, **changes)
        with pytest.raises(SourceError, match=message):
            sources.open_source(f"wikipedia:{file}")
    data = write_parquet(file).read_bytes()
    file.write_bytes(data[:-20])
    with pytest.raises(SourceError, match="its footer cannot be read, so it is cut off or damaged"):
        sources.open_source(f"wikipedia:{file}")
    file.write_bytes(b"id,title\n")
    with pytest.raises(SourceError, match="it starts with 'id,title', not Parquet"):
        sources.open_source(f"wikipedia:{file}")


def test_parquet_damaged_inside(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet")
    split = sources.open_source(f"wikipedia:{file}").splits(BIG)[0]
    data = bytearray(file.read_bytes())
    data[4:400] = b"\xff" * 396
    file.write_bytes(data)
    with pytest.raises(SourceError, match="row groups 0 to 7 are damaged"):
        list(sources.read_split(split))


def test_splits_are_plain_data() -> None:
    split = Split(format="jsonl", path="/x", start=0, stop=1, size_bytes=1)
    assert Split(**json.loads(json.dumps(vars(split)))) == split
