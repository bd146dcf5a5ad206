"""A job in this process that is killed: from its n-th change of a folder on, nothing that it does happens.

Where a kill falls between two such changes makes no difference to what is on the disk. What is written into
a file that nobody renames into place is not counted: it is the partial file of a dead writer.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

# What makes, moves or removes a name. `shutil.rmtree` names what it removes relative to an open folder.
_CHANGES: Final = ("mkdir", "rename", "replace", "rmdir", "unlink")


class Killed(BaseException):
    """Ends a job as a signal would: no handler of ours catches it, and no cleaning up has any effect."""


@contextmanager
def killed_at(folder: Path, change: int | None) -> Iterator[None]:
    """Kill what runs in the block at its change number `change` below `folder`, counted from 0.

    Args:
        folder: the corpus.
        change: None: let it live. A job that makes fewer changes lives, too.

    Raises:
        Killed: the job was.
    """
    if change is None:
        yield
        return
    left = change

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            nonlocal left
            ours = named.get("dir_fd") is not None or Path(os.fsdecode(path)).is_relative_to(folder)
            if ours:
                if left <= 0:
                    raise Killed
                left -= 1
            return real(path, *rest, **named)

        return call

    try:
        with mock.patch.multiple(os, **{name: dying(getattr(os, name)) for name in _CHANGES}):
            yield
    except Killed as e:
        # What its frames held, locks among it, ends with a process.
        e.__traceback__ = None
        raise Killed from None
    finally:
        gc.collect()
