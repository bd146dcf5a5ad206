"""A reader answers questions from a corpus: retrieve, fetch memory, read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoders import compiling
from encoders.reader import answering
from encoders.reader import folder as reader_folder
from encoders.reader.folder import ReaderFolder
from encoders.reader.model import Reader
from pipeline.readers.answered import Answered, Read
from pipeline.readers.collate import Collator
from pipeline.readers.kilt import Prediction
from pipeline.readers.kilt.tasks import Example, Provenance
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import codec_parameters, codecs, errors, texts

# Where the memory of passages comes from.
STORE, TEXT = "store", "text"
SOURCES = (STORE, TEXT)
# The share of its length by which stored memory may be off before it matters which codec a reader learned.
UNHEARD = 0.02


class QuestionAnswerer:
    """A reader with a corpus to read.

    Args:
        corpus: open.
        reader: a folder that `memcorpus train` wrote.
        source: "store", memory is fetched by id (any reader but FiD, which has none), or "text", passages
            are encoded live. Both give the same answers but for rounding. None for the store where there is
            memory to read.
        version: of the memory; the corpus's current one if not given.
        retrieved, selected: k and m, as the reader was trained with if not given.
        batch: questions at a time.

    Attributes:
        warning: a line, where the memory is in another codec than the reader was trained with; else None.

    Raises:
        ModelFolderError: the folder holds no reader.
        MismatchError: the memory was written by another encoder than the reader's own.
        CorpusError: another argument is out of range.
    """

    def __init__(
        self,
        corpus: Corpus,
        reader: str | Path,
        *,
        source: str | None = None,
        version: str | None = None,
        retrieved: int | None = None,
        selected: int | None = None,
        batch: int = 8,
    ) -> None:
        opened = reader_folder.open_reader(reader)
        settings = self.settings = opened.settings
        self.source = source or (STORE if settings.config.memory_layers else TEXT)
        if self.source not in SOURCES:
            raise errors.CorpusError(f"memory comes from {source!r}, wanted {' or '.join(SOURCES)}")
        if self.source == STORE and not settings.config.memory_layers:
            raise errors.CorpusError(
                "this reader is FiD: it precomputes nothing and reads no store, but text"
            )
        if batch < 1:
            raise errors.CorpusError(f"a batch of {batch} questions, wanted 1 or more")
        self.batch = batch
        self.retrieved = settings.retrieved if retrieved is None else retrieved
        if not 1 <= self.retrieved <= len(corpus):
            raise errors.CorpusError(
                f"{self.retrieved} passages cannot be retrieved from a corpus of {len(corpus)}"
            )
        self.selected = settings.selected if selected is None else selected
        if self.selected is not None and not settings.config.reranks:
            raise errors.CorpusError(f"this reader is {settings.config.system}: it scores none, reads all")
        if self.selected is not None:
            if selected is not None and selected > self.retrieved:
                raise errors.CorpusError(f"{selected} passages cannot be selected of {self.retrieved}")
            self.selected = min(self.selected, self.retrieved)
        self._corpus = corpus
        memory = corpus.memory(version) if self.source == STORE else None
        compiling.use_kept()
        self._collate = Collator(corpus, settings, opened.path, memory=memory)
        coder = codec_of(opened)
        self.warning = None if memory is None else unlike(coder, memory)
        self._reader = Reader(
            settings.config,
            opened.tensor,
            compute_dtype=settings.compute_dtype,
            memory_dtype="bfloat16",
            coder=coder,
        )

    def answer(
        self, questions: Sequence[str], passage_ids: npt.NDArray[np.int64] | None = None
    ) -> Iterator[Answered]:
        """Answers, in order.

        Args:
            questions: any number.
            passage_ids: [questions, k] to read, -1 where there is none; searched for if not given.

        Raises:
            CorpusError: another number of rows, or fewer passages than are selected.
        """
        if passage_ids is not None:
            if passage_ids.ndim != 2 or len(passage_ids) != len(questions):
                raise errors.CorpusError(
                    f"passage ids have shape {passage_ids.shape}, wanted [{len(questions)}, k]"
                )
            if self.selected is not None and passage_ids.shape[1] < self.selected:
                raise errors.CorpusError(
                    f"{self.selected} passages cannot be selected of {passage_ids.shape[1]}"
                )
        for start in range(0, len(questions), self.batch):
            asked = [texts.valid(question) for question in questions[start : start + self.batch]]
            ids = (
                self._corpus.search(asked, self.retrieved).passage_ids
                if passage_ids is None
                else passage_ids[start : start + self.batch]
            )
            with compiling.counted() as count:
                found = read_batch(
                    self._reader, self._collate, asked, ids, selected=self.selected, rows=self.batch
                )
            if count.compiled:
                compiling.keep_new()
            yield from found


def codec_of(opened: ReaderFolder) -> codecs.Coder | None:
    """The coder of the memory that a reader was trained on; None for one that was trained on no codes.

    Raises:
        CorpusError: the codec is unknown, or its parameters are not its own.
    """
    if opened.settings.codec is None:
        return None
    codec = codecs.from_json(dict(opened.settings.codec))
    return codec.bind(opened.settings.config.t5.d_model, opened.codec_parameters())


def unlike(trained: codecs.Coder | None, memory: MemoryReader) -> str | None:
    """What is to be said of memory in another codec than a reader was trained with; None for nothing.

    Nothing is said of memory that is off what the encoder gave by less than `UNHEARD`, as int8's is: readers
    answer from it as they do from what they were trained on.
    """
    coder, card = memory.coder, memory.card
    same = trained is not None and trained.codec == coder.codec
    digests = codec_parameters.digests(trained.parameters) if trained is not None and same else {}
    if same and digests == dict(card.codec_parameters):
        return None
    lossy = float(card.quality["relative_error"]) > UNHEARD
    if trained is None and not lossy:
        return None
    learned = "as the encoder gives it" if trained is None else f"in {trained.codec.name}"
    what = f"{coder.codec.name} with other codebooks" if same else coder.codec.name
    return (
        f"warning: memory version {card.version} is in {what}, the reader was trained on memory {learned} "
        "and may answer worse; `memcorpus reencode --memory-encoder READER` writes what it was trained on, "
        "`memcorpus train --codec` trains it on codes"
    )


def read_batch(
    reader: Reader,
    collate: Collator,
    questions: Sequence[str],
    passage_ids: npt.NDArray[np.int64],
    *,
    selected: int | None,
    rows: int,
) -> list[Answered]:
    """Answers to one batch of at most `rows` questions."""
    examples = collate(questions, passage_ids, rows=rows)
    found = answering.answer(reader, examples, selected=selected, tokens=collate.settings.answer_tokens)
    texts = collate.decode(found.tokens[: len(questions)])
    answers = []
    for row, text in enumerate(texts):
        chosen = None if found.chosen is None else set(found.chosen[row].tolist())
        answers.append(
            Answered(
                text=text,
                log_probability=float(found.log_probabilities[row]),
                passages=tuple(
                    Read(
                        passage_id=int(passage),
                        score=None if found.scores is None else float(found.scores[row, place]),
                        read=chosen is None or place in chosen,
                    )
                    for place, passage in enumerate(passage_ids[row])
                    if passage >= 0
                ),
            )
        )
    return answers


def predictions(corpus: Corpus, examples: Sequence[Example], answers: Sequence[Answered]) -> list[Prediction]:
    """Answers in KILT's form: the pages of the passages, best first.

    Best by the reader's score where it has one, else as retrieved; a page counts where its best passage is.
    """
    wanted = sorted({read.passage_id for answer in answers for read in answer.passages})
    rows = corpus.passages(wanted, columns=["page_id", "title"]).to_pylist()
    page_of = dict(zip(wanted, rows, strict=True))
    found = []
    for example, answer in zip(examples, answers, strict=True):
        ranked = sorted(answer.passages, key=lambda read: -(read.score or 0.0))
        pages = {page_of[read.passage_id]["page_id"]: page_of[read.passage_id]["title"] for read in ranked}
        provenance = tuple(Provenance(wikipedia_id=str(page), title=title) for page, title in pages.items())
        found.append(
            Prediction(id=example.id, input=example.input, answer=answer.text, provenance=provenance)
        )
    return found
