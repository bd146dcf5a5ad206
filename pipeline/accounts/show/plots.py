"""The plots of a report, as inline SVG whose colours are CSS variables of the page: dark and light alike.

Drawn by matplotlib's SVG backend without pyplot, so no state outlives a call. Text stays text.
"""

from __future__ import annotations

import io
import re
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.accounts import facts
from pipeline.accounts.report import form
from pipeline.accounts.show import words
from pipeline.components.table import TITLES

# Colours that stand for the page's: no other part of a plot has them.
INK: Final = "#010203"
LINE: Final = "#020304"
SERIES: Final = ("#0304a1", "#0304a2", "#0304a3", "#0304a4", "#0304a5", "#0304a6", "#0304a7", "#0304a8")
_VARIABLES: Final = {INK: "var(--ink)", LINE: "var(--line)"} | {
    colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, 1)
}
_STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
# Inches: at 72 points an inch about as wide as a phone shows it, so that text keeps its size there.
WIDTH: Final = 4.6


def plots(report: form.Report) -> dict[str, str]:
    """Every plot that a report has figures for, by name, as `<svg>` elements."""
    drawn: dict[str, str] = {}
    with matplotlib.rc_context(_STYLE):
        for name, draw in (
            ("parts", _parts),
            ("codecs", _codecs),
            ("time", _time),
            ("tokens", _tokens),
            ("even", _even),
        ):
            if (figure := draw(report)) is not None:
                drawn[name] = _svg(figure, name)
    return drawn


def _svg(figure: Figure, name: str) -> str:
    """A figure as an SVG element with ids of its own, scaled by the page."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            out, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.05, metadata={"Date": None}
        )
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = text.replace("<svg", '<svg role="img"', 1)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.add_subplot()


def _parts(report: form.Report) -> Figure:
    """Bytes by part, each memory version for itself."""
    sums: dict[str, int] = {}
    for row in report["parts"]:
        name = row["part"]
        if name == "memory":
            name = f"memory {row['version'][:8]}\n{row['codec']}"
        elif name in (facts.MANIFEST, facts.TIMES):
            name = "manifest, times"
        sums[name] = sums.get(name, 0) + row["bytes"]
    figure, axes = _axes(0.7 + 0.36 * len(sums))
    places = np.arange(len(sums))[::-1]
    axes.barh(places, list(sums.values()), color=SERIES[0], height=0.62)
    for place, size in zip(places, sums.values(), strict=True):
        axes.annotate(words.size(size), (size, float(place)), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, list(sums))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_xlim(0, 1.2 * max(sums.values()))
    return figure


def _codecs(report: form.Report) -> Figure | None:
    """Dollars a month of the memory by codec, one point a size of the encoder."""
    rows = report["codecs"]
    if not rows:
        return None
    priced = any(row["month"] for row in rows)
    unit = words.dollars if priced else words.size
    means: dict[str, list[float]] = {}
    for row in rows:
        means.setdefault(row["codec"], []).append(row["bytes"] / row["width"])
    codecs = sorted(means, key=lambda name: -np.mean(means[name]))
    sizes = list(dict.fromkeys(row["size"] for row in sorted(rows, key=lambda row: row["width"])))
    figure, axes = _axes(1.2 + 0.3 * len(codecs))
    for number, size in enumerate(sizes):
        found = {
            row["codec"]: row["month"] if priced else row["bytes"] for row in rows if row["size"] == size
        }
        present = [codec for codec in codecs if found.get(codec)]
        axes.plot(
            [found[codec] for codec in present],
            [len(codecs) - 1 - codecs.index(codec) for codec in present],
            "o",
            markersize=6,
            color=SERIES[number % len(SERIES)],
            label=size,
        )
    axes.set_xscale("log")
    axes.set_yticks(range(len(codecs)), codecs[::-1])
    axes.xaxis.set_major_formatter(lambda value, _: unit(value))
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.grid(axis="x")
    axes.set_ylim(-0.6, len(codecs) - 0.4)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, handletextpad=0.1)
    return figure


def _time(report: form.Report) -> Figure | None:
    """Seconds of workers by stage, stacked by step."""
    bars = [
        (TITLES.get(stage, stage) + (f"\n{run['run'][:8]}" if len(report["time"]) > 1 else ""), steps)
        for run in report["time"]
        for stage, steps in run["worker_seconds"].items()
        if steps
    ]
    if not bars:
        return None
    totals: dict[str, float] = {}
    for _, steps in bars:
        for step, seconds in steps.items():
            totals[step] = totals.get(step, 0.0) + seconds
    order = sorted(totals, key=lambda step: -totals[step])
    # Steps too short to be seen share one colour.
    named, others = order[: len(SERIES) - 1], order[len(SERIES) - 1 :]
    figure, axes = _axes(1.2 + 0.36 * len(bars))
    places = np.arange(len(bars))[::-1]
    left = np.zeros(len(bars))
    for number, step in enumerate([*named, "other"] if others else named):
        wanted = others if step == "other" else [step]
        widths = np.array([sum(steps.get(name, 0.0) for name in wanted) for _, steps in bars])
        axes.barh(places, widths, left=left, color=SERIES[number], height=0.62, label=step)
        left += widths
    for place, total in zip(places, left, strict=True):
        axes.annotate(
            words.duration(float(total)),
            (float(total), float(place)),
            (4, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(places, [name for name, _ in bars])
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_xlim(0, 1.2 * max(left.max(), 1e-9))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=4, handlelength=0.9)
    return figure


def _tokens(report: form.Report) -> Figure | None:
    """Passages by their tokens, of the current version."""
    version = next((v for v in report["versions"] if v["current"]), None)
    if version is None or not version["tokens_histogram"]:
        # A version written later may not have counted again what another has counted.
        version = next((v for v in report["versions"] if v["tokens_histogram"]), None)
    if version is None:
        return None
    uppers = [upper for upper, _ in version["tokens_histogram"]]
    counts = [count for _, count in version["tokens_histogram"]]
    lowers = [0, *uppers[:-1]]
    figure, axes = _axes(2.3)
    widths = np.diff([0, *uppers])
    axes.bar(lowers, counts, width=0.92 * widths, align="edge", color=SERIES[0])
    mean = version["tokens"] / version["passages"]
    axes.axvline(mean, color=INK, linewidth=1)
    axes.annotate(
        f"mean {mean:.0f}",
        (mean, 1),
        (4, -2),
        xycoords=axes.get_xaxis_transform(),  # tokens, and a share of the height
        textcoords="offset points",
        va="top",
    )
    axes.set_xlim(0, max(uppers))
    axes.set_xlabel(f"tokens a passage, up to {version['max_tokens']}")
    axes.set_ylabel("passages")
    axes.yaxis.set_major_formatter(lambda value, _: words.big(value))
    axes.grid(axis="y")
    return figure


def _even(report: form.Report) -> Figure | None:
    """Dollars altogether by questions asked: where a reader's line falls below FiD's, memory has paid."""
    serving = report["serving"]
    if not serving:
        return None
    ends = [row["money"] for row in serving["break_even"] if row["money"]]
    most = 10 * max(ends, default=1e6)
    questions = np.logspace(np.log10(most) - 5, np.log10(most), 200)
    figure, axes = _axes(2.6)
    for number, row in enumerate(serving["questions"]):
        axes.plot(
            questions,
            row["up_front_price"] + questions * row["price"],
            color=SERIES[number],
            linewidth=1.8,
            linestyle=("-", "--", "-.", ":")[number % 4],
            label=row["reader"],
        )
    fid = serving["questions"][0]
    for money in ends:
        axes.plot(money, money * fid["price"], "o", color=INK, markersize=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: words.big(value))
    axes.yaxis.set_major_formatter(lambda value, _: words.dollars(value))
    axes.set_xlabel("questions")
    axes.grid()
    axes.legend(loc="lower right")
    return figure
