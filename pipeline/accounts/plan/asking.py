"""From what is asked to a plan: prices are looked up, a source is sampled, this machine is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from encoders import memory_spec
from encoders.document_tokenizer import DocumentTokenizer
from encoders.memory_encoders import T5, kind_of, open_encoder
from encoders.token_encoder import OpenedEncoder
from pipeline.accounts import flops, prices, retrievers
from pipeline.accounts.plan import calibrate, estimate, form, from_source, inputs, planning, sample
from pipeline.components import settings as build_settings
from pipeline.components import tokens
from pipeline.text import passages as text_passages
from pipeline.text import sources
from storage import errors
from storage.components.neighbours import NeighboursLayout


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanSettings:
    """What is asked of a plan: a source, or counts; models; machines; questions.

    Attributes:
        sources: FORMAT:PATH each, of which a sample is read, ...
        sample: ... this share of the pages; None: 2 %, and 400 to 4,000 pages.
        passages, tokens_per_passage, text_bytes: in place of sources; bytes of the whole text, None for 3.3
            a token.
        memory_encoder: name or folder of a model, of any kind of `encoders.token_encoder`, whose tokenizer
            counts a source's tokens.
        memory_layers: of an encoder that is no T5: whose states are stored; None: the last's.
        sizes: published sizes beside it or in place of it.
        retriever: name or folder; None: counted as GTR-Base.
        live_proportions: α, several for rows side by side.
        codecs: likewise; "all" stands for every one that is known.
        max_tokens: tokens kept of a passage.
        passage_words: words of a passage, at most.
        keep_sections: count passages of sections that are no prose too, as a build with it makes them.
        templates: TOML file of templates of the wiki's own.
        passage_tokens: tokens of a chunk, where passages are cut by tokens.
        tokenizer: that cuts a source; None with counts: T5's vocabulary.
        neighbours: k of a table of neighbours; None: no table.
        probes: lists of the index that its search looks into; None: as the index has it.
        shard_passages: passages a shard; None: as a build sizes them.
        device: accelerator of the build, by its name in the price list; None: this machine is measured.
        workers: processes, with an accelerator each.
        utilisation: share of the accelerator's peak that is reached.
        storage: class of storage that the corpus is written to.
        out: corpus folder, whose disk must have the room.
        calibrate: whether to measure this machine; None: where both models are given, and no device.
        retrieved, selected: passages a question retrieves, and GLIMMER keeps.
        months: for how long the memory is kept.
        price_file: TOML of prices and devices in place of the built-in ones.
    """

    sources: tuple[str, ...] = ()
    sample: float | None = None
    passages: float | None = None
    tokens_per_passage: float | None = None
    text_bytes: float | None = None
    memory_encoder: str | None = None
    memory_layers: str | None = None
    sizes: tuple[str, ...] = ()
    retriever: str | None = None
    live_proportions: tuple[str, ...] = (str(memory_spec.LIVE_PROPORTION),)
    codecs: tuple[str, ...] = ("bfloat16",)
    max_tokens: int = memory_spec.MAX_TOKENS
    passage_words: int = text_passages.PASSAGE_WORDS
    keep_sections: bool = False
    templates: str | None = None
    passage_tokens: int | None = None
    tokenizer: str | None = None
    neighbours: int | None = None
    probes: int | None = None
    shard_passages: int | None = None
    device: str | None = None
    workers: int = 1
    utilisation: float = 0.4
    storage: str = "local-disk"
    out: Path | None = None
    calibrate: bool | None = None
    retrieved: int = 25
    selected: int = 5
    months: float = 12.0
    price_file: Path | None = None

    def __post_init__(self) -> None:
        if bool(self.sources) == (self.passages is not None):
            raise errors.CorpusError(
                "give either --source FORMAT:PATH, or --passages and --tokens-per-passage"
            )
        if self.passages is not None and self.tokens_per_passage is None:
            raise errors.CorpusError("--passages goes with --tokens-per-passage; give both")
        if self.sample is not None and not 0 < self.sample <= 1:
            raise errors.CorpusError(f"sample is {self.sample}, wanted a share above 0 and up to 1")
        if self.neighbours is not None:
            NeighboursLayout.sized(passages=1, k=self.neighbours, score_dtype="float32")  # refuses k
        if self.probes is not None and (self.neighbours is None or self.probes < 1):
            raise errors.CorpusError(f"probes is {self.probes}: wanted 1 or more, and --neighbours K with it")

    @classmethod
    def load(cls, given: Mapping[str, Any]) -> PlanSettings:
        """Of keywords by hand, where one thing may stand for several, and a text for a path or a fraction."""
        values = dict(given)
        for field in fields(cls):
            value, kind = values.get(field.name), str(field.type)
            if value is None:
                continue
            if kind.startswith("tuple"):
                several = (value,) if isinstance(value, str | Fraction) else value
                values[field.name] = tuple(map(str, several))
            elif kind.startswith("Path"):
                values[field.name] = Path(value)
        return cls(**values)


def plan(settings: PlanSettings) -> form.Plan:
    """The plan as JSON; docs/plan.schema.json has its shape.

    Raises:
        CorpusError: an unknown codec, device or storage class, numbers that fit no corpus, a source that is
            not there or damaged.
        EncoderError: α gives no whole number of layers, or a model's folder holds none.
    """
    listed = prices.read(settings.price_file)
    # All that can be refused at once is, before a long sample is read.
    models = _models(settings)
    names = estimate.codec_names()
    wanted = [name for one in settings.codecs for name in (names if one == "all" else (one,))]
    for name in wanted:
        planning.check_codec(name)
    device = listed.device(settings.device) if settings.device else None
    storage = listed.storage_class(settings.storage)
    free = None if settings.out is None else from_source.free_bytes(settings.out)[1]

    def machines(rates: inputs.Rates | None) -> inputs.Machines:
        return inputs.Machines(
            workers=settings.workers,
            storage=storage,
            device=device,
            utilisation=settings.utilisation,
            rates=rates,
            free_bytes=free,
        )

    rates = None
    if settings.sources:
        measure = settings.calibrate
        if measure is None:
            measure = device is None and bool(settings.retriever)
        if device is None and not measure:
            machines(None)  # says what is missing
        counts, basis, rates = _from_source(settings, wanted[0], measure)
    else:
        counts, basis = _given(settings)
    return planning.plan_report(
        planning.Asked(
            counts=counts,
            basis=basis,
            models=models,
            codecs=list(dict.fromkeys(wanted)),
            machines=machines(rates),
            prices=listed,
            shard_passages=settings.shard_passages,
            chunks=_chunks(settings),
            neighbours=None
            if settings.neighbours is None
            else inputs.Neighbours(k=settings.neighbours, probes=settings.probes),
            retrieved=settings.retrieved,
            selected=settings.selected,
            months=settings.months,
        )
    )


def _chunks(settings: PlanSettings) -> inputs.Chunks | None:
    """How passages are cut, if by tokens."""
    if settings.passage_tokens is None:
        if settings.tokenizer is not None:
            raise errors.CorpusError("--tokenizer cuts passages of --passage-tokens; give both, or neither")
        return None
    if settings.tokenizer is None:
        return inputs.Chunks(passage_tokens=settings.passage_tokens)
    size = DocumentTokenizer(settings.tokenizer).vocabulary
    return inputs.Chunks(passage_tokens=settings.passage_tokens, vocabulary=size)


def _memories(settings: PlanSettings) -> list[memory_spec.MemorySpec]:
    """One for every live proportion, which are T5's."""
    default = memory_spec.MemorySpec()
    return [
        default.changed({"live_proportion": alpha, "max_tokens": settings.max_tokens})
        for alpha in settings.live_proportions
    ]


def _openings(settings: PlanSettings) -> list[OpenedEncoder]:
    """The memory encoder that is named, with each of its memories."""
    folder = settings.memory_encoder
    if not folder:
        return []
    layers = {} if settings.memory_layers is None else {"memory_layers": settings.memory_layers}
    memories = [memory.changed(layers) for memory in _memories(settings)]
    if kind_of(folder) != T5:
        memories = [replace(memories[0], live_proportion=None)]
    return [open_encoder(folder, memory) for memory in memories]


def _models(settings: PlanSettings) -> list[inputs.Model]:
    """Every size or folder with every live proportion."""
    folder = settings.memory_encoder
    if not folder and not settings.sizes:
        raise errors.CorpusError(f"no model given; add --memory-encoder FOLDER, or --size {flops.SIZES}")
    retriever = retrievers.GTR_BASE
    if settings.retriever:
        retriever = from_source.retriever_shape(settings.retriever)
    ways = [
        (Path(str(folder)).name or str(folder), from_source.encoder_shape(opened), opened.memory)
        for opened in _openings(settings)
    ]
    ways += [(name, flops.size(name), memory) for name in settings.sizes for memory in _memories(settings)]
    made = [
        inputs.Model(name=name, config=config, memory=memory, retriever=retriever)
        for name, config, memory in ways
    ]
    for model in made:
        _ = model.layers  # α must give whole layers
    return made


def _from_source(
    settings: PlanSettings, codec: str, measure: bool
) -> tuple[inputs.Counts, form.Basis, inputs.Rates | None]:
    """Counts of the sources from a sample, where they come from in words, and rates if wanted."""
    if not settings.memory_encoder:
        raise errors.CorpusError(
            "tokens of a source are counted by the memory encoder's tokenizer; add --memory-encoder"
        )
    built = build_settings.BuildSettings(
        sources=settings.sources,
        retriever=settings.retriever or "",
        memory_encoder=settings.memory_encoder,
        memory=_openings(settings)[0].memory,
        codec=codec,
        passage_words=settings.passage_words,
        keep_sections=settings.keep_sections,
        templates=settings.templates,
        passage_tokens=settings.passage_tokens,
        tokenizer=settings.tokenizer,
        shard_passages=settings.shard_passages,
    )
    own = built.own_templates()
    splits = [
        split for source in sources.open_sources(built.sources) for split in source.splits(built.split_bytes)
    ]
    # A share that was asked for is kept to, however few pages it is.
    share = settings.sample
    bounds = sample.Bounds() if share is None else sample.Bounds(share=share, least=1, most=None)
    opened = tokens.open_tokenizer(built)
    taken = sample.sample_source(
        splits,
        built.passage_words if opened is None else opened.cut,
        bounds,
        keep_sections=built.keep_sections,
        own=own,
    )
    counts = from_source.count_source(taken, len(splits), built)
    if settings.retriever:
        counts = replace(counts, retriever_read=from_source.read_by_retriever(taken, built))
    rates = calibrate.calibrate(taken, built, passages=counts.passages) if measure else None
    return counts, from_source.basis(taken, built), rates


def _given(settings: PlanSettings) -> tuple[inputs.Counts, form.Basis]:
    assert settings.passages is not None
    assert settings.tokens_per_passage is not None
    tokens = settings.passages * settings.tokens_per_passage
    text = inputs.BYTES_PER_TOKEN * tokens if settings.text_bytes is None else settings.text_bytes
    counts = inputs.Counts(passages=settings.passages, tokens=tokens, text_bytes=text)
    return counts, {"kind": "counts", "words": "counts as given"}
