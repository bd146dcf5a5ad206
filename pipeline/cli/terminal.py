"""What people see: live progress on a terminal, plain lines in a log, tables at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Column, Table

from pipeline.accounts import form, reading, statistics
from pipeline.accounts.show import chunks, words
from pipeline.components import shards
from pipeline.components.base import AnyStage
from pipeline.components.passages import counts as passages
from pipeline.units.progress import Observer, Snapshot
from storage.folder import CorpusFolder

if TYPE_CHECKING:
    from rich.progress import TaskID

    from pipeline.readers.kilt import Scores

# Seconds between two lines of a log.
LOG_SECONDS: Final = 30.0
# What a stage counts where that is not passages, by what it calls the count.
UNITS: Final = {"points": "vectors", "tokens": "tokens"}


def console() -> Console:
    """Progress goes to stderr, so that stdout holds results alone."""
    return Console(stderr=True, highlight=False)


def rates(stage: AnyStage, snapshot: Snapshot, seconds: float) -> str:
    """What a stage has done and how fast it goes, in its own units."""
    counts, before = snapshot.counts, snapshot.before

    def rate(name: str) -> float:
        return (counts.get(name, 0) - before.get(name, 0)) / max(seconds, 1e-9)

    if stage == passages.READ:
        return (
            f"{rate('pages'):,.0f} pages/s, {words.size(rate('source_bytes'))}/s, "
            f"{counts.get('pages', 0):,} pages, {counts.get('passages', 0):,} passages"
        )
    if stage == shards.STAGE:
        return (
            f"{rate('tokens'):,.0f} tokens/s, {rate('passages'):,.1f} passages/s, "
            f"{words.size(counts.get('memory_bytes', 0))}, {counts.get('passages', 0):,} passages, "
            f"{counts.get('tokens', 0):,} tokens"
        )
    if stage.measure == "bytes":
        return f"{words.size(rate('bytes'))}/s, {counts.get('files', 0):,} files"
    unit = UNITS.get(stage.measure, "passages")
    return f"{counts.get(stage.measure, 0):,} {unit}"


class LogLines:
    """An observer for logs: a line when a stage begins and ends, and one every half minute."""

    def __init__(self) -> None:
        self._started = self._said = 0.0
        self._total = 0

    def stage_started(self, stage: AnyStage, total: int) -> None:
        self._started = self._said = time.monotonic()
        self._total = total
        self._line(f"{stage.title} ...")

    def stage_polled(self, stage: AnyStage, snapshot: Snapshot) -> None:
        now = time.monotonic()
        if now - self._said > LOG_SECONDS:
            self._said = now
            done = snapshot.counts.get(stage.measure, 0)
            new = done - snapshot.before.get(stage.measure, 0)
            left = (now - self._started) * (self._total - done) / new if new > 0 else float("inf")
            words = f"{left:,.0f} s left" if left < float("inf") else "time left unknown"
            self._line(
                f"{stage.title}: {100 * done / max(1, self._total):.1f} %, "
                f"{rates(stage, snapshot, now - self._started)}, {words}"
            )

    def stage_noted(self, stage: AnyStage, text: str) -> None:
        self._line(f"{stage.title}: {text}")

    def stage_finished(self, stage: AnyStage, snapshot: Snapshot) -> None:
        seconds = time.monotonic() - self._started
        self._line(f"{stage.title}: done in {seconds:,.1f} s, {rates(stage, snapshot, seconds)}")

    @staticmethod
    def _line(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class LiveBars:
    """An observer for terminals: a bar for each stage, with rates and the time left."""

    def __init__(self) -> None:
        from rich import progress  # for those alone who wait for something

        self._progress = progress.Progress(
            progress.TextColumn("{task.description}", table_column=Column(min_width=15, no_wrap=True)),
            progress.BarColumn(bar_width=10),
            progress.TextColumn("{task.percentage:>3.0f}%", table_column=Column(min_width=4, no_wrap=True)),
            progress.TimeRemainingColumn(
                compact=True,
                elapsed_when_finished=True,
                table_column=Column(min_width=5, no_wrap=True),
            ),
            # What an 80-column terminal has no room for is cut here.
            progress.TextColumn("{task.fields[rates]}", table_column=Column(no_wrap=True)),
            console=console(),
        )
        self._task: TaskID | None = None
        self._started = 0.0

    def __enter__(self) -> LiveBars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage_started(self, stage: AnyStage, total: int) -> None:
        self._started = time.monotonic()
        self._task = self._progress.add_task(stage.title, total=max(1, total), rates="")

    def stage_polled(self, stage: AnyStage, snapshot: Snapshot) -> None:
        assert self._task is not None
        self._progress.update(
            self._task,
            completed=snapshot.counts.get(stage.measure, 0),
            rates=rates(stage, snapshot, time.monotonic() - self._started),
        )

    def stage_noted(self, stage: AnyStage, text: str) -> None:
        self._progress.console.print(f"{stage.title}: {text}")

    def stage_finished(self, stage: AnyStage, snapshot: Snapshot) -> None:
        self.stage_polled(stage, snapshot)
        assert self._task is not None
        total = self._progress.tasks[self._task].total
        self._progress.update(self._task, completed=total)


@contextmanager
def observer() -> Iterator[Observer]:
    """Bars where somebody looks on, lines in a log."""
    if sys.stderr.isatty():
        with LiveBars() as bars:
            yield bars
    else:
        yield LogLines()


class BytesBar:
    """A bar of bytes checked, where somebody looks on."""

    def __init__(self, shown: bool, corpus: CorpusFolder) -> None:
        from rich import progress  # for those alone who wait for something

        self._progress = progress.Progress(
            progress.TextColumn("checking"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            console=console(),
            transient=True,
            disable=not shown,
        )
        total = corpus.bytes_on_disk() if shown else 0
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> BytesBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, count: int) -> None:
        self._progress.advance(self._task, count)


def _rows(title: str, rows: Mapping[str, str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def print_summary(summary: form.Summary, out: Console) -> None:
    """A corpus's report as tables: what was read and kept, what lies on the disk, where time went."""
    counts = summary["counts"]
    pages = {"pages read": f"{counts['pages']:,}", "= kept": f"{counts['kept']:,}"}
    for name, count in counts.items():
        if name.startswith(passages.DROPPED):
            pages[f"+ {name}"] = f"{count:,}"
    pages["+ quarantined"] = f"{counts['quarantined']:,}"
    pages["passages"] = f"{summary['passages']:,}"
    pages["words of the articles kept"] = f"{counts['article_words']:,}"
    pages["= words of the passages"] = f"{summary['words']:,}"
    if left_out := counts.get("left_out_sections", 0):
        pages[f"+ words of {left_out:,} sections left out"] = f"{counts['left_out_words']:,}"
    out.print(_rows("Passages", pages))
    for name, memory in summary["memory"].items():
        tokens = memory["counts"]
        stored = memory["passages"]
        average = words.NOTHING if stored is None else f"{tokens['tokens'] / stored:.1f}"
        current = " (current)" if summary["aliases"].get("current") == name else ""
        out.print()
        out.print(
            _rows(
                f"Memory {name}{current}",
                {
                    "tokens": f"{tokens['tokens']:,}",
                    "tokens a passage": f"{average} ({tokens['tokens_min']} to {tokens['tokens_max']})",
                    "passages cut / tokens cut": reading.told_cut(memory["read"])
                    if memory["read"]
                    else f"{tokens['passages_cut']:,} / {tokens['tokens_cut']:,}",
                    "unknown tokens": reading.told_unknown(memory["read"]),
                    "layers, width": f"{memory['layers']}, {memory['width']}",
                    "codec, computed in": f"{memory['codec']}, {memory['compute_dtype']}",
                    "shards": f"{memory['shards']:,} of {memory['shard_passages']:,} passages",
                    "bytes, a token": f"{words.size(memory['bytes'])}, "
                    f"{memory['bytes'] / tokens['tokens']:,.1f}",
                },
            )
        )
    for title, rows in chunks.told(summary.get("tokens"), summary.get("neighbours", {})):
        out.print()
        out.print(_rows(title, rows))
    for vectors in summary["vectors"].values():
        given = vectors["read"]
        out.print()
        out.print(
            _rows(
                "Retriever",
                {
                    "vectors": f"{vectors['dim']} x {vectors['dtype']}, by {vectors['similarity']}",
                    "tokens": f"{given['tokens']:,}" if given else reading.NOT_COUNTED,
                    "limit of a passage": f"{vectors['max_tokens'] or '?'}",
                    "passages cut / tokens cut": reading.told_cut(given),
                    "unknown tokens": reading.told_unknown(given),
                },
            )
        )
    rest = {f"{part} bytes": words.size(count) for part, count in summary["bytes"].items()}
    for index in summary["index"].values():
        rest["index, recall@10"] = f"{index['kind']}, {index['recall_at_10']:.4f}"
    out.print()
    out.print(_rows("On the disk", rest))
    steps = _seconds_by_step(summary)
    if steps:
        out.print()
        out.print(_rows("Seconds of workers", {step: f"{seconds:,.2f}" for step, seconds in steps.items()}))
    remarks = statistics.remarks(
        summary.get("bottleneck"), summary.get("computed_tokens", {}), summary.get("events", {})
    )
    for line in remarks:
        out.print(line)
    from pipeline.accounts.show import tables

    tables.print_warnings(summary["warnings"], out)


def _seconds_by_step(summary: form.Summary) -> dict[str, float]:
    """Workers' seconds of a build by what they were spent on, over all stages."""
    steps: dict[str, float] = {}
    for stage in summary.get("worker_seconds", {}).values():
        for step, seconds in stage.items():
            steps[step] = steps.get(step, 0.0) + seconds
    return steps


def print_versions(versions: Sequence[form.Version], out: Console) -> None:
    """Memory versions, in the order they were added."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("version", "names", "codec", "from"):
        table.add_column(name, no_wrap=True)
    for name in ("bytes", "error"):
        table.add_column(name, justify="right", no_wrap=True)
    for version in versions:
        table.add_row(
            version["version"],
            ", ".join(version["aliases"]),
            version["codec"],
            (version["origin"] or "")[:8],
            words.size(version["bytes"]),
            f"{version['quality']['relative_error']:.2g}",
        )
    out.print(table)


def print_scores(scores: Mapping[str, Scores], out: Console) -> None:
    """KILT's scores in percent, a column a task file."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in scores:
        table.add_column(name, justify="right")
    table.add_row("examples", *(f"{found.examples:,}" for found in scores.values()))
    for part in ("downstream", "kilt", "retrieval"):
        names = dict.fromkeys(name for found in scores.values() for name in getattr(found, part))
        for name in names:
            values = (getattr(found, part).get(name) for found in scores.values())
            table.add_row(name, *("-" if value is None else f"{100 * value:.2f}" for value in values))
    out.print(table)
