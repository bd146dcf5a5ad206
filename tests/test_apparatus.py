"""Sections that are no prose are told from those that are, in the wiki's language or by what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.text import articles, passages, sources, wikitext
from pipeline.text.articles import Article
from pipeline.text.sources import kilt, plain
from pipeline.text.wikitext import Namespaces


def prose_of(markup: str, language: str) -> dict[str, bool]:
    """Whether each section is prose, by its last heading."""
    found = wikitext.sections(markup, namespaces=Namespaces(), language=language)
    return {(s.path or ("",))[-1]: s.prose for s in found}


@pytest.mark.parametrize(
    ("language", "heading"),
    [
        ("en", "See also"), ("en", "References"), ("en", "External links"), ("en", "Further reading"),
        ("", "See also"), ("simple", "References"), ("de", "Einzelnachweise"), ("de", "Weblinks"),
        ("fr", "Voir aussi"), ("fr", "Notes et références"), ("es", "Véase también"),
        ("it", "Voci correlate"), ("pt", "Ligações externas"), ("nl", "Zie ook"), ("pl", "Przypisy"),
        ("ru", "См. также"), ("uk", "Примітки"), ("sv", "Se även"), ("nb", "Se også"), ("fi", "Lähteet"),
        ("cs", "Externí odkazy"), ("hu", "Jegyzetek"), ("tr", "Kaynakça"), ("el", "Παραπομπές"),
        ("vi", "Liên kết ngoài"), ("ja", "関連項目"), ("ja", "脚注"), ("zh", "參考文獻"), ("ko", "같이 보기"),
        ("ar", "مراجع"), ("fa", "پانویس"), ("he", "ראו גם"), ("hi", "सन्दर्भ"), ("bn", "তথ্যসূত্র"),
        ("th", "อ้างอิง"), ("pt-br", "Referências"), ("bn", "References"),
        ("en", "'''See also:'''"),
        ("en", "7. References"), ("mk", "Надворешни врски"), ("sq", "Lidhje të jashtme"),
        ("is", "Tengt efni"),
        ("af", "Verwysings"), ("ga", "Féach freisin"), ("cy", "Dolenni allanol"), ("sw", "Viungo vya nje"),
        ("ta", "வெளி இணைப்புகள்"), ("kn", "ಉಲ್ಲೇಖಗಳು"), ("si", "බාහිර සබැඳි"), ("km", "ឯកសារ​យោង"),
        ("my", "ကိုးကား"), ("am", "ማጣቀሻ"), ("ne", "यो पनि हेर्नुहोस्"), ("pa", "ਹਵਾਲੇ"), ("gu", "સંદર્ભ"),
        ("ka", "იხილეთ აგრეთვე"), ("hy", "Տե՛ս նաև"), ("kk", "Дереккөздер"), ("ckb", "سەرچاوەکان"),
        ("fa", "یادداشت ها".replace(" ", "\u200c")), ("ar", "انظر أيضًا"),
        ("zh-TW", "參考資料與外部連結"),
        ("de", "Weblinks/Literatur"), ("fr", "Notes & références"), ("es", "Vease tambien"),
        ("tr", "DIŞ BAĞLANTILAR"),
        ("en", "References and external links"), ("en", "Notes, citations and references"),
        ("el", "ΠΑΡΑΠΟΜΠΕΣ"),
        ("sr-Latn", "Spoljašnje veze"), ("be_x_old", "Гл. таксама"), ("zh-min-nan", "Chham-khó"),
        ("kl", "Voci correlate"),
    ],
)  # fmt: skip
def test_by_name(language: str, heading: str) -> None:
    found = prose_of(f"Lead.\n== {heading} ==\n* [[A]]\n=== Part ===\n* b\n== History ==\nProse.", language)
    assert list(found.values()) == [True, False, False, True]


def test_what_may_be_prose_is_none_as_a_list() -> None:
    assert prose_of("== Sources ==\nThe river has two sources in the hills.", "en") == {"Sources": True}
    assert prose_of("== Sources ==\n* Smith, A: ''A book''. London.\n* [[B]]", "en") == {"Sources": False}
    assert prose_of("== Literatur ==\nDie Literatur der Stadt ist alt.\n\n* A", "de") == {"Literatur": True}


def test_prose_under_such_a_name_is_prose() -> None:
    """What an author wrote in sentences is kept under any name; a note or two about sources is not."""
    prose = (
        "In the theory of music a note is a sound of one pitch, and the notes of a scale are named by "
        "letters in most of the countries of Europe. In some they are named by syllables, which "
        "singers learn first."
    )
    for name in ("Notes", "Gallery", "Further information", "Bibliography", "References"):
        assert prose_of(f"== {name} ==\n{prose}\n* [[A]]", "en") == {name: True}
        assert prose_of(f"== {name} ==\n=== Part ===\n{prose}", "en") == {"Part": True}
    assert prose_of(f"== Notes ==\n* {prose}", "en") == {"Notes": False}
    short = "He kept notes of all his travels, which were published after his death."
    assert prose_of(f"== Notes ==\n{short}", "en") == {"Notes": True}
    cited = "Smith, John A.; Brown, Mary (1990). A History of the Town of Ely, 1066–1485. Oxford: Clarendon. "
    assert prose_of(f"== References ==\n{cited * 3}\n\n{cited * 2}", "en") == {"References": False}
    assert prose_of("== References ==\nThis article was taken from the old encyclopedia.", "en") == {
        "References": False
    }


def test_a_name_of_another_language_is_a_heading() -> None:
    assert prose_of("== Note ==\nA C is a note.", "en") == {"Note": True}
    assert prose_of("== Note ==\nUna nota.", "it") == {"Note": False}


def test_by_what_they_hold_where_the_language_is_unknown() -> None:
    markup = (
        "Lead.\n== A ==\nProse with a [[link]].\n* [[a]]\n== B ==\n* [[b]] (a town)\n* [[c]]\n"
        "== C ==\n{{Notae}}\n<references/>\n== D ==\n* [http://a.b c d], 2001\n* {{g|h}} i\n"
        "{{navis|a}}\n[[Categoria:X]]"
    )
    assert prose_of(markup, "kl") == {"": True, "A": True, "B": False, "D": False}
    assert prose_of(markup, "en") == {"": True, "A": True, "B": True, "D": True}


def test_by_what_they_hold_on_any_wiki() -> None:
    """Links out of the wiki, or works cited, at the end; a list of works with a few links stays."""
    links = "* [http://a.b c], 2001\n* {{cite web|url=http://a|title=T}} read\n;Books\n* [//d.e f]\n* g"
    outward = f"== Net ==\n{links}"
    markup = f"Lead.\n== Works ==\n* ''A'', 1901\n* [http://a.b B]\n{outward}\n== See also ==\n* [[A]]"
    assert prose_of(markup, "en") == {"": True, "Works": True, "Net": False, "See also": False}
    assert prose_of(f"Lead.\n{outward}\n== Later ==\nProse.", "en")["Net"]
    assert prose_of("Lead.\n== Towns ==\n* {{flag|A}} [[B]]\n* {{flag|C}} [[D]]", "kl")["Towns"]


def test_a_list_of_links_stays_an_article_in_an_unknown_language() -> None:
    markup = "Index urbium.\n" + "".join(f"== {c} ==\n* [[{c}a]]\n* [[{c}b]]\n" for c in "ABCD")
    assert list(prose_of(markup, "kl").values()) == [True, True, True, True, False]


def test_parts_add_up() -> None:
    markup = "Two words.\n== See also ==\n* [[One]]\n== End ==\nThree more words."
    article = Article(
        page_id="1", title="A", sections=tuple(wikitext.sections(markup, namespaces=Namespaces()))
    )
    kept, left_out = articles.part(article)
    assert [s.path for s in kept.sections] == [(), ("End",)]
    assert [s.text for s in left_out] == ["One"]
    assert passages.article_words(article) == passages.article_words(kept) + 1 == 6
    assert articles.part(kept) == (kept, ())


def test_kilt_has_them_too() -> None:
    text = ["A", "Prose.", "Section::::See also.", "BULLET::::- B", "Section::::Sources.", "A spring.\n"]
    page = kilt._page({"wikipedia_id": "1", "wikipedia_title": "A", "text": text})
    assert isinstance(page, Article)
    assert [(s.path, s.prose) for s in page.sections] == [
        ((), True),
        (("See also",), False),
        (("Sources",), True),
    ]


WIKI = "https://de.wikipedia.org/wiki/Ulm"
LINES = (
    "Ulm ist eine Stadt.\n\nLiteratur und Kunst\n\nDort lebte Johannes Kepler.\n\n{}\n\nNeu-Ulm\n\n{} \n\n"
    "Website der Stadt, 2001\nMünster"
)


def plain_parts(text: str, language: str) -> list[tuple[str, bool]]:
    return [(section.text, section.prose) for section in plain.sections(text, language)]


@pytest.mark.parametrize(
    ("language", "names"),
    [
        ("de", ("Siehe auch", "Weblinks")),
        ("und", ("Véase también", "外部リンク")),
        ("en", ("See also", "Notes")),
    ],
)
def test_the_end_of_a_plain_text(language: str, names: tuple[str, str]) -> None:
    text = LINES.format(*names)
    kept = "Ulm ist eine Stadt.\nLiteratur und Kunst\nDort lebte Johannes Kepler."
    tail = f"{names[0]}\nNeu-Ulm\n{names[1]}\nWebsite der Stadt, 2001\nMünster"
    assert plain_parts(text, language) == [(kept, True), (tail, False)]


def test_prose_in_a_plain_text_stays() -> None:
    """A line that is such a name is a heading or no more than a line; prose behind it is prose."""
    prose = "The river is long and wide, and so it has carried ships for as long as anybody knows of it. " * 2
    for text in (
        f"Lead.\nNotes\n{prose}",
        f"Lead.\nSee also\nRhine\nHistory\n{prose}",
        "Notes\nmilk, bread",
        "References",
        "Lead with References in it.",
    ):
        assert plain_parts(text, "en") == [(text.strip(), True)]
    annotated = (
        "Lead.\nSee also\nRhine, the river of the north, which is long and wide and has carried ships.\nElbe"
    )
    assert plain_parts(annotated, "en")[0] == ("Lead.", True)


@pytest.mark.parametrize("kind", ["jsonl", "wikipedia"])
@pytest.mark.parametrize("url", [WIKI, None])
def test_records_have_them_too(kind: str, url: str | None, tmp_path: Path) -> None:
    record = {"id": "1", "title": "Ulm", "text": LINES.format("Siehe auch", "Weblinks")}
    record |= {"url": url} if url else {}
    file = tmp_path / "a"
    if kind == "jsonl":
        file.write_text(json.dumps(record) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist([record]), file)
    (split,) = sources.open_source(f"{kind}:{file}").splits(1 << 30)
    (page,) = sources.read_split(split)
    assert isinstance(page, Article)
    assert [section.prose for section in page.sections] == [True, False]
    assert articles.part(page)[1][0].text.startswith("Siehe auch\nNeu-Ulm\nWeblinks")


def test_sections_of_json_lines_have_them_too(tmp_path: Path) -> None:
    sections = [
        {"path": [], "text": "Lead."},
        {"path": ["External links"], "text": "A site\nAnother"},
        {"path": ["Sources"], "text": "The river has two."},
        {"path": ["History", "References"], "text": "A book"},
    ]
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"id": 1, "title": "A", "text": "", "sections": sections}))
    (split,) = sources.open_source(f"jsonl:{file}").splits(1 << 30)
    (page,) = sources.read_split(split)
    assert isinstance(page, Article)
    assert [section.prose for section in page.sections] == [True, False, True, False]
