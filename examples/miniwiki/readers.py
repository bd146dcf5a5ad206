"""A tiny reader that reads: a T5 begun so that it learns to copy in minutes, and trained on the miniwiki.

What a published T5 brings from its pretraining, this one must learn on two cores: to find the words asked
for in a passage, and to say them. Two things make that quick. Its attention begins as matching and copying
(see `initial_t5`), and most of what it is trained on is about entities that were made up, whose facts
nobody can know by heart (`examples.miniwiki.invented`).
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import transformers
from safetensors.numpy import save_file
from transformers import T5Tokenizer

from encoders import weights
from encoders.memory_spec import MemorySpec
from encoders.reader import ReaderSettings, folder, preset
from encoders.reader.config import FIRST, GLIMMER, MEAN
from encoders.reader.folder import EXTRA_WEIGHTS, SETTINGS
from encoders.reader.training import TrainingSettings
from encoders.t5_config import T5Config
from examples.miniwiki.export import write_dump
from examples.miniwiki.pages import drafts
from examples.miniwiki.retriever import passages_of, train_tokenizer
from examples.miniwiki.shipped import GLIMMER_NAME as GLIMMER_NAME
from examples.miniwiki.shipped import LIVE as LIVE
from examples.miniwiki.shipped import MAX_TOKENS as MAX_TOKENS
from examples.miniwiki.shipped import PASSAGE_WORDS as PASSAGE_WORDS
from examples.miniwiki.tasks import TASKS, write_tasks
from pipeline.components.settings import BuildSettings
from pipeline.jobs import build
from pipeline.readers.training import run
from retrieval import open_corpus
from retrieval.corpus import Corpus
from storage import codecs
from storage.folder import CorpusFolder

Values = npt.NDArray[np.floating[Any]]

T5_NAME = "t5-tiny"
# In the work folder: the T5 that has read one passage as FiD, and no more.
WHOLE_NAME = "t5-whole"
# Sizes that two cores can train in minutes.
QUESTION_TOKENS, ANSWER_TOKENS = 24, 12
RERANK = "1/2"
# k and m. In training the reader reads all k: with the m best of a score that is yet to learn it would be
# asked for answers that nothing tells, and unlearn to copy.
RETRIEVED, SELECTED = 4, 2
# Learning rates: from nothing, and of a model that reads already.
COARSE, FINE = 2e-2, 5e-3


def initial_t5(
    folder: Path,
    tokenizer: T5Tokenizer,
    *,
    layers: int = 4,
    decoder_layers: int = 2,
    d_model: int = 64,
    d_kv: int = 32,
    seed: int = 0,
) -> Path:
    """Write a T5.1.1 that was never trained, with weights from which reading is learned soon.

    - The head begins as the embedding, so that a state that is a word's embedding says the word.
    - Keys begin equal to queries, so that a word looks for its like; the output of attention begins as the
      inverse of its values, so that what is looked at is passed on as it is.

    The same arguments give the same bytes.

    Args:
        folder: is made; it gets the tokenizer too.
        tokenizer: of `retriever.train_tokenizer`.
        layers, decoder_layers: of the encoder and of the decoder.
        d_model, d_kv: widths; all heads together are as wide as the model.
        seed: of the weights.
    """
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=d_model,
        d_kv=d_kv,
        d_ff=2 * d_model,
        layers=layers,
        heads=d_model // d_kv,
    )
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(config.vocab_size, d_model)).astype(np.float32)
    shapes = weights.tensor_shapes(config, layers) | weights.decoder_shapes(config, decoder_layers)
    tensors: dict[str, np.ndarray] = {}
    values: Values
    for name, shape in shapes.items():
        if name == weights.EMBEDDING:
            values = embedding
        elif name == weights.HEAD:
            values = embedding * d_model**-0.5
        elif "Attention." in name and "bias" not in name:
            values = _attention(name, shape, seed)
        elif len(shape) == 1:
            values = np.ones(shape)
        else:
            scale = d_model**-0.5 if "bias" in name else shape[1] ** -0.5
            values = rng.normal(size=shape) * scale
        in_encoder = not name.startswith("decoder.") and name not in (weights.EMBEDDING, weights.HEAD)
        tensors[f"encoder.{name}" if in_encoder else name] = values.astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    settings = transformers.T5Config(
        vocab_size=config.vocab_size,
        d_model=d_model,
        d_kv=d_kv,
        d_ff=config.d_ff,
        num_layers=layers,
        num_decoder_layers=decoder_layers,
        num_heads=config.heads,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        architectures=["T5ForConditionalGeneration"],
    )
    (folder / "config.json").write_text(json.dumps(settings.to_dict(), indent=2) + "\n", encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _attention(name: str, shape: Sequence[int], seed: int) -> Values:
    """Queries and keys are one rotation, values and output another and its inverse."""
    attention, matrix, _ = name.rsplit(".", 2)
    pair = "qk" if matrix in "qk" else "vo"
    rng = np.random.default_rng([seed, zlib.crc32(f"{attention}.{pair}".encode())])
    rotation: Values = np.linalg.qr(rng.normal(size=shape))[0]
    if pair == "qk":
        # No 1/sqrt(d_kv) in T5: it has to be here.
        return rotation * np.float64(0.7 * shape[0] ** -0.25)
    # The decoder passes on what it looks at whole; in the encoder it must not drown the word itself.
    share = 1.0 if "EncDecAttention" in name else 0.7
    return (rotation if matrix == "v" else rotation.T) * share


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How the tiny readers are trained; the defaults are those of the models that are shipped.

    Args:
        invented: made-up entities in the corpus that they learn from.
        vocabulary: pieces of the readers' tokenizer.
        width: of the T5.
        whole_steps: of the T5, as FiD on one passage that tells the answer.
        split_steps: after that as GLIMMER, its lower layers reading question and passage apart.
        ranked_steps: of several passages, one of which tells the answer; the score is learned.
        fine_steps: the same at a smaller rate.
        batch: questions of a step.
        many_batch: the same, of several passages.
    """

    invented: int = 3000
    vocabulary: int = 2000
    width: int = 64
    whole_steps: int = 2500
    split_steps: int = 300
    ranked_steps: int = 600
    fine_steps: int = 800
    batch: int = 64
    many_batch: int = 24


def make_readers(out: Path, gtr: Path, recipe: Recipe, *, seed: int = 0) -> dict[str, dict[str, float]]:
    """Make `glimmer-tiny`, and `t5-tiny`, its T5 alone; returns the scores of each stage.

    Args:
        out: gets the two folders, and in `work` the corpus and the runs; a second call goes on there.
        gtr: the retriever's folder.
        recipe: how long, and on what.
        seed: of everything.
    """
    work = out / "work"
    corpus = reading_corpus(work, gtr, recipe, seed=seed)
    t5, glimmer = out / T5_NAME, out / GLIMMER_NAME
    scores: dict[str, dict[str, float]] = {}

    def train(name: str, settings: run.RunSettings) -> Path:
        trained = run.train(settings, work / name, corpus, retrieved=work / "retrieved", say=say)
        scores[name] = {task: round(score, 4) for task, score in trained.scores.items()}
        return trained.reader

    def settings(model: Path, reader: ReaderSettings, steps: int, **changes: Any) -> run.RunSettings:
        batch = recipe.batch if reader.retrieved == 1 else recipe.many_batch
        return run.RunSettings(
            corpus=str(corpus.root),
            model=str(model),
            reader=reader,
            training=training_settings(batch, seed=seed, **changes),
            steps=steps,
            train={name: work / "tasks" / f"{name}-train.jsonl" for name in TASKS},
            dev={name: work / "tasks" / f"{name}-dev.jsonl" for name in TASKS},
            gold=True,
        )

    if not glimmer.exists():
        initial = work / "t5-initial"
        one = reader_settings(initial, "fid", retrieved=1)
        whole = _plain(
            train("whole", settings(initial, one, recipe.whole_steps, warmup=100)), work / WHOLE_NAME
        )
        apart = reader_settings(whole, "glimmer", retrieved=1, selected=1, live=LIVE, rerank=RERANK)
        alone = {"selected": 1, "distillation": 0.0, "learning_rate": FINE}
        split = train("split", settings(whole, apart, recipe.split_steps, **alone))
        several = dataclasses.replace(apart, retrieved=RETRIEVED, selected=SELECTED)
        made = split
        for name, steps, rate in (
            ("ranked", recipe.ranked_steps, COARSE),
            ("fine", recipe.fine_steps, FINE),
        ):
            made = train(name, settings(made, several, steps, selected=RETRIEVED, learning_rate=rate))
        _plain(made, t5)
        shutil.copytree(made, glimmer)
        (glimmer / "README.md").write_text(_card(recipe, scores["fine"]), encoding="utf-8")
    return scores


def train_further(
    reader: Path, out: Path, corpus: Corpus, *, codec: str | None, steps: int, seed: int, tasks: Path
) -> Path:
    """Train a reader further, on memory in a codec or as its encoder gives it; returns the best one's folder.

    Args:
        reader: to begin with.
        out: the run's folder; a run that is there is gone on with.
        corpus: of `reading_corpus`.
        codec: None: none.
        steps: how many.
        seed: of the order of questions.
        tasks: folder of the task files.
    """
    settings = folder.open_reader(reader).settings
    coded = None if codec is None else codecs.by_name(codec).to_json()
    run_settings = run.RunSettings(
        corpus=str(corpus.root),
        model=str(reader),
        reader=dataclasses.replace(settings, codec=coded),
        training=dataclasses.replace(
            training_settings(
                Recipe().many_batch, selected=settings.retrieved, learning_rate=FINE, seed=seed
            ),
            # A run of hundreds of steps is over before an average of thousands has moved.
            code_decay=0.99,
        ),
        steps=steps,
        every=200,
        train={name: tasks / f"{name}-train.jsonl" for name in TASKS},
        dev={name: tasks / f"{name}-dev.jsonl" for name in TASKS},
        gold=True,
    )
    return run.train(
        run_settings, out, corpus, retrieved=out.parents[1] / "work" / "retrieved", say=say
    ).reader


def _card(recipe: Recipe, scores: Mapping[str, float]) -> str:
    return _CARD.format(
        name=GLIMMER_NAME,
        **dataclasses.asdict(recipe),
        live=LIVE,
        rerank=RERANK,
        retrieved=RETRIEVED,
        selected=SELECTED,
        coarse=COARSE,
        finer=FINE,
        scores=", ".join(f"{task} {100 * score:.1f} %" for task, score in scores.items()),
    )


def _plain(reader: Path, folder: Path) -> Path:
    """A reader's T5 alone, for others to begin with."""
    if not folder.exists():
        shutil.copytree(reader, folder, ignore=shutil.ignore_patterns(SETTINGS, EXTRA_WEIGHTS))
    return folder


def reading_corpus(work: Path, gtr: Path, recipe: Recipe, *, seed: int = 0) -> Corpus:
    """The corpus and tasks that readers learn from, made in `work` if they are not there."""
    if not (work / "tasks").exists():
        write_tasks(work / "tasks", invented=recipe.invented, seed=seed)
    initial = work / "t5-initial"
    if not initial.exists():
        texts = [passage.text for passage in passages_of(list(drafts(seed=seed, invented=recipe.invented)))]
        asked = [
            json.loads(line)["input"]
            for path in sorted((work / "tasks").glob("*-train.jsonl"))
            for line in path.read_text(encoding="utf-8").splitlines()[::10]
        ]
        tokenizer = train_tokenizer([*texts, *asked], recipe.vocabulary)
        initial_t5(initial, tokenizer, d_model=recipe.width, seed=seed)
    dump = write_dump(work, seed=seed, invented=recipe.invented).path
    settings = BuildSettings(
        sources=(f"mediawiki:{dump}",),
        retriever=str(gtr),
        memory_encoder=str(initial),
        memory=MemorySpec(live_proportion=Fraction(LIVE), max_tokens=MAX_TOKENS),
        passage_words=PASSAGE_WORDS,
    )
    build.build(settings, CorpusFolder(work / "corpus"))
    return open_corpus(work / "corpus", retriever=str(gtr))


def reader_settings(
    model: Path,
    system: str,
    *,
    retrieved: int,
    selected: int | None = None,
    live: str | None = None,
    rerank: str | None = None,
) -> ReaderSettings:
    """A tiny reader's settings: short passages, short questions, short answers."""
    shape, layers = folder.read_t5(model)
    config = preset(
        system,
        shape,
        decoder_layers=layers,
        live_proportion=None if live is None else Fraction(live),
        rerank_proportion=None if rerank is None else Fraction(rerank),
        pooling=MEAN if system == GLIMMER else FIRST,
    )
    return ReaderSettings(
        config=dataclasses.replace(config, question_tokens=QUESTION_TOKENS),
        max_tokens=MAX_TOKENS,
        answer_tokens=ANSWER_TOKENS,
        retrieved=retrieved,
        selected=selected,
    )


def training_settings(
    batch: int,
    *,
    selected: int | None = None,
    memory_encoder: str = "trained",
    learning_rate: float = COARSE,
    distillation: float = 1.0,
    warmup: int = 0,
    seed: int = 0,
) -> TrainingSettings:
    """For models this small, and never trained before: large steps, and nothing dropped."""
    return TrainingSettings(
        memory_encoder=memory_encoder,
        selected=selected,
        learning_rate=learning_rate,
        warmup=warmup,
        batch=batch,
        micro_batch=batch,
        dropout=0.0,
        distillation=0.0 if selected is None else distillation,
        seed=seed,
    )


def say(text: str) -> None:
    """To stderr, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


_CARD = """\
# {name}

A tiny GLIMMER (4 + 2 layers, width {width}; alpha {live}, beta {rerank}) for the miniwiki, for demonstrations
and tests; it knows nothing else, and is often wrong even there. Made by
`python -m examples.miniwiki models OUT`:

1. A T5.1.1 with weights from which copying is learned soon (`examples.miniwiki.readers.initial_t5`) was
   trained as FiD on one passage that tells the answer, {whole_steps} steps of {batch} questions.
2. From it, with its lower layers reading question and passage apart, {split_steps} steps more.
3. With {retrieved} passages, one of which tells the answer, its score trained by distillation:
   {ranked_steps} steps of {many_batch} questions, then {fine_steps} at a smaller rate. It read all of
   them; asked, it reads the {selected} best. The score is of the mean over the tokens: with a single live
   layer before it, a first token has not met the words of both texts.

Facts (claims) it has not learned to check.

Questions, slots and claims are about {invented} entities that were made up, and about those of the
tables' train split; the best step was chosen on the dev split, and nothing on the test split.
Adafactor, no dropout; learning rate {coarse}, for 2 {finer}, for 3 {coarse} and {finer}. All
text is the project's own.

Exact match on the dev split: {scores}.
"""
