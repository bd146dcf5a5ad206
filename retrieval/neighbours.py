"""Tables of neighbours, and the rules of what a neighbour is; no other place knows them.

- A neighbour is a passage id of the table's database, or -1, which is none. -1 is masked and never an index:
  whatever is read of it is nothing.
- The continuation of a passage is the next one of the same document; the last one of a document has none.
- A passage's own document holds no neighbour of it.

Sources: Borgeaud et al. 2021 (RETRO), sections 2.1 and 2.3.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from retrieval.documents import Ordinals
from retrieval.tokens import Tokens
from storage import components, errors, ids
from storage.aliases import AnyArray, Json
from storage.components import AnyComponent, Card, NeighboursCard, TokensCard
from storage.components.base import SHORT
from storage.components.neighbours import IDS, SCORES
from storage.folder import CorpusFolder
from storage.manifest import Manifest
from storage.row_array import RowArray

NONE: Final = -1
# Rules of what is left out: the passage's own document, or nothing (the database is another corpus).
OWN_DOCUMENT: Final = "own document excluded"
ANY: Final = "nothing excluded"


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """The k nearest passages of each of n, best first.

    Attributes:
        passage_ids: int64 [n, k] of the table's database; -1 where there is none, behind all that are.
        scores: float32 [n, k], inner products (of a search in lists, with what the index's codes say; of
            vectors that are compared by cosine, their cosines); -inf where there is none.
    """

    passage_ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Bool [n, k]: is there a neighbour?"""
        mask: npt.NDArray[np.bool_] = self.passage_ids != NONE
        return mask


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrieved:
    """Tokens of neighbours, each with its continuation: RETRO's [N, F].

    Attributes:
        values: uint16 or uint32 [..., 2m]: the neighbour's tokens from 0 on, its continuation's from m on.
        mask: bool [..., 2m]: is there a token? False throughout where there is no neighbour.
    """

    values: AnyArray
    mask: npt.NDArray[np.bool_]


def continuations(ordinals: Ordinals, passage_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The passage behind each one, in the same document; -1 behind a document's last, and of -1.

    Args:
        ordinals: of the corpus.
        passage_ids: of any shape; ids of the corpus, or -1.

    Raises:
        UnknownPassageError: another id.
    """
    wanted = np.asarray(passage_ids)
    flat = _known(wanted.ravel(), len(ordinals))
    found = np.full(flat.shape, NONE, np.int64)
    # The corpus's last passage has none behind it.
    some = np.flatnonzero((flat != NONE) & (flat + 1 < len(ordinals)))
    here = flat[some]
    follows = ordinals.take(here + 1) == ordinals.take(here) + 1
    found[some[follows]] = here[follows] + 1
    return found.reshape(wanted.shape)


def _known(flat: npt.NDArray[np.int64], passages: int) -> npt.NDArray[np.int64]:
    """Ids that are passages or -1."""
    if flat.size == 0:
        return np.zeros(0, np.int64)
    some = flat != NONE
    known = np.full(flat.shape, NONE, np.int64)
    known[some] = ids.as_ids(flat[some], passages)
    return known


class Database(Protocol):
    """What is asked here of a corpus in which neighbours lie; `retrieval.corpus.Corpus` is one."""

    folder: CorpusFolder
    manifest: Manifest

    def __len__(self) -> int: ...

    @property
    def ids_given(self) -> int:
        """One more than the last passage id that was ever given."""

    @property
    def tokens_card(self) -> TokensCard:
        """What its chunks' tokens are."""

    def tokens(self, passage_ids: npt.ArrayLike) -> Tokens:
        """The tokens of chunks, in the order asked."""

    def continuations(self, passage_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The next passage of the same document, -1 where there is none."""


def retrieved(corpus: Database, passage_ids: npt.ArrayLike) -> Retrieved:
    """The tokens of neighbours and of their continuations.

    Args:
        corpus: the database of the table that they come from, of chunks.
        passage_ids: of any shape; -1 is none.

    Raises:
        CorpusError: its passages are no chunks.
        UnknownPassageError: an id that it does not have.
    """
    wanted = np.asarray(passage_ids)
    flat = _known(wanted.ravel(), corpus.ids_given)
    both = np.stack([flat, corpus.continuations(flat)], axis=1)
    tokens = corpus.tokens_card.passage_tokens
    values = np.zeros((*both.shape, tokens), corpus.tokens_card.layout.dtype)
    mask = np.zeros(values.shape, bool)
    some = both != NONE
    if some.any():
        unique, back = np.unique(both[some], return_inverse=True)
        found = corpus.tokens(unique)
        values[some], mask[some] = found.values[back], found.mask[back]
    shape = (*wanted.shape, 2 * tokens)
    return Retrieved(values=values.reshape(shape), mask=mask.reshape(shape))


def content(folder: CorpusFolder, manifest: Manifest) -> str:
    """SHA-256 over the cards of a corpus's passages and vectors, which answer for every byte of both.

    It stays what it is when memory versions, tables or names come and go.
    """
    found: Json = {}
    rows: tuple[AnyComponent, ...] = (components.PASSAGES, components.VECTORS)
    for component in rows:
        for name, entry in manifest.of(component).items():
            card: Card = folder.card_at(component, name, entry)
            found[f"{component.noun}/{name}"] = card.to_json()
    # Each update is what its checksums say, of what it added and of what it removed.
    for generation in manifest.generations:
        found[f"generation {generation.number}"] = [
            None if generation.removed is None else generation.removed.to_json(),
            *(entry.to_json() for row in rows for entry in generation.of(row).values()),
        ]
    text = json.dumps(found, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def find(folder: CorpusFolder, manifest: Manifest, name: str | None) -> NeighboursCard:
    """The card of a table, by its name, its title, or how its name begins; None: the only one.

    Raises:
        CorpusError: there is none, or more than one.
    """
    entries = manifest.of(components.NEIGHBOURS)
    cards = [folder.card_at(components.NEIGHBOURS, key, entry) for key, entry in entries.items()]
    found = [card for card in cards if name is None or name in (card.title, card.name)]
    if name and not found:
        found = [card for card in cards if card.fingerprint.startswith(name)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{card.title or card.name} ({card.label})" for card in cards) or "none"
    if name is None:
        wanted = (
            "has no table of neighbours; make one by `memcorpus neighbours`"
            if not cards
            else (f"has several tables of neighbours: {known}; name one")
        )
        raise errors.CorpusError(f"the corpus in {folder} {wanted}")
    many = "several tables" if found else "no table"
    raise errors.CorpusError(f"{many} of neighbours {name[:100]!r} in {folder}; known: {known}")


class NeighbourReader:
    """Reads a table of neighbours by passage id, every chunk of it checked. Thread-safe."""

    def __init__(self, folder: CorpusFolder, card: NeighboursCard) -> None:
        self.card = card
        below = components.NEIGHBOURS.folder(card.name)
        arrays = {
            name: RowArray(folder.store(f"{below}/{name}"), layout)
            for name, layout in card.layout.arrays.items()
        }
        self._ids, self._scores = arrays[IDS], arrays[SCORES]

    def __len__(self) -> int:
        """Passages that the table has neighbours of."""
        return self.card.layout.grid.passages

    @property
    def k(self) -> int:
        """Neighbours of a passage, at most."""
        return self.card.layout.k

    @property
    def name(self) -> str:
        """The first digits of the table's fingerprint."""
        return self.card.fingerprint[:SHORT]

    def fetch(self, passage_ids: npt.ArrayLike) -> Neighbours:
        """The neighbours of passages [n], in the order asked, duplicates allowed.

        Raises:
            UnknownPassageError: naming ids that the table does not have.
            DamagedError: bytes that do not match their checksum, or an id that the database does not have.
        """
        wanted = ids.as_ids(passage_ids, len(self))
        if not len(wanted):
            return Neighbours(
                passage_ids=np.zeros((0, self.k), np.int64), scores=np.zeros((0, self.k), np.float32)
            )
        found = self._ids.take(wanted).astype(np.int64)
        if (found < NONE).any() or (found >= self.card.database.passages).any():
            raise errors.DamagedError(
                f"table {self.name} of neighbours names passages that its database has not; "
                "run `memcorpus verify`"
            )
        return Neighbours(passage_ids=found, scores=self._scores.take(wanted).astype(np.float32))

    def require_database(self, corpus: Database) -> None:
        """Refuse a corpus in which the table's ids would be other passages.

        Raises:
            MismatchError: it is not the table's database.
        """
        if content(corpus.folder, corpus.manifest) != self.card.database.content:
            raise errors.MismatchError(
                f"table {self.name} of neighbours was searched in {self.card.database.name} "
                f"({self.card.database.passages:,} passages), not in {corpus.folder}; open that one"
            )
