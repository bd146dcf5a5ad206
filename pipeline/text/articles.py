"""What a source yields: articles in sections, and the pages that are no article, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace

# Why a page is left out on purpose. Every dropped page carries one of these, so that
# pages read = kept + dropped by reason + quarantined can be reconciled (docs/format.md).
REDIRECT = "redirect"
OTHER_NAMESPACE = "other namespace"
NOT_WIKITEXT = "not wikitext"
DELETED = "deleted"
EMPTY = "empty"
DROP_REASONS = (REDIRECT, OTHER_NAMESPACE, NOT_WIKITEXT, DELETED, EMPTY)


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Plain text under one heading.

    `path` holds the headings from the top down (empty for an article's lead); `text` is the plain
    text, its paragraphs and list items separated by a single newline. `prose` is False for lists of
    references and links (`pipeline.text.apparatus`), which a build leaves out unless it is told to keep them.
    """

    path: tuple[str, ...]
    text: str
    prose: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Article:
    """A page that is kept.

    `split` is False where the source's texts are passages already (DPR's psgs_w100): then each
    section is one passage as it stands, whatever its length.
    """

    page_id: str
    title: str
    sections: tuple[Section, ...]
    split: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """A page left out on purpose; `reason` is one of `DROP_REASONS`."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Quarantined:
    """A page that could not be read. `page_id` and `title` are empty where even they are unreadable."""

    page_id: str
    title: str
    reason: str


Page = Article | Dropped | Quarantined


def part(article: Article) -> tuple[Article, tuple[Section, ...]]:
    """The article without its sections that are no prose, and those sections."""
    left_out = tuple(section for section in article.sections if not section.prose)
    if not left_out:
        return article, ()
    return replace(article, sections=tuple(s for s in article.sections if s.prose)), left_out
