"""One `<page>` element to an article, or to the reason why it is none."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from xml.etree.ElementTree import Element

from pipeline.text import wikitext
from pipeline.text.articles import (
    DELETED,
    EMPTY,
    NOT_WIKITEXT,
    OTHER_NAMESPACE,
    REDIRECT,
    Article,
    Dropped,
    Page,
    Quarantined,
)
from pipeline.text.sources import plain
from pipeline.text.sources.page_scan import Fragment
from pipeline.text.wikitext import Namespaces, own_templates
from pipeline.text.wikitext.own_templates import OwnTemplates


class _BadPageError(ValueError):
    """Why a page cannot be read."""


def parse(
    fragment: Fragment,
    namespaces: Namespaces,
    language: str = "",
    own: OwnTemplates = own_templates.NONE,
) -> Page:
    """The page of one whole `<page>` element of a wiki in `language` (as in `xml:lang`).

    Kept are pages in the main namespace whose latest revision is wikitext, is there (not deleted),
    is no redirect, and leaves text. A page that breaks is quarantined, whatever the exception was:
    its name is in the reason.
    """
    try:
        page = ElementTree.fromstring(fragment.data)
    except ElementTree.ParseError as error:
        # Invalid UTF-8 comes here too ("not well-formed (invalid token)").
        return _quarantined(fragment, f"XML: {error}")
    try:
        return _page(page, namespaces, language, own)
    except (_BadPageError, wikitext.WikitextError) as error:
        return _quarantined(fragment, str(error))
    except Exception as error:
        # A page is never worth a job: whatever goes wrong is reported with the page.
        return _quarantined(fragment, f"wikitext: {type(error).__name__}")


def _quarantined(fragment: Fragment, reason: str) -> Quarantined:
    return Quarantined(
        page_id=fragment.page_id, title=plain.title(fragment.title), reason=plain.title(reason)
    )


def _page(page: Element, namespaces: Namespaces, language: str, own: OwnTemplates) -> Page:
    title = plain.title(page.findtext("title") or "")
    page_id = (page.findtext("id") or "").strip()
    if not title or not page_id:
        raise _BadPageError(f"page has no <{'id' if title else 'title'}>")
    if _namespace(page, title, namespaces) != 0:
        return Dropped(reason=OTHER_NAMESPACE)
    revision = _latest(page.findall("revision"))
    if revision is None:
        raise _BadPageError("page has no <revision>")
    if (revision.findtext("model") or "wikitext").strip() != "wikitext":
        return Dropped(reason=NOT_WIKITEXT)
    text = revision.find("text")
    if text is None:
        raise _BadPageError("revision has no <text>")
    # The attribute's value is "deleted" in every schema; its being there is what counts.
    if text.get("deleted") is not None:
        return Dropped(reason=DELETED)
    markup = text.text or ""
    if page.find("redirect") is not None or wikitext.is_redirect(markup):
        return Dropped(reason=REDIRECT)
    sections = tuple(
        wikitext.sections(markup, namespaces=namespaces, title=title, language=language, own=own)
    )
    if not sections:
        return Dropped(reason=EMPTY)
    return Article(page_id=page_id, title=title, sections=sections)


def _namespace(page: Element, title: str, namespaces: Namespaces) -> int:
    written = page.findtext("ns")
    if written is None:  # schema 0.5 and older
        return namespaces.of_title(title)
    try:
        return int(written)
    except ValueError:
        raise _BadPageError(f"<ns> is {written.strip()!r}, wanted a number") from None


def _latest(revisions: list[Element]) -> Element | None:
    """The revision with the latest timestamp, the last one of equals.

    Timestamps are ISO 8601 in UTC with fixed width, so they compare as strings.
    """
    latest: Element | None = None
    latest_time = ""
    for revision in revisions:
        time = (revision.findtext("timestamp") or "").strip()
        if latest is None or time >= latest_time:
            latest, latest_time = revision, time
    return latest
