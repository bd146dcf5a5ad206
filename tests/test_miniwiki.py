"""The miniwiki: its bytes, its truth, its facts, and the models made from it."""

from __future__ import annotations

import bz2
import hashlib
import json
import math
import re
import subprocess
import sys
import tracemalloc
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from examples import miniwiki
from examples.miniwiki import articles, markup, nature, places, systematic, tables
from examples.miniwiki.__main__ import main

PAGE = re.compile(r"  <page>\n.*?\n  </page>\n", re.DOTALL)


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> miniwiki.DumpTruth:
    return miniwiki.write_dump(tmp_path_factory.mktemp("dump"), articles=700)


@pytest.fixture(scope="module")
def xml(dump: miniwiki.DumpTruth) -> str:
    return bz2.decompress(dump.path.read_bytes()).decode()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("form", miniwiki.FORMS)
def test_same_arguments_give_the_same_bytes(tmp_path: Path, form: str) -> None:
    first, again, other = (
        miniwiki.write_dump(tmp_path / f"{i}.xml.bz2", articles=60, seed=seed, form=form)
        for i, seed in enumerate((3, 3, 4))
    )
    assert digest(first.path) == digest(again.path) != digest(other.path)
    if form == "multistream":
        assert first.index_path is not None
        assert again.index_path is not None
        assert digest(first.index_path) == digest(again.index_path)


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    # Hash randomization must not reach the output.
    here = miniwiki.write_dump(tmp_path / "here.xml", articles=40, form="xml")
    command = [sys.executable, "-m", "examples.miniwiki", "dump", str(tmp_path / "there.xml")]
    command += ["--articles", "40", "--form", "xml"]
    said = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env={"PYTHONHASHSEED": "77"},
    ).stdout
    assert json.loads(said)["pages"] == here.pages
    assert digest(here.path) == digest(tmp_path / "there.xml")


def test_truth_equals_an_independent_scan(dump: miniwiki.DumpTruth, xml: str) -> None:
    found: Counter[str] = Counter()
    ids = []
    for page in PAGE.findall(xml):
        ids.append(int(re.search(r"<id>(\d+)</id>", page)[1]))
        try:
            tree = ElementTree.fromstring(page)
        except ElementTree.ParseError:
            found["broken"] += 1
            continue
        text = tree.find("revision/text")
        if tree.findtext("ns") != "0":
            found["other_namespace"] += 1
        elif tree.find("redirect") is not None:
            found["redirects"] += 1
        elif tree.findtext("revision/model") != "wikitext":
            found["not_wikitext"] += 1
        elif "deleted" in text.attrib:
            found["deleted"] += 1
        elif not text.text:
            found["empty"] += 1
        else:
            found["disambiguations" if "{{disambiguation}}" in text.text else "articles"] += 1
            assert len(text.text.encode()) == int(text.attrib["bytes"])
    assert all(a < b for a, b in pairwise(ids))
    assert dict(found) == {name: getattr(dump, name) for name in found}
    assert set(found) <= set(dump.as_dict())
    assert found.total() == dump.pages == xml.count("<page>") == xml.count("</page>")
    assert dump.articles == 700
    assert dump.broken == dump.empty == dump.deleted == 1


def test_xml_is_well_formed_but_for_one_page(dump: miniwiki.DumpTruth, xml: str) -> None:
    with pytest.raises(ElementTree.ParseError):
        ElementTree.fromstring(xml)
    broken = [page for page in PAGE.findall(xml) if "<title>Broken page</title>" in page]
    assert len(broken) == 1
    root = ElementTree.fromstring(xml.replace(broken[0], ""))
    space = "{http://www.mediawiki.org/xml/export-0.11/}"
    assert len(root.findall(f"{space}page")) == dump.pages - 1
    names = {n.get("key"): n.text for n in root.iter(f"{space}namespace")}
    assert names["0"] is None
    assert names["828"] == "Module"


def test_multistream_index_points_at_its_pages(dump: miniwiki.DumpTruth) -> None:
    data = dump.path.read_bytes()
    assert dump.index_path is not None
    assert dump.index_path.name == "miniwiki-pages-articles-multistream-index.txt.bz2"
    lines = bz2.decompress(dump.index_path.read_bytes()).decode().splitlines()
    listed: dict[int, list[tuple[str, str]]] = {}
    for line in lines:
        offset, page_id, title = line.split(":", 2)
        listed.setdefault(int(offset), []).append((page_id, title))
    assert len(lines) == dump.pages
    assert len(listed) == dump.streams - 2 == math.ceil(dump.pages / 100)
    assert any(":Elements: a list" in line for line in lines)
    assert any("&amp;" in line for line in lines)
    header = bz2.BZ2Decompressor()
    assert header.decompress(data).startswith(b"<mediawiki ")
    assert header.eof
    assert len(data) - len(header.unused_data) == min(listed)
    for offset, pages in listed.items():
        stream = bz2.BZ2Decompressor()
        text = stream.decompress(data[offset:]).decode()
        assert stream.eof
        heads = re.findall(r"<page>\n    <title>(.*)</title>\n.*\n    <id>(\d+)</id>", text)
        assert [(page_id, title) for title, page_id in heads] == pages
        rest = stream.unused_data
    assert bz2.decompress(rest) == b"</mediawiki>\n"


def test_all_forms_and_encodings_hold_the_same_xml(tmp_path: Path) -> None:
    options = {"articles": 30, "broken": False}
    whole = miniwiki.write_dump(tmp_path, form="xml", **options).path.read_text(encoding="utf-8")
    for form in ("bz2", "multistream"):
        assert bz2.decompress(miniwiki.write_dump(tmp_path, form=form, **options).path.read_bytes()) == (
            whole.encode()
        )
    wide = miniwiki.write_dump(tmp_path / "wide.xml", form="xml", encoding="utf-16", **options)
    raw = wide.path.read_bytes()
    assert raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    assert raw.decode("utf-16") == '<?xml version="1.0" encoding="UTF-16"?>\n' + whole
    assert len(ElementTree.fromstring(raw)) == wide.pages + 1


def test_no_title_and_no_text_comes_twice() -> None:
    count = miniwiki.count_articles() + 1500
    titles: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    for page in miniwiki.pages(count):
        titles[page.title] += 1
        texts[page.text] += page.kind == "article"
    assert [title for title, n in titles.items() if n > 1] == []
    assert [text for text, n in texts.items() if n > 1] == []
    plain = Counter((heading, text) for d in miniwiki.drafts(count) for heading, text in d.plain_sections())
    assert [found for found, n in plain.items() if n > 1] == []


def test_memory_does_not_grow_with_the_articles(tmp_path: Path) -> None:
    peaks = []
    for count in (300, 2000):
        tracemalloc.start()
        miniwiki.write_dump(tmp_path / "grow.xml.bz2", articles=count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 300_000
    # Two bz2 compressors are open at a time, each with its 7.6 MB.
    assert peaks[1] < 20_000_000


def test_articles_vary_in_markup_and_length() -> None:
    drafts = list(miniwiki.drafts())
    text = "\n".join(draft.wikitext() for draft in drafts)
    for mark in (
        "{{Infobox", '{| class="wikitable', "<ref name=", '" />', "{{cite web", "[https://", "]]s",
        "[[File:", "{{convert|", "{{lang|el|", "{{lang|ar|", "{{lang|zh|", "{{lang|th|", "{{lang|hi|",
        "{{lang|ru|", "{{lang|ja|", "<!--", "<nowiki>", "<math", "<gallery>", "'''", "''", "\n* ", "\n=== ",
        "[[Category:", "== See also ==", "== References ==", "{{nowrap|", "&nbsp;",
    ):  # fmt: skip
        assert mark in text, mark
    lengths = [len(t.split()) for draft in drafts for _, t in draft.plain_sections()]
    assert sum(length > 200 for length in lengths) >= 10
    assert sum(length < 25 for length in lengths) >= 50
    leftovers = re.compile(r"\[\[|\]\]|\{\{|\}\}|<[a-z/!]|''|\bNone\b|  |\.\.")
    for draft in (*drafts, *islice(systematic.systematic_articles(), 300)):
        for heading, section in draft.plain_sections():
            assert not leftovers.search(section), (draft.title, heading, leftovers.search(section))


def test_a_footnote_is_defined_before_it_is_used_again() -> None:
    for draft in miniwiki.drafts():
        text = draft.wikitext()
        defined = set(re.findall(r'<ref name="?([^"/>]+?)"?>', text))
        assert set(re.findall(r'<ref name="([^"]+)" />', text)) <= defined, draft.title


def test_a_few_known_facts() -> None:
    by_title = {entity.title: entity for entity in tables.entities()}
    assert len(by_title) == sum(map(len, tables.TABLES.values()))
    assert (by_title["Gold"].symbol, by_title["Gold"].number) == ("Au", 79)
    assert by_title["Mercury (element)"].phase == "liquid"
    assert by_title["Japan"].capital == "Tokyo"
    assert by_title["Danube"].mouth == "Black Sea"
    assert by_title["Mount Everest"].height_m == 8849
    assert by_title["Titan (moon)"].parent == "Saturn"
    assert (by_title["Albert Einstein"].born, by_title["Albert Einstein"].died) == (1879, 1955)
    assert by_title["Lake Baikal"].max_depth_m == 1642
    text = dict(articles.article_of(by_title["France"]).plain_sections())[""]
    assert "Paris" in text
    assert "euro" in text


def test_tables_agree_with_themselves() -> None:
    elements = tables.ELEMENTS
    assert [e.number for e in elements] == list(range(1, 119))
    assert len({e.symbol for e in elements}) == 118
    groups = {e.symbol: e.group for e in elements}
    assert [groups[s] for s in ("H", "He", "B", "Fe", "Hf", "Og", "La")] == [1, 18, 13, 8, 4, 18, None]
    assert [e.period for e in elements if e.group == 18] == [1, 2, 3, 4, 5, 6, 7]
    # Weights grow with the number, but for a few known pairs such as argon and potassium.
    drops = {f"{a.symbol}{b.symbol}" for a, b in pairwise(elements[:92]) if a.mass > b.mass}
    assert drops == {"ArK", "CoNi", "TeI", "ThPa"}
    codes = {c.iso2: c for c in tables.COUNTRIES}
    assert len(codes) == len(tables.COUNTRIES) == 194
    for country in tables.COUNTRIES:
        for code in country.neighbours:
            assert country.iso2 in codes[code].neighbours, (country.name, code)
        if country.capital_lat is not None:
            assert country.capital is not None
            # Neighbours' capitals are not far away, which catches a wrong sign or digit.
            for other in (codes[code] for code in country.neighbours):
                if other.capital and not {"RU", "US", "CA", "FR", "DK", "CN"} & {country.iso2, other.iso2}:
                    assert places.distance_km(country, other) < 4600, (country.name, other.name)
    names = {c.name for c in tables.COUNTRIES}
    for row in (*tables.RIVERS, *tables.MOUNTAINS, *tables.WATERS):
        assert set(row.countries) <= names, row.name
    titles = {body.name for body in tables.BODIES} | {"Sun"}
    assert all(body.parent in titles for body in tables.BODIES)
    for person in tables.PEOPLE:
        if person.born and person.died:
            assert 20 <= person.died - person.born <= 100, person.name


def test_planets_and_moons_keep_to_keplers_third_law() -> None:
    for parent in ("Sun", "Jupiter", "Saturn", "Uranus", "Mars"):
        orbits = [b for b in tables.BODIES if b.parent == parent and b.orbit_days and b.distance_mkm]
        assert len(orbits) > 1
        ratios = [b.distance_mkm**3 / b.orbit_days**2 for b in orbits]
        assert max(ratios) / min(ratios) < 1.06, parent


def test_derived_facts() -> None:
    assert nature.electron_configuration(1) == "1s1"
    assert nature.electron_configuration(26) == "[Ar] 3d6 4s2"
    assert nature.electron_configuration(29) == "[Ar] 3d10 4s1"
    assert nature.electron_configuration(36) == "[Ar] 3d10 4s2 4p6"
    assert nature.electron_configuration(82) == "[Xe] 4f14 5d10 6s2 6p2"
    for number in range(1, 104):
        *core, outer = nature.electron_configuration(number).partition("] ")
        noble = next((e.number for e in tables.ELEMENTS if f"[{e.symbol}" == core[0]), 0)
        shells = outer or core[0]
        assert noble + sum(int(s[2:]) for s in shells.split()) == number
    by_name = places.BY_NAME
    assert places.distance_km(by_name["France"], by_name["United Kingdom"]) == pytest.approx(344, abs=15)
    assert places.distance_km(by_name["Japan"], by_name["United States"]) == pytest.approx(10_900, abs=100)
    assert places.direction(by_name["France"], by_name["United Kingdom"]) == "northwest"
    assert systematic.words(1_002_345) == "one million two thousand three hundred and forty-five"
    assert systematic.roman(1994) == "MCMXCIV"
    assert systematic.factors(360) == [(2, 3), (3, 2), (5, 1)]


def test_questions_are_answered_by_their_articles() -> None:
    texts = {d.title: "\n".join(t for _, t in d.plain_sections()) for d in miniwiki.drafts(seed=5)}
    asked = list(miniwiki.questions())
    assert len(asked) == len({q.text for q in asked}) > 5000
    for question in asked:
        assert any(answer in texts[question.title] for answer in question.answers), question
    held_out = sum(q.held_out for q in asked)
    assert 0.1 < held_out / len(asked) < 0.25
    splits = Counter(tables.split_of(entity.title) for entity in tables.entities())
    assert splits["train"] > 400
    assert min(splits["dev"], splits["test"]) > 30


def test_plain_undoes_the_markup() -> None:
    text = "'''A''' [[b c|b]]s<ref name=\"x\" /> is {{convert|5|km|mi}} <!-- no -->{{lang|el|Ελλάδα}}."
    assert markup.plain(text) == "A bs is 5 km Ελλάδα."


def test_bad_arguments_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="a multistream dump is UTF-8, not utf-16"):
        miniwiki.write_dump(tmp_path / "x.xml.bz2", encoding="utf-16")
    assert main(["dump", str(tmp_path / "x.xml"), "--articles", "0"]) == 2
    assert capsys.readouterr().err == "miniwiki: articles is 0, wanted at least 1\n"
    assert list(tmp_path.iterdir()) == []


def test_a_dump_is_written_without_torch() -> None:
    code = "import sys, examples.miniwiki; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_a_small_retriever_loads_and_agrees(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from examples.miniwiki import retriever

    settings = retriever.Settings(vocabulary=1500, dim=64, steps=8, batch=48)
    report = retriever.make_retriever(tmp_path, articles=80, settings=settings)
    check_retriever(report)
    # Already the first steps find most articles by their words; an unlucky encoder would not.
    assert report.recall_at_5 > 0.5


@pytest.mark.slow
def test_the_demos_retriever_finds_the_articles(tmp_path: Path) -> None:
    from examples.miniwiki import retriever

    report = retriever.make_retriever(tmp_path / "one")
    check_retriever(report)
    assert report.recall_at_5 > 0.9
    assert report.unseen_recall_at_5 > 0.85
    again = retriever.make_retriever(tmp_path / "two")
    for name in ("model.safetensors", "2_Dense/model.safetensors", "tokenizer.json"):
        assert digest(report.gtr / name) == digest(again.gtr / name)


def check_retriever(report: object) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import AutoTokenizer, T5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(report.gtr)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    ids = tokenizer("Ελλάδα is Greece, 日本 is Japan.")["input_ids"]
    assert ids[-1] == 1
    assert 2 not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Ελλάδα is Greece, 日本 is Japan."
    kinds = [m["type"].rpartition(".")[2] for m in json.loads((report.gtr / "modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling", "Dense", "Normalize"]
    model = SentenceTransformer(str(report.gtr), device="cpu")
    vectors = model.encode(["capital of France", "France is a country"], show_progress_bar=False)
    encoder = T5EncoderModel.from_pretrained(report.gtr)
    with torch.no_grad():
        ids = tokenizer("capital of France", return_tensors="pt").input_ids
        mean = encoder(input_ids=ids).last_hidden_state.mean(1)
        own = torch.nn.functional.normalize(mean @ model[2].linear.weight.T, dim=1)[0]
    assert vectors[0] == pytest.approx(own.numpy(), abs=1e-5)
