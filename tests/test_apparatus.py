"""Sections that are no prose are told from those that are, in the wiki's language or by what they hold."""

from __future__ import annotations

import pytest

from pipeline.text import articles, passages, wikitext
from pipeline.text.articles import Article
from pipeline.text.sources import kilt
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
        ("th", "อ้างอิง"), ("pt-br", "Referências"), ("bn", "References"), ("en", "'''See also:'''"),
        ("en", "7. References"),
    ],
)  # fmt: skip
def test_by_name(language: str, heading: str) -> None:
    found = prose_of(f"Lead.\n== {heading} ==\n* [[A]]\n=== Part ===\n* b\n== History ==\nProse.", language)
    assert list(found.values()) == [True, False, False, True]


def test_what_may_be_prose_is_none_as_a_list() -> None:
    assert prose_of("== Sources ==\nThe river has two sources in the hills.", "en") == {"Sources": True}
    assert prose_of("== Sources ==\n* Smith, A: ''A book''. London.\n* [[B]]", "en") == {"Sources": False}
    assert prose_of("== Literatur ==\nDie Literatur der Stadt ist alt.\n\n* A", "de") == {"Literatur": True}


def test_a_name_of_another_language_is_a_heading() -> None:
    assert prose_of("== Note ==\nA C is a note.", "en") == {"Note": True}
    assert prose_of("== Note ==\nUna nota.", "it") == {"Note": False}


def test_by_what_they_hold_where_the_language_is_unknown() -> None:
    markup = (
        "Lead.\n== A ==\nProse with a [[link]].\n* [[a]]\n== B ==\n* [[b]] (a town)\n* [[c]]\n"
        "== C ==\n{{Notae}}\n<references/>\n== D ==\n* [http://a.b c d], 2001\n* {{g|h}} i\n"
        "{{navis|a}}\n[[Categoria:X]]"
    )
    assert prose_of(markup, "la") == {"": True, "A": True, "B": False, "D": False}
    assert prose_of(markup, "en") == {"": True, "A": True, "B": True, "D": True}


def test_a_list_of_links_stays_an_article_in_an_unknown_language() -> None:
    markup = "Index urbium.\n" + "".join(f"== {c} ==\n* [[{c}a]]\n* [[{c}b]]\n" for c in "ABCD")
    assert list(prose_of(markup, "la").values()) == [True, True, True, True, False]


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
