"""Words in every script: cut at grapheme clusters only, ended by sentences, never a whole page long."""

from __future__ import annotations

import re
import time

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.text import characters, words
from pipeline.text.words import count_words, word_spans

# Letters with signs, signs that bind, vowels before their consonants, signs before digits, jamo, flags,
# emoji of several characters, punctuation of all sides, blanks of all widths.
PARTS = (
    "a é é किं क्ष ক্ষ ക്ഷ ကြောင်း မ္မ ខ្មែ ស្ត្រី ไทย เมือง น้ำ ກໍາ ᨠ᩠ᨡ ꦏ꧀ꦱ ᬓ᭄ᬱ བརྒྱུད་ 漢 字 々 か が ゕ コー ｶﾞ 한 한 "
    "ۀ ࢐ا ؀١٢ א 🇫🇷 🇯🇵 👩‍👩‍👧 👍🏽 ✌️ 1 3.14 . ! ? … । ۔ ။ ។ ། ። 。 ！ ｡ ፡ "
    "\u200b \u200d \u00ad ( [ 「 “ ¿ ) ] 」 ” ’ ' \" , 、 ، - — "
    "/ + \u0301 \u093f \u17d2 \u0e31 \ufe0f"
).split()
BLANKS = (" ", " ", "\n", "\t", "\u00a0", "\u3000", " \n", "  ")
TEXT = st.lists(st.one_of(st.sampled_from(PARTS), st.sampled_from(BLANKS)), max_size=60).map("".join)
ANY = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


def words_of(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


def clusters(text: str) -> set[int]:
    """Where grapheme clusters of `text` begin and end."""
    return {0, *(found.end() for found in regex.finditer(r"\X", text))}


def stripped(text: str) -> str:
    """As sources give text: no blanks around paragraphs."""
    return re.sub(r"\s*\n\s*", "\n", text).strip()


@settings(max_examples=400, deadline=None)
@given(st.one_of(TEXT, ANY).map(stripped))
@example("a \u0301b")
@example("a\t \u0301")
@example("\u0600 1")
def test_words_are_whole_clusters_and_cover_the_text(text: str) -> None:
    spans = word_spans(text)
    ends = clusters(text)
    assert all(start < end for start, end in spans)
    assert {position for span in spans for position in span} <= ends
    between = [0, *(position for span in spans for position in span), len(text)]
    gaps = [text[a:b] for a, b in zip(between[::2], between[1::2], strict=True)]
    assert not "".join(gaps).strip()
    assert count_words(text) == len(spans)


@settings(max_examples=400, deadline=None)
@given(st.one_of(TEXT, ANY).map(stripped), st.data())
def test_a_slice_between_two_words_has_the_words_it_was_cut_from(text: str, data: st.DataObject) -> None:
    spans = word_spans(text)
    if not spans or any(len(run) > words.LONGEST for run in text.split()):
        return
    first = data.draw(st.integers(0, len(spans) - 1))
    last = data.draw(st.integers(first, len(spans) - 1))
    part = text[spans[first][0] : spans[last][1]]
    assert words_of(part) == [text[start:end] for start, end in spans[first : last + 1]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # A sentence's end ends a word, and takes what closes the sentence with it.
        ("東京は日本の首都。「次の」文", "東京 は日 本の 首都。 「次の」 文"),
        ("यह है।वह था॥अब", "यह है। वह था॥ अब"),
        ("یہ ہے۔وہ تھا", "یہ ہے۔ وہ تھا"),
        ("ሰላም።እንደ ምን፡አደሩ", "ሰላም። እንደ ምን፡ አደሩ"),
        ("(वह था।) अब", "(वह था।) अब"),
        # A point, a question in an address and an exclamation in a name end none.
        ("Yahoo!-Japan 3.14 U.S.A. x.org/?q=1", "Yahoo!-Japan 3.14 U.S.A. x.org/?q=1"),
        ("Hawaiʻi Māˇhat 5ˊ6 0˙ ㄅㄆㄇ", "Hawaiʻi Māˇhat 5ˊ6 0˙ ㄅㄆ ㄇ"),
        ("Beijing (北京) and Wei（魏）", "Beijing (北京) and Wei （魏）"),
        ("2019年にGoogleが3.5倍", "2019 年に Google が 3.5 倍"),
        # Three syllables of scripts without blanks, with all their signs; a vowel waits for its consonant.
        ("ประเทศไทย", "ประ เทศไท ย"),
        ("ស្រុកខ្មែរ។នេះ", "ស្រុកខ្មែ រ។ នេះ"),
        ("ကြောင်းရှိသည်။မြန်မာ", "ကြောင်းရှိ သည်။ မြန်မာ"),
        ("ꦲꦏ꧀ꦱꦫꦗꦮ꧉ꦧꦱ", "ꦲꦏ꧀ꦱꦫ ꦗꦮ꧉ ꦧꦱ"),
        ("བོད་ཀྱི་སྐད་ཡིག།", "བོད་ ཀྱི་ སྐད་ ཡིག།"),
        # No word begins with a mark of length or repetition, or a small kana.
        ("データベースと人々", "データ ベース と人々"),
        # Zero-width blanks are those of Khmer and its neighbours.
        ("ភាសា\u200bខ្មែរ\u200bល្អ", "ភាសា\u200b ខ្មែរ\u200b ល្អ"),
        # A sign upon a blank is the blank's.
        ("the accent  \u0301 alone", "the|accent  \u0301|alone"),
    ],
)
def test_words_of_scripts(text: str, expected: str) -> None:
    assert words_of(text) == expected.split("|" if "|" in expected else " ")


@pytest.mark.parametrize(
    "letters",
    "ꦏꦱꦫ ᬓᬱᬭ ᨠᨡᨣ ကခဂ ᦀᦁᦂ ꪀꪁꪂ ꨀꨁꨂ ᯀᯁᯂ ᨀᨁᨂ ꔀꔁꔂ abc αβγ 𓀀𓀁𓀂 𐎀𐎁𐎂 漢字語 ꀀꀁꀂ".split(),
)  # fmt: skip
def test_long_text_without_blanks_is_many_words(letters: str) -> None:
    text = letters * 500
    found = words_of(text)
    assert "".join(found) == text
    assert max(map(len, found)) < 2 * words.PIECE
    assert 1500 / words.PIECE - 2 < len(found) <= 750


def test_a_long_word_stays_one() -> None:
    for word in ["Rindfleischetikettierungsüberwachung", "x" * words.LONGEST, "e\u0301" * words.LONGEST]:
        assert words_of(f"a {word} b") == ["a", word, "b"]
    # No mark of punctuation stands alone at the end of a long run.
    assert words_of("ab" * 21 + ".")[-1] == "ababab."


def test_white_space_is_pythons() -> None:
    every = [chr(code) for code in range(0x110000)]
    assert all((characters.classes(one) in " \t\n") == one.isspace() for one in every)


# Each was quadratic, or may be: a megabyte must not take hours.
@pytest.mark.parametrize(
    ("head", "pump"),
    [("北", "a"), ("北", "("), ("", "(北"), ("", "เ"), ("ก", "\u0e31"), ("a", " \u0301"), ("", "\u0600"),
     ("", "\u0600 "),
     ("a", " "), ("北", "។"), ("", "'"), ("'", "北'"), ("က", "\u1039"), ("", "་"), ("北", "ー"), ("a", "!")],
)  # fmt: skip
def test_time_grows_with_the_text(head: str, pump: str) -> None:
    def seconds(count: int) -> float:
        text = head + pump * count + "b"
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            count_words(text)
            best = min(best, time.process_time() - started)
        return best

    seconds(100)
    assert seconds(40_000) < 20 * max(seconds(4_000), 1e-3)


def test_what_is_told_at_a_glance_is_told_right() -> None:
    """The characters that a search alone takes for those of scripts with blanks are of such classes."""
    common = [chr(code) for code in range(0x3000) if characters._COMMON.search(chr(code)) is None]
    assert len(common) > 700
    assert set(characters.classes("".join(common))) <= characters._SPACED
