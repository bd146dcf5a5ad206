"""A memory version: what is planned, and how its card is written when all shards are done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from encoders import fingerprint as fingerprints
from encoders.memory_spec import MemorySpec
from pipeline.components.memory import encode as encode_shards
from pipeline.components.memory import recode as recode_shards
from pipeline.components.memory import train_codec
from pipeline.units import stages as jobs
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import canaries, codec_parameters, errors, file_list, files, manifest, memory_store, zarr_arrays
from storage.memory_files import MemoryFiles
from storage.receipts import Receipt

SUMMED: Final = ("tokens", "memory_bytes", "passages_cut", "tokens_cut")


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """A version to be written. Its name is the beginning of its fingerprint.

    Attributes:
        fingerprint: of encoder, codec and origin.
        encoder_fingerprint, encoder: of the memory encoder, and what that was taken of.
        memory: what decides the bytes of its shards, beside the encoder and the codec.
        layout: shapes and codec.
        origin: fingerprint of the version that it is recoded from; None if it is encoded.
        cut: counts of what was cut when the origin was encoded, which recoding does not see.
    """

    fingerprint: str
    encoder_fingerprint: str
    encoder: Mapping[str, Any]
    memory: MemorySpec
    layout: memory_store.MemoryLayout
    origin: str | None = None
    cut: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        *,
        encoder: fingerprints.Fingerprint,
        memory: MemorySpec,
        layout: memory_store.MemoryLayout,
        origin: str | None = None,
        cut: Mapping[str, int] | None = None,
    ) -> MemoryPlan:
        description = {"encoder": encoder.hex, "codec": layout.codec.to_json()}
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
        )

    @property
    def version(self) -> str:
        return manifest.version_name(self.fingerprint)

    @property
    def folder(self) -> str:
        return manifest.memory_folder(self.version)


def encode(
    stages: jobs.Stages,
    plan: MemoryPlan,
    job: encode_shards.EncodeShards | recode_shards.RecodeShards,
) -> None:
    """Create a version's arrays, train its codec if it is of those that are, write its shards.

    Metadata and parameters exist before any worker writes data.
    """
    memory_store.create(stages.root / plan.folder, plan.layout)
    if plan.layout.codec.trained:
        tokens = plan.layout.codec.sample_tokens(plan.layout.width)
        stages.run(train_codec.TrainCodec(job=job), 1, measure="tokens", total=tokens)
    grid = plan.layout.grid
    stages.run(job, grid.shards, measure="passages", total=grid.passages)


def _check_shards(shards: Sequence[Receipt], plan: MemoryPlan, digests: Mapping[str, str]) -> None:
    """Compare the receipts with the plan, and with the codec's parameters as they lie in the folder."""
    layout = plan.layout
    notes = encode_shards.notes_of(digests)
    for receipt in shards:
        first, stop = layout.grid.bounds(receipt.unit)
        if receipt.counts["passages"] != stop - first:
            raise errors.CorpusError(
                f"shard {receipt.unit} has {receipt.counts['passages']} passages, wanted {stop - first}"
            )
        if receipt.notes != notes:
            raise errors.DamagedError(
                f"shard {receipt.unit} was coded with other parameters than lie in {plan.folder}: the codec "
                "was trained again with another outcome; remove what is unfinished, and run the command again"
            )


def commit(root: Path, plan: MemoryPlan, shards: Sequence[Receipt]) -> files.FileEntry:
    """Write what speaks of the whole version: rows, canaries, the list of files, the card.

    Returns:
        The card's entry, for the manifest.

    Raises:
        CorpusError: a shard has other passages than it should.
        DamagedError: a shard was coded with other parameters, or what is stored is not what the encoder
            gave, or the version that was recoded.
    """
    folder, layout = plan.folder, plan.layout
    # Loaded here alone: a codebook may have half a gigabyte.
    parameters = codec_parameters.digests(codec_parameters.load(root / folder, layout.codec, layout.width))
    _check_shards(shards, plan, parameters)

    def rows() -> Iterator[memory_store.ShardRows]:
        for shard in layout.grid:
            data = encode_shards.rows_path(root, shard).read_bytes()
            yield memory_store.ShardRows.from_bytes(data, layout)

    joined = memory_store.join(root / folder, layout, rows)
    metadata = [root / folder / array / zarr_arrays.METADATA for array in memory_store.ARRAYS]
    metadata += codec_parameters.files_of(root / folder, layout.codec, layout.width)
    counts = {name: sum(receipt.counts[name] for receipt in shards) for name in SUMMED} | dict(plan.cut)
    counts["tokens_min"] = min(receipt.counts["tokens_min"] for receipt in shards)
    counts["tokens_max"] = max(receipt.counts["tokens_max"] for receipt in shards)
    card = manifest.MemoryCard(
        version=plan.version,
        fingerprint=plan.fingerprint,
        encoder_fingerprint=plan.encoder_fingerprint,
        encoder=plan.encoder,
        settings=plan.memory.to_json(),
        origin=plan.origin,
        layout=layout,
        codec_parameters=parameters,
        counts=counts,
        rows=tuple(files.entry_of(root, path) for path in joined),
        canaries=_join_canaries(root, plan),
        quality={},
        files=write_list(root, folder, metadata, shards),
    )
    card = replace(card, quality=_quality(root, card).to_json())
    return write_card(root, f"{folder}/memory.json", card)


def _join_canaries(root: Path, plan: MemoryPlan) -> canaries.CanaryCard:
    layout = plan.layout
    ids = canaries.choose(layout.grid.passages)
    dtype = layout.codec.dtype.name
    if plan.origin is not None:
        # As the encoder gave them: a type that holds more would claim digits that nobody knows.
        origin = manifest.version_name(plan.origin)
        dtype = manifest.read_memory(root, manifest.Manifest.read(root), origin).canaries.dtype
    shards = sorted({i // layout.grid.shard_passages for i in ids})
    data = b"".join(encode_shards.canaries_path(root, shard).read_bytes() for shard in shards)
    values = canaries.from_stored(data, width=layout.width, dtype=dtype)
    opened = MemoryFiles(root / plan.folder, layout)
    tokens = [opened.tokens(i) for i in ids]
    if len(values) != sum(tokens):
        raise errors.DamagedError(
            f"the canaries of {plan.folder} have {len(values)} tokens, wanted {sum(tokens)}"
        )
    path = root / plan.folder / canaries.FILE
    canaries.write(path, values)
    return canaries.CanaryCard(
        passage_ids=tuple(ids),
        tokens=tuple(tokens),
        dtype=dtype,
        file=files.entry_of(root, path),
    )


def _quality(root: Path, card: manifest.MemoryCard) -> canaries.Difference:
    """What the codec lost, on the canaries, read back as a reader will read it."""
    reader = MemoryReader(MemoryFiles(root / manifest.memory_folder(card.version), card.layout), card)
    kept = canaries.read(root, card.canaries, width=card.layout.width)
    stored = np.asarray(reader.fetch(card.canaries.passage_ids).values, np.float32)
    # What was coded: a version that is recoded may have lost more before than this codec does.
    coded = kept
    if card.origin is not None:
        origin = Corpus(root).memory(manifest.version_name(card.origin))
        coded = origin.fetch(card.canaries.passage_ids).values
    values = np.asarray(coded, np.float32)
    # The canaries are rounded to the codec's dtype, what was coded was not: hence twice.
    allowed = 2 * reader.coder.error_bound(values)
    off = np.linalg.norm(values - stored, axis=1)
    if not (off <= allowed).all():
        token = int(np.argmax(off - allowed))
        raise errors.DamagedError(
            f"memory version {card.version} as stored is {off[token]:.3g} off what was coded "
            f"(token {token} of its canaries), codec {card.layout.codec.name} allows "
            f"{allowed[token]:.3g}; it is not committed: is the machine sound?"
        )
    return canaries.difference(kept, stored)


def write_card(root: Path, path: str, card: manifest.Card) -> files.FileEntry:
    files.write_json(root / path, card.to_json())
    return files.entry_of(root, root / path)


def write_list(
    root: Path, folder: str, metadata: Sequence[Path], shards: Sequence[Receipt]
) -> files.FileEntry:
    """List a component's array metadata and the shard files below its folder."""
    path = root / folder / file_list.NAME

    def entries() -> Iterator[files.FileEntry]:
        yield from (files.entry_of(root, item) for item in metadata)
        for receipt in shards:
            yield from (entry for entry in receipt.files if entry.path.startswith(f"{folder}/"))

    file_list.write(path, entries())
    return files.entry_of(root, path)
