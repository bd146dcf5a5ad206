"""What a build needs, estimated from a sample, against what it then takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.miniwiki.export import write_dump
from pipeline import articles, passages, plan, sources
from storage import costs, errors


def truth(splits: list[sources.Split]) -> tuple[int, int]:
    found = [
        passage
        for split in splits
        for page in sources.read_split(split)
        if isinstance(page, articles.Article)
        for passage in passages.passages(page)
    ]
    return len(found), sum(len(passage.text.encode()) for passage in found)


@pytest.mark.parametrize(
    ("form", "articles_wanted", "split_bytes", "within"),
    [
        ("multistream", 120, 1 << 25, 0.0),  # smaller than a sample: read whole
        ("multistream", 2000, 1 << 25, 0.35),
        ("multistream", 2000, 1 << 15, 0.35),
        ("xml", 2000, 1 << 17, 0.35),
        ("bz2", 2000, 1 << 25, 0.5),  # one stream: only its head can be sampled, and it differs
    ],
)
def test_a_sample_tells_the_size(
    tmp_path: Path, form: str, articles_wanted: int, split_bytes: int, within: float
) -> None:
    dump = write_dump(tmp_path, articles=articles_wanted, form=form)  # type: ignore[arg-type]
    splits = list(sources.open_source(f"mediawiki:{dump.path}").splits(split_bytes))
    sample = plan.sample_source(splits, 200)
    total = sum(split.size_bytes for split in splits)
    count, text_bytes = truth(splits)
    assert sample.scaled(sample.passages, total) == pytest.approx(count, rel=within + 1e-9)
    assert sample.scaled(sample.text_bytes, total) == pytest.approx(text_bytes, rel=within + 1e-9)


def test_a_real_dump_is_told(shared_data: Path) -> None:
    path = shared_data / "enwiki/enwiki-pages-articles-excerpt.xml.bz2"
    splits = list(sources.open_source(f"mediawiki:{path}").splits(1 << 25))
    sample = plan.sample_source(splits, 200)
    assert sample.scaled(sample.passages, splits[0].size_bytes) == pytest.approx(truth(splits)[0], rel=0.35)


def test_need_is_the_sum_of_its_parts() -> None:
    need = costs.disk_need(
        passages=1000, tokens=200_000, text_bytes=1e6, dim=768, vector_bytes=4, token_bytes=1536
    )
    assert need.memory == round(200_000 * 1536 * 1.02)
    assert need.index == 1000 * 768 * 4
    assert need.total == need.memory + need.vectors + need.index + need.passages


def test_what_is_on_the_disk_already_is_not_needed_again(tmp_path: Path) -> None:
    need = costs.DiskNeed(passages=0, vectors=0, index=0, memory=1 << 60)
    with pytest.raises(errors.CorpusError, match="free some"):
        plan.require_room(need, tmp_path / "not/yet/there")
    plan.require_room(need, tmp_path, already=1 << 60)
