"""An encoder, held to the canaries of a memory version: does it still give the numbers that were stored?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from retrieval.neighbours import Retrieved
from storage import canaries, errors
from storage.components import MemoryCard
from storage.fields import Fields
from storage.folder import CorpusFolder
from storage.passage_table import PassageTable

if TYPE_CHECKING:
    from encoders.token_encoder import TokenEncoder


def check(
    home: CorpusFolder,
    table: PassageTable,
    retrieved: Callable[[list[int]], Retrieved],
    encoder: TokenEncoder,
    card: MemoryCard,
) -> canaries.Difference:
    """See `Corpus.check_encoder`.

    Args:
        home: of the corpus's first segment.
        table: of all passages: an update may have removed a canary's, and what was stored of it stays.
        retrieved: what chunks read, by id: of an encoder of chunks.
        encoder: that wrote the version.
        card: the version's, in the corpus's first segment.
    """
    name = card.version
    home.ensure(card.canaries.file)
    if encoder.fingerprint != card.encoder_fingerprint:
        raise errors.MismatchError(
            f"memory version {name} was written by encoder {card.encoder_fingerprint[:16]}, "
            f"this is {encoder.fingerprint[:16]}"
        )
    from encoders.retro.memory import ChunkEncoder

    ids = list(card.canaries.passage_ids)
    if isinstance(encoder, ChunkEncoder):
        read = retrieved(ids)
        again = encoder.encode_chunks(read.values, read.mask)
    else:
        texts = [
            encoder.template.render(title=row["title"], section=row["section"], text=row["text"])
            for row in table.take(ids).to_pylist()
        ]
        again = encoder.encode_texts(texts)
    kept = canaries.read(home.root, card.canaries, width=card.layout.width)
    return canaries.require_same(
        kept,
        again.astype(kept.dtype),
        compute_dtype=Fields(card.encoder, f"the encoder of memory {name}").text("compute_dtype"),
        what=f"memory version {name} is not what this encoder gives now",
    )
