"""Command line of the encoder's benchmark; `python -m benchmarks.encoder --help`."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import warnings
from pathlib import Path
from typing import Any, Final

import jax

import benchmarks.encoder
from benchmarks.encoder import contenders, parts, retrievers, shapes
from benchmarks.encoder.limits import Gemm
from benchmarks.encoder.work import Work
from benchmarks.store.report import columns, spread
from benchmarks.timing import interleaved
from encoders import PUBLISHED_SIZES, batching

# max|a-b| / max|b| from transformers in float32. A peer that is further away takes its turns all the same,
# and a line says so; ours ends the run.
BOUNDS: Final = {"float32": 1e-5, "bfloat16": 0.1}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run, print the tables, and return what `--json` writes."""
    options = _options(arguments)
    warnings.filterwarnings("ignore")  # exporters' own
    result: dict[str, Any] = {
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "options": {name: value for name, value in vars(options).items() if name != "json"},
    }
    print(f"jax's devices: {', '.join(result['devices'])}")
    work = Work.make(options.size, options.layers, options.passages)
    print(
        f"T5.1.1 {options.size}, {options.layers} layers, random weights; {options.passages} passages, "
        f"{work.tokens:,} tokens, {work.tokens / options.passages:.0f} on average\n"
    )
    result["encoder"] = {dtype: encoder(work, dtype, options) for dtype in options.dtype}
    if options.shapes:
        result["shapes"] = {dtype: shapes.run(work, dtype, options.shapes) for dtype in options.dtype}
    if options.parts:
        result["parts"] = {dtype: parts.run(work, dtype, options.token_budget) for dtype in options.dtype}
    if options.retriever:
        result["retriever"] = retrievers.run(options.size, options.passages, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.encoder",
        description=benchmarks.encoder.__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--size", choices=[*PUBLISHED_SIZES], default="base")
    parser.add_argument("--layers", type=int, default=8, help="how many are run (and made)")
    parser.add_argument("--dtype", nargs="+", choices=[*BOUNDS], default=[*BOUNDS])
    parser.add_argument("--passages", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--token-budget", type=int, default=batching.DEFAULT_TOKEN_BUDGET)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contenders whose name has one of these")
    parser.add_argument("--shapes", type=int, nargs="+", metavar="BUDGET", help="ours by shape, too")
    parser.add_argument("--parts", action="store_true", help="ours without some of its parts, too")
    parser.add_argument("--retriever", action="store_true", help="GTR's shape by both backends, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args(arguments)


def encoder(work: Work, dtype: str, options: argparse.Namespace) -> dict[str, Any]:
    """One dtype: parity of all, then their turns."""
    reference = work.reference()
    taking_part: dict[str, contenders.Contender] = {}
    skipped: dict[str, str] = {}
    errors: dict[str, float] = {}
    for kind in contenders.ALL:
        if options.only and not any(part.lower() in kind.name.lower() for part in options.only):
            continue
        if dtype not in kind.dtypes:
            skipped[kind.name] = f"has no {dtype}"
            continue
        try:
            contender = kind(work, dtype, options.token_budget)
            errors[kind.name] = contender.largest_error(reference)
        except ImportError as error:
            skipped[kind.name] = f"{error.name} is not installed (pip install 'memcorpus[bench]')"
        except Exception as error:  # a peer that fails is no reason to show none
            skipped[kind.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        else:
            taking_part[kind.name] = contender
    for name, reason in skipped.items():
        print(f"skipped: {name}: {reason}")
    beyond = [name for name, error in errors.items() if not error <= BOUNDS[dtype]]  # NaN is beyond
    if any(issubclass(type(taking_part[name]), contenders.Ours) for name in beyond):
        raise SystemExit(
            f"{dtype}: {', '.join(beyond)} beyond {BOUNDS[dtype]:.0e} of transformers in float32"
        )
    print(
        f"{dtype}: max|a-b| / max|b| from transformers in float32 at most {BOUNDS[dtype]:.0e}, "
        f"but for: {', '.join(beyond) or 'none'}"
    )
    gemm = Gemm(work.config, dtype, options.token_budget)
    runs = {name: contender.run for name, contender in taking_part.items()}
    seconds = interleaved({**runs, "GEMM": gemm.run}, options.rounds)
    product, peak = gemm.peak
    base = contenders.Ours.name if contenders.Ours.name in runs else next(iter(runs), "")
    figures: dict[str, Any] = {}
    for name, contender in taking_part.items():
        median = statistics.median(seconds[name])
        figures[name] = {
            "tokens_per_s": work.tokens / median,
            "of_peak": work.model_flops / median / peak,
            "waste": contender.waste,
            "error": errors[name],
            "ratio": spread([1 / s for s in seconds[name]], [1 / s for s in seconds[base]]),
        }
    print(f"GEMM peak: {peak / 1e9:,.0f} GFLOP/s, {product}\n{table(figures, base)}\n")
    return {"peak": peak, "peak_product": product, "contenders": figures, "skipped": skipped}


def table(figures: dict[str, Any], base: str) -> str:
    """Contenders by tokens a second; FLOPs are of real tokens alone, so waste counts against a contender."""
    rows = [["", "tokens/s", "of the peak", "waste", f"rate, x {base} (quartiles)", "error"]]
    for name, row in sorted(figures.items(), key=lambda item: -item[1]["tokens_per_s"]):
        ratio = row["ratio"]
        rows.append(
            [
                name,
                f"{row['tokens_per_s']:,.0f}",
                f"{row['of_peak']:.0%}",
                f"{row['waste']:.1%}",
                f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
                "NaN" if math.isnan(row["error"]) else f"{row['error']:.1e}",
            ]
        )
    return columns(rows)


if __name__ == "__main__":
    main()
