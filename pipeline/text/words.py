"""Where the words of a text lie, in any script.

A *word* is a run of characters other than white space, with these exceptions, all of them at the
ends of grapheme clusters (what a reader takes for one letter, with its signs):

- Of scripts that are written without blanks, `IDEOGRAPHS` Chinese or Japanese letters count as a word,
  `SYLLABLES` of Thai, Lao, Khmer, Burmese, Javanese and their kin, and one syllable of Tibetan: about
  the length of a word in each. Punctuation goes with the letter before it and ends the word.
- The end of a sentence within a run ends a word, where its sign can be nothing else ("।", "。", not
  "."); so do the signs that some scripts have in place of a blank.
- A run of more than `LONGEST` letters of any other script is taken for text without blanks: every
  `PIECE` of them count as a word.

Nearly every text is in a script with blanks, which its characters tell at a glance, and then a word is
what `str.split` gives. Else each character is replaced by the letter of its class (`characters`), and
regular expressions over those letters find the words.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Iterator
from typing import Final

import regex

from pipeline.text import characters

IDEOGRAPHS: Final = 2
SYLLABLES: Final = 3
LONGEST: Final = 40
PIECE: Final = 6

_RUN = re.compile(r"\S+")

# Over classes. Every alternative takes a cluster at least and looks no further than a few characters
# ahead: so the time grows with the text, and a slice between two words has the words that it was cut from.
# Signs upon a letter; some of them bind the next letter too.
_BOUND = r"k++m*+[aijrstv]?+"
_SIGNS = rf"m*+(?:{_BOUND}m*+)*+"
# A blank with a sign upon it is a letter, and no place for a cut.
_BEARING = r"[ \t]++(?<= )(?=[mk])"
_ENDING = rf"[ed](?:[edwcqm]|{_BOUND}|{_BEARING})*+"
_TAIL = rf"(?:[pxwcqm]|{_BOUND}|{_BEARING})*+(?:{_ENDING})?+"
_IDEOGRAPH = rf"[ij]{_SIGNS}(?:j{_SIGNS}){{0,3}}+"
# A vowel that is written before its consonant stays with it.
_SYLLABLE = rf"v{{0,3}}[srv]{_SIGNS}(?:r{_SIGNS}){{0,3}}+"
_UNSPACED = rf"(?:{_IDEOGRAPH}){{1,{IDEOGRAPHS}}}+|(?:{_SYLLABLE}){{1,{SYLLABLES}}}+|(?:t{_SIGNS}){{1,8}}+"
_PREFIXED = rf"P++(?:[^P \t\n]|[ \t]++(?=[^ \t\n]))?+{_SIGNS}"
# What opens stands with an unspaced letter that follows, and else with whatever it is among.
_LONE = r"[og](?![og]{0,3}[ijsvrt])"
_SPACED = (
    rf"(?:[apxwcm]|{_BOUND}|{_LONE}|q(?![ogq]{{0,3}}[ijsvrt])|{_PREFIXED})"
    rf"(?:[apxwcqm]++|{_BOUND}|{_LONE}|{_PREFIXED}|{_BEARING})*+"
)
_WORD = re.compile(rf"{_SPACED}(?:{_ENDING})?+|[ogq]{{0,4}}+(?:{_UNSPACED}){_TAIL}|{_ENDING}|[ogq]")
_LONG = regex.compile(rf"\X{{{LONGEST + 1}}}")
# The last portion takes what is left, so that no mark of punctuation stands alone.
_PORTION = regex.compile(rf"\X{{{PIECE}}}(?=\X{{{PIECE}}})|\X+")
_SENTENCE_END = re.compile(r"[ew][cgqmk]*\Z")
_PAUSE = re.compile(r"[edwcqp][mk]*\Z")


def count_words(text: str) -> int:
    """The number of `word_spans(text)`."""
    count = count_spaced(text)
    return len(word_spans(text)) if count is None else count


def count_spaced(text: str) -> int | None:
    """`count_words(text)` at a fifth of its cost, or None where words are not all set apart by blanks."""
    if not characters.are_spaced(text):
        return None
    runs = text.split()
    return len(runs) if len(max(runs, key=len, default="")) <= LONGEST else None


def word_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each word of a text, in order; between them lies white space or nothing."""
    if characters.are_spaced(text):
        spans, longest = _runs(text)
    else:
        spans = [word.span() for word in _WORD.finditer(characters.classes(text))]
        longest = max((end - start for start, end in spans), default=0)
    if longest <= LONGEST:
        return spans
    return [portion for start, end in spans for portion in _portions(text, start, end)]


def _runs(text: str) -> tuple[list[tuple[int, int]], int]:
    """Runs between white space, and the length of the longest."""
    lengths = list(map(len, text.split()))
    longest = max(lengths, default=0)
    if sum(lengths) + len(lengths) - 1 != len(text):
        return [run.span() for run in _RUN.finditer(text)], longest
    # With one blank between them, as nearly always, their places are sums: several times as fast.
    starts = list(itertools.accumulate(map((1).__add__, lengths), initial=0))[:-1]
    return list(zip(starts, map(operator.add, starts, lengths), strict=True)), longest


def _portions(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    if end - start > LONGEST and _LONG.match(text, start, end):
        for portion in _PORTION.finditer(text, start, end):
            yield portion.span()
    else:
        yield start, end


def ends_sentence(word: str) -> bool:
    """Whether a word is the last of a sentence, by its last characters."""
    if word[-1:].isalnum():  # as most are, and told at once
        return False
    return _SENTENCE_END.search(characters.classes(word)) is not None


def ends_clause(word: str) -> bool:
    """Whether a reader makes a pause behind a word, by its last character."""
    return _PAUSE.search(characters.classes(word)) is not None
