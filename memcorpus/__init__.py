"""memcorpus: the offline memory pipeline for retrieval-augmented readers.

    import memcorpus

    corpus = memcorpus.open("corpus")
    found = corpus.search(["Where does the Danube end?"], k=20)
    memory = corpus.memory().fetch(found.passage_ids[0])

This is the public face of the packages `pipeline`, `encoders`, `retrieval` and `storage`. Importing it loads
none of them: each is loaded when something of it is first used, and so are numpy, jax and Beam.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memcorpus import packages
from memcorpus.packages import HiddenPackageError as HiddenPackageError
from memcorpus.packages import MissingLibraryError as MissingLibraryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any, Unpack

    from encoders.errors import EncoderError as EncoderError
    from memcorpus.keywords import BuildKeywords, PlanKeywords
    from pipeline.accounts.plan.form import Plan
    from pipeline.readers.answered import Answered as Answered
    from pipeline.readers.answers import QuestionAnswerer
    from pipeline.units.progress import Observer
    from retrieval.corpus import Corpus as Corpus
    from retrieval.memory import MemoryReader as MemoryReader
    from retrieval.neighbours import Neighbours as Neighbours
    from retrieval.searching import SearchResult as SearchResult
    from retrieval.tokens import Tokens as Tokens
    from storage.errors import CorpusError as CorpusError
    from storage.errors import DamagedError as DamagedError
    from storage.errors import MismatchError as MismatchError
    from storage.errors import TombstoneError as TombstoneError
    from storage.errors import UnknownPassageError as UnknownPassageError
    from storage.ragged import RaggedMemory as RaggedMemory
    from storage.writer.memory_writer import MemoryWriter as MemoryWriter

    __version__: str

__all__ = [
    "Answered",
    "Corpus",
    "CorpusError",
    "DamagedError",
    "EncoderError",
    "HiddenPackageError",
    "MemoryReader",
    "MemoryWriter",
    "MismatchError",
    "MissingLibraryError",
    "Neighbours",
    "RaggedMemory",
    "SearchResult",
    "Tokens",
    "TombstoneError",
    "UnknownPassageError",
    "__version__",
    "answer",
    "build",
    "open",
    "open_reader",
    "open_writer",
    "plan",
]

# Where the names are that are loaded when they are first asked for; the installation without extras has all
# of them.
_MODULES = {
    "Answered": "pipeline.readers.answered",
    "Corpus": "retrieval.corpus",
    "CorpusError": "storage.errors",
    "DamagedError": "storage.errors",
    "EncoderError": "encoders.errors",
    "MemoryReader": "retrieval.memory",
    "MemoryWriter": "storage.writer.memory_writer",
    "MismatchError": "storage.errors",
    "Neighbours": "retrieval.neighbours",
    "RaggedMemory": "storage.ragged",
    "SearchResult": "retrieval.searching",
    "Tokens": "retrieval.tokens",
    "TombstoneError": "storage.errors",
    "UnknownPassageError": "storage.errors",
}


def __getattr__(name: str) -> object:
    import importlib

    if name == "__version__":
        import importlib.metadata

        value: object = importlib.metadata.version("memcorpus")
    elif name in _MODULES:
        module = _MODULES[name]
        with packages.importing((*packages.READING, module.partition(".")[0])):
            value = getattr(importlib.import_module(module), name)
    else:
        raise AttributeError(f"module 'memcorpus' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def open(
    url: str | Path,
    *,
    retriever: str | None = None,
    cache: Path | None = None,
    token: str | None = None,
    generation: int | None = None,
) -> Corpus:
    """Open a finished corpus, to search it and to fetch passages and memory by id.

    Args:
        url: a folder, as a path or a file:// URL; or s3://, gs://, http:// or https://; or the address of a
            service, http://host:port.
        retriever: name or folder of the retriever for text queries; None: the one that the corpus was built
            with, where the build found it.
        cache: where the small files of a remote corpus are kept; None: `~/.cache/memcorpus`.
        token: of a service that asks for one; None: the environment's MEMCORPUS_TOKEN.
        generation: as it was after that update, 0 as it was built; None: as it is now.

    Raises:
        CorpusError: no corpus there, an unfinished one, one of another format, or no such generation.
        DamagedError: the manifest does not match its checksum.
        HiddenPackageError: a foreign package or folder hides one of memcorpus's own.
    """
    with packages.importing(packages.READING):
        from retrieval import opening
    return opening.open_corpus(url, retriever=retriever, cache=cache, token=token, generation=generation)


def open_reader(
    corpus: Corpus | str | Path,
    reader: str | Path,
    *,
    source: str | None = None,
    version: str | None = None,
    retrieved: int | None = None,
    selected: int | None = None,
    batch: int = 8,
) -> QuestionAnswerer:
    """A trained reader with a corpus to read, for many questions: its `answer(questions)` yields answers.

    Args:
        corpus: open, or where it lies.
        reader: a folder that `memcorpus train` wrote.
        source: "store", memory is fetched by id, or "text", passages are encoded live; None: the store, and
            text for FiD, which has no memory.
        version: of the memory; None: the corpus's current one.
        retrieved, selected: passages retrieved and, with GLIMMER, selected of them; None: as it was trained.
        batch: questions at a time.

    Raises:
        EncoderError: the folder holds no reader.
        MismatchError: the memory was written by another encoder than the reader's own.
        CorpusError: another argument is out of range.
        HiddenPackageError, MissingLibraryError: something that it needs cannot be imported.
    """
    with packages.importing(packages.EVERYTHING):
        from pipeline.readers import answers
        from retrieval import corpus as corpora
        from retrieval import opening
    opened = corpus if isinstance(corpus, corpora.Corpus) else opening.open_corpus(corpus)
    return answers.QuestionAnswerer(
        opened, reader, source=source, version=version, retrieved=retrieved, selected=selected, batch=batch
    )


def open_writer(
    folder: str | Path,
    *,
    width: int | None = None,
    max_tokens: int | None = None,
    encoder: str | Mapping[str, object] | None = None,
    codec: str | None = None,
    keys: Iterable[str] | None = None,
    texts: Iterable[str] | None = None,
    passages: int | None = None,
    shard_passages: int | None = None,
    sample: Any = None,
    parameters: Mapping[str, Any] | None = None,
) -> MemoryWriter:
    """Write any model's token states: a new corpus of them, or one more memory version of one that is there.

        writer = memcorpus.open_writer("states", keys=keys, width=768, max_tokens=512, encoder="my-model")
        for shard in writer.missing():
            writer.write(shard, [states_of(key) for key in shard.keys])  # each [tokens, 768]
        writer.publish()
        memory = memcorpus.open("states").memory().fetch([17, 42])

    Killed at any moment, the same program goes on where it was. Several processes open the same writer, and
    take a part each: `writer.missing(part, parts)`. Neither Beam nor JAX nor PyTorch is loaded.

    Args:
        folder: the corpus, on a local disk: new or empty, begun by a writer, or finished by anybody.
        width: dimensions d of a token's states; of several layers together, layers times width.
        max_tokens: most tokens of a passage.
        encoder: what decides the states, as a text or an object that JSON holds: model, revision, layers. The
            version's name is made of it and the codec: other states want another description.
        codec: how states are stored: "bfloat16" (None), "float32", "float16", "int8", "turbo4", "turbo2",
            "pq8x8" and the like.
        keys: of a new corpus: a text for each passage, in order of the ids, none twice. None: the ids.
        texts: of a new corpus: a text for each passage, where readers want it.
        passages: of a new corpus without keys and texts: how many there are.
        shard_passages: passages of a shard, which is written whole, and again after a kill; None: as many as
            make 512 MiB.
        sample: states [n, width] that int8 and pq are trained on, when the version is begun.
        parameters: of such a codec, instead: what `storage.codecs.by_name(codec).train(sample)` gives.

        Of what is begun already, all may be left out; what is given must be the same.

    Raises:
        CorpusError: something is missing or out of range, the folder holds something else, another job is at
            work there; what was there is untouched.
        MismatchError: what is there was begun with other arguments.
        HiddenPackageError: a foreign package or folder hides one of memcorpus's own.
    """
    with packages.importing(packages.READING):
        from storage.writer import opening
    return opening.open_writer(
        folder,
        width=width,
        max_tokens=max_tokens,
        encoder=encoder,
        codec=codec,
        keys=keys,
        texts=texts,
        passages=passages,
        shard_passages=shard_passages,
        sample=sample,
        parameters=parameters,
    )


def answer(
    corpus: Corpus | str | Path,
    questions: str | Sequence[str],
    *,
    reader: str | Path,
    source: str | None = None,
    version: str | None = None,
    retrieved: int | None = None,
    selected: int | None = None,
) -> list[Answered]:
    """Answers to questions, in their order: text, log-probability, and the passages that were read.

    The reader is loaded and compiled for this call alone; who asks again and again keeps an `open_reader`.

    Args:
        corpus: open, or where it lies.
        questions: any number; a single text counts as one.
        reader: a folder that `memcorpus train` wrote.
        source, version, retrieved, selected: see `open_reader`.

    Raises:
        As `open_reader`.
    """
    asked = [questions] if isinstance(questions, str) else list(questions)
    batch = max(1, min(8, len(asked)))
    opened = open_reader(
        corpus, reader, source=source, version=version, retrieved=retrieved, selected=selected, batch=batch
    )
    return list(opened.answer(asked))


def build(
    out: str | Path,
    *,
    config: str | Path | None = None,
    engine: str | None = None,
    beam_options: Sequence[str] = (),
    observer: Observer | None = None,
    **settings: Unpack[BuildKeywords],
) -> Corpus:
    """Build a corpus, or go on with one that was interrupted, and open it.

    Args:
        out: the corpus folder, or where it is to lie in s3:// or gs://; new, empty, or that of an earlier run
            of the same build.
        config: a TOML file of settings; those that are given here win.
        engine: what deals the work out: "beam", this machine or what `beam_options` say; or
            "dask:SCHEDULER".
        beam_options: Beam's own options.
        observer: shown the progress; None: nobody.
        settings: `sources`, `retriever`, `memory_encoder`, of a T5 `live_proportion`, and what
            `pipeline.components.settings.BuildSettings` says more.

    Raises:
        CorpusError: bad input; what was in `out` is untouched.
        DamagedError: something that an earlier stage wrote has changed.
        EncoderError: a model's folder, or a setting of the memory, cannot be used.
        RuntimeError: a worker process was killed; the same call goes on from there.
        HiddenPackageError, MissingLibraryError: something that it needs cannot be imported.
    """
    from pathlib import Path

    with packages.importing(packages.EVERYTHING):
        from pipeline.components.settings import BuildSettings
        from pipeline.jobs import build as jobs
        from pipeline.units import engines
        from retrieval import opening

        # Beam comes with the engine that needs it.
        chosen = engines.chosen(engine, beam_options)
    given = {name: str(value) if name == "live_proportion" else value for name, value in settings.items()}
    loaded = BuildSettings.load(None if config is None else Path(config), given)
    jobs.build(loaded, opening.writable_folder(out), engine=chosen, observer=observer)
    return open(out, retriever=loaded.retriever)


def plan(**asked: Unpack[PlanKeywords]) -> Plan:
    """What a corpus would take, before anything is built: bytes, FLOPs, hours, prices, what a question costs.

    Args:
        asked: `sources`, or `passages` and `tokens_per_passage`; `memory_encoder` or `sizes`; `device`, or a
            `retriever` to measure this machine with; and what `pipeline.accounts.plan.asking.PlanSettings`
            says more.

    Returns:
        What `memcorpus plan --json` prints; docs/plan.schema.json has its shape.

    Raises:
        CorpusError: an unknown codec, device or storage class, numbers that fit no corpus, no such source.
        EncoderError: α gives no whole number of layers, or a model's folder cannot be used.
        HiddenPackageError, MissingLibraryError: something that it needs cannot be imported.
    """
    with packages.importing(packages.EVERYTHING):
        from pipeline.accounts.plan import asking
    return asking.plan(asking.PlanSettings.load(asked))
