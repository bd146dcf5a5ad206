"""Texts to ragged token ids, as Hugging Face cuts them, and what was cut or unknown."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from encoders import model_folder, transformers_output
from encoders.model_folder import ModelFolderError
from encoders.transformers_output import silenced

# Of no script and in nobody's vocabulary: what a tokenizer makes of it is what it makes of the unknown.
_NOBODYS: Final = "\U0010fffd"


@dataclass(frozen=True, kw_only=True)
class Read:
    """How texts were read by a model.

    Attributes:
        texts: how many.
        tokens: that the model was given, special ones and a prompt's among them.
        texts_cut, tokens_cut: at the limit, on top of those.
        tokens_unknown: those of `tokens` that stand for text that is not in the vocabulary.
    """

    texts: int = 0
    tokens: int = 0
    texts_cut: int = 0
    tokens_cut: int = 0
    tokens_unknown: int = 0

    def __add__(self, other: Read) -> Read:
        return Read(
            texts=self.texts + other.texts,
            tokens=self.tokens + other.tokens,
            texts_cut=self.texts_cut + other.texts_cut,
            tokens_cut=self.tokens_cut + other.tokens_cut,
            tokens_unknown=self.tokens_unknown + other.tokens_unknown,
        )


@dataclass(frozen=True)
class Tokens:
    """Token ids of several texts, without padding.

    Args:
        ids: int32 [tokens], the texts one after the other, each with its EOS.
        offsets: int64 [texts + 1]; text i is ids[offsets[i] : offsets[i + 1]].
        cut: int64 [texts], tokens that the limit cut from each text.
        unknown: the id of what is not in the vocabulary; None where nothing has one.

    Raises:
        ValueError: these do not fit each other, or a text has no token.
    """

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    cut: npt.NDArray[np.int64]
    unknown: int | None = None

    def __post_init__(self) -> None:
        if self.ids.ndim != 1 or self.offsets.shape != (len(self.cut) + 1,):
            raise ValueError(
                f"ids have shape {self.ids.shape}, offsets {self.offsets.shape}, cut "
                f"{self.cut.shape}; wanted [tokens], [texts + 1] and [texts]"
            )
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.ids) or (self.lengths < 1).any():
            raise ValueError(
                "offsets do not rise from 0 to the number of ids; wanted a token or more per text"
            )

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text, int64 [texts]."""
        return np.diff(self.offsets)

    @property
    def read(self) -> Read:
        """How a model reads the texts."""
        return self.read_of(slice(None))

    def read_of(self, texts: npt.NDArray[np.int64] | slice) -> Read:
        """How it reads some of them."""
        cut = self.cut[texts]
        return Read(
            texts=len(cut),
            tokens=int(self.lengths[texts].sum()),
            texts_cut=int(np.count_nonzero(cut)),
            tokens_cut=int(cut.sum()),
            tokens_unknown=int(self.unknown_each[texts].sum()),
        )

    @functools.cached_property
    def unknown_each(self) -> npt.NDArray[np.int64]:
        """Tokens of each text that stand for the unknown, [texts]."""
        before = np.zeros(len(self.ids) + 1, np.int64)
        if self.unknown is not None:
            np.cumsum(self.ids == self.unknown, out=before[1:])
        return np.diff(before[self.offsets])

    def split(self) -> list[npt.NDArray[np.int32]]:
        """The ids of each text, views."""
        return np.split(self.ids, self.offsets[1:-1]) if len(self.cut) else []

    def padded(
        self, texts: npt.NDArray[np.int64], *, rows: int, length: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Some texts as ids [rows, length] and lengths [rows]; filler rows are one token long."""
        ids = np.zeros((rows, length), np.int32)
        lengths = np.ones(rows, np.int32)
        for row, text in enumerate(texts):
            sequence = self.ids[self.offsets[text] : self.offsets[text + 1]]
            ids[row, : len(sequence)] = sequence
            lengths[row] = len(sequence)
        return ids, lengths


class Tokenizer:
    """A model folder's tokenizer, with a limit on tokens.

    Args:
        folder: holds tokenizer.json or spiece.model, and config.json.
        max_tokens: texts are cut to this, EOS included.

    Raises:
        ModelFolderError: no tokenizer, one that cannot be read, or one that does not append EOS.
        ValueError: max_tokens is below 2.
    """

    def __init__(self, folder: Path, *, max_tokens: int) -> None:
        if max_tokens < 2:
            raise ValueError(f"max_tokens is {max_tokens}, wanted 2 or more: a token and EOS")
        model_folder.find_tokenizer_files(folder)
        if not (folder / "tokenizer.json").is_file():
            _require_sentencepiece(folder)
        transformers_output.load()
        from transformers import AutoTokenizer

        self.max_tokens = max_tokens
        with silenced():
            try:
                self._tokenizer: Any = AutoTokenizer.from_pretrained(
                    str(folder), local_files_only=True, trust_remote_code=False
                )
            except Exception as error:  # whatever the tokenizer's own parsers raise
                reason = " ".join(str(error).split())
                raise ModelFolderError(f"{folder} has a tokenizer that cannot be read: {reason}") from error
        self.eos: int | None = self._tokenizer.eos_token_id
        empty = self._encode([""])[0]
        if self.eos is None or empty != [self.eos]:
            raise ModelFolderError(
                f"{folder} has a tokenizer that makes {empty} of an empty text, wanted its EOS, "
                f"[{self.eos}], as every T5 tokenizer does"
            )
        self.size: int = len(self._tokenizer)
        self.unknown = unknown_id(self._tokenizer)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Token ids of each text; a longer one keeps its first max_tokens - 1 and EOS."""
        sequences = self._encode(list(texts))
        lengths = np.fromiter((len(ids) for ids in sequences), np.int64, len(sequences))
        cut = np.maximum(lengths - self.max_tokens, 0)
        offsets = np.zeros(len(sequences) + 1, np.int64)
        np.cumsum(lengths - cut, out=offsets[1:])
        ids = np.empty(offsets[-1], np.int32)
        for i, sequence in enumerate(sequences):
            row = ids[offsets[i] : offsets[i + 1]]
            row[:] = sequence[: len(row)]
            row[-1] = sequence[-1]  # EOS, also of a text that is cut
        return Tokens(ids, offsets, cut, self.unknown)

    def offsets(self, tokens: Tokens) -> npt.NDArray[np.int64]:
        """Where the memory of each text begins, [texts + 1]: every token has a row."""
        return tokens.offsets

    def decode(self, ids: npt.NDArray[np.integer]) -> list[str]:
        """Texts of rows of ids [texts, tokens]; padding, EOS and other special tokens leave no trace."""
        texts: list[str] = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def pieces(self, ids: npt.NDArray[np.integer]) -> list[str]:
        """What each token of a text stands for, as its vocabulary writes it, ▁ for a blank before a word."""
        found: list[str] = self._tokenizer.convert_ids_to_tokens(ids.tolist())
        return found

    def _encode(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        encoded = self._tokenizer(
            texts, truncation=False, padding=False, return_attention_mask=False, verbose=False
        )
        sequences: list[list[int]] = encoded["input_ids"]
        return sequences


def unknown_id(tokenizer: Any) -> int | None:
    """The id that a tokenizer of transformers gives to what is not in its vocabulary; None if it has none.

    Byte-level vocabularies know all text. Some name a special token "unknown" all the same, and some folders
    do not name one that there is: so the model within is asked.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer in Python
        named: int | None = tokenizer.unk_token_id
        others = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id)
        return None if named in others else named
    try:
        found = backend.model.tokenize(_NOBODYS)
    except Exception:  # the library's own class: a vocabulary without a word for the unknown
        return None
    # More than one are bytes.
    return int(found[0].id) if len(found) == 1 else None


def _require_sentencepiece(folder: Path) -> None:
    """Says why a spiece.model cannot be read, where transformers would ask for tiktoken instead.

    sentencepiece 0.2.3 was generated for protobuf 7, and apache-beam 2.77 wants protobuf 6.
    """
    try:
        from sentencepiece import sentencepiece_model_pb2  # noqa: F401
    except Exception as error:  # ImportError, or protobuf's own VersionError and TypeError
        reason = " ".join(str(error).split())
        raise ModelFolderError(
            f"{folder} has its tokenizer as spiece.model only, which this sentencepiece cannot read "
            f"({reason}); install sentencepiece 0.2.2, or save the tokenizer as tokenizer.json"
        ) from error
