"""How many bytes of text each token of a vocabulary stands for: what bits per byte are divided by.

Counted of what tokens decode to, not of the text they were made of: a tokenizer that loses line breaks or
letters must not be credited with their bytes. Unknown tokens stand for no byte, and whoever counts reports
them.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from encoders import document_tokenizer, model_folder
from encoders.model_folder import ModelFolderError

_BYTE: Final = re.compile(r"<0x[0-9A-Fa-f]{2}>")


@dataclass(frozen=True, kw_only=True)
class TokenBytes:
    """Bytes by token id.

    Attributes:
        counts: int32 [vocabulary]; 0 for special tokens and the unknown one.
        unknown: the id of the unknown token; None for a vocabulary that has a token for every byte.
    """

    counts: npt.NDArray[np.int32]
    unknown: int | None


def read(folder: Path) -> TokenBytes:
    """The bytes of the tokens of a model folder's tokenizer, as chunks are cut by it: what other files of the
    folder say of it counts no more here than there.

    A token within a text is meant: the blank that begins a piece counts, as decoding keeps it everywhere but
    at the very beginning.

    Raises:
        ModelFolderError: the tokenizer cannot be read, or decodes in another way than SentencePiece's (blanks
            as ▁, bytes as <0x0A>) and byte-level BPE's.
    """
    model_folder.find_tokenizer_files(folder)
    tokenizer = document_tokenizer.load(folder)
    kinds = _decoders(json.loads(tokenizer.to_str()).get("decoder") or {})
    if "ByteLevel" in kinds:
        size = _byte_level
    elif kinds & {"Metaspace", "Replace"}:
        size = _fallback if "ByteFallback" in kinds else _marked
    else:
        raise ModelFolderError(
            f"{folder} has a tokenizer that decodes by {', '.join(sorted(kinds)) or 'nothing'}, wanted "
            "SentencePiece's or byte-level BPE's: of others it is not known here how many bytes a token is"
        )
    pieces: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    found = np.zeros(1 + max(pieces.values(), default=-1), np.int32)
    found[list(pieces.values())] = [size(piece) for piece in pieces]
    found[document_tokenizer.special(tokenizer)] = 0
    unknown = document_tokenizer.unknown(tokenizer)
    if unknown is not None:
        found[unknown] = 0
    # A vocabulary with all bytes names an unknown token that never comes.
    whole = "ByteLevel" in kinds or "ByteFallback" in kinds
    return TokenBytes(counts=found, unknown=None if whole else unknown)


def _byte_level(piece: str) -> int:
    """Every character stands for one byte; a token that was added as text has others, and is that text."""
    return len(piece) if _alphabet().issuperset(piece) else len(piece.encode())


@functools.cache
def _alphabet() -> frozenset[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return frozenset(ByteLevel.alphabet())


def _marked(piece: str) -> int:
    """Blanks stand as ▁."""
    return len(piece.replace("▁", " ").encode())


def _fallback(piece: str) -> int:
    """As `_marked`, and bytes stand as <0x0A>."""
    return 1 if _BYTE.fullmatch(piece) else _marked(piece)


def _decoders(described: dict[str, Any]) -> set[str]:
    """Types of a decoder and of those in its sequence."""
    kinds = {str(described["type"])} if "type" in described else set()
    for inner in described.get("decoders", ()):
        kinds |= _decoders(inner)
    return kinds
