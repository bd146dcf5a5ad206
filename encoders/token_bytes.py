"""How many bytes of text each token of a vocabulary stands for: what bits per byte are divided by.

Counted of what tokens decode to, not of the text they were made of: a tokenizer that loses line breaks or
letters must not be credited with their bytes. Unknown tokens stand for no byte, and whoever counts reports
them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders import model_folder, transformers_output
from encoders.model_folder import ModelFolderError
from encoders.transformers_output import silenced

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


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
    """The bytes of the tokens of a model folder's tokenizer.

    A token within a text is meant: the blank that begins a piece counts, as decoding keeps it everywhere but
    at the very beginning.

    Raises:
        ModelFolderError: the tokenizer cannot be read, or decodes in another way than SentencePiece's (blanks
            as ▁, bytes as <0x0A>) and byte-level BPE's.
    """
    model_folder.find_tokenizer_files(folder)
    transformers_output.load()
    from transformers import AutoTokenizer

    with silenced():
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
            described = json.loads(tokenizer.backend_tokenizer.to_str())
        except Exception as error:  # whatever the tokenizer's own parsers raise
            reason = " ".join(str(error).split())
            raise ModelFolderError(f"{folder} has a tokenizer that cannot be read: {reason}") from error
    kinds = _decoders(described.get("decoder") or {})
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = set(tokenizer.all_special_ids)
    if "ByteLevel" in kinds:
        # Every character stands for one byte.
        counts = [len(piece) for piece in pieces]
    elif kinds & {"Metaspace", "Replace"}:
        counts = [
            1 if "ByteFallback" in kinds and _BYTE.fullmatch(piece) else len(piece.replace("▁", " ").encode())
            for piece in pieces
        ]
    else:
        raise ModelFolderError(
            f"{folder} has a tokenizer that decodes by {', '.join(sorted(kinds)) or 'nothing'}, wanted "
            "SentencePiece's or byte-level BPE's: of others it is not known here how many bytes a token is"
        )
    unknown = tokenizer.unk_token_id
    found = np.array(counts, np.int32)
    found[sorted(special)] = 0
    # A vocabulary with all bytes names an unknown token that never comes.
    whole = "ByteLevel" in kinds or "ByteFallback" in kinds
    return TokenBytes(counts=found, unknown=None if whole else unknown)


def _decoders(described: dict[str, Any]) -> set[str]:
    """Types of a decoder and of those in its sequence."""
    kinds = {str(described["type"])} if "type" in described else set()
    for inner in described.get("decoders", ()):
        kinds |= _decoders(inner)
    return kinds
