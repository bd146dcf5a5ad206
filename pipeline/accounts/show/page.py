"""A report as one HTML page that needs no network: plots as inline SVG, tables, readable on a phone."""

from __future__ import annotations

from collections.abc import Iterator

import jinja2
from markupsafe import Markup

from pipeline.accounts import reading, statistics
from pipeline.accounts.report import form
from pipeline.accounts.show import chunks, plots, words
from pipeline.components.table import TITLES


def render(report: form.Report) -> str:
    """The page of a report's JSON object. Everything that comes out of the corpus is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.accounts.show", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("size", "dollars", "duration", "big", "share", "signed"):
        environment.filters[name] = getattr(words, name)
    environment.filters["remarks"] = _remarks
    environment.filters["told"] = _told
    environment.filters["cut"] = reading.told_cut
    environment.filters["unknown"] = reading.told_unknown
    serving = report["serving"]
    even = {row["reader"]: row for row in serving["break_even"]} if serving else {}
    return environment.get_template("page.html.jinja").render(
        report=report,
        current=next((v for v in report["versions"] if v["current"]), None),
        even=even,
        stages=TITLES,
        # matplotlib has escaped the text in them.
        plots={name: Markup(svg) for name, svg in plots.plots(report).items()},
    )


def _told(report: form.Report) -> list[tuple[str, dict[str, str]]]:
    return chunks.told(report.get("tokens"), report.get("neighbours", {}))


def _remarks(run: form.Time) -> Iterator[str]:
    return statistics.remarks(run["bottleneck"], run["computed_tokens"], run["events"])
