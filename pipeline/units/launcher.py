"""The process that started the workers of a machine: how they know it, and that it is gone.

A worker cannot ask for its parent: where the launcher was killed while the worker was being born, the parent
is another process from the first look on, and in a container process 1 may be a launcher or may have adopted
an orphan. A process id alone may be given out again. So the launcher writes its id and the moment of its
start into the environment of its workers, and those look whether that very process lives.
"""

from __future__ import annotations

import os
import time
from typing import Final

from storage.processes import lives as lives
from storage.processes import named as named

# "id:start", for the workers to read.
VARIABLE: Final = "MEMCORPUS_LAUNCHER"
POLL_SECONDS: Final = 0.5


def end_with(name: str) -> None:
    """End this process when the launcher is gone; it would work on for nobody."""
    while lives(name):
        time.sleep(POLL_SECONDS)
    os._exit(1)
