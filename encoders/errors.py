"""What this package refuses: input of the user's that no encoder could work with, in one line.

An error of a caller's, such as arrays whose shapes do not go together, is no refusal: it is a bug, and
stays the builtin exception that Python has for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class EncoderError(ValueError):
    """A setting, a model or a text that cannot be used: the thing, its value, the rule, the remedy."""


class UnstorableError(EncoderError, OverflowError):
    """A number that the type it is to be stored in cannot hold, or one that is not finite."""


class DivergedError(FloatingPointError):
    """A loss or a gradient that is not finite: training failed, and has nothing to go on with."""


class DeviceMemoryError(MemoryError):
    """The device has too little memory for a batch of one row. No refusal: another machine may have it."""


@contextmanager
def naming(path: object) -> Iterator[None]:
    """A block that reads a file: what the system refuses it bears the file's name. For a read that fails the
    system gives none, as it does for an open."""
    try:
        yield
    except OSError as e:
        if e.strerror and e.filename is None:
            e.filename = str(path)
        raise
