"""Samples: unbiased, exact where whole, within their own spread, and spread over the source."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.miniwiki.export import write_dump
from pipeline.accounts.plan import sample
from pipeline.accounts.plan.sample import Bounds, SampledPage
from pipeline.text import articles, passages, sources


def passage_count(page: SampledPage) -> float:
    return len(page.rows)


def text_bytes(page: SampledPage) -> float:
    return sum(len(row["text"].encode()) for row in page.rows)


def truth(splits: list[sources.Split]) -> tuple[int, int, int]:
    """Pages, passages and bytes of text, by reading everything."""
    pages = [page for split in splits for page in sources.read_split(split)]
    found = [
        passage
        for page in pages
        if isinstance(page, articles.Article)
        for passage in passages.passages(articles.part(page)[0])
    ]
    return len(pages), len(found), sum(len(passage.text.encode()) for passage in found)


@given(sizes=st.lists(st.integers(1, 10_000), min_size=1, max_size=200), wanted=st.integers(1, 250))
def test_weights_add_up_to_the_whole(sizes: list[int], wanted: int) -> None:
    """What is drawn stands for all bytes: exactly so, up to the step that the last one begins."""
    taken = sample.draw(sizes, wanted)
    assert len(taken) <= len(sizes)
    assert all(weight >= 1 - 1e-9 for weight in taken.values())
    certain = {item for item, weight in taken.items() if weight == 1.0}
    others = [weight * sizes[item] for item, weight in taken.items() if item not in certain]
    rest = sum(size for item, size in enumerate(sizes) if item not in certain)
    step = others[0] if others else 0.0
    assert all(share == pytest.approx(step) for share in others)
    assert abs(sum(others) - rest) <= step + 1e-6
    if wanted >= len(sizes):
        assert sorted(taken) == list(range(len(sizes)))
    else:
        assert abs(len(taken) - wanted) <= 1


def test_the_largest_are_certain_and_small_ones_weigh_more() -> None:
    taken = sample.draw([1] * 100 + [1000], 11)
    assert taken[100] == 1.0
    # 100 bytes left for 10: one page of ten, each standing for ten.
    assert [weight for item, weight in taken.items() if item != 100] == [10.0] * 10


@pytest.mark.parametrize("form", ["multistream", "xml", "bz2"])
@pytest.mark.parametrize("split_bytes", [1 << 25, 1 << 15])
def test_two_percent_tell_the_size(tmp_path: Path, form: str, split_bytes: int) -> None:
    dump = write_dump(tmp_path, articles=4000, form=form)  # type: ignore[arg-type]
    splits = list(sources.open_source(f"mediawiki:{dump.path}").splits(split_bytes))
    taken = sample.sample_source(splits, 200, Bounds(share=0.02, least=1))
    pages, count, text = truth(splits)
    assert len(taken.pages) == pytest.approx(0.02 * pages, abs=1)
    assert not taken.whole
    assert taken.page_total() == pages
    for true, counted in ((count, passage_count), (text, text_bytes)):
        spread = taken.spread(counted)
        assert spread is not None
        assert 0 < spread < 0.05
        # Within three of its own standard errors, and within 5 % however these came out.
        assert abs(taken.total(counted) / true - 1) < min(0.05, 3 * spread)


def test_a_large_source_is_skimmed_in_pieces(tmp_path: Path) -> None:
    dump = write_dump(tmp_path, articles=4000)
    splits = list(sources.open_source(f"mediawiki:{dump.path}").splits(1 << 15))
    assert len(splits) > 10
    taken = sample.sample_source(splits, 200, skim_bytes=sum(s.size_bytes for s in splits) // 3)
    pages, count, _ = truth(splits)
    assert 0.2 < taken.skimmed_bytes / taken.source_bytes < 0.8
    assert len(taken.pieces) > 5
    spread = taken.spread(passage_count)
    assert spread is not None
    assert spread > 0.01  # far above what the second phase alone would leave
    assert abs(taken.total(passage_count) / count - 1) < 3 * spread
    assert taken.page_total() == pytest.approx(pages, rel=0.1)


def test_a_small_source_is_read_whole(tmp_path: Path) -> None:
    dump = write_dump(tmp_path, articles=60)
    splits = list(sources.open_source(f"mediawiki:{dump.path}").splits(1 << 25))
    taken = sample.sample_source(splits, 200)
    assert taken.whole
    assert (taken.page_total(), taken.total(passage_count), taken.total(text_bytes)) == truth(splits)
    assert taken.spread(passage_count) == 0
    left_out = sum(
        passages.article_words(page) - passages.article_words(articles.part(page)[0])
        for split in splits
        for page in sources.read_split(split)
        if isinstance(page, articles.Article)
    )
    assert taken.total(lambda page: page.left_out_words) == left_out > 0
    kept = sample.sample_source(splits, 200, keep_sections=True)
    assert kept.total(lambda page: page.left_out_words) == 0
    assert sum(row["words"] for page in kept.pages for row in page.rows) == left_out + sum(
        row["words"] for page in taken.pages for row in page.rows
    )


def test_one_piece_cannot_tell_its_spread(tmp_path: Path) -> None:
    """A dump of one bzip2 stream: its head is all that can be skimmed cheaply."""
    dump = write_dump(tmp_path, articles=4000, form="bz2")
    splits = list(sources.open_source(f"mediawiki:{dump.path}").splits(1 << 20))
    assert len(splits) == 1
    taken = sample.sample_source(splits, 200, skim_bytes=splits[0].size_bytes // 4)
    assert taken.scale > 1
    assert taken.spread(passage_count) is None


def test_other_formats_are_skimmed_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = (f'{{"id": {i}, "title": "t{i}", "text": "{"word " * (i % 50 + 1)}"}}' for i in range(2000))
    path.write_text("\n".join(lines) + "\n")
    splits = list(sources.open_source(f"jsonl:{path}").splits(1 << 14))
    taken = sample.sample_source(splits, 200, Bounds(share=0.02, least=1))
    pages, count, text = truth(splits)
    assert taken.page_total() == pages == 2000
    assert len(taken.pages) == 40
    assert taken.total(text_bytes) == pytest.approx(text, rel=0.02)
    assert taken.total(passage_count) == pytest.approx(count, rel=0.2)


def test_a_real_dump(shared_data: Path) -> None:
    path = shared_data / "enwiki/enwiki-pages-articles-excerpt.xml.bz2"
    splits = list(sources.open_source(f"mediawiki:{path}").splits(1 << 25))
    _, count, _ = truth(splits)
    taken = sample.sample_source(splits, 200)
    assert taken.whole
    assert taken.total(passage_count) == count
    # A fifth of its 206 pages: within the spread that it states.
    some = sample.sample_source(splits, 200, Bounds(share=0.2, least=1))
    spread = some.spread(passage_count)
    assert spread is not None
    assert spread < 0.1
    assert abs(some.total(passage_count) / count - 1) < 3 * spread
