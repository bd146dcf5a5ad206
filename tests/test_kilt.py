"""KILT's files and scores: the numbers of KILT's own tests, and what a damaged file is told."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.readers import kilt
from pipeline.readers.kilt import Example, KiltError, Output, Prediction, Provenance, scores
from tests.commands import Command


def pages(*ids: int) -> tuple[Provenance, ...]:
    return tuple(Provenance(wikipedia_id=str(number)) for number in ids)


def example(*outputs: tuple[str | None, tuple[int, ...] | None], id: str = "1") -> Example:
    return Example(
        id=id,
        outputs=tuple(
            Output(answer=answer, provenance=None if ids is None else pages(*ids)) for answer, ids in outputs
        ),
    )


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


# What kilt/eval_downstream.py and eval_retrieval.py give for their own samples (KILT, tests/).
SAMPLES = {
    ("gold1", "guess1_1"): {
        "KILT-em": 1 / 3,
        "KILT-f1": 1 / 3,
        "KILT-rougel": 0.3333333316666667,
        "em": 2 / 3,
        "f1": 0.8333333333333334,
        "rougel": 0.7222222178240741,
        "Rprec": 1 / 3,
        "recall@5": 1 / 3,
    },
    ("gold1", "gold1"): {
        "KILT-em": 1,
        "KILT-f1": 1,
        "KILT-rougel": 0.999999995,
        "em": 1,
        "f1": 1,
        "rougel": 0.999999995,
        "Rprec": 1,
        "recall@5": 1,
    },
    ("gold2", "guess2_1"): {"Rprec": 1 / 2, "recall@5": 2 / 3},
    ("gold2", "guess2_2"): {"Rprec": 1, "recall@5": 1 / 3},
    ("gold3", "guess3_1"): {
        "KILT-em": 0,
        "KILT-f1": 0.25510204081632654,
        "KILT-rougel": 0.22352940932318338,
        "em": 0,
        "f1": 0.5102040816326531,
        "rougel": 0.44705881864636676,
    },
}


@pytest.mark.parametrize(("gold", "guess"), SAMPLES)
def test_samples_of_kilt_score_as_in_kilt(shared_data: Path, gold: str, guess: str) -> None:
    folder = shared_data / "kilt"
    found = kilt.evaluate(
        kilt.read_examples(folder / f"{gold}.jsonl"), kilt.read_predictions(folder / f"{guess}.jsonl")
    )
    values = {**found.downstream, **found.kilt, **found.retrieval}
    assert values.items() >= SAMPLES[gold, guess].items()


@pytest.mark.parametrize(
    ("answer", "right", "em", "f1"),
    [
        ("The Cat!", "cat", 1, 1),
        ("a  theory", "theory", 1, 1),
        ("anthem", "them", 0, 0),
        ("652,230", "652230", 1, 1),
        ("it was Ulaanbaatar", "Ulaanbaatar", 0, 0.5),
        ("New York", "new york new york", 0, 2 / 3),
        ("the", "", 1, 0),
    ],
)
def test_answers(answer: str, right: str, em: float, f1: float) -> None:
    assert scores.exact_match(answer, right) == em
    assert scores.f1(answer, right) == pytest.approx(f1)


@given(st.lists(st.sampled_from("abcd"), max_size=7), st.lists(st.sampled_from("abcd"), max_size=7))
def test_rouge_l_of_one_sentence_against_brute_force(found: list[str], wanted: list[str]) -> None:
    def subsequences(words: list[str]) -> set[tuple[str, ...]]:
        return {part for n in range(len(words) + 1) for part in itertools.combinations(words, n)}

    common = subsequences(found) & subsequences(wanted)
    longest = max(map(len, common))
    score = scores.rouge_l(" ".join(found), " ".join(wanted))
    if not found or not wanted:
        assert score == 0
        return
    possible = [len(set(part)) for part in common if len(part) == longest]
    allowed = []
    for size in possible:
        precision, recall = size / len(set(found)), size / len(set(wanted))
        allowed.append(2 * precision * recall / (precision + recall + 1e-8))
    assert any(score == pytest.approx(value, abs=1e-12) for value in allowed)


def test_rouge_l_goes_by_sentences() -> None:
    # The words of both sentences count, though no one subsequence holds them all.
    assert scores.rouge_l("c d. a b", "a b. c d") == pytest.approx(1, abs=1e-7)
    assert scores.rouge_l("c d a b", "a b c d") == pytest.approx(0.5, abs=1e-7)
    assert scores.rouge_l("...", "a") == scores.rouge_l("a", "...") == 0


def test_r_precision_is_that_of_the_best_output() -> None:
    task = example(("x", (1, 2)), ("y", (5,)), ("z", None), (None, ()))
    assert scores.r_precision(pages(5, 1), task) == 1
    assert scores.r_precision(pages(2, 7, 1), task) == 0.5
    assert scores.r_precision(pages(2, 2, 1), task) == 1  # a page counts once
    assert scores.r_precision((), task) == scores.r_precision(pages(8), task) == 0
    assert scores.r_precision(pages(1), example(("x", None))) == 0


def test_recall_counts_whole_sets() -> None:
    task = example(("x", (1, 2)), ("y", (5,)), ("z", (2, 1)), ("w", None))
    found = pages(1, 8, 2, 5)
    # Ranks: 8, the set {1, 2} at its last page, 5. {2, 1} is the same set.
    assert [scores.recall_at(k, found, task) for k in (1, 2, 3)] == [0, 0.5, 1]
    assert scores.recall_at(5, (), task) == 0
    assert scores.recall_at(5, pages(5), example(("x", (5,)), (None, ()))) == 0.5  # an empty set is a set


@given(
    st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3, unique=True), min_size=1, max_size=4),
    st.lists(st.integers(1, 7), max_size=8),
)
def test_recall_against_brute_force(wanted: list[list[int]], found: list[int]) -> None:
    task = example(*(("x", tuple(ids)) for ids in wanted))
    sets = {frozenset(ids) for ids in wanted}
    ranked = list(dict.fromkeys(found))
    # A set's rank is that of its last page, counted without the pages that a set still held places for.
    whole = [part for part in sets if part <= set(ranked)]
    assert scores.recall_at(99, pages(*found), task) == len(whole) / len(sets)
    if all(len(part) == 1 for part in sets):
        for k in (1, 2, 3):
            assert scores.recall_at(k, pages(*found), task) == (
                sum(part <= set(ranked[:k]) for part in sets) / len(sets)
            )


def test_a_kilt_score_needs_the_right_page() -> None:
    gold = [example(("Rome", (1,)), id="a"), example(("Rome", (1,)), ("Roma", (2,)), id="b")]
    guesses = [
        Prediction(id="b", answer="Roma", provenance=pages(1, 2)),
        Prediction(id="a", answer="rome", provenance=pages(2, 1)),
    ]
    found = kilt.evaluate(gold, guesses, ks=(1, 2))
    assert found.downstream["accuracy"] == 0.5  # as it stands
    assert found.downstream["em"] == 1
    assert found.retrieval == {"Rprec": 0.5, "recall@1": 0.25, "recall@2": 1.0}
    assert found.kilt["KILT-em"] == 0.5
    empty = kilt.evaluate(gold[:1], [Prediction(id="a", answer=" ", provenance=pages(1))])
    assert set(empty.downstream.values()) == set(empty.kilt.values()) == {0.0}


def test_what_cannot_be_scored_is_left_out() -> None:
    gold = [example(("Rome", None))]
    without_pages = kilt.evaluate(gold, [Prediction(id="1", answer="Rome")])
    assert without_pages.retrieval == without_pages.kilt == {}
    assert without_pages.downstream["em"] == 1
    only_pages = kilt.evaluate(
        [example((None, (1,)))], [Prediction(id="1", answer=None, provenance=pages(1))]
    )
    assert only_pages.downstream == only_pages.kilt == {}
    assert only_pages.retrieval["Rprec"] == 1


@pytest.mark.parametrize(
    ("guesses", "said"),
    [
        (
            [("1", "x")],
            "1 of 2 examples have no prediction, the first is '2'; 0 predictions are for other ids",
        ),
        (
            [("1", "x"), ("2", "x"), ("9", "x")],
            "1 of 3 predictions are for ids that the task file has not, the",
        ),
        ([("1", "x"), ("2", None)], "1 of 2 predictions have no answer, the first is '2'"),
    ],
)
def test_predictions_that_do_not_match(guesses: list[tuple[str, str | None]], said: str) -> None:
    gold = [example(("x", (1,)), id="1"), example(("y", (1,)), id="2")]
    with pytest.raises(KiltError, match=said):
        kilt.evaluate(gold, [Prediction(id=id, answer=answer) for id, answer in guesses])


def test_examples_without_answers_are_not_scored() -> None:
    with pytest.raises(KiltError, match="example '1' has no answer to compare with"):
        kilt.evaluate([example((None, (1,)))], [Prediction(id="1", answer="x")])
    with pytest.raises(KiltError, match="there are no examples to score"):
        kilt.evaluate([], [])
    with pytest.raises(KiltError, match=r"recall is asked at \[0\], wanted ranks of at least 1"):
        kilt.evaluate([example(("x", None))], [Prediction(id="1", answer="x")], ks=[0])


def test_files_of_kilt_are_read(tmp_path: Path) -> None:
    page = {"wikipedia_id": 290, "title": "A", "section": "s", "start_paragraph_id": 1, "bleu_score": 1.0}
    path = lines(
        tmp_path / "task.jsonl",
        {"id": 5, "input": "q", "output": [{"answer": "é"}, {"provenance": [page]}], "candidates": ["A"]},
        {"id": "x ", "input": "q", "meta": {"left_context": "l"}},
        {"id": "7", "input": "q", "output": [{"answer": None, "provenance": [{"title": "A"}]}]},
    )
    path.write_text(f"\ufeff{path.read_text()}\n\n")
    first, second, third = kilt.read_examples(path)
    assert first.id == "5"
    assert first.answers == ("é",)
    assert first.outputs[0].provenance is None
    assert first.outputs[1] == Output(provenance=(Provenance(wikipedia_id="290", title="A"),))
    assert (second.id, second.outputs, second.meta) == ("x", (), {"left_context": "l"})
    assert third.outputs[0].provenance == (Provenance(wikipedia_id=None, title="A"),)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    task = Example(
        id="é/1",
        input="q \ud800",  # half a character, as JSON may hold
        outputs=(
            Output(answer="a", provenance=pages(1, 2)),
            Output(answer="b"),
            Output(provenance=(Provenance(wikipedia_id="3", title="T", meta={"passage_id": 7}),)),
        ),
        meta={"kind": "river"},
    )
    assert kilt.write_examples(tmp_path / "task.jsonl", [task]) == 1
    read = dataclasses.replace(task, input="q \ufffd")  # which no tokenizer would take
    assert list(kilt.read_examples(tmp_path / "task.jsonl")) == [read]
    guess = Prediction(id="é/1", input="q", answer="a", provenance=pages(2))
    assert kilt.write_predictions(tmp_path / "guess.jsonl", [guess]) == 1
    assert list(kilt.read_predictions(tmp_path / "guess.jsonl")) == [guess]
    output = {"answer": "a", "provenance": [{"wikipedia_id": "2", "title": ""}]}
    written = json.loads((tmp_path / "guess.jsonl").read_text())
    assert written == {"id": "é/1", "input": "q", "output": [output]}


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Any:
        yield Prediction(id="1", answer="x")
        raise RuntimeError("the reader died")

    path = lines(tmp_path / "guess.jsonl", {"id": 1})
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="the reader died"):
        kilt.write_predictions(path, broken())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("{", "line 2 is no JSON"),
        ("[" * 100_000, "line 2 is no JSON"),
        ("[1]", "line 2 is a list, wanted an object with id, input and output"),
        ('{"input": "q"}', "line 2 has no 'id', wanted a string or a whole number"),
        ('{"id": true}', "line 2 has 'id' true, wanted a string or a whole number"),
        ('{"id": " 1"}', "line 2 has the id '1' of line 1; ids must be unique"),
        ('{"id": 2, "input": 3}', "line 2 has 'input' 3, wanted a string"),
        ('{"id": 2, "output": {}}', "line 2 has 'output' {}, wanted a list of objects"),
        ('{"id": 2, "output": [{"answer": [5]}]}', r"line 2 has 'answer' \[5\], wanted a string"),
        ('{"id": 2, "output": [{"provenance": "A"}]}', "'provenance' \"A\", wanted a list of objects"),
        (
            '{"id": 2, "output": [{"provenance": [{"wikipedia_id": 1.5}]}]}',
            "'wikipedia_id' 1.5, wanted a str",
        ),
        ('{"id": 2, "meta": 1}', "line 2 has 'meta' 1, wanted an object"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, second: str, said: str) -> None:
    path = tmp_path / "task.jsonl"
    path.write_text(f'{{"id": 1, "input": "q", "output": []}}\n{second}\n')
    with pytest.raises(KiltError, match=said):
        list(kilt.read_examples(path))


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "task.jsonl"
    path.write_bytes(b'{"id": 1, "input": "\xff"}\n')
    with pytest.raises(KiltError, match="line 1 is no JSON"):
        list(kilt.read_examples(path))


def test_a_prediction_has_one_output(tmp_path: Path) -> None:
    path = lines(tmp_path / "guess.jsonl", {"id": 1, "output": [{"answer": "a"}, {"answer": "b"}]})
    with pytest.raises(KiltError, match="line 1 has 2 outputs, wanted one"):
        list(kilt.read_predictions(path))


def test_evaluate_prints_every_score(command: Command, tmp_path: Path) -> None:
    answer = {"answer": "Rome", "provenance": [{"wikipedia_id": 1}]}
    gold = lines(tmp_path / "qa-dev.jsonl", {"id": 1, "input": "q", "output": [answer]})
    guess = lines(tmp_path / "guess.jsonl", {"id": "1", "output": [answer | {"answer": "in Rome"}]})
    status, out, err = command("evaluate", gold, guess)
    assert (status, err) == (0, "")
    shown = {row.split()[0]: row.split()[1] for row in out.splitlines()[1:]}
    assert shown == {
        "examples": "1",
        "accuracy": "0.00",
        "em": "0.00",
        "f1": "66.67",
        "rougel": "66.67",
        "KILT-accuracy": "0.00",
        "KILT-em": "0.00",
        "KILT-f1": "66.67",
        "KILT-rougel": "66.67",
        "Rprec": "100.00",
        "recall@1": "100.00",
        "recall@5": "100.00",
    }
    status, out, _ = command("evaluate", gold, guess, "-k", "20", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["retrieval"] == {"Rprec": 1.0, "recall@20": 1.0}
    assert (found["gold"], found["examples"]) == (str(gold), 1)


def test_evaluate_takes_folders(command: Command, tmp_path: Path) -> None:
    gold, guesses = tmp_path / "gold", tmp_path / "guesses"
    gold.mkdir()
    guesses.mkdir()
    for name, answer in (("qa", "Rome"), ("facts", "SUPPORTS"), ("slots", "Po")):
        output = {"output": [{"answer": answer}]}
        lines(gold / f"{name}.jsonl", {"id": 1, "input": "q"} | output)
        if name != "slots":
            lines(guesses / f"{name}.jsonl", {"id": 1} | output)
    status, out, _ = command("evaluate", gold, guesses, "--json")
    assert status == 0
    found = [json.loads(line) for line in out.splitlines()]
    assert [Path(one["gold"]).stem for one in found] == ["facts", "qa"]
    assert all(one["downstream"]["accuracy"] == 1 and one["retrieval"] == {} for one in found)
    assert "facts" in command("evaluate", gold, guesses)[1]


def test_evaluate_refuses_in_one_line(command: Command, tmp_path: Path) -> None:
    gold = lines(tmp_path / "gold.jsonl", {"id": 1, "output": [{"answer": "x"}]}, {"id": 2})
    guess = lines(tmp_path / "guess.jsonl", {"id": 1, "output": [{"answer": "x"}]})
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, said in (
        ((gold, guess), "1 of 2 examples have no prediction, the first is '2'"),
        ((gold, tmp_path / "none.jsonl"), f"{tmp_path / 'none.jsonl'} is not there"),
        ((tmp_path, guess), "is a folder and"),
        ((tmp_path, empty), f"{empty} holds no .jsonl file"),
        ((gold, guess, "-k", "0"), "recall is asked at [0], wanted ranks of at least 1"),
    ):
        status, out, err = command("evaluate", *arguments)
        assert status == 2
        assert out == ""
        assert err.startswith("memcorpus: ")
        assert said in err
        assert err.count("\n") == 1


def test_half_a_pair_of_utf_16_is_no_character(tmp_path: Path) -> None:
    """JSON may hold one, and no tokenizer takes it: U+FFFD, as in sources."""
    gold, predictions = tmp_path / "gold.jsonl", tmp_path / "predictions.jsonl"
    record = '{"id": "1", "input": "smile \\ud83d end?", "output": [{"answer": "a\\udc00b"}]}\n'
    gold.write_text(record)
    predictions.write_text(record)
    (example,) = kilt.read_examples(gold)
    assert (example.input, example.answers) == ("smile \ufffd end?", ("a\ufffdb",))
    scores = kilt.evaluate(kilt.read_examples(gold), kilt.read_predictions(predictions))
    assert scores.as_dict()["downstream"]["em"] == 1
