"""What encloses what in wikitext, found in one pass each and never by backtracking.

`strip_opaque` takes out what MediaWiki does not read as wikitext (comments, references, formulas,
code), and `find_spans` pairs the brackets of what is left. Both are linear in the length of the
page, so that thousands of unclosed brackets cost what thousands of letters cost, and the same page
gives the same text on every machine without a time limit.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from enum import Enum
from typing import NamedTuple

from pipeline.text.wikitext import entities, formulas

# Characters that XML forbids, used as marks inside a page while it is rendered.
BREAK = "\x01"  # the line ends here, whatever stands around
HOLE = "\x02"  # something was dropped here: punctuation around it may be orphaned
_PROTECTED = "[]{}|'<>=*#:;&!-_~"
# 0x1C to 0x1F are left out: Python takes them for white space, and strips them.
_MARKS = [chr(code) for code in (*range(0x03, 0x09), *range(0x0E, 0x1A))]
_PROTECT = str.maketrans(dict(zip(_PROTECTED, _MARKS, strict=True)))
UNPROTECT = dict(zip(_MARKS, _PROTECTED, strict=True))


def protect(text: str) -> str:
    """`text` with its markup characters replaced by marks, so that nothing reads them as markup."""
    return text.translate(_PROTECT)


# Extension tags whose content is not prose. `<pre>` goes with the code blocks: in articles it
# holds programs and tables drawn in letters; inline `<code>` is part of a sentence and stays.
_DROPPED = (
    "gallery|timeline|score|syntaxhighlight|source|pre|hiero|graph|chart|mapframe|maplink|"
    "imagemap|inputbox|templatedata|templatestyles|categorytree|indicator|includeonly|"
    "dynamicpagelist|rss|quiz|phonos|table"
)
_OPAQUE = re.compile(rf"<!--|<(/?)(nowiki|ref|math|chem|ce|{_DROPPED})(?=[\s/>])([^<>]*)>", re.IGNORECASE)
_CLOSE = {
    tag: re.compile(rf"</{tag}\s*>", re.IGNORECASE) for tag in f"nowiki|math|chem|ce|{_DROPPED}".split("|")
}
_REF = re.compile(r"<(/?)ref(?=[\s/>])([^<>]*)>", re.IGNORECASE)
_TABLE_TAG = re.compile(r"<(/?)table(?=[\s/>])[^<>]*>", re.IGNORECASE)
_REST_OF_LINE = re.compile(r"[ \t]*\n")


def strip_opaque(text: str) -> str:
    """Take out comments, references, formulas and code; `<nowiki>` stays as protected text.

    An unclosed tag loses itself only. An unclosed `<ref>` loses the rest of its line, or what
    stands before the next `<ref>`. An unclosed comment takes the rest of the page with it, as it
    does in MediaWiki.
    """
    out: list[str] = []
    position = 0
    exhausted: set[str] = set()  # tags with no closing tag ahead: not looked for again
    while found := _OPAQUE.search(text, position):
        before = text[position : found.start()]
        out.append(before)
        if found.group(2) is None:
            position = _comment_end(text, found.end(), before)
            continue
        tag = found.group(2).lower()
        position = found.end()
        if found.group(1) or found.group(3).endswith("/"):
            continue  # a stray closing tag, or one without content
        if tag == "ref":
            position = _reference_end(text, position)
            continue
        if tag == "table":
            position, closed = _html_table_end(text, position, exhausted)
            if closed:
                out.append("\n")
            continue
        close = None if tag in exhausted else _CLOSE[tag].search(text, position)
        if close is None:
            exhausted.add(tag)
            continue
        out.append(_opaque_text(tag, text[position : close.start()]))
        position = close.end()
    out.append(text[position:])
    return "".join(out)


def _opaque_text(tag: str, content: str) -> str:
    if tag == "nowiki":
        return protect(entities.decode(content))
    if tag in ("math", "chem", "ce"):
        text = formulas.plain(content)
        return protect(text) if text else HOLE
    return "" if tag in ("templatestyles", "indicator") else HOLE


def _comment_end(text: str, position: int, before: str) -> int:
    end = text.find("-->", position)
    if end < 0:
        return len(text)
    end += 3
    # A comment alone on its line takes the line with it, or every one would part a paragraph.
    if before.endswith("\n") and (rest := _REST_OF_LINE.match(text, end)):
        return rest.end()
    return end


def _next_reference_tag(text: str, position: int) -> re.Match[str] | None:
    while found := _REF.search(text, position):
        closing, attributes = found.groups()
        # "<ref name=a/>" encloses nothing, and "</ref name=a>" closes nothing.
        if not (attributes.strip() if closing else attributes.endswith("/")):
            return found
        position = found.end()
    return None


def _reference_end(text: str, position: int) -> int:
    """Where the reference that was opened before `position` ends."""
    following = _next_reference_tag(text, position)
    if following is not None and following.group(1):
        return following.end()
    # Unclosed. References do not nest, so the next opening tag bounds it, and so does the line.
    newline = text.find("\n", position)
    line_end = newline if newline >= 0 else len(text)
    if following is None or line_end < following.start():
        return line_end
    if not following.group(2).strip():
        # "<ref>Smith<ref> and on": the second tag was meant to close, unless it is closed itself.
        after = _next_reference_tag(text, following.end())
        if after is None or not after.group(1):
            return following.end()
    return following.start()


def _html_table_end(text: str, position: int, exhausted: set[str]) -> tuple[int, bool]:
    depth, cursor = 1, position
    while "table" not in exhausted and (found := _TABLE_TAG.search(text, cursor)):
        depth += -1 if found.group(1) else 1
        cursor = found.end()
        if depth == 0:
            return cursor, True
    exhausted.add("table")
    return position, False


class Kind(Enum):
    """What a span of markup is."""

    TEMPLATE = "{{…}}"
    ARGUMENT = "{{{…}}}"
    TABLE = "{|…|}"
    LINK = "[[…]]"
    EXTERNAL = "[http…]"
    VARIANT = "-{…}-"
    UNCLOSED = "opened and never closed"


class Span(NamedTuple):
    """Markup from `start` to `end` (exclusive), brackets included."""

    start: int
    end: int
    kind: Kind


_SCHEME = r"(?:https?|ftps?|irc|ircs|news|gopher|telnet|svn|git|mailto|urn|tel):|//"
# Every alternative starts with a letter of its own: that is what makes the search fast.
# "|" comes with the braces behind it: whether it is a table's end or a parameter's depends on both.
# A link with nothing in it, as nearly all are, is one token, and closed at once.
_BRACKETS = rf"\{{\{{+|\}}\}}+|\|\}}+|\[\[(?:[^\[\]{{}}]*+\]\](?!\]))?+|\]+|\[(?={_SCHEME})|\{{\|"
_TOKEN = re.compile(_BRACKETS, re.IGNORECASE)
# Hyphens are many, and pages with variants few.
_TOKEN_OF_VARIANTS = re.compile(rf"{_BRACKETS}|\}}(?=-)|-\{{(?!\{{)", re.IGNORECASE)


def _starts_line(text: str, position: int) -> bool:
    """Whether only indentation and list marks precede `position` on its line."""
    position -= 1
    while position >= 0 and text[position] in " \t:*#;":
        position -= 1
    return position < 0 or text[position] == "\n"


def find_spans(text: str) -> list[Span]:
    """The spans of `text` by start, properly nested.

    Templates bind strongest, then variants, then tables, then links: a closing bracket discards the weaker
    ones that were opened inside its pair and not closed there. What is never closed and would read as
    noise (a template's parameters, a table's rows) becomes an UNCLOSED span of its own few lines.
    """
    pairs = _Pairs(text)
    for token in (_TOKEN_OF_VARIANTS if "-{" in text else _TOKEN).finditer(text):
        start, end = token.span()
        first = text[start]
        if first == "[":
            if end - start > 2:
                pairs.spans.append(Span(start, end, Kind.LINK))
            elif end - start == 2:
                pairs.links.append(start)
            else:
                pairs.external = start  # they do not nest: a new one replaces an open one
        elif first == "]":
            pairs.close_brackets(start, end - start)
        elif first == "{" and text[start + 1] == "{":
            pairs.braces.append((start, end - start))
        elif first == "-":
            pairs.variants.append(start)
        elif first == "}" or first == "|":
            pairs.close(start, end)
        elif _starts_line(text, start):
            pairs.tables.append(start)
    return pairs.finish()


def _start_of(span: Span) -> int:
    return span.start


class _Pairs:
    """Open brackets, one stack a kind; positions grow towards the top of each."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.braces: list[tuple[int, int]] = []  # (start, how many braces are left of the run)
        self.tables: list[int] = []
        self.variants: list[int] = []
        self.links: list[int] = []
        self.external = -1
        self.spans: list[Span] = []

    def close(self, start: int, end: int) -> None:
        """What "}" run or "|}" run from `start` to `end` closes.

        A "|" in front of it ends a table only at the start of a line, and with one brace: of "|}}}" the
        other two end a template around it. Of "|}}" and of "{{t|}}" both braces are a template's. The last
        brace of a run may be that of "}-".
        """
        position = start
        if self.text[start] == "|":
            position += 1
            odd = (end - position) % 2 == 1
            if odd and self.tables and _starts_line(self.text, start) and self.close_table(position + 1):
                position += 1
        left = self._close_braces(position, end - position)
        if left and self.variants and self.text.startswith("-", end):
            self._close_variant(end + 1)

    def _close_braces(self, position: int, count: int) -> int:
        """How many of the `count` braces at `position` close nothing."""
        while count >= 2 and self.braces:
            start, opened = self.braces.pop()
            used = min(opened, count, 3)
            start += opened - used
            self._add(start, position + used, Kind.TEMPLATE if used == 2 else Kind.ARGUMENT)
            while self.variants and self.variants[-1] > start:
                self.variants.pop()
            self._discard_tables(start)
            if opened - used >= 2:
                self.braces.append((start - opened + used, opened - used))
            position += used
            count -= used
        return count

    def _close_variant(self, end: int) -> None:
        if self.variants[-1] > self._open_brace():
            start = self.variants.pop()
            self._add(start, end, Kind.VARIANT)
            self._discard_tables(start)

    def close_table(self, end: int) -> bool:
        """End the innermost table, unless a template was opened in it."""
        if self.tables[-1] < self._open_brace():
            return False
        start = self.tables.pop()
        self._add(start, end, Kind.TABLE)
        while self.variants and self.variants[-1] > start:
            self.variants.pop()
        self._discard_links(start)
        return True

    def close_brackets(self, position: int, count: int) -> None:
        while count:
            barrier = self.braces[-1][0] if self.braces else -1
            if self.tables and self.tables[-1] > barrier:
                barrier = self.tables[-1]
            if self.variants and self.variants[-1] > barrier:
                barrier = self.variants[-1]
            link = self.links[-1] if self.links else -1
            if self.external > max(link, barrier):
                start, self.external = self.external, -1
                if "\n" in self.text[start:position]:
                    continue
                self._add(start, position + 1, Kind.EXTERNAL)
                used = 1
            elif count >= 2 and link > barrier:
                self.links.pop()
                self._add(link, position + 2, Kind.LINK)
                if self.external > link:
                    self.external = -1
                used = 2
            else:
                return
            position += used
            count -= used

    def finish(self) -> list[Span]:
        self.spans.sort(key=_start_of)
        starts = [span.start for span in self.spans]
        opened = [start for start, _ in self.braces] + self.tables
        covered = 0
        for start in sorted(opened):
            if start < covered:
                continue
            template = self.text.startswith("{{", start)
            end = (_unclosed_template_end if template else _unclosed_table_end)(self.text, start)
            # Never cut a pair in two: what starts inside belongs to it whole.
            index = bisect_left(starts, start)
            while index < len(starts) and starts[index] < end:
                end = max(end, self.spans[index].end)
                index += 1
            covered = end
            self._add(start, end, Kind.UNCLOSED)
        self.spans.sort(key=_start_of)
        return self.spans

    def _open_brace(self) -> int:
        return self.braces[-1][0] if self.braces else -1

    def _add(self, start: int, end: int, kind: Kind) -> None:
        self.spans.append(Span(start, end, kind))

    def _discard_tables(self, start: int) -> None:
        while self.tables and self.tables[-1] > start:
            self.tables.pop()
        self._discard_links(start)

    def _discard_links(self, start: int) -> None:
        while self.links and self.links[-1] > start:
            self.links.pop()
        if self.external > start:
            self.external = -1


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return end if end >= 0 else len(text)


def _unclosed_template_end(text: str, start: int) -> int:
    """The end of the line, and of the lines of parameters after it."""
    end = _line_end(text, start)
    while text.startswith(("\n|", "\n |", "\n}"), end):
        end = _line_end(text, end + 1)
    return end


def _unclosed_table_end(text: str, start: int) -> int:
    """The end of the rows: a heading, or a blank line with no row after it, is the page again."""
    end = _line_end(text, start + 1)
    while end < len(text) and not text.startswith("\n==", end):
        if text.startswith("\n\n", end) and not text.startswith(("\n\n|", "\n\n!"), end):
            break
        end = _line_end(text, end + 1)
    return end
