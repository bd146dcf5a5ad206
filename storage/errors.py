"""Errors of the store: each a builtin that callers already catch, saying thing, value, rule, remedy."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


class CorpusError(ValueError):
    """Something asked of a corpus, or found in its folder, that cannot be used as it is."""


class DamagedError(CorpusError):
    """Stored bytes that do not match their checksum. Nothing read from them is returned."""


class UnreadableError(OSError):
    """Stored bytes that could not be read this time: no permission, a bad sector, no file left to open, no
    network. It says nothing about what is stored there, so nothing may be repaired or done again for it.

    An OSError, as what it is raised from is, and no CorpusError: whoever catches that one takes what is
    stored for wrong.
    """

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number


class MismatchError(CorpusError):
    """Two things that must agree do not: an encoder and a memory version, a plan and a rerun."""


class UnknownPassageError(CorpusError, LookupError):
    """Passage ids that the corpus does not hold; `ids` lists them."""

    def __init__(self, ids: list[int], passages: int) -> None:
        shown = ", ".join(map(str, ids[:10])) + (", ..." if len(ids) > 10 else "")
        last = "the corpus holds none" if passages == 0 else f"the corpus holds 0 to {passages - 1}"
        super().__init__(f"unknown passage id{'s' if len(ids) > 1 else ''} {shown}: {last}")
        self.ids = ids


class TombstoneError(CorpusError, LookupError):
    """Passage ids that an update took out of the corpus; `ids` lists them, `generation` tells which update
    removed the first of them."""

    def __init__(self, ids: list[int], generation: int, *, dropped: bool) -> None:
        shown = ", ".join(map(str, ids[:10])) + (", ..." if len(ids) > 10 else "")
        were = f"passages {shown} were" if len(ids) > 1 else f"passage {shown} was"
        rest = (
            "and `memcorpus compact` has dropped the bytes since; search for what has come in the place"
            if dropped
            else f"open the corpus with generation={generation - 1} to read what stood there"
        )
        first = " (the first of them)" if len(ids) > 1 else ""
        super().__init__(f"{were} removed by generation {generation} of the corpus{first}; {rest}")
        self.ids = ids
        self.generation = generation


# What the system says where no file is, or something else in its place: then bytes are lost.
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO})
_REMEDIES: Final = {
    errno.EACCES: "let this user read it",
    errno.EPERM: "let this user read it",
    errno.EMFILE: "this process may open no more files: raise `ulimit -n`",
    errno.ENFILE: "this machine may open no more files: raise fs.file-max",
}


def from_os(what: object, error: OSError) -> DamagedError | UnreadableError:
    """What the system's refusal to open or read a stored file means, to be raised from it."""
    if isinstance(error, UnreadableError):
        return error
    if error.errno in _GONE:
        return DamagedError(f"{what} is missing, or no file: {error.strerror}; run `memcorpus verify`")
    remedy = _REMEDIES.get(
        error.errno or 0, "it may be whole: look after the disk or the network, and try again"
    )
    return UnreadableError(f"{what} cannot be read: {error.strerror or error}; {remedy}", error.errno)


def in_words(error: OSError) -> str:
    """A refusal of the system's as it comes, of a file that is none of a corpus or is being written."""
    name = error.filename if isinstance(error.filename, str) else ""
    # Libraries that raise it themselves have their own text there, Arrow a paragraph.
    known = error.errno is not None and error.errno in errno.errorcode
    text = os.strerror(error.errno or 0) if known else str(error.strerror)
    said = f"{name}: {text}" if name else text
    failed = error.errno in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
    return f"{said}; look after the disk or the network, and run the same again" if failed else said


@contextmanager
def reading(what: object) -> Iterator[None]:
    """A block that opens or reads a stored file; what the system refuses it is raised as `from_os` says."""
    try:
        yield
    except OSError as e:
        raise from_os(what, e) from e
