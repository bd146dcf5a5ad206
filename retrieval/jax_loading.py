"""Memory for JAX: batches of one shape, put on the devices ahead of use, codes decoded there.

Importing this loads no jax.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from retrieval import decoding
from retrieval.memory import MemoryReader
from storage import errors
from storage.codecs import Coder
from storage.ragged import MemoryArray, PaddedMemory

if TYPE_CHECKING:
    import jax


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceMemory:
    """A batch on the devices: `passage_ids` int64 [k] on the host, `values` [k, T, d], `mask` bool [k, T]."""

    passage_ids: npt.NDArray[Any]
    values: jax.Array
    mask: jax.Array


def decoder(coder: Coder) -> Callable[[jax.Array], jax.Array]:
    """A codec's decoder on the device: stored rows [..., stored_width] -> values [..., d].

        decode = decoder(reader.coder)
        values = decode(jnp.asarray(reader.fetch(ids, decode=False).values))  # [tokens, d]

    It is a pytree: given to a function under `jax.jit` as an argument, the version's scales or codebooks are
    no constants of the program. Values are those of the store's own decoder, to the bit but for what
    `encoders.quantizing` says; codes that no coder writes give NaN.

    Args:
        coder: of a reader, which holds the version's scales or codebooks.
    """
    from encoders import quantizing

    return quantizing.dequantizer(coder)


def batches_on_device(
    reader: MemoryReader,
    batches: Iterable[npt.ArrayLike],
    *,
    max_tokens: int,
    sharding: Any = None,
    ahead: int = 2,
    decode: str = decoding.HOST,
) -> Iterator[DeviceMemory]:
    """Memory of one batch of ids after another, padded to one shape, so that a step is compiled once.

    The next `ahead` batches are read from the disk, and those after the first of them are on their way to the
    devices, while one is used.

    Args:
        reader: of a corpus: `corpus.memory()`.
        batches: ids of each; of the same number, for one compilation.
        max_tokens: T; longer passages are cut.
        sharding: where values and masks go, as `jax.device_put` takes it; None: the default device.
        ahead: 1 or more.
        decode: "host"; or "device": codes cross the bus as they are stored, and are decoded behind it.

    Raises:
        CorpusError: `ahead` or `max_tokens` is below 1, `decode` is neither; what `MemoryReader.fetch`
            raises.
    """
    if ahead < 1 or max_tokens < 1:
        raise errors.CorpusError(f"ahead is {ahead} and max_tokens {max_tokens}, wanted 1 or more of each")
    here = decoding.on_host(decode) or decoding.is_plain(reader)
    import jax

    restore = None if here else _restorer(reader, sharding)
    fetched = _rectangles(reader, batches, max_tokens, ahead, here)

    def sent(count: int) -> list[DeviceMemory]:
        found = []
        for memory in islice(fetched, count):
            # Returns at once; the copy goes on beside the program.
            sent_values, sent_mask = jax.device_put((memory.values, memory.mask), sharding)
            if restore is not None:
                sent_values = restore(sent_values, sent_mask)
            found.append(DeviceMemory(passage_ids=memory.passage_ids, values=sent_values, mask=sent_mask))
        return found

    waiting = deque(sent(ahead))
    while waiting:
        batch = waiting.popleft()
        waiting.extend(sent(1))
        yield batch


def _rectangles(
    reader: MemoryReader, batches: Iterable[npt.ArrayLike], max_tokens: int, ahead: int, decode: bool
) -> Iterator[PaddedMemory]:
    """Batches of one shape, of values or, without `decode`, of rows as they are stored."""
    if decode:
        yield from reader.padded_batches(batches, max_tokens, ahead=ahead)
        return
    for memory in reader.batches(batches, ahead=ahead, decode=False):
        values, mask = memory.padded(max_tokens)
        yield PaddedMemory(
            passage_ids=memory.passage_ids, lengths=mask.sum(1), values=values.view(MemoryArray)
        )


def _restorer(reader: MemoryReader, sharding: Any) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Codes and mask of a batch, where they lie, into values; behind a passage's tokens stay zeros."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    tables_at = sharding
    if isinstance(sharding, NamedSharding):  # whole on every device, once
        tables_at = NamedSharding(sharding.mesh, PartitionSpec())  # type: ignore[no-untyped-call]
    decode, restored = jax.device_put(decoder(reader.coder), tables_at), _restored()
    return lambda stored, mask: restored(decode, stored, mask)


@functools.cache
def _restored() -> Callable[..., jax.Array]:
    """One for all calls, so that an epoch finds the program of the one before."""
    import jax
    import jax.numpy as jnp

    @jax.jit
    def restored(decode: Any, stored: Any, mask: Any) -> Any:
        values = decode(stored)
        return jnp.where(mask[..., None], values, jnp.zeros((), values.dtype))

    return restored
