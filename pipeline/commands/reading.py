"""`train` and `answer`: readers, trained on a corpus and asked."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands import options
from storage import errors

if TYPE_CHECKING:
    from encoders.reader.folder import ReaderSettings
    from pipeline.reading.answers import Answered
    from pipeline.reading.preparing import RunSettings
    from retrieval.corpus import Corpus

_PATH = click.Path(path_type=Path)
_TASK = "NAME=FILE"


@click.command(context_settings={"show_default": True})
@options.CORPUS
@click.option("--model", required=True, help="T5.1.1 with its decoder, or a reader to train further.")
@click.option("--out", required=True, type=_PATH, help="The run's folder; its `reader` is the result.")
@click.option(
    "--train", "train_files", multiple=True, metavar=_TASK, help="Task file in KILT's format; again for more."
)
@click.option(
    "--dev",
    "dev_files",
    multiple=True,
    metavar=_TASK,
    help="Task file to choose the best step by; again for more.",
)
@click.option("--system", type=click.Choice(("fid", "memory-fid", "lumen", "glimmer")), default="glimmer")
@click.option("--live-proportion", metavar="FRACTION", help="α of lumen and glimmer.  [default: 1/3]")
@click.option("--rerank-proportion", metavar="FRACTION", help="β of glimmer.  [default: 1/4]")
@click.option("--pooling", type=click.Choice(("first", "mean")), default="first", help="What glimmer scores.")
@click.option("-k", "--retrieved", default=20, help="Passages retrieved for a question.")
@click.option("-m", "--selected", type=int, help="Passages that glimmer keeps.  [default: 5]")
@click.option(
    "--training-selected", type=int, help="The same while it trains: up to k.  [default: as --selected]"
)
@click.option(
    "--memory-encoder",
    type=click.Choice(("trained", "frozen")),
    help="[default: frozen for lumen and memory-fid, else trained]",
)
@click.option("--memory", metavar="VERSION", help="Fetch a frozen encoder's memory from this version.")
@click.option("--steps", default=10_000)
@click.option("--every", default=500, help="Steps between two evaluations, each with a checkpoint.")
@click.option("--batch", default=128, help="Questions of a step.")
@click.option("--micro-batch", type=int, help="Questions computed at a time.  [default: the batch]")
@click.option("--learning-rate", default=1e-4)
@click.option("--warmup", default=0, help="Steps over which the learning rate rises to its constant.")
@click.option("--dropout", default=0.1)
@click.option("--distillation", default=1.0, help="Weight of perplexity distillation (glimmer).")
@click.option("--temperature", default=1.0, help="τ of the distillation.")
@click.option("--seed", default=0)
@click.option(
    "--relevant-only", is_flag=True, help="Leave out questions for which nothing relevant was retrieved."
)
@click.option("--gold", is_flag=True, help="Train with a passage of the provenance among those retrieved.")
@click.option("--dev-examples", default=2000, help="Of each dev file, at most.")
@click.option("--max-tokens", default=304, help="Tokens kept of a passage.")
@click.option("--question-tokens", default=48, help="Tokens kept of a question.")
@click.option("--answer-tokens", default=32, help="Tokens of an answer, at most.")
@click.option("--compute-dtype", type=click.Choice(("bfloat16", "float32")), default="bfloat16")
@click.option("--retriever", help="The retriever, where it is not at the place that the build found it.")
@options.JSON
def train(corpus: str, as_json: bool, **given: Any) -> None:
    """Train a reader on questions about CORPUS, or go on with a run that was interrupted.

    \b
    Begins with a T5.1.1: its lower layers become the memory encoder, its upper ones the live
    encoder. The reader's folder is also the memory encoder's: give it to `memcorpus reencode`
    or `build` after training, and the corpus to `memcorpus answer`.
    """
    from pipeline.reading import run
    from retrieval import open_corpus

    settings = _run_settings(corpus, given)
    opened = open_corpus(corpus, retriever=given["retriever"])
    trained = run.train(settings, given["out"], opened, say=_log)
    scores = {name: round(score, 4) for name, score in trained.scores.items()}
    if as_json:
        print(
            json.dumps(
                {
                    "reader": str(trained.reader.resolve()),
                    "step": trained.step,
                    "exact_match": scores,
                    "seconds": round(trained.seconds, 3),
                    "resumed": trained.resumed,
                }
            )
        )
        return
    told = ", ".join(f"{name} {100 * score:.1f}" for name, score in trained.scores.items())
    print(f"{trained.reader.resolve()}: step {trained.step:,}{', exact match ' + told if told else ''}")
    if settings.training.memory_encoder == "trained" and settings.reader.config.memory_layers:
        print(
            "its memory encoder was trained: memory written by another is refused; next\n"
            f"  memcorpus reencode {corpus} --memory-encoder {trained.reader} --use"
        )


@click.command()
@options.CORPUS
@click.argument("asked", nargs=-1, metavar="[QUESTION]...")
@click.option("--reader", required=True, help="A reader's folder: what `memcorpus train` wrote.")
@click.option("--task", type=_PATH, help="A task file in KILT's format instead of questions.")
@click.option("--out", type=_PATH, help="With --task: the predictions, as KILT's scorer reads them.")
@click.option(
    "--from",
    "source",
    type=click.Choice(("store", "text")),
    help="Fetch memory by id, or encode the passages live.  [default: store; text for FiD]",
)
@click.option("--version", help="The memory version.  [default: the current one]")
@click.option("-k", "--retrieved", type=int, help="Passages retrieved.  [default: as trained]")
@click.option("-m", "--selected", type=int, help="Passages kept by glimmer.  [default: as trained]")
@click.option("--batch", default=8, show_default=True, help="Questions at a time.")
@click.option("--retriever", help="The retriever, where it is not at the place that the build found it.")
@options.JSON
def answer(
    corpus: str,
    asked: tuple[str, ...],
    reader: str,
    task: Path | None,
    out: Path | None,
    source: str | None,
    version: str | None,
    retrieved: int | None,
    selected: int | None,
    batch: int,
    retriever: str | None,
    as_json: bool,
) -> None:
    """Answer QUESTIONs, or those of a task file, from CORPUS, and show the passages used."""
    from pipeline.kilt import read_examples, write_predictions
    from pipeline.reading.answers import QuestionAnswerer, predictions
    from retrieval import open_corpus

    if bool(asked) == (task is not None):
        raise errors.CorpusError("give questions, or a task file with --task")
    if (task is None) != (out is None):
        raise errors.CorpusError("--task and --out go together: questions in, predictions out")
    if task is not None and not task.is_file():
        raise errors.CorpusError(f"{task} is not there; give a task file in KILT's format")
    if version is not None and source == "text":
        raise errors.CorpusError("--version names memory of the store, --from text reads none; leave one out")
    opened = open_corpus(corpus, retriever=retriever)
    answerer = QuestionAnswerer(
        opened,
        reader,
        source=source,
        version=version,
        retrieved=retrieved,
        selected=selected,
        batch=min(batch, len(asked)) if asked else batch,
    )
    started = time.perf_counter()
    if task is None:
        found = list(answerer.answer(asked))
        seconds = time.perf_counter() - started
        for question, one in zip(asked, found, strict=True):
            _show(opened, question, one, as_json)
        if not as_json:
            print(f"\nmemory from the {answerer.source}; {seconds:.2f} s with compilation")
        return
    assert out is not None
    examples = list(read_examples(task))
    answers = []
    for one in answerer.answer([example.input for example in examples]):
        answers.append(one)
        if len(answers) % 500 == 0:
            _log(f"{len(answers):,} of {len(examples):,} answered")
    write_predictions(out, predictions(opened, examples, answers))
    seconds = time.perf_counter() - started
    if as_json:
        print(json.dumps({"predictions": str(out), "examples": len(examples), "seconds": round(seconds, 3)}))
        return
    print(
        f"{out}: {len(examples):,} answers, memory from the {answerer.source}, "
        f"{seconds:.1f} s, {1000 * seconds / max(1, len(examples)):.1f} ms a question"
    )
    print(f"  memcorpus evaluate {task} {out}")


def _run_settings(corpus: str, given: dict[str, Any]) -> RunSettings:
    from encoders.reader.config import GLIMMER, LUMEN, MEMORY_FID
    from encoders.reader.training import FROZEN, TRAINED, TrainingSettings
    from pipeline.reading.preparing import RunSettings

    reader = _reader_settings(given)
    system = given["system"]
    frozen = system in (LUMEN, MEMORY_FID)
    training = TrainingSettings(
        memory_encoder=given["memory_encoder"] or (FROZEN if frozen else TRAINED),
        selected=given["training_selected"] or reader.selected,
        learning_rate=given["learning_rate"],
        warmup=given["warmup"],
        batch=given["batch"],
        micro_batch=given["micro_batch"] or given["batch"],
        dropout=given["dropout"],
        distillation=given["distillation"] if system == GLIMMER else 0.0,
        temperature=given["temperature"],
        seed=given["seed"],
    )
    return RunSettings(
        corpus=corpus,
        model=given["model"],
        reader=reader,
        training=training,
        steps=given["steps"],
        every=given["every"],
        train=_files(given["train_files"]),
        dev=_files(given["dev_files"]),
        dev_examples=given["dev_examples"],
        memory=given["memory"],
        relevant_only=given["relevant_only"],
        gold=given["gold"],
    )


def _reader_settings(given: dict[str, Any]) -> ReaderSettings:
    from encoders.reader import folder
    from encoders.reader.config import GLIMMER, preset
    from encoders.t5_config import parse_live_proportion

    def share(name: str) -> Fraction | None:
        return None if given[name] is None else parse_live_proportion(given[name])

    shape, layers = folder.read_t5(given["model"])
    config = preset(
        given["system"],
        shape,
        decoder_layers=layers,
        live_proportion=share("live_proportion"),
        rerank_proportion=share("rerank_proportion"),
        pooling=given["pooling"],
    )
    config = dataclasses.replace(config, question_tokens=given["question_tokens"])
    selected = given["selected"]
    if given["system"] == GLIMMER and selected is None:
        selected = min(5, given["retrieved"])
    return folder.ReaderSettings(
        config=config,
        compute_dtype=given["compute_dtype"],
        max_tokens=given["max_tokens"],
        answer_tokens=given["answer_tokens"],
        retrieved=given["retrieved"],
        selected=selected,
    )


def _files(given: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise errors.CorpusError(f"{text!r} is no {_TASK}, such as nq=nq-train-kilt.jsonl")
        if name in found:
            raise errors.CorpusError(f"task {name} is given twice")
        found[name] = Path(path)
    return found


def _show(corpus: Corpus, question: str, one: Answered, as_json: bool) -> None:
    order = sorted(one.passages, key=lambda read: (not read.read, -(read.score or 0.0)))
    rows = corpus.passages([read.passage_id for read in order]).to_pylist()
    if as_json:
        passages = [
            {
                "passage_id": read.passage_id,
                "title": row["title"],
                "section": row["section"],
                "score": read.score,
                "read": read.read,
            }
            for read, row in zip(order, rows, strict=True)
        ]
        print(
            json.dumps(
                {
                    "question": question,
                    "answer": one.text,
                    "log_probability": one.log_probability,
                    "passages": passages,
                },
                ensure_ascii=False,
            )
        )
        return
    print(f"{question}\n  {one.text}")
    read = [(passage, row) for passage, row in zip(order, rows, strict=True) if passage.read]
    for passage, row in read[:5]:
        score = "" if passage.score is None else f"{passage.score:7.3f} "
        text = " ".join(row["text"].split())
        print(f"    {score}{row['title']}: {text[:88]}{'...' if len(text) > 88 else ''}")
    if len(read) > 5:
        print(f"    and {len(read) - 5} passages more")


def _log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
