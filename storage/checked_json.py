"""JSON that ends with the CRC-32C of its own bytes: the manifest, cards and receipts are such files."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any, Final

from storage import errors, files

# Far above any manifest or card; parsing takes several times as much memory.
MAX_BYTES: Final = 64 << 20

_CHECK: Final = re.compile(rb'"crc32c": "([0-9a-f]{8})"\n}\n\Z')
_NO_CHECK: Final = b'"crc32c": "00000000"\n}\n'


def encode(value: dict[str, Any]) -> bytes:
    """JSON that ends with the CRC-32C of its own bytes (taken with eight zeros in its place)."""
    if "crc32c" in value:
        raise ValueError("key 'crc32c' is reserved for the file's own checksum")
    body = json.dumps({**value, "crc32c": "00000000"}, indent=1, ensure_ascii=False).encode() + b"\n"
    return body[: -len(_NO_CHECK)] + _NO_CHECK.replace(b"00000000", b"%08x" % files.crc32c(body))


def write(path: Path, value: dict[str, Any]) -> None:
    """Write JSON that checks itself; see `encode`."""
    files.write_atomic(path, encode(value))


def read(path: Path) -> dict[str, Any]:
    """Read what `write` wrote. Any other byte than those written raises `DamagedError`.

    Somebody else may have written the file, checksum and all: what our own writer would not write is
    a CorpusError, before much memory is spent on it.

    Raises:
        FileNotFoundError: there is none; what that means the caller knows.
        UnreadableError: it cannot be read now.
    """
    try:
        # What has no end, or waits for a writer, is not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                raise errors.CorpusError(
                    f"{path} is no file of up to {MAX_BYTES:,} bytes; manifests and cards are"
                )
            data = files.read_to_end(descriptor, status.st_size)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise errors.from_os(path, e) from e
    return decode(data, path)


def decode(data: bytes, path: object) -> dict[str, Any]:
    """The bytes that `write` wrote, read as `read` does; `path` names them in errors."""
    found = _CHECK.search(data)
    if found is None:
        raise errors.DamagedError(f"{path} does not end with its checksum; it is damaged or not ours")
    body = data[: found.start()] + _NO_CHECK
    if files.crc32c(body) != int(found[1], 16):
        raise errors.DamagedError(f"{path} does not match its checksum {found[1].decode()}; restore it")
    try:
        value = json.loads(
            body.decode(), object_pairs_hook=_object, parse_constant=_finite, parse_float=_finite
        )
    except (ValueError, RecursionError) as e:
        raise errors.CorpusError(f"{path} is no JSON as it is written here: {e}") from e
    if not isinstance(value, dict):
        raise errors.CorpusError(f"{path} holds a JSON {type(value).__name__}, wanted an object")
    del value["crc32c"]
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.20} is no number")
    return value
