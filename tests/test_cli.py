"""The command line: what it prints, and one plain line with status 2 for bad input, nothing changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from examples.miniwiki.export import DumpTruth
from pipeline.cli import main
from pipeline.components import shards
from retrieval import open_corpus
from tests.commands import Command, refused
from tests.test_full_disk import room_for


def build_arguments(dump: DumpTruth, models: Path, out: Path, **changes: str) -> list[str]:
    options = {
        "source": f"mediawiki:{dump.path}",
        "out": str(out),
        "retriever": str(models / "gtr"),
        "memory-encoder": str(models / "t5"),
        "live-proportion": "1/3",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return ["build", *(part for name, value in options.items() for part in (f"--{name}", value))]


def test_help_names_every_command(command: Command) -> None:
    status, out, _ = command("--help")
    assert status == 0
    for name in ("build", "plan", "report", "info", "search", "get", "verify"):
        assert f"  {name}" in out
        status, text, _ = command(name, "--help")
        assert status == 0
        assert "Usage:" in text


def test_build_says_what_it_did(command: Command, dump: DumpTruth, models: Path, tmp_path: Path) -> None:
    config = tmp_path / "build.toml"
    config.write_text('compute_dtype = "float32"\nshard_passages = 64\n')
    status, out, err = command(*build_arguments(dump, models, tmp_path / "c"), "--config", config)
    assert status == 0, err
    assert f"{dump.pages:,}" in out
    for words in ("quarantined", "dropped: redirect", "tokenizing", "encoding", "writing", "reading"):
        assert words in out
    assert "encode shards: done" in err
    assert "WARNING" not in err
    status, out, _ = command(*build_arguments(dump, models, tmp_path / "c"), "--config", config, "--json")
    assert status == 0
    assert json.loads(out)["already"] is True


def test_info_search_get_and_verify(command: Command, corpus: Path, tmp_path: Path) -> None:
    opened = open_corpus(corpus)
    status, out, _ = command("info", corpus, "--json")
    summary = json.loads(out)
    assert status == 0
    assert summary["passages"] == len(opened)
    (memory,) = summary["memory"].values()
    assert memory["passages"] == summary["passages"]
    assert memory["counts"]["tokens"] == opened.memory().tokens(np.arange(len(opened))).sum()
    assert command("info", corpus)[0] == 0

    status, out, _ = command("search", corpus, "the river Danube", "-k", "3", "--json")
    found = json.loads(out)
    assert status == 0
    expected = opened.search("the river Danube", 3)
    assert [p["passage_id"] for p in found["passages"]] == expected.passage_ids[0].tolist()
    assert command("search", corpus, "the river Danube")[1].count("[") >= 5

    status, out, _ = command("get", corpus, "5", "2", "--memory", "--save", tmp_path / "m.npz", "--json")
    assert status == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["passage_id"] for row in rows] == [5, 2]
    saved = np.load(tmp_path / "m.npz")
    fetched = opened.memory().fetch([5, 2])
    np.testing.assert_array_equal(saved["values"], np.asarray(fetched.values, np.float32))
    assert rows[0]["memory"]["tokens"] == fetched.offsets[1]
    assert "tokens x" in command("get", corpus, "5", "--memory")[1]

    assert command("verify", corpus)[0] == 0
    status, out, _ = command("verify", corpus, "--full", "--json")
    assert status == 0
    assert json.loads(out)["ok"] is True


def test_verify_ends_with_status_1_on_damage(command: Command, corpus_copy: Path) -> None:
    path = next(corpus_copy.glob("memory/*/values/c/0/0/0"))
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert command("verify", corpus_copy)[0] == 0
    status, out, _ = command("verify", corpus_copy, "--full")
    assert status == 1
    assert f"damaged: {path.relative_to(corpus_copy)}" in out
    status, _, err = command("get", corpus_copy, "0", "--memory")
    assert status == 1
    assert "does not match its checksum" in err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "mediawiki:/no/such/dump.xml"}, ["/no/such/dump.xml"]),
        ({"source": "pdf:/x"}, ["pdf", "mediawiki", "kilt", "dpr", "wikipedia", "jsonl"]),
        ({"live_proportion": "0.4"}, ["0.4", "1/3", "1/2"]),
        ({"live_proportion": "2"}, ["2"]),
        ({"codec": "zip"}, ["zip", "bfloat16"]),
        ({"compute_dtype": "int8"}, ["int8", "bfloat16"]),
        ({"shard_passages": "100"}, ["100", "multiple of 64"]),
        ({"memory_template": "{body}"}, ["{body}", "{text}"]),
        ({"retriever": "no/such-model"}, ["no/such-model", "give a folder"]),
        ({"max_tokens": "0"}, ["max tokens is 0"]),
    ],
)
def test_bad_settings(
    command: Command,
    dump: DumpTruth,
    models: Path,
    tmp_path: Path,
    changes: dict[str, str],
    words: list[str],
) -> None:
    out = tmp_path / "corpus"
    refused(command, build_arguments(dump, models, out, **changes), *words)
    assert not out.exists()


def test_bad_dumps(command: Command, dump: DumpTruth, models: Path, tmp_path: Path) -> None:
    pdf = tmp_path / "dump.xml.bz2"
    pdf.write_bytes(b"%PDF-1.7\n" + bytes(1000))
    out = tmp_path / "corpus"
    refused(command, build_arguments(dump, models, out, source=f"mediawiki:{pdf}"), "PDF", pdf.name)
    assert not out.exists()
    cut = tmp_path / "cut.xml.bz2"
    whole = dump.path.read_bytes()
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    refused(command, build_arguments(dump, models, out, source=f"mediawiki:{cut}"), "cut.xml.bz2", "byte")
    assert not out.exists()


def test_encoder_folder_without_weights(
    command: Command, dump: DumpTruth, models: Path, tmp_path: Path
) -> None:
    shutil.copytree(models / "t5", tmp_path / "t5")
    (tmp_path / "t5/model.safetensors").unlink()
    arguments = build_arguments(dump, models, tmp_path / "c", memory_encoder=str(tmp_path / "t5"))
    refused(command, arguments, "no weights", "safetensors")
    (tmp_path / "t5/pytorch_model.bin").write_bytes(b"\x80\x02")
    refused(command, arguments, "pickle", "safetensors")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("folder", ["", "work"])
def test_output_folder_holding_something_else(
    command: Command, dump: DumpTruth, models: Path, tmp_path: Path, folder: str
) -> None:
    thesis = tmp_path / "c" / folder / "thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("\\section{}")
    refused(command, build_arguments(dump, models, tmp_path / "c"), "something else", "thesis.tex")
    assert thesis.read_text() == "\\section{}"
    assert [p for p in (tmp_path / "c").rglob("*") if p.is_file()] == [thesis]
    refused(command, build_arguments(dump, models, thesis), "is a file")


def test_disk_without_room(
    command: Command,
    dump: DumpTruth,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**6, 10**6 - 12345, 12345))
    refused(command, build_arguments(dump, models, tmp_path / "c"), "12,345 bytes free", "needs about")
    assert not (tmp_path / "c").exists()


def test_bad_questions(command: Command, corpus: Path, tmp_path: Path) -> None:
    refused(command, ["get", corpus, "0", "999999"], "unknown passage id 999999")
    refused(command, ["get", corpus, "0", "--memory", "--version", "v9"], "'v9'", "current")
    refused(command, ["info", tmp_path], "holds no corpus")
    refused(command, ["info", "https://host/corpus"], "can be read alone")
    refused(command, ["info", "ftp://host/corpus"], "known are local paths")
    refused(command, ["search", corpus, "x", "-k", "0"], "k is 0")
    refused(command, ["verify", tmp_path / "none"], "holds no corpus")


def test_bad_beam_options(command: Command, dump: DumpTruth, models: Path, tmp_path: Path) -> None:
    arguments = build_arguments(dump, models, tmp_path / "c")
    refused(command, [*arguments, "--", "--runner=DaskRunner"], "DaskRunner", "drops elements")
    refused(command, [*arguments, "--", "--direct_num_worker=2"], "--direct_num_worker")
    assert not (tmp_path / "c").exists()


def test_config_with_an_unknown_key(command: Command, tmp_path: Path) -> None:
    config = tmp_path / "x.toml"
    config.write_text("passage_word = 3\n")
    refused(command, ["build", "--out", tmp_path / "c", "--config", config], "passage_word", "known are")
    config.write_text('passage_words = "many"\nsources=["a"]\nretriever="r"\nmemory_encoder="m"\n')
    config.write_text(config.read_text() + 'live_proportion="1/3"\n')
    refused(command, ["build", "--out", tmp_path / "c", "--config", config], "passage_words", "'many'")


def test_missing_options_and_unknown_ones(command: Command, tmp_path: Path) -> None:
    refused(command, ["build", "--out", tmp_path / "c"], "no source given", "--source")
    status, _, err = command("build", "--sauce", "x")
    assert status == 2
    assert "--sauce" in err


def test_the_real_command_is_quiet_and_ends(corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "get", str(corpus), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    command[-1] = "999999"
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("memcorpus: unknown passage id 999999")


def real(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """`memcorpus ARGUMENTS` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        env={**os.environ, "MEMCORPUS_COMPILED": "off", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_second_shard_compiles_nothing(models: Path, tmp_path: Path) -> None:
    source = tmp_path / "s.jsonl"
    # Shards of the same lengths: a passage of each of eight, eight times over.
    texts = [" ".join(["The river rises in the hills."] * (1 + i % 8)) for i in range(128)]
    rows = [{"id": i, "title": f"T{i:03d}", "text": text} for i, text in enumerate(texts)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "corpus"
    arguments = [
        *("build", "--source", f"jsonl:{source}", "--out", str(out), "--shard-passages", "64"),
        *("--retriever", str(models / "gtr"), "--memory-encoder", str(models / "t5")),
        *("--live-proportion", "1/3", "--token-budget", "256"),
    ]
    done = real(arguments)
    assert done.returncode == 0, done.stderr
    units = pq.read_table(out / "statistics/build-units.parquet").to_pylist()
    first, second = (dict(unit["events"]) for unit in units if unit["stage"] == "shards")
    assert first[shards.COMPILED] > 2
    assert (second[shards.COMPILED], second[shards.LOADED]) == (0, 0)


def test_a_shard_that_takes_too_long_ends_the_build(even_source: Path, models: Path, tmp_path: Path) -> None:
    arguments = [
        *("build", "--source", f"jsonl:{even_source}", "--out", str(tmp_path / "corpus")),
        *("--retriever", str(models / "gtr"), "--memory-encoder", str(models / "t5")),
        *("--live-proportion", "1/3", "--shard-passages", "64"),
    ]
    done = real([*arguments, "--shard-timeout", "0.05"])
    assert done.returncode == 1
    assert "timed out after 0.05 s of " in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("memcorpus: ")]) == 1
    # It is no setting of the corpus: the build goes on without it.
    again = real(arguments)
    assert again.returncode == 0, again.stderr
    assert len(open_corpus(tmp_path / "corpus")) > 64


def test_devices_are_chosen_and_decide_rounding_alone(
    corpus: Path, dump: DumpTruth, models: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "corpus"
    arguments = build_arguments(
        dump, models, out, shard_passages="64", compute_dtype="float32", split_bytes="20000"
    )
    several = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    for wrong, named in (
        (["--device", "gpu:0"], "no device 'gpu:0' here; jax sees cpu:0, cpu:1, cpu:2, cpu:3"),
        (["--device", "cpu:0", "--model-parallel", "2"], "model_parallel is 2, wanted a divisor"),
    ):
        done = real([*arguments, *wrong], **several)
        assert done.returncode == 2, done.stderr
        assert named in done.stderr
    refused(command, [*arguments, "--device", "CPU!"], "device is 'CPU!', wanted all, a kind")
    refused(command, [*arguments, "--model-parallel", "0"], "model parallel is 0, wanted 1 or more")
    # The same build goes on, on other devices.
    done = real([*arguments, "--device", "cpu", "--model-parallel", "2"], **several)
    assert done.returncode == 0, done.stderr
    one, other = open_corpus(corpus), open_corpus(out)
    everything = np.arange(len(one))
    np.testing.assert_allclose(other.vectors().take(everything), one.vectors().take(everything), atol=1e-5)
    values, expected = (np.asarray(c.memory().fetch(everything).values, np.float32) for c in (other, one))
    # Rounded to bfloat16, where float32's own rounding may tip a value over to the next.
    np.testing.assert_allclose(values, expected, rtol=2**-7, atol=1e-4)
    recoding = ["reencode", str(out), "--from", "current", "--codec", "int8", "--device", "cpu"]
    refused(command, recoding, "recoding runs no encoder")
    done = real(["reencode", str(out), "--memory-encoder", str(models / "t5"), "--codec", "float32",
                 "--device", "cpu:1", "--model-parallel", "1", "--json"], **several)  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = np.asarray(open_corpus(out).memory(json.loads(done.stdout)["version"]).fetch(everything).values)
    np.testing.assert_allclose(again, expected, rtol=2**-7, atol=1e-4)


def test_every_command_of_many_options_takes_them_from_a_file(command: Command, tmp_path: Path) -> None:
    """As if they had been typed: what is typed wins, and what is wrong is refused in the same words."""
    config = tmp_path / "plan.toml"
    config.write_text(
        'passages = 1e6\ntokens_per_passage = 265.0\nsize = "xxl"\n'
        'codec = ["int8", "pq8x8"]\ndevice = "h100"\n'
    )
    typed = ["--passages", "1e6", "--tokens-per-passage", "265", "--size", "xxl", "--codec", "int8"]
    typed += ["--codec", "pq8x8", "--device", "h100", "--json"]
    assert command("plan", "--config", config, "--json")[:2] == command("plan", *typed)[:2]
    assert command("plan", "--config", config, "--passages", "2e6", "--json")[1] != command("plan", *typed)[1]
    config.write_text("passages = true\n")
    refused(command, ["plan", "--config", config], "passages is True, wanted int or float")
    config.write_text("steps = 3\n")
    refused(command, ["plan", "--config", config], "unknown key 'steps'", "known are")
    refused(command, ["reencode", "c", "--config", config], "unknown key 'steps'")
    config.write_text('steps = "three"\n')
    refused(command, ["train", "c", "--config", config], "steps is 'three', wanted int")
    config.write_text("gold = 1\n")
    refused(command, ["train", "c", "--config", config], "gold is 1, wanted bool")


@pytest.fixture(scope="module")
def greek(tmp_path_factory: pytest.TempPathFactory, dump: DumpTruth, models: Path) -> Path:
    """A corpus with letters, dashes and signs that ASCII has not, in titles, headings and text."""
    folder = tmp_path_factory.mktemp("greek")
    record = {
        "id": "1",
        "title": "Ωκεανός",
        "text": "",
        "sections": [{"path": ["Ιστορία — 東京"], "text": "Ο Ωκεανός είναι μεγάλος. 海は広い。 🙂"}],
    }
    (folder / "a.jsonl").write_text(json.dumps(record) + "\n")
    arguments = build_arguments(dump, models, folder / "c", source=f"jsonl:{folder / 'a.jsonl'}")
    told = in_ascii([*arguments, "--shard-passages", "64"])
    assert told.returncode == 0, told.stderr
    return folder / "c"


def in_ascii(arguments: list[Any], **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A command in a process of its own whose streams hold ASCII alone."""
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *map(os.fspath, arguments)],
        capture_output=True,
        env=os.environ | ascii_only | environment,
        timeout=300,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "CORPUS"], ["info", "CORPUS", "--json"], ["get", "CORPUS", "0", "--memory"],
        ["get", "CORPUS", "0", "--json"], ["search", "CORPUS", "-k", "1", "Ωκεανός"],
        ["search", "CORPUS", "-k", "1", "--json", "Ωκεανός"], ["report", "CORPUS"],
        ["report", "CORPUS", "--json"],
        ["versions", "CORPUS"], ["verify", "CORPUS"], ["gc", "CORPUS"], ["plan", "--help"],
        ["plan", "--passages", "36e6", "--tokens-per-passage", "265", "--size", "xxl", "--device", "h100"],
        ["get", "CORPUS/Ω", "0"],
    ],
)  # fmt: skip
def test_streams_of_ascii_cost_no_command(arguments: list[str], greek: Path) -> None:
    told = in_ascii([part.replace("CORPUS", str(greek)) for part in arguments])
    assert b"Traceback" not in told.stderr
    assert told.returncode == (2 if "Ω" in arguments[1] else 0), told.stderr
    if "--json" in arguments:
        found = json.loads(told.stdout)
        if arguments[0] == "get":
            assert found["text"] == "Ο Ωκεανός είναι μεγάλος. 海は広い。 🙂"
        if arguments[0] == "search":
            # What the locale does not know is UTF-8 all the same.
            assert found["query"] == "Ωκεανός"
    if arguments[0] == "get" and told.returncode == 0:
        assert b"\\u03a9\\u03ba" in told.stdout


def test_bytes_that_are_no_text(corpus: Path) -> None:
    """On the command line, in any locale: U+FFFD, as in sources; a folder of that name is only not there."""
    for environment in ({}, {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8"}):
        told = in_ascii(["search", corpus, "-k", "1", "--json", os.fsdecode(b"caf\xe9")], **environment)
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout)["query"] == "caf\ufffd"
        told = in_ascii(["info", os.fsdecode(b"/caf\xe9")], **environment)
        assert (told.returncode, told.stderr.count(b"\n")) == (2, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["get", "CORPUS", "1", "--save"],
        ["report", "CORPUS", "--html"],
        ["answer", "CORPUS", "--reader", "r", "--task", "TASK", "--out"],
    ],
    ids=["get", "report", "answer"],
)
def test_an_output_that_cannot_be_is_refused_before_the_work(
    command: Command, corpus: Path, tmp_path: Path, arguments: list[str]
) -> None:
    task = tmp_path / "task.jsonl"
    task.touch()
    given = [{"CORPUS": str(corpus), "TASK": str(task)}.get(one, one) for one in arguments]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    refused(command, [*given, pipe], str(pipe), "is no plain file")
    assert pipe.is_fifo(), "what was there is gone"
    refused(command, [*given, tmp_path / "no" / "file"], "there is no folder")


def test_saved_memory_is_whole_or_what_was_there(command: Command, corpus: Path, tmp_path: Path) -> None:
    save = tmp_path / "m.npz"
    save.write_bytes(b"before")
    with room_for(1000):
        status, _, err = command("get", corpus, "1", "2", "3", "--save", save)
    assert status == 1
    assert str(save) in err
    assert save.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [save]


def test_a_retro_goes_by_the_readers_commands_too() -> None:
    of = main.of_retro
    assert of(["evaluate", "c", "--bits-per-byte", "-k", "3"]) == ["retro", "evaluate", "c", "-k", "3"]
    assert of(["train", "c", "--system", "retro", "-k", "3"]) == ["retro", "train", "c", "-k", "3"]
    assert of(["train", "--system=retro", "c"]) == ["retro", "train", "c"]
    for other in (
        ["evaluate", "gold", "predictions"],
        ["train", "c", "--system", "fid"],
        ["train", "c", "--", "--system", "retro"],
        ["search", "c", "--bits-per-byte"],
        ["evaluate"],
    ):
        assert of(other) == other
