"""The tables of `benchmarks.retro_questions`: a table a question, of the runs that there are.

Figures are means and standard deviations over seeds. A gain is over retrieval off in the same model; a share
of the gain is taken seed by seed, since seeds differ by more than what is compared.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.retro import spread
from pipeline.readers.retro.retrieval import ON, STALE, STALE_AS_FOUND

ALPHAS: Final = (0.125, 0.25)
# Shares of the database, by documents.
SHARES: Final = (1, 4, 16)
# Runs of tokens in common, from each to the next.
RUNS_FROM: Final = (0, 1, 2, 4, 8)
# Widths of the baselines; the RETRO's language model has the middle one.
WIDTHS: Final = (32, 64, 128)
BASELINES: Final = {f"baseline-{width}": width for width in WIDTHS}
# Seconds of writing, of the conditioned run's model.
WRITING: Final = "writing"
# Of the unconditioned run's model: its encoder live, and out of a store.
STORE: Final = "store"


def report(out: Path) -> str:
    """A table a question, of the runs that there are."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(out.glob("seed-*/*.json")):
        one = json.loads(path.read_text())
        if "run" in one:
            runs.setdefault(one["run"], []).append(one)
    tables = (
        ("b", question_b(runs)),
        ("c", question_c(runs)),
        ("d, e", question_d(runs)),
        ("f", question_f(runs)),
        ("leak", question_leak(runs)),
        ("store", question_store(runs)),
    )
    return "\n\n".join(f"Question {name}\n\n{table}" for name, table in tables if table)


def gains(some: Sequence[dict[str, Any]], name: str, off: str = "off") -> str:
    """How much less than off, in bits a byte."""
    return spread([one["bits"][off] - one["bits"][name] for one in some])


def shares(some: Sequence[dict[str, Any]], name: str) -> str:
    """How much of the gain of retrieval on, seed by seed."""
    found = [
        (one["bits"]["off"] - one["bits"][name]) / (one["bits"]["off"] - one["bits"][ON]) for one in some
    ]
    return spread(found, digits=2)


def absolute(some: Sequence[dict[str, Any]], name: str) -> str:
    return spread([one["bits"][name] for one in some])


def mean(some: Sequence[dict[str, Any]], of: Callable[[dict[str, Any]], float]) -> float:
    return statistics.fmean(map(of, some))


def question_b(runs: dict[str, list[dict[str, Any]]]) -> str:
    baselines = {name: runs[name] for name in BASELINES if name in runs}
    retros = runs.get("conditioned", [])
    if not retros:
        return ""
    lines = [
        "| model | bits per byte | less than off | of the gain | MFLOP a chunk | CPU-ms a chunk, judged "
        "| search, CPU-ms a query | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    points = []
    for name, some in baselines.items():
        flop = some[0]["flop_a_chunk"]
        points.append((math.log(flop), mean(some, lambda one: one["bits"]["off"])))
        lines.append(
            f"| {name}: {some[0]['weights']:,} weights | {absolute(some, 'off')} | | | {flop / 1e6:.2f} | "
            f"{mean(some, lambda one: one['cpu_ms_a_chunk']['off']):.2f} | | {len(some)} |"
        )
    for share in reversed(SHARES):
        name = "on" if share == 1 else f"1/{share} of the database"
        flop = sum(retros[0]["flop_a_chunk"].values())
        size = retros[0]["database"][str(share)]
        equal = equivalent(points, mean(retros, lambda one, name=name: one["bits"][name]))  # type: ignore[misc]
        lines.append(
            f"| RETRO, {size:,} chunks | {absolute(retros, name)} | "
            f"{gains(retros, name)} | {shares(retros, name)} | {flop / 1e6:.2f}; equals {equal} | "
            f"{mean(retros, lambda one: one['cpu_ms_a_chunk']['on']):.2f} | "
            f"{mean(retros, lambda one, share=share: one['search_cpu_ms'][str(share)]):.3f} | {len(retros)} |"  # type: ignore[misc]
        )
    lines.append(
        f"| RETRO, off | {absolute(retros, 'off')} | | | {retros[0]['flop_a_chunk']['language'] / 1e6:.2f} | "
        f"{mean(retros, lambda one: one['cpu_ms_a_chunk']['off']):.2f} | | {len(retros)} |"
    )
    return "\n".join(lines)


def equivalent(points: Sequence[tuple[float, float]], wanted: float) -> str:
    """MFLOP a chunk of the baseline that has these bits, log-linear between baselines."""
    for (low, worse), (high, better) in itertools.pairwise(points):
        if better <= wanted <= worse:
            at = low + (high - low) * (worse - wanted) / (worse - better)
            return f"a baseline of {math.exp(at) / 1e6:.2f}"
    if not points:
        return "no baseline that was trained"
    return "more than the largest" if wanted < points[-1][1] else "less than the smallest"


def question_c(runs: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "| fitted with | judged | bits per byte | less than off | of the gain | s a chunk written | waited "
        "| seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ("conditioned", "conditioned-stale"):
        some = runs.get(name, [])
        timed = runs.get(WRITING, []) if name == "conditioned" else []
        for mode in ("off", ON, STALE, STALE_AS_FOUND) if some else ():
            written = [one["writing"][mode] for one in timed if mode in one["writing"]]
            better = "|" if mode == "off" else f"{gains(some, mode)} | {shares(some, mode)}"
            seconds = f"{mean(written, lambda one: one['s_a_chunk']):.3f}" if written else ""
            waited = f"{mean(written, lambda one: one['waited_s_a_chunk']):.3f}" if written else ""
            lines.append(
                f"| {STALE if name.endswith('stale') else ON} | {mode} | {absolute(some, mode)} | "
                f"{better} | {seconds} | {waited} | {len(some)} |"
            )
    return "\n".join(lines) if len(lines) > 2 else ""


def question_d(runs: dict[str, list[dict[str, Any]]]) -> str:
    told = {
        "vectors": "the retriever's vector, one token",
        "token-states": "the retriever's token states",
        "lower-layers": "frozen lower layers (MiniLM's second)",
        "trained-stored": "an encoder trained before, frozen and stored",
        "unconditioned": "an encoder, trained, not conditioned",
        "conditioned": "an encoder, trained, conditioned (the paper's)",
    }
    lines = [
        "| what is attended to | bits per byte | less than off | shuffled | less than off, overlap up to 1/8 "
        "| MFLOP a chunk | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, what in told.items():
        if some := runs.get(name, []):
            narrow = f"overlap up to {ALPHAS[0]:g}"
            flop = sum(some[0]["flop_a_chunk"].values()) / 1e6
            lines.append(
                f"| {what} | {absolute(some, 'on')} | {gains(some, 'on')} | {gains(some, 'shuffled')} | "
                f"{gains(some, f'on, {narrow}', f'off, {narrow}')} | {flop:.2f} | {len(some)} |"
            )
    return "\n".join(lines) if len(lines) > 2 else ""


def question_f(runs: dict[str, list[dict[str, Any]]]) -> str:
    some = runs.get("conditioned", [])
    if not some:
        return ""
    lines = [
        "| run in common, with this token | share of tokens | nats a token, off - on | share of the gain |",
        "|---|---|---|---|",
    ]
    for row, begin in enumerate(RUNS_FROM):
        end = RUNS_FROM[row + 1] - 1 if row + 1 < len(RUNS_FROM) else None
        which = f"{begin} or more" if end is None else str(begin) if end == begin else f"{begin} to {end}"
        cells = [
            spread([one["copied"][row][name] for one in some])
            for name in ("share_of_tokens", "nats_a_token", "share_of_gain")
        ]
        lines.append(f"| {which} | {' | '.join(cells)} |")
    return "\n".join(lines)


def question_leak(runs: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "| fitted | off | on | own document in the database | there, and excluded | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("conditioned", "conditioned-careless"):
        if some := runs.get(name, []):
            cells = " | ".join(absolute(some, mode) for mode in ("off", "on", "leak", "excluded"))
            lines.append(f"| {name} | {cells} | {len(some)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def question_store(runs: dict[str, list[dict[str, Any]]]) -> str:
    some = runs.get(STORE, [])
    lines = ["| encodings | bits per byte | CPU-ms a chunk, judged | seeds |", "|---|---|---|---|"]
    for way in ("live", "stored") if some else ():
        spent = spread([one["cpu_ms_a_chunk"][way] for one in some])
        lines.append(f"| {way} | {absolute(some, way)} | {spent} | {len(some)} |")
    return "\n".join(lines) if some else ""
