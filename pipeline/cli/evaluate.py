"""`evaluate`: the scores of predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli import options
from storage import errors

if TYPE_CHECKING:
    from pipeline.readers.kilt import Scores

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("gold", type=_PATH)
@click.argument("predictions", type=_PATH)
@click.option("-k", "ks", multiple=True, type=int, help="Recall among the first K pages (default: 1 and 5).")
@options.JSON
def evaluate(gold: Path, predictions: Path, ks: tuple[int, ...], as_json: bool) -> None:
    """Score PREDICTIONS against GOLD, a task file of KILT, as KILT's own evaluation does.

    Of two folders, each .jsonl file in PREDICTIONS is scored against the file of its name in GOLD.

    `memcorpus evaluate CORPUS --bits-per-byte --model RETRO ...` is `memcorpus retro evaluate`.
    """
    from pipeline.cli import terminal

    pairs = _pairs(gold, predictions)
    found = {name: _scores(*paths, ks) for name, paths in pairs.items()}
    if not as_json:
        terminal.print_scores(found, options.stdout())
        return
    for name, (task, answers) in pairs.items():
        print(json.dumps({"gold": str(task), "predictions": str(answers)} | found[name].as_dict()))


def _scores(task: Path, answers: Path, ks: tuple[int, ...]) -> Scores:
    from pipeline.readers import kilt

    try:
        return kilt.evaluate(
            kilt.read_examples(task), kilt.read_predictions(answers), ks=ks or kilt.DEFAULT_KS
        )
    except FileNotFoundError as error:
        raise errors.CorpusError(
            f"{error.filename} is not there; give a task file and its predictions"
        ) from error


def _pairs(gold: Path, predictions: Path) -> dict[str, tuple[Path, Path]]:
    """Name -> task file and prediction file."""
    if not gold.is_dir() and not predictions.is_dir():
        return {gold.stem: (gold, predictions)}
    if not (gold.is_dir() and predictions.is_dir()):
        folder, file = (gold, predictions) if gold.is_dir() else (predictions, gold)
        raise errors.CorpusError(f"{folder} is a folder and {file} is none; give two files or two folders")
    answers = sorted(predictions.glob("*.jsonl"))
    if not answers:
        raise errors.CorpusError(f"{predictions} holds no .jsonl file; which are the predictions?")
    return {path.stem: (gold / path.name, path) for path in answers}
