"""A T5's folder as that of a memory encoder: settings, tensors, fingerprint are found; nothing is loaded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from encoders import errors, fingerprint, model_folder, weights
from encoders.fingerprint import Fingerprint
from encoders.memory_spec import MemorySpec
from encoders.t5_config import T5Config, memory_layers


def live_proportion(memory: MemorySpec) -> Fraction:
    """α of a T5's memory.

    Raises:
        EncoderError: it is not given, or layers are.
    """
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
    layers = memory_layers(config.layers, live_proportion(memory))
    tensors = weights.find(folder, config, layers)
    description = fingerprint.memory_description(
        config=config,
        layers=layers,
        tensors=tensors,
        tokenizer_files=model_folder.find_tokenizer_files(folder),
        memory=memory,
    )
    return folder, config, layers, tensors, fingerprint.of(description)
