"""`memcorpus train`: a reader, trained on questions about a corpus."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from encoders import memory_spec
from pipeline.cli import options
from storage import codecs, errors
from storage.aliases import Json

if TYPE_CHECKING:
    from encoders.reader.folder import ReaderSettings
    from pipeline.readers.training.preparing import RunSettings

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
@click.option(
    "--system", type=click.Choice(("fid", "memory-fid", "lumen", "glimmer", "retro")), default="glimmer"
)
@click.option(
    "--live-proportion",
    metavar="FRACTION",
    help=f"α of lumen and glimmer.  [default: {memory_spec.LIVE_PROPORTION}]",
)
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
@click.option(
    "--codec",
    metavar="CODEC",
    help="Train on memory as this codec stores it, such as rq64x8; its codebooks are kept with the reader.  "
    "[default: that of --memory or of the reader to begin with, else none]",
)
@click.option(
    "--code-decay",
    default=0.999,
    help="γ of the averages by which codebooks follow a trained memory encoder.",
)
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
@click.option("--max-tokens", default=memory_spec.MAX_TOKENS, help="Tokens kept of a passage.")
@click.option("--question-tokens", default=48, help="Tokens kept of a question.")
@click.option("--answer-tokens", default=32, help="Tokens of an answer, at most.")
@click.option("--compute-dtype", type=click.Choice(("bfloat16", "float32")), default="bfloat16")
@click.option("--retriever", help="The retriever, where it is not at the place that the build found it.")
@options.config
@options.JSON
@click.pass_context
def train(context: click.Context, /, corpus: str, as_json: bool, **given: Any) -> None:
    """Train a reader on questions about CORPUS, or go on with a run that was interrupted.

    \b
    Begins with a T5.1.1: its lower layers become the memory encoder, its upper ones the live
    encoder. Or with a reader, whose own settings then take the place of the defaults. The
    reader's folder is also the memory encoder's: give it to `memcorpus reencode` or `build`
    after training, and the corpus to `memcorpus answer`.
    """
    if given["system"] == "retro":
        raise errors.CorpusError(
            "--system retro is a language model and learns from text, not from questions; the command is "
            "memcorpus retro train"
        )
    from pipeline.readers.training import run
    from retrieval import open_corpus

    asked = {name for name in given if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    settings = _run_settings(corpus, given, asked)
    opened = open_corpus(corpus, retriever=given["retriever"])
    trained = run.train(settings, given["out"], opened, say=options.say)
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


def _run_settings(corpus: str, given: Json, asked: set[str]) -> RunSettings:
    from encoders.reader.config import LUMEN, MEMORY_FID
    from encoders.reader.training import FROZEN, TRAINED, TrainingSettings
    from pipeline.readers.training.preparing import RunSettings

    reader = _reader_settings(given, asked)
    frozen = reader.config.system in (LUMEN, MEMORY_FID)
    training = TrainingSettings(
        memory_encoder=given["memory_encoder"] or (FROZEN if frozen else TRAINED),
        selected=reader.selected if given["training_selected"] is None else given["training_selected"],
        learning_rate=given["learning_rate"],
        warmup=given["warmup"],
        batch=given["batch"],
        micro_batch=given["batch"] if given["micro_batch"] is None else given["micro_batch"],
        dropout=given["dropout"],
        distillation=given["distillation"] if reader.config.reranks else 0.0,
        temperature=given["temperature"],
        code_decay=given["code_decay"],
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


def _reader_settings(given: Json, asked: set[str]) -> ReaderSettings:
    """What was asked for; the rest is a reader's own where training begins with one."""
    from encoders.reader import folder
    from encoders.reader.config import GLIMMER, preset
    from encoders.t5_config import parse_live_proportion

    def share(name: str) -> Fraction | None:
        return None if given[name] is None else parse_live_proportion(given[name])

    templates: dict[str, str] = {}
    if folder.is_reader(given["model"]):
        own = folder.open_reader(given["model"]).settings
        if "system" in asked and given["system"] != own.config.system:
            raise errors.MismatchError(
                f"{given['model']} is a {own.config.system}, --system asks for {given['system']}; leave that "
                "out, or begin with a T5"
            )
        templates = {"template": own.template, "question_template": own.question_template}
        given = given | {name: value for name, value in _options_of(own).items() if name not in asked}
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
    codec = given["codec"]
    if given["memory"] is not None and "codec" not in asked:
        codec = None  # the version's own
    return folder.ReaderSettings(
        config=config,
        compute_dtype=given["compute_dtype"],
        max_tokens=given["max_tokens"],
        answer_tokens=given["answer_tokens"],
        retrieved=given["retrieved"],
        selected=selected,
        codec=None if codec is None else codecs.by_name(codec).to_json(),
        **templates,
    )


def _options_of(settings: ReaderSettings) -> Json:
    """A reader's settings as the options that would give them."""
    config = settings.config
    beta = config.rerank_proportion
    return {
        "system": config.system,
        "live_proportion": str(config.live_proportion),
        "rerank_proportion": None if beta is None else str(beta),
        "pooling": config.pooling,
        "question_tokens": config.question_tokens,
        "compute_dtype": settings.compute_dtype,
        "max_tokens": settings.max_tokens,
        "answer_tokens": settings.answer_tokens,
        "retrieved": settings.retrieved,
        "selected": settings.selected,
        "codec": None if settings.codec is None else settings.codec["name"],
    }


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
