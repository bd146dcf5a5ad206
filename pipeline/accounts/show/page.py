"""A report as one HTML page that needs no network: plots as inline SVG, tables, readable on a phone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.accounts import statistics
from pipeline.accounts.show import plots, words
from pipeline.components.table import TITLES


def render(report: Mapping[str, Any]) -> str:
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
    environment.filters["remarks"] = statistics.remarks
    even = {row["reader"]: row for row in (report["serving"] or {}).get("break_even", [])}
    return environment.get_template("page.html.jinja").render(
        report=report,
        current=next((v for v in report["versions"] if v["current"]), None),
        even=even,
        stages=TITLES,
        # matplotlib has escaped the text in them.
        plots={name: Markup(svg) for name, svg in plots.plots(report).items()},
    )
