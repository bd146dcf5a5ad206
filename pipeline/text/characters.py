"""Classes of characters, by Unicode's properties, as far as they decide where a text may be cut.

The properties are those of the `regex` package; a class is looked up once for each character that
occurs, and kept.
"""

from __future__ import annotations

import re

import regex

# Patterns of `regex` in its version 1.
# Tibetan's shads end clauses and sentences alike, and are the only signs that do.
_TERMINATOR = r"[\p{Sentence_Terminal}\u0f0d-\u0f11\u0f14]"
# In place of a blank: U+200B, Tibetan's tsheg, the Ethiopic wordspace, the dividers of old scripts.
_DIVIDER = r"[\u200b[[\p{LB=BA}&&\p{Po}]--\p{sc=Common}]]"
_LETTER = r"[\p{L}\p{Nl}]"
_IDEOGRAPH = (
    r"[[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{scx=Bopo}\p{scx=Yiii}\p{scx=Tang}\p{scx=Nshu}\p{scx=Kits}]"
    # Wide or half-wide: Bopomofo shares its signs of tones with Latin.
    rf"&&{_LETTER}&&[\p{{ea=W}}\p{{ea=H}}]]"
)
# Line_Break knows the scripts whose lines break within runs: by a dictionary (SA) or between syllables.
_SYLLABLE = rf"[[\p{{LB=SA}}\p{{LB=AK}}\p{{LB=AP}}\p{{LB=AS}}]&&{_LETTER}]"
# What no line begins with: marks of length and repetition, small kana.
_TRAILING = r"[\p{Extender}\p{LB=CJ}\p{LB=NS}]"

# The letter of each class, and what is in it and in none above it.
_CLASSES = (
    ("\n", r"\n"),
    ("\t", r"[\t-\r\x1c-\x1f\x85\u2028\u2029]"),  # other white space that no sign can stand upon
    (" ", r"\s"),
    ("P", r"\p{GCB=Prepend}"),  # signs that stand before the letter they belong to
    ("k", r"[\p{InSC=Invisible_Stacker}\p{InSC=Virama}]"),  # signs that bind the next letter too
    # Other signs of the letter before: Unicode's clusters leave out some Burmese vowels and tones.
    ("m", r"[\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=ZWJ}\p{M}]"),
    ("j", rf"[{_IDEOGRAPH}&&{_TRAILING}]"),
    ("i", _IDEOGRAPH),
    ("v", r"\p{Logical_Order_Exception}"),  # vowels before their consonant
    ("r", rf"[{_SYLLABLE}&&{_TRAILING}]"),
    ("s", _SYLLABLE),
    ("t", rf"[\p{{sc=Tibt}}&&{_LETTER}]"),
    # The ends of sentences that cannot be a decimal point, or a part of an abbreviation or an address.
    ("e", rf"[{_TERMINATOR}--[\p{{SB=ATerm}}!?]]"),
    ("w", rf"[{_TERMINATOR}…]"),  # those that can
    ("d", _DIVIDER),
    ("g", r"\p{Pi}"),  # quotes that open in most languages, and close in some
    ("o", r"[\p{Ps}¿¡]"),
    ("c", r"[\p{Pe}\p{Pf}]"),
    ("q", r"[\"'\p{Cf}]"),  # what stands on either side, seen or not
    ("a", r"[\p{L}\p{N}]"),  # letters and digits of scripts with blanks
    ("p", r"[\p{P}--\p{Pd}]"),
    ("x", r"."),
)
_PATTERNS = tuple((name, regex.compile(pattern, regex.V1 | regex.DOTALL)) for name, pattern in _CLASSES)
# Classes of text whose words are runs between blanks.
_SPACED = frozenset("apwcqogx \t\n")
_SAMPLE = 64


class _Classes(dict[int, str]):
    def __missing__(self, code: int) -> str:
        found = next(name for name, pattern in _PATTERNS if pattern.match(chr(code)))
        self[code] = found
        return found


_classes = _Classes()
# All but what Latin text is nearly always made of; a search is several times as fast as a set of characters.
_COMMON = re.compile("[^\x00-\u02ff\u2010-\u2027\u2030-\u203b]")
_spaced: set[str] = set()  # characters that were seen to be of scripts with blanks


def classes(text: str) -> str:
    """The letter of each character's class, in order."""
    return text.translate(_classes)


def are_spaced(text: str) -> bool:
    """True where every word of `text` is a run between blanks, by the characters that occur."""
    if text.isascii() or _COMMON.search(text) is None:
        return True
    # Text that is not in such a script shows it soon.
    return _only_spaced(text[:_SAMPLE]) and _only_spaced(text)


def _only_spaced(text: str) -> bool:
    for character in set(text) - _spaced:
        if _classes[ord(character)] not in _SPACED:
            return False
        _spaced.add(character)
    return True
