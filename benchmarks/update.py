"""An update against a full build: what is kept, counted independently; seconds and bytes.

    python -m benchmarks.update DUMP [--share 0.02] [--pages 60] [--models FOLDER] [--codec bfloat16]

DUMP is a MediaWiki dump (bz2). It is built; then edited by a script: of all paragraphs a share has two words
swapped, one page is removed, one added, one renamed, and in one two sections are moved. The corpus is updated
to it, and the edited dump is built anew beside it. Models are of `--models`, `gtr` and `t5`, or are made: of
T5's small size with random weights.

Said are: passages kept, vanished and added, and the same counted from the two builds' tables; whether a file
of the build was written again; how far new rows are from those of the new build; and the update's seconds
and bytes as shares of the new build's.
"""

from __future__ import annotations

import argparse
import bz2
import random
import re
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pipeline_tax import cut, make_models
from encoders.memory_spec import MemorySpec
from encoders.t5_config import PUBLISHED_SIZES
from pipeline.accounts import facts
from pipeline.components.settings import BuildSettings
from pipeline.jobs import build, update
from retrieval import open_corpus
from retrieval.corpus import Corpus
from storage.folder import CorpusFolder

_PAGE = re.compile(r"  <page>.*?</page>\n", re.DOTALL)
_TEXT = re.compile(r"(<text[^>]*>)(.*?)(</text>)", re.DOTALL)
_WORDS = re.compile(r"(?<= )([a-z]{4,}) ([a-z]{4,})(?= )")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dump", type=Path)
    parser.add_argument("--share", type=float, default=0.02)
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--codec", default="bfloat16")
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "update-models")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="update-"))
    try:
        run(arguments, folder)
    finally:
        shutil.rmtree(folder)


def run(arguments: argparse.Namespace, folder: Path) -> None:
    first = cut(arguments.dump, folder / "first.xml.bz2", arguments.pages)
    second = folder / "second.xml.bz2"
    text = bz2.decompress(first.read_bytes()).decode()
    second.write_bytes(bz2.compress(edited(text, arguments.share, arguments.seed).encode()))
    if not arguments.models.exists():
        size = replace(PUBLISHED_SIZES["small"], layers=6)
        make_models(arguments.models, first, size, dim=768)

    def settings(dump: Path) -> BuildSettings:
        return BuildSettings(
            sources=(f"mediawiki:{dump}",),
            retriever=str(arguments.models / "gtr"),
            memory_encoder=str(arguments.models / "t5"),
            memory=MemorySpec(live_proportion=Fraction(1, 2)),
            codec=arguments.codec,
        )

    live = CorpusFolder(folder / "live")
    build.build(settings(first), live)
    fresh = CorpusFolder(folder / "fresh")
    built = build.build(settings(second), fresh)
    before = {p: p.stat().st_ino for p in live.root.rglob("*") if p.is_file() and p.name != "corpus.json"}
    bytes_before = live.bytes_on_disk()
    done = update.update(live, update.UpdateSettings(sources=(f"mediawiki:{second}",)))
    rewritten = [p for p, inode in before.items() if not p.is_file() or p.stat().st_ino != inode]
    old, new = Corpus(live, generation=0), Corpus(live)
    one, two = (said(corpus) for corpus in (old, open_corpus(fresh.root)))
    kept = (one & two).total()
    counted = {
        "old": one.total(),
        "kept": kept,
        "vanished": one.total() - kept,
        "new": two.total(),
        "added": two.total() - kept,
    }
    told = {name: done.counts[name] for name in counted}
    print(f"by the update:  {told}\ncounted apart:  {counted}")
    print(f"files of the build that were written again: {len(rewritten)} of {len(before)}")
    print(f"new rows and the new build's differ by {apart(new, fresh):.2g} (root mean square, relative)")
    facts_live, facts_fresh = facts.read(live), facts.read(fresh)
    share = counted["added"] / counted["new"]
    seconds = facts_live.updates[0]["worker_seconds"]
    full = sum(facts_fresh.build.worker_seconds["shards"].values()) if facts_fresh.build else 0.0
    steps = facts_fresh.build.worker_seconds["shards"] if facts_fresh.build else {}
    written = live.bytes_on_disk() - bytes_before
    print(f"of the passages {share:.1%} are new; of the paragraphs {arguments.share:.1%} were edited")
    print(f"seconds in shards: {seconds:.1f} of {full:.1f}: {seconds / full:.1%}; with {steps}")
    print(f"bytes: {written:,} of {fresh.bytes_on_disk():,}: {written / fresh.bytes_on_disk():.1%}")
    print(f"wall: update {done.seconds:.1f} s, build {built.seconds:.1f} s")
    print(f"recall@10 {done.recall_at_10}")


def edited(xml: str, share: float, seed: int) -> str:
    """The next dump."""
    rng = random.Random(seed)
    pages = _PAGE.findall(xml)
    head, tail = xml[: xml.index(pages[0])], xml[xml.index(pages[-1]) + len(pages[-1]) :]
    whole = [n for n, page in enumerate(pages) if "<redirect" not in page and "<ns>0</ns>" in page]
    # Of the shorter half: one long page is a tenth of a small dump.
    short = sorted(whole, key=lambda number: len(pages[number]))[: len(whole) // 2]
    removed, renamed, moved, copied = rng.sample(short, 4)
    result = []
    for number, page in enumerate(pages):
        if number == removed:
            continue
        if number == renamed:
            page = page.replace("</title>", " (renamed)</title>", 1)
        if number == moved:
            page = _TEXT.sub(lambda found: found[1] + _moved(found[2]) + found[3], page, count=1)
        if number in whole:
            page = _TEXT.sub(
                lambda found: found[1] + _swapped(found[2], share, rng) + found[3], page, count=1
            )
        result.append(page)
    added = re.sub(r"<id>\d+</id>", "<id>99999999</id>", pages[copied], count=1)
    result.append(added.replace("</title>", " (another)</title>", 1))
    return head + "".join(result) + tail


def _swapped(text: str, share: float, rng: random.Random) -> str:
    lines = text.split("\n")
    for number, line in enumerate(lines):
        prose = len(line) > 120 and line[0].isalnum()
        if prose and rng.random() < share:
            lines[number] = _WORDS.sub(r"\2 \1", line, count=1)
    return "\n".join(lines)


def _moved(text: str) -> str:
    """The last two sections of the first level, the one before the other."""
    parts = re.split(r"(?m)^(?===[^=])", text)
    if len(parts) > 3:
        parts[1], parts[2] = parts[2], parts[1]
    return "".join(parts)


def said(corpus: Corpus) -> Counter[tuple[Any, ...]]:
    rows = corpus.passages(corpus.passage_ids).to_pylist()
    return Counter((r["page_id"], r["title"], tuple(r["section"]), r["text"]) for r in rows)


def apart(new: Corpus, fresh: CorpusFolder) -> float:
    other = open_corpus(fresh.root)
    keys: dict[tuple[Any, ...], int] = {}
    for row in other.passages(other.passage_ids).to_pylist():
        keys[row["page_id"], row["title"], tuple(row["section"]), row["text"]] = row["passage_id"]
    ids = new.passage_ids[new.passage_ids >= new.segments[-1].first]
    rows = new.passages(ids).to_pylist()
    theirs = [keys[r["page_id"], r["title"], tuple(r["section"]), r["text"]] for r in rows]
    a = np.asarray(new.memory().fetch(ids).values, np.float32)
    b = np.asarray(other.memory().fetch(theirs).values, np.float32)
    return float(np.sqrt(((a - b) ** 2).mean() / (b**2).mean()))


if __name__ == "__main__":
    main()
