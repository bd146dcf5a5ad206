"""A T5 that is looked at as a memory encoder, and loaded when it is asked to be."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from encoders import model_folder, t5_folder, weights
from encoders.aliases import Json
from encoders.fingerprint import Fingerprint
from encoders.memory_spec import MemorySpec
from encoders.t5_config import T5Config, memory_layers
from encoders.tokenizing import Tokenizer

if TYPE_CHECKING:
    from encoders.memory_encoder import MemoryEncoder


@dataclass(frozen=True, kw_only=True)
class OpenedT5:
    """A T5 of which the settings were read; see `token_encoder.OpenedEncoder`."""

    folder: Path
    memory: MemorySpec
    config: T5Config

    @property
    def width(self) -> int:
        return self.config.d_model

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """See `token_encoder.OpenedEncoder`."""
        return t5_folder.memory_fingerprint(self.folder, self.memory)

    @property
    def settings(self) -> Json:
        """See `token_encoder.OpenedEncoder`."""
        return model_folder.read_json(self.folder / "config.json")

    @property
    def layers_run(self) -> int:
        """See `token_encoder.OpenedEncoder`."""
        return memory_layers(self.config.layers, t5_folder.live_proportion(self.memory))

    @property
    def weights(self) -> int:
        """See `token_encoder.OpenedEncoder`: of the layers that make memory."""
        return sum(map(math.prod, weights.tensor_shapes(self.config, self.layers_run).values()))

    def tokenizer(self) -> Tokenizer:
        """See `token_encoder.OpenedEncoder`."""
        return Tokenizer(self.folder, max_tokens=self.memory.max_tokens)

    def require_loadable(self, *, model_parallel: int | None = None) -> None:
        """See `token_encoder.OpenedEncoder`: the fingerprint finds every tensor; devices are the workers'."""

    def load(self, *, device: str = "all", model_parallel: int | None = None) -> MemoryEncoder:
        """See `token_encoder.OpenedEncoder`."""
        from encoders import sharding
        from encoders.memory_encoder import MemoryEncoder

        return MemoryEncoder.load(
            self.folder, self.memory, devices=sharding.named(device), model_parallel=model_parallel
        )


def open_folder(name_or_folder: str | Path, memory: MemorySpec) -> OpenedT5:
    """Look at a T5 without loading it.

    Raises:
        ModelFolderError: it is none.
        EncoderError: α is not given, gives no whole number of layers, or layers are.
    """
    folder = model_folder.resolve(name_or_folder)
    config = weights.read_config(folder)
    memory_layers(config.layers, t5_folder.live_proportion(memory))
    return OpenedT5(folder=folder, memory=memory, config=config)
