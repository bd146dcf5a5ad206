"""Vectors: the card `vectors/<fingerprint>/vectors.json`, and their bytes foretold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from storage import errors
from storage.aliases import Json
from storage.components.base import DIGEST, SHORT, Component, Content
from storage.components.read_counts import ReadCounts
from storage.fields import Fields
from storage.files import FileEntry
from storage.vector_array import VectorLayout

# How vectors are compared, in sentence-transformers' words.
DOT: Final = "dot"
COSINE: Final = "cosine"
EUCLIDEAN: Final = "euclidean"
SIMILARITIES: Final = (DOT, COSINE, EUCLIDEAN)


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorsCard:
    """The retriever, what it was given, and the array's layout.

    `fingerprint` is over everything that decides the vectors, `encoder_fingerprint` over the
    retriever alone: a text query must be encoded by the same. `counts` are None where nobody counted, in
    corpora of an earlier release.
    """

    fingerprint: str
    encoder_fingerprint: str
    encoder: Mapping[str, object]
    layout: VectorLayout
    files: FileEntry
    counts: ReadCounts | None = None

    def to_json(self) -> Json:
        counted = {} if self.counts is None else {"counts": self.counts.to_json()}
        return {
            "fingerprint": self.fingerprint,
            "encoder_fingerprint": self.encoder_fingerprint,
            "encoder": dict(self.encoder),
            "layout": self.layout.to_json(),
            "files": self.files.to_json(),
            **counted,
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> VectorsCard:
        fields = Fields(value, where)
        return cls(
            fingerprint=fields.hexadecimal("fingerprint", DIGEST),
            encoder_fingerprint=fields.hexadecimal("encoder_fingerprint", DIGEST),
            encoder=fields.object("encoder"),
            layout=VectorLayout.from_json(fields.object("layout"), f"{where}: layout"),
            files=FileEntry.from_json(fields.object("files")),
            counts=ReadCounts.from_json(fields.nested("counts")) if "counts" in fields else None,
        )

    @property
    def similarity(self) -> str:
        """By which passages are ranked; cards say it where it is not the inner product."""
        found = self.encoder.get("similarity", DOT)
        if found not in SIMILARITIES:
            raise errors.CorpusError(
                f"vectors {self.name[:SHORT]} are compared by {found!r:.40}, wanted one of "
                f"{', '.join(SIMILARITIES)}; a later memcorpus may know it"
            )
        return str(found)

    @property
    def name(self) -> str:
        return self.fingerprint

    @property
    def label(self) -> str:
        return self.layout.dtype

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        return ()

    @property
    def listed(self) -> FileEntry:
        return self.files

    @property
    def contents(self) -> tuple[Content, ...]:
        return (Content(name="vectors", below=f"{VECTORS.folder(self.name)}/c/"),)


VECTORS: Final = Component(noun="vectors", field="vectors", card=VectorsCard)


def foretold_bytes(layout: VectorLayout) -> int:
    """Bytes of the shard files: exact."""
    return layout.rows.foretold_bytes
