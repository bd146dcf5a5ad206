"""Which memory encoder a model's folder holds, and how it is opened.

A folder says by its settings what it holds: a T5, whose lower layers JAX runs; a RETRO, whose encoder reads
chunks; a multi-vector retriever of sentence-transformers; or any other model that transformers loads, on
PyTorch. Importing this loads no framework, and opening an encoder reads settings alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from encoders import errors, model_folder, opened_t5
from encoders.memory_spec import MemorySpec
from encoders.reader import folder as reader_folder
from encoders.retro import folder as retro_folder
from encoders.retro import memory as retro_memory
from encoders.t5_config import MODEL_TYPES
from encoders.token_encoder import MULTI_VECTOR, TRANSFORMERS, OpenedEncoder

# What tells the kinds apart. Small files: a hub name's weights are downloaded by what reads them.
SETTINGS_FILES: Final = ("config.json", "modules.json", "config_sentence_transformers.json")
T5: Final = "t5"
RETRO: Final = "retro"
# How sentence-transformers, PyLate and Stanford's ColBERT name what gives a vector for each token.
_MULTI_VECTOR_TYPES: Final = ("MultiVectorEncoder", "ColBERT")
_STANFORD: Final = "HF_ColBERT"


def wanted(name_or_folder: str | Path, before: MemorySpec, changes: Mapping[str, object]) -> MemorySpec:
    """How a model's memory is to be made: as its folder says, where it is a reader's or a RETRO's; as before
    for other models, but for what only encoders of another kind have.

    Args:
        name_or_folder: the model.
        before: what the corpus was built with.
        changes: those of `memory_spec.SETTINGS` that are asked to be other.

    Raises:
        EncoderError: a setting is out of range, or one that the model leaves no choice of.
        ModelFolderError: the folder cannot be read.
    """
    kind = kind_of(name_or_folder)
    if kind == RETRO:
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
    elif kind == T5:
        before = replace(before, layers=None)
    else:
        before = replace(before, live_proportion=None)
    return before.changed(changes)


def open_encoder(name_or_folder: str | Path, memory: MemorySpec) -> OpenedEncoder:
    """Look at a memory encoder, in a folder or on the hub, without loading it.

    Raises:
        ModelFolderError: no model that is known here.
        EncoderError: the memory is asked for in another kind's words.
    """
    kind = kind_of(name_or_folder)
    if kind == RETRO:
        return retro_memory.open_folder(name_or_folder, memory)
    if kind == T5:
        return opened_t5.open_folder(name_or_folder, memory)
    if memory.live_proportion is not None:
        raise errors.EncoderError(
            f"live proportion is {memory.live_proportion}, and {name_or_folder} is no T5 whose upper layers "
            "a reader runs; leave out --live-proportion"
        )
    require_installed(name_or_folder, kind)
    if kind == MULTI_VECTOR:
        from encoders import multi_vector

        return multi_vector.open_folder(name_or_folder, memory)
    from encoders import hugging_face

    return hugging_face.open_folder(name_or_folder, memory)


def kind_of(name_or_folder: str | Path) -> str:
    """Which kind of encoder lies there. What is none at all is left to T5's loader to refuse."""
    if retro_folder.is_retro(name_or_folder):
        return RETRO
    folder = model_folder.resolve(name_or_folder, patterns=SETTINGS_FILES)
    listed = folder / "config_sentence_transformers.json"
    if listed.is_file() and model_folder.read_json(listed).get("model_type") in _MULTI_VECTOR_TYPES:
        return MULTI_VECTOR
    config = model_folder.read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if _STANFORD in (config.get("architectures") or ()):
        return MULTI_VECTOR
    return T5 if config.get("model_type", T5) in MODEL_TYPES else TRANSFORMERS


def require_installed(name_or_folder: str | Path, kind: str) -> None:
    """Refuse what is not installed, before anything is written.

    Raises:
        EncoderError: naming what to install.
    """
    wanted = ("torch", "transformers", *(("sentence_transformers",) if kind == MULTI_VECTOR else ()))
    missing = [name for name in wanted if find_spec(name) is None]
    if missing:
        raise errors.EncoderError(
            f"memory encoder {name_or_folder} is run on PyTorch, and {', '.join(missing)} is not installed: "
            "pip install 'memcorpus[text]'"
        )
