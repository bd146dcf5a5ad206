"""Articles to passages of up to 200 words, never across a section. `words` says what a word is.

The rule, version 2: a section of n words gives ceil(n / 200) passages of nearly equal length, so that no
short tail is left. Each cut is moved, by `SLACK` words at most and while every passage stays within 200,
to the nearest end of a paragraph; where there is none, of a sentence; where there is none, to a blank
or behind a comma. A passage's text is a slice of the section's text without the white space at its
ends: no word is lost, repeated or changed, and no letter is parted from its signs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipeline.text import words
from pipeline.text.articles import Article
from pipeline.text.words import word_spans as word_spans

VERSION: Final = "2"
PASSAGE_WORDS: Final = 200
# Share of a full passage by which a cut may move to end a sentence.
SLACK: Final = 0.15


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A piece of one section; `ordinal` counts the article's passages from 0."""

    section: tuple[str, ...]
    ordinal: int
    text: str
    words: int


def splitter(passage_words: int) -> dict[str, Any]:
    """What decides how text is cut, for fingerprints and keys."""
    return {"version": VERSION, "passage_words": passage_words}


def split_text(text: str, passage_words: int = PASSAGE_WORDS) -> Iterator[tuple[str, int]]:
    """(text, words) of each passage of one section."""
    count = words.count_spaced(text)
    if count is not None and 0 < count <= passage_words:  # most sections, which need no cut
        yield text.strip(), count
        return
    spans = words.word_spans(text)
    first, left = 0, len(spans)
    pieces = -(-left // passage_words)
    slack = int(passage_words * SLACK)
    while pieces:
        take = left
        if pieces > 1:
            even = round(left / pieces)
            # Leave no more than the remaining passages can hold, and take no more than this one can.
            low = max(1, even - slack, left - passage_words * (pieces - 1))
            high = min(passage_words, even + slack, left - (pieces - 1))
            take = _best_cut(text, spans, first, low=low, even=even, high=high)
        yield text[spans[first][0] : spans[first + take - 1][1]], take
        first, left, pieces = first + take, left - take, pieces - 1


def _best_cut(text: str, spans: list[tuple[int, int]], first: int, *, low: int, even: int, high: int) -> int:
    """Words to take: the best kind of end within `low` to `high`, and of that kind the nearest to `even`."""
    takes = sorted(range(low, high + 1), key=lambda take: (abs(take - even), take))

    def word(take: int) -> str:
        start, end = spans[first + take - 1]
        return text[start:end]

    def gap(take: int) -> str:
        return text[spans[first + take - 1][1] : spans[first + take][0]]

    if "\n" in text[spans[first + low - 1][1] : spans[first + high][0]]:
        for take in takes:
            if "\n" in gap(take):
                return take
    for take in takes:
        if words.ends_sentence(word(take)):
            return take
    for take in takes:
        if gap(take) or words.ends_clause(word(take)):
            return take
    return takes[0]


def passages(article: Article, passage_words: int = PASSAGE_WORDS) -> Iterator[Passage]:
    """The passages of an article, in order. Sections without a word give none."""
    ordinal = 0
    for section in article.sections:
        if article.split:
            pieces = split_text(section.text, passage_words)
        else:
            text = section.text.strip()
            pieces = iter([(text, words.count_words(text))] if text else [])
        for text, count in pieces:
            yield Passage(section=section.path, ordinal=ordinal, text=text, words=count)
            ordinal += 1


def article_words(article: Article) -> int:
    """Words of an article, counted section by section: what its passages must add up to."""
    return sum(words.count_words(section.text) for section in article.sections)
