"""Templates that nobody told us, judged by the shape of their call: whether it is part of the text.

Each Wikipedia has thousands of templates under names of its own; what they are for shows in how they are
called. A quotation is a paragraph in a pair of braces that stands alone, a phrase whose source is wanted
stands between words with blanks around it, a number is a number. A footnote is tied to the word before it, a
navigation box has many parameters with names, a pronunciation stands in parentheses.

What is looked at is the call and the characters beside it, never the name, except for the few
names that every wiki has taken over from the English one (`_NOTES`).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from pipeline.text.wikitext import numbers
from pipeline.text.wikitext.arguments import Arguments
from pipeline.text.wikitext.markup import HOLE

# Longer calls are boxes; more parameters are records.
MAX_CHARS = 8000
_MAX_PIPES = 12
_MAX_NAMED = 4
# Notes, references and hatnotes, whose text is beside the article's.
_NOTES = re.compile(
    r"(?:efn|refn|ref|r|rp|sfn|harv|note|nota|notas|notetag|notelist|fn|anm|anmerkung|voetnoot|przypis|uwaga|pozn|"
    r"cite|citation|cita (?:web|libro|news|pubblicazione)|literatur|ouvrage|article|isbn|issn|doi|hatnote|"
    r"dablink|rellink|about|for|main|see|further|redirect|distinguish|other uses|confuse|dieser artikel|"
    r"begriffsklärungshinweis|disambigua|homon|otros usos|autres|image|file|audio|listen|anchor|portal|"
    r"commons|wiktionary|wikiquote|wikisource|coord|infobox|navbox|flag|icon|taxobox|category|defaultsort|"
    r"примечание|прим|сноска|注|註|脚注|註腳|각주|주석)(?:[ \-_/]?\d*(?:[ \-_/][^|]*)?)",
    re.IGNORECASE,
)
_FILE = re.compile(r"\.(?:jpe?g|png|svg|gif|tiff?|webp|og[gav]|webm|mp3|wav|pdf)\b|://", re.IGNORECASE)
_PAGE = re.compile(r":?[^\s:]{1,40}:\S")  # "Category:Biota of Asia"
_LIST_ITEM = re.compile(r"(?:^|\n)[*#:]")
_SENTENCE_END = re.compile(r"[.!?…。！？։።؟۔।॥။៖]['\"”’»」』)）\]]*$")
# Scripts without blanks: there a phrase is tied to the words around it as much as a note is.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3000-\u303f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]"
)
_OPENING = "([{'\"“‘«„「『（–—-/"
_WORD = re.compile(r"\S+")
_SENTENCE_WORDS = 5
_UNSPACED_WORD = 3  # letters, for counting


@dataclass(frozen=True)
class Place:
    """Where a call stands: the line before it, and what follows it on its line."""

    before: str
    after: str

    @property
    def alone(self) -> bool:
        return not self.before.strip("*#:; \t") and not self.after.strip()

    @property
    def in_parenthesis(self) -> bool:
        opened = self.before.count("(") + self.before.count("（")
        return opened > self.before.count(")") + self.before.count("）")

    @property
    def tied(self) -> bool:
        """Whether it hangs on the word before it, as notes do."""
        last = self.before[-1:]
        return bool(last) and not last.isspace() and last not in _OPENING and not _UNSPACED.match(last)

    @property
    def between_words(self) -> bool:
        """Whether a sentence goes on behind it that was begun before it."""
        before, after = self.before.strip(), self.after.strip()
        return before[-1:].isalnum() and after[:1].isalpha() and not self.before.lstrip().startswith("|")


def may_be_text(name: str, content: str) -> bool:
    """By a look at the name and the length: whether `text_of` is worth its time."""
    return content.count("|") <= _MAX_PIPES and not _FILE.search(content) and not _is_note(name)


@functools.lru_cache(maxsize=1 << 14)
def _is_note(name: str) -> bool:
    """Whether the name says that its text is beside the article's, or is no template's."""
    name = name.strip()
    return not name or ":" in name or _NOTES.fullmatch(name) is not None


def text_of(args: Arguments, raw: str, place: Place) -> str:
    """What the call of an unknown template reads as; empty where it is no text.

    Args:
        args: its parameters, rendered.
        raw: its parameters as written.
        place: where it stands.
    """
    values = args.values
    if len(args.named) > _MAX_NAMED or not (values or args.named):
        return ""
    if numbers.is_measure(values) and not place.tied:
        return numbers.convert(args)
    if len(values) == 1 and not args.named and numbers.is_number(values[0]):
        return args.page.language.number(values[0]) if _is_number_of_sentence(place) else ""
    text = max([*values, *args.named.values()], key=_words)
    others = [value for value in [*values, *args.named.values()] if value is not text]
    words = _words(text)
    if _PAGE.match(text):
        return ""
    if _LIST_ITEM.search(text) and not any(_words(other) > 2 for other in others) and text in values:
        return f"\n\n{text}\n\n" if words > 1 else ""
    if place.alone:
        return _block(text, words, others, raw)
    if place.tied or place.before.lstrip(" :*#;").startswith(("|", "!")):
        return ""
    if len(values) == 1 and text == values[0] and all(_words(other) <= 3 for other in others):
        if place.in_parenthesis:
            return text if words >= _SENTENCE_WORDS else ""
        return text if words >= 3 or (place.between_words and _is_word(text)) else ""
    dates_only = all(_words(other) <= 3 and (other[:1].isdecimal() or len(other) <= 3) for other in others)
    return text if words >= _SENTENCE_WORDS and dates_only and text in values else ""


def _block(text: str, words: int, others: list[str], raw: str) -> str:
    """A call that stands alone: a quotation, or lines of verse. A notice has a link, and one sentence."""
    if any(_words(other) > 12 for other in others):
        return ""
    lines = [line for line in text.split("\n") if line.strip(" :*'" + HOLE)]
    verse = len(lines) > 1 and words >= 6 and text.count("\n|") == 0
    sentence = words >= 4 and _SENTENCE_END.search(text.strip(" '" + HOLE)) is not None
    notice = sentence and not verse and words < 40 and "[[" in raw
    return f"\n\n{text}\n\n" if (verse or sentence) and not notice else ""


def _is_number_of_sentence(place: Place) -> bool:
    return place.before[-1:] == " " and place.before.strip()[-1:].isalpha() and not place.in_parenthesis


def _is_word(text: str) -> bool:
    """Whether a short parameter may be words of a sentence: names and codes begin with a capital."""
    first = text.lstrip("'\"“‘«„「『(")[:1]
    return first.isalpha() and not first.isupper()


def _words(text: str) -> int:
    spaced = unspaced = 0
    for word in _WORD.finditer(text):
        letters = len(_UNSPACED.findall(word.group()))
        unspaced += letters
        spaced += not letters
    return spaced + unspaced // _UNSPACED_WORD
