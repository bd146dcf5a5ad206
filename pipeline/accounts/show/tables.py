"""Plans and reports as tables on a terminal. Every figure is one of the JSON object's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from rich.console import Console
from rich.table import Table

from pipeline.accounts import prices as price_list
from pipeline.accounts import reading, statistics
from pipeline.accounts.plan.form import Plan, Way
from pipeline.accounts.report.form import Report, Serving, Time, Updated, Vectors, Version
from pipeline.accounts.show import chunks, words

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
_EVEN: Final[tuple[Literal["flops", "hours", "money", "monthly"], ...]] = (
    "flops",
    "hours",
    "money",
    "monthly",
)
_SHARDS: Final[tuple[Literal["least", "median", "most"], ...]] = ("least", "median", "most")


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
            figures = [words.big(even[0][key]) if even else "" for key in _EVEN]
            fetched, price = words.size(best["fetched_bytes"]), words.dollars(1e6 * best["price"])
            rows.append([_way(way), best["reader"], fetched, price, *figures])
    head = ["", "cheapest", "fetched", "a million", "even: FLOPs", "hours", "money", "a month"]
    print_(out, table("Answering, way by way", head, rows))


def print_report(report: Report, out: Console) -> None:
    """A corpus's report: bytes, versions, time, prices, serving."""
    print_counts(report, out)
    total = report["bytes"]
    print_(
        out,
        table(
            f"On the disk: {total:,} bytes in {report['files']:,} files",
            ["", "version", "codec", "files", "bytes", "share"],
            [
                [
                    f"{row['part']}: {row['content']}",
                    row["version"],
                    row["codec"],
                    f"{row['files']:,}",
                    f"{row['bytes']:,}",
                    words.share(row["bytes"] / total),
                ]
                for row in report["parts"]
            ],
            note="bytes of files; folders are not counted",
        ),
    )
    for version in report["versions"]:
        print_version(version, out)
    for vectors in report["vectors"]:
        print_vectors(vectors, out)
    print_chunks(report, out)
    if report["warnings"]:
        print_warnings(report["warnings"], out)
        out.print()
    if report["planned"]:
        print_(
            out,
            table(
                "Against the plan",
                ["", "planned", "bytes", "off by"],
                [
                    [
                        row["part"],
                        f"{row['planned']:,}",
                        f"{row['bytes']:,}",
                        words.signed(row["planned"] / row["bytes"] - 1) if row["bytes"] else words.NOTHING,
                    ]
                    for row in report["planned"]
                ],
            ),
        )
    for run in report["time"]:
        print_time(run, out)
    print_(
        out,
        table(
            "Index",
            ["", "kind", "bytes", "recall@10", "queries"],
            [
                [
                    row["fingerprint"],
                    row["kind"],
                    words.size(row["bytes"]),
                    f"{row['recall_at_10']:.4f}",
                    f"{row['recall_queries']:,}",
                ]
                for row in report["indexes"]
            ],
        ),
    )
    print_(
        out,
        table(
            "Price by storage class",
            ["", "a month", "a million passages fetched"],
            [
                [row["storage"], words.dollars(row["month"]), words.dollars(row["million_fetches"])]
                for row in report["storage_classes"]
            ],
        ),
    )
    print_keeping(report, out)
    if report["serving"]:
        print_serving(report["serving"], out, "Answering from the current version")
    print_prices(report["prices"], out)


def print_counts(report: Report, out: Console) -> None:
    """Pages by outcome, which add up, and words, which do too."""
    counts = report["counts"]
    rows = [["pages read", f"{counts['pages']:,}"], ["= kept", f"{counts['kept']:,}"]]
    rows += [[f"+ {name}", f"{n:,}"] for name, n in counts.items() if name.startswith("dropped: ")]
    rows += [
        ["+ quarantined", f"{counts['quarantined']:,}"],
        ["passages", f"{report['passages']:,}"],
        ["words of the articles kept", f"{counts['article_words']:,}"],
        ["= words of the passages", f"{report['words']:,}"],
    ]
    if left_out := counts.get("left_out_sections", 0):
        rows.append([f"+ words of {left_out:,} sections left out", f"{counts['left_out_words']:,}"])
    print_(out, table(f"Corpus {report['corpus']}", ["", ""], rows))


def print_version(version: Version, out: Console) -> None:
    shards = version["shard_bytes"]
    rows = [
        ["codec, width, layers", f"{version['codec']}, {version['width']}, {version['memory_layers']}"],
        ["tokens", f"{version['tokens']:,}"],
        [
            "tokens a passage",
            f"{version['tokens'] / version['passages']:.1f} "
            f"({version['tokens_min']} to {version['tokens_max']})",
        ],
        ["bytes a passage", f"{version['bytes_per_passage']:,.0f}"],
        ["bytes a token", f"{version['bytes_per_token']:,.1f} ({version['token_bytes']:,} of the codec)"],
        ["compression against bfloat16", f"{version['compression_against_bfloat16']:.2f} x"],
        ["padding avoided", words.size(version["padding_avoided_bytes"])],
        [
            "passages cut / tokens cut",
            reading.told_cut(version["read"])
            if version["read"]
            else f"{version['passages_cut']:,} / {version['tokens_cut']:,}",
        ],
        ["unknown tokens", reading.told_unknown(version["read"])],
        ["shards", f"{version['shards']:,} of {version['shard_passages']:,} passages"],
    ]
    if shards:
        of_shards = (words.size(shards[key]) for key in _SHARDS)
        rows.append(["least, median, most of a shard", ", ".join(of_shards)])
    names = f" ({', '.join(version['aliases'])})" if version["aliases"] else ""
    print_(out, table(f"Memory {version['version']}{names}", ["", ""], rows))


def print_vectors(vectors: Vectors, out: Console) -> None:
    given = vectors["read"]
    rows = [
        ["vectors", f"{vectors['dim']} x {vectors['dtype']}, by {vectors['similarity']}"],
        ["tokens", f"{given['tokens']:,}" if given else reading.NOT_COUNTED],
        ["limit of a passage", f"{vectors['max_tokens'] or words.NOTHING}"],
        ["passages cut / tokens cut", reading.told_cut(given)],
        ["unknown tokens", reading.told_unknown(given)],
    ]
    print_(out, table(f"Retriever {vectors['fingerprint']}", ["", ""], rows))


def print_chunks(report: Report, out: Console) -> None:
    """What is of chunks alone: their tokens, and tables of neighbours, which other passages may have too."""
    for title, rows in chunks.told(report.get("tokens"), report.get("neighbours", {})):
        print_(out, table(title, ["", ""], [[name, said] for name, said in rows.items()]))


def print_time(run: Time, out: Console) -> None:
    # Every component with its job: a quarter of a second, which `info` has not to wait for.
    from pipeline.components.table import TITLES as titles

    rows = []
    for stage, steps in run["worker_seconds"].items():
        wall = run["stage_seconds"].get(stage)
        spent = ", ".join(f"{step} {seconds:,.1f}" for step, seconds in steps.items())
        rows.append([titles.get(stage, stage), words.duration(wall), spent])
    encoded = run["encoded"]
    workers = len(run["workers"])
    note = f"{workers:,} worker{'' if workers == 1 else 's'} on {run['cpus'] or '?'} CPUs"
    note += f", ended {run['finished']}"
    stored = encoded.get("memory_bytes_per_second")
    # Rates over the stage's wall time are known together; FLOP/s are over the seconds of encoding alone.
    if stored and encoded["flops_per_second"]:
        note += (
            f"; {encoded['tokens_per_second']:,.0f} tokens/s, "
            f"{encoded['passages_per_second']:,.0f} passages/s, "
            f"{words.size(stored)}/s of memory, "
            f"{encoded['flops_per_second'] / 1e12:.3g} TFLOP/s while encoding"
        )
        if encoded.get("utilisation") is not None:
            note += f", {words.share(encoded['utilisation'])} of the peak of {encoded['device']}"
    if run["peak_rss_bytes"]:
        note += f"; at most {words.size(run['peak_rss_bytes'])} of RAM"
    note = "; ".join([note, *statistics.remarks(run["bottleneck"], run["computed_tokens"], run["events"])])
    made = table(f"Time: {run['run']}", ["", "wall", "seconds of workers"], rows, note=note)
    made.columns[2].justify = "left"
    print_(out, made)


def print_keeping(report: Report, out: Console) -> None:
    keeping = report["keeping"]
    freed = (
        f"gc would free {words.size(keeping['gc_bytes'])}: {', '.join(keeping['gc_versions'])}"
        if keeping["gc_versions"]
        else "gc would free nothing: every version has a name"
    )
    print_(
        out,
        table(
            "Keeping versions as large as the current",
            ["", "bytes", f"a month in {keeping['storage']}"],
            [
                [str(row["versions"]), words.size(row["bytes"]), words.dollars(row["month"])]
                for row in keeping["versions"]
            ],
            note=freed,
        ),
    )
    print_(
        out,
        table(
            "Versions, oldest first",
            ["", "finished", "codec", "bytes", "a token", "worker seconds", "names"],
            [
                [
                    row["version"],
                    row["finished"] or words.NOTHING,
                    row["codec"],
                    words.size(row["bytes"]),
                    f"{row['bytes_per_token']:,.1f}",
                    words.NOTHING if row["encode_seconds"] is None else f"{row['encode_seconds']:,.1f}",
                    ", ".join(row["aliases"]),
                ]
                for row in report["history"]
            ],
        ),
    )
    if report["updates"]:
        print_updates(report["updates"], out)


def print_updates(updates: Sequence[Updated], out: Console) -> None:
    """Updates, each with what it saved against a build of all that was there after it."""
    rows = []
    for row in updates:
        seconds, dollars = row["saved_worker_seconds"], row["saved_dollars"]
        rows.append(
            [
                str(row["generation"]),
                f"{row['kept']:,}",
                f"{row['vanished']:,}",
                f"{row['added']:,}",
                words.size(row["bytes"]),
                words.size(row["saved_bytes"]),
                f"{row['worker_seconds']:,.1f}",
                words.NOTHING if seconds is None else f"{seconds:,.1f}",
                words.NOTHING if dollars is None else f"{dollars:,.2f}",
            ]
        )
    columns = ["", "kept", "vanished", "added", "bytes", "saved", "seconds", "saved", "$ saved"]
    print_(out, table("Updates", columns, rows, note="saved against a build, at its rate"))


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
                *(words.big(row[key]) if row else "" for key in _EVEN),
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


def _way(way: Way) -> str:
    alpha = way["live_proportion"]
    return " ".join((way["model"], *(() if alpha is None else (f"α={alpha}",)), way["codec"]))
