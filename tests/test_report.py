"""The report of a real corpus: bytes are the disk's, counts the arrays', its forms the same figures."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from pipeline.accounts import contents, prices
from pipeline.accounts.report import corpus_report
from pipeline.accounts.show import page, plots, words
from pipeline.cli.terminal import rates
from pipeline.components import neighbours, shards
from pipeline.components.base import AnyStage
from pipeline.components.index import build
from pipeline.units.progress import Snapshot
from retrieval import open_corpus
from storage import checked_json, components, file_list, files, run_statistics
from storage.folder import CorpusFolder
from tests import jobs
from tests.commands import Command
from tests.second_version import add_version
from tests.test_cli import refused

ROOT = Path(__file__).parents[1]


def report_of(root: Path, options: corpus_report.Options) -> dict[str, Any]:
    return corpus_report.corpus_report(CorpusFolder(root), options)


def disk_usage(root: Path) -> int:
    """What `du` says of the corpus's files."""
    names = b"\0".join(os.fsencode(path) for path in root.rglob("*") if path.is_file())
    done = subprocess.run(
        ["du", "--apparent-size", "-b", "-c", "--files0-from=-"], input=names, capture_output=True, check=True
    )
    return int(done.stdout.split(b"\n")[-2].split(b"\t")[0])


@pytest.fixture(scope="module")
def two(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus with a second version, in float32, that no alias points to."""
    root = tmp_path_factory.mktemp("two") / "corpus"
    shutil.copytree(corpus, root)
    add_version(root, "float32")
    return root


@pytest.fixture(scope="module")
def second(two: Path) -> str:
    """The second version's name."""
    return jobs.manifest(two).versions[1]


@pytest.fixture(scope="module")
def report(two: Path) -> dict[str, Any]:
    return report_of(two, corpus_report.Options(prices=prices.read()))


def test_the_parts_are_what_du_says_to_the_byte(corpus: Path, two: Path, report: dict[str, Any]) -> None:
    assert report["bytes"] == sum(row["bytes"] for row in report["parts"]) == disk_usage(two)
    assert report["files"] == sum(1 for path in two.rglob("*") if path.is_file())
    assert sum(report["bytes_by_part"].values()) == report["bytes"]
    one = report_of(corpus, corpus_report.Options(prices=prices.read()))
    assert one["bytes"] == disk_usage(corpus) < report["bytes"]
    # Each row is the files it names.
    for row in report["parts"]:
        patterns = {
            "values": ["values/c/*/0/0"],
            "offsets and checksums": ["offsets/c/0/0", "checksums/c/0/0"],
            "canaries": ["canaries.npy"],
        }
        if row["part"] == "memory" and row["content"] != contents.LISTS:
            folder = two / "memory" / row["version"]
            found = [path for pattern in patterns[row["content"]] for path in folder.glob(pattern)]
            sizes = [path.stat().st_size for path in found]
            assert (row["bytes"], row["files"]) == (sum(sizes), len(sizes))


def test_versions_are_told_apart(two: Path, report: dict[str, Any], second: str) -> None:
    first, other = report["versions"]
    assert (first["codec"], other["codec"]) == ("bfloat16", "float32")
    assert (first["current"], other["current"]) == (True, False)
    memory = open_corpus(two).memory()
    lengths = memory.tokens(np.arange(report["passages"]))
    for version in (first, other):
        folder = two / "memory" / version["version"]
        assert version["bytes"] == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        assert version["tokens"] == lengths.sum()
        assert version["bytes_per_token"] == version["bytes"] / lengths.sum()
        padded = report["passages"] * version["max_tokens"] * version["token_bytes"]
        assert version["padding_avoided_bytes"] == padded - lengths.sum() * version["token_bytes"]
    assert first["compression_against_bfloat16"] == pytest.approx(1, rel=0.1)
    assert other["compression_against_bfloat16"] == pytest.approx(0.5, rel=0.1)
    assert report["keeping"]["gc_versions"] == [second]
    assert report["keeping"]["gc_bytes"] == other["bytes"]
    twice = report["keeping"]["versions"][1]
    assert twice["bytes"] == report["bytes"] - other["bytes"] + first["bytes"]
    assert [row["version"] for row in report["history"]] == [first["version"], second]


def test_the_histogram_is_of_the_stored_tokens(two: Path, report: dict[str, Any]) -> None:
    lengths = open_corpus(two).memory().tokens(np.arange(report["passages"]))
    bars = report["versions"][0]["tokens_histogram"]
    assert sum(count for _, count in bars) == report["passages"]
    lowest = 0
    for upper, count in bars:
        assert count == np.count_nonzero((lengths > lowest) & (lengths <= upper))
        lowest = upper
    name = report["versions"][0]["version"]
    shards = [p.stat().st_size for p in two.glob(f"memory/{name}/values/c/*/0/0")]
    sizes = report["versions"][0]["shard_bytes"]
    assert (sizes["least"], sizes["most"]) == (min(shards), max(shards))
    assert sizes["least"] <= sizes["median"] <= sizes["most"]


def test_a_version_of_its_own_statistics(two: Path, tmp_path: Path, second: str) -> None:
    """Found by their name; the build's stay the first version's."""
    root = tmp_path / "corpus"
    shutil.copytree(two, root)
    path = root / run_statistics.path_of(second)
    value = checked_json.read(path) | {
        "finished": "2099-01-01T00:00:00Z",
        "worker_seconds": {"shards": {"encoding": 2.0, "writing": 1.0}},
        "stage_seconds": {"shards": 4.0},
    }
    checked_json.write(path, value)
    found = report_of(root, corpus_report.Options(prices=prices.read()))
    assert found["bytes"] == disk_usage(root)
    assert [run["run"] for run in found["time"]] == sorted(
        ["build", second], key=lambda run: (run != "build", run)
    )
    assert found["versions"][1]["encode_seconds"] == 3.0
    encoded = found["time"][1]["encoded"]
    assert encoded["version"] == second
    assert encoded["tokens_per_second"] == found["versions"][1]["tokens"] / 4.0
    # Two FLOPs a weight of 4 layers: 4 d * inner + 3 d * d_ff each.
    shape = found["versions"][1]["architecture"]
    weights = 4 * shape["d_model"] * shape["heads"] * shape["d_kv"] + 3 * shape["d_model"] * shape["d_ff"]
    assert encoded["flops_per_second"] == found["versions"][1]["tokens"] * 2 * 4 * weights / 2.0
    assert [row["version"] for row in found["history"]][-1] == second
    assert page.render(found).count("<svg") == 5


def test_planned_and_true_bytes(report: dict[str, Any]) -> None:
    rows = {row["part"]: row for row in report["planned"]}
    assert rows["total"]["bytes"] == report["bytes"] - report["versions"][1]["bytes"]
    assert rows["total"]["planned"] == pytest.approx(rows["total"]["bytes"], rel=0.02)
    parts = ("passages", "vectors", "index", "memory", "overhead")
    assert sum(rows[part]["bytes"] for part in parts) == rows["total"]["bytes"]


def test_seconds_of_workers_are_the_receipts(report: dict[str, Any]) -> None:
    run = report["time"][0]
    assert run["run"] == "build"
    total = sum(sum(steps.values()) for steps in run["worker_seconds"].values())
    spent = sum(sum(worker["seconds"].values()) for worker in run["workers"].values())
    assert spent == pytest.approx(total, abs=0.05)
    assert sum(worker["units"] for worker in run["workers"].values()) > 4
    assert run["peak_rss_bytes"] > 100e6


def test_json_is_as_its_schema_says(command: Command, two: Path, report: dict[str, Any]) -> None:
    status, out, _ = command("report", two, "--json", "--build-device", "l4")
    assert status == 0
    found = json.loads(out)
    schema = json.loads((ROOT / "docs/report.schema.json").read_text())
    jsonschema.validate(found, schema)
    assert found["parts"] == report["parts"]
    assert {row["name"] for row in found["prices"]["devices"]} == {"h100", "l4"}
    assert 0 < found["time"][0]["encoded"]["utilisation"] < 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(found | {"surprise": 1}, schema)


def test_the_terminal_shows_the_same_figures(
    command: Command, two: Path, report: dict[str, Any], second: str
) -> None:
    status, out, _ = command("report", two)
    assert status == 0
    for row in report["parts"]:
        assert f"{row['bytes']:,}" in out
    for version in report["versions"]:
        assert version["version"] in out
    assert f"{report['bytes']:,} bytes in {report['files']:,} files" in out
    for row in [*report["prices"]["devices"], *report["prices"]["storage"]]:
        assert row["source"] in out
        assert row["date"] in out
    assert f"gc would free {words.size(report['keeping']['gc_bytes'])}: {second}" in out


class Page(html.parser.HTMLParser):
    """What a browser would load, the ids, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action") and not (value or "").startswith("#"):
                self.loads.append(f"{tag} {value}")
            if name == "id":
                self.ids.append(str(value))
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()


def test_the_page_stands_alone(command: Command, two: Path, tmp_path: Path, report: dict[str, Any]) -> None:
    out = tmp_path / "report.html"
    status, text, err = command("report", two, "--html", out)
    assert status == 0, err
    assert "one page without network" in text
    written = out.read_text()
    parsed = Page()
    parsed.feed(written)
    assert parsed.loads == []
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert "<script" not in written
    assert "@import" not in written
    assert "url(http" not in written
    assert "prefers-color-scheme: dark" in written
    assert 'name="viewport"' in written
    assert set(plots.plots(report)) == {"parts", "codecs", "time", "tokens", "even"}
    assert written.count("<svg") == 5
    # No colour is fixed: every one is a variable of the page.
    inside = "".join(re.findall(r"<svg.*?</svg>", written, re.DOTALL))
    assert not re.findall(r"#[0-9a-f]{6}\b", inside)
    for row in report["parts"]:
        assert f"{row['bytes']:,}" in written


def test_names_are_escaped(report: dict[str, Any]) -> None:
    evil = '<script>alert("x")</script>$a$'
    changed = report | {
        "corpus": evil,
        "parts": [{**row, "version": evil, "codec": evil} for row in report["parts"]],
    }
    text = page.render(changed)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_million_files_are_summed_by_column(corpus: Path, tmp_path: Path) -> None:
    """A version's list as long as that of XXL over Wikipedia: summed by column."""
    root = tmp_path / "corpus"
    shutil.copytree(corpus, root)
    folder = CorpusFolder(root)
    (version,) = folder.manifest.versions
    card = folder.memory(version)
    values = f"{components.MEMORY.folder(version)}/values/c"
    path = folder.path(card.files.path)
    writer = file_list.Writer(path)
    for shard in range(1_000_000):
        writer.add(files.FileEntry(path=f"{values}/{shard}/0/0", bytes=shard + 1, crc32=shard))
    writer.close()
    entry = folder.write_card(components.MEMORY, dataclasses.replace(card, files=folder.entry(path)))
    folder.write_manifest(folder.manifest.with_cards(components.MEMORY, {version: entry}))
    report = report_of(root, corpus_report.Options(prices=prices.read()))
    sizes = report["versions"][0]["bytes_by_content"]
    assert sizes["values"] == 1_000_000 * 1_000_001 // 2


def test_a_report_opens_no_array(corpus: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from storage.folder import CorpusFolder\n"
        "from pipeline.accounts import prices\n"
        "from pipeline.accounts.report import corpus_report\n"
        "from pipeline.accounts.show import report_tables\n"
        "from rich.console import Console\n"
        "options = corpus_report.Options(prices=prices.read())\n"
        "found = corpus_report.corpus_report(CorpusFolder(Path(sys.argv[1])), options)\n"
        "report_tables.print_report(found, Console(file=open('/dev/null', 'w')))\n"
        "print(sorted({'jax', 'torch', 'apache_beam', 'matplotlib', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(corpus)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_damaged_statistics_leave_the_rest(corpus_copy: Path) -> None:
    path = corpus_copy / run_statistics.path_of(run_statistics.BUILD)
    path.write_bytes(path.read_bytes()[:-9])
    found = report_of(corpus_copy, corpus_report.Options(prices=prices.read()))
    assert found["time"] == []
    assert found["planned"] == []
    assert found["versions"][0]["tokens_histogram"] == []
    assert page.render(found).count("<svg") == 3


def test_lengths_are_counted_in_bars() -> None:
    counts = shards.length_counts(np.array([1, 16, 17, 304, 303, 289, 288]), 304)
    bars = {int(upper): n for upper, n in counts["lengths"].items()}
    assert list(bars) == list(range(16, 305, 16))
    assert {upper: n for upper, n in bars.items() if n} == {16: 2, 32: 1, 288: 1, 304: 3}
    assert (counts["tokens_min"], counts["tokens_max"]) == (1, 304)
    # The last bar ends at the limit, whatever that is.
    assert list(shards.length_counts(np.array([3]), 20)["lengths"])[-1] == "20"


def test_bad_questions(command: Command, corpus: Path, tmp_path: Path) -> None:
    refused(command, ["report", corpus, "--device", "abacus"], "abacus", "h100")
    refused(command, ["report", corpus, "--storage", "floppy"], "floppy", "s3-standard")
    refused(command, ["report", corpus, "--live-proportion", "1"], "less than 1")
    refused(command, ["report", corpus, "--retrieved", "0"], "0 retrieved")
    refused(command, ["report", corpus, "--prices", tmp_path], "cannot be read")
    refused(command, ["report", corpus, "--html", tmp_path / "no/where.html"], "there is no folder")
    refused(command, ["report", tmp_path], "holds no corpus")


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (words.size(78.3e12), "78.3 TB"),
        (words.size(999.6e3), "1.00 MB"),
        (words.size(0), "0 B"),
        (words.dollars(1680.4), "$1,680"),
        (words.dollars(0.0045), "$0.0045"),
        (words.dollars(None), "-"),
        (words.duration(2484), "41.4 min"),
        (words.duration(90), "90.0 s"),
        (words.big(1.13e6), "1.13 M"),
        (words.big(None), "never"),
        (words.share(0.0055), "0.55 %"),
        (words.share(1e-6), "< 0.01 %"),
        (words.spread(0.0), "exact"),
        (words.spread(None), "spread unknown"),
    ],
)
def test_numbers_for_people(shown: str, wanted: str) -> None:
    assert shown == wanted


TAPE = """
[device.mine]
description = "a card"
tflops = 100
memory_gb = 16
price_per_hour = 1000
date = 2026-01-01
source = "https://example.org"

[storage.tape]
description = "a library"
price_per_gb_month = 0.001
price_per_1000_writes = 0.0
price_per_1000_reads = 0.0
price_per_gb_read = 0.0
write_mb_per_second = 100
write_mb_per_second_total = 0
gb_bytes = 1000000000
date = 2026-01-01
source = "https://example.org"
"""


def test_the_schemas_hold_for_any_price_list(command: Command, corpus: Path, tmp_path: Path) -> None:
    """With classes of storage of the user's own, and where memory pays for itself in money."""
    path = tmp_path / "prices.toml"
    path.write_text(TAPE)
    chosen = ["--prices", path, "--device", "mine", "--storage", "tape", "--json"]
    status, out, err = command("report", corpus, *chosen)
    assert status == 0, err
    report = json.loads(out)
    assert [row["storage"] for row in report["storage_classes"]] == ["tape"]
    pays = [row for row in report["serving"]["break_even"] if row["money"] is not None]
    assert pays
    for row in pays:
        assert row["money"] > 0
        assert 0 < row["monthly"] < row["money"]
    jsonschema.validate(report, json.loads((ROOT / "docs/report.schema.json").read_text()))
    model = ["--size", "base", "--live-proportion", "1/3", "--codec", "bfloat16", "--codec", "int8"]
    status, out, err = command(
        "plan", "--passages", "1000", "--tokens-per-passage", "200", *model, "--workers", "1", *chosen
    )
    assert status == 0, err
    plan = json.loads(out)
    assert [set(way["month"]) for way in plan["ways"]] == [{"tape"}, {"tape"}]
    jsonschema.validate(plan, json.loads((ROOT / "docs/plan.schema.json").read_text()))


def test_a_report_tells_of_chunks_and_their_neighbours(command: Command, tmp_path: Path) -> None:
    """As `info` does: the same figures, and the same lines."""
    corpus = ROOT / "tests" / "golden" / "format-1-chunks"
    report, told = (json.loads(command(name, corpus, "--json")[1]) for name in ("report", "info"))
    jsonschema.validate(report, json.loads((ROOT / "docs/report.schema.json").read_text()))
    assert report["tokens"] == told["tokens"]
    assert report["neighbours"] == told["neighbours"]
    ((name, table),) = report["neighbours"].items()
    assert (table["k"], table["searched"], table["recall"]) == (2, report["passages"], 1.0)
    lines = [
        f"Neighbours {name}",
        "Chunks of 32 tokens",
        "2, itself (own document excluded)",
        "exact, 1.0000",
    ]
    page = tmp_path / "report.html"
    assert command("report", corpus, "--html", page)[0] == 0
    for said in (command("report", corpus)[1], command("info", corpus)[1], page.read_text()):
        assert all(line in said for line in lines), said


@pytest.mark.parametrize(
    ("stage", "counts", "said"),
    [
        (neighbours.STAGE, {"searched": 1_900, "found": 3_800}, "1,900 passages"),
        (neighbours.RECALL_STAGE, {"queries": 256}, "256 passages"),
        (build.TRAIN, {"points": 40_000}, "40,000 vectors"),
        (build.ADD, {"passages": 7}, "7 passages"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_stage_that_ends_says_what_it_did(stage: AnyStage, counts: dict[str, int], said: str) -> None:
    assert rates(stage, Snapshot(units_done=1, units=1, counts=counts), 1.0) == said
