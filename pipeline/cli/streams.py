"""A process's standard streams, whatever whoever started it made of them.

A stream may be closed (`>&-`), may end in a pipe whose reader is gone, or on a disk that is full. Results on
stdout that cannot be written are an error, as with any file; progress and errors on stderr are not worth a
job's life. A closed descriptor is worse than none: the next file that is opened gets its number, and what a
library prints would be written into that.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDERR: Final = 2


class _Lossy(io.FileIO):
    """Swallows what cannot be written."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def settle() -> None:
    """Open what is closed on nothing, and let stderr lose what it cannot write. Call before all else.

    What a stream's encoding has no sign for is written as `\\u0394`: a terminal of ASCII costs no result.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        # What is closed of the three stays open now, for this process's children too.
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Lossy(STDERR, "w", closefd=False)),
        encoding="utf-8" if sys.stderr is None else sys.stderr.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


def flush() -> bool:
    """Write what is left to write; False where stdout does not take it."""
    sys.stderr.flush()
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True
