"""A plan as tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from rich.console import Console

from pipeline.accounts import reading
from pipeline.accounts.plan.form import Plan, Way
from pipeline.accounts.show import words
from pipeline.accounts.show.tables import EVEN, print_, print_prices, print_serving, print_warnings, table

# Keys that are shown column by column.
_COUNTS: Final[tuple[Literal["pages", "passages", "tokens", "left_out_words"], ...]] = (
    *("pages", "passages", "tokens"),
    "left_out_words",
)
_PARTS: Final[tuple[Literal["memory", "vectors", "index", "passages"], ...]] = (
    "memory",
    "vectors",
    "index",
    "passages",
)
# Parts that not every corpus has.
_MORE: Final[tuple[Literal["tokens", "neighbours"], ...]] = ("tokens", "neighbours")


def print_plan(plan: Plan, out: Console) -> None:
    """A plan: what there is, each way of building it, what a question would cost, what is refused."""
    counts, spread = plan["counts"], plan["counts"]["spread"]
    machines = plan["machines"]
    rows = [
        [
            name.replace("_", " "),
            f"{counts[name]:,.0f}",
            words.spread(spread[name]) if name in spread else "given",
        ]
        for name in _COUNTS
        if counts[name] is not None
    ]
    rows.append(["tokens a passage", f"{counts['tokens_per_passage']:.1f}", ""])
    for who, given in (("memory", plan["read"]["memory"]), ("retriever", plan["read"]["retriever"])):
        rows.append([f"{who}: passages / tokens cut", reading.told_cut(given), ""])
        rows.append([f"{who}: unknown tokens", reading.told_unknown(given), ""])
    print_(out, table("What there is", ["", "", ""], rows, note=plan["basis"]["words"]))
    ways = plan["ways"]
    more = [part for part in _MORE if any(way["bytes"][part] for way in ways)]
    print_(
        out,
        table(
            "On the disk",
            ["", "a token", *_PARTS, *more, "other", "total", "files", "a month"],
            [
                [
                    _way(way),
                    words.size(way["token_bytes"]),
                    *(words.size(way["bytes"][part]) for part in (*_PARTS, *more)),
                    words.size(way["bytes"]["overhead"]),
                    words.size(way["bytes"]["total"]),
                    words.big(way["bytes"]["files"]),
                    words.dollars(way["month"][machines["storage"]]),
                ]
                for way in ways
            ],
            note=f"a month in {machines['storage']}; while it is built, "
            f"{words.size(max(way['bytes']['peak'] for way in ways))} at most",
        ),
    )
    device = machines["device"]
    where = (
        f"{machines['workers']} x {device} at {words.share(machines['utilisation'])} of its peak"
        if device
        else f"{machines['workers']} x a process of this machine, at the rates measured"
    )
    print_(
        out,
        table(
            "The build",
            [
                "",
                "memory FLOPs",
                "retriever",
                "hours",
                "wall clock",
                "MB/s needed",
                "given",
                "limit",
                "price",
                "RAM",
            ],
            [
                [
                    _way(way),
                    f"{way['memory_flops']:.2e}",
                    reading.NOT_COUNTED
                    if way["retriever_flops"] is None
                    else f"{way['retriever_flops']:.2e}",
                    words.big(way["accelerator_hours"]) if device else words.NOTHING,
                    words.duration(way["wall_seconds"]),
                    f"{way['write_needed'] / 1e6:,.0f}",
                    f"{way['write_given'] / 1e6:,.0f}",
                    way["limit"],
                    words.dollars(way["build_price"]),
                    words.size(way["worker_ram_bytes"]),
                ]
                for way in ways
            ],
            note=f"{where}; MB/s and RAM of one worker; hours of accelerators, waiting included",
        ),
    )
    index = ways[0]["indexing"]
    if index["units"]:
        out.print(
            f"The index, {index['kind']}: {index['training_core_hours']:,.1f} core-hours of training, in one "
            f"unit with {words.size(index['training_ram_bytes'])} of RAM, and "
            f"{index['adding_core_hours']:,.1f} of adding, in {index['units']:,} units.\n"
        )
    print_(
        out,
        table(
            "The launcher, and readers",
            ["", "shards", "files", "calls", "resume", "commit", "RAM", "sizes", "every byte", "a reader"],
            [
                [
                    _way(way),
                    words.big(way["shards"]),
                    words.big(way["bytes"]["files"]),
                    words.big(way["launching"]["commit_requests"]),
                    words.duration(way["launching"]["resume_seconds"]),
                    words.duration(way["launching"]["commit_seconds"]),
                    words.size(way["launching"]["ram_bytes"]),
                    words.duration(way["launching"]["verify_seconds"]),
                    f"{way['launching']['verify_full_core_hours']:,.1f} h",
                    words.size(way["launching"]["reader_ram_bytes"]),
                ]
                for way in ways
            ],
            note="calls of the file system and seconds of a commit; of one core. sizes and every byte: what "
            "`verify` takes without and with --full, which workers share; a reader: its RAM for where "
            "passages lie",
        ),
    )
    hours = [way["neighbour_core_hours"] for way in ways if way["neighbour_core_hours"] is not None]
    if hours:
        out.print(
            f"The table of neighbours: {max(hours):,.1f} core-hours of searching after the build; "
            "fewer --probes take fewer.\n"
        )
    for way in ways[:1]:
        if (stored := way["chunk_encodings"]) is not None:
            hours_of = stored["accelerator_hours"]
            out.print(
                f"Encodings of neighbours by RETRO's encoder, stored once: {words.size(stored['bytes'])}, "
                f"{stored['flops']:.2e} FLOPs"
                + ("" if hours_of is None else f", {hours_of:,.2f} hours of one {device}")
                + " (2 layers of 896; see docs/retro-model.md).\n"
            )
    if machines["rates"]:
        seconds = ways[0]["seconds"]
        print_(
            out,
            table(
                "Stage by stage",
                ["", ""],
                [[name, words.duration(spent)] for name, spent in seconds.items()],
            ),
        )
    print_(
        out,
        table(
            "Price a month by storage class",
            ["", *plan["prices_by_name"]],
            [
                [_way(way), *(words.dollars(way["month"][name]) for name in plan["prices_by_name"])]
                for way in ways
            ],
        ),
    )
    if ways[0]["serving"]:
        print_serving(ways[0]["serving"], out, f"Answering, {_way(ways[0])}")
    if len(ways) > 1:
        print_ways(ways, out)
    print_prices(plan["prices"], out)
    print_warnings(plan["warnings"], out)
    if plan["refused"]:
        out.print("Would be refused, or wait:", style="bold red")
        for reason in plan["refused"]:
            out.print(f"  {reason}", soft_wrap=True)
    else:
        out.print(
            "Nothing stands against it: there is room, and bandwidth."
            if machines["free_bytes"]
            else "Nothing stands against it: there is bandwidth; room was not looked at (--out)."
        )


def print_ways(ways: Sequence[Way], out: Console) -> None:
    """What memory saves in each way of storing it, for the reader that saves most."""
    rows = []
    for way in ways:
        if way["serving"]:
            best = min(way["serving"]["questions"], key=lambda row: float(row["price"]))
            even = [row for row in way["serving"]["break_even"] if row["reader"] == best["reader"]]
            figures = [words.big(even[0][key]) if even else "" for key in EVEN]
            fetched, price = words.size(best["fetched_bytes"]), words.dollars(1e6 * best["price"])
            rows.append([_way(way), best["reader"], fetched, price, *figures])
    head = ["", "cheapest", "fetched", "a million", "even: FLOPs", "hours", "money", "a month"]
    print_(out, table("Answering, way by way", head, rows))


def _way(way: Way) -> str:
    alpha = way["live_proportion"]
    return " ".join((way["model"], *(() if alpha is None else (f"α={alpha}",)), way["codec"]))
