"""What this process has asked of object stores: requests and bytes, by kind."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Final


class Traffic:
    """Requests and bytes of this process, by kind; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._told: Counter[str] = Counter()

    def add(self, **counts: int) -> None:
        with self._lock:
            self._counts.update(counts)

    def counts(self) -> dict[str, int]:
        """gets, puts, lists, deletes, copies, retries; bytes_got, bytes_put. Each part is a put."""
        with self._lock:
            return dict(self._counts)

    def since_told(self) -> dict[str, int]:
        """What has come since this was asked last, each name with "store " before it."""
        with self._lock:
            new = self._counts - self._told
            self._told = self._counts.copy()
        return {f"store {name.replace('_', ' ')}": count for name, count in new.items()}


TRAFFIC: Final = Traffic()
