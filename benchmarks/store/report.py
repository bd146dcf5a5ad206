"""The figures as JSON and as plain tables."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from benchmarks.store.reading import Parity, Setting, Timings
from benchmarks.store.writing import Rates

PACKAGES: Final = (
    *("numpy", "tensorstore", "zarr", "crc32c", "pylance", "lmdb", "h5py", "pyarrow", "safetensors"),
)


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": versions,
    }


def spread(values: Sequence[float], over: Sequence[float]) -> dict[str, float]:
    """Quartiles of the ratios of two lists of rates, round by round."""
    ratios = [value / other for value, other in zip(values, over, strict=True)]
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75]).tolist()
    return {"low": low, "median": middle, "high": high}


def reading(
    setting: Setting, timings: Mapping[str, Timings], parity: Mapping[str, Parity], base: str | None
) -> dict[str, Any]:
    """One setting: how long a fetch took, how much came out, and the ratio to the limit.

    The ratio is of times: how many times as long as the base all clients together took for the same
    passages.
    """
    return {
        "cold": setting.cold,
        "threads": setting.threads,
        "base": base,
        "contenders": {
            name: {
                "p50_ms": float(np.quantile(timing.seconds, 0.5)) * 1e3,
                "p99_ms": float(np.quantile(timing.seconds, 0.99)) * 1e3,
                "fetches": len(timing.seconds),
                "mb_per_s": statistics.median(timing.rates) / 1e6,
                "ratio": spread(timings[base].rates, timing.rates) if base else None,
                "error": parity[name].error,
            }
            for name, timing in timings.items()
        },
    }


def rates(measured: Rates, base: str) -> dict[str, Any]:
    """GB/s of writing or decoding, and the ratio of that to the base's."""
    per_second = {
        name: [measured.bytes[name] / s / 1e9 for s in seconds] for name, seconds in measured.seconds.items()
    }
    return {
        "base": base,
        "contenders": {
            name: {
                "gb_per_s": statistics.median(values),
                "ratio": spread(values, per_second[base]) if base in per_second else None,
            }
            for name, values in per_second.items()
        },
    }


def columns(rows: Sequence[Sequence[str]]) -> str:
    """A plain table: the first column left, the others right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    aligned = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join("  ".join(row) for row in aligned)


def _ratio(value: Mapping[str, float] | None) -> str:
    return "" if value is None else f"{value['median']:.2f} ({value['low']:.2f} to {value['high']:.2f})"


def reading_table(result: Mapping[str, Any], checked: Mapping[str, str]) -> str:
    base = f"time, x {result['base']} (quartiles)" if result["base"] else ""
    rows = [["", "p50 ms", "p99 ms", "MB/s", base, "checked"]]
    for name, row in result["contenders"].items():
        cells = [f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}", f"{row['mb_per_s']:,.0f}"]
        rows.append([name, *cells, _ratio(row["ratio"]), checked[name]])
    return columns(rows)


def rates_table(result: Mapping[str, Any]) -> str:
    rows = [["", "GB/s", f"rate, x {result['base']} (quartiles)"]]
    for name, row in result["contenders"].items():
        rows.append([name, f"{row['gb_per_s']:.2f}", _ratio(row["ratio"])])
    return columns(rows)


def disk_table(result: Mapping[str, Any]) -> str:
    rows = [["", "bytes", "over its rows", "x smaller than bfloat16", "and fixed bytes"]]
    for name, row in result.items():
        cells = [f"{row['bytes']:,}", f"{row['overhead_percent']:+.2f} %", f"{row['smaller']:.2f}"]
        rows.append([name, *cells, f"{row['fixed_bytes']:,}" if row["fixed_bytes"] else ""])
    return columns(rows)
