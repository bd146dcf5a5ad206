"""Text to a language model's tokens and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders import model_folder, transformers_output
from encoders.model_folder import ModelFolderError
from encoders.transformers_output import silenced


class Words:
    """The tokenizer of a model folder, without the special tokens that it would add.

    Attributes:
        end: the token that ends a text; None where there is none.

    Raises:
        ModelFolderError: there is none, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        model_folder.find_tokenizer_files(folder)
        transformers_output.load()
        from transformers import AutoTokenizer

        with silenced():
            try:
                self._tokenizer: Any = AutoTokenizer.from_pretrained(
                    str(folder), local_files_only=True, trust_remote_code=False
                )
            except Exception as error:  # whatever the tokenizer's own parsers raise
                reason = " ".join(str(error).split())
                raise ModelFolderError(f"{folder} has a tokenizer that cannot be read: {reason}") from error
        self.end: int | None = self._tokenizer.eos_token_id

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """Token ids of a text."""
        ids = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return np.array(ids, np.int32)

    def decode(self, ids: npt.NDArray[np.integer]) -> str:
        """What tokens say; special ones leave no trace."""
        text: str = self._tokenizer.decode(
            ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text
