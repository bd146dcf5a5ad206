"""Passages: no word lost, repeated or changed; never more than 200; never across a section."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.articles import Article, Section
from pipeline.text.passages import article_words, passages, split_text, word_spans

WORD = st.text(
    st.characters(codec="utf-8", exclude_categories=("Zs", "Zl", "Zp", "Cc", "Cs")), min_size=1, max_size=12
).filter(lambda word: not any(ch.isspace() for ch in word))
SPACE = st.sampled_from([" ", "\n", "  ", " \n", "\t"])
TEXT = st.lists(st.tuples(WORD, SPACE), max_size=120).map(lambda p: "".join(w + s for w, s in p))
UNSPACED = st.text("北京是中華人民共和国ทดสอบคำไทยひらがなカタカナ。，", max_size=400)


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


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


@given(st.text(st.characters(max_codepoint=0xDFF, exclude_categories=("Cs",))))
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
