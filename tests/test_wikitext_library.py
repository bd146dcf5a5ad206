"""Our text of wikitext against mwparserfromhell's: prose that the library keeps is not lost by us."""

from __future__ import annotations

import bz2
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import mwparserfromhell
import pytest

from examples.miniwiki.export import DumpTruth
from pipeline.text.wikitext import Namespaces, sections

WORD = re.compile(r"\w+")


def articles(data: bytes) -> Iterator[tuple[str, str]]:
    """(title, wikitext) of a dump's articles, read without the pipeline."""
    for fragment in data.split(b"<page>")[1:]:
        try:
            page = ElementTree.fromstring(b"<page>" + fragment.split(b"</page>")[0] + b"</page>")
        except ElementTree.ParseError:
            continue
        text = page.findtext("revision/text") or ""
        model = page.findtext("revision/model")
        if page.findtext("ns") == "0" and page.find("redirect") is None and model == "wikitext":
            yield page.findtext("title") or "", text


def by_library(wikitext: str) -> list[str]:
    """Words of the library's own plain text, without references, tables, files and categories."""
    code = mwparserfromhell.parse(wikitext, skip_style_tags=True)
    for tag in code.filter_tags(matches=lambda tag: tag.tag in ("ref", "table", "gallery", "math", "pre")):
        _remove(code, tag)
    for link in code.filter_wikilinks(matches=r"^\[\[\s*(?:File|Image|Category|[a-z\-]{2,12})\s*:"):
        _remove(code, link)
    return WORD.findall(code.strip_code().replace("''", ""))


def _remove(code: mwparserfromhell.wikicode.Wikicode, node: object) -> None:
    try:
        code.remove(node)
    except ValueError:
        return  # it lay in one that has been removed


def missing(wikitext: str) -> tuple[int, int]:
    """Of the library's runs of three words: how many there are, and how many our text lacks."""
    found = sections(wikitext, namespaces=Namespaces())
    ours = WORD.findall("\n".join([*(h for s in found for h in s.path), *(s.text for s in found)]))
    have = set(zip(ours, ours[1:], ours[2:], strict=False))
    theirs = by_library(wikitext)
    triples = list(zip(theirs, theirs[1:], theirs[2:], strict=False))
    return len(triples), sum(triple not in have for triple in triples)


def share_missing(pages: Iterator[tuple[str, str]]) -> float:
    counted = [missing(text) for _, text in pages]
    total = sum(count for count, _ in counted)
    assert total > 10_000
    return sum(lost for _, lost in counted) / total


def test_no_prose_of_miniwiki_is_lost(dump: DumpTruth) -> None:
    # What is left: runs of words across a heading or around a template, where the two differ on purpose.
    assert share_missing(articles(bz2.decompress(dump.path.read_bytes()))) < 0.08


@pytest.mark.slow
def test_no_prose_of_a_real_dump_is_lost(shared_data: Path) -> None:
    data = bz2.decompress((shared_data / "enwiki/enwiki-pages-articles-excerpt.xml.bz2").read_bytes())
    assert share_missing(articles(data)) < 0.025
