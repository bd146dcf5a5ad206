"""A RETRO's text, database and memory, opened from corpora and checked to belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoders import document_tokenizer, fingerprint, model_folder
from encoders.retro import memory as retro_memory
from encoders.retro.config import CONDITIONED, STORED, UNCONDITIONED, VECTORS
from encoders.retro.folder import RetroFolder, RetroSettings
from pipeline.readers.retro import bits, encodings
from pipeline.readers.retro.chunks import NONE, Ids
from pipeline.readers.retro.retrieval import OFF, ON, Encodings, Retrieval
from pipeline.readers.retro.run import Text
from retrieval import neighbours as rules
from retrieval.corpus import Corpus
from retrieval.neighbours import NeighbourReader
from storage import components, errors

# Why a model reads no memory version, by its encoding.
_NO_MEMORY = {
    CONDITIONED: "this RETRO's encoder is conditioned on the chunk that asks, so a neighbour has other "
    "states for each chunk and none can be stored",
    UNCONDITIONED: "the encoder of this RETRO is being trained, so what it wrote before is out of date",
    VECTORS: "this RETRO reads the retriever's vectors and no memory version",
}


class CorpusChunks:
    """The chunks of a corpus that was built of tokens, by the ids that it ever gave.

    What an update removed is no chunk any more: it has no token and no document. A document lies in one
    generation, so none has a gap.

    Attributes:
        width: m.
        vocabulary: token ids are below this.

    Raises:
        CorpusError: it was built of words.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self.width = corpus.tokens_card.passage_tokens
        self.vocabulary = corpus.tokens_card.vocabulary

    def __len__(self) -> int:
        return self._corpus.ids_given

    def tokens(self, ids: Ids) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        values = np.zeros((len(ids), self.width), np.int32)
        lengths = np.zeros(len(ids), np.int32)
        there = self._corpus.tombstones.are_there(ids)
        found = self._corpus.tokens(ids[there])
        values[there], lengths[there] = found.values, found.lengths
        return values, lengths

    def documents(self, ids: Ids) -> Ids:
        firsts = np.full(len(ids), NONE, np.int64)
        there = self._corpus.tombstones.are_there(ids)
        firsts[there] = self._corpus.documents(ids[there]).firsts
        return firsts

    def continuations(self, ids: Ids) -> Ids:
        return self._corpus.continuations(ids)


class CorpusTable:
    """A neighbour table of a corpus."""

    def __init__(self, reader: NeighbourReader) -> None:
        self.neighbours, self.fingerprint = reader.k, reader.card.fingerprint
        self._reader = reader

    def fetch(self, ids: Ids) -> Ids:
        return self._reader.fetch(ids).passage_ids


def text(
    corpus: Corpus,
    settings: RetroSettings,
    *,
    mode: str = ON,
    database: Corpus | None = None,
    table: str | None = None,
    memory: str | None = None,
    neighbours: int | None = None,
    own_documents: bool = False,
    seed: int = 0,
    model: RetroFolder | None = None,
) -> Text:
    """A corpus as text, with what is retrieved for it.

    Args:
        corpus: the text.
        settings: of the model that reads.
        mode: of retrieval.
        database: where neighbours lie, if not in the corpus itself.
        table: of the corpus, by name; the only one if not given.
        memory: version of the database, for a model that reads stored states; the current one if not given.
        neighbours: k; the model's if not given.
        own_documents: let neighbours out of a chunk's own document through.
        seed: of "shuffled".
        model: what reads, where it is trained: an unconditioned one may read its own encoder's memory.

    Raises:
        MismatchError: table, database, memory and model do not belong together.
        CorpusError: the corpus has no tokens or no such table.
    """
    chunks = CorpusChunks(corpus)
    if mode == OFF:
        return Text(chunks=chunks, retrieval=None)
    source = corpus if database is None else database
    return Text(
        chunks=chunks,
        retrieval=Retrieval(
            chunks=chunks,
            database=database_of(corpus, chunks, source),
            table=open_table(corpus, source, table),
            neighbours=settings.config.neighbours if neighbours is None else neighbours,
            mode=mode,
            encodings=memory_of(source, settings, memory, model=model),
            own_documents=own_documents,
            seed=seed,
        ),
    )


def database_of(corpus: Corpus, chunks: CorpusChunks, database: Corpus) -> CorpusChunks:
    """The chunks of a database; those of the text itself where both are one corpus, by whatever path each was
    named: then a chunk's own document is among what may be found."""
    one = database is corpus or (
        rules.content(database.folder, database.manifest) == rules.content(corpus.folder, corpus.manifest)
    )
    return chunks if one else CorpusChunks(database)


def nearest(
    corpus: Corpus, *, database: Corpus | None = None, table: str | None = None, own_documents: bool = False
) -> Retrieval:
    """The chunks that overlap is measured with: as the table has them, as many as the paper compares.

    Raises:
        As `text`.
    """
    source = corpus if database is None else database
    own, compared = CorpusChunks(corpus), open_table(corpus, source, table)
    return Retrieval(
        chunks=own,
        database=database_of(corpus, own, source),
        table=compared,
        neighbours=min(bits.COMPARED, compared.neighbours),
        own_documents=own_documents,
    )


def open_table(corpus: Corpus, database: Corpus, name: str | None) -> CorpusTable:
    """A table of a corpus, whose ids are those of `database`.

    Raises:
        MismatchError: they are those of another corpus.
        CorpusError: there is no such table.
    """
    reader = corpus.neighbours(name)
    reader.require_database(database)
    return CorpusTable(reader)


def memory_of(
    database: Corpus, settings: RetroSettings, version: str | None, *, model: RetroFolder | None = None
) -> Encodings | None:
    """The states that a model reads of a database; None for one that encodes tokens.

    Args:
        database: where neighbours lie.
        settings: of the model.
        version: of the database's memory. A model of stored states reads the current one if not given; an
            unconditioned one runs its encoder then, and with it reads what its encoder has written.
        model: the model's folder, where it is trained.

    Raises:
        MismatchError: they were made by another encoder than the model was trained with, or than its own.
        CorpusError: a version is named for a model that reads none.
    """
    config = settings.config
    if config.encoding == STORED:
        memory = database.memory(version)
        parts = 1 if encodings.continued(memory.card) else 2
        return encodings.StoredMemory(
            memory, places=config.neighbour_tokens // parts, encoder=settings.memory_encoder
        )
    if version is not None and config.encoding == UNCONDITIONED and model is not None:
        own = retro_memory.fingerprint_of(model, compute_dtype=settings.compute_dtype)
        return encodings.StoredMemory(
            database.memory(version), places=config.neighbour_tokens, encoder=own.hex
        )
    if version is not None:
        raise errors.CorpusError(f"--memory {version}: {_NO_MEMORY[config.encoding]}; leave it out")
    if config.encoding == VECTORS:
        return encodings.VectorMemory(database, encoder=settings.memory_encoder)
    return None


def require_chunks(corpus: Corpus, opened: RetroFolder) -> None:
    """Refuse a corpus whose chunks a RETRO cannot read: of another size, or of another tokenizer.

    Raises:
        CorpusError: the corpus has other chunks, or none.
        MismatchError: its tokens are of another tokenizer.
    """
    wanted = opened.settings.config.chunk_tokens
    if (there := corpus.tokens_card.passage_tokens) != wanted:
        raise errors.CorpusError(
            f"{corpus.folder} has chunks of {there} tokens, and {opened.path} is a RETRO of {wanted}; build "
            f"one with --passage-tokens {wanted}"
        )
    require_tokenizer(corpus, opened.path)


def require_tokenizer(corpus: Corpus, folder: Path) -> None:
    """Refuse a text whose tokens are another tokenizer's than the model's.

    Raises:
        MismatchError: they are.
    """
    held = document_tokenizer.deciding(corpus.tokens_card.tokenizer_files)
    own = document_tokenizer.deciding(
        {path.name: fingerprint.digest_file(path) for path in model_folder.find_tokenizer_files(folder)}
    )
    if different := fingerprint.differences(held, own):
        if set(held) == set(own):
            told = f"were made by another {different[0]} than that of {folder}"
        else:
            told = f"are by {', '.join(held)}, which cannot be compared with {', '.join(own)} of {folder}"
        raise errors.MismatchError(
            f"the tokens of {corpus.folder} {told}; build the corpus with --tokenizer {folder}"
        )


def described(corpus: Corpus, given: Text) -> dict[str, object]:
    """What of a text decides a run's numbers, for its plan."""
    retrieval = given.retrieval
    found: dict[str, object] = {"passages": corpus.manifest.of(components.PASSAGES)[""].crc32}
    if corpus.generation:
        # The passages' card is of those of the build.
        found["content"] = rules.content(corpus.folder, corpus.manifest)
    if retrieval is not None:
        table = retrieval.table
        found |= {"mode": retrieval.mode, "neighbours": retrieval.neighbours, "seed": retrieval.seed}
        if isinstance(table, CorpusTable):
            found["table"] = table.fingerprint
        if isinstance(retrieval.encodings, encodings.StoredMemory):
            found["memory"] = retrieval.encodings.fingerprint
    return found
