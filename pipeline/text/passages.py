"""Articles to passages of up to 200 words, never across a section.

A *word* is a run of characters other than white space. Scripts written without spaces would make a
whole paragraph one word; of those, two Chinese or Japanese characters count as a word, and four
Thai, Lao, Khmer, Burmese or Tibetan ones, about the length of a word in each.

The rule, version 1: a section of n words gives ceil(n / 200) passages of nearly equal length, so that no
short tail is left; each cut is moved to the nearest end of a paragraph or sentence, if there is one
within `SLACK` words and every passage stays within 200. A passage's text is a slice of the section's
text without the white space at its ends: no word is lost, repeated or changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipeline.text.articles import Article

VERSION: Final = "1"
PASSAGE_WORDS: Final = 200
# Share of a full passage by which a cut may move to end a sentence.
SLACK: Final = 0.15

# Kana, CJK ideographs and their compatibility forms, half-width kana.
_IDEOGRAPH: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
# Thai, Lao, Tibetan, Burmese, Khmer.
_SYLLABIC: Final = "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"
_SPACED: Final = f"[^{_IDEOGRAPH}{_SYLLABIC}]*"
_UNSPACED = re.compile(f"[{_IDEOGRAPH}{_SYLLABIC}]")
_RUN = re.compile(r"\S+")
# One word of a run in such a script, with the other characters around it. Where a word ends depends on
# where it begins alone, so that a passage has the words that its section had.
_WORD = re.compile(f"{_SPACED}(?:(?:[{_IDEOGRAPH}]{_SPACED}){{1,2}}|(?:[{_SYLLABIC}]{_SPACED}){{1,4}})")
_SENTENCE_END = re.compile(r"[.!?…。！？։؟।][\"'”’»)\]」』]*\Z")


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


def word_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each word of a text, in order; between them lies white space or nothing."""
    if _UNSPACED.search(text) is None:  # nearly every text, and three times as fast
        return [run.span() for run in _RUN.finditer(text)]
    spans: list[tuple[int, int]] = []
    for run in _RUN.finditer(text):
        spans.extend([word.span() for word in _WORD.finditer(text, *run.span())] or [run.span()])
    return spans


def split_text(text: str, passage_words: int = PASSAGE_WORDS) -> Iterator[tuple[str, int]]:
    """(text, words) of each passage of one section."""
    spans = word_spans(text)
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
    """Words to take: the end of a paragraph or else a sentence nearest to `even`, or `even` itself."""

    def nearest(ends: list[int]) -> int:
        return min(ends, key=lambda take: (abs(take - even), take))

    sentences: list[int] = []
    paragraphs: list[int] = []
    for take in range(low, high + 1):
        start, end = spans[first + take - 1]
        if "\n" in text[end : spans[first + take][0]]:
            paragraphs.append(take)
        elif _SENTENCE_END.search(text, start, end):
            sentences.append(take)
    if paragraphs:
        return nearest(paragraphs)
    return nearest(sentences) if sentences else min(max(even, low), high)


def passages(article: Article, passage_words: int = PASSAGE_WORDS) -> Iterator[Passage]:
    """The passages of an article, in order. Sections without a word give none."""
    ordinal = 0
    for section in article.sections:
        if article.split:
            pieces = split_text(section.text, passage_words)
        else:
            text = section.text.strip()
            pieces = iter([(text, len(word_spans(text)))] if text else [])
        for text, words in pieces:
            yield Passage(section=section.path, ordinal=ordinal, text=text, words=words)
            ordinal += 1


def article_words(article: Article) -> int:
    """Words of an article, counted section by section: what its passages must add up to."""
    return sum(len(word_spans(section.text)) for section in article.sections)
