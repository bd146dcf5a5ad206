"""`memcorpus answer`: questions answered from a corpus."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli import options
from storage import errors

if TYPE_CHECKING:
    from pipeline.readers.answered import Answered
    from retrieval.corpus import Corpus

_PATH = click.Path(path_type=Path)


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
    from pipeline.readers.answers import QuestionAnswerer, predictions
    from pipeline.readers.kilt import read_examples, write_predictions
    from retrieval import open_corpus

    if bool(asked) == (task is not None):
        raise errors.CorpusError("give questions, or a task file with --task")
    if (task is None) != (out is None):
        raise errors.CorpusError("--task and --out go together: questions in, predictions out")
    if task is not None and not task.is_file():
        raise errors.CorpusError(f"{task} is not there; give a task file in KILT's format")
    if out is not None:
        options.require_output(out)
    if version is not None and source == "text":
        raise errors.CorpusError("--version names memory of the store, --from text reads none; leave one out")
    asked = tuple(map(options.text, asked))
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
    if answerer.warning is not None:
        options.say(answerer.warning)
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
            options.say(f"{len(answers):,} of {len(examples):,} answered")
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
        options.print_json(
            {
                "question": question,
                "answer": one.text,
                "log_probability": one.log_probability,
                "passages": passages,
            }
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
