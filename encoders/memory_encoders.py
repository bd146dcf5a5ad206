"""Which memory encoder a model's folder holds: the lower layers of a T5, or a RETRO's encoder of chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from encoders import errors, memory_encoder, model_folder, weights
from encoders.fingerprint import Fingerprint
from encoders.memory_encoder import MemoryEncoder
from encoders.memory_spec import MemorySpec
from encoders.reader import folder as reader_folder
from encoders.retro import folder as retro_folder
from encoders.retro import memory as retro_memory

if TYPE_CHECKING:
    import jax


def reads_chunks(name_or_folder: str | Path) -> bool:
    """Whether the folder's encoder reads tokens of chunks, and no text."""
    return retro_folder.is_retro(name_or_folder)


def wanted(name_or_folder: str | Path, before: MemorySpec, changes: Mapping[str, object]) -> MemorySpec:
    """How a model's memory is to be made: as its folder says, where it is a reader's or a RETRO's; as before
    for a plain T5.

    Args:
        name_or_folder: the model.
        before: what the corpus was built with.
        changes: those of `memory_spec.SETTINGS` that are asked to be other.

    Raises:
        EncoderError: a setting is out of range, or one that the model leaves no choice of.
        ModelFolderError: the folder cannot be read.
    """
    if reads_chunks(name_or_folder):
        for name in retro_memory.FIXED:
            if name in changes:
                raise errors.EncoderError(
                    f"{name} is {changes[name]}, and {name_or_folder} is a RETRO: its encoder runs all its "
                    "layers on chunks of tokens; leave it out"
                )
        return retro_memory.spec(retro_folder.open_retro(name_or_folder), before).changed(changes)
    if reader_folder.is_reader(name_or_folder):
        own = reader_folder.open_reader(name_or_folder).settings.memory
        before = replace(own, token_budget=before.token_budget)
    return before.changed(changes)


def fingerprint_of(name_or_folder: str | Path, memory: MemorySpec) -> Fingerprint:
    """The fingerprint that `load` would have, without loading the model.

    Raises:
        ModelFolderError: the model cannot be read.
        EncoderError: it makes no memory.
    """
    if reads_chunks(name_or_folder):
        opened = retro_folder.open_retro(name_or_folder)
        return retro_memory.fingerprint_of(opened, compute_dtype=memory.compute_dtype)
    return memory_encoder.memory_fingerprint(name_or_folder, memory)


def width_of(name_or_folder: str | Path) -> int:
    """d, of a token's memory.

    Raises:
        ModelFolderError: the model cannot be read.
    """
    if reads_chunks(name_or_folder):
        return retro_folder.open_retro(name_or_folder).settings.config.width
    return weights.read_config(model_folder.resolve(name_or_folder)).d_model


def load(
    name_or_folder: str | Path,
    memory: MemorySpec,
    *,
    devices: Sequence[jax.Device] | None = None,
    model_parallel: int | None = None,
) -> MemoryEncoder:
    """The memory encoder of a folder; see `MemoryEncoder.load` and `ChunkEncoder.load`."""
    kind = retro_memory.ChunkEncoder if reads_chunks(name_or_folder) else MemoryEncoder
    return kind.load(name_or_folder, memory, devices=devices, model_parallel=model_parallel)
