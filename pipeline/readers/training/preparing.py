"""What a training run is made of, read and checked before anything is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from encoders import fingerprint, model_folder
from encoders.reader import folder as reader_folder
from encoders.reader.folder import ReaderFolder, ReaderSettings
from encoders.reader.training import FROZEN, TrainingSettings
from pipeline.readers import questions
from pipeline.readers.collate import Collator
from pipeline.readers.questions import Task
from pipeline.units.same import require_same
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import checked_json, codecs, components, errors, files
from storage.aliases import Json

PLAN = "train.json"
# A reader's memory is rounded to bfloat16 in any case, and float32 has no less.
PLAIN = (codecs.BFLOAT16, codecs.FLOAT32)
# Task names become columns and parts of file names.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """A training run.

    Args:
        corpus: what passages are retrieved from.
        model: a T5.1.1 folder or hub name to begin with, or a reader's folder to train further.
        reader: the model's settings.
        training: of each step.
        steps: how many.
        every: steps between two evaluations on the dev tasks, each with a checkpoint.
        train, dev: task files by name. The best reader is the one of the best mean exact match over the dev
            tasks; the last one where there are none.
        dev_examples: of each dev task, at most; the first ones.
        memory: for a frozen memory encoder, the version to fetch memory from instead of encoding passages;
            None encodes. Its codec becomes the reader's.
        relevant_only: leave out training examples for which nothing relevant was retrieved.
        gold: train with a passage of the provenance among those retrieved; see `questions.with_gold`.

    Raises:
        CorpusError: one is out of range.
    """

    corpus: str
    model: str
    reader: ReaderSettings
    training: TrainingSettings
    steps: int
    every: int = 500
    train: Mapping[str, Path] = field(default_factory=dict)
    dev: Mapping[str, Path] = field(default_factory=dict)
    dev_examples: int = 2000
    memory: str | None = None
    relevant_only: bool = False
    gold: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "every", "dev_examples"):
            if getattr(self, name) < 1:
                raise errors.CorpusError(f"{name} is {getattr(self, name)}, wanted 1 or more")
        for name in (*self.train, *self.dev):
            if not _NAME.fullmatch(name):
                raise errors.CorpusError(
                    f"task {name!r}: wanted a name of letters, digits, and _ . - behind them"
                )
        if not self.train:
            raise errors.CorpusError("there is nothing to train on; give a task file")
        _require_selected(self.training.selected, self.reader)
        if self.memory is not None and self.training.memory_encoder != FROZEN:
            raise errors.CorpusError(
                "memory is fetched from a store only under a frozen memory encoder: with a trained one the "
                "store would be stale after the first step"
            )


def _require_selected(selected: int | None, reader: ReaderSettings) -> None:
    """Refuse an m of training that the reader cannot select."""
    if (selected is None) != (reader.selected is None) or (
        selected is not None and not 1 <= selected <= reader.retrieved
    ):
        raise errors.CorpusError(
            f"training selects {selected} passages of {reader.retrieved}: wanted 1 or more and no more than "
            "are retrieved, and None for a reader that scores none"
        )


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A run's parts.

    Attributes:
        settings: of the run, with the codec of the memory that it reads.
        opened: what training begins with.
        store: the version that memory is fetched from, if any.
        train, dev: the tasks, by name; nothing is retrieved yet.
        collate: makes their batches.
        plan: all that decides the run's numbers.
    """

    settings: RunSettings
    opened: ReaderFolder
    store: MemoryReader | None
    train: tuple[Task, ...]
    dev: tuple[Task, ...]
    collate: Collator
    plan: Mapping[str, object]


def prepare(settings: RunSettings, corpus: Corpus) -> Parts:
    """Read and check all that a run needs; nothing is written.

    Raises:
        KiltError: a task file cannot be used.
        ModelFolderError: the model cannot be.
        MismatchError: the model is another reader, or the memory is of another encoder.
        CorpusError: the corpus has not enough passages.
    """
    if settings.reader.retrieved > len(corpus):
        raise errors.CorpusError(
            f"{settings.reader.retrieved} passages cannot be retrieved from a corpus of {len(corpus)}"
        )
    opened = _open(settings)
    # In the order of their names: a step draws the tasks of its questions by place.
    train = tuple(questions.read_task(name, path) for name, path in sorted(settings.train.items()))
    dev = tuple(
        questions.read_task(f"{name} (dev)", path).first(settings.dev_examples)
        for name, path in sorted(settings.dev.items())
    )
    store = None if settings.memory is None else corpus.memory(settings.memory)
    settings = replace(settings, reader=replace(settings.reader, codec=_codec(settings, store)))
    collate = Collator(corpus, settings.reader, opened.path, memory=store)
    extra = opened.path / reader_folder.EXTRA_WEIGHTS
    if extra.is_file():
        fingerprint.require_finite(model_folder.find_file_tensors(extra))
    plan = {
        "reader": settings.reader.to_json(),
        "training": asdict(settings.training),
        "steps": settings.steps,
        "every": settings.every,
        "tasks": {task.name: task.digest for task in train},
        "dev": {task.name: task.digest for task in dev},
        "dev_examples": settings.dev_examples,
        "relevant_only": settings.relevant_only,
        "gold": settings.gold,
        "memory": None if store is None else store.fingerprint,
        "weights": fingerprint.digest_tensors(model_folder.find_tensors(opened.path)),
        "reader_weights": fingerprint.digest_file(extra) if extra.is_file() else None,
        "tokenizer": {
            path.name: fingerprint.digest_file(path)
            for path in model_folder.find_tokenizer_files(opened.path)
        },
        "passages": corpus.manifest.of(components.PASSAGES)[""].crc32,
        "vectors": corpus.vectors_card.fingerprint,
    }
    if corpus.generation:
        plan["generation"] = corpus.generation
    if settings.reader.codec is not None and (codec := opened.path / reader_folder.CODEC).is_file():
        plan["reader_codec"] = fingerprint.digest_file(codec)
    return Parts(
        settings=settings, opened=opened, store=store, train=train, dev=dev, collate=collate, plan=plan
    )


def _codec(settings: RunSettings, store: MemoryReader | None) -> Json | None:
    """The codec of the memory that is read, as a card has it; None where nothing but rounding is done to it.

    Raises:
        CorpusError: it is unknown, or does not go with the memory's width.
        MismatchError: the store has another.
    """
    asked = None if settings.reader.codec is None else codecs.from_json(dict(settings.reader.codec))
    if store is not None:
        stored = store.card.layout.codec
        if asked is not None and asked != stored:
            raise errors.MismatchError(
                f"memory version {store.card.version} has codec {stored.name}, training asks for "
                f"{asked.name}; leave out the codec, or recode the version by `memcorpus reencode --from`"
            )
        asked = stored
    if asked is None or asked in PLAIN:
        return None
    asked.stored_width(settings.reader.config.t5.d_model)
    return asked.to_json()


def require_folder(out: Path, plan: Mapping[str, object]) -> None:
    """Refuse a folder that holds another run, or something else.

    Raises:
        MismatchError: a run of other settings, tasks or weights; the first difference is named.
        CorpusError: it is no folder, or holds what is no run.
    """
    if out.exists() and not out.is_dir():
        raise errors.CorpusError(f"{out} is a file; give a folder for the run")
    if (out / PLAN).exists():
        require_same(out, checked_json.read(out / PLAN), plan, "was begun")
        return
    held = (
        [path for path in out.iterdir() if not path.name.endswith(files.PARTIAL_SUFFIX)]
        if out.exists()
        else []
    )
    if held:
        raise errors.CorpusError(
            f"{out} holds something else ({held[0].name}, ...), wanted a folder that is new, empty, or of "
            "this run; nothing was changed"
        )


def _open(settings: RunSettings) -> ReaderFolder:
    if not reader_folder.is_reader(settings.model):
        return reader_folder.from_t5(settings.model, settings.reader)
    opened = reader_folder.open_reader(settings.model)
    if different := fingerprint.differences(
        opened.settings.config.to_json(), settings.reader.config.to_json()
    ):
        raise errors.MismatchError(
            f"{settings.model} is a {opened.settings.config.system} with another {different[0]} than asked "
            "for; give its own, or begin with a T5"
        )
    return opened
