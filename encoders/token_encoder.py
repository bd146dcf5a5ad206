"""What a memory encoder is to whoever builds with one: ids in, states out, of whatever kind it is.

`memory_encoders` tells the kinds apart. Importing this loads no framework.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from encoders.aliases import AnyArray, Json
from encoders.fingerprint import Fingerprint
from encoders.memory_spec import MemorySpec
from encoders.template import PassageTemplate

if TYPE_CHECKING:
    from encoders.quantizing import CoderLike
    from encoders.tokenizing import Tokens

# Kinds, as the descriptions of fingerprints name those that are no T5.
TRANSFORMERS: Final = "transformers"
MULTI_VECTOR: Final = "multi-vector"


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a call of `TokenEncoder.encode` cost beside the passages' own tokens.

    Args:
        padding, filler: tokens computed for nothing; see `batching.Waste`. They depend on the passages and
            the settings alone, the others on the machine and on what it did before.
        compiled: programs that XLA compiled.
        loaded: programs that were taken from those kept; see `encoders.compiling`.
        halved: times the device had too little memory and batches were made half as large.
    """

    padding: int
    filler: int
    compiled: int
    loaded: int
    halved: int


class TokenEncoder(Protocol):
    """A loaded memory encoder: ids in, states out."""

    @property
    def width(self) -> int:
        """Of a row: of a token's state, or of several layers' states one behind the other."""

    @property
    def template(self) -> PassageTemplate:
        """How a passage becomes text."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that decides the numbers."""

    @property
    def description(self) -> Json:
        """What the digest was taken of."""

    @property
    def max_tokens(self) -> int:
        """Texts are cut to this, special tokens included."""

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of rendered passages, cut at `max_tokens`."""

    def offsets(self, tokens: Tokens) -> npt.NDArray[np.int64]:
        """Where the memory of each text begins, [texts + 1]: its tokens', but for those that get no row."""

    def encode(
        self,
        tokens: Tokens,
        out: AnyArray,
        coder: CoderLike | None = None,
        *,
        on_batch: Callable[[int], None] | None = None,
    ) -> Spent:
        """Computes the memory of tokens, without padding, into `out`.

        The same call gives the same bytes on the same kind of machine.

        Args:
            tokens: from `tokenize`.
            out: [rows, width], float32, float16 or bfloat16, with rows as `offsets` says; with a coder its
                stored rows.
            coder: of `storage.codecs`.
            on_batch: called after each batch with the number of passages it wrote.

        Raises:
            UnstorableError: a value is beyond `out`'s dtype or the coder, or not finite.
            DeviceMemoryError: one row is too much for the device.
        """

    def encode_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Memory of a few rendered passages, [all their rows, width] float32."""


def encoded(encoder: TokenEncoder, tokens: Tokens) -> npt.NDArray[np.float32]:
    """Memory of a few texts' tokens, [all their rows, width] float32."""
    values = np.empty((int(encoder.offsets(tokens)[-1]), encoder.width), np.float32)
    encoder.encode(tokens, values)
    return values


class TextReader(Protocol):
    """Texts to tokens, and to where the memory of each begins."""

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """As `TokenEncoder.tokenize`."""

    def offsets(self, tokens: Tokens) -> npt.NDArray[np.int64]:
        """As `TokenEncoder.offsets`."""


class OpenedEncoder(Protocol):
    """A memory encoder of which the settings were read, and no weight.

    Attributes:
        folder: where it is on this machine.
        memory: what makes the memory, with what the folder says where nothing was asked.
        width: of a row.
    """

    @property
    def folder(self) -> Path: ...
    @property
    def memory(self) -> MemorySpec: ...
    @property
    def width(self) -> int: ...

    @property
    def fingerprint(self) -> Fingerprint:
        """Of all that decides the numbers. Digests the weights, on first use.

        Raises:
            ModelFolderError: weights that are missing, pickled, damaged or not finite.
        """

    @property
    def settings(self) -> Json:
        """The config.json of the model whose states they are."""

    @property
    def layers_run(self) -> int:
        """How many layers compute."""

    @property
    def weights(self) -> int:
        """How many numbers its tensors hold."""

    def tokenizer(self) -> TextReader:
        """What tells of texts what `TokenEncoder` will, without computing."""

    def require_loadable(self, *, model_parallel: int | None = None) -> None:
        """Refuse what `load` would, as far as it can be told without loading; before anything is written.

        Raises:
            As `load`.
        """

    def load(self, *, device: str = "all", model_parallel: int | None = None) -> TokenEncoder:
        """The encoder on its devices.

        Args:
            device: as for `sharding.named`.
            model_parallel: devices that share one copy of the weights; of T5s alone.

        Raises:
            ModelFolderError: it cannot be loaded.
            EncoderError: what is asked is not of this kind.
        """
