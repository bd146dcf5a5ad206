"""What memcorpus does on the accelerator that is there, in at most eight minutes and with nothing downloaded.

    python -m benchmarks.accelerator --json figures.json --table figures.md
    python -m benchmarks.accelerator --sizes tiny --seconds 60      (any machine, to see that it runs)

Sections, each in a process of its own and for its share of the time: parity with transformers; the matrix
rate that the card reaches; attention by kernel; tokens a second and share of that rate by size and batch
budget, weights drawn at random; codecs on the device; rates to the host and the corpus's disk; a build beside
its bare encoders; a training step. What fails is a result, and the others go on. Time that a section leaves
is the next ones'; what no time is left for says so. Figures are kept after each section.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.device import boxes, tables
from benchmarks.device.boxes import Section
from encoders.t5_config import PUBLISHED_SIZES
from pipeline.units import accelerators

TINY: Final = "tiny"
_HERE: Final = "benchmarks.device"
SECTIONS: Final = (
    Section(name="device", function=f"{_HERE}.rates:device", weight=1),
    Section(name="parity", function=f"{_HERE}.encoding:parity", weight=2.5),
    Section(name="matrix rate", function=f"{_HERE}.rates:matrix_rate", weight=2),
    Section(name="attention", function=f"{_HERE}.encoding:kernels", weight=3),
    Section(name="encoder", function=f"{_HERE}.encoding:tokens_per_second", weight=8),
    Section(name="codecs", function=f"{_HERE}.codes:codecs_on_device", weight=2),
    Section(name="transfers", function=f"{_HERE}.rates:transfers", weight=2),
    Section(name="build", function=f"{_HERE}.building:tax", weight=5),
    Section(name="training", function=f"{_HERE}.building:training_step", weight=5),
)
SECONDS: Final = 440.0
PRELOADED: Final = (f"{_HERE}.rates", f"{_HERE}.encoding", f"{_HERE}.codes", f"{_HERE}.building")
LIBRARIES: Final = ("jax", "jaxlib", "flax", "numpy", "torch", "transformers")
ACCELERATORS: Final = ("gpu", "tpu")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the tables, write them where asked; the exit status."""
    options = _options(arguments)
    sections = [section for section in SECTIONS if options.only is None or section.name in options.only]
    if not any(section.name == "device" for section in sections):
        sections.insert(0, SECTIONS[0])
    settings = {
        "sizes": options.sizes,
        "tiny": options.sizes == [TINY],
        "budgets": options.budgets or ([608, 1216] if options.sizes == [TINY] else [4096, 16_384, 65_536]),
        # Seconds of one timing: long beside what it costs to start a program.
        "timing": 0.02 if options.sizes == [TINY] else 0.2,
        "folder": str(options.folder),
    }
    begun = time.monotonic()
    result: dict[str, Any] = {"versions": _versions(), "settings": settings, "load": os.getloadavg()[0]}

    def keep(found: dict[str, boxes.Row]) -> None:
        result["seconds"] = time.monotonic() - begun
        result["sections"] = found
        if options.json is not None:
            _write(options.json, json.dumps(result, indent=1) + "\n")
        name, section = list(found.items())[-1]
        state = section.get("error") or section.get("skipped") or f"{len(section['entries'])} entries"
        print(f"{result['seconds']:6.0f} s  {name}: {state}", file=sys.stderr, flush=True)

    # Known before anything else is spent time on.
    found = boxes.run(sections[:1], settings, min(60.0, options.seconds), preload=PRELOADED, after=keep)
    seen = found["device"]["entries"].get("device", {}).get("platform")
    result["accelerator"] = seen in ACCELERATORS
    print(_said(found["device"], seen), file=sys.stderr, flush=True)
    if not result["accelerator"] and options.sizes != [TINY] and not options.anyway:
        return 2

    def keep_all(later: dict[str, boxes.Row]) -> None:
        keep({**found, **later})

    left = options.seconds - (time.monotonic() - begun)
    boxes.run(sections[1:], settings, left, preload=PRELOADED, after=keep_all, earlier=found)
    table = tables.of(result)
    print(table)
    if options.table is not None:
        _write(options.table, table + "\n")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.accelerator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--sizes", nargs="+", choices=[TINY, *PUBLISHED_SIZES], default=["base", "large", "xl"]
    )
    parser.add_argument("--budgets", type=int, nargs="+", help="tokens of a batch, ascending")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for all (default: {SECONDS:.0f})")
    parser.add_argument("--only", nargs="+", choices=[section.name for section in SECTIONS])
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="on the disk of corpora"
    )
    parser.add_argument("--anyway", action="store_true", help="measure large sizes on a CPU, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the tables there, as Markdown")
    return parser.parse_args(arguments)


def _said(section: boxes.Row, platform: str | None) -> str:
    """One line about what jax sees."""
    if platform is None:
        return f"jax saw no device: {section.get('error') or section.get('skipped')}"
    row = section["entries"]["device"]
    if platform in ACCELERATORS:
        return f"jax sees {row['devices']} of {platform}, {row['kind']}; one is measured"
    line = "jax sees no GPU and no TPU: figures are of this machine's CPU"
    unused = accelerators.unused()
    return f"{line}; {unused or 'measure it with --sizes tiny, or large sizes with --anyway'}"


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _write(path: Path, text: str) -> None:
    """Whole or not at all: a run that is killed leaves what the section before left."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
