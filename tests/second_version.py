"""A second memory version of a built corpus, in another codec."""

from __future__ import annotations

from pathlib import Path

from pipeline.jobs.reencode import ReencodeSettings
from tests import jobs

# A codec of each kind that a recoding of bfloat16 can give; see the fixture `coded`.
CODECS = ("int8", "turbo4", "pq8x8", "float16", "float32")


def add_version(root: Path, codec_name: str, *, alias: str | None = None) -> str:
    """Recode the current version and return the new one's name; without an alias nothing points to it."""
    settings = ReencodeSettings(origin="current", codec=codec_name, name=alias)
    return jobs.reencode(root, settings)[1]
