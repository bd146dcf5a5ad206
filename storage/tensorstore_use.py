"""What everything that calls TensorStore does: it asks first, and says of its errors what they mean.

TensorStore has threads of its own. They are not there in a process that was forked since, and it ends that
process when it notices; so there it is refused by an error of ours.
"""

from __future__ import annotations

import os
from typing import Final

from storage import errors

# The kinds, as its messages begin, of bytes that are not there, or are not what they were. All others are of
# what keeps it from reading: the network, permissions, descriptors.
OF_BYTES: Final = ("DATA_LOSS", "OUT_OF_RANGE")
# Arrays have metadata and chunks as well, which may be missing or make no sense.
OF_ARRAYS: Final = (*OF_BYTES, "NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION")

_used = False
_lost = False


def begin(what: object) -> None:
    """Say that TensorStore is about to be used, here, for `what`.

    Raises:
        CorpusError: this process was forked from one that had used it.
    """
    global _used
    if _lost:
        raise errors.CorpusError(
            f"{what} cannot be read in a process that was forked after its parent had read vectors, or from "
            "an object store: start processes by spawn (PyTorch: multiprocessing_context='spawn'), or open "
            "the corpus in them alone"
        )
    _used = True


def failure(
    what: object, error: ValueError, damage: tuple[str, ...]
) -> errors.DamagedError | errors.UnreadableError:
    """What its error means, to be raised from it: it has one class for all. `damage` are kinds as above."""
    if str(error).startswith(damage):
        return errors.DamagedError(f"{what} is not as it was written; run `memcorpus verify`: {error}")
    return errors.UnreadableError(
        f"{what} cannot be read; look after the disk or the network, and try again: {error}"
    )


def _after_fork() -> None:
    global _lost
    _lost = _lost or _used


os.register_at_fork(after_in_child=_after_fork)
