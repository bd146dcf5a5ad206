"""A row of tickets, for processes of one machine that share out work among themselves."""

from __future__ import annotations

import os
from pathlib import Path


class Tickets:
    """Numbers from 0 on, each drawn once, by any process of this machine. Picklable."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: a file that is not there yet, on a local disk.
        """
        self._path = path

    def draw(self) -> int:
        """The next number."""
        # A byte is appended for each. The system puts it at the end as the file is then, whoever else
        # writes, and leaves the descriptor behind that very byte.
        drawn = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(drawn, b".")
            return os.lseek(drawn, 0, os.SEEK_CUR) - 1
        finally:
            os.close(drawn)
