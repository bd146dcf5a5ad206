"""The pages of a dump in order: articles, and all the other things that a wiki keeps beside them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from examples.miniwiki import markup
from examples.miniwiki.articles import article_of, list_articles, redirects_to, shared_names
from examples.miniwiki.invented import invented_entities
from examples.miniwiki.markup import Draft, link
from examples.miniwiki.systematic import systematic_articles
from examples.miniwiki.tables import entities

Kind = Literal[
    "article",
    "disambiguation",
    "redirect",
    "other namespace",
    "not wikitext",
    "empty",
    "deleted",
    "broken",
]

NAMESPACES = {
    -2: "Media", -1: "Special", 0: "", 1: "Talk", 2: "User", 3: "User talk", 4: "Wikipedia",
    5: "Wikipedia talk", 6: "File", 7: "File talk", 8: "MediaWiki", 9: "MediaWiki talk",
    10: "Template", 11: "Template talk", 12: "Help", 13: "Help talk", 14: "Category",
    15: "Category talk", 100: "Portal", 101: "Portal talk", 118: "Draft", 119: "Draft talk",
    828: "Module", 829: "Module talk",
}  # fmt: skip
_NAMESPACE_KEYS = {name: key for key, name in NAMESPACES.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class WikiPage:
    """One page as a wiki keeps it; `redirect` is the title a redirect leads to."""

    kind: Kind
    title: str
    text: str
    ns: int = 0
    redirect: str | None = None
    model: str = "wikitext"
    format: str = "text/x-wiki"


def count_articles() -> int:
    """How many articles the tables give: the default size of a dump."""
    return sum(1 for _ in entities()) + sum(1 for _ in list_articles())


def drafts(articles: int | None = None, seed: int = 0, *, invented: int = 0) -> Iterator[Draft]:
    """The articles alone: the tables', those of invented entities, systematic ones (see `pages`)."""
    for draft, _ in _drafts_and_redirects(articles, seed, invented):
        yield draft


def pages(
    articles: int | None = None, seed: int = 0, *, broken: bool = True, invented: int = 0
) -> Iterator[WikiPage]:
    """Every page, in the order of the dump.

    Args:
      articles: how many articles proper; the other pages come on top. None: those of the tables.
      seed: of the phrasing, and of the invented entities.
      broken: whether the one page that is no well-formed XML is among them.
      invented: how many articles about invented entities come on top, after those of the tables.
    """
    # Checked here and not in a generator's first step, so that no file has been opened by then.
    if articles is not None and articles < 1:
        raise ValueError(f"articles is {articles}, wanted at least 1")
    if invented < 0:
        raise ValueError(f"invented is {invented}, wanted at least 0")
    return _pages(articles, seed, broken, invented)


def _pages(articles: int | None, seed: int, broken: bool, invented: int) -> Iterator[WikiPage]:
    extras = _special_pages(broken)
    for place, (draft, redirects) in enumerate(_drafts_and_redirects(articles, seed, invented)):
        yield WikiPage(kind="article", title=draft.title, text=draft.wikitext())
        for index, title in enumerate(redirects):
            yield _redirect(title, draft.title, index)
        if place % 9 == 4:
            yield WikiPage(
                kind="other namespace",
                ns=1,
                title=f"Talk:{draft.title}",
                text=f"== Sources ==\nWhich table are the figures of [[{draft.title}]] from? ~~~~",
            )
        if place % 4 == 1:
            yield from itertools.islice(extras, 1)
    yield from extras


def _drafts_and_redirects(
    articles: int | None, seed: int, invented: int
) -> Iterator[tuple[Draft, list[str]]]:
    of_tables: Iterator[tuple[Draft, list[str]]] = itertools.chain(
        ((article_of(entity, seed), redirects_to(entity)) for entity in entities()),
        ((draft, []) for draft in list_articles()),
    )
    systematic = ((draft, _short_names(draft)) for draft in systematic_articles(seed))
    beyond = 0 if articles is None else max(0, articles - count_articles())
    yield from itertools.islice(of_tables, articles)
    for entity in invented_entities(invented, seed):
        yield article_of(entity, seed), []
    yield from itertools.islice(systematic, beyond)


def _short_names(draft: Draft) -> list[str]:
    head, _, tail = draft.title.partition(" ")
    return [f"{tail} (number)"] if head == "Number" and int(tail) % 4 == 0 else []


def _redirect(title: str, target: str, index: int) -> WikiPage:
    # Both spellings occur in the wild, and so do targets within a page.
    word, anchor = (("#REDIRECT", ""), ("#redirect", ""), ("#REDIRECT", "#Name"))[index % 3]
    return WikiPage(
        kind="redirect",
        title=title,
        redirect=target,
        text=f"{word} [[{target}{anchor}]]\n\n{{{{Redirect category shell|R from other name}}}}",
    )


def _special_pages(broken: bool) -> Iterator[WikiPage]:
    """Pages that a wiki has once; they are spread among the articles."""
    for name, titles in shared_names().items():
        yield WikiPage(
            kind="disambiguation",
            title=f"{name} (disambiguation)" if name in titles else name,
            text=f"'''{name}''' may refer to:\n"
            + markup.bullets(map(link, titles))
            + "\n\n{{disambiguation}}",
        )
    yield WikiPage(kind="empty", title="Unwritten article", text="")
    if broken:
        yield WikiPage(
            kind="broken",
            title="Broken page",
            text="'''This page''' was damaged on its way: in it a < b was never escaped, and the "
            "tag <b>here is closed by </i> another one.\n\n== Second section ==\nIts text ends "
            "as any other does.",
        )
    yield WikiPage(kind="deleted", title="Hidden article", text="")
    yield WikiPage(
        kind="not wikitext",
        title="Noble gases.json",
        model="json",
        format="application/json",
        text='{\n    "gases": ["He", "Ne", "Ar", "Kr", "Xe", "Rn"]\n}',
    )
    yield WikiPage(
        kind="not wikitext",
        title="Print.css",
        model="css",
        format="text/css",
        text=".infobox > th { float: right; }",
    )
    yield _redirect("Curie & Curie", "Curie", 0)
    yield _redirect('"Water former"', "Hydrogen", 2)
    for title, text in _OTHER:
        ns = _NAMESPACE_KEYS[title.partition(":")[0]]
        lua = ns == 828
        yield WikiPage(
            kind="other namespace",
            ns=ns,
            title=title,
            text=text,
            model="Scribunto" if lua else "wikitext",
            format="text/plain" if lua else "text/x-wiki",
        )


_OTHER = (
    ("Template:Infobox element", "<includeonly>{| class=\"infobox\"\n! {{{name}}}\n|}</includeonly>"),
    ("Template:Reflist", "<references />"),
    ("Template:Convert", "<includeonly>{{#invoke:Convert|convert}}</includeonly>"),
    ("Template:Lang", '<includeonly><span lang="{{{1}}}">{{{2}}}</span></includeonly>'),
    ("Template talk:Convert", "It should know [[furlong]]s."),
    ("Module:Convert", "local p = {}\nfunction p.less(a)\n  return a < '1'\nend\nreturn p"),
    ("Category:Chemical elements", "Articles on [[chemical element]]s.\n\n[[Category:Chemistry]]"),
    ("Category:Countries in Europe", "[[Category:Countries by continent]]"),
    ("Help:Editing", "== How to edit ==\nPress the button and write.\n\n=== Links ===\nTwo brackets."),
    ("Wikipedia:About", "This small encyclopedia is made from tables of facts."),
    ("Wikipedia talk:About", "Who made it? ~~~~"),
    ("User:Example", "{{User en}} I like rivers."),
    ("User talk:Example", "== Welcome ==\nWelcome! ~~~~"),
    ("File:Flag of France.svg", "== Licence ==\nToo simple to be protected."),
    ("MediaWiki:Sitenotice", "Welcome to the encyclopedia."),
    ("Portal:Chemistry", "{{/Box|Today: [[Helium]]}}"),
    ("Draft:Unfinished", "Something that is '''not yet''' an article."),
)  # fmt: skip
