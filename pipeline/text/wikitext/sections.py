"""Wikitext to sections: lines, headings and what is left of the markup inside a line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.text import apparatus
from pipeline.text.articles import Section
from pipeline.text.wikitext import arguments, endings, entities, languages, markup, render, rows, tags
from pipeline.text.wikitext.markup import BREAK, HOLE
from pipeline.text.wikitext.namespaces import Namespaces
from pipeline.text.wikitext.own_templates import NONE as NO_TEMPLATES
from pipeline.text.wikitext.own_templates import OwnTemplates

# MediaWiki stores no page above 2 MiB ($wgMaxArticleSize); twice that is no article.
MAX_WIKITEXT_CHARS = 4 << 20

_SWITCH = re.compile(r"__([^\W\d_]+(?:_[^\W\d_]+)*)__")
_LETTER = re.compile(r"[^\W_]")
_APOSTROPHES = re.compile(r"('{2,})")
_SPACES = re.compile(r"[ \t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
# What a reader of the page does not see: our own marks, and the protected characters that go back to what
# they were; soft hyphens, marks of direction and of annotation, word joiners, invisible operators, byte order
# marks. What decides how letters look or where words end stays: joiners (U+200C, U+200D: Persian, Hindi,
# emoji), selectors of variants, the Mongolian vowel separator. (`str.translate` is several times slower than
# this on text beyond ASCII.)
_DIRECTION = "\u061c\u200e\u200f\u202a-\u202e"
_FINAL = re.compile(f"[\x01-\x08\x0e-\x1f\xad{_DIRECTION}\u2060-\u206f\ufeff\ufff9-\ufffb]")
# U+200B parts words in scripts that have no blanks for it. Between other letters it only says where a line
# may break, and a tokenizer would take one word for two.
_UNSPACED = re.compile("[\u0e00-\u109f\u1780-\u17ff\u1950-\u1aaf\u1b00-\u1bff\ua980-\ua9ff\uaa00-\uaadf]")
_ZERO_WIDTH = re.compile("(?<=(.))\u200b+(?=(.))|\u200b+", re.DOTALL)
# XML has none of these, JSON may: our marks would be mistaken for them, and no text needs them.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# Holes with the spaces around them. A run is made one hole first, so that no pattern below meets a
# run and tries it from each of its holes.
_RUN = re.compile(r" ?\x02[ \x02]*")
# Commas and stops of any script: a hole leaves the same orphans in all.
_COMMA = ",;、，；،؛՝፣"
_STOP = ".!?。！？۔؟।॥։።။"
_AT_START = re.compile(rf" ?\x02 ?[–—:：\-{_COMMA}{_STOP}]*(?= |$)")
_OPEN, _CLOSE = "(（[「『《〈【", ")）\\]」』》〉】"
_EMPTY_PARENTHESIS = re.compile(rf" ?[{_OPEN}][\s:/–\-{_COMMA}]*\x02[\s:/–\-{_COMMA}\x02]*[{_CLOSE}]")
_AFTER_OPENING = re.compile(rf"([(（]) ?\x02 ?(?:[:{_COMMA}](?=[ \x02])[ \x02]*)*")
_BEFORE_CLOSING = re.compile(rf"(?: ?[:{_COMMA}])? ?\x02 ?([)）])")
_BETWEEN_COMMAS = re.compile(rf"([{_COMMA}])(?: ?\x02 ?[{_COMMA}])+")
_AFTER_STOP = re.compile(rf"([{_STOP}]) ?\x02 ?[{_STOP}](?!\w)")
_TOUCHED_BEFORE = _OPEN + ":/–-"
_TOUCHED_AFTER = _CLOSE + ":：/–-" + _COMMA + _STOP
_BEFORE_POINT = re.compile(rf" ?\x02 ?(?=[:：{_COMMA}{_STOP}])")


class WikitextError(ValueError):
    """A page whose markup is not rendered; the message says why."""


def sections(
    wikitext: str,
    *,
    namespaces: Namespaces,
    title: str = "",
    language: str = "en",
    own: OwnTemplates = NO_TEMPLATES,
) -> list[Section]:
    """The plain text of a page, section by section, in the page's order.

    Kept: prose, list and definition items (a line each, without their marks), headings (as the
    paths of what is under them), the labels of links, the text of the templates in `templates`.
    Dropped: tables, files and their captions, categories, references, code blocks, formulas that
    are no plain text, every other template. What is left of "See also" or "References" is returned as
    a section that is no prose. A section without text is not returned.

    Args:
        wikitext: of the page.
        namespaces: of the wiki.
        title: of the page, for `{{PAGENAME}}`.
        language: of the wiki, as in `xml:lang`: of its numbers, its dates and the names of its sections.
        own: templates of the wiki that a user's file names.

    Work is linear in the length of the page, whatever is in it.

    Raises:
        WikitextError: the page is longer than `MAX_WIKITEXT_CHARS`.
    """
    if len(wikitext) > MAX_WIKITEXT_CHARS:
        raise WikitextError(f"wikitext has {len(wikitext):,} characters, the limit is {MAX_WIKITEXT_CHARS:,}")
    text = _CONTROL.sub("", wikitext.replace("\r\n", "\n"))
    page = arguments.Page(title, languages.of(language), own.of(language))
    text = markup.strip_opaque(text)
    text = endings.mark(text, language)
    text = render.render(text, namespaces, page)
    return list(_assemble(rows.strip(_strip_tags(text)), language))


def _strip_tags(text: str) -> str:
    text = tags.strip(text)
    if "__" in text:
        text = _SWITCH.sub(lambda f: "" if f.group(1) == f.group(1).upper() else f.group(), text)
    return text


def _assemble(text: str, language: str) -> Iterator[Section]:
    headings: list[tuple[int, str]] = []
    marked: set[int] = set()  # levels of open headings with a mark
    paragraphs: list[str] = []  # of the open section, as plain text
    listed: list[bool] = []  # whether each of them is an item of a list
    lines: list[str] = []  # of the paragraph that is open

    def add(paragraph: str, *, item: bool = False) -> None:
        for clean in _plain(paragraph):
            paragraphs.append(clean)
            listed.append(item)

    def close() -> None:
        if lines:
            add(" ".join(lines))
            lines.clear()

    def section() -> Iterator[Section]:
        close()
        if paragraphs:
            path = tuple(title for _, title in headings)
            prose = not marked and not apparatus.is_apparatus(path, language, paragraphs, listed)
            yield Section(path=path, text="\n".join(paragraphs), prose=prose)
        paragraphs.clear()
        listed.clear()

    for line in text.split("\n"):
        stripped = line.strip()
        first = stripped[:1]
        if not stripped.strip(HOLE):
            close()  # blank, or a template that stood alone
        elif first == "=" and (heading := _heading(stripped)):
            yield from section()
            level, title = heading
            while headings and headings[-1][0] >= level:
                headings.pop()
            marked = {above for above in marked if above < level}
            if endings.MARK in stripped:
                marked.add(level)
            if title:
                headings.append((level, title))
        elif first in "*#:;" and line[0] == first:
            close()
            add(stripped.lstrip("*#:; \t"), item=True)
        elif stripped.startswith("----"):
            close()
            add(stripped.lstrip("-"))
        elif line[0] == " ":
            close()
            add(stripped)  # preformatted: the lines are the author's
        else:
            lines.append(stripped)
    yield from section()


def _heading(line: str) -> tuple[int, str] | None:
    """Level and title of a heading line, as MediaWiki counts them ("===a==" is level 2, "=a")."""
    line = line.rstrip(HOLE + BREAK + " ")
    left = len(line) - len(line.lstrip("="))
    right = len(line) - len(line.rstrip("="))
    if left == len(line):  # nothing but signs
        return None
    level = min(left, right, 6)
    if level == 0:
        return None
    return level, " ".join(_plain(line[level:-level].replace(BREAK, " ")))


def _plain(paragraph: str) -> Iterator[str]:
    """The lines of a paragraph as plain text; those without a letter or digit are no text."""
    for line in paragraph.split(BREAK):
        if "''" in line:
            line = _unquote(line)
        if HOLE in line:
            line = _close_holes(_SPACES.sub(" ", line))
        if "[[" in line or "]]" in line or "{{" in line or "}}" in line:
            for bracket in ("[[", "]]", "{{", "}}"):
                line = line.replace(bracket, "")
        if "&" in line:
            line = entities.decode(line)
        # As nearly every line is, and told several times as fast. Of white space it has blanks alone then.
        if not line.isprintable():
            line = _FINAL.sub(_finished, line)
            if "\u200b" in line:
                line = _ZERO_WIDTH.sub(_parting, line)
            line = " ".join(line.split())
        elif "  " in line:
            line = " ".join(line.split())
        else:
            line = line.strip()
        if _LETTER.search(line) and not _is_url(line):
            yield line


def _parting(found: re.Match[str]) -> str:
    """What is left of zero width spaces, with the characters beside them."""
    before, after = found.groups(default=" ")
    spaced = before.isspace() or after.isspace()
    return "\u200b" if not spaced and (_UNSPACED.match(before) or _UNSPACED.match(after)) else ""


def _finished(found: re.Match[str]) -> str:
    return markup.UNPROTECT.get(found.group(), "")


def _is_url(line: str) -> bool:
    return line.startswith(("http://", "https://")) and " " not in line


def _close_holes(line: str) -> str:
    """Take out the marks of what was dropped, and the punctuation that was only around it."""
    line = _RUN.sub(_one_hole, line)
    if start := _AT_START.match(line):
        line = line[start.end() :]
    if not _touch_signs(line):
        return line.replace(HOLE, "")
    line = _EMPTY_PARENTHESIS.sub(HOLE, line)
    line = _AFTER_OPENING.sub(r"\1", line)
    line = _BETWEEN_COMMAS.sub(r"\1", line)
    line = _AFTER_STOP.sub(r"\1", line)
    line = _BEFORE_CLOSING.sub(r"\1", line)
    line = _EMPTY_PARENTHESIS.sub(HOLE, line)
    line = _BEFORE_POINT.sub("", line)
    return line.replace(HOLE, "")


def _touch_signs(line: str) -> bool:
    """Whether a hole is beside punctuation that it may orphan: few are, and the patterns are slow."""
    position = line.find(HOLE)
    while position >= 0:
        before = line[max(0, position - 2) : position].rstrip(" ")
        after = line[position + 1 : position + 3].lstrip(" ")
        if (before and before[-1] in _TOUCHED_BEFORE) or (after and after[0] in _TOUCHED_AFTER):
            return True
        position = line.find(HOLE, position + 1)
    return False


def _one_hole(found: re.Match[str]) -> str:
    run = found.group()
    return (" " if run[0] == " " else "") + HOLE + (" " if " " in run[1:] else "")


def _unquote(line: str) -> str:
    """Take out bold and italic marks by MediaWiki's own rules (`Parser::doQuotes`).

    Four apostrophes are one and bold, more than five are the rest and both; and where a line has
    an odd number of bold and of italic marks, one bold mark was an apostrophe and italics
    ("l'''amour''"): the one after a single letter word, else after a longer word, else after a
    space.
    """
    parts = _APOSTROPHES.split(line)
    bold = italic = 0
    for index in range(1, len(parts), 2):
        count = len(parts[index])
        if count == 4 or count > 5:
            kept = 1 if count == 4 else count - 5
            parts[index - 1] += "'" * kept
            count -= kept
            parts[index] = "'" * count
        bold += count in (3, 5)
        italic += count in (2, 5)
    if bold % 2 and italic % 2:
        single = word = space = 0
        for index in range(1, len(parts), 2):
            if len(parts[index]) != 3:
                continue
            before = parts[index - 1]
            if before[-1:] == " ":
                space = space or index
            elif before[-2:-1] == " ":
                single = index
                break
            else:
                word = word or index
        if chosen := single or word or space:
            parts[chosen - 1] += "'"
    return "".join(parts[::2])
