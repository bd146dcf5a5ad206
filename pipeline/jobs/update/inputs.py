"""What an update is made of, opened and checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from encoders import fingerprint
from encoders.retriever import SENTENCE_TRANSFORMERS
from pipeline.components.base import built_with
from pipeline.components.settings import MAX_QUARANTINED, SPLIT_BYTES, BuildSettings
from pipeline.components.vectors import BACKEND
from pipeline.jobs import job, opened
from pipeline.jobs.opened import Opened
from pipeline.jobs.update import bring, changes
from pipeline.jobs.update.bring import Chosen, Wanted
from storage import components, errors, segments
from storage.aliases import Json
from storage.fields import Fields
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.generations import folder_of
from storage.manifest import Manifest
from storage.segments import Segment
from storage.writer.plan import WRITER

# Of the passages before, at most so many may go, or the source is taken for a part of a dump.
MAX_VANISHED: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class UpdateSettings:
    """What an update is told; all else is as the corpus was built.

    Attributes:
        sources: FORMAT:PATH each: a whole dump, or JSON lines of changes by page.
        versions: which memory versions are brought forward: `bring.NAMED` or `bring.CURRENT`.
        retriever, memory_encoder, tokenizer: where these are, if not where the build found them; the
            encoder is the current version's.
        templates: the file of the wiki's own templates, if the corpus was built with one.
        max_vanished: share of the passages that may go; a dump that lacks more is taken for none.
        split_bytes, max_quarantined, shard_timeout, device, model_parallel: as in `BuildSettings`.
    """

    sources: tuple[str, ...]
    versions: str = bring.NAMED
    retriever: str | None = None
    memory_encoder: str | None = None
    tokenizer: str | None = None
    templates: str | None = None
    max_vanished: float = MAX_VANISHED
    split_bytes: int = SPLIT_BYTES
    max_quarantined: float = MAX_QUARANTINED
    shard_timeout: float | None = None
    device: str | None = None
    model_parallel: int | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise errors.CorpusError("no source given; add --source FORMAT:PATH")
        if self.versions not in bring.CHOICES:
            raise errors.CorpusError(f"versions is {self.versions!r}, wanted {' or '.join(bring.CHOICES)}")
        if not 0 <= self.max_vanished <= 1:
            raise errors.CorpusError(f"max vanished is {self.max_vanished}, wanted a share from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A corpus as it is found, and what is to be made of it.

    Attributes:
        found: its manifest; another one later means that another job was here.
        segments: those there are; `home` is the build's.
        number, prefix: of the new generation, and its folder below the corpus.
        chosen: memory versions that are brought forward.
        built: the settings of a build that would make the new passages; `opened` is what they name.
        changes: by page; None: the source is a whole dump.
        identity: the plan of the job, which a rerun must agree with.
    """

    corpus: CorpusFolder
    settings: UpdateSettings
    found: Manifest
    segments: tuple[Segment, ...]
    number: int
    prefix: str
    chosen: Chosen
    built: BuildSettings
    opened: Opened
    changes: changes.Changes | None
    identity: Json

    @property
    def home(self) -> Segment:
        return self.segments[0]

    @property
    def given(self) -> int:
        """Ids that were given until now."""
        return segments.ids_given(self.segments)

    @property
    def vectors_fingerprint(self) -> str:
        return next(iter(self.found.of(components.VECTORS)))

    @property
    def is_done(self) -> bool:
        """Was this very source the last that was read?"""
        last = self.found.generations[-1].sources if self.found.generations else self.found.sources
        return bool(list(last) == self.opened.identity["sources"])

    def own(self, cards: Mapping[str, Mapping[str, FileEntry]]) -> Manifest:
        """The manifest of the new segment, as far as it is written."""
        return replace(
            self.found,
            sources=tuple(self.opened.identity["sources"]),
            cards={c.noun: dict(cards.get(c.noun, {})) for c in components.TABLE},
            aliases={},
            generations=(),
            compacted=None,
        )

    def segment(self, cards: Mapping[str, Mapping[str, FileEntry]]) -> CorpusFolder:
        """The folder of the new segment, as a corpus of these cards."""
        folder = self.corpus.segment(self.prefix, self.own(cards))
        folder.root.mkdir(parents=True, exist_ok=True)
        return folder


def open_inputs(corpus: CorpusFolder, settings: UpdateSettings) -> Inputs:
    """What is there, and what is wanted of it; nothing is written.

    Raises:
        CorpusError: a source or a model that cannot be read; a corpus that has no update.
        MismatchError: a model, or the templates, are not those that the corpus was built with.
    """
    found, every = corpus.manifest, segments.of(corpus)
    if WRITER in found.built:
        raise errors.CorpusError(
            f"the passages of {corpus} were given to a writer, not read of a source: they have no update"
        )
    number = found.generation + 1
    chosen, built = choose(corpus, settings, every)
    inputs = opened.open_inputs(built)
    _require_same(found, every[0], built, inputs)
    return Inputs(
        corpus=corpus,
        settings=settings,
        found=found,
        segments=every,
        number=number,
        prefix=folder_of(number),
        chosen=chosen,
        built=built,
        opened=inputs,
        changes=changes.read(inputs.sources),
        identity={
            job.GENERATION: number,
            "sources": inputs.identity["sources"],
            "settings": {
                name: value
                for name, value in inputs.identity["settings"].items()
                if name not in ("codec", "shard_passages")
            },
            "versions": [wanted.version for wanted in chosen.versions],
        },
    )


def choose(
    corpus: CorpusFolder, settings: UpdateSettings, every: tuple[Segment, ...]
) -> tuple[Chosen, BuildSettings]:
    """The memory versions that are brought forward, and the settings of a build of the new passages."""
    chosen = bring.choose(
        every[0],
        corpus.manifest,
        which=settings.versions,
        memory_encoder=settings.memory_encoder,
        device=settings.device,
        model_parallel=settings.model_parallel,
        last=every[-1],
    )
    return chosen, build_settings(corpus, settings, chosen.versions[0])


def build_settings(corpus: CorpusFolder, settings: UpdateSettings, primary: Wanted) -> BuildSettings:
    """The settings of a build that would make the new passages."""
    built = Fields(corpus.manifest.built, "the build's settings")
    chunks = "passage_tokens" in built
    home = segments.of(corpus)[0].folder
    assert primary.model is not None
    cutting: Json = {}
    if chunks:
        cutting = {
            "passage_tokens": built.integer("passage_tokens"),
            "tokenizer": settings.tokenizer or built_with(home, "tokenizer"),
        }
    else:
        cutting = {"passage_words": built.integer("passage_words")}
    return BuildSettings(
        sources=settings.sources,
        retriever=settings.retriever or built_with(home, "retriever"),
        memory_encoder=primary.model.name,
        memory=primary.memory,
        codec=primary.codec.name,
        # Corpora of before sections were left out have them.
        keep_sections=built.boolean("keep_sections") if "keep_sections" in built else True,
        templates=settings.templates,
        retriever_template=built.text("retriever_template"),
        vector_dtype=built.text("vector_dtype"),
        retriever_backend=built.text(BACKEND) if BACKEND in built else SENTENCE_TRANSFORMERS,
        split_bytes=settings.split_bytes,
        max_quarantined=settings.max_quarantined,
        shard_timeout=settings.shard_timeout,
        device=settings.device or "all",
        model_parallel=settings.model_parallel,
        **cutting,
    )


def _require_same(found: Manifest, home: Segment, built: BuildSettings, inputs: Opened) -> None:
    """
    Raises:
        MismatchError: a model, or the templates, are not those that the corpus was built with.
    """
    for fingerprint_ in found.of(components.VECTORS):
        card = home.card(components.VECTORS, fingerprint_)
        if inputs.retriever.hex != card.encoder_fingerprint:
            other = fingerprint.differences(card.encoder, inputs.retriever.description)
            raise errors.MismatchError(
                f"retriever {built.retriever} is not the one that the corpus was built with: they "
                f"differ in {', '.join(other[:3])}; name the folder of that one by --retriever"
            )
    cutter = inputs.tokenizer
    if cutter is not None:
        stored = home.card(components.TOKENS)
        if cutter.fingerprint.hex != stored.tokenizer:
            raise errors.MismatchError(
                f"tokenizer {built.tokenizer} is not the one that cut the corpus's passages; name "
                "the folder of that one by --tokenizer"
            )
    digest = found.built.get("templates")
    if inputs.own.digest != digest:
        raise errors.MismatchError(
            "the corpus was built with other templates of the wiki's own "
            f"({'none' if digest is None else str(digest)[:16]}); give the same file by --templates"
        )
