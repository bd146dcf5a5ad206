"""The figures of a run as tables of Markdown, for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Cell = Callable[[Any], str]


def _tera(value: float) -> str:
    return f"{value / 1e12:.3g}"


def _giga(value: float) -> str:
    return f"{value / 1e9:.3g}"


def _milli(value: float) -> str:
    return f"{value * 1e3:.4g}"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _error(value: float) -> str:
    return f"{value:.1e}"


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _yes(value: bool) -> str:
    return "yes" if value else "**no**"


# Of each section: (key of an entry, heading, how it is written).
COLUMNS: Final[Mapping[str, tuple[tuple[str, str, Cell], ...]]] = {
    "device": (
        ("platform", "platform", str),
        ("kind", "kind", str),
        ("devices", "devices", str),
        ("memory_bytes", "memory, GB", _giga),
    ),
    "parity": (
        ("error", "max\\|a-b\\| / max\\|b\\|", _error),
        ("bound", "bound", _error),
        ("right", "right", _yes),
    ),
    "matrix rate": (("flops_per_s", "TFLOP/s", _tera), ("seconds", "ms", _milli)),
    "attention": (
        ("seconds", "ms", _milli),
        ("flops_per_s", "TFLOP/s", _tera),
        ("error", "error", _error),
        ("right", "right", _yes),
    ),
    "encoder": (
        ("tokens_per_s", "tokens/s", _number),
        ("utilisation", "of the matrix rate", _share),
        ("waste", "waste", _share),
        ("compile_seconds", "compiling, s", _number),
        ("memory_peak_bytes", "memory, GB", _giga),
    ),
    "codecs": (
        ("coded_bytes_per_s", "coded, GB/s of float32", _giga),
        ("decoded_bytes_per_s", "decoded, GB/s of bfloat16", _giga),
        ("bytes_a_token", "bytes a token", _number),
        ("right", "as NumPy", _yes),
    ),
    "transfers": (("bytes_per_s", "GB/s", _giga), ("seconds", "ms", _milli)),
    "build": (
        ("passages", "passages", _number),
        ("build_seconds", "build, s", _number),
        ("bare_seconds", "bare, s", _number),
        ("whole", "tax", lambda value: f"{value:.2f}"),
        ("steady", "tax, models loaded", lambda value: f"{value:.2f}"),
        ("seconds", "making, s", _number),
        ("bottleneck", "", str),
    ),
    "training": (
        ("seconds", "ms a step", _milli),
        ("questions_per_s", "questions/s", lambda value: f"{value:.3g}"),
        ("first_step_seconds", "first step, s", _number),
        ("memory_peak_bytes", "memory, GB", _giga),
    ),
}


def of(result: Mapping[str, Any]) -> str:
    """All sections of a run; what failed or was skipped says why."""
    blocks = []
    for name, section in result["sections"].items():
        columns = COLUMNS.get(name, ())
        shown = [c for c in columns if any(row.get(c[0]) is not None for row in section["entries"].values())]
        lines = [
            f"**{name}** ({section['seconds']:.0f} s)",
            "",
            "| |" + "".join(f" {heading} |" for _, heading, _ in shown),
            "|---|" + "---|" * len(shown),
        ]
        notes = []
        for entry, row in section["entries"].items():
            if why := row.get("error") if isinstance(row.get("error"), str) else row.get("skipped"):
                notes.append(f"- {entry}: {why}")
                continue
            cells = ["" if row.get(key) is None else write(row[key]) for key, _, write in shown]
            lines.append(f"| {entry} |" + "".join(f" {cell} |" for cell in cells))
        if len(lines) == 4:  # not one entry with figures
            lines = lines[:2]
        notes += [f"- {name}: {section[kind]}" for kind in ("error", "skipped") if kind in section]
        blocks.append("\n".join([*lines, *([""] if notes and len(lines) > 2 else []), *notes]))
    return "\n\n".join(blocks)
