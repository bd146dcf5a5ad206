"""Versions side by side: added, recoded, switched, compared, removed; readers stay with theirs."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import batching
from pipeline.jobs import job
from pipeline.jobs.reencode import ReencodeSettings
from retrieval import open_corpus
from storage import checked_json, components, errors, files, manifest, work_folder
from storage.folder import CorpusFolder
from storage.work_folder import WorkFolder
from tests import jobs, small_models
from tests.commands import Command
from tests.jobs import verify as verification


def reencode(root: Path, *, use: bool = False, **given: Any) -> str:
    return jobs.reencode(root, ReencodeSettings(**given), use=use)[1]


@pytest.fixture(scope="session")
def other_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder after more training."""
    folder = tmp_path_factory.mktemp("other") / "t5"
    small_models.make_t5_folder(folder, layers=6, seed=11)
    return folder


@pytest.fixture(scope="session")
def _two_versions(corpus: Path, other_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(shutil.copytree(corpus, tmp_path_factory.mktemp("versions") / "corpus"))
    reencode(root, memory_encoder=str(other_encoder), name="second")
    return root


@pytest.fixture
def two_versions(_two_versions: Path, tmp_path: Path) -> Path:
    """A corpus with the version it was built with, current, and one by another encoder, `second`."""
    return Path(shutil.copytree(_two_versions, tmp_path / "two"))


def content(root: Path, below: str = "") -> dict[str, bytes]:
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in sorted((root / below).rglob("*"))
        if p.is_file() and "statistics" not in p.parts
    }


def test_a_new_version_is_what_a_build_with_that_encoder_gives(
    two_versions: Path, corpus: Path, other_encoder: Path, settings: Any, tmp_path: Path
) -> None:
    from tests.jobs import build

    direct = build(
        dataclasses.replace(settings, memory_encoder=str(other_encoder)), tmp_path / "direct"
    ).corpus.root
    found = jobs.manifest(two_versions)
    (first, second) = found.versions
    assert jobs.manifest(direct).of(components.MEMORY)[second] == found.of(components.MEMORY)[second]
    assert content(two_versions, f"memory/{second}") == content(direct, "memory")
    # What was there before is untouched, and current.
    before, after = content(corpus), content(two_versions)
    assert {k: v for k, v in before.items() if k != manifest.NAME}.items() <= after.items()
    assert found.aliases == {"current": first, "second": second}
    assert verification(two_versions, full=True).ok
    assert verification(two_versions, full=True).strays == []
    assert not (two_versions / work_folder.NAME).exists()


def test_again_it_finds_nothing_to_do(two_versions: Path, other_encoder: Path) -> None:
    before = content(two_versions)
    outcome, version = jobs.reencode(two_versions, ReencodeSettings(memory_encoder=str(other_encoder)))
    assert outcome.already
    assert content(two_versions) == before
    reencode(two_versions, memory_encoder=str(other_encoder), name="third")
    assert jobs.manifest(two_versions).version("third") == version


def test_readers_follow_current_when_they_open_and_stay_with_theirs(two_versions: Path) -> None:
    opened = open_corpus(two_versions)
    old = opened.memory()
    one = np.array(old.fetch([5, 9]).values)
    jobs.use(two_versions, "second")
    assert np.array_equal(opened.memory().fetch([5, 9]).values, one)
    new = open_corpus(two_versions).memory()
    assert new.version == opened.manifest.version("second")
    assert not np.array_equal(new.fetch([5, 9]).values, one)
    assert np.array_equal(old.fetch([5, 9]).values, one)
    old.require_encoder(old.card.encoder_fingerprint)
    with pytest.raises(errors.MismatchError, match="re-encode"):
        new.require_encoder(old.card.encoder_fingerprint)
    # And back, as often as one likes.
    assert jobs.use(two_versions, None) == old.version
    assert jobs.use(two_versions, None) == new.version
    assert open_corpus(two_versions).memory().version == new.version


def test_names_are_checked(two_versions: Path, other_encoder: Path) -> None:
    for name in ("current", "previous", "../x", "a/b", "", "-x", "0123456789abcdef", "x" * 65, "a b"):
        with pytest.raises(errors.CorpusError, match="not allowed"):
            ReencodeSettings(memory_encoder="m", name=name)
        if name != "current":
            with pytest.raises(errors.CorpusError, match="not allowed"):
                jobs.use(two_versions, "second", alias=name)
    with pytest.raises(errors.CorpusError, match=r"is version .* already"):
        reencode(two_versions, origin="current", codec="float16", name="second")
    with pytest.raises(errors.CorpusError, match=r"known: .*second"):
        jobs.use(two_versions, "third")
    with pytest.raises(errors.CorpusError, match=r"no version of .* was current before"):
        jobs.use(two_versions, None)
    with pytest.raises(errors.CorpusError, match="those that can: second"):
        jobs.forget(two_versions, "current")
    for given in ({}, {"memory_encoder": "a", "origin": "b"}):
        with pytest.raises(errors.CorpusError, match="either"):
            ReencodeSettings(**given)
    with pytest.raises(errors.CorpusError, match="live_proportion cannot be changed"):
        ReencodeSettings(origin="current", codec="int8", memory={"live_proportion": "1/2"})
    with pytest.raises(errors.CorpusError, match="has codec bfloat16 already"):
        reencode(two_versions, origin="current", codec="bfloat16")


def test_recoding_needs_no_encoder(two_versions: Path, tmp_path: Path) -> None:
    version = reencode(two_versions, origin="second", codec="turbo4", name="small")
    corpus = open_corpus(two_versions)
    origin, small = corpus.memory("second"), corpus.memory("small")
    assert small.card.encoder_fingerprint == origin.card.encoder_fingerprint
    assert small.card.origin == origin.fingerprint
    ids = list(range(len(corpus)))
    a, b = origin.fetch(ids), small.fetch(ids)
    np.testing.assert_array_equal(a.offsets, b.offsets)
    values = np.asarray(a.values, np.float32)
    off = np.linalg.norm(values - np.asarray(b.values, np.float32), axis=1)
    assert (off <= small.coder.error_bound(values) * 1.001).all()
    assert 0 < small.card.quality["relative_error"] < 0.2
    assert small.card.counts == dataclasses.replace(
        origin.card.counts, memory_bytes=small.card.counts.memory_bytes
    )
    # The same coder, directly.
    np.testing.assert_array_equal(
        np.asarray(small.fetch(ids, decode=False).values), small.coder.encode(np.asarray(a.values))
    )
    assert verification(two_versions, full=True).ok
    # Exact the other way round: every bfloat16 is a float32.
    reencode(two_versions, origin="second", codec="float32", name="wide")
    wide = open_corpus(two_versions).memory("wide")
    np.testing.assert_array_equal(np.asarray(wide.fetch(ids).values), values)
    assert wide.card.quality["relative_error"] == 0
    assert version in jobs.listed(two_versions)[2]["version"]


def test_difference_of_two_versions(two_versions: Path) -> None:
    found = jobs.diff(two_versions, "current", "second", sample=30)
    corpus = open_corpus(two_versions)
    ids = np.unique(np.linspace(0, len(corpus) - 1, 30).astype(int))
    a = np.asarray(corpus.memory().fetch(ids).values, np.float64)
    b = np.asarray(corpus.memory("second").fetch(ids).values, np.float64)
    assert found["tokens"] == len(a)
    assert found["relative_error"] == pytest.approx(np.sqrt(((a - b) ** 2).sum() / (a**2).sum()))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert found["cosine"] == pytest.approx(cosines.mean())
    assert not found["same_encoder"]
    same = jobs.diff(two_versions, "second", "second")
    assert (same["relative_error"], same["largest"]) == (0, 0)
    assert same["cosine"] == pytest.approx(1)


def test_gc_takes_what_no_name_points_at_and_nobody_reads(two_versions: Path) -> None:
    assert jobs.garbage(two_versions) == []
    opened = open_corpus(two_versions)
    reader = opened.memory("second")
    jobs.forget(two_versions, "second")
    (item,) = jobs.garbage(two_versions)
    assert (item.kind, item.held) == ("version", True)
    assert item.bytes == jobs.listed(two_versions)[1]["bytes"]
    assert jobs.collect(two_versions) == []
    assert len(reader.fetch([3])) == 1
    del reader
    (item,) = jobs.garbage(two_versions)
    assert not item.held
    assert jobs.collect(two_versions) == [item]
    assert not (two_versions / item.path).exists()
    assert list(jobs.manifest(two_versions).versions) == [opened.manifest.version(None)]
    with pytest.raises(errors.CorpusError, match="open it again"):
        opened.memory("second")
    assert verification(two_versions, full=True).ok
    assert jobs.collect(two_versions) == []


def test_strays_go_and_the_named_stay(two_versions: Path) -> None:
    (two_versions / "memory/0123456789abcdef/values").mkdir(parents=True)
    (two_versions / "memory/0123456789abcdef/values/x").write_bytes(b"12345")
    before = content(two_versions)
    (item,) = jobs.garbage(two_versions)
    assert (item.kind, item.bytes) == ("stray", 5)
    jobs.collect(two_versions)
    del before["memory/0123456789abcdef/values/x"]
    assert content(two_versions) == before


def stop_in_the_middle(monkeypatch: pytest.MonkeyPatch, root: Path, settings: ReencodeSettings) -> None:
    """Interrupt a re-encoding after its third file."""
    real, count = files.finish_partial, iter(range(100))

    class Stop(BaseException):
        pass

    def stopping(partial: Path, path: Path) -> None:
        if "memory" in path.parts and next(count) == 3:
            raise Stop
        real(partial, path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "finish_partial", stopping)
        with pytest.raises((Stop, RuntimeError)):
            jobs.reencode(root, settings)


def test_interrupted_and_resumed(
    two_versions: Path, other_encoder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = ReencodeSettings(memory_encoder=str(other_encoder), codec="float16", name="half")
    straight = Path(shutil.copytree(two_versions, tmp_path / "straight"))
    jobs.reencode(straight, settings)
    stop_in_the_middle(monkeypatch, two_versions, settings)
    # Readers see nothing of it, and other jobs keep off.
    assert len(jobs.manifest(two_versions).versions) == 2
    assert verification(two_versions, full=True).ok
    with pytest.raises(errors.MismatchError, match="is unfinished"):
        reencode(two_versions, origin="current", codec="float32")
    assert jobs.collect(two_versions) == []
    done = list((two_versions / "work").glob("shards/*.json"))
    assert done
    stamp = done[0].stat().st_mtime_ns
    jobs.reencode(two_versions, settings)
    assert content(two_versions) == content(straight)
    assert stamp > 0


def test_unfinished_work_can_be_dropped(
    two_versions: Path, other_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(two_versions)
    settings = ReencodeSettings(memory_encoder=str(other_encoder), codec="float16")
    stop_in_the_middle(monkeypatch, two_versions, settings)
    assert {item.kind for item in jobs.garbage(two_versions, unfinished=True)} == {"unfinished"}
    jobs.collect(two_versions, unfinished=True)
    assert content(two_versions) == before


def test_a_machine_that_computes_otherwise_is_noticed(
    two_versions: Path, other_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that is off by some percent, on the way and afterwards."""
    from encoders.memory_encoder import MemoryEncoder
    from pipeline.components.memory import encode as encode_shards

    corpus = open_corpus(two_versions)
    encoder = jobs.load_encoder(two_versions, None, "second")
    assert corpus.check_encoder(encoder, "second").relative_error < 1e-4
    with pytest.raises(errors.MismatchError, match="was written by encoder"):
        corpus.check_encoder(encoder, "current")
    settings = ReencodeSettings(memory_encoder=str(other_encoder), codec="float16")
    stop_in_the_middle(monkeypatch, two_versions, settings)
    real = MemoryEncoder.encode

    def broken(self: MemoryEncoder, tokens: Any, out: Any, *args: Any, **kwargs: Any) -> None:
        real(self, tokens, out, *args, **kwargs)
        out *= np.asarray(1.05, out.dtype)

    monkeypatch.setattr(MemoryEncoder, "encode", broken)
    encode_shards.load_encoder.forget()
    with pytest.raises(errors.MismatchError, match="not what this encoder gives now"):
        corpus.check_encoder(encoder, "second")
    with pytest.raises(errors.CorpusError, match="before the job was interrupted"):
        jobs.reencode(two_versions, settings)


def test_the_commands(two_versions: Path, command: Command, other_encoder: Path) -> None:
    status, out, _ = command("versions", two_versions, "--json")
    first, second = map(json.loads, out.splitlines())
    assert (status, first["aliases"], second["aliases"]) == (0, ["current"], ["second"])
    assert command("use", two_versions, "second") == (0, f"current is version {second['version']}\n", "")
    assert command("use", two_versions, "--back")[1] == f"current is version {first['version']}\n"
    assert command("use", two_versions)[0] == 2
    status, out, _ = command("diff", two_versions, "current", "second")
    assert status == 0
    assert "another encoder" in out
    status, out, err = command("reencode", two_versions, "--from", "current", "--codec", "int3")
    assert (status, err.count("\n")) == (2, 1)
    assert "known are float32" in err
    status, out, _ = command(
        "reencode", two_versions, "--from", "second", "--codec", "turbo2", "--as", "tiny"
    )
    assert status == 0
    assert "turbo2" in out
    assert command("use", two_versions, "--forget", "--alias", "tiny")[0] == 0
    status, out, _ = command("gc", two_versions)
    assert "would go" in out
    status, out, _ = command("gc", two_versions, "--yes")
    assert (status, "bytes freed" in out) == (0, True)
    assert command("gc", two_versions)[1] == "nothing to remove\n"
    assert command("get", two_versions, "0", "--version", "second")[0] == 2
    assert command("verify", two_versions, "--version", "second")[0] == 2
    status, out, _ = command("verify", two_versions, "--encoder", str(other_encoder), "--version", "second")
    assert (status, "canaries encoded again: relative error" in out) == (0, True)
    status, _, err = command("verify", two_versions, "--encoder", str(other_encoder))
    assert (status, "was planned with" in err) == (2, True)


@pytest.mark.parametrize(
    "pattern",
    [
        "memory/*/values/c/1/0/0",
        "memory/*/offsets/c/0/0",
        "memory/*/values/zarr.json",
        "vectors/*/c/2/0",
        "vectors/*/zarr.json",
        "index/*/index.faiss",
    ],
)
def test_repair_brings_back_every_byte(two_versions: Path, command: Command, pattern: str) -> None:
    before = content(two_versions)
    for path in two_versions.glob(pattern):
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 0x40
        path.write_bytes(data)
    if "values/c" in pattern:
        next(two_versions.glob("memory/*/values/c/0/0/0")).unlink()
    assert command("verify", two_versions, "--full")[0] == 1
    status, out, err = command("repair", two_versions)
    assert (status, "repaired: " in out) == (0, True), err
    assert content(two_versions) == before
    assert command("repair", two_versions)[:2] == (0, "nothing is damaged\n")


def test_what_cannot_be_repaired_is_said_and_left(
    two_versions: Path, command: Command, tmp_path: Path
) -> None:
    path = next(two_versions.glob("passages/part-*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    values = next(two_versions.glob("memory/*/values/c/1/0/0"))
    whole = values.read_bytes()
    values.write_bytes(whole[:-1])
    status, out, _ = command("repair", two_versions)
    assert status == 1
    assert f"{path.name}: cannot be made again from the rest" in out
    # The shard's passages cannot be read, so it is left as it was found.
    assert "values/c/1/0/0" in out
    assert values.read_bytes() in (whole[:-1], whole)
    assert not (two_versions / work_folder.NAME).exists()


def test_a_repair_that_comes_out_different_is_not_put_in_place(
    two_versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from encoders.memory_encoder import MemoryEncoder
    from pipeline.components.memory import encode as encode_shards

    path = next(two_versions.glob("memory/*/values/c/1/0/0"))
    path.write_bytes(path.read_bytes()[:-1])
    damaged = path.read_bytes()
    real = MemoryEncoder.encode

    def slightly_off(self: MemoryEncoder, tokens: Any, out: Any, *args: Any, **kwargs: Any) -> Any:
        spent = real(self, tokens, out, *args, **kwargs)
        out += 1  # as bits: the last place of each value
        return spent

    monkeypatch.setattr(MemoryEncoder, "encode", slightly_off)
    encode_shards.load_encoder.forget()
    outcome = jobs.repair(two_versions)
    assert outcome.repaired == []
    assert "another file" in outcome.left[0]
    assert path.read_bytes() == damaged


def test_a_version_whose_job_was_killed_after_its_commit_is_no_unfinished_one(
    two_versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(BaseException):
        pass

    def stopping(work: WorkFolder) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "remove", stopping)
        with pytest.raises(Stop):
            reencode(two_versions, origin="current", codec="float32", name="wide")
    # It is there, and only its work/ is left over.
    before = content(two_versions, "memory")
    assert [item.path for item in jobs.garbage(two_versions)] == ["work"]
    assert len(jobs.collect(two_versions, unfinished=True)) == 1
    assert content(two_versions, "memory") == before
    assert verification(two_versions, full=True).ok
    assert verification(two_versions, full=False).strays == []


@pytest.mark.parametrize("job", ["reencode", "repair"])
def test_work_of_a_finished_version_is_in_nobodys_way(
    two_versions: Path, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    from tests.jobs import repair

    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "remove", lambda work: None)
        reencode(two_versions, origin="current", codec="float32", name="wide")
    assert (two_versions / "work/plan.json").exists()
    if job == "reencode":
        reencode(two_versions, origin="current", codec="float16", name="half")
    else:
        part = next(two_versions.glob("memory/*/values/c/1/0/0"))
        part.write_bytes(part.read_bytes()[:-1] + b"x")
        assert repair(two_versions).left == []
    assert not (two_versions / "work").exists()
    assert verification(two_versions, full=True).ok


def damage_shard(root: Path, version: str, shard: int) -> None:
    path = root / f"memory/{version}/values/c/{shard}/0/0"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x40
    path.write_bytes(data)


def test_repair_of_a_recoded_version_and_of_its_origin(two_versions: Path) -> None:
    """Whatever their names: the origin comes first."""
    from tests.jobs import repair

    codecs = ("float16", "float32", "turbo4", "turbo2")
    recoded = [reencode(two_versions, origin="second", codec=name, name=name) for name in codecs]
    chained = reencode(two_versions, origin="turbo4", codec="bfloat16", name="chained")
    found = jobs.manifest(two_versions)
    origin = found.version("second")
    # As if the origin had been removed, and encoded again.
    entries = dict(reversed(found.of(components.MEMORY).items()))
    CorpusFolder(two_versions).write_manifest(found.with_cards(components.MEMORY, entries))
    before = content(two_versions)
    assert open_corpus(two_versions).memory("chained").card.quality["relative_error"] < 0.2
    for version in (origin, *recoded, chained):
        damage_shard(two_versions, version, 1)
    outcome = repair(two_versions)
    assert outcome.left == []
    assert content(two_versions) == before


def test_what_repair_cannot_put_in_place_it_says(
    two_versions: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in jobs.manifest(two_versions).versions:
        damage_shard(two_versions, version, 1)
    real = Path.replace

    def refusing(self: Path, target: Path) -> Path:
        if "repair" in self.parts and "repair" not in Path(target).parts:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(self))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", refusing)
    status, out, _ = command("repair", two_versions)
    assert status == 1
    assert out.count("not repaired: ") == 2
    assert out.count("cross-device") == 2


def test_what_killed_writers_leave_is_cleared_away(
    two_versions: Path, other_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ReencodeSettings(memory_encoder=str(other_encoder), codec="float16", name="half")
    stop_in_the_middle(monkeypatch, two_versions, settings)
    (part, *_) = (two_versions / f"memory/{job.unfinished(CorpusFolder(two_versions))}").glob(
        "values/c/*/0/0"
    )
    part.with_name("0.01234567.partial").write_bytes(b"1" * 1000)
    jobs.reencode(two_versions, settings)
    assert verification(two_versions, full=True).strays == []
    # And of jobs that are not run again.
    (two_versions / "corpus.json.01234567.partial").write_bytes(b"{")
    part.with_name("0.89abcdef.partial").write_bytes(b"12")
    assert [(item.kind, item.bytes) for item in jobs.collect(two_versions)] == [
        ("stray", 1),
        ("stray", 2),
    ]
    assert verification(two_versions, full=True).strays == []


def test_seconds_are_those_of_the_version_that_took_them(two_versions: Path, command: Command) -> None:
    (first, second) = jobs.listed(two_versions)
    assert first["seconds"] != second["seconds"]
    jobs.use(two_versions, "second")
    jobs.forget(two_versions, "previous")
    jobs.collect(two_versions)
    (left,) = jobs.listed(two_versions)
    assert (left["version"], left["seconds"]) == (second["version"], second["seconds"])
    # Nothing else asks for the version that the corpus was built with.
    assert command("info", two_versions)[0] == 0
    assert command("report", two_versions)[0] == 0


def test_the_encoder_of_a_version_recoded_to_a_finer_type_is_known_again(two_versions: Path) -> None:
    """The canaries are no finer than they were written first."""
    reencode(two_versions, origin="second", codec="float32", name="wide")
    reencode(two_versions, origin="wide", codec="float16", name="half")
    corpus = open_corpus(two_versions)
    for name in ("wide", "half"):
        found = corpus.check_encoder(jobs.load_encoder(two_versions, None, "second"), name)
        assert found.relative_error < 1e-4, name
        assert corpus.memory(name).card.canaries.dtype == "bfloat16"


def test_gc_leaves_what_an_unfinished_recoding_reads(
    two_versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = jobs.manifest(two_versions).version("second")
    jobs.forget(two_versions, "second")
    settings = ReencodeSettings(origin=origin, codec="float16", name="half")
    stop_in_the_middle(monkeypatch, two_versions, settings)
    assert jobs.garbage(two_versions) == []
    # Dropped, it needs nothing any more.
    kept = {item.path for item in jobs.garbage(two_versions, unfinished=True)}
    assert f"memory/{origin}" in kept
    jobs.reencode(two_versions, settings)
    assert verification(two_versions, full=True).ok


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"memory": {"token_budget": 0}}, "token budget is 0, wanted 1 or more"),
        ({"memory": {"live_proportion": "2"}}, "live proportion 2 is above 1"),
        ({"shard_passages": 0}, "shard_passages is 0, wanted 1 or more"),
        ({"shard_passages": -64}, "shard_passages is -64, wanted 1 or more"),
        ({"shard_timeout": float("nan")}, "shard_timeout is nan, wanted more than 0 seconds"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_before_anything_is_begun(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ReencodeSettings(memory_encoder="m", **given)


def with_batching(root: Path, version: int | None) -> None:
    """Make a corpus look as if its numbers had been computed in batches of another version; None: of none."""
    corpus = CorpusFolder(root)
    found = corpus.manifest
    settings = {**found.built, "batching": version}
    entries = {}
    for name in found.versions:
        card = corpus.memory(name)
        kept = {**card.settings, "batching": version}
        if version is None:
            del kept["batching"]
        changed = dataclasses.replace(card, settings=kept)
        entries[name] = corpus.write_card(components.MEMORY, changed)
    if version is None:
        # Such a corpus is from before there was a choice of what runs the retriever, too.
        del settings["batching"], settings["retriever_backend"]
    changed_settings = {**found.settings, "settings": settings}
    corpus.write_manifest(
        dataclasses.replace(found, settings=changed_settings).with_cards(components.MEMORY, entries)
    )


def test_batches_are_part_of_a_plan(
    two_versions: Path, other_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ReencodeSettings(memory_encoder=str(other_encoder), codec="float16")
    stop_in_the_middle(monkeypatch, two_versions, settings)
    with monkeypatch.context() as patch:
        patch.setattr(batching, "VERSION", batching.VERSION + 1)
        with pytest.raises(errors.MismatchError, match=r"unfinished in .* differs .* in settings\.batching"):
            jobs.reencode(two_versions, settings)
    version = jobs.reencode(two_versions, settings)[1]
    card = CorpusFolder(two_versions).memory(version)
    assert card.settings["batching"] == batching.VERSION


def test_repair_makes_nothing_in_other_batches(two_versions: Path) -> None:
    from tests.jobs import repair

    with_batching(two_versions, batching.VERSION + 1)
    for pattern in ("memory/*/values/c/1/0/0", "vectors/*/c/2/0"):
        path = next(two_versions.glob(pattern))
        path.write_bytes(path.read_bytes()[:-1])
    outcome = repair(two_versions)
    assert outcome.repaired == []
    assert len(outcome.left) == 2
    assert all("in batches of version" in line for line in outcome.left)


def test_corpora_of_before_batches_were_numbered(two_versions: Path, settings: Any) -> None:
    """Repaired where the bytes come out the same, and left as they are by the command that built them."""
    from tests.jobs import build, repair

    # Their vectors are sentence-transformers'; these are jax's, so only memory can be repaired here.
    with_batching(two_versions, None)
    before = content(two_versions)
    path = next(two_versions.glob("memory/*/values/c/1/0/0"))
    path.write_bytes(path.read_bytes()[:-1])
    assert repair(two_versions).left == []
    assert content(two_versions) == before
    assert jobs.listed(two_versions)
    assert build(settings, two_versions).already
    with pytest.raises(errors.MismatchError, match=r"settings\.codec = bfloat16"):
        build(dataclasses.replace(settings, codec="int8"), two_versions)
    assert content(two_versions) == before


def test_a_recoding_reads_each_file_once(
    two_versions: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Manifest, cards and plan by whoever needs them: one folder is handed on, also to Beam and back."""
    read: Counter[str] = Counter()
    original = checked_json.read

    def reading(path: Path) -> Any:
        read[Path(path).relative_to(two_versions).as_posix()] += 1
        return original(path)

    monkeypatch.setattr(checked_json, "read", reading)
    assert command("reencode", two_versions, "--from", "current", "--codec", "int8", "--as", "small")[0] == 0
    kept = {name: count for name, count in read.items() if not name.startswith(("work/shards", "work/codec"))}
    assert {"corpus.json", "passages/passages.json", "statistics/build.json"} <= set(kept)
    assert set(kept.values()) == {1}, kept
