"""What every commit of a memory version does, whoever wrote its shards: a build's workers or a writer's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from storage import (
    canaries,
    codec_parameters,
    codecs,
    errors,
    file_list,
    memory_files,
    memory_store,
    zarr_arrays,
)
from storage.aliases import AnyArray
from storage.canaries import CanaryCard, Difference
from storage.components import MemoryCard
from storage.folder import CorpusFolder
from storage.memory_store import MemoryLayout


def begin_list(corpus: CorpusFolder, folder: str, layout: MemoryLayout) -> file_list.Writer:
    """The list of a version's files, with those that were there before any shard: metadata, the codec's."""
    path = corpus.path(folder)
    listing = file_list.Writer(path / file_list.NAME)
    for array in memory_store.ARRAYS:
        listing.add(corpus.entry(path / array / zarr_arrays.METADATA))
    for file in codec_parameters.files_of(path, layout.codec, layout.width):
        listing.add(corpus.entry(file))
    return listing


def join_canaries(
    corpus: CorpusFolder,
    folder: str,
    layout: MemoryLayout,
    left: Iterable[bytes],
    *,
    ids: Sequence[int],
    dtype: str,
) -> CanaryCard:
    """Write the canaries of a version from what its shards left of them.

    Args:
        corpus: that the version is of.
        folder: of the version, whose `offsets` are joined.
        layout: of the version.
        left: by the shards that hold canaries, in order; see `canaries.stored_bytes`.
        ids: of the canaries, ascending.
        dtype: in which they were left.

    Raises:
        DamagedError: they have other tokens than their passages.
    """
    values = canaries.from_stored(b"".join(left), width=layout.width, dtype=dtype)
    found = memory_files.MemoryFiles(corpus.path(folder), layout).find(np.array(ids, np.int64))
    tokens = tuple((found.stops - found.firsts).tolist())
    if len(values) != sum(tokens):
        raise errors.DamagedError(f"the canaries of {folder} have {len(values)} tokens, wanted {sum(tokens)}")
    path = corpus.path(f"{folder}/{canaries.FILE}")
    canaries.write(path, values)
    return CanaryCard(passage_ids=tuple(ids), tokens=tokens, dtype=dtype, file=corpus.entry(path))


def holding(ids: Sequence[int], layout: MemoryLayout) -> list[int]:
    """The shards in which these passages are, in order."""
    return sorted({i // layout.grid.shard_passages for i in ids})


def require_sound(
    card: MemoryCard, coder: codecs.Coder, *, coded: AnyArray, kept: AnyArray, stored: AnyArray
) -> Difference:
    """What the codec lost on the canaries, which has to be within its bound.

    Args:
        card: of the version.
        coder: of its codec.
        coded: the canaries' rows that were coded, [tokens, width].
        kept: the same as the encoder gave them; other rows where a version was recoded.
        stored: the same as they are read back.

    Raises:
        DamagedError: what is stored is further off than the codec allows.
    """
    values, found = np.asarray(coded, np.float32), np.asarray(stored, np.float32)
    # The canaries are rounded to the codec's dtype, what was coded was not: hence twice.
    allowed = 2 * coder.error_bound(values)
    off = np.linalg.norm(values - found, axis=1)
    if not (off <= allowed).all():
        token = int(np.argmax(off - allowed))
        raise errors.DamagedError(
            f"memory version {card.version} as stored is {off[token]:.3g} off what was coded "
            f"(token {token} of its canaries), codec {card.layout.codec.name} allows "
            f"{allowed[token]:.3g}; it is not committed: is the machine sound?"
        )
    return canaries.difference(kept, found)
