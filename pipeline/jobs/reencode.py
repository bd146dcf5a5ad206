"""`reencode`: a new memory version beside those that are there; passages, vectors and index stay."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from encoders import fingerprint, model_folder, weights
from encoders.memory_encoder import memory_fingerprint
from encoders.memory_spec import MemorySpec
from encoders.reader import folder as reader_folder
from pipeline.accounts import statistics
from pipeline.accounts.plan import from_source as plan
from pipeline.components.memory import encode as encode_shards
from pipeline.components.memory import recode as recode_shards
from pipeline.components.memory import train_codec
from pipeline.components.memory import version as memory_version
from pipeline.components.memory.version import MemoryPlan
from pipeline.components.settings import ALL_DEVICES, check_devices
from pipeline.jobs import commit
from pipeline.units import progress, work
from pipeline.units import stages as jobs
from storage import codecs, costs, errors, files, manifest, memory_store, passage_table, shards

STAGES: Final = (train_codec.STAGE, encode_shards.STAGE)
# A name that cannot be taken for a path, an option, or a version (16 hexadecimal digits).
_ALIAS: Final = re.compile(r"(?![0-9a-f]{16}\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RESERVED: Final = (manifest.CURRENT, manifest.PREVIOUS)


@dataclass(frozen=True, kw_only=True)
class ReencodeSettings:
    """What is to be other than before. What is None is as the corpus was built.

    Attributes:
        memory_encoder: name or folder of a T5.1.1 model; None with `origin`.
        origin: version or alias to recode from, without an encoder.
        name: an alias for the new version.
        memory: those of `memory_spec.SETTINGS` that are to be other. With a reader's folder for an encoder,
            what is not among them is as that reader wants its memory.
        codec, shard_passages, shard_timeout, device, model_parallel: as in `BuildSettings`.
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
        if self.shard_timeout is not None and self.shard_timeout <= 0:
            raise errors.CorpusError(f"shard_timeout is {self.shard_timeout}, wanted more than 0 seconds")
        if self.name is not None:
            check_alias(self.name)
        if self.codec is not None:
            codecs.by_name(self.codec)


@dataclass(frozen=True, kw_only=True)
class _Opened:
    plan: MemoryPlan
    job: encode_shards.EncodeShards | recode_shards.RecodeShards
    identity: dict[str, Any]
    where: dict[str, Any]


def check_alias(name: str) -> None:
    """Refuse names that versions cannot have."""
    if not _ALIAS.fullmatch(name) or name in RESERVED:
        raise errors.CorpusError(
            f"version name {name!r} is not allowed: wanted 1 to 64 letters, digits, dots, dashes or "
            f"underscores, but no version's own name, and not {' or '.join(RESERVED)}"
        )


def reencode(
    root: Path,
    settings: ReencodeSettings,
    *,
    use: bool = False,
    beam_options: Sequence[str] = (),
    observer: progress.Observer | None = None,
) -> tuple[jobs.Outcome, str]:
    """Add a memory version, or finish one that was interrupted.

    Args:
        root: a finished corpus.
        settings: how the new version differs.
        use: make it the current one when it is done.
        beam_options: Beam's own options.
        observer: shown the progress.

    Returns:
        The outcome, and the version's name.

    Raises:
        CorpusError: bad input; the corpus is untouched.
        runner.WorkerDied: a worker process was killed; the same call goes on from there.
    """
    started = time.monotonic()
    jobs.check_names()
    stages = jobs.Stages(root, beam_options, observer)
    found = manifest.Manifest.read(root)
    opened = _open(root, found, settings)
    version = opened.plan.version
    if settings.name is not None and found.aliases.get(settings.name, version) != version:
        raise errors.CorpusError(
            f"name {settings.name!r} is version {found.aliases[settings.name]} already; take another, or "
            f"`memcorpus use --alias {settings.name}` to move it"
        )
    with jobs.lock(root):
        # What another job may have done before this one got the lock.
        found = manifest.Manifest.read(root)
        if already := version in found.memory:
            if (work.folder(root) / work.PLAN).exists() and is_ours(root, opened.identity):
                commit.remove_work(root)
        else:
            resumed = _begin(root, opened)
            memory_version.encode(stages, opened.plan, opened.job)
            shard_count = opened.plan.layout.grid.shards
            receipts = list(work.read_receipts(root, encode_shards.STAGE, shard_count))
            entry = memory_version.commit(root, opened.plan, receipts)
            run = {**opened.where, "stage_seconds": stages.seconds, "resumed": resumed}
            statistics.write(root, version, STAGES, {"version": version, **run})
            commit.remove_leftovers(root)
            found = replace(found, memory={**found.memory, version: entry})
        aliases = dict(found.aliases)
        if settings.name is not None:
            aliases[settings.name] = version
        if use:
            aliases = manifest.switched(aliases, version)
        if not already or aliases != found.aliases:
            replace(found, aliases=aliases).write(root)
        if not already:
            commit.remove_work(root)
    return jobs.Outcome(root=root, already=already, seconds=time.monotonic() - started), version


def is_ours(root: Path, identity: Mapping[str, Any]) -> bool:
    """Is what lies in `work/` the beginning of the same version?"""
    return not fingerprint.differences(files.read_json(work.folder(root) / work.PLAN), identity)


def _begin(root: Path, opened: _Opened) -> bool:
    """Lay down the plan; True where an interrupted run of the same is gone on with."""
    path = work.folder(root) / work.PLAN
    if path.exists():
        planned = files.read_json(path)
        if jobs.unfinished(root) is None:
            commit.remove_work(root)  # what a job left that was killed after its commit
        elif is_ours(root, opened.identity):
            return True
        else:
            different = fingerprint.differences(planned, opened.identity)
            raise errors.MismatchError(
                f"version {planned['version']} is unfinished in {root}, and differs from this one in "
                f"{different[0]}; finish it by the command that began it, or drop it by "
                "`memcorpus gc --unfinished`"
            )
    need = costs.CorpusBytes(passages=0, vectors=0, index=0, memory=_memory_bytes(root, opened))
    plan.require_room(need, root)
    work.folder(root).mkdir(exist_ok=True)
    files.write_json(path, opened.identity)
    return False


def _memory_bytes(root: Path, opened: _Opened) -> int:
    """From the tokens of the version that is current; another tokenizer may give some more or fewer."""
    found = manifest.Manifest.read(root)
    current = manifest.read_memory(root, found, found.version(None))
    layout, tokens = opened.plan.layout, current.counts["tokens"]
    return round(costs.memory_bytes(layout, tokens) + costs.canary_bytes(layout, tokens))


def _open(root: Path, found: manifest.Manifest, settings: ReencodeSettings) -> _Opened:
    parts = manifest.read_passages(root, found).parts
    built = found.settings["settings"]
    if settings.origin is not None:
        return _recode(root, found, settings, parts)
    assert settings.memory_encoder is not None
    memory = _wanted_by(settings.memory_encoder, MemorySpec.from_json(built)).changed(settings.memory)
    encoder = memory_fingerprint(settings.memory_encoder, memory)
    width = weights.read_config(model_folder.resolve(settings.memory_encoder)).d_model
    codec = codecs.by_name(settings.codec or str(built["codec"]))
    layout = _layout(parts, width, memory.max_tokens, codec, settings.shard_passages)
    memory_plan = MemoryPlan.of(encoder=encoder, memory=memory, layout=layout)
    model = encode_shards.MemoryModel(
        name=settings.memory_encoder,
        fingerprint=encoder.hex,
        memory=memory,
        device=settings.device or ALL_DEVICES,
        model_parallel=settings.model_parallel,
    )
    return _Opened(
        plan=memory_plan,
        job=encode_shards.EncodeShards(
            root=root,
            parts=parts,
            encoder=model,
            memory_folder=memory_plan.folder,
            memory=layout,
            limit_seconds=settings.shard_timeout,
        ),
        identity={
            "version": memory_plan.version,
            "settings": {**memory.to_json(), "shard_passages": layout.grid.shard_passages},
            "memory_encoder": encoder.description,
            "codec": codec.to_json(),
        },
        where={"memory_encoder": jobs.location(settings.memory_encoder)},
    )


def _wanted_by(model: str, built: MemorySpec) -> MemorySpec:
    """As a reader's folder says of the memory that the reader reads; as it was built for a plain T5."""
    if not reader_folder.is_reader(model):
        return built
    return replace(reader_folder.open_reader(model).settings.memory, token_budget=built.token_budget)


def _recode(
    root: Path, found: manifest.Manifest, settings: ReencodeSettings, parts: tuple[passage_table.Part, ...]
) -> _Opened:
    origin = found.version(settings.origin)
    card = manifest.read_memory(root, found, origin)
    if settings.codec is None:
        raise errors.CorpusError("recoding needs the --codec to recode to")
    codec = codecs.by_name(settings.codec)
    if codec == card.layout.codec:
        raise errors.CorpusError(f"version {origin} has codec {codec.name} already")
    layout = _layout(parts, card.layout.width, card.layout.max_tokens, codec, settings.shard_passages)
    memory_plan = MemoryPlan.of(
        encoder=fingerprint.Fingerprint(card.encoder_fingerprint, dict(card.encoder)),
        memory=MemorySpec.from_json(card.settings),
        layout=layout,
        origin=card.fingerprint,
        cut={name: card.counts[name] for name in ("passages_cut", "tokens_cut")},
    )
    return _Opened(
        plan=memory_plan,
        job=recode_shards.RecodeShards(
            root=root,
            origin=origin,
            memory_folder=memory_plan.folder,
            memory=layout,
            limit_seconds=settings.shard_timeout,
        ),
        identity={
            "version": memory_plan.version,
            "settings": {"shard_passages": layout.grid.shard_passages},
            "origin": card.fingerprint,
            "codec": codec.to_json(),
        },
        where={"origin": origin},
    )


def _layout(
    parts: Sequence[passage_table.Part],
    width: int,
    max_tokens: int,
    codec: codecs.Codec,
    shard_passages: int | None,
) -> memory_store.MemoryLayout:
    passages = sum(part.rows for part in parts)
    grid = shards.ShardGrid(
        passages=passages,
        shard_passages=shard_passages
        or shards.choose_shard_passages(
            passages=passages, max_tokens=max_tokens, token_bytes=codec.token_bytes(width)
        ),
    )
    return memory_store.MemoryLayout(grid=grid, width=width, max_tokens=max_tokens, codec=codec)
