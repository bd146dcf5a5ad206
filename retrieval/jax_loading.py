"""Memory for JAX: batches of one shape, put on the devices ahead of use. Importing this loads no jax."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from retrieval.memory import MemoryReader
from storage import errors

if TYPE_CHECKING:
    import jax


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceMemory:
    """A batch on the devices: `passage_ids` int64 [k] on the host, `values` [k, T, d], `mask` bool [k, T]."""

    passage_ids: npt.NDArray[Any]
    values: jax.Array
    mask: jax.Array


def batches_on_device(
    reader: MemoryReader,
    batches: Iterable[npt.ArrayLike],
    *,
    max_tokens: int,
    sharding: Any = None,
    ahead: int = 2,
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

    Raises:
        CorpusError: `ahead` or `max_tokens` is below 1; what `MemoryReader.fetch` raises.
    """
    if ahead < 1 or max_tokens < 1:
        raise errors.CorpusError(f"ahead is {ahead} and max_tokens {max_tokens}, wanted 1 or more of each")
    import jax

    fetched = reader.padded_batches(batches, max_tokens, ahead=ahead)

    def sent(count: int) -> list[DeviceMemory]:
        found = []
        for memory in islice(fetched, count):
            # Returns at once; the copy goes on beside the program.
            on_device = jax.device_put((memory.values, memory.mask), sharding)
            found.append(DeviceMemory(passage_ids=memory.passage_ids, values=on_device[0], mask=on_device[1]))
        return found

    waiting = deque(sent(ahead))
    while waiting:
        batch = waiting.popleft()
        waiting.extend(sent(1))
        yield batch
