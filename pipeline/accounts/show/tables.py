"""Tables on a terminal, and those that plans and reports share. Every figure is one of the JSON object's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from rich.console import Console
from rich.table import Table

from pipeline.accounts import prices as price_list
from pipeline.accounts.report.form import Serving
from pipeline.accounts.show import words

# Keys that are shown column by column.
EVEN: Final[tuple[Literal["flops", "hours", "money", "monthly"], ...]] = (
    "flops",
    "hours",
    "money",
    "monthly",
)


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, note: str = "") -> Table:
    """A table whose first column names and whose others are right-aligned figures."""
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=note,
        box=None,
        header_style="dim",
        pad_edge=False,
    )
    for place, name in enumerate(head):
        made.add_column(name, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        made.add_row(*row)
    return made


def print_warnings(lines: Sequence[str], out: Console) -> None:
    """Each on a line of its own, however long."""
    for line in lines:
        out.print(f"warning: {line}", style="bold yellow", soft_wrap=True, markup=False, highlight=False)


def print_serving(serving: Serving, out: Console, title: str) -> None:
    """Readers side by side; break-even against FiD over the same passages."""
    even = {row["reader"]: row for row in serving["break_even"]}
    rows = []
    for question in serving["questions"]:
        row = even.get(question["reader"])
        kept = str(question["retrieved"])
        if question["selected"] != question["retrieved"]:
            kept = f"{question['retrieved']} to {question['selected']}"
        rows.append(
            [
                question["reader"],
                question["live_proportion"],
                kept,
                f"{question['flops'] / 1e12:.3g}",
                f"{question['samples_per_tflop']:.4g}",
                words.size(question["fetched_bytes"]),
                words.dollars(1e6 * question["price"]),
                *(words.big(row[key]) if row else "" for key in EVEN),
            ]
        )
    print_(
        out,
        table(
            title,
            [
                *("", "α", "passages", "TFLOP", "a TFLOP", "fetched", "a million"),
                *("even: FLOPs", "hours", "money", "a month"),
            ],
            rows,
            note="a question: live TFLOP by the papers' formulas, questions a TFLOP, bytes fetched; dollars "
            f"a million on {serving['device']} at {words.share(serving['utilisation'])}, reads from "
            f"{serving['storage']}; even: questions until memory has paid for itself against FiD, money with "
            f"{serving['months']:g} months of storage; a month: questions that pay for the storage alone",
        ),
    )


def print_prices(prices: price_list.Listed, out: Console) -> None:
    """Every price that was computed with, its date, and where it is published."""
    out.print("Prices used", style="bold")
    for device in prices["devices"]:
        price = words.dollars(device["price_per_hour"])
        _price(device, f"{price} an hour, {device['tflops']:g} TFLOP/s, {device['memory_gb']:g} GB", out)
    for row in prices["storage"]:
        figures = (
            f"${row['price_per_gb_month']:g} a GB and month, "
            f"${row['price_per_1000_writes']:g} a thousand writes, "
            f"${row['price_per_1000_reads']:g} a thousand reads, ${row['price_per_gb_read']:g} a GB read, "
            f"{row['write_mb_per_second']:g} MB/s a worker"
        )
        _price(row, figures, out)
    out.print(f"from the price list of {prices['origin']}", style="dim")
    out.print()


def _price(row: price_list.DeviceRow | price_list.StorageRow, figures: str, out: Console) -> None:
    out.print(f"  {row['name']}, as of {row['date']}: {figures}", soft_wrap=True)
    # An address is one word, whatever the width.
    out.print(f"    {row['source']}", style="dim", soft_wrap=True, markup=False)


def print_(out: Console, made: Table) -> None:
    """A table, and its note as wide as the console: a caption would be as narrow as the table."""
    note, made.caption = made.caption, None
    out.print(made)
    if note:
        out.print(note, style="dim")
    out.print()
