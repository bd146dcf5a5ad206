"""The report of a corpus as tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from rich.console import Console

from pipeline.accounts import reading, statistics
from pipeline.accounts.report.form import Report, Time, Updated, Vectors, Version
from pipeline.accounts.show import chunks, words
from pipeline.accounts.show.tables import print_, print_prices, print_serving, print_warnings, table

_SHARDS: Final[tuple[Literal["least", "median", "most"], ...]] = ("least", "median", "most")


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
