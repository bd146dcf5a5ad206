"""The index: the card `index/<fingerprint>/index.json` of a FAISS file over the vectors of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from storage.aliases import Json
from storage.components.base import DIGEST, Component, Content
from storage.fields import Fields
from storage.files import FileEntry

FILE: Final = "index.faiss"
# Candidates for each passage wanted, that a card may ask for: a search reads as many vectors.
MOST_REFINED: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexCard:
    """FAISS's name of the index, its parameters and file.

    `recall_at_10` is the share of the exact ten nearest passages that the index returns, over a
    sample of `recall_queries` of the corpus's own vectors.

    The index of an update holds `passages` rows from `first_passage_id` on: those that it added, to be put
    behind the rows of the index before it, or from 0 all that there are, where it was trained again.

    `refined` is how many candidates of the index a search compares again by their stored vectors, for each
    passage wanted; 0: none, as with every index of a release that did not. `recall_at_10` is of that search,
    `codes_recall_at_10` what the index alone would find, and `target_recall` what its probes were chosen for.
    """

    fingerprint: str
    kind: str
    parameters: Mapping[str, int]
    passages: int
    dim: int
    recall_at_10: float
    recall_queries: int
    file: FileEntry
    first_passage_id: int | None = None
    refined: int = 0
    target_recall: float | None = None
    codes_recall_at_10: float | None = None

    def to_json(self) -> Json:
        return {
            "fingerprint": self.fingerprint,
            "kind": self.kind,
            "parameters": dict(self.parameters),
            "passages": self.passages,
            "dim": self.dim,
            "recall_at_10": self.recall_at_10,
            "recall_queries": self.recall_queries,
            "file": self.file.to_json(),
            **({} if self.first_passage_id is None else {"first_passage_id": self.first_passage_id}),
            **({"refined": self.refined} if self.refined else {}),
            **({} if self.target_recall is None else {"target_recall": self.target_recall}),
            **({} if self.codes_recall_at_10 is None else {"codes_recall_at_10": self.codes_recall_at_10}),
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> IndexCard:
        fields = Fields(value, where)
        parameters = fields.nested("parameters")
        return cls(
            fingerprint=fields.hexadecimal("fingerprint", DIGEST),
            kind=fields.text("kind"),
            parameters={name: parameters.integer(name) for name in ("lists", "probes")},
            passages=fields.integer("passages"),
            dim=fields.integer("dim", least=1),
            recall_at_10=fields.number("recall_at_10", most=1),
            recall_queries=fields.integer("recall_queries"),
            file=FileEntry.from_json(fields.object("file")),
            first_passage_id=fields.integer("first_passage_id") if "first_passage_id" in fields else None,
            refined=fields.integer("refined", most=MOST_REFINED) if "refined" in fields else 0,
            target_recall=fields.number("target_recall", most=1) if "target_recall" in fields else None,
            codes_recall_at_10=fields.number("codes_recall_at_10", most=1)
            if "codes_recall_at_10" in fields
            else None,
        )

    @property
    def name(self) -> str:
        return self.fingerprint

    @property
    def label(self) -> str:
        return self.kind

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        return (self.file,)

    @property
    def listed(self) -> None:
        return None

    @property
    def contents(self) -> tuple[Content, ...]:
        return (Content(name="FAISS file", entries=(self.file,)),)


INDEX: Final = Component(noun="index", field="indexes", card=IndexCard)
