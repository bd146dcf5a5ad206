"""The site of the documents: built without a warning, and it loads nothing of another host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocstrings")
# What a browser fetches by itself; a link that somebody follows is none of these.
LOADED = re.compile(
    r"<(?:script|img|iframe|source)[^>]+src=[\"'](?:https?:)?//"
    r"|<link(?![^>]+rel=[\"']?canonical)[^>]+href=[\"'](?:https?:)?//"
)


@pytest.mark.slow
def test_the_site(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = {path.stem: path.read_text("utf-8") for path in (tmp_path / "site").glob("*.html")}
    for document in (
        "index",
        "CONTRIBUTING",
        "reference",
        *(path.stem for path in (ROOT / "docs").glob("*.md")),
    ):
        assert document in pages
    for name, text in pages.items():
        assert LOADED.findall(text) == [], name
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(?:https?:)?//", sheet.read_text("utf-8")), sheet.name
    reference = pages["reference"]
    for words in ("open_writer", "MemoryDataset", "MemoryReader.fetch"):
        assert words in reference, words
    # Of a docstring: an argument with its text, in a table of its own.
    assert "Killed at any moment" in reference
    assert "passage_ids" in reference


def test_what_a_browser_fetches_is_seen() -> None:
    for text in (
        '<script src="https://x/y.js">',
        "<img alt='' src='//x/y'>",
        '<link rel="stylesheet" href="https://x">',
    ):
        assert LOADED.search(text)
    for text in ('<a href="https://x">', '<script src="a/b.js">', '<link rel="canonical" href="https://x">'):
        assert not LOADED.search(text)
