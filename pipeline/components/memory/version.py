"""A memory version: what is planned, how its shards are made, committed, and made again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from encoders import fingerprint as fingerprints
from encoders.memory_spec import MemorySpec
from encoders.reader import folder as reader_folder
from pipeline.components.base import Remaking, require_batching
from pipeline.components.memory import encode, train_codec
from pipeline.components.memory.encode import EncodeShards, MemoryModel
from pipeline.components.memory.recode import RecodeShards
from pipeline.components.shards import STAGE, ShardCounts
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import (
    canaries,
    codec_parameters,
    codecs,
    components,
    errors,
    file_list,
    files,
    memory_commit,
    memory_store,
    remote_memory,
    zarr_arrays,
)
from storage.aliases import Json
from storage.components import Component, MemoryCard, MemoryCounts
from storage.components.memory import version_name
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.receipts import Receipt
from storage.writer.plan import WRITER

if TYPE_CHECKING:
    from pipeline.units.stages import Stages


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """A version to be written. Its name is the beginning of its fingerprint.

    Attributes:
        fingerprint: of encoder, codec and origin.
        encoder_fingerprint, encoder: of the memory encoder, and what that was taken of.
        memory: what decides the bytes of its shards, beside the encoder and the codec, as its card holds it.
        layout: shapes and codec.
        origin: fingerprint of the version that it is recoded from; None if it is encoded.
        cut: counts of what was cut and unknown when the origin was encoded, which recoding does not see.
        parameters: of the codec, where it is not to be trained: those that a reader was trained with.
    """

    fingerprint: str
    encoder_fingerprint: str
    encoder: Mapping[str, object]
    memory: Mapping[str, object]
    layout: memory_store.MemoryLayout
    origin: str | None = None
    cut: Mapping[str, int] = field(default_factory=dict)
    parameters: codecs.Parameters | None = None

    @classmethod
    def of(
        cls,
        *,
        encoder: fingerprints.Fingerprint,
        memory: Mapping[str, object],
        layout: memory_store.MemoryLayout,
        origin: str | None = None,
        cut: Mapping[str, int] | None = None,
        parameters: codecs.Parameters | None = None,
    ) -> MemoryPlan:
        """
        Raises:
            CorpusError: the parameters are not the codec's.
        """
        description: Json = {"encoder": encoder.hex, "codec": layout.codec.to_json()}
        if parameters is not None:
            layout.codec.bind(layout.width, parameters)
            description["codec_parameters"] = codec_parameters.digests(parameters)
        if origin is not None:
            description["origin"] = origin
        return cls(
            fingerprint=fingerprints.of(description).hex,
            encoder_fingerprint=encoder.hex,
            encoder=encoder.description,
            memory=memory,
            layout=layout,
            origin=origin,
            cut=cut or {},
            parameters=parameters,
        )

    @property
    def version(self) -> str:
        return version_name(self.fingerprint)

    @property
    def folder(self) -> str:
        return components.MEMORY.folder(self.version)


def reader_codec(model: str) -> tuple[codecs.Codec, codecs.Parameters] | None:
    """The codec that a reader was trained with, and its parameters; None for other models and readers.

    Raises:
        CorpusError: the folder's codec is unknown, or its parameters are not the codec's.
        ModelFolderError: the folder cannot be read.
    """
    if not reader_folder.is_reader(model):
        return None
    opened = reader_folder.open_reader(model)
    if opened.settings.codec is None:
        return None
    codec, parameters = codecs.from_json(dict(opened.settings.codec)), opened.codec_parameters()
    codec.check_parameters(opened.settings.config.t5.d_model, parameters)
    return codec, parameters


def make(stages: Stages, plan: MemoryPlan, job: EncodeShards | RecodeShards) -> None:
    """Create a version's arrays, train its codec if it is of those that are and no reader brought it, write
    its shards.

    Metadata and parameters exist before any worker writes data.
    """
    corpus = stages.corpus
    folder = corpus.path(plan.folder)
    corpus.publish(memory_store.create(folder, plan.layout))
    if plan.parameters is not None:
        corpus.publish(codec_parameters.write(folder, plan.layout.codec, plan.parameters))
    elif plan.layout.codec.trained:
        tokens = plan.layout.codec.sample_tokens(plan.layout.width)
        stages.run(train_codec.STAGE, train_codec.TrainCodec(job=job), 1, total=tokens)
    grid = plan.layout.grid
    stages.run(STAGE, job, grid.shards, total=grid.passages)


class CommitMemory:
    """Checks every shard, joins what they left, and writes the card; see `base.Commit`."""

    component: Component[MemoryCard] = components.MEMORY

    def __init__(self, corpus: CorpusFolder, plan: MemoryPlan) -> None:
        self._corpus, self._plan = corpus, plan
        self._folder = corpus.path(plan.folder)
        layout = plan.layout
        if layout.codec.trained:
            corpus.bring(f"{plan.folder}/{codec_parameters.FOLDER}")
        # Loaded here alone: a codebook may have half a gigabyte.
        parameters = codec_parameters.load(self._folder, layout.codec, layout.width)
        self._parameters = codec_parameters.digests(parameters)
        self._notes = encode.notes_of(self._parameters)
        self._counts = ShardCounts()
        self._list = memory_commit.begin_list(corpus, plan.folder, layout)

    def add(self, receipt: Receipt[ShardCounts]) -> None:
        first, stop = self._plan.layout.grid.bounds(receipt.unit)
        if receipt.counts.passages != stop - first:
            raise errors.CorpusError(
                f"shard {receipt.unit} has {receipt.counts.passages} passages, wanted {stop - first}"
            )
        if receipt.notes != self._notes:
            raise errors.DamagedError(
                f"shard {receipt.unit} was coded with other parameters than lie in {self._plan.folder}: "
                "the codec was trained again with another outcome; remove what is unfinished, and run the "
                "command again"
            )
        self._counts += receipt.counts
        for entry in receipt.files:
            if entry.path.startswith(f"{self._plan.folder}/"):
                self._list.add(entry)

    def finish(self) -> tuple[str, FileEntry]:
        """See `base.Commit`.

        Raises:
            DamagedError: what is stored is not what the encoder gave, or the version that was recoded.
        """
        plan, corpus = self._plan, self._corpus
        joined = memory_store.join(self._folder, plan.layout, lambda: _rows(corpus, plan.layout))
        self._list.close()
        sums = self._counts
        card = MemoryCard(
            version=plan.version,
            fingerprint=plan.fingerprint,
            encoder_fingerprint=plan.encoder_fingerprint,
            encoder=plan.encoder,
            settings=plan.memory,
            origin=plan.origin,
            layout=plan.layout,
            codec_parameters=self._parameters,
            counts=MemoryCounts(
                tokens=sums.tokens,
                memory_bytes=sums.memory_bytes,
                passages_cut=plan.cut.get("passages_cut", sums.passages_cut),
                tokens_cut=plan.cut.get("tokens_cut", sums.tokens_cut),
                tokens_min=sums.tokens_min,
                tokens_max=sums.tokens_max,
                tokens_unknown=self._unknown(),
            ),
            rows=tuple(map(corpus.entry, joined)),
            canaries=self._join_canaries(),
            quality={},
            files=corpus.entry(self._folder / file_list.NAME),
        )
        card = replace(card, quality=_quality(corpus, card).to_json())
        return card.name, corpus.write_card(components.MEMORY, card)

    def _unknown(self) -> int | None:
        """Tokens that the encoder's vocabulary lacks; None where nobody counted them in some shards."""
        if self._plan.origin is not None:
            return self._plan.cut.get("tokens_unknown")
        judged = self._counts.passages_judged == self._plan.layout.grid.passages
        return self._counts.tokens_unknown if judged else None

    def _join_canaries(self) -> canaries.CanaryCard:
        plan, corpus = self._plan, self._corpus
        layout = plan.layout
        ids = canaries.choose(layout.grid.passages)
        dtype = layout.codec.dtype.name
        if plan.origin is not None:
            # As the encoder gave them: a type that holds more would claim digits that nobody knows.
            kept = corpus.memory(version_name(plan.origin)).canaries
            ids, dtype = list(kept.passage_ids), kept.dtype
        left = (
            files.read_bytes(corpus.work.here(encode.canaries_file(corpus.work, shard)))
            for shard in memory_commit.holding(ids, layout)
        )
        return memory_commit.join_canaries(corpus, plan.folder, layout, left, ids=ids, dtype=dtype)


def _rows(corpus: CorpusFolder, layout: memory_store.MemoryLayout) -> Iterator[memory_store.ShardRows]:
    """What the shards left of `offsets` and `checksums`, in order."""
    for data in encode.rows_left(corpus.work, layout.grid):
        yield memory_store.ShardRows.from_bytes(data, layout)


def _quality(corpus: CorpusFolder, card: MemoryCard) -> canaries.Difference:
    """What the codec lost, on the canaries, read back as a reader will read it."""
    reader = MemoryReader(remote_memory.open_files(corpus, card), card)
    kept = canaries.read(corpus.root, card.canaries, width=card.layout.width)
    stored = reader.fetch(card.canaries.passage_ids).values
    # What was coded: a version that is recoded may have lost more before than this codec does.
    coded = kept
    if card.origin is not None:
        origin = Corpus(corpus).memory(version_name(card.origin))
        coded = origin.fetch(card.canaries.passage_ids).values
    return memory_commit.require_sound(card, reader.coder, coded=coded, kept=kept, stored=stored)


_SHARD: Final = re.compile(r"memory/[^/]+/values/c/(\d+)/0/0")
_JOINED: Final = re.compile(r"memory/[^/]+/(?:offsets|checksums)/c/0/0")


def remake(remaking: Remaking, name: str, damaged: Iterable[str]) -> None:
    """Make the damaged files of one version again: metadata from the card, shards as they were made.

    Offsets and checksums are those of all shards, so all are made again for them.
    """
    corpus = remaking.corpus
    card = corpus.memory(name)
    layout = card.layout
    folder = components.MEMORY.folder(name)
    staged = remaking.staged(folder)
    for made in memory_store.create(corpus.path(staged), layout):
        remaking.offer(f"{folder}/{made.relative_to(corpus.path(staged)).as_posix()}", made)
    shards = {int(found[1]): path for path in damaged if (found := _SHARD.fullmatch(path))}
    whole = any(_JOINED.fullmatch(path) for path in damaged)
    if not shards and not whole:
        return
    if card.codec_parameters:
        trained = codec_parameters.FOLDER
        source = corpus.path(f"{folder}/{trained}")
        corpus.bring(f"{folder}/{trained}")
        copied = corpus.path(f"{staged}/{trained}")
        shutil.copytree(source, copied, dirs_exist_ok=True)
        corpus.publish(path for path in copied.rglob("*") if path.is_file())
    job = _job(remaking, card, staged)
    # A compaction took passages out of shards; those left make batches of their own, and may round otherwise.
    gone = {shard: remaking.gone(layout.grid, shard) for shard in shards}
    wanted = list(layout.grid) if whole else sorted(shards)
    remaking.run(STAGE, job, wanted, layout.grid.shards, staged)
    for shard, path in sorted(shards.items()):
        values = corpus.path(f"{staged}/{memory_store.VALUES}")
        made = zarr_arrays.shard_path(values, shard, 3)
        remaking.offer(path, made, *_lacking(f"shard {shard}", gone[shard]))
    if whole:
        lost = sum(remaking.gone(layout.grid, shard) for shard in layout.grid)
        for made in memory_store.join(corpus.path(staged), layout, lambda: _rows(corpus, layout)):
            path = f"{folder}/{made.relative_to(corpus.path(staged)).as_posix()}"
            remaking.offer(path, made, *_lacking(f"version {name}", lost))


def _lacking(what: str, gone: int) -> tuple[str, ...]:
    """Why something that is made again may be another file, for want of what a compaction took."""
    if not gone:
        return ()
    return (
        f"{what} was written anew by a compaction, without {gone:,} passages that are gone, and those that "
        "are left round differently without them: restore it from a copy, or encode the version again "
        "(`memcorpus reencode`)",
    )


def _job(remaking: Remaking, card: MemoryCard, folder: str) -> EncodeShards | RecodeShards:
    """What wrote a version's shards, to write them again elsewhere."""
    corpus = remaking.corpus
    if card.origin is not None:
        origin = version_name(card.origin)
        if origin not in corpus.manifest.versions:
            raise errors.CorpusError("the version it was recoded from is gone; recode it again")
        return RecodeShards(corpus=corpus, origin=origin, memory_folder=folder, memory=card.layout)
    if WRITER in card.settings:
        raise errors.CorpusError(
            "a writer wrote it: `missing` of `memcorpus.open_writer` names its damaged shards, and `write` "
            "takes their states again"
        )
    require_batching(card.settings)
    return EncodeShards(
        corpus=corpus,
        parts=corpus.passages.parts,
        encoder=model_of(card, remaking.model("memory_encoder", card.version)),
        memory_folder=folder,
        memory=card.layout,
        # Versions that were encoded after a compaction have rows of what is empty. All of theirs were judged.
        left_out=remaking.compacted and card.counts.tokens_unknown is None,
    )


def model_of(card: MemoryCard, name: str) -> MemoryModel:
    """How to load the encoder that wrote a version, which lies at `name`."""
    return MemoryModel(
        name=name, fingerprint=card.encoder_fingerprint, memory=MemorySpec.from_json(card.settings)
    )


def recodings(corpus: CorpusFolder, version: str) -> int:
    """How often what an encoder gave was recoded until it was this version."""
    count = 0
    while version in corpus.manifest.versions and count < len(corpus.manifest.versions):
        try:
            card = corpus.memory(version)
        except errors.CorpusError:  # its damage is told elsewhere
            break
        if card.origin is None:
            break
        version = version_name(card.origin)
        count += 1
    return count
