"""Receipts: what a unit of work has written, left behind as the last thing it does.

A receipt on the disk means that every file it lists was whole when it was written. The commit
believes nothing else, and a resumed job checks the files against it before it skips the unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage import errors, files


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """Of one unit: its files, counts (rows, tokens, ...), seconds by step, and a worker's name.

    `notes` holds what is neither (quarantined pages). Files, counts and notes depend on the source
    and the settings alone. Seconds and worker are kept out of everything that must be the same
    from run to run, and so are `waited`, seconds by who waited for whom, and `events`, how often
    something happened on the way (programs compiled, batches halved).
    """

    unit: int
    files: tuple[files.FileEntry, ...]
    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    worker: str
    notes: tuple[Mapping[str, str], ...] = field(default=())
    waited: Mapping[str, float] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        files.write_json(
            path,
            {
                "unit": self.unit,
                "files": [entry.to_json() for entry in self.files],
                "counts": dict(self.counts),
                "seconds": {k: round(v, 6) for k, v in self.seconds.items()},
                "waited": {k: round(v, 6) for k, v in self.waited.items()},
                "events": dict(self.events),
                "worker": self.worker,
                "notes": [dict(note) for note in self.notes],
            },
        )

    @classmethod
    def read(cls, path: Path) -> Receipt:
        value: dict[str, Any] = files.read_json(path)
        return cls(
            unit=int(value["unit"]),
            files=tuple(files.FileEntry.from_json(entry) for entry in value["files"]),
            counts={str(k): int(v) for k, v in value["counts"].items()},
            seconds={str(k): float(v) for k, v in value["seconds"].items()},
            worker=str(value["worker"]),
            notes=tuple(value["notes"]),
            # Receipts of an earlier release have neither.
            waited={str(k): float(v) for k, v in value.get("waited", {}).items()},
            events={str(k): int(v) for k, v in value.get("events", {}).items()},
        )


def read_if_whole(path: Path, root: Path) -> Receipt | None:
    """The receipt of a unit that is done, its files checked byte by byte; None if it must be redone."""
    try:
        receipt = Receipt.read(path)
    except (OSError, errors.CorpusError):
        return None
    if any(files.damage(root, entry) for entry in receipt.files):
        return None
    return receipt
