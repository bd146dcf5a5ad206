"""Vectors: the card `vectors/<fingerprint>/vectors.json`, and their bytes foretold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from storage.aliases import Json
from storage.components.base import DIGEST, Component, Content
from storage.fields import Fields
from storage.files import FileEntry
from storage.vector_array import VectorLayout


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorsCard:
    """The retriever, what it was given, and the array's layout.

    `fingerprint` is over everything that decides the vectors, `encoder_fingerprint` over the
    retriever alone: a text query must be encoded by the same.
    """

    fingerprint: str
    encoder_fingerprint: str
    encoder: Mapping[str, object]
    layout: VectorLayout
    files: FileEntry

    def to_json(self) -> Json:
        return {
            "fingerprint": self.fingerprint,
            "encoder_fingerprint": self.encoder_fingerprint,
            "encoder": dict(self.encoder),
            "layout": self.layout.to_json(),
            "files": self.files.to_json(),
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
        )

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
