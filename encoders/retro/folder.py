"""A RETRO as a folder: its language model, which other programs read, and what RETRO has beyond.

config.json, model.safetensors, tokenizer   the language model by Llama's names; where it is a Llama,
                                            transformers opens the folder and gives the same logits
retro.json                                  the settings: shape, and whose memory it reads
retro.safetensors                           cross-attention, the neighbours' encoder, the memory's norm
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from encoders import errors, model_folder
from encoders.aliases import Json
from encoders.model_folder import ModelFolderError, Tensor
from encoders.retro import llama, names
from encoders.retro.config import STORED, VECTORS, LanguageConfig, RetroConfig
from encoders.t5_config import COMPUTE_DTYPES, require_whole

if TYPE_CHECKING:
    from encoders.retro.model import Retro

SETTINGS: Final = "retro.json"
EXTRA_WEIGHTS: Final = "retro.safetensors"
FORMAT: Final = 1
PATTERNS: Final = (*model_folder.ENCODER_PATTERNS, SETTINGS, EXTRA_WEIGHTS)

TensorOf = Callable[[str], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class RetroSettings:
    """All of a RETRO but its weights.

    Args:
        config: the model.
        compute_dtype: of its products.
        window: l, chunks of a row that it is trained on.
        memory_encoder: of "stored" and "vectors", the fingerprint of the encoder whose states it reads; None
            for a model that encodes tokens.

    Raises:
        EncoderError: one is out of range.
    """

    config: RetroConfig
    compute_dtype: str = "float32"
    window: int = 32
    memory_encoder: str | None = None

    def __post_init__(self) -> None:
        require_whole("window", self.window, 1)
        if self.compute_dtype not in COMPUTE_DTYPES:
            raise errors.EncoderError(
                f"compute_dtype is {self.compute_dtype!r}, wanted one of {', '.join(COMPUTE_DTYPES)}"
            )
        reads = self.config.encoding in (STORED, VECTORS)
        if reads != isinstance(self.memory_encoder, str):
            raise errors.EncoderError(
                f"encoding {self.config.encoding} "
                + ("needs its encoder's fingerprint" if reads else "reads no other encoder's memory")
            )

    def to_json(self) -> Json:
        """What `from_json` reads."""
        raw = {name: value for name, value in asdict(self).items() if name != "config"}
        return {"format": FORMAT, "retro": self.config.to_json(), **raw}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> RetroSettings:
        """Raises:
        EncoderError: a field is missing, unknown, or out of range.
        """
        values = dict(raw)
        if values.pop("format", None) != FORMAT:
            raise errors.EncoderError(f"format is {raw.get('format')!r}, wanted {FORMAT}")
        try:
            return cls(config=RetroConfig.from_json(values.pop("retro")), **values)
        except (KeyError, TypeError, AttributeError) as error:
            raise errors.EncoderError(f"no RETRO's settings: {error}") from error


@dataclass(frozen=True, kw_only=True)
class RetroFolder:
    """A folder's settings, and where its tensors are; `tensor(name)` reads one."""

    path: Path
    settings: RetroSettings
    tensor: TensorOf


def is_retro(name_or_folder: str | Path) -> bool:
    """Whether a folder holds a RETRO, and not a language model alone."""
    return (Path(name_or_folder).expanduser() / SETTINGS).is_file()


def open_retro(name_or_folder: str | Path) -> RetroFolder:
    """A RETRO that was saved; every tensor is found and its shape checked, none is read yet.

    Raises:
        ModelFolderError: the folder holds no RETRO, or not all of one.
    """
    path = model_folder.resolve(name_or_folder, patterns=PATTERNS)
    if not (path / SETTINGS).is_file():
        raise ModelFolderError(
            f"{path} has no {SETTINGS}: it holds no RETRO; give the folder that `memcorpus retro train` wrote"
        )
    try:
        settings = RetroSettings.from_json(model_folder.read_json(path / SETTINGS))
    except errors.EncoderError as error:
        raise ModelFolderError(f"{path / SETTINGS}: {error}") from error
    shape = read_language(path)
    if shape != settings.config.language:
        raise ModelFolderError(
            f"{path / SETTINGS} and config.json tell of different language models; do they belong together?"
        )
    found = llama.find(path, shape)
    wanted = names.retrieval_shapes(settings.config)
    found |= model_folder.find_wanted_tensors(path / EXTRA_WEIGHTS, wanted, settings=SETTINGS)
    return RetroFolder(path=path, settings=settings, tensor=lambda name: found[name].read())


def encoder_tensors(opened: RetroFolder) -> dict[str, Tensor]:
    """Where the tensors lie that the neighbours' encoder is made of, by name.

    Args:
        opened: a RETRO that was saved.

    Raises:
        ModelFolderError: one is missing.
    """
    config = opened.settings.config
    wanted = {
        name: shape
        for name, shape in names.retrieval_shapes(config).items()
        if name.startswith(names.ENCODER)
    }
    found = model_folder.find_wanted_tensors(opened.path / EXTRA_WEIGHTS, wanted, settings=SETTINGS)
    if config.encoder is not None and config.encoder.shared_embedding:
        found[names.EMBEDDING] = llama.find(opened.path, config.language)[names.EMBEDDING]
    return found


def read_language(name_or_folder: str | Path) -> LanguageConfig:
    """The shape of the language model in a folder, a RETRO's too.

    Raises:
        ModelFolderError: none is there, or one that is not known here.
    """
    return llama.read_config(model_folder.resolve(name_or_folder, patterns=PATTERNS))


def from_language(name_or_folder: str | Path, settings: RetroSettings, *, seed: int = 0) -> RetroFolder:
    """A RETRO around a language model: its weights from the folder, all others as training begins.

    Args:
        name_or_folder: a Llama, or a RETRO whose language model is taken.
        settings: whose language model has the folder's shape.
        seed: of what is drawn.

    Raises:
        ModelFolderError: the folder holds no language model of this shape.
    """
    path = model_folder.resolve(name_or_folder, patterns=PATTERNS)
    if read_language(path) != settings.config.language:
        raise ModelFolderError(f"{path} is a language model of another shape than the RETRO's")
    found = llama.find(path, settings.config.language)
    drawn = names.initial(settings.config, seed=seed)

    def tensor(name: str) -> np.ndarray:
        return found[name].read() if name in found else drawn(name)

    return RetroFolder(path=path, settings=settings, tensor=tensor)


def from_nothing(tokenizer: str | Path, settings: RetroSettings, *, seed: int = 0) -> RetroFolder:
    """A RETRO all of whose weights are drawn.

    Args:
        tokenizer: a folder with the tokenizer.
        settings: its shape.
        seed: of the weights.
    """
    path = model_folder.resolve(tokenizer, patterns=PATTERNS)
    model_folder.find_tokenizer_files(path)
    return RetroFolder(path=path, settings=settings, tensor=names.initial(settings.config, seed=seed))


def save(model: Retro, settings: RetroSettings, folder: Path, *, like: Path) -> None:
    """Write a RETRO's folder.

    Args:
        model: its weights are kept in float32.
        settings: go into retro.json.
        folder: must not be there; it is written aside and renamed, so it is there whole or not at all.
        like: the tokenizer is copied from this folder.

    Raises:
        FileExistsError: the folder is there.
    """
    from safetensors.numpy import save_file

    from encoders.retro import tensors

    if folder.exists():
        raise FileExistsError(f"{folder} exists; give a folder that does not")
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for file in model_folder.find_tokenizer_files(like):
        shutil.copy(file, aside)
    tokens = settings.window * settings.config.chunk_tokens
    raw = llama.to_json(settings.config.language, tokens=tokens)
    (aside / "config.json").write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    language, extra = tensors.named(model)
    save_file(language, aside / model_folder.WEIGHTS, metadata={"format": "pt"})
    save_file(extra, aside / EXTRA_WEIGHTS)
    (aside / SETTINGS).write_text(json.dumps(settings.to_json(), indent=2) + "\n", encoding="utf-8")
    model_folder.put(aside, folder)
