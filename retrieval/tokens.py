"""The tokens of a corpus of chunks, by passage id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrieval.documents import StoredOrdinals
from storage import components, errors
from storage.aliases import AnyArray
from storage.components.tokens import LENGTHS, ORDINALS, VALUES
from storage.joined import JoinedRows
from storage.row_array import RowArray
from storage.segments import Segment


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """The tokens of n chunks.

    Attributes:
        values: uint16 or uint32 [n, m], m the tokens of a full chunk. Behind a chunk's length stands 0, which
            may be a token too: `mask` tells.
        lengths: int64 [n], 1 to m.
    """

    values: AnyArray
    lengths: npt.NDArray[np.int64]

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Bool [n, m]: is there a token?"""
        return np.arange(self.values.shape[1]) < self.lengths[:, None]


class TokenReader:
    """Reads tokens and ordinals, every chunk of them checked. Thread-safe."""

    def __init__(self, parts: Sequence[Segment]) -> None:
        """
        Raises:
            MismatchError: parts of the corpus are cut by other tokenizers.
            DamagedError: one is of other passages.
        """
        cards = [part.card(components.TOKENS) for part in parts]
        self.card = cards[0]
        below = components.TOKENS.folder("")
        pieces: dict[str, list[tuple[int, RowArray]]] = {name: [] for name in self.card.layout.arrays}
        for part, card in zip(parts, cards, strict=True):
            if (card.tokenizer, card.passage_tokens, card.layout.dtype) != (
                self.card.tokenizer,
                self.card.passage_tokens,
                self.card.layout.dtype,
            ):
                raise errors.MismatchError(
                    f"tokens of generation {part.number} are by tokenizer {card.tokenizer[:16]}, "
                    f"those of the build by {self.card.tokenizer[:16]}"
                )
            if card.layout.grid.passages != part.passages:
                raise errors.DamagedError(
                    f"tokens are of {card.layout.grid.passages} passages, the corpus has {part.passages}"
                )
            for name, layout in card.layout.arrays.items():
                array = RowArray(part.folder.store(f"{below}/{name}"), layout)
                pieces[name].append((part.first, array))
        arrays = {name: JoinedRows(found, parts[-1].stop) for name, found in pieces.items()}
        self._values, self._lengths = arrays[VALUES], arrays[LENGTHS]
        self.ordinals = StoredOrdinals(arrays[ORDINALS])

    def fetch(self, ids: npt.NDArray[np.int64]) -> Tokens:
        """Tokens of passages [n], in that order."""
        if not len(ids):
            empty = np.zeros((0, self.card.passage_tokens), self.card.layout.dtype)
            return Tokens(values=empty, lengths=np.zeros(0, np.int64))
        lengths = self._lengths.take(ids).astype(np.int64)
        if (lengths < 1).any() or (lengths > self.card.passage_tokens).any():
            passage = int(ids[np.argmax((lengths < 1) | (lengths > self.card.passage_tokens))])
            raise errors.DamagedError(
                f"passage {passage} claims a length that no chunk has; run `memcorpus verify`"
            )
        return Tokens(values=self._values.take(ids), lengths=lengths)
