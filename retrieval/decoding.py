"""Where a loader's codes are decoded: on the host, or behind the bus. Loads no framework."""

from __future__ import annotations

from typing import Final

from retrieval.memory import MemoryReader
from storage import errors
from storage.codecs.floats import FloatCodec

HOST: Final = "host"
DEVICE: Final = "device"


def on_host(decode: str) -> bool:
    """Whether a loader's `decode` says the host.

    Raises:
        CorpusError: it is neither "host" nor "device".
    """
    if decode not in (HOST, DEVICE):
        raise errors.CorpusError(f"decode is {decode!r:.40}, wanted {HOST!r} or {DEVICE!r}")
    return decode == HOST


def is_plain(reader: MemoryReader) -> bool:
    """Whether stored rows are values bit for bit, so that nothing is decoded anywhere."""
    return isinstance(reader.card.layout.codec, FloatCodec)
