"""What a memory encoder reads of a corpus's passages: their text, or the tokens of chunks."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from encoders.retro.memory import ChunkEncoder
from encoders.token_encoder import encoded
from pipeline.components.shards import render
from retrieval import neighbours
from retrieval.corpus import Corpus
from storage import passage_table
from storage.aliases import AnyArray
from storage.folder import CorpusFolder

if TYPE_CHECKING:
    import pyarrow as pa

    from encoders.token_encoder import TokenEncoder
    from encoders.tokenizing import Tokens

Ids = Sequence[int] | npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The passages of a corpus, as encoders read them.

    Args:
        corpus: one that is finished, where an encoder reads chunks.
        parts: of its passage table.
    """

    corpus: CorpusFolder
    parts: tuple[passage_table.Part, ...]

    @functools.cached_property
    def table(self) -> passage_table.PassageTable:
        """Opened once by each worker's copy of a job."""
        return passage_table.PassageTable(self.corpus.root, self.parts, ensure=self.corpus.ensure)

    @functools.cached_property
    def _chunks(self) -> Corpus:
        return Corpus(self.corpus)

    def tokens(self, encoder: TokenEncoder, passages: Ids, *, table: pa.Table | None = None) -> Tokens:
        """What the encoder is given of some passages.

        Args:
            encoder: it says what it reads.
            passages: ids.
            table: the passages' rows, where they have been read.

        Raises:
            CorpusError: it reads chunks, and the corpus has none of its size.
        """
        if isinstance(encoder, ChunkEncoder):
            read = neighbours.retrieved(self._chunks, passages)
            return encoder.ragged(read.values, read.mask)
        rows = self.table.take(list(passages)) if table is None else table
        return encoder.tokenize(render(encoder.template.template, rows))

    def memory(self, encoder: TokenEncoder, passages: Ids) -> AnyArray:
        """Memory of a few passages, [all their rows, width] float32."""
        return encoded(encoder, self.tokens(encoder, passages))
