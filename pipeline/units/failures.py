"""What went wrong, of four kinds: input refused, data damaged, a machine that failed, or a bug of ours.

An exception tells its kind by its class alone. A worker may be on the other side of a runner that turns
exceptions into text, so it leaves its own as JSON, and the process that started the job raises them again:
the kind, the message and the worker's traceback are kept.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Mapping
from typing import Any, Final

from encoders import processor
from encoders.errors import DivergedError, EncoderError
from storage import errors

REFUSED: Final = "refused"
DAMAGED: Final = "damaged"
FAILED: Final = "failed"
BUG: Final = "bug"


class Failed(RuntimeError):
    """A machine, or a process of it, did not do its part; what is done is kept."""


class UnitFailed(Failed):
    """A unit of work failed, in whatever process it ran; the message is that process's own."""


class UnitBroke(RuntimeError):
    """A unit of work met a bug, in whatever process it ran; that process's traceback is a note to it."""


def kind(error: BaseException) -> str:
    """Which of the four. What is neither one of our own classes nor a machine's failure is a bug, and so is a
    ValueError that Python or a library raised where nobody looked for it."""
    if is_disk_full(error):
        return FAILED
    if processor.lacks_float16(error):
        return REFUSED
    if isinstance(error, errors.DamagedError):
        return DAMAGED
    if isinstance(error, errors.CorpusError | EncoderError):
        return REFUSED
    if isinstance(error, Failed | OSError | MemoryError | DivergedError) or _is_device_full(error):
        return FAILED
    return BUG


def message(error: BaseException) -> str:
    """What is said of an error in a line."""
    text = str(error)
    if isinstance(error, Failed | UnitBroke):
        return text
    if is_disk_full(error):
        return f"no space left on the disk; what is done is kept: free some and run the same again ({text})"
    if processor.lacks_float16(error):
        return str(processor.Float16Error())
    if isinstance(error, OSError) and error.strerror:
        return errors.in_words(error)
    if text and kind(error) != BUG:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def to_json(error: BaseException) -> dict[str, str]:
    """What a worker leaves of an error."""
    told = "".join(traceback.format_exception(error))
    return {"kind": kind(error), "message": message(error), "traceback": told}


def from_json(left: Mapping[str, Any], where: str) -> Exception:
    """The error as it would have been raised here.

    Args:
        left: of `to_json`.
        where: the unit, for what is of one unit and not of the whole job's input.
    """
    text = str(left["message"])
    known = {REFUSED: errors.CorpusError(text), DAMAGED: errors.DamagedError(text)}
    broken = UnitBroke if left["kind"] == BUG else UnitFailed
    error = known.get(left["kind"]) or broken(f"{where}: {text}")
    error.add_note(f"In the worker:\n{left['traceback']}")
    return error


def is_disk_full(error: BaseException) -> bool:
    """TensorStore says it in words, everything else by number."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


def _is_device_full(error: BaseException) -> bool:
    """XLA has one class of errors, and tells the kinds apart in words."""
    return isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
