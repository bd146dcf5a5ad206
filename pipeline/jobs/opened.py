"""What a build is made of, opened: sources and models, fingerprinted before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from encoders import fingerprint, memory_spec, retriever_folder
from encoders.memory_encoders import open_encoder
from encoders.memory_spec import MemorySpec
from encoders.retriever import default_backend, require_installed
from encoders.retro.memory import OpenedRetro
from pipeline.components import tokens, vectors
from pipeline.components.memory import encode
from pipeline.components.memory import version as memory_version
from pipeline.components.settings import BuildSettings
from pipeline.components.tokens import OpenedTokenizer
from pipeline.jobs import job
from pipeline.text import chunks, passages, sources
from pipeline.text.wikitext.own_templates import OwnTemplates
from storage import codec_parameters, codecs, errors, stored_file
from storage.aliases import Json


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Sources and models of a build.

    Attributes:
        identity: the plan of the build: what decides it, by which a rerun must agree.
        own: templates of the wiki's own, read once.
        stamps: of the sources' files, which tell that one was changed while it was read.
        tokenizer: that cuts passages, its fingerprint, and the size of its vocabulary; None where words do.
        dim, similarity: of the vectors, and how they are compared.
        memory, width: what makes the memory, with what the encoder's folder says where nothing was asked, and
            its width.
        codec_parameters: those of the codec, where the memory encoder is a reader that was trained with it.
    """

    sources: tuple[sources.Source, ...]
    own: OwnTemplates
    retriever: fingerprint.Fingerprint
    memory_encoder: fingerprint.Fingerprint
    retriever_model: vectors.RetrieverModel
    memory_model: encode.MemoryModel
    tokenizer: OpenedTokenizer | None
    dim: int
    similarity: str
    memory: MemorySpec
    width: int
    codec_parameters: codecs.Parameters | None
    identity: Json
    stamps: tuple[tuple[int, int], ...]

    @property
    def paths(self) -> list[str]:
        """The sources' files."""
        return [str(file) for source in self.sources for file in source.files]

    def require_unchanged(self) -> None:
        """Refuse to put sources' digests beside passages of other bytes."""
        for path, stamp in zip(self.paths, self.stamps, strict=True):
            file = stored_file.at(path)
            if not file.is_file() or _stamp(file) != stamp:
                raise errors.MismatchError(
                    f"source {path} was changed while it was read; build from a copy that stays as it is, "
                    "in another folder"
                )


def open_inputs(settings: BuildSettings) -> Opened:
    """Open what a build names.

    Raises:
        CorpusError: a source or a model that cannot be read, or is none; a file that is given twice.
    """
    own = settings.own_templates()
    settings = _located(settings)
    opened = sources.open_sources(settings.sources)
    files = [file for source in opened for file in source.files]
    stamps = tuple(_stamp(file) for file in files)
    described = {file: _described(file) for file in files}
    sources.refuse_copies((file, described[file]["sha256"]) for file in files)
    model = open_encoder(settings.memory_encoder, settings.memory)
    if isinstance(model, OpenedRetro):
        model.tokenizer()  # refuses: its encoder reads a corpus that is finished
    model.require_loadable(model_parallel=settings.model_parallel)
    settings = replace(settings, memory=model.memory)
    encoder = model.fingerprint
    found = retriever_folder.open_folder(settings.retriever)
    retriever = found.fingerprint
    # Named in the plan, so that an interrupted build goes on with the same.
    backend = settings.retriever_backend or default_backend(found)
    require_installed(found, backend)
    tokenizer = tokens.open_tokenizer(settings)
    # Only where passages are cut by one: a corpus of words has the plan of before there were tokenizers.
    given: Json = {} if tokenizer is None else {"tokenizer": tokenizer.fingerprint.description}
    own_codec = memory_version.reader_codec(settings.memory_encoder)
    parameters = None
    if own_codec is not None and own_codec[0] == codecs.by_name(settings.codec) and own_codec[0].trained:
        parameters = own_codec[1]
        given |= {"codec_parameters": codec_parameters.digests(parameters)}
    return Opened(
        sources=opened,
        own=own,
        stamps=stamps,
        retriever=retriever,
        memory_encoder=encoder,
        retriever_model=vectors.RetrieverModel(
            name=settings.retriever,
            fingerprint=retriever.hex,
            template=settings.retriever_template,
            backend=backend,
            device=settings.device,
        ),
        memory_model=encode.MemoryModel(
            name=settings.memory_encoder,
            fingerprint=encoder.hex,
            memory=settings.memory,
            device=settings.device,
            model_parallel=settings.model_parallel,
        ),
        tokenizer=tokenizer,
        dim=found.dim,
        similarity=found.similarity,
        memory=settings.memory,
        width=model.width,
        codec_parameters=parameters,
        identity={
            "settings": settings.deciding()
            | {
                "templates": own.digest,
                "splitter": passages.VERSION if tokenizer is None else chunks.VERSION,
                "retriever_backend": backend,
                memory_spec.BATCHING: settings.memory.batching,
            },
            "sources": [{"format": s.format, "files": [described[f] for f in s.files]} for s in opened],
            "retriever": retriever.description,
            "memory_encoder": encoder.description,
        }
        | given,
    )


def _located(settings: BuildSettings) -> BuildSettings:
    """With models named so that workers find them, whose current folder may be another."""
    tokenizer = settings.tokenizer
    return replace(
        settings,
        retriever=job.location(settings.retriever),
        memory_encoder=job.location(settings.memory_encoder),
        tokenizer=None if tokenizer is None else job.location(tokenizer),
    )


class _Described(TypedDict):
    """A file of a source, as a plan knows it."""

    name: str
    bytes: int
    sha256: str


def _described(file: Path) -> _Described:
    return {"name": file.name, "bytes": file.stat().st_size, "sha256": fingerprint.digest_file(file)}


def _stamp(file: Path) -> tuple[int, int]:
    """Size and time of change, which tell that a file is not the one that was digested."""
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns
