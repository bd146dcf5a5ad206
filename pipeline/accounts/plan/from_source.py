"""What a build will need, before anything is written: counts from a sample, and the disk that holds them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from encoders import retriever_folder, retriever_reading
from encoders.memory_encoders import open_encoder
from encoders.opened_t5 import OpenedT5
from encoders.t5_config import T5Config
from encoders.template import PassageTemplate
from encoders.token_encoder import OpenedEncoder, TextReader
from pipeline.accounts import retrievers
from pipeline.accounts.plan import estimate, form, inputs, sample
from pipeline.accounts.plan.calibrate import passage_parquet
from pipeline.accounts.retrievers import RetrieverShape
from pipeline.components import tokens
from pipeline.text.wikitext import own_templates
from pipeline.text.wikitext.own_templates import OwnTemplates
from storage import costs, errors
from storage.components.passages import PART_BYTES

if TYPE_CHECKING:
    from pipeline.components.settings import BuildSettings
    from pipeline.text import sources


def model_of(settings: BuildSettings) -> inputs.Model:
    """The shapes of a build's models, from their configurations; no weight is read."""
    opened = open_encoder(settings.memory_encoder, settings.memory)
    return inputs.Model(
        name=Path(settings.memory_encoder).name or settings.memory_encoder,
        config=encoder_shape(opened),
        memory=opened.memory,
        retriever=retriever_shape(settings.retriever),
        vector_dtype=settings.vector_dtype,
    )


def encoder_shape(opened: OpenedEncoder) -> T5Config | inputs.OtherEncoder:
    """A memory encoder as a cost, from its configuration and the sizes of its tensors."""
    if isinstance(opened, OpenedT5):
        return opened.config
    # What is not known of an architecture counts as if a token met all its weights.
    each = retrievers.token_weights(opened.settings) or opened.weights
    return inputs.OtherEncoder(
        layers=opened.layers_run, width=opened.width, weights=opened.weights, token_weights=each
    )


def retriever_shape(name_or_folder: str) -> RetrieverShape:
    """The shape of a retriever as a cost, from its settings and the sizes of its tensors."""
    folder = retriever_folder.open_folder(name_or_folder)
    sizes = [sum(map(math.prod, folder.shapes(module).values())) for module in folder.modules]
    return RetrieverShape(
        kind=str(folder.transformer.get("model_type")),
        dim=folder.dim,
        weights=sum(sizes),
        token_weights=retrievers.token_weights(folder.transformer),
        text_weights=sum(sizes[1:]),
        max_tokens=folder.max_tokens,
    )


def count_source(taken: sample.Sample, splits: int, settings: BuildSettings) -> inputs.Counts:
    """As `count`, with the tokenizer and the template of a build."""
    opened = open_encoder(settings.memory_encoder, settings.memory)
    return count(taken, splits, tokenizer=opened.tokenizer(), template=settings.memory.template)


def read_by_retriever(taken: sample.Sample, settings: BuildSettings) -> inputs.ReadEstimate | None:
    """A source's tokens as the retriever of a build would read them; None where it is not known."""
    texts = [
        text
        for page in taken.pages
        for text in PassageTemplate(settings.retriever_template).render_rows(page.rows)
    ]
    lengths = retriever_reading.read(retriever_folder.open_folder(settings.retriever), texts)
    return None if lengths is None else _estimate(taken, lengths)


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


def count(taken: sample.Sample, splits: int, *, tokenizer: TextReader, template: str) -> inputs.Counts:
    """A source's counts from its sample.

    Args:
        taken: the sample.
        splits: how many the source has.
        tokenizer: of the memory encoder, with its limit.
        template: a passage's text as the memory encoder reads it.
    """
    texts = [text for page in taken.pages for text in PassageTemplate(template).render_rows(page.rows)]
    tokens = tokenizer(texts)
    lengths = retriever_reading.Lengths.of(tokens)
    counted = _by_page(taken, np.diff(tokenizer.offsets(tokens)))

    def page_passages(page: sample.SampledPage) -> float:
        return len(page.rows)

    def page_tokens(page: sample.SampledPage) -> float:
        return counted[id(page)]

    def page_text(page: sample.SampledPage) -> float:
        return sum(len(row["text"].encode()) for row in page.rows)

    def page_left_out(page: sample.SampledPage) -> float:
        return page.left_out_words

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
        memory_read=_estimate(taken, lengths),
        left_out_words=taken.total(page_left_out),
        spread={
            "pages": 0.0 if taken.scale == 1 else taken.spread(lambda _: 1.0),
            "passages": taken.spread(page_passages),
            "tokens": taken.spread(page_tokens),
            "text_bytes": taken.spread(page_text),
            "left_out_words": taken.spread(page_left_out),
        },
    )


def _by_page(taken: sample.Sample, counts: npt.NDArray[np.integer]) -> dict[int, int]:
    """Sums of what is counted of each passage, by the page's `id`."""
    sums: dict[int, int] = {}
    start = 0
    for page in taken.pages:
        sums[id(page)] = int(counts[start : start + len(page.rows)].sum())
        start += len(page.rows)
    return sums


def _estimate(taken: sample.Sample, lengths: retriever_reading.Lengths) -> inputs.ReadEstimate:
    """What a source has of tokens, from those of the sample's passages."""

    def total(counts: npt.NDArray[np.integer]) -> float:
        sums = _by_page(taken, counts)
        return taken.total(lambda page: sums[id(page)])

    return inputs.ReadEstimate(
        tokens=total(lengths.given),
        passages_cut=total((lengths.cut > 0).astype(np.int64)),
        tokens_cut=total(lengths.cut),
        tokens_unknown=total(lengths.unknown),
    )


def corpus_bytes(
    splits: Sequence[sources.Split], settings: BuildSettings, own: OwnTemplates = own_templates.NONE
) -> costs.CorpusBytes:
    """Bytes that a build of these splits will need; a damaged source shows its error here already."""
    opened = tokens.open_tokenizer(settings)
    taken = sample.sample_source(
        splits,
        settings.passage_words if opened is None else opened.cut,
        keep_sections=settings.keep_sections,
        own=own,
    )
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


def require_room(need: costs.CorpusBytes, folder: Path | None, *, already: int = 0) -> None:
    """Refuse a build that the disk cannot hold.

    Args:
        need: what the whole build takes.
        folder: where it is to lie; its nearest existing parent names the disk. None: an object store, which
            has room.
        already: bytes of it that an interrupted build has written.

    Raises:
        CorpusError: with the bytes needed and free.
    """
    if folder is None:
        return
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
