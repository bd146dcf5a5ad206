"""How fast dumps become passages: pages, passages and XML bytes a second on one core.

    python -m benchmarks.sources [DUMP ...]

Without a dump: miniwiki's, plain and compressed. mwparserfromhell's own `strip_code` over the same
wikitext stands beside it, as the plain use of the same library.
"""

from __future__ import annotations

import argparse
import bz2
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import mwparserfromhell

from examples.miniwiki.export import write_dump
from pipeline.text import articles, passages, sources


def measure(path: Path) -> str:
    """One line of figures on one dump."""
    source = sources.open_source(f"mediawiki:{path}")
    pages = kept = count = words = xml_bytes = 0
    start = time.perf_counter()
    for split in source.splits(32 << 20):
        reader = sources.read_split(split)
        for page in reader:
            pages += 1
            if isinstance(page, articles.Article):
                kept += 1
                for passage in passages.passages(page):
                    count += 1
                    words += passage.words
        xml_bytes += reader.xml_bytes
    seconds = time.perf_counter() - start
    return (
        f"{path.name:<48}{pages:>8,} pages ({kept:,} kept){count:>8,} passages{words:>11,} words"
        f"{kept / seconds:>8.0f} kept/s"
        f"{count / seconds:>8.0f} passages/s{xml_bytes / 1e6 / seconds:>7.2f} MB/s"
    )


def strip_code_rate(path: Path, limit: int = 40) -> float:
    """Pages a second of mwparserfromhell's `strip_code` alone, on the first pages kept."""
    data = path.read_bytes()
    if data[:3] == b"BZh":
        data = bz2.decompress(data)
    texts = []
    for fragment in data.split(b"<page>")[1:]:
        try:
            page = ElementTree.fromstring(b"<page>" + fragment.split(b"</page>")[0] + b"</page>")
        except ElementTree.ParseError:
            continue
        if page.findtext("ns") == "0" and page.find("redirect") is None:
            texts.append(page.findtext("revision/text") or "")
        if len(texts) == limit:
            break
    start = time.perf_counter()
    for text in texts:
        mwparserfromhell.parse(text).strip_code()
    return len(texts) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dumps", nargs="*", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dumps = arguments.dumps or [
            write_dump(Path(folder) / "miniwiki.xml", form="xml").path,
            write_dump(Path(folder)).path,
        ]
        for dump in dumps:
            print(measure(dump))
            print(f"{'  strip_code alone':<48}{strip_code_rate(dump):>8.0f} kept/s")


if __name__ == "__main__":
    main()
