"""Articles to chunks: runs of so many tokens of the whole document, the passages of a corpus for RETRO.

The rule, version 1: a document is the text of an article's sections, one behind the other with a newline
between; its headings are no part of it, as they are none of any passage. Its tokens are cut into runs of
`passage_tokens`, the last one possibly shorter. A chunk never crosses a document, and runs through its
sections.

A chunk's text begins with the first character of its first token and ends where the next chunk begins; that
of the first chunk begins where the document does, and that of the last ends with it. So the texts of a
document's chunks, put together, are the document. Its section is the one in which its first token begins,
its words are those that begin in its text.

Source: Borgeaud et al. 2021 (RETRO), section 2.1, whose chunks have 64 tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.text import words
from pipeline.text.articles import Article
from pipeline.text.passages import Passage

VERSION: Final = "chunks 1"
BETWEEN: Final = "\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk(Passage):
    """A run of a document's tokens, `first` to `stop`."""

    first: int
    stop: int


def splitter(passage_tokens: int, tokenizer: str) -> dict[str, Any]:
    """What decides how text is cut, for fingerprints and keys. `tokenizer` is a fingerprint."""
    return {"version": VERSION, "passage_tokens": passage_tokens, "tokenizer": tokenizer}


def document(article: Article) -> str:
    """The text of an article as its tokens are taken of it."""
    return BETWEEN.join(section.text for section in article.sections)


def chunks(article: Article, starts: npt.NDArray[np.int64], passage_tokens: int) -> Iterator[Chunk]:
    """The chunks of an article, in order; none where it has no token, or no word.

    Args:
        article: whose `document` was tokenized.
        starts: int64 [tokens], the character of the document that each token begins with; they do not fall.
        passage_tokens: of a chunk, at most.
    """
    text = document(article)
    sections, begun = _places(article)
    if not len(starts) or not len(begun):
        return
    firsts = np.arange(0, len(starts), passage_tokens)
    cuts = np.concatenate([[0], starts[firsts[1:]], [len(text)]])
    # Words begin at, and are counted before, the characters where chunks begin.
    before = np.searchsorted(begun, cuts[:-1], side="left")
    counts = np.diff(np.append(before, len(begun)))
    inside = np.searchsorted(sections, starts[firsts], side="right") - 1
    for ordinal, first in enumerate(firsts.tolist()):
        yield Chunk(
            section=article.sections[int(inside[ordinal])].path,
            ordinal=ordinal,
            text=text[cuts[ordinal] : cuts[ordinal + 1]],
            words=int(counts[ordinal]),
            first=first,
            stop=min(first + passage_tokens, len(starts)),
        )


def _places(article: Article) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where in the document sections begin, and words."""
    sections: list[int] = []
    begun: list[int] = []
    at = 0
    for section in article.sections:
        sections.append(at)
        # Section by section, as they are counted everywhere.
        begun += [at + start for start, _ in words.word_spans(section.text)]
        at += len(section.text) + len(BETWEEN)
    return np.array(sections, np.int64), np.array(begun, np.int64)
