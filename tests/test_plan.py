"""What a build needs, planned from a sample, against what it then takes; and what a plan refuses."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders.memory_spec import MemorySpec
from encoders.t5_config import PUBLISHED_SIZES
from examples.miniwiki.export import DumpTruth
from pipeline.accounts import prices
from pipeline.accounts.plan import asking, estimate, indexing, inputs
from pipeline.accounts.plan import from_source as plan
from pipeline.text import sources
from retrieval import open_corpus
from storage import codecs, costs, errors, memory_rows
from tests.commands import Command
from tests.test_cli import refused

ROOT = Path(__file__).parents[1]
XXL = ("--passages", "36e6", "--tokens-per-passage", "265", "--size", "xxl")


def disk_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def test_the_bytes_planned_are_those_taken(corpus: Path, settings: Any) -> None:
    splits = [
        split for spec in settings.sources for split in sources.open_source(spec).splits(settings.split_bytes)
    ]
    planned = plan.corpus_bytes(splits, settings)
    assert planned.total == pytest.approx(disk_bytes(corpus), rel=0.02)
    assert planned.files == sum(1 for path in corpus.rglob("*") if path.is_file())
    memory = next((corpus / "memory").iterdir())
    assert planned.memory == pytest.approx(disk_bytes(memory), rel=0.03)


def test_what_is_on_the_disk_already_is_not_needed_again(tmp_path: Path) -> None:
    need = costs.CorpusBytes(passages=0, vectors=0, index=0, memory=1 << 60)
    with pytest.raises(errors.CorpusError, match="free some"):
        plan.require_room(need, tmp_path / "not/yet/there")
    plan.require_room(need, tmp_path, already=1 << 60)


def test_xxl_wikipedia_with_every_codec(command: Command) -> None:
    """Each figure by hand: 36 M passages of 265 tokens, 16 of 24 layers, 64 H100 at 40 %."""
    status, out, err = command(
        *("plan", *XXL, "--codec", "all", "--device", "h100", "--workers", "64"),
        *("--storage", "s3-standard", "--json"),
    )
    assert status == 0, err
    found = json.loads(out)
    assert [way["codec"] for way in found["ways"]] == list(estimate.codec_names())
    tokens = 36_000_000 * 265
    for way in found["ways"]:
        token_bytes = codecs.by_name(way["codec"]).token_bytes(4096)
        assert way["token_bytes"] == token_bytes
        # Values, and under 5 % of checksums, indexes and half-empty chunks.
        assert tokens * token_bytes < way["bytes"]["memory"] < 1.05 * tokens * token_bytes + 2e9
        # Vectors: 768 float32, and a CRC-32C for 64 of them.
        assert way["bytes"]["vectors"] == pytest.approx(36_000_000 * 768 * 4, rel=0.001)
        assert way["bytes"]["index"] == 36_000_000 * 72 + 32768 * (768 * 4 + 8) + 768 * 768 * 4 + 768 * 1024
        # Two FLOPs a weight of 16 layers of 4 * 4096² + 3 * 4096 * 10,240 weights.
        assert way["memory_flops"] == tokens * 2 * 16 * 192_937_984
        assert way["retriever_flops"] == tokens * 2 * 12 * 7_077_888 + 36_000_000 * 2 * 768**2
        rate = 64 * 989e12 * 0.4
        computing = (way["memory_flops"] + way["retriever_flops"]) / rate
        writing = (way["bytes"]["memory"] + way["bytes"]["vectors"]) / 64e9
        assert way["seconds"]["encode shards"] == pytest.approx(max(computing, writing))
        assert way["accelerator_hours"] == pytest.approx(64 * max(computing, writing) / 3600)
        uploads = way["bytes"]["files"] * 0.005 / 1000
        assert way["build_price"] == pytest.approx(way["accelerator_hours"] * 6.88 + uploads)
        assert way["month"]["s3-standard"] == pytest.approx(way["bytes"]["total"] / 2**30 * 0.023)
        assert (way["limit"] == "storage") == (writing > computing) == bool(way["refused"])
    plain = next(way for way in found["ways"] if way["codec"] == "bfloat16")
    # The wall of the papers: half a gigabyte a second out of every accelerator.
    assert plain["write_needed"] == pytest.approx(0.5e9, rel=0.05)
    wide = next(way for way in found["ways"] if way["codec"] == "float32")
    assert "no bandwidth" in wide["refused"][0]
    jsonschema.validate(found, json.loads((ROOT / "docs/plan.schema.json").read_text()))


def test_several_sizes_and_proportions_side_by_side(command: Command) -> None:
    arguments = ["plan", *XXL, "--size", "base", "--live-proportion", "1/3", "--live-proportion", "1/2"]
    status, out, _ = command(*arguments, "--device", "l4", "--codec", "float16", "--codec", "float32")
    assert status == 0
    for row in ("xxl α=1/2 float16", "base α=1/3 float32", "xxl α=1/3 float32", "base α=1/2 float16"):
        assert row in out
    # Every price that was computed with is shown, and no device that was not.
    for name in ("l4", "s3-standard", "local-disk", "https://aws.amazon.com/s3/pricing/"):
        assert name in out
    assert "h100 " not in out


def test_a_plan_from_a_sample_measures_this_machine(
    command: Command, dump: DumpTruth, models: Path, corpus: Path, tmp_path: Path
) -> None:
    status, out, err = command(
        *("plan", "--source", f"mediawiki:{dump.path}", "--memory-encoder", models / "t5"),
        *("--retriever", models / "gtr", "--out", tmp_path / "c", "--json"),
    )
    assert status == 0, err
    found = json.loads(out)
    assert found["counts"]["pages"] == dump.pages
    assert found["counts"]["spread"]["passages"] == 0
    assert found["basis"]["whole"] is True
    assert found["counts"]["left_out_words"] == open_corpus(corpus).counts["left_out_words"] > 0
    rates = found["machines"]["rates"]
    assert all(value >= 0 for value in rates.values())
    assert rates["encoding_per_token"] > 0
    (way,) = found["ways"]
    assert set(way["seconds"]) == {"read passages", "number passages", "encode shards", "index vectors"}
    assert way["wall_seconds"] == pytest.approx(sum(way["seconds"].values()))
    assert way["refused"] == []
    assert not (tmp_path / "c").exists()
    jsonschema.validate(found, json.loads((ROOT / "docs/plan.schema.json").read_text()))


def test_a_disk_too_small_is_told(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plan, "free_bytes", lambda folder: (folder, 10**12))
    status, out, _ = command("plan", *XXL, "--device", "h100", "--workers", "8", "--out", tmp_path / "c")
    assert status == 0
    assert "no room: the disk has 1,000,000,000,000 bytes free, the build needs 78," in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*XXL, "--codec", "zip", "--device", "h100"], ["zip", "bfloat16"]),
        ([*XXL, "--device", "abacus"], ["abacus", "h100", "tpu-v5e"]),
        ([*XXL, "--device", "h100", "--storage", "floppy"], ["floppy", "s3-standard"]),
        ([*XXL], ["nothing tells how long", "--device"]),
        ([*XXL, "--device", "h100", "--utilisation", "1.5"], ["1.5", "up to 1"]),
        ([*XXL, "--device", "h100", "--workers", "0"], ["workers is 0"]),
        ([*XXL, "--device", "h100", "--live-proportion", "0.4"], ["0.4", "3/8"]),
        ([*XXL, "--size", "giga", "--device", "h100"], ["giga", "xxl"]),
        ([*XXL, "--device", "h100", "--prices", "/no/such.toml"], ["/no/such.toml"]),
        (["--passages", "0", *XXL[2:], "--device", "h100"], ["0 passages"]),
        (["--passages", "nan", *XXL[2:], "--device", "h100"], ["nan"]),
        (["--passages", "3", "--size", "xl", "--device", "h100"], ["--tokens-per-passage"]),
        (["--size", "xl", "--device", "h100"], ["either --source"]),
        (["--passages", "3", "--tokens-per-passage", "2", "--device", "h100"], ["no model given"]),
        (["--source", "mediawiki:/x", "--size", "xl", "--device", "h100"], ["--memory-encoder"]),
    ],
)
def test_bad_questions(command: Command, arguments: list[str], words: list[str]) -> None:
    refused(command, ["plan", *arguments], *words)


passages_of = st.integers(1, 10**8)
tokens_of = st.floats(1, 300)


def machines(**changes: Any) -> inputs.Machines:
    listed = prices.read()
    values = {"workers": 4, "storage": listed.storage["s3-standard"], "device": listed.devices["h100"]}
    return inputs.Machines(**(values | changes))


@given(passages=passages_of, per=tokens_of, size=st.sampled_from(sorted(PUBLISHED_SIZES)))
def test_what_always_holds(passages: int, per: float, size: str) -> None:
    counts = inputs.Counts(passages=passages, tokens=passages * per, text_bytes=passages * per * 3)
    half = inputs.Model(
        name=size, config=PUBLISHED_SIZES[size], memory=MemorySpec(live_proportion=Fraction(1, 2))
    )
    none = inputs.Model(
        name=size, config=PUBLISHED_SIZES[size], memory=MemorySpec(live_proportion=Fraction(0))
    )
    one, all_layers = (estimate.estimate(counts, model, "bfloat16", machines()) for model in (half, none))
    # Memory is as large whatever α is; twice the layers are twice the FLOPs.
    assert one.bytes == all_layers.bytes
    assert all_layers.memory_flops == pytest.approx(2 * one.memory_flops)
    # Twice the workers halve the time, unless the storage had the last word.
    more = estimate.estimate(counts, half, "bfloat16", machines(workers=8))
    assert more.wall_seconds == pytest.approx(one.wall_seconds / 2)
    assert more.accelerator_hours == pytest.approx(one.accelerator_hours)
    # Too small a disk, and only that, is refused for want of room.
    exactly = estimate.estimate(counts, half, "bfloat16", machines(free_bytes=one.bytes.peak))
    short = estimate.estimate(counts, half, "bfloat16", machines(free_bytes=one.bytes.peak - 1))
    assert not any("no room" in reason for reason in exactly.refused)
    assert any(f"needs {one.bytes.peak:,}" in reason for reason in short.refused)


def test_wikipedia_in_chunks_with_their_neighbours() -> None:
    """61 million chunks: tokens by arithmetic, and a search that fewer probes make cheaper."""
    asked: Any = {"passages": 61e6, "tokens_per_passage": 64, "sizes": ("base",), "device": "h100"}
    chunks = {**asked, "passage_tokens": 64, "neighbours": 2}
    (plain,), (row,), (few,) = (
        asking.plan(asking.PlanSettings(**given))["ways"]
        for given in (asked, chunks, {**chunks, "probes": 64})
    )
    found = asking.plan(asking.PlanSettings(**chunks))
    jsonschema.validate(found, json.loads((ROOT / "docs/plan.schema.json").read_text()))
    # 128 bytes of tokens, 2 of a length and 4 of an ordinal; two ids and two scores of 4. And checksums.
    assert 61e6 * 134 < row["bytes"]["tokens"] < 61e6 * 134 * 1.01
    assert 61e6 * 16 < row["bytes"]["neighbours"] < 61e6 * 16 * 1.03
    assert (plain["bytes"]["tokens"], plain["bytes"]["neighbours"]) == (0, 0)
    assert row["bytes"]["total"] - plain["bytes"]["total"] > 61e6 * 150
    assert plain["neighbour_core_hours"] is None
    # Ten times the passages: ten times the shards, calls and seconds, and RAM but for the libraries.
    (more,) = asking.plan(asking.PlanSettings(**{**asked, "passages": 10 * asked["passages"]}))["ways"]
    for name in ("resume_seconds", "commit_requests", "verify_seconds"):
        assert more["launching"][name] == pytest.approx(10 * plain["launching"][name], rel=1e-3)  # type: ignore[literal-required]
    assert plain["launching"]["reader_ram_bytes"] == 8 * memory_rows.KNOWN_PASSAGES
    grown = more["launching"]["ram_bytes"] - plain["launching"]["ram_bytes"]
    assert grown == 8 * (more["bytes"]["files"] - plain["bytes"]["files"])
    assert (row["neighbour_core_hours"] or 0) > (few["neighbour_core_hours"] or 0) > 0
    assert plain["chunk_encodings"] is None
    stored = row["chunk_encodings"]
    # The paper's encoder, conditioning and positions aside; 896 of bfloat16 a token.
    assert stored is not None
    assert 61e6 * 128 * 896 * 2 < stored["bytes"] < 61e6 * 128 * 896 * 2 * 1.01
    weights = 2 * (4 * 896 * 1024 + 2 * 896 * 3584)
    assert stored["flops"] == 2 * weights * 128 * 61e6
    assert stored["accelerator_hours"] == pytest.approx(stored["flops"] / (0.4 * 989e12) / 3600)
    with pytest.raises(errors.CorpusError, match="probes is 4: wanted 1 or more, and --neighbours K"):
        asking.PlanSettings(**asked, probes=4)
    with pytest.raises(errors.CorpusError, match="k is 0, wanted 1 to"):
        asking.PlanSettings(**asked, neighbours=0)


def test_the_index_of_a_plan_is_what_was_measured_at_full_size() -> None:
    """K-means of 2.1 million vectors for 32,768 lists took 2.85 core-hours, adding 36 million took 6.36."""
    found = indexing.foretold(36_000_000, 768)
    assert found.kind == "OPQ64,IVF32768,PQ64np"
    assert found.training_core_hours == pytest.approx(2.85, rel=0.05)
    assert found.adding_core_hours == pytest.approx(6.36, rel=0.05)
    # The sample of 64 vectors a list, twice.
    assert found.training_ram_bytes == 2 * 32_768 * 64 * 768 * 4
    assert found.units == 550
    exact = indexing.foretold(100_000, 768)
    assert (exact.kind, exact.units, exact.training_ram_bytes, exact.training_core_hours) == ("Flat", 0, 0, 0)


def test_a_plan_says_what_its_index_takes(command: Command) -> None:
    _, out, _ = command("plan", *XXL, "--device", "h100")
    assert "OPQ64,IVF32768,PQ64np: 2.9 core-hours of training, in one" in " ".join(out.split())
    _, out, _ = command("plan", "--passages", "100000", *XXL[2:], "--device", "h100")
    assert "core-hours of training" not in " ".join(out.split())
