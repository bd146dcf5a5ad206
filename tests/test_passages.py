"""Passages: no word lost, repeated or changed; never more than 200; never across a section."""

from __future__ import annotations

import re

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.text import characters
from pipeline.text.articles import Article, Section
from pipeline.text.passages import article_words, passages, split_text, word_spans
from pipeline.text.words import LONGEST
from tests.test_words import PARTS

WORD = st.text(
    st.characters(codec="utf-8", exclude_categories=("Zs", "Zl", "Zp", "Cc", "Cs")), min_size=1, max_size=12
).filter(lambda word: not any(ch.isspace() for ch in word))
SPACE = st.sampled_from([" ", "\n", "  ", " \n", "\t"])
TEXT = st.lists(st.tuples(WORD, SPACE), max_size=120).map(lambda p: "".join(w + s for w, s in p))
UNSPACED = st.text("北京是中華人民共和国ทดสอบคำไทยひらがなカタカナ。，", max_size=400)


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


@given(text=TEXT)
def test_words_between_blanks_are_runs(text: str) -> None:
    """By their lengths where there is one blank between them, and by a search where not: the same."""
    for spaced in (text, " ".join(text.split())):
        runs = [run.span() for run in re.finditer(r"\S+", spaced)]
        if characters.are_spaced(spaced) and all(end - start <= LONGEST for start, end in runs):
            assert word_spans(spaced) == runs


@given(text=st.one_of(TEXT, UNSPACED), size=st.integers(1, 30))
def test_no_word_is_lost_repeated_or_changed(text: str, size: int) -> None:
    article = Article(
        page_id="1",
        title="T",
        sections=(Section(path=(), text=text), Section(path=("A", "B"), text=text[::-1])),
    )
    found = list(passages(article, size))
    for section in article.sections:
        of_section = [p for p in found if p.section == section.path]
        assert [w for p in of_section for w in words(p.text)] == words(section.text)
        assert "".join("".join(p.text.split()) for p in of_section) == "".join(section.text.split())
        for p in of_section:
            assert p.text in section.text
            assert p.text == p.text.strip()
            assert 1 <= p.words == len(words(p.text)) <= size
        assert len(of_section) == -(-len(words(section.text)) // size)
    assert [p.ordinal for p in found] == list(range(len(found)))
    assert sum(p.words for p in found) == article_words(article)


# Scripts with blanks, but for what stands upon a blank, binds, or ends a sentence without one.
SPACED = st.text(st.characters(max_codepoint=0xDFF, exclude_categories=("Cs", "Mn", "Mc", "Cf", "Me")))


@given(SPACED.filter(lambda text: not regex.search(r"[\p{Sentence_Terminal}--[.!?]]|\S{41}", text, regex.V1)))
def test_words_of_spaced_text_are_what_split_gives(text: str) -> None:
    assert words(text) == re.findall(r"\S+", text)


def test_tails_are_balanced() -> None:
    text = " ".join(f"w{i}" for i in range(410))
    assert [count for _, count in split_text(text)] == [137, 136, 137]


def test_full_passages_are_not_cut_further() -> None:
    text = " ".join(["word"] * 400)
    assert [count for _, count in split_text(text)] == [200, 200]
    assert [count for _, count in split_text(" ".join(["word"] * 200))] == [200]


def test_cuts_go_to_the_end_of_a_paragraph_or_else_a_sentence() -> None:
    sentence = "One two three four five six seven eight nine ten."
    text = " ".join([sentence] * 21)  # 210 words, the even cut lies within a sentence
    assert [count for _, count in split_text(text)] == [100, 110]
    paragraphs = "\n".join([" ".join([sentence] * 9), " ".join([sentence] * 12)])
    assert [count for _, count in split_text(paragraphs)] == [90, 120]


@pytest.mark.parametrize(
    ("sentence", "ends"),
    [
        ("वह घर है और यह भी एक घर है। ", "।"),
        ("یہ ایک گھر ہے اور وہ بھی ایک گھر ہے۔ ", "۔"),
        ("ሰው ሁሉ በእኩል ነጻነት እና ክብር ተወልዷል። ", "።"),
        ("ᱱᱚᱣᱟ ᱫᱚ ᱢᱤᱫ ᱚᱲᱟᱜ ᱠᱟᱱᱟ ᱾ ", "᱾"),
        ("ꯑꯁꯤ ꯌꯨꯝ ꯑꯃꯅꯤ꯫ ", "꯫"),
        ("ស្រុកខ្មែរមានទន្លេធំមួយ។", "។"),
        ("မြန်မာနိုင်ငံတွင်မြစ်ကြီးတစ်စင်းရှိသည်။", "။"),
        ("བོད་ཀྱི་སྐད་ཡིག་ནི་སྐད་ཡིག་ཅིག་ཡིན། ", "།"),
        ("ꦲꦏ꧀ꦱꦫꦗꦮꦲꦶꦏꦸꦲꦏ꧀ꦱꦫ꧉", "꧉"),
        ("東京は日本の首都である。", "。"),
        ("これはｶﾀｶﾅﾃﾞｽ｡", "｡"),
        ("他说：“这是一座房子。”", "”"),
        ("Das ist ein Haus, sagte er: „Ein Haus.“ ", "“"),
    ],
)
def test_cuts_go_to_the_end_of_a_sentence_in_every_script(sentence: str, ends: str) -> None:
    size = 50
    count = -(-size * 41 // (10 * len(words(sentence.strip()))))  # 4.1 passages: room to move
    found = [text for text, _ in split_text((sentence * count).strip(), size)]
    assert len(found) >= 5
    assert all(text.endswith(ends) for text in found)
    assert "".join("".join(found).split()) == "".join((sentence * count).split())


@pytest.mark.parametrize(
    ("unit", "ends"),
    [
        ("ประเทศไทยเป็นประเทศ ", "ประเทศ"),  # no signs of sentences: blanks
        ("ភាសាខ្មែរ\u200b", "\u200b"),
        ("漢字仮名、", "、"),  # nor blanks: pauses
    ],
)
def test_cuts_without_a_sentence_go_to_a_blank_or_a_pause(unit: str, ends: str) -> None:
    found = [text for text, _ in split_text(unit * 60, 30)]
    assert len(found) > 3
    assert all(text.endswith(ends.strip()) for text in found)


@settings(deadline=None)
@given(
    text=st.lists(st.sampled_from(PARTS), max_size=150).map("".join).map(str.strip), size=st.integers(1, 30)
)
def test_no_cut_is_inside_a_letter(text: str, size: int) -> None:
    ends = {0, *(cluster.end() for cluster in regex.finditer(r"\X", text))}
    position = 0
    for piece, count in split_text(text, size):
        assert 1 <= count <= size
        start = text.index(piece, position)
        assert not text[position:start].strip()
        position = start + len(piece)
        assert {start, position} <= ends
    assert position == len(text)


def test_text_without_blanks_is_many_passages() -> None:
    for letter in "ꦏᬓᨠꪀxγ漢":
        found = [text for text, _ in split_text(letter * 6000)]
        assert "".join(found) == letter * 6000
        assert max(map(len, found)) <= 1200


def test_scripts_without_spaces_are_cut_too() -> None:
    text = "東京は日本の首都である。" * 100
    found = list(split_text(text))
    assert len(found) == 3
    assert "".join(piece for piece, _ in found) == text
    assert all(count <= 200 for _, count in found)
    # A short name in brackets stays one word of an English sentence.
    assert words("Beijing (北京) is large") == ["Beijing", "(北京)", "is", "large"]


def test_ready_made_passages_are_kept_as_they_are() -> None:
    text = "  " + " ".join(["word"] * 500) + " "
    article = Article(page_id="1", title="T", sections=(Section(path=(), text=text),), split=False)
    (found,) = passages(article)
    assert found.text == text.strip()
    assert found.words == 500


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_sections_without_a_word_give_nothing(text: str) -> None:
    article = Article(page_id="1", title="T", sections=(Section(path=(), text=text),))
    assert list(passages(article)) == []
    assert article_words(article) == 0
