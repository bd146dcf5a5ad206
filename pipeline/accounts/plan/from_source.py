"""What a build will need, before anything is written: counts from a sample, and the disk that holds them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from encoders import model_folder, weights
from encoders.retriever import retriever_config, retriever_dim
from encoders.t5_config import T5Config
from encoders.template import PassageTemplate
from encoders.tokenizing import Tokenizer
from pipeline.accounts.plan import estimate, form, inputs, sample
from pipeline.accounts.plan.calibrate import passage_parquet
from pipeline.components import tokens
from storage import costs, errors
from storage.components.passages import PART_BYTES

if TYPE_CHECKING:
    from pipeline.components.settings import BuildSettings
    from pipeline.text import sources


class RetrieverShape(TypedDict, total=False):
    """Keywords of `inputs.Model`; none where GTR-Base is counted."""

    retriever: T5Config
    dim: int


def model_of(settings: BuildSettings) -> inputs.Model:
    """The shapes of a build's models, from their configurations; no weight is read."""
    return inputs.Model(
        name=Path(settings.memory_encoder).name or settings.memory_encoder,
        config=encoder_shape(settings.memory_encoder),
        memory=settings.memory,
        **retriever_shape(settings.retriever),
        vector_dtype=settings.vector_dtype,
    )


def encoder_shape(name_or_folder: str) -> T5Config:
    """The shape of a memory encoder, from its configuration."""
    return weights.read_config(model_folder.resolve(name_or_folder))


def retriever_shape(name_or_folder: str) -> RetrieverShape:
    """The shape of a retriever and the length of its vectors, as `Model` takes them."""
    return {"retriever": retriever_config(name_or_folder), "dim": retriever_dim(name_or_folder)}


def count_source(taken: sample.Sample, splits: int, settings: BuildSettings) -> inputs.Counts:
    """As `count`, with the tokenizer and the template of a build."""
    tokenizer = Tokenizer(
        model_folder.resolve(settings.memory_encoder), max_tokens=settings.memory.max_tokens
    )
    return count(taken, splits, tokenizer=tokenizer, template=settings.memory.template)


def basis(taken: sample.Sample, settings: BuildSettings) -> form.Basis:
    """Where a plan's counts come from, for its reader."""
    pieces = len(taken.pieces)
    skimmed = f"{taken.skimmed_pages:,} pages of {pieces:,} piece{'' if pieces == 1 else 's'} counted"
    if taken.scale > 1:
        skimmed += f" ({taken.skimmed_bytes / taken.source_bytes:.2%} of the source)"
    converted = f"{len(taken.pages):,} of them converted"
    return {
        "kind": "sample",
        "words": f"{', '.join(settings.sources)}: {skimmed}, {converted}"
        + (", the whole source" if taken.whole else "; ± is a standard error"),
        "sources": list(settings.sources),
        "source_bytes": taken.source_bytes,
        "skimmed_bytes": taken.skimmed_bytes,
        "pieces": len(taken.pieces),
        "skimmed_pages": taken.skimmed_pages,
        "converted_pages": len(taken.pages),
        "whole": taken.whole,
    }


def count(taken: sample.Sample, splits: int, *, tokenizer: Tokenizer, template: str) -> inputs.Counts:
    """A source's counts from its sample.

    Args:
        taken: the sample.
        splits: how many the source has.
        tokenizer: of the memory encoder, with its limit.
        template: a passage's text as the memory encoder reads it.
    """
    texts = [text for page in taken.pages for text in PassageTemplate(template).render_rows(page.rows)]
    lengths = tokenizer(texts).lengths.tolist() if texts else []
    counted: dict[int, int] = {}
    for page in taken.pages:
        counted[id(page)] = sum(lengths[: len(page.rows)])
        del lengths[: len(page.rows)]

    def page_passages(page: sample.SampledPage) -> float:
        return len(page.rows)

    def page_tokens(page: sample.SampledPage) -> float:
        return counted[id(page)]

    def page_text(page: sample.SampledPage) -> float:
        return sum(len(row["text"].encode()) for row in page.rows)

    text_bytes = taken.total(page_text)
    ratio, _ = passage_parquet(taken)
    # A part has some thousand bytes of its own, whatever it holds.
    parts = min(splits, max(1, round(taken.total(page_passages))))
    return inputs.Counts(
        pages=taken.page_total(),
        passages=max(1.0, taken.total(page_passages)),
        tokens=max(1.0, taken.total(page_tokens)),
        text_bytes=text_bytes,
        passage_bytes=text_bytes * ratio + parts * PART_BYTES,
        parts=parts,
        spread={
            "pages": 0.0 if taken.scale == 1 else taken.spread(lambda _: 1.0),
            "passages": taken.spread(page_passages),
            "tokens": taken.spread(page_tokens),
            "text_bytes": taken.spread(page_text),
        },
    )


def corpus_bytes(splits: Sequence[sources.Split], settings: BuildSettings) -> costs.CorpusBytes:
    """Bytes that a build of these splits will need; a damaged source shows its error here already."""
    opened = tokens.open_tokenizer(settings)
    taken = sample.sample_source(splits, settings.passage_words if opened is None else opened.cut)
    return estimate.corpus_bytes(
        count_source(taken, len(splits), settings),
        model_of(settings),
        settings.codec,
        shard_passages=settings.shard_passages,
        chunks=None if opened is None else inputs.Chunks.of(opened),
    )


def free_bytes(folder: Path) -> tuple[Path, int]:
    """The nearest existing parent of a folder, and the bytes free on its disk."""
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    return existing, shutil.disk_usage(existing).free


def require_room(need: costs.CorpusBytes, folder: Path, *, already: int = 0) -> None:
    """Refuse a build that the disk cannot hold.

    Args:
        need: what the whole build takes.
        folder: where it is to lie; its nearest existing parent names the disk.
        already: bytes of it that an interrupted build has written.

    Raises:
        CorpusError: with the bytes needed and free.
    """
    existing, free = free_bytes(folder)
    missing = need.peak - already
    if missing > free:
        tokens_told = f"tokens {need.tokens:,}, " if need.tokens else ""
        raise errors.CorpusError(
            f"the disk of {existing} has {free:,} bytes free, the corpus needs about {missing:,} "
            f"(memory {need.memory:,}, vectors {need.vectors:,}, index {need.index:,}, "
            f"{tokens_told}"
            f"passages {need.passages:,}, cards and lists {need.overhead:,}, while it is built "
            f"{need.temporary:,}); free some, or build on another disk"
        )
