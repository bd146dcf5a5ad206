"""What a file is, told by its first bytes."""

from __future__ import annotations

from pathlib import Path

from pipeline.text.sources.base import SourceError, reading

BZ2, GZIP = "bzip2", "gzip"

_MAGIC = (
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PAR1", "a Parquet file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"-- MySQL dump", "an SQL dump"),
    (b"-- MariaDB dump", "an SQL dump"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
)
_TEXT = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<mediawiki", "a MediaWiki export"),
    (b"<?xml", "an XML file"),
    (b"{", "JSON"),
    (b"[", "JSON"),
)


def head_of(file: Path, count: int = 512) -> bytes:
    """The first bytes of a file.

    Raises:
        SourceError: the file is not there, or is empty.
        UnreadableError: it cannot be read.
    """
    with reading(file), file.open("rb") as stream:
        head = stream.read(count)
    if not head:
        raise SourceError(f"{file} is empty (0 bytes); was its download finished?")
    return head


def compression(head: bytes) -> str | None:
    """`BZ2`, `GZIP` or None for anything else."""
    if head[:3] == b"BZh" and head[3:4] in b"123456789":
        return BZ2
    return GZIP if head[:2] == b"\x1f\x8b" else None


def describe(head: bytes) -> str:
    """Name what `head` looks like: "'%PDF-1.7' is a PDF"."""
    if not head.strip():
        return "it starts with nothing but blank lines"
    shown = head.lstrip()[:60].split(b"\n", 1)[0][:24]
    text = shown.decode("utf-8", "replace").strip("\r\n\x00")
    shown_text = repr(text) if text.isprintable() and text else f"bytes {shown[:8].hex(' ')}"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return f"{shown_text} is {name}"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for magic, name in _TEXT:
        if start.startswith(magic):
            return f"{shown_text} is {name}"
    return f"it starts with {shown_text}"
