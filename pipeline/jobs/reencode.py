"""`reencode`: a new memory version beside those that are there; passages, vectors and index stay."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from encoders import fingerprint, memory_encoders
from encoders.memory_spec import MemorySpec
from encoders.retro import folder as retro_folder
from encoders.retro import memory as retro_memory
from pipeline.accounts.plan import from_source
from pipeline.components.memory import encode, recode
from pipeline.components.memory import version as memory_version
from pipeline.components.memory.version import CommitMemory, MemoryPlan
from pipeline.components.settings import ALL_DEVICES, check_devices
from pipeline.jobs import commit, job
from pipeline.readers.retro import opening
from pipeline.units import engines, progress
from pipeline.units.engines import Engine
from pipeline.units.stages import Stages
from retrieval.corpus import Corpus
from storage import (
    codec_parameters,
    codecs,
    components,
    costs,
    errors,
    manifest,
    memory_store,
    segments,
)
from storage.aliases import Json
from storage.components import memory as memory_component
from storage.components.memory import version_name
from storage.fields import Fields
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.manifest import Manifest
from storage.segments import Segment
from storage.writer.plan import WRITER

# A name that cannot be taken for a path, an option, or a version (16 hexadecimal digits).
_ALIAS: Final = re.compile(r"(?![0-9a-f]{16}\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RESERVED: Final = (manifest.CURRENT, manifest.PREVIOUS)


@dataclass(frozen=True, kw_only=True)
class ReencodeSettings:
    """What is to be other than before. What is None is as the corpus was built.

    Attributes:
        memory_encoder: name or folder of a model, of any kind of `encoders.token_encoder`; None with
            `origin`.
        origin: version or alias to recode from, without an encoder.
        name: an alias for the new version.
        memory: those of `memory_spec.SETTINGS` that are to be other. With a reader's folder for an encoder,
            what is not among them is as that reader wants its memory.
        codec: as in `BuildSettings`; a reader's own codec where its folder is the encoder, with the codebooks
            that it was trained with.
        shard_passages, shard_timeout, device, model_parallel: as in `BuildSettings`.
    """

    memory_encoder: str | None = None
    origin: str | None = None
    name: str | None = None
    codec: str | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    shard_passages: int | None = None
    shard_timeout: float | None = None
    device: str | None = None
    model_parallel: int | None = None

    def __post_init__(self) -> None:
        if (self.memory_encoder is None) == (self.origin is None):
            raise errors.CorpusError(
                "give either --memory-encoder, to encode again, or --from, to recode a version"
            )
        if self.origin is not None and self.memory:
            raise errors.CorpusError(
                f"{next(iter(self.memory))} cannot be changed by recoding: --from keeps what the encoder gave"
            )
        if self.origin is not None and (self.device, self.model_parallel) != (None, None):
            raise errors.CorpusError("recoding runs no encoder: leave out --device and --model-parallel")
        check_devices(self.device or ALL_DEVICES, self.model_parallel)
        MemorySpec().changed(self.memory)
        if self.shard_passages is not None and self.shard_passages < 1:
            raise errors.CorpusError(f"shard_passages is {self.shard_passages}, wanted 1 or more")
        if self.shard_timeout is not None and not self.shard_timeout > 0:
            raise errors.CorpusError(f"shard_timeout is {self.shard_timeout}, wanted more than 0 seconds")
        if self.name is not None:
            check_alias(self.name)
        if self.codec is not None:
            codecs.by_name(self.codec)


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """What is to be written, and what writes it.

    Attributes:
        identity: the plan of the job, which a rerun must agree with.
        where: what statistics keep of where it came from.
        corpus: that gets the version.
        shard_passages: as it was asked for.
    """

    plan: MemoryPlan
    shards: encode.EncodeShards | recode.RecodeShards
    identity: Json
    where: dict[str, str]
    corpus: CorpusFolder
    shard_passages: int | None


def check_alias(name: str, what: str = "version") -> None:
    """Refuse names that versions, or `what` else, cannot have."""
    if not _ALIAS.fullmatch(name) or name in RESERVED:
        raise errors.CorpusError(
            f"{what} name {name!r} is not allowed: wanted 1 to 64 letters, digits, dots, dashes or "
            f"underscores, but no {what}'s own name, and not {' or '.join(RESERVED)}"
        )


def reencode(
    corpus: CorpusFolder,
    settings: ReencodeSettings,
    *,
    use: bool = False,
    engine: Engine | None = None,
    observer: progress.Observer | None = None,
) -> tuple[job.Outcome, str]:
    """Add a memory version, or finish one that was interrupted.

    Args:
        corpus: a finished one.
        settings: how the new version differs.
        use: make it the current one when it is done.
        engine: deals the units out to workers; None: this process.
        observer: shown the progress.

    Returns:
        The outcome, and the version's name.

    Raises:
        CorpusError: bad input; the corpus is untouched.
        engines.WorkerDied: a worker process was killed; the same call goes on from there.
    """
    started = time.monotonic()
    job.check_names()
    stages = Stages(corpus, engine or engines.chosen(), observer)
    opened = _open(corpus, settings)
    version = opened.plan.version
    _check_name(corpus, settings.name, version)
    if corpus.manifest.generations:
        job.require_local(corpus, "re-encoding what was updated")
    with corpus.alone():
        # What another job may have done before this one got the lock.
        corpus.refresh()
        _check_name(corpus, settings.name, version)
        lacking = [part for part in segments.of(corpus) if _lacks(part, opened)]
        if already := not lacking:
            plan = corpus.work.read_plan()
            ours = plan is not None and not fingerprint.differences(plan, opened.identity)
            if ours or corpus.work.is_empty():
                job.clear_finished(corpus)
            new = corpus.manifest
        else:
            resumed = _begin(corpus, opened, lacking)
            made = {part.number: _make(stages, part, opened, resumed=resumed) for part in lacking}
            new = _with_version(corpus.manifest, made)
        if settings.name is not None:
            new = replace(new, aliases={**new.aliases, settings.name: version})
        if use:
            new = new.switched(version)
        if new != corpus.manifest:
            corpus.write_manifest(new)
        if not already:
            job.clear(corpus)
    return job.Outcome(corpus=corpus, already=already, seconds=time.monotonic() - started), version


def _lacks(part: Segment, opened: _Opened) -> bool:
    """Is the version to be written there? Not where what it is recoded from was left behind."""
    there = part.manifest.of(components.MEMORY)
    origin = opened.plan.origin
    can_be = origin is None or version_name(origin) in there
    return opened.plan.version not in there and can_be


def _make(stages: Stages, part: Segment, opened: _Opened, *, resumed: bool) -> dict[str, FileEntry]:
    """Write the version's memory of a segment. Returns the entry of its card, by the version's name."""
    corpus, version = part.folder, opened.plan.version
    if resumed:
        there = commit.written(corpus, [(components.MEMORY, version)], version)
        if there is not None:
            return there[components.MEMORY.noun]
    plan, shards = opened.plan, opened.shards
    if part.number or corpus is not shards.corpus:
        layout = memory_store.MemoryLayout.sized(
            passages=part.passages,
            width=plan.layout.width,
            max_tokens=plan.layout.max_tokens,
            codec=plan.layout.codec,
            shard_passages=opened.shard_passages,
        )
        cut = {}
        if plan.origin is not None:
            counts = part.card(components.MEMORY, version_name(plan.origin)).counts.to_json()
            cut = {name: count for name, count in counts.items() if name in plan.cut}
        plan = replace(plan, layout=layout, cut=cut)
        if isinstance(shards, encode.EncodeShards):
            parts = part.card(components.PASSAGES).parts
            shards = replace(shards, corpus=corpus, parts=parts, memory=layout)
        else:
            shards = replace(shards, corpus=corpus, memory=layout)
    if part.number and plan.layout.codec.trained:
        # Those of the build's segment, which comes first: rows of all segments are read by the same.
        home = next(iter(segments.homes(opened.corpus))).folder
        codec = plan.layout.codec
        parameters = codec_parameters.load(home.path(plan.folder), codec, plan.layout.width)
        plan = replace(plan, parameters=parameters)
    own = Stages(corpus, stages.engine, stages.observer)
    memory_version.make(own, plan, shards)
    with commit.clearing(corpus):
        cards = commit.commit(
            own,
            (CommitMemory(corpus, plan),),
            run=version,
            version=version,
            resumed=resumed,
            **opened.where,
        )
    return cards[components.MEMORY.noun]


def _with_version(found: Manifest, made: Mapping[int, Mapping[str, FileEntry]]) -> Manifest:
    """A manifest with a version's cards, by the generation that they are of."""
    memory = components.MEMORY
    if 0 in made:
        found = found.with_cards(memory, {**found.of(memory), **made[0]})
    generations = tuple(
        replace(g, cards={**g.cards, memory.noun: {**g.of(memory), **made[g.number]}})
        if g.number in made
        else g
        for g in found.generations
    )
    return replace(found, generations=generations)


def _check_name(corpus: CorpusFolder, name: str | None, version: str) -> None:
    """Refuse to move a name that another version has."""
    aliases = corpus.manifest.aliases
    if name is not None and aliases.get(name, version) != version:
        raise errors.CorpusError(
            f"name {name!r} is version {aliases[name]} already; take another, or "
            f"`memcorpus use --alias {name}` to move it"
        )


def _begin(corpus: CorpusFolder, opened: _Opened, lacking: Sequence[Segment]) -> bool:
    """Lay down the plan; True where an interrupted run of the same is gone on with."""
    planned = corpus.work.read_plan()
    if planned is not None:
        different = fingerprint.differences(planned, opened.identity)
        if job.unfinished(corpus) is None:
            job.clear_finished(corpus)  # what a job left that was killed after its commit
        elif not different:
            return True
        else:
            raise errors.MismatchError(
                f"{job.told(corpus)} is unfinished in {corpus}, and differs from this one in "
                f"{different[0]}; finish it by the command that began it, or drop it by "
                "`memcorpus gc --unfinished`"
            )
    # From the tokens of the version that is current; another tokenizer may give some more or fewer.
    version = corpus.manifest.version(None)
    tokens = sum(
        part.card(components.MEMORY, version).counts.tokens
        for part in lacking
        if version in part.manifest.of(components.MEMORY)
    )
    memory = round(memory_component.foretold_bytes(opened.plan.layout, tokens))
    need = costs.CorpusBytes(passages=0, vectors=0, index=0, memory=memory)
    from_source.require_room(need, corpus.disk())
    corpus.work.write_plan(opened.identity)
    # What is left there of an earlier life of the version must not be taken for what this run has made.
    for part in lacking:
        if part.folder.path(opened.plan.folder).exists():
            part.folder.remove_folder(opened.plan.folder)
    return False


def _open(corpus: CorpusFolder, settings: ReencodeSettings) -> _Opened:
    return _recode(corpus, settings) if settings.origin is not None else _encode(corpus, settings)


def _encode(corpus: CorpusFolder, settings: ReencodeSettings) -> _Opened:
    built = corpus.manifest.built
    assert settings.memory_encoder is not None
    # A writer's corpus was not built by an encoder of ours.
    before = MemorySpec() if WRITER in built else MemorySpec.from_json(built)
    memory = memory_encoders.wanted(settings.memory_encoder, before, settings.memory)
    opened = memory_encoders.open_encoder(settings.memory_encoder, memory)
    if isinstance(opened, retro_memory.OpenedRetro):
        opening.require_chunks(Corpus(corpus), retro_folder.open_retro(settings.memory_encoder))
    opened.require_loadable(model_parallel=settings.model_parallel)
    memory, encoder = opened.memory, opened.fingerprint
    own = memory_version.reader_codec(settings.memory_encoder)
    if settings.codec is None and own is not None:
        codec = own[0]
    else:
        codec = codecs.by_name(settings.codec or Fields(built, "the build's settings").text("codec"))
    job.require_codec(codec, settings.device or ALL_DEVICES)
    home = segments.of(corpus)[0]
    layout = _layout(home, opened.width, memory.max_tokens, codec, settings.shard_passages)
    # The codes that its reader learned to read.
    parameters = own[1] if own is not None and own[0] == codec and codec.trained else None
    plan = MemoryPlan.of(encoder=encoder, memory=memory.to_json(), layout=layout, parameters=parameters)
    model = encode.MemoryModel(
        name=job.location(settings.memory_encoder),
        fingerprint=encoder.hex,
        memory=memory,
        device=settings.device or ALL_DEVICES,
        model_parallel=settings.model_parallel,
    )
    return _Opened(
        plan=plan,
        shards=encode.EncodeShards(
            corpus=home.folder,
            parts=home.card(components.PASSAGES).parts,
            encoder=model,
            memory_folder=plan.folder,
            memory=layout,
            limit_seconds=settings.shard_timeout,
        ),
        identity={
            "version": plan.version,
            "settings": {**memory.to_json(), "shard_passages": layout.grid.shard_passages},
            "memory_encoder": encoder.description,
            "codec": codec.to_json(),
        },
        where={"memory_encoder": job.location(settings.memory_encoder)},
        corpus=corpus,
        shard_passages=settings.shard_passages,
    )


def _recode(corpus: CorpusFolder, settings: ReencodeSettings) -> _Opened:
    origin = corpus.manifest.version(settings.origin)
    home = segments.of(corpus)[0]
    card = home.card(components.MEMORY, origin)
    if settings.codec is None:
        raise errors.CorpusError("recoding needs the --codec to recode to")
    codec = codecs.by_name(settings.codec)
    if codec == card.layout.codec:
        raise errors.CorpusError(f"version {origin} has codec {codec.name} already")
    layout = _layout(home, card.layout.width, card.layout.max_tokens, codec, settings.shard_passages)
    plan = MemoryPlan.of(
        encoder=fingerprint.Fingerprint(card.encoder_fingerprint, dict(card.encoder)),
        memory=card.settings,
        layout=layout,
        origin=card.fingerprint,
        cut={
            name: count
            for name, count in card.counts.to_json().items()
            if name in ("passages_cut", "tokens_cut", "tokens_unknown")
        },
    )
    return _Opened(
        plan=plan,
        shards=recode.RecodeShards(
            corpus=home.folder,
            origin=origin,
            memory_folder=plan.folder,
            memory=layout,
            limit_seconds=settings.shard_timeout,
        ),
        identity={
            "version": plan.version,
            "settings": {"shard_passages": layout.grid.shard_passages},
            "origin": card.fingerprint,
            "codec": codec.to_json(),
        },
        where={"origin": origin},
        corpus=corpus,
        shard_passages=settings.shard_passages,
    )


def _layout(
    home: Segment, width: int, max_tokens: int, codec: codecs.Codec, shard_passages: int | None
) -> memory_store.MemoryLayout:
    return memory_store.MemoryLayout.sized(
        passages=home.passages,
        width=width,
        max_tokens=max_tokens,
        codec=codec,
        shard_passages=shard_passages,
    )
