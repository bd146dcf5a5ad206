"""Wikitext to sections: what each piece of markup reads as, in what time, and on real pages."""

from __future__ import annotations

import bz2
import re
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text import wikitext
from pipeline.text.wikitext import Namespaces

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "enwiki"
ENGLISH = Namespaces()
GERMAN = Namespaces({6: "Datei", 14: "Kategorie", 10: "Vorlage", 4: "Wikipedia"})


def text_of(markup: str, namespaces: Namespaces = ENGLISH) -> str:
    """The text of all sections; headings are not in it."""
    return "\n".join(s.text for s in wikitext.sections(markup, namespaces=namespaces))


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        # Quote marks
        ("'''Bold''' and ''italic'' and '''''both'''''.", "Bold and italic and both."),
        ("'''L''''Aquila''' is a city", "L'Aquila is a city"),
        ("l'''amour'' fou", "l'amour fou"),
        ("the dogs' ''bone''", "the dogs' bone"),
        ("''''four'''' here", "'four' here"),
        ("'''never closed", "never closed"),
        ("rock 'n' roll", "rock 'n' roll"),
        # Links
        ("a [[cat]], two [[cat]]s", "a cat, two cats"),
        ("a [[Felis catus|house cat]]", "a house cat"),
        ("[[Mercury (planet)|]] and [[Paris, Texas|]]", "Mercury and Paris"),
        ("[[#History|below]], [[#Later]]", "below, Later"),
        ("[[a|b|c]] d", "b|c d"),
        ("see [[:Category:Cats]]", "see Category:Cats"),
        ("text [[Category:Cats|*]]\n[[Category:Dogs]]", "text"),
        ("text\n[[fr:Titre]]\n[[zh-min-nan:X]]", "text"),
        ("the [[wikt:cat|word]]", "the word"),
        ("[[2001: A Space Odyssey]]", "2001: A Space Odyssey"),
        ("x [[File:A.jpg|thumb|a [[link]] and {{t|[[b]]}} in it]] y", "x y"),
        ("[[Image:A.jpg|thumb|a\nb [http://c.d e]]] y", "y"),
        ("[[Unbekannt:Foto.jpg|mini|Text]] y", "y"),
        ("[[not closed and more", "not closed and more"),
        ("closed only]] here", "closed only here"),
        ("[http://a.b/c label text], [http://a.b]", "label text,"),
        ("[//a.b label] [mailto:a@b.c mail]", "label mail"),
        ("[http://a.b the [[cat]] page]", "the cat page"),
        ("at http://a.b/c in text", "at http://a.b/c in text"),
        ("* http://a.b/c\n* text", "text"),
        ("an array[1] and [sic]", "an array[1] and [sic]"),
        # Lists and lines
        ("* one\n** two\n# three\n: four\n;five\n:* six", "one\ntwo\nthree\nfour\nfive\nsix"),
        ("hard\nwrapped\n\nnext", "hard wrapped\nnext"),
        ("a<br>b<br />c", "a\nb\nc"),
        ("----\nafter a rule", "after a rule"),
        ("before\n{{notice}}\nafter", "before\nafter"),
        # Tags, entities, characters
        ("H<sub>2</sub>O, 10<sup>6</sup>, km<sup>2</sup>, 1<sup>st</sup>", "H2O, 10^6, km2, 1st"),
        ('<div class="x">in a <span style="a">div</span></div>', "in a div"),
        ("a&nbsp;b &amp; c&ndash;d &lt;i&gt; &#65;&#x42; &copy &bogus;", "a b & c–d <i> AB &copy &bogus;"),
        ("soft\u00adhyphen zero\u200bwidth", "softhyphen zerowidth"),
        # What parts words in Khmer, Thai, Burmese, Tibetan stays; at an end or a blank it parts nothing.
        ("\u200bភាសា\u200bខ្មែរ\u200b \u200bA\u200bB", "ភាសា\u200bខ្មែរ AB"),
        ("ไทย\u200b\u200bดี 日\u200b本", "ไทย\u200bดี 日本"),
        ("ខ្មែរ&#8203;ភាសា{{zwsp}}ABC", "ខ្មែរ\u200bភាសា\u200bABC"),
        # Spelling: joiners, selectors of variants, the Mongolian vowel separator.
        ("می\u200cروم क्\u200dष", "می\u200cروم क्\u200dष"),
        ("👩\u200d🚀 ❤\ufe0f ᠠ\u180eᠠ", "👩\u200d🚀 ❤\ufe0f ᠠ\u180eᠠ"),
        ("می{{zwnj}}روم", "می\u200cروم"),
        # Direction, joiners of words, invisible operators, annotation.
        ("a\u061c\u200e\u202bb\u202c\u2066c\u2069 f\u2061(x) 1\u20602", "abc f(x) 12"),
        ("x \ufff9d\ufffae\ufffb\ufeff", "x de"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("&#xD800; &#1114112; &#0;x", "\ufffd \ufffd x"),
        ("<nowiki>[[a]] ''b'' {{c}} &amp;</nowiki>!", "[[a]] ''b'' {{c}} &!"),
        ("end <nowiki>!</nowiki>\n<nowiki>* no list -</nowiki>", "end ! * no list -"),
        ("''a''<nowiki/>s", "as"),
        ("4 < 5 and 6 > 5, <unknown>", "4 < 5 and 6 > 5, <unknown>"),
        ("the <code>x</code> flag", "the x flag"),
        ("a __NOTOC__ b __снеправильно__ __ОГЛ__", "a b __снеправильно__"),
        ('<span style="display:none">hidden</span>shown', "shown"),
        ("a\x00b\x02c", "abc"),
        ("<poem>\nline one\nline two\n</poem>", "line one\nline two"),
        # Comments, references, extensions
        ("a<!-- b\n\n c -->d", "ad"),
        ("one\n<!-- alone -->\ntwo", "one two"),
        ("a<!-- never closed", "a"),
        ("a<ref>b [[c]]</ref>, d<ref name=x />e<ref name=y>{{cite|f}}</ref>.", "a, de."),
        ("a<ref>never closed\nnext line", "a next line"),
        ("a<ref>Smith<ref> goes on", "a goes on"),
        ("a<ref>b<ref>c</ref> d", "a d"),
        ('a<ref>{{cite|b</ref name"x"> c}}</ref> d', "a d"),
        ("<references>\n<ref>a</ref>\n</references>b", "b"),
        ("a<gallery>\nFile:B.jpg|c\n</gallery>d", "ad"),
        ("a<syntaxhighlight lang='c'>int b;</syntaxhighlight> c<math> unclosed", "a c unclosed"),
        ("for <math>n \\ge 2</math> and <math>\\frac{a}{b}</math>.", "for n ≥ 2 and."),
        ("of <math>{1,2,3}</math>, <math>x^{2}</math>", "of 1,2,3, x^2"),
        ("a<table><tr><td>b<table></table></table>c", "a c"),
        # Tables
        ("a\n{| class=x\n|-\n| b\n{|\n| c\n|}\n| d\n|}\ne", "a\ne"),
        (":{|\n| b\n|}\ne", "e"),
        ("{|\n| b\n\nProse goes on.\n\nAnd on.", "Prose goes on.\nAnd on."),
        ("{| \n| {{t|\n|}}\n|}\ne", "e"),
        ("|-\n| stray row\n! scope=row | x\ntext!", "text!"),
        # Templates
        ("{{Infobox\n| a = {{b|c}}\n| d = [[e]]\n}}\nText", "Text"),
        ("{{convert|5|km|mi}} or {{convert|3|to|10|ft|m|abbr=on}}", "5 km or 3 to 10 ft"),
        ("{{convert|6|ft|2|in|m}}, {{cvt|1435|mm}}", "6 ft 2 in, 1,435 mm"),
        ("{{convert|2|e6acre}}, {{convert|4|Moilbbl/d}}", "2 million acres, 4 million barrels per day"),
        ("({{lang-fr|le chat}}) {{lang|de|die ''Katze''}} {{lang|la|a=b|c}}", "(le chat) die Katze c"),
        ("{{nowrap|a {{small|b [[c|d]]}}}}", "a b d"),
        ("{{as of|2015|7}}, {{as of|2016|lc=y}}", "As of July 2015, as of 2016"),
        ("{{birth date|1903|6|25|df=y}}{{ndash}}{{death date|1950|1|21}}", "25 June 1903–January 21, 1950"),
        ("{{frac|1|2}} {{val|1.6|e=-19|u=C}} {{circa|1800}}", "1/2 1.6×10^-19 C c. 1800"),
        ("a{{spaced ndash}}b {{'}}c {{=}} {{!}}d", "a – b 'c = |d"),
        ("{{quote|To be\n\nor not|Hamlet}}", "To be\nor not"),
        ("{{ill|Name|de|Name (Maler)}} {{USS|Enterprise|CV-6}}", "Name USS Enterprise (CV-6)"),
        ("{{Unbekannt|a}}b {{#if:c|d}}", "b"),
        ("{{{1|default}}} {{{arg}}}x", "default x"),
        ("{{subst:nowrap|a}} {{Template:Nowrap|b}}", "a b"),
        ("{{formatnum:12345}} {{uc:abc}} {{lc:{{nowrap|ABC}}}}", "12,345 ABC abc"),
        ("text {{unclosed|a\n| b = c\nProse.", "text Prose."),
        ("closed}} only", "closed only"),
        # Holes
        ("Foo ({{IPA|x}}) is", "Foo is"),
        ("Foo ({{IPA|x}}; born 1950) is", "Foo (born 1950) is"),
        ("Foo (1900; {{IPA|x}}) is", "Foo (1900) is"),
        ("Foo (a, {{IPA|x}}, b) is", "Foo (a, b) is"),
        ("Foo {{IPA|x}}, bar {{cn}}.", "Foo, bar."),
        ("call f() and g( )", "call f() and g( )"),
        ("* {{cite book|x}} – a review", "a review"),
        # Table ends, and what looks like them
        ("A{{efn|b {{IPA-bn|c|}}}} is it.", "A is it."),
        ("A {{nowrap|{{lang|fr|b|}}}} c {{{1|}}}d {{t|{{{x|}}}}}e", "A b c d e"),
        ("{{t|\n{|\n| a\n|}}}\nb {{t|{{u|\n{|\n| a\n|}}}}}\nc", "b c"),
        ("a |} b {{nowrap|c|}} d", "a |} b c d"),
        ("{|\n| {{t|a|}}\n| {{{1|}}}\n|}\ne", "e"),
        # Lines that begin as rows do
        ("|x| is the absolute value of x.\n\n|x + y| is at most |x| + |y|.",
         "|x| is the absolute value of x.\n|x + y| is at most |x| + |y|."),
        ("{{short|a}}\n!Xóõ (with ''[[!!]]'') is spoken by 4,000.", "!Xóõ (with !!) is spoken by 4,000."),
        ("||v|| is the norm.\n\n|-5| = 5, and |+5| too.", "||v|| is the norm.\n|-5| = 5, and |+5| too."),
        ("in [[New York\n|the city]], and on", "in the city, and on"),
        ("in [[New\nYork|the city]], in [[New\nYork]] too", "in the city, in New York too"),
        ("a [[b|c\n|d]] e\n! f", "a c |d e ! f"),
        ("{{table start}}\n! a !! b\n|-\n| c || d\n{{table end}}\ne", "e"),
        ("{{table start}}\n| a || b\n| c\n{{table end}}\nd", "d"),
        ("a\n! b\n| c\n|}\nd", "a\nd"),
        ("| name = a\n| born = b\n}}\nc", "c"),
        # Hidden elements
        ('<div class="NavContent" style="display: none">a</div>b', "a\nb"),
        ("<div id=mw-customcollapsible-x style='display:none'>a</div>b", "a\nb"),
        ("<div style='display:none'>a <b>c</b> <div>d</div> e</div>b", "b"),
        ('<span style="display : none">a [[b]] <i>c</i></span>d', "d"),
        ('<td style="DISPLAY:NONE">a</td>b <p style="display:none">never closed', "b\nnever closed"),
        ("<div style='display:none'>\n== A ==\na\n</div>b", "a\nb"),
        # Language variants
        ("-{zh-hans:计算机; zh-hant:電腦}-好", "计算机好"),
        ("-{T|zh:x}-a-{R|b}-c-{d}-", "abcd"),
    ],
)  # fmt: skip
def test_markup_reads_as(markup: str, expected: str) -> None:
    assert text_of(markup) == expected


def test_headings_become_paths() -> None:
    markup = (
        "Lead.\n== A ==\na\n=== ''B'' [[c|d]] ===\nb\n===== E =====\ne\n=== F ===\nf\n== G ==\n"
        "== H <!-- x -->==<!-- y -->\nh\n==I==\n{{reflist}}\n===J=\nj\n==\nk\n= =\nl\na = b\n=x"
    )
    found = [(s.path, s.text) for s in wikitext.sections(markup, namespaces=ENGLISH)]
    assert found == [
        ((), "Lead."),
        (("A",), "a"),
        (("A", "B d"), "b"),
        (("A", "B d", "E"), "e"),
        (("A", "F"), "f"),
        (("H",), "h"),
        (("==J",), "j == k"),
        ((), "l a = b =x"),
    ]


def test_empty_sections_vanish_and_those_of_links_are_no_prose() -> None:
    markup = "==See also==\n* [[Dog]]\n==References==\n{{reflist}}\n==Notes==\nA note."
    found = [(s.path, s.text, s.prose) for s in wikitext.sections(markup, namespaces=ENGLISH)]
    assert found == [(("See also",), "Dog", False), (("Notes",), "A note.", False)]


@pytest.mark.parametrize(
    "markup",
    [
        "[[Datei:A.jpg|mini|Text]]x[[Kategorie:B]]",
        "[[File:A.jpg|mini|Text]]x[[Category:B]]",
        "[[Bild:A|mini|Text]]x[[Файл:Б|в]][[Категория:Г]]",
        "[[ファイル:A]]x[[カテゴリ:B]][[ملف:A]][[تصنيف:B]][[文件:A]][[分类:B]]",
        "[[datei : A.jpg]]x{{Vorlage:Nowrap|}}",
    ],
)
def test_files_and_categories_by_local_names(markup: str) -> None:
    assert text_of(markup, GERMAN) == "x"


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("#REDIRECT [[A]]", True),
        ("#redirect[[A]]", True),
        ("\n#WEITERLEITUNG [[A]]", True),
        ("#REDIRECT: [[A]] {{R from move}}\nSome text that nobody sees.", True),
        ("#पुनर्प्रेषित [[क]]", True),
        ("#เปลี่ยนทาง[[ก]]", True),
        ("#تغییر_مسیر [[ب]]\n[[رده:پ]]", True),
        ("#ail-cyfeirio [[A]]", True),
        ("#ᱢᱚᱦᱰᱟ [[ᱟ]]\n{{R}}\n[[ᱛᱷᱚᱠ:ᱟ]] <!-- c -->", True),  # of no list
        ("#Alpha [[Beta]] is a town.\n#Gamma [[Delta]] is one.", False),
        ("#Alpha [[Beta]]\n#Gamma [[Delta]]", False),
        ("#Alpha [[Beta]]\n\nText after the list.", False),
        ("#redirecting is hard", False),
        ("#перенаправление [[А]]", True),
        ("#転送[[A]]", True),
        ("# [[A]] is first", False),
        ("#one two [[A]]", False),
        ("", False),
    ],
)
def test_is_redirect(markup: str, expected: bool) -> None:
    assert wikitext.is_redirect(markup) is expected


def test_longer_than_any_page_is_an_error() -> None:
    with pytest.raises(wikitext.WikitextError, match="4,194,305 characters, the limit is 4,194,304"):
        wikitext.sections("a" * (wikitext.MAX_WIKITEXT_CHARS + 1), namespaces=ENGLISH)


HARD = [
    "{{", "[[", "{{{", "}}", "]]", "\n{|", "\n|}", "<ref>", "<ref/>", "<!--", "<table>", "''",
    "'''a'' ", "[http://a ", "[[a|", "[[File:a|", "{{lang|a|", "{{nowrap|[[a|", "({{x}}; ",
    "a {{x}} ", "\n{{a\n|b", "&#1", "-{a;", "__A_", "<span style=display:none", "\n= =", " ", "\n ",
]  # fmt: skip


@pytest.mark.parametrize("piece", HARD)
def test_time_is_linear_in_the_page(piece: str) -> None:
    page = piece * (500_000 // len(piece))
    start = time.process_time()
    wikitext.sections(f"a {page} b", namespaces=ENGLISH)
    wikitext.is_redirect(page)
    # Measured: 0.35 s at most. Anything quadratic takes minutes.
    assert time.process_time() - start < 5


def test_deep_nesting_is_cut_the_same_way_everywhere() -> None:
    def deep(levels: int) -> str:
        return "a " + "{{nowrap|" * levels + "x" + "}}" * levels + " b"

    assert text_of(deep(40)) == "a x b"
    assert text_of(deep(41)) == text_of(deep(3000)) == text_of(deep(50_000)) == "a b"
    assert text_of("a " + "{{t|" * 3000 + "x" + "}}" * 3000 + " b") == "a b"


PIECES = st.sampled_from(
    [*"{}[]|'=*#:;<>&!-_~\n x1,()", "{{", "}}", "[[", "]]", "{|", "|}", "\n{|", "\n|}", "{{nowrap|",
     "{{convert|", "<ref>", "</ref>", "<ref/>", "<!--", "-->", "<nowiki>", "</nowiki>", "<br>",
     "[http://a b", "[[File:", "''", "'''", "\n==", "==\n", "&amp;", "-{", "}-", "\x00", "\x02",
     "<math>", "</math>", "é", "中", "\u00ad", "\u2028", "\x85"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=60))
def test_any_markup_gives_clean_lines(pieces: list[str]) -> None:
    for section in wikitext.sections("".join(pieces), namespaces=ENGLISH):
        assert section.text
        for line in [*section.path, *section.text.split("\n")]:
            assert line == line.strip()
            assert not re.search("[\x00-\x08\x0b-\x1f]", line)
            assert any(map(str.isalnum, line))


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=1, max_size=8), min_size=1, max_size=9))
def test_plain_words_come_through(words: list[str]) -> None:
    assert text_of(" ".join(words)).split() == words


def real_pages() -> list[tuple[str, str]]:
    pages = []
    for file in sorted(DATA.glob("*.xml.bz2")):
        xml = bz2.decompress(file.read_bytes()).decode()
        for page in re.findall("<page>.*?</page>", xml, re.DOTALL):
            element = ElementTree.fromstring(page)
            markup = element.findtext("revision/text") or ""
            if not wikitext.is_redirect(markup):
                pages.append((element.findtext("title") or "", markup))
    return pages


@pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/enwiki is not there")
def test_real_pages_leave_no_markup() -> None:
    pages = real_pages()
    assert len(pages) > 100
    texts = [text_of(markup) for _, markup in pages]
    for leftover in (r"\{\{", r"\}\}", r"\[\[", r"\]\]", r"\{\|", r"\|\}", "''", "<ref", r"\|thumb",
                     "File:", "Category:", "&nbsp;", r"\|-", "==", "<br", "\x02"):  # fmt: skip
        found = [title for (title, _), text in zip(pages, texts, strict=True) if re.search(leftover, text)]
        assert not found, leftover
    # A quarter of these pages is prose, most of the rest references, tables and infoboxes.
    words = sum(len(text.split()) for text in texts)
    assert words > 0.4 * sum(len(markup.split()) for _, markup in pages)


@pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/enwiki is not there")
def test_real_prose_is_all_there() -> None:
    """Plain lines of the source, without any markup, are lines of the text."""
    seen = 0
    for title, markup in real_pages():
        text = " ".join(text_of(markup).split())
        prose = re.sub(r"(?s)<!--.*?-->|\n\{\|.*?\n\|\}|\{\{.*?\}\}|<(\w+).*?</\1>", "{", markup)
        for line in prose.split("\n"):
            if len(line) > 60 and not re.search(r"[\[\]{}|<>&'*#:;=_~\x00-\x1f]|  ", line):
                seen += 1
                # Punctuation beside a template that was dropped goes with it.
                assert " ".join(line.split()).strip("–,.;:)( ") in text, (title, line)
    assert seen > 100
