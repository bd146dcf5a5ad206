"""Names that are known, eight bytes for each: a corpus of 3.6 billion passages has some 60 million files."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Final

import numpy as np

_BATCH: Final = 4096


def hashed(name: str) -> int:
    """64 bits of a name."""
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class NameSet:
    """Names are added, and then asked for: `strangers`. Two of a billion names are the same by their 64 bits
    with a chance of 3 %; such a stranger is not told."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def add(self, name: str) -> None:
        self._hashes.append(hashed(name))

    def strangers(self, names: Iterable[str]) -> Iterator[str]:
        """Those of `names` that were not added, in order."""
        known = np.sort(np.frombuffer(self._hashes, np.uint64)) if self._hashes else np.zeros(0, np.uint64)
        coming = iter(names)
        while batch := list(islice(coming, _BATCH)):
            wanted = np.fromiter(map(hashed, batch), np.uint64, len(batch))
            at = np.searchsorted(known, wanted)
            there = np.zeros(len(batch), bool)
            inside = at < len(known)
            there[inside] = known[at[inside]] == wanted[inside]
            yield from (name for name, found in zip(batch, there, strict=True) if not found)
