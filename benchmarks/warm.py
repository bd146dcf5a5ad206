"""Warm fetches of memory beside np.memmap of the raw bfloat16 rows, as ratios: 20 passages, and one.

    python -m benchmarks.warm [--width 1024] [--passages 200] [--rounds 24] [--wall] [--json FILE]

Files are written to a scratch folder and lie in the page cache. Every passage is compared with the truth
first. All contenders fetch the same random passages in a round and others in the next, in an order drawn
anew. It is the warm half of `benchmarks.store`, with one client, for the codecs that have a goal. Seconds
are CPU time of all threads; `--wall` takes the clock on the wall, where a second core that is free counts.
To measure one core, run it with `taskset -c 0`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.store import limits, ours, page_cache, reading, report
from benchmarks.store.truth import Truth
from storage import codecs, native

CODECS: Final = (ours.BASE_CODEC, "int8", "pq8x8", "turbo4")
FETCHED: Final = (20, 1)
# At most, as times of np.memmap, of a fetch of many.
GOALS: Final = {
    ours.contender_name(codec, "once"): goal
    for codec, goal in {"bfloat16": 1.0, "int8": 1.5, "pq8x8": 1.5, "turbo4": 6.0}.items()
}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run, print the tables, and return what `--json` writes."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.warm", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--passages", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--wall", action="store_true", help="time on the wall, not on processors")
    parser.add_argument("--folder", type=Path, help="where to put the files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(arguments)
    if options.passages < max(FETCHED):
        parser.error(f"--passages {options.passages} is less than the {max(FETCHED)} of one fetch")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="memcorpus-warm-") as folder:
        result = run(Path(folder), options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Write the stores and measure fetches of each size."""
    truth = Truth.create(folder, passages=options.passages, width=options.width)
    coded = {name: ours.Coded(truth, codecs.by_name(name), folder) for name in CODECS}
    root = folder / "corpus"
    ours.write_corpus(root, truth, coded.values())
    contenders = [limits.Memmap(truth), *ours.contenders(root, coded)]
    parity = {contender.name: reading.check(contender, truth, max(FETCHED)) for contender in contenders}
    kept = page_cache.Kept({path for contender in contenders for path in contender.paths})
    result: dict[str, Any] = {
        "machine": report.machine(),
        "native": native.description(),
        "width": options.width,
        "clock": "wall" if options.wall else "CPU",
        "locked": kept.locked,
        "fetches": [],
    }
    for fetched in FETCHED:
        setting = reading.Setting(
            cold=False, threads=1, rounds=options.rounds, fetched=fetched, cpu=not options.wall
        )
        timings = reading.measure(contenders, truth, setting, parity=parity, kept=kept)
        figures = report.reading(setting, timings, parity, limits.Memmap.name)["contenders"]
        base = min(timings[limits.Memmap.name].seconds)
        for name, timing in timings.items():
            figures[name]["best"] = min(timing.seconds) / base
        load = os.getloadavg()[0]
        result["fetches"].append({"passages": fetched, "load": load, "contenders": figures})
        size = statistics.fmean(truth.lengths.tolist()) * fetched * truth.row_bytes
        print(
            f"{fetched} of {truth.passages} passages, d = {truth.width}, {size / 1e6:.1f} MB of bfloat16; "
            f"{result['clock']} time, {native.description()}, "
            f"{len(os.sched_getaffinity(0))} cores, load {load:.1f}"
        )
        print(table(figures, GOALS if fetched > 1 else {}), end="\n\n")
    kept.release()
    for contender in contenders:
        contender.close()
    return result


def table(figures: dict[str, Any], goals: dict[str, float]) -> str:
    """A row for each contender."""
    rows = [["", "median µs", "x np.memmap (quartiles)", "best by best", "goal"]]
    for name, row in figures.items():
        ratio = row["ratio"]
        goal = goals.get(name)
        rows.append(
            [
                *(name, f"{row['p50_ms'] * 1e3:,.0f}"),
                f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
                *(f"{row['best']:.2f}", "" if goal is None else f"{goal:g}"),
            ]
        )
    return report.columns(rows)


if __name__ == "__main__":
    main()
