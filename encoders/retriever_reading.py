"""How a retriever would read texts, told by its tokenizer alone: no weight is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders import transformers_output
from encoders.model_folder import ModelFolderError
from encoders.retriever_folder import DOCUMENT, TRANSFORMER_CONFIG, RetrieverFolder
from encoders.tokenizing import Tokens, unknown_id
from encoders.transformers_output import silenced


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Of each text the tokens that a model is given, those cut, and those given that are unknown: [texts]."""

    given: npt.NDArray[np.int64]
    cut: npt.NDArray[np.int64]
    unknown: npt.NDArray[np.int64]

    @classmethod
    def of(cls, tokens: Tokens) -> Lengths:
        return cls(given=tokens.lengths, cut=tokens.cut, unknown=tokens.unknown_each)


def read(folder: RetrieverFolder, texts: Sequence[str], *, role: str = DOCUMENT) -> Lengths | None:
    """How texts are read; None where that is not known without loading the model: it puts them into a chat.

    Raises:
        ModelFolderError: the tokenizer cannot be read.
    """
    transformers_output.load()
    from transformers import AutoTokenizer

    settings = folder.modules[0]["config"][TRANSFORMER_CONFIG]
    place = folder.place(folder.modules[0])
    with silenced():
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(
                str(place), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # whatever the tokenizer's own parsers raise
            reason = " ".join(str(error).split())
            raise ModelFolderError(f"{place} has a tokenizer that cannot be read: {reason}") from error
        modalities = settings.get("modality_config")
        chat = getattr(tokenizer, "chat_template", None) if modalities is None else "message" in modalities
        if chat:
            return None
        given = [folder.prompts[role] + text for text in texts]
        if settings.get("do_lower_case"):
            given = [text.lower() for text in given]
        limit = _limit(folder, settings, role)
        whole = _ids(tokenizer, given)
        lengths = np.fromiter(map(len, whole), np.int64, len(whole))
        cut = np.maximum(lengths - limit, 0)
        # Where a text is cut is the tokenizer's affair: it keeps its special tokens.
        places = np.flatnonzero(cut).tolist()
        for i, ids in zip(places, _ids(tokenizer, [given[i] for i in places], limit), strict=True):
            whole[i] = ids
    unknown = unknown_id(tokenizer)
    counts = (0 if unknown is None else sum(token == unknown for token in ids) for ids in whole)
    return Lengths(given=lengths - cut, cut=cut, unknown=np.fromiter(counts, np.int64, len(whole)))


def _ids(tokenizer: Any, texts: list[str], limit: int | None = None) -> list[list[int]]:
    if not texts:
        return []
    cutting = {"truncation": True, "max_length": limit} if limit is not None else {"truncation": False}
    encoded = tokenizer(texts, padding=False, return_attention_mask=False, verbose=False, **cutting)
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _limit(folder: RetrieverFolder, settings: dict[str, Any], role: str) -> int:
    """A Transformer's own settings for a role come before what holds for both."""
    text = (settings.get("processing_kwargs") or {}).get("text") or {}
    return int(text.get("max_length") or settings.get(f"{role}_length") or folder.max_tokens)
