"""Training runs and answers over a corpus: killed and resumed, refused, from the store and from text."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from pipeline.jobs.reencode import ReencodeSettings
from pipeline.readers import questions
from pipeline.readers.answers import QuestionAnswerer
from pipeline.readers.kilt import read_examples
from pipeline.readers.kilt.tasks import Output
from pipeline.readers.training.checkpoints import read_curve
from retrieval import open_corpus
from storage import errors
from tests import small_models
from tests.commands import Command, refused
from tests.jobs import reencode
from tests.small_models import make_t5_folder
from tests.small_runs import arguments, same, write_task

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_t5_folder(tmp_path_factory.mktemp("runs") / "t5", decoder=True, layers=3, seed=1)


@pytest.fixture(scope="module")
def task(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(corpus, tmp_path_factory.mktemp("runs") / "task.jsonl")


@pytest.fixture(scope="module")
def whole(corpus: Path, t5: Path, task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted; tests must not change it."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    command = [sys.executable, "-m", "pipeline", *arguments(corpus, t5, task, out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "step 6 of 6" in done.stderr
    assert "memcorpus reencode" in done.stdout
    assert "Warning" not in done.stderr
    return out


@pytest.mark.slow
def test_a_run_that_is_killed_is_resumed_to_the_same_bytes(
    corpus: Path, t5: Path, task: Path, whole: Path, tmp_path: Path
) -> None:
    """Killed thrice: once at any moment, then when a given number of rows has been written."""
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "pipeline", *arguments(corpus, t5, task, out)]
    rng = random.Random(0)
    kills = 0
    for rows in (0, 3, 5):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
            while run.poll() is None:
                # Rows reach the file with the evaluation they belong to.
                there = (out / "metrics.csv").exists() and len(read_curve(out / "metrics.csv")) >= rows - 1
                if there:
                    time.sleep(rng.random() * 0.5)
                    run.kill()
                    kills += run.wait() == -9
                    break
                time.sleep(0.02)
    assert kills >= 2, "the run was killed at work"
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    same(out, whole)
    assert not list(out.glob("best-*"))


def test_a_finished_run_stays_as_it_is(
    command: Command, corpus: Path, t5: Path, task: Path, whole: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "whole"))
    before = {path: path.stat().st_mtime_ns for path in (out / "reader").iterdir()}
    status, printed, err = command(*arguments(corpus, t5, task, out), "--json")
    assert status == 0, err
    told = json.loads(printed)
    assert told["resumed"] == 6
    same(out, whole)
    assert before == {path: path.stat().st_mtime_ns for path in (out / "reader").iterdir()}
    rows = read_curve(out / "dev.csv")
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    best = max(float(row["mean"]) for row in rows)
    assert told["exact_match"]["mean"] == pytest.approx(best, abs=1e-4)
    assert told["step"] == min(int(row["step"]) for row in rows if float(row["mean"]) == best)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"seed": 1}, "training.seed = 0, this command has 1"),
        ({"learning_rate": 2e-3}, "training.learning_rate"),
        ({"retrieved": 5}, "reader.retrieved"),
        ({"steps": 8}, "steps = 6, this command has 8"),
        ({"dev": None}, "dev"),
    ],
)
def test_a_run_of_other_settings_is_refused_by_name(
    command: Command, corpus: Path, t5: Path, task: Path, whole: Path, changes: dict[str, Any], word: str
) -> None:
    before = (whole / "metrics.csv").read_bytes()
    refused(command, arguments(corpus, t5, task, whole, **changes), "was begun", word, "another folder")
    assert (whole / "metrics.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": "qa"}, ["'qa'", "NAME=FILE"]),
        ({"train": "qa=/no/such.jsonl"}, ["/no/such.jsonl is not there"]),
        ({"train": None}, ["nothing to train on"]),
        ({"dev": "a,b=/no/such.jsonl"}, ["'a,b'", "letters"]),
        ({"model": "/no/such"}, ["/no/such"]),
        ({"retrieved": 100_000}, ["100000 passages cannot be retrieved"]),
        ({"selected": 5}, ["5 passages selected of 4"]),
        ({"training_selected": 5}, ["training selects 5 passages of 4"]),
        ({"training_selected": 0}, ["training selects 0 passages of 4"]),
        ({"micro_batch": 0}, ["no whole number of micro-batches of 0"]),
        ({"live_proportion": "1/2"}, ["0.5 of 3 layers", "1/3"]),
        ({"rerank_proportion": "1/4"}, ["rerank proportion 1/4", "0 or 1"]),
        ({"system": "fid"}, ["fid scores no passages"]),
        ({"learning_rate": "0"}, ["learning_rate is 0.0"]),
        ({"micro_batch": 3}, ["no whole number of micro-batches"]),
        ({"memory": "current"}, ["only under a frozen memory encoder"]),
        ({"memory": "current", "memory_encoder": "frozen"}, ["was written by encoder", "re-encode"]),
    ],
)
def test_bad_input_creates_nothing(
    command: Command,
    corpus: Path,
    t5: Path,
    task: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    words: list[str],
) -> None:
    refused(command, arguments(corpus, t5, task, tmp_path / "run", **changes), *words)
    assert not (tmp_path / "run").exists()


HEAD = "lm_head.weight"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            HEAD,
            lambda head: head[:32].clone(),
            [f"{HEAD} has shape [32, 32], wanted [", "as config.json says"],
        ),
        (HEAD, lambda head: head[:, :8].clone(), [f"{HEAD} has shape ["]),
        (HEAD, None, [f"{HEAD} is missing, wanted ["]),
        ("encoder.block.0.layer.1.DenseReluDense.wo.weight", "nan", ["wo.weight has values that are NaN"]),
        ("encoder.block.2.layer.1.layer_norm.weight", "inf", ["layer_norm.weight has values that are NaN"]),
        ("decoder.final_layer_norm.weight", "-inf", ["decoder.final_layer_norm.weight has values"]),
    ],
)
def test_weights_that_cannot_be_trained_create_nothing(
    command: Command,
    corpus: Path,
    t5: Path,
    task: Path,
    tmp_path: Path,
    name: str,
    change: Any,
    words: list[str],
) -> None:
    model = Path(shutil.copytree(t5, tmp_path / "t5"))
    small_models.edit_json(model / "config.json", tie_word_embeddings=False)
    tensors = load_file(model / "model.safetensors")
    if isinstance(change, str):
        tensors[name].view(-1)[-1] = float(change)
    elif change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors[name])
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    refused(command, arguments(corpus, model, task, tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()


def test_bad_task_files_and_folders(
    command: Command, corpus: Path, t5: Path, task: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    refused(command, arguments(corpus, t5, task, tmp_path / "run", train=f"qa={empty}"), "holds no examples")
    empty.write_text('{"id": 1, "input": "x"}\n')
    refused(
        command, arguments(corpus, t5, task, tmp_path / "run", dev=f"qa={empty}"), "have no answer", "'1'"
    )
    assert not (tmp_path / "run").exists()
    thesis = tmp_path / "out/thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("x")
    refused(command, arguments(corpus, t5, task, thesis.parent), "something else", "thesis.tex")
    refused(command, arguments(corpus, t5, task, thesis), "is a file")
    assert list(thesis.parent.iterdir()) == [thesis]


def test_a_damaged_checkpoint_is_named(
    command: Command, corpus: Path, t5: Path, task: Path, whole: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "whole"))
    shutil.rmtree(out / "reader")
    shutil.rmtree(out / "checkpoints/6")
    data = max((p for p in (out / "checkpoints/4").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    changed = bytearray(data.read_bytes())
    changed[len(changed) // 2] ^= 1
    data.write_bytes(changed)
    status, _, err = command(*arguments(corpus, t5, task, out))
    assert status == 1
    assert "checkpoint 4" in err
    assert "remove" in err


@pytest.fixture(scope="module")
def loop(corpus: Path, whole: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A corpus with the trained encoder's memory, in several codecs: (root, version by codec).

    Nothing but the reader's folder is given: how the memory is to be encoded, it says itself.
    """
    root = Path(shutil.copytree(corpus, tmp_path_factory.mktemp("loop") / "corpus"))
    versions = {}
    for codec in ("bfloat16", "int8", "turbo4"):
        settings = ReencodeSettings(memory_encoder=str(whole / "reader"), codec=codec)
        _, versions[codec] = reencode(root, settings)
    return root, versions


def test_the_store_gives_the_answers_of_the_text(
    loop: tuple[Path, dict[str, str]], whole: Path, task: Path
) -> None:
    root, versions = loop
    asked = [example.input for example in read_examples(task)]
    asked += [f"{words} {number}" for number in range(2) for words in asked]
    reader = whole / "reader"
    found = {
        source: list(QuestionAnswerer(open_corpus(root), reader, **options, batch=16).answer(asked))
        for source, options in {
            "text": {"source": "text"},
            "store": {"version": versions["bfloat16"]},
        }.items()
    }
    assert len(found["text"]) == 60
    assert len({answer.text for answer in found["text"]}) > 1
    for text, store in zip(found["text"], found["store"], strict=True):
        assert text.text == store.text
        assert text.log_probability == pytest.approx(store.log_probability, abs=0.05)
        assert [p.passage_id for p in text.passages] == [p.passage_id for p in store.passages]
        for one, other in zip(text.passages, store.passages, strict=True):
            assert one.score == pytest.approx(other.score, abs=0.02)
        assert sum(p.read for p in store.passages) == 2
    for codec in ("int8", "turbo4"):
        coded = list(QuestionAnswerer(open_corpus(root), reader, version=versions[codec]).answer(asked[:8]))
        assert all(np.isfinite(answer.log_probability) for answer in coded)


def test_memory_of_another_encoder_is_refused(loop: tuple[Path, dict[str, str]], whole: Path) -> None:
    opened = open_corpus(loop[0])
    with pytest.raises(errors.MismatchError, match=r"was written by encoder .* re-encode"):
        QuestionAnswerer(opened, whole / "reader")  # the current version is that of the build


def test_a_reader_is_trained_further_from_text_and_store_alike(
    command: Command, loop: tuple[Path, dict[str, str]], whole: Path, task: Path, tmp_path: Path
) -> None:
    """Its settings need not be given again; a frozen encoder's memory is the same from both."""
    root, versions = loop
    given = ["--model", whole / "reader", "--train", f"qa={task}", "--steps", 2, "--batch", 4]
    given += ["--memory-encoder", "frozen", "--dropout", 0]
    curves = {}
    for source, more in {"text": [], "store": ["--memory", versions["bfloat16"]]}.items():
        status, _, err = command("train", root, *given, *more, "--out", tmp_path / source)
        assert status == 0, err
        curves[source] = read_curve(tmp_path / source / "metrics.csv")
        settings = json.loads((tmp_path / source / "reader" / "reader.json").read_text())
        assert settings == json.loads((whole / "reader" / "reader.json").read_text())
    for text, store in zip(curves["text"], curves["store"], strict=True):
        assert float(text["loss"]) == pytest.approx(float(store["loss"]), rel=1e-3)
    out = ["--out", tmp_path / "other"]
    refused(command, ["train", root, *given, *out, "--system", "fid"], "is a glimmer", "leave that out")
    refused(
        command,
        ["train", root, *given, *out, "--live-proportion", "2/3"],
        "another live_proportion",
        "its own",
    )
    assert not (tmp_path / "other").exists()


def test_passages_may_be_fewer_than_are_asked_for(loop: tuple[Path, dict[str, str]], whole: Path) -> None:
    root, versions = loop
    answerer = QuestionAnswerer(open_corpus(root), whole / "reader", version=versions["bfloat16"])
    given = np.array([[3, 5, -1, -1], [7, -1, -1, -1], [-1, -1, -1, -1]])
    few = list(answerer.answer(["Tea?", "Whales?", "Nothing?"], given))
    assert [[p.passage_id for p in answer.passages] for answer in few] == [[3, 5], [7], []]
    assert all(np.isfinite(answer.log_probability) for answer in few)
    alone = next(answerer.answer(["Tea?"], np.array([[3, 5]])))
    assert alone.text == few[0].text
    assert alone.log_probability == pytest.approx(few[0].log_probability, abs=1e-3)
    with pytest.raises(errors.CorpusError, match="2 passages cannot be selected of 1"):
        next(answerer.answer(["Tea?"], np.array([[3]])))


def test_answer_and_evaluate(
    command: Command, loop: tuple[Path, dict[str, str]], whole: Path, task: Path, tmp_path: Path
) -> None:
    root, versions = loop
    given = ["--reader", whole / "reader", "--version", versions["bfloat16"]]
    status, out, err = command("answer", root, "Where does the Danube end?", *given, "--json")
    assert status == 0, err
    told = json.loads(out)
    scores = [passage["score"] for passage in told["passages"]]
    assert len(scores) == 4
    assert [passage["read"] for passage in told["passages"]] == [True, True, False, False]
    assert scores == sorted(scores, reverse=True)
    predictions = tmp_path / "predictions.jsonl"
    status, out, err = command("answer", root, "--task", task, "--out", predictions, *given)
    assert status == 0, err
    assert "20 answers, memory from the store" in out
    opened = open_corpus(root)
    answers = QuestionAnswerer(opened, whole / "reader", version=versions["bfloat16"])
    examples = list(read_examples(task))
    lines = [json.loads(line) for line in predictions.read_text().splitlines()]
    for line, example, answer in zip(
        lines, examples, answers.answer([e.input for e in examples]), strict=True
    ):
        assert line["id"] == example.id
        (output,) = line["output"]
        assert output["answer"] == answer.text
        best = max(answer.passages, key=lambda passage: passage.score)
        page = opened.passages([best.passage_id]).to_pylist()[0]["page_id"]
        assert output["provenance"][0]["wikipedia_id"] == str(page)
    status, out, err = command("evaluate", task, predictions, "--json")
    assert status == 0, err
    assert json.loads(out)


def test_bad_questions(
    command: Command, corpus: Path, whole: Path, t5: Path, task: Path, tmp_path: Path
) -> None:
    reader = ["--reader", whole / "reader"]
    refused(command, ["answer", corpus, *reader], "give questions, or a task file")
    refused(command, ["answer", corpus, "x", *reader, "--out", tmp_path / "p"], "go together")
    refused(command, ["answer", corpus, "x", "--reader", t5], "holds no reader", "reader.json")
    refused(command, ["answer", corpus, "x", *reader], "was written by encoder", "re-encode")
    refused(command, ["answer", corpus, "x", *reader, "--from", "text", "-m", "9"], "9 passages", "of 4")
    refused(command, ["answer", corpus, "x", *reader, "--from", "text", "-k", "0"], "0 passages")
    refused(command, ["answer", corpus, "x", *reader, "--from", "text", "--version", "v"], "leave one out")
    refused(
        command,
        ["answer", corpus, "--task", tmp_path / "no.jsonl", "--out", tmp_path / "p", *reader],
        "no.jsonl is not there",
    )
    assert not (tmp_path / "p").exists()


def test_relevance_by_brute_force(corpus: Path, task: Path, tmp_path: Path) -> None:
    opened = open_corpus(corpus)
    found = questions.retrieve(questions.read_task("qa", task), opened, retrieved=3, keep_in=tmp_path)
    textual = [
        dataclasses.replace(e, id=f"t{e.id}", outputs=tuple(Output(answer=o.answer) for o in e.outputs))
        for e in found.examples
    ]
    both = dataclasses.replace(
        found,
        examples=(*found.examples, *textual),
        passage_ids=np.concatenate([found.passage_ids, found.passage_ids]),
    )
    both.passage_ids[0, 1:] = -1
    wanted = []
    for example, ids in zip(both.examples, both.passage_ids, strict=True):
        rows = [opened.passages([i]).to_pylist()[0] for i in ids if i >= 0]
        if example.id.startswith("t"):
            relevant = any(a.lower() in row["text"].lower() for a in example.answers for row in rows)
        else:
            pages = {p.wikipedia_id for o in example.outputs for p in o.provenance}
            relevant = any(str(row["page_id"]) in pages for row in rows)
        if relevant:
            wanted.append(example.id)
    assert 0 < len(wanted) < len(both)
    assert [example.id for example in questions.relevant(both, opened).examples] == wanted


def test_a_passage_that_tells_the_answer_comes_first(corpus: Path, task: Path, tmp_path: Path) -> None:
    opened = open_corpus(corpus)
    found = questions.retrieve(questions.read_task("qa", task), opened, retrieved=3, keep_in=tmp_path)
    told = questions.with_gold(found, opened)
    moved = brought = 0
    for example, before, after in zip(found.examples, found.passage_ids, told.passage_ids, strict=True):
        pages = {p.wikipedia_id for o in example.outputs for p in o.provenance or ()}
        (first,) = opened.passages(after[:1]).to_pylist()
        assert str(first["page_id"]) in pages
        assert any(answer in first["text"] for answer in example.answers)
        assert len(set(after.tolist())) == 3
        brought += int(after[0] not in before)
        moved += int(after[0] in before[1:])
        # The others are as they were retrieved.
        assert after[1:].tolist() == [i for i in before.tolist() if i != after[0]][:2]
    assert brought
    assert moved


def test_what_was_retrieved_is_kept_and_checked(corpus: Path, task: Path, tmp_path: Path) -> None:
    opened = open_corpus(corpus)
    read = questions.read_task("qa", task)
    found = questions.retrieve(read, opened, retrieved=3, keep_in=tmp_path)
    wanted = opened.search([example.input for example in read.examples], 3).passage_ids
    assert np.array_equal(found.passage_ids, wanted)
    (kept,) = tmp_path.iterdir()
    for damage in (lambda data: data[:-8], lambda data: bytes([data[0] ^ 1]) + data[1:]):
        kept.write_bytes(damage(kept.read_bytes()))
        again = questions.retrieve(read, opened, retrieved=3, keep_in=tmp_path)
        assert np.array_equal(again.passage_ids, wanted)
