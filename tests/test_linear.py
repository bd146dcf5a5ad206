"""The cost of a page is linear in its length, whatever is in it: patterns that were not, and a fuzzer."""

from __future__ import annotations

import re

import pytest

from pipeline.text import wikitext
from pipeline.text.sources import mediawiki, plain
from pipeline.text.wikitext import Namespaces
from tests.pumps import Pump, convert, fuzz, growth, is_flat

NAMESPACES = Namespaces()

# Each was quadratic, or near enough to a pattern that was.
KNOWN = [
    *(
        Pump(f"{{{{{name}|", blank, "}}}")
        for name in ("nowrap", "val", "frac", "date", "nihongo", "lang", "convert")
        for blank in (" ", "\t")
    ),
    Pump("{{nowrap|", "a ", "}}"),
    Pump("{{nowrap|", "a-", "|b}}"),
    Pump("{{convert|5|", "e3", "}}"),
    Pump("{{date|1999|5|", "7", "}}"),
    Pump("<div ", "display:none", ""),
    Pump("<div ", "display", ":none"),
    Pump("", "<div style=display:none>", ""),
    Pump("", "<div style=display:none><span>", "</div>"),
    Pump("", "<span style='display:none'>a", "<b"),
    Pump("[[{{nowrap|a", " ", "}}(|]]"),
    Pump("[[{{nowrap|a", "(", "}}|]]"),
    Pump("[[{{nowrap|", "a (b) ", "}}|]]"),
    Pump("#a", " ", "b"),
    Pump("#", "a", "b"),
    Pump("-{", "zh-cn:a;", ""),
    Pump("", "-{a|", "}-"),
    Pump("", "[[a\n|", "b"),
    Pump("a\n|", "-", "b"),
    Pump("a\n|-", "a", " "),
    Pump("{{a|", "-", "|b c d}}"),
    Pump("a {{b|", "1 ", "}} c"),
    Pump("\n", "=", "a"),
    Pump("== A ==\n*", " ", "a"),
    Pump("== A ==\n* [[a]]", " (", ")"),
    Pump("== A ==\n* https://", "a", ""),
    Pump("", "== A ==\n* [[b]]\n", ""),
]


@pytest.mark.parametrize("pump", KNOWN, ids=str)
def test_known_patterns_are_linear(pump: Pump) -> None:
    def run(page: str) -> None:
        wikitext.is_redirect(page)
        wikitext.sections(page, namespaces=NAMESPACES)
        wikitext.sections(page, namespaces=NAMESPACES, language="kl")

    # A square would be 16 times dearer at 48 KB than at 3.
    found = growth(pump, run, repeats=3)
    assert is_flat(found, slack=4), found


def test_a_unit_of_multiples_is_no_recursion() -> None:
    markup = "{{convert|5|" + "e3" * 20_000 + "|b}} and the rest."
    (section,) = wikitext.sections(markup, namespaces=NAMESPACES)
    assert section.text.endswith("and the rest.")


@pytest.mark.parametrize("day", ["²", "7" * 5000])
def test_a_day_that_is_no_number_costs_no_page(day: str) -> None:
    (section,) = wikitext.sections(f"Born {{{{date|1999|5|{day}}}}}.", namespaces=NAMESPACES)
    assert section.text == f"Born 1999 5 {day}."


def test_other_formats_are_linear() -> None:
    found = growth(Pump("a", " \t", "b"), plain.paragraphs, repeats=3)
    assert is_flat(found, slack=4), found
    assert plain.paragraphs(" a \t\n\n \xa0b\t\n c\n") == "a\nb\nc"


def test_siteinfo_is_searched_once(tmp_path: object) -> None:
    def run(page: str) -> object:
        return [found.group() for found in re.finditer(mediawiki._SITEINFO, page)]

    assert is_flat(growth(Pump("", "<siteinfo>", ""), run, repeats=3), slack=4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_fuzzed_pumps_are_linear(seed: int) -> None:
    tries, worst = fuzz(60, seed, convert)
    assert tries > 500
    assert not [(pump, found) for pump, found in worst if not is_flat(found, slack=4)]
