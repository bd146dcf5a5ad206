"""A whole document to tokens, each with the place of its first character: what chunks are cut by.

No special token is added, and none is kept that a text spells: `</s>` in a document does not end it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from encoders import fingerprint, model_folder, transformers_output
from encoders.model_folder import ModelFolderError
from encoders.transformers_output import silenced

# The file that is read alone where it is there.
DECIDES: Final = "tokenizer.json"


@dataclass(frozen=True)
class DocumentTokens:
    """The tokens of one text.

    Args:
        ids: int64 [tokens].
        starts: int64 [tokens], the character that each begins with. They never fall: a character that became
            several tokens is where all of them begin.
        special: how many tokens were left out because the text spelled a special one.
    """

    ids: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    special: int = 0


def tokenizer_fingerprint(name_or_folder: str | Path) -> fingerprint.Fingerprint:
    """Of the tokenizer's files in a model's folder, by name.

    Raises:
        ModelFolderError: there are none.
    """
    folder = model_folder.resolve(name_or_folder, patterns=model_folder.TOKENIZER_FILES)
    files = model_folder.find_tokenizer_files(folder)
    return fingerprint.of({"kind": "tokenizer", "files": {p.name: fingerprint.digest_file(p) for p in files}})


def deciding(files: Mapping[str, str]) -> dict[str, str]:
    """Of a tokenizer's files, by name, those that decide tokens here: tokenizer.json is read alone where it
    is there, and of any other all go into what transformers makes."""
    return {name: digest for name, digest in files.items() if name == DECIDES} or dict(files)


class DocumentTokenizer:
    """A folder's tokenizer, whatever its vocabulary: T5's, or a language model's.

    Args:
        name_or_folder: holds tokenizer.json, or what transformers makes one of (spiece.model).

    Raises:
        ModelFolderError: no tokenizer, or one that cannot be read, or that cannot tell where tokens begin.
    """

    def __init__(self, name_or_folder: str | Path) -> None:
        folder = model_folder.resolve(name_or_folder, patterns=model_folder.TOKENIZER_FILES)
        model_folder.find_tokenizer_files(folder)
        self.fingerprint = tokenizer_fingerprint(folder)
        self._folder = folder
        self._tokenizer = load(folder)
        # As far as the vocabulary can say it in other pieces, `</s>` in a text is text.
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocabulary: int = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        self.unknown: int | None = unknown(self._tokenizer)
        self._special = np.array(special(self._tokenizer), np.int64)

    def __call__(self, text: str) -> DocumentTokens:
        """The tokens of a text, none of them special.

        Raises:
            ModelFolderError: the text has what the vocabulary lacks, and nothing stands for that.
        """
        try:
            encoded = self._tokenizer.encode(text, add_special_tokens=False)
        except Exception as error:  # tokenizers has no class of its own for it
            raise ModelFolderError(
                f"{self._folder} has a tokenizer that cannot say every text ({error}); use one that has "
                "bytes, or a token for what it does not know"
            ) from error
        ids = np.array(encoded.ids, np.int64)
        starts = np.array([start for start, _ in encoded.offsets], np.int64)
        # Where it cannot (T5's `</s>` is a piece of its own), nothing of a document may look like its end.
        kept = ~np.isin(ids, self._special)
        return DocumentTokens(
            ids=ids[kept],
            starts=np.maximum.accumulate(starts[kept]) if kept.any() else starts[kept],
            special=int(np.count_nonzero(~kept)),
        )

    def decode(self, ids: npt.ArrayLike) -> str:
        """What a row of ids says; special tokens leave no trace."""
        text: str = self._tokenizer.decode(np.asarray(ids).tolist(), skip_special_tokens=True)
        return text

    def count_unknown(self, ids: npt.NDArray[np.integer]) -> int:
        """How many of the ids stand for what the vocabulary does not have."""
        return 0 if self.unknown is None else int(np.count_nonzero(ids == self.unknown))


def load(folder: Path) -> Any:
    """The `tokenizers.Tokenizer` of a folder; see `deciding`.

    Raises:
        ModelFolderError: it cannot be read, or cannot tell where tokens begin.
    """
    from tokenizers import Tokenizer

    path = folder / DECIDES
    try:
        if path.is_file():
            return Tokenizer.from_file(str(path))
        transformers_output.load()
        from transformers import AutoTokenizer

        with silenced():
            found: Any = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # whatever the tokenizer's own parsers raise
        reason = " ".join(str(error).split())
        raise ModelFolderError(f"{folder} has a tokenizer that cannot be read: {reason}") from error
    if not getattr(found, "is_fast", False):
        raise ModelFolderError(
            f"{folder} has a tokenizer that does not tell where its tokens begin; save it as tokenizer.json"
        )
    return found.backend_tokenizer


def special(tokenizer: Any) -> list[int]:
    """Ids that no document has: those of special tokens but the unknown one."""
    added = tokenizer.get_added_tokens_decoder()
    return sorted(n for n, token in added.items() if token.special and n != unknown(tokenizer))


def unknown(tokenizer: Any) -> int | None:
    """The id that stands for what the vocabulary lacks; None where nothing does (bytes)."""
    model = json.loads(tokenizer.to_str())["model"]
    number = model.get("unk_id")
    if number is None and model.get("unk_token") is not None:
        number = tokenizer.token_to_id(model["unk_token"])
    return None if number is None else int(number)


def describe(tokenizer: DocumentTokenizer) -> Mapping[str, object]:
    """What a card says of a tokenizer."""
    return {"fingerprint": tokenizer.fingerprint.hex, **tokenizer.fingerprint.description}
