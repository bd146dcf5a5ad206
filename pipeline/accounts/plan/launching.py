"""What the launching process and readers take, as arithmetic on how many files there are. No I/O.

Rates are of one core, by the table of docs/benchmarks.md (`benchmarks.launcher`): a commit and what comes
before and after it are linear in the shards, whose receipts are read one after the other.
"""

from __future__ import annotations

from typing import Final

from pipeline.accounts.plan import form
from storage.costs import CorpusBytes
from storage.memory_rows import KNOWN_PASSAGES

# CPU seconds a shard: of going on with a build that was interrupted, of a stage's end, of the commit; and of
# a look at one file's size.
RESUME_SECONDS: Final = 110e-6
STAGE_SECONDS: Final = 120e-6
COMMIT_SECONDS: Final = 400e-6
VERIFY_SECONDS: Final = 80e-6
# Calls of a file system a shard, as strace counts them: the stage's end and the commit; and of a look at a
# shard's file of memory.
COMMIT_REQUESTS: Final = 38
VERIFY_REQUESTS: Final = 18
# RAM of the launching process, its libraries included; and what it keeps of each file.
RAM_BYTES: Final = 330 << 20
FILE_BYTES: Final = 8
# CRC-32 of zlib, of one core.
CHECK_BYTES_PER_SECOND: Final = 3.0e9
# Of each passage that was asked for a reader keeps where its rows begin, and their checksum, up to a bound.
READER_PASSAGE_BYTES: Final = 8


def launching(shards: int, passages: int, size: CorpusBytes) -> form.Launching:
    """What a corpus of so many shards takes beside its workers."""
    return {
        "ram_bytes": RAM_BYTES + FILE_BYTES * size.files,
        "resume_seconds": RESUME_SECONDS * shards,
        "commit_seconds": (STAGE_SECONDS + COMMIT_SECONDS) * shards,
        "commit_requests": COMMIT_REQUESTS * shards,
        "verify_seconds": VERIFY_SECONDS * size.files,
        "verify_requests": VERIFY_REQUESTS * size.files,
        "verify_full_core_hours": size.total / CHECK_BYTES_PER_SECOND / 3600,
        "reader_ram_bytes": READER_PASSAGE_BYTES * min(passages, KNOWN_PASSAGES),
    }
