"""A T5's folder as that of a memory encoder: settings and fingerprint are read, and nothing is loaded."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from encoders import errors, fingerprint, model_folder, weights
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
        return memory_fingerprint(self.folder, self.memory)

    @property
    def settings(self) -> Json:
        """See `token_encoder.OpenedEncoder`."""
        return model_folder.read_json(self.folder / "config.json")

    @property
    def layers_run(self) -> int:
        """See `token_encoder.OpenedEncoder`."""
        return memory_layers(self.config.layers, _live_proportion(self.memory))

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
    memory_layers(config.layers, _live_proportion(memory))
    return OpenedT5(folder=folder, memory=memory, config=config)


def _live_proportion(memory: MemorySpec) -> Fraction:
    """α of a T5's memory."""
    if memory.layers is not None:
        raise errors.EncoderError(
            "memory layers are of encoders that are no T5; say by --live-proportion which layers of a T5 a "
            "reader runs: the others make the memory"
        )
    if memory.live_proportion is None:
        raise errors.EncoderError(
            "no live-proportion given; add --live-proportion, or live_proportion to --config"
        )
    return memory.live_proportion


def memory_fingerprint(name_or_folder: str | Path, memory: MemorySpec) -> Fingerprint:
    """The fingerprint that `MemoryEncoder.load` would have, without loading the model.

    Args and Raises: as for `MemoryEncoder.load`.
    """
    return examine(name_or_folder, memory)[-1]


def examine(
    name_or_folder: str | Path, memory: MemorySpec
) -> tuple[Path, T5Config, int, dict[str, model_folder.Tensor], Fingerprint]:
    """Folder, config, number of layers, their tensors, and the fingerprint."""
    folder = model_folder.resolve(name_or_folder)
    config = weights.read_config(folder)
    layers = memory_layers(config.layers, _live_proportion(memory))
    tensors = weights.find(folder, config, layers)
    description = fingerprint.memory_description(
        config=config,
        layers=layers,
        tensors=tensors,
        tokenizer_files=model_folder.find_tokenizer_files(folder),
        memory=memory,
    )
    return folder, config, layers, tensors, fingerprint.of(description)
