"""`corpus.json`, the manifest: what a corpus is made of. Written last; a folder without it is no corpus.

The manifest points at the card of each component (passages, vectors, index, memory version) with the
card's checksum, and each card at its files with theirs, so every stored byte hangs on the manifest.
Manifest and cards depend on the sources and settings alone; times and machines are in `statistics/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from storage import errors, file_list, files
from storage.canaries import CanaryCard
from storage.memory_store import MemoryLayout
from storage.passage_table import Part
from storage.vector_array import VectorLayout

FORMAT: Final = 1
NAME: Final = "corpus.json"
WORK: Final = "work"
# The version that readers open, and the one they opened before the last switch.
CURRENT: Final = "current"
PREVIOUS: Final = "previous"
PASSAGES_CARD: Final = "passages/passages.json"
BUILD: Final = "build"
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


def statistics_path(name: str) -> str:
    """Times of the build, or of the memory version that was added under that name."""
    return f"statistics/{name}.json"


def units_path(name: str) -> str:
    return f"statistics/{name}-units.parquet"


def vectors_folder(fingerprint: str) -> str:
    return f"vectors/{fingerprint[:16]}"


def index_folder(fingerprint: str) -> str:
    return f"index/{fingerprint[:16]}"


def version_name(fingerprint: str) -> str:
    """A memory version's name, from its fingerprint."""
    return fingerprint[:16]


def memory_folder(version: str) -> str:
    return f"memory/{version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PassagesCard:
    """`passages/passages.json`: the parts in order, the splitter, the reconciled counts."""

    passages: int
    words: int
    splitter: Mapping[str, Any]
    counts: Mapping[str, int]
    parts: tuple[Part, ...]
    quarantine: files.FileEntry

    def to_json(self) -> dict[str, Any]:
        return {
            "passages": self.passages,
            "words": self.words,
            "splitter": dict(self.splitter),
            "counts": dict(self.counts),
            "quarantine": self.quarantine.to_json(),
            "parts": [part.to_json() for part in self.parts],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PassagesCard:
        return cls(
            passages=int(value["passages"]),
            words=int(value["words"]),
            splitter=dict(value["splitter"]),
            counts={str(k): int(v) for k, v in value["counts"].items()},
            quarantine=files.FileEntry.from_json(value["quarantine"]),
            parts=tuple(Part.from_json(part) for part in value["parts"]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorsCard:
    """`vectors/<fingerprint>/vectors.json`: the retriever, what it was given, and the array's layout.

    `fingerprint` is over everything that decides the vectors, `encoder_fingerprint` over the
    retriever alone: a text query must be encoded by the same.
    """

    fingerprint: str
    encoder_fingerprint: str
    encoder: Mapping[str, Any]
    layout: VectorLayout
    files: files.FileEntry

    def to_json(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "encoder_fingerprint": self.encoder_fingerprint,
            "encoder": dict(self.encoder),
            "layout": self.layout.to_json(),
            "files": self.files.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> VectorsCard:
        return cls(
            fingerprint=str(value["fingerprint"]),
            encoder_fingerprint=str(value["encoder_fingerprint"]),
            encoder=dict(value["encoder"]),
            layout=VectorLayout.from_json(value["layout"]),
            files=files.FileEntry.from_json(value["files"]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexCard:
    """`index/<fingerprint>/index.json`: the FAISS file over the vectors of the same fingerprint.

    `recall_at_10` is the share of the exact ten nearest passages that the index returns, over a
    sample of `recall_queries` of the corpus's own vectors.
    """

    fingerprint: str
    kind: str
    parameters: Mapping[str, int]
    passages: int
    dim: int
    recall_at_10: float
    recall_queries: int
    file: files.FileEntry

    def to_json(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "kind": self.kind,
            "parameters": dict(self.parameters),
            "passages": self.passages,
            "dim": self.dim,
            "recall_at_10": self.recall_at_10,
            "recall_queries": self.recall_queries,
            "file": self.file.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> IndexCard:
        return cls(
            fingerprint=str(value["fingerprint"]),
            kind=str(value["kind"]),
            parameters={str(k): int(v) for k, v in value["parameters"].items()},
            passages=int(value["passages"]),
            dim=int(value["dim"]),
            recall_at_10=float(value["recall_at_10"]),
            recall_queries=int(value["recall_queries"]),
            file=files.FileEntry.from_json(value["file"]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryCard:
    """`memory/<version>/memory.json`: the encoder, the layout with the codec, and the counts.

    `fingerprint` is over the encoder and the codec, `encoder_fingerprint` over the encoder alone.
    `settings` are those of the build or re-encoding that decide its bytes beside the model and the
    codec. `codec_parameters` are the SHA-256 of the codec's trained parameters by name.
    `origin` is the fingerprint of the version that this one was recoded from, if it was. `rows` are
    the files of `offsets` and `checksums`; `files` lists all others. `quality` is what the codec lost
    on the canaries; see `canaries.Difference`.
    """

    version: str
    fingerprint: str
    encoder_fingerprint: str
    encoder: Mapping[str, Any]
    settings: Mapping[str, Any]
    origin: str | None
    layout: MemoryLayout
    codec_parameters: Mapping[str, str]
    counts: Mapping[str, int]
    rows: tuple[files.FileEntry, ...]
    canaries: CanaryCard
    quality: Mapping[str, float]
    files: files.FileEntry

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "fingerprint": self.fingerprint,
            "encoder_fingerprint": self.encoder_fingerprint,
            "encoder": dict(self.encoder),
            "settings": dict(self.settings),
            "origin": self.origin,
            "layout": self.layout.to_json(),
            "codec_parameters": dict(self.codec_parameters),
            "counts": dict(self.counts),
            "rows": [entry.to_json() for entry in self.rows],
            "canaries": self.canaries.to_json(),
            "quality": dict(self.quality),
            "files": self.files.to_json(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> MemoryCard:
        return cls(
            version=str(value["version"]),
            fingerprint=str(value["fingerprint"]),
            encoder_fingerprint=str(value["encoder_fingerprint"]),
            encoder=dict(value["encoder"]),
            settings=dict(value["settings"]),
            origin=None if value["origin"] is None else str(value["origin"]),
            layout=MemoryLayout.from_json(value["layout"]),
            codec_parameters={str(k): str(v) for k, v in value["codec_parameters"].items()},
            counts={str(k): int(v) for k, v in value["counts"].items()},
            rows=tuple(files.FileEntry.from_json(entry) for entry in value["rows"]),
            canaries=CanaryCard.from_json(value["canaries"]),
            quality={str(k): float(v) for k, v in value["quality"].items()},
            files=files.FileEntry.from_json(value["files"]),
        )


Card = PassagesCard | VectorsCard | IndexCard | MemoryCard


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The content of `corpus.json`. Each component is named with the entry of its card's file."""

    settings: Mapping[str, Any]
    sources: tuple[Mapping[str, Any], ...]
    passages: files.FileEntry
    vectors: Mapping[str, files.FileEntry]
    indexes: Mapping[str, files.FileEntry]
    memory: Mapping[str, files.FileEntry]
    aliases: Mapping[str, str]

    def write(self, root: Path) -> None:
        """Make the corpus visible: one rename."""
        files.write_json(
            root / NAME,
            {
                "format": FORMAT,
                "settings": dict(self.settings),
                "sources": [dict(source) for source in self.sources],
                "passages": self.passages.to_json(),
                "vectors": {k: v.to_json() for k, v in self.vectors.items()},
                "indexes": {k: v.to_json() for k, v in self.indexes.items()},
                "memory": {k: v.to_json() for k, v in self.memory.items()},
                "aliases": dict(self.aliases),
            },
        )

    @classmethod
    def read(cls, root: Path) -> Manifest:
        """Read and check `corpus.json`.

        Raises:
            CorpusError: no corpus there, one that is still being built, or another format.
            DamagedError: the file does not match its own checksum.
        """
        path = root / NAME
        if not path.is_file():
            if (root / WORK / "plan.json").is_file():
                raise errors.CorpusError(
                    f"the corpus in {root} is not finished; run the same `memcorpus build` again"
                )
            raise errors.CorpusError(f"{root} holds no corpus: there is no {NAME} in it")
        value = files.read_json(path)
        if value.get("format") != FORMAT:
            raise errors.CorpusError(
                f"{path} has format {value.get('format')!r:.100}, this version reads {FORMAT}; "
                "use a newer memcorpus"
            )
        entries = files.FileEntry.from_json
        try:
            found = cls(
                settings=dict(value["settings"]),
                sources=tuple(dict(source) for source in value["sources"]),
                passages=entries(value["passages"]),
                vectors={str(k): entries(v) for k, v in value["vectors"].items()},
                indexes={str(k): entries(v) for k, v in value["indexes"].items()},
                memory={str(k): entries(v) for k, v in value["memory"].items()},
                aliases={str(k): str(v) for k, v in value["aliases"].items()},
            )
        except errors.CorpusError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise errors.CorpusError(f"{path} lacks or misshapes {e}") from e
        for name in (*found.vectors, *found.indexes, *found.memory):
            # They name folders, which are read, and removed.
            if not _NAME.fullmatch(name):
                raise errors.CorpusError(f"{path} names a component {name!r:.100}, which is no plain name")
        return found

    def version(self, name: str | None) -> str:
        """The memory version that a name, an alias or None (the current one) stands for."""
        wanted = CURRENT if name is None else name
        version = self.aliases.get(wanted, wanted)
        if version not in self.memory:
            known = ", ".join([*self.memory, *self.aliases]) or "none"
            raise errors.CorpusError(f"no memory version {wanted!r} in this corpus; known: {known}")
        return version


def switched(aliases: Mapping[str, str], version: str) -> dict[str, str]:
    """Aliases with another current version; the one before stays known as `previous`."""
    before = aliases[CURRENT]
    if before == version:
        return dict(aliases)
    return {**aliases, CURRENT: version, PREVIOUS: before}


def read_card(root: Path, entry: files.FileEntry) -> dict[str, Any]:
    """The JSON of a card, checked against the manifest's entry."""
    if entry.bytes > files.MAX_JSON_BYTES:
        raise errors.CorpusError(f"{entry.path} has {entry.bytes:,} bytes, which no card has")
    if wrong := files.damage(root, entry):
        raise errors.DamagedError(f"{wrong}; run `memcorpus verify`")
    return files.read_json(files.inside(root, entry.path))


def parse(kind: type[Any], root: Path, entry: files.FileEntry) -> Any:
    """Read a card as one of the four classes above; a missing or misshapen field is a CorpusError."""
    value = read_card(root, entry)
    try:
        return kind.from_json(value)
    except errors.CorpusError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as e:
        raise errors.CorpusError(f"{entry.path} lacks or misshapes {e}") from e


def read_passages(root: Path, manifest: Manifest) -> PassagesCard:
    card: PassagesCard = parse(PassagesCard, root, manifest.passages)
    return card


def read_vectors(root: Path, manifest: Manifest, fingerprint: str) -> VectorsCard:
    card: VectorsCard = parse(VectorsCard, root, manifest.vectors[fingerprint])
    if card.fingerprint != fingerprint:
        raise errors.MismatchError(f"the card of vectors {fingerprint} is that of {card.fingerprint!r:.100}")
    return card


def read_index(root: Path, manifest: Manifest, fingerprint: str) -> IndexCard:
    card: IndexCard = parse(IndexCard, root, manifest.indexes[fingerprint])
    return card


def read_memory(root: Path, manifest: Manifest, version: str) -> MemoryCard:
    card: MemoryCard = parse(MemoryCard, root, manifest.memory[version])
    return card


def components(root: Path, manifest: Manifest) -> Iterator[tuple[str, Iterator[files.FileEntry]]]:
    """Every component's folder, and every file in it that the manifest answers for, its card first.

    An iterator raises where the card or the list of files is damaged; the other components' do not.
    """
    yield "passages", _passages_files(root, manifest)
    for name, entry in manifest.vectors.items():
        yield vectors_folder(name), _listed_files(VectorsCard, root, entry)
    for name, entry in manifest.indexes.items():
        yield index_folder(name), _index_files(root, entry)
    for name, entry in manifest.memory.items():
        yield memory_folder(name), _memory_files(root, entry)


def _passages_files(root: Path, manifest: Manifest) -> Iterator[files.FileEntry]:
    yield manifest.passages
    card = read_passages(root, manifest)
    yield card.quarantine
    yield from (part.file for part in card.parts)


def _listed_files(kind: type[Any], root: Path, entry: files.FileEntry) -> Iterator[files.FileEntry]:
    yield entry
    card = parse(kind, root, entry)
    yield card.files
    yield from file_list.read(root, card.files)


def _memory_files(root: Path, entry: files.FileEntry) -> Iterator[files.FileEntry]:
    yield entry
    card: MemoryCard = parse(MemoryCard, root, entry)
    yield from card.rows
    yield card.canaries.file
    yield card.files
    yield from file_list.read(root, card.files)


def _index_files(root: Path, entry: files.FileEntry) -> Iterator[files.FileEntry]:
    yield entry
    yield parse(IndexCard, root, entry).file
