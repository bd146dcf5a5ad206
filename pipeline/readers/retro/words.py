"""Text to a language model's tokens and back, cut as documents are in a build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders import transformers_output
from encoders.document_tokenizer import DocumentTokenizer, DocumentTokens
from encoders.model_folder import ModelFolderError
from encoders.transformers_output import silenced


class Words:
    """The tokenizer of a model folder: no special token is added, and none is kept that a text spells.

    Attributes:
        end: the token that ends a text; None where there is none.

    Raises:
        ModelFolderError: there is none, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = DocumentTokenizer(folder)
        transformers_output.load()
        from transformers import AutoTokenizer

        with silenced():
            try:
                found: Any = AutoTokenizer.from_pretrained(
                    str(folder), local_files_only=True, trust_remote_code=False
                )
            except Exception as error:  # whatever the tokenizer's own parsers raise
                reason = " ".join(str(error).split())
                raise ModelFolderError(f"{folder} has a tokenizer that cannot be read: {reason}") from error
        # Of a tokenizer's files, tokenizer.json does not say which token ends a text.
        self.end: int | None = found.eos_token_id

    def encode(self, text: str) -> DocumentTokens:
        """The tokens of a text, and how many special ones it spells, which are left out."""
        return self._tokenizer(text)

    def unknown(self, ids: npt.NDArray[np.integer]) -> int:
        """How many of the ids stand for what the vocabulary does not have."""
        return self._tokenizer.count_unknown(ids)

    def decode(self, ids: npt.NDArray[np.integer]) -> str:
        """What tokens say; special ones leave no trace."""
        return self._tokenizer.decode(ids)
