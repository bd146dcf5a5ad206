"""Sections that are no prose: "See also", "References", "External links", in the language of the wiki.

They hold titles of other pages and books, and a retriever takes those for the best answer to anything. A
section is one of them by the name of a heading above it (`apparatus_names`), unless what it holds is prose
all the same: paragraphs that read as sentences, and more of them than of anything else.

In plain text a heading is a line like any other. There the article's end is looked at alone: what follows
such a line up to the end, where no prose is.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

from pipeline.text import words
from pipeline.text.apparatus_names import NAMES, SAME

# A language whose names are not known: those of all are, since they are hardly words of another language.
UNKNOWN = "und"
# Words of paragraphs under such a heading from which they are prose; in plain text, where an item of a list
# cannot be told from a paragraph. A paragraph that may be prose has half of them or more.
_PROSE_WORDS = 12
_PLAIN_PROSE_WORDS = 30
_MAX_HEADING = 80
_NUMBER = re.compile(r"[\d.]{1,8}+\s++")
_EDGES = ":.：。၊။។·*=\"'“”«»()[]|-–— \t"
# "References and notes", "Weblinks/Literatur", "註釋與參考文獻" are names in a row.
_AND = (
    "and und et y e i en og och a ja és si și şi ve və dan dhe eta kaj agus na va "
    "и й та і և და ו و اور और এবং ও மற்றும் మరియు και 및"
).split()
_BETWEEN = re.compile(rf"\s*[,;/&+،・、]\s*|\s+(?:{'|'.join(map(re.escape, _AND))})\s+|[和及与與]")
_SIGNS = {
    **dict.fromkeys(
        [*range(0x300, 0x370), *range(0x64B, 0x656), 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0xAD]
    ),
    **str.maketrans("ıيكىهۀ’‘ʻʼ`", "iیکیههʹʹʹʹʹ"),
}
_SPACE = re.compile(r"\s+")


def _own(language: str) -> str | None:
    """The table of a language, whose code may name a country or a script too: "pt-BR", "sr-Latn"."""
    code = language.lower().replace("_", "-") or "en"
    base = code.partition("-")[0]
    return next((NAMES[name] for name in (SAME.get(code), code, SAME.get(base), base) if name in NAMES), None)


def _plain(name: str) -> str:
    """A heading as it is compared: without case, accents, joiners, and a number before it."""
    name = unicodedata.normalize("NFD", name.casefold()).translate(_SIGNS)
    name = _SPACE.sub(" ", unicodedata.normalize("NFC", name)).strip(_EDGES)
    if number := _NUMBER.match(name):
        name = name[number.end() :]
    return name


@functools.lru_cache(maxsize=64)
def _names(language: str) -> tuple[frozenset[str], frozenset[str]]:
    own = _own(language)
    # English names stand on every wiki, and an unknown language may borrow those of any.
    tables = [NAMES["en"], own] if own is not None else list(NAMES.values())
    always: set[str] = set()
    lists: set[str] = set()
    for table in tables:
        first, _, second = table.partition(" / ")
        always.update(map(_plain, first.split("|")))
        lists.update(_plain(name) for name in second.split("|") if name)
    return frozenset(always), frozenset(lists - always)


def knows(language: str) -> bool:
    """Whether the names of the language are here."""
    return _own(language) is not None


@functools.lru_cache(maxsize=1 << 14)
def _kind(heading: str, language: str) -> str:
    """What the name of a section says of it: "always", "list" or nothing."""
    if len(heading) > _MAX_HEADING:
        return ""
    always, lists = _names(language)
    name = _plain(heading)
    if name in always:
        return "always"
    if name in lists:
        return "list"
    parts = [part for part in _BETWEEN.split(name) if part]
    if len(parts) > 1 and all(part in always or part in lists for part in parts):
        return "always" if any(part in always for part in parts) else "list"
    return ""


def is_named(heading: str, language: str) -> bool:
    """Whether a heading is the name of such a section, whatever the section holds."""
    return _kind(heading, language) != ""


def is_apparatus(
    path: Sequence[str], language: str, paragraphs: Sequence[str], listed: Sequence[bool]
) -> bool:
    """Whether a section is no prose.

    Args:
        path: its headings, from the top down, as plain text. What stands under "References" is no prose
            under any heading of its own.
        language: of the wiki, as in `xml:lang`; English where it is empty.
        paragraphs: of the section, as plain text.
        listed: whether each of them is an item of a list.
    """
    kinds = {_kind(heading, language) for heading in path}
    if "always" not in kinds and ("list" not in kinds or sum(listed) * 2 <= len(listed)):
        return False
    texts = [p for p, item in zip(paragraphs, listed, strict=True) if not item]
    return not _holds_prose(texts, paragraphs, _PROSE_WORDS)


def _holds_prose(texts: Sequence[str], paragraphs: Sequence[str], least: int) -> bool:
    prose = sum(words.count_words(text) for text in texts if _is_prose(text, least // 2))
    return prose >= least and prose * 2 > sum(map(words.count_words, paragraphs))


def _is_prose(paragraph: str, least: int) -> bool:
    """Whether a paragraph reads as sentences do: long, ended, and mostly of words that are no names.

    A reference is made of names, titles and numbers: of its words more than half begin with a capital or
    a digit. Scripts without capitals are judged by the other two marks.
    """
    spans = words.word_spans(paragraph)
    if len(spans) < least or not words.ends_sentence(paragraph[spans[-1][0] : spans[-1][1]]):
        return False
    marked = sum(_begins_marked(paragraph[start:end]) for start, end in spans)
    return marked * 2 <= len(spans)


def _begins_marked(word: str) -> bool:
    first = word.lstrip("\"'“‘«„(（[「『")[:1]
    return first.isupper() or first.isdigit()


def tail_of(lines: Sequence[str], language: str) -> int:
    """The number of the line from which a plain text is no prose; `len(lines)` where all of it may be.

    Such a line is the name of a section. Text precedes it, and behind it up to the end are lines that are no
    prose, or more of them than of prose between one such name and the next.
    """
    end = len(lines)
    for number in range(end - 1, 0, -1):
        if len(lines[number]) <= _MAX_HEADING and is_named(lines[number], language):
            following = lines[number + 1 : end]
            if _holds_prose(following, following, _PLAIN_PROSE_WORDS):
                break
            end = number
    return end
