"""A reader trained with a codec: its codebooks go from the run to the store; other codes are told of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.reader import folder as reader_folder
from encoders.reader.training import Trainer
from pipeline.cli.main import run
from pipeline.jobs.reencode import ReencodeSettings
from pipeline.readers.answers import QuestionAnswerer
from pipeline.readers.kilt import read_examples
from retrieval import open_corpus
from storage import codec_parameters, codecs
from tests.commands import Command, refused
from tests.jobs import reencode
from tests.small_models import make_t5_folder
from tests.small_runs import arguments, same, write_task

CODED = {"codec": "pq8x4", "code-decay": 0.9}


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_t5_folder(tmp_path_factory.mktemp("runs") / "t5", decoder=True, layers=3, seed=1)


@pytest.fixture(scope="module")
def task(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(corpus, tmp_path_factory.mktemp("runs") / "task.jsonl")


@pytest.fixture(scope="module")
def coded(corpus: Path, t5: Path, task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("coded") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["memcorpus", *arguments(corpus, t5, task, out, **CODED)])
        assert run() == 0
    return out


@pytest.fixture(scope="module")
def stored(corpus: Path, coded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A corpus with the memory that the reader was trained on, and the version."""
    root = Path(shutil.copytree(corpus, tmp_path_factory.mktemp("stored") / "corpus"))
    _, version = reencode(root, ReencodeSettings(memory_encoder=str(coded / "reader")))
    return root, version


def test_the_store_has_the_codes_that_the_reader_learned(
    coded: Path,
    stored: tuple[Path, str],
    task: Path,
) -> None:
    root, version = stored
    memory = open_corpus(root).memory(version)
    opened = reader_folder.open_reader(coded / "reader")
    assert opened.settings.codec == codecs.by_name("pq8x4").to_json() == memory.coder.codec.to_json()
    own = opened.codec_parameters()
    np.testing.assert_array_equal(own["codebooks"], memory.coder.parameters["codebooks"])
    begun = reader_folder.from_tensors(coded / reader_folder.CODEC)
    assert not np.array_equal(own["codebooks"], begun["codebooks"])  # they followed the encoder
    asked = [example.input for example in read_examples(task)]
    text, store = (
        QuestionAnswerer(open_corpus(root), coded / "reader", **given, batch=20)
        for given in ({"source": "text"}, {"version": version})
    )
    assert text.warning is None and store.warning is None  # noqa: PT018
    for one, other in zip(text.answer(asked), store.answer(asked), strict=True):
        assert one.text == other.text
        assert one.log_probability == pytest.approx(other.log_probability, abs=0.05)


def test_a_run_that_is_interrupted_ends_with_the_same_bytes(
    command: Command,
    corpus: Path,
    t5: Path,
    task: Path,
    coded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "stopped"
    steps = iter(range(100))
    step = Trainer.step

    def stop(self: Trainer, examples: Any) -> Any:
        if next(steps) == 3:
            raise KeyboardInterrupt
        return step(self, examples)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stop)
        assert command(*arguments(corpus, t5, task, out, **CODED))[0] != 0
    status, _, err = command(*arguments(corpus, t5, task, out, **CODED))
    assert status == 0, err
    assert "goes on after step 2" in err
    same(out, coded)
    name = f"reader/{reader_folder.CODEC}"
    assert (out / name).read_bytes() == (coded / name).read_bytes()


def test_memory_in_another_codec_is_told_of(
    command: Command, coded: Path, stored: tuple[Path, str], tmp_path: Path
) -> None:
    root, version = stored
    reader = coded / "reader"
    _, exact = reencode(root, ReencodeSettings(memory_encoder=str(reader), codec="bfloat16"))
    _, other = reencode(root, ReencodeSettings(origin=exact, codec="pq8x4"))
    _, small = reencode(root, ReencodeSettings(origin=exact, codec="int8"))
    plain = Path(shutil.copytree(reader, tmp_path / "plain"))
    settings = json.loads((plain / "reader.json").read_text())
    del settings["codec"]
    (plain / "reader.json").write_text(json.dumps(settings))
    (plain / reader_folder.CODEC).unlink()

    def warning(folder: Path, version: str) -> str:
        return QuestionAnswerer(open_corpus(root), folder, version=version).warning or ""

    assert "in bfloat16, the reader was trained on memory in pq8x4" in warning(reader, exact)
    assert "in pq8x4 with other codebooks" in warning(reader, other)
    assert "in pq8x4, the reader was trained on memory as the encoder gives it" in warning(plain, version)
    assert warning(plain, exact) == warning(plain, small) == warning(reader, version) == ""
    status, out, err = command("answer", root, "Tea?", "--reader", plain, "--version", version)
    assert status == 0
    assert "warning: memory version" in err
    assert "warning" not in out


def test_a_frozen_encoder_reads_the_store_and_keeps_its_codes(
    command: Command,
    coded: Path,
    stored: tuple[Path, str],
    task: Path,
    tmp_path: Path,
) -> None:
    root, version = stored
    given = ["--model", coded / "reader", "--train", f"qa={task}", "--steps", 2, "--batch", 4]
    given += ["--memory-encoder", "frozen", "--dropout", 0]
    losses = {}
    for source, more in {"text": [], "store": ["--memory", version]}.items():
        status, _, err = command("train", root, *given, *more, "--out", tmp_path / source)
        assert status == 0, err
        row = (tmp_path / source / "metrics.csv").read_text().splitlines()[1]
        losses[source] = float(row.split(",")[1])
        kept = reader_folder.open_reader(tmp_path / source / "reader")
        assert kept.settings.codec is not None
        sums = codec_parameters.digests(kept.codec_parameters())
        assert sums == dict(open_corpus(root).memory(version).card.codec_parameters)
    assert losses["text"] == pytest.approx(losses["store"], rel=1e-3)
    out = ["--out", tmp_path / "other"]
    refused(
        command,
        ["train", root, *given, "--memory", version, "--codec", "int8", *out],
        "has codec pq8x4",
        "asks for int8",
    )
    assert not (tmp_path / "other").exists()


def test_bad_codecs_create_nothing(
    command: Command,
    corpus: Path,
    t5: Path,
    task: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    for changes, words in (
        ({"codec": "zip"}, "unknown memory codec 'zip'"),
        ({"codec": "pq7x4"}, "groups of 7 dimensions"),
        ({"codec": "pq8x4", "code-decay": 1}, "code_decay is 1.0"),
        (
            {"codec": "pq8x4", "system": "fid", "rerank-proportion": None, "selected": None},
            "stores no memory",
        ),
    ):
        refused(command, arguments(corpus, t5, task, out, **changes), words)
        assert not out.exists()
