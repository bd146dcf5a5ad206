"""A reader as a folder: a Hugging Face T5 that `memcorpus build` takes, and what a reader has beyond.

    config.json, model.safetensors, tokenizer   T5ForConditionalGeneration, by its own names: the memory
                                                encoder is its first layers, the live encoder its last
    reader.json                                 the settings: α, β, how questions and passages become text
    reader.safetensors                          what a T5 has no name for: the live encoder's table of
                                                positions, the score, a separate question encoder
    codec.safetensors                           the codec's parameters, where it was trained with a codec
                                                that has some: those of the memory that it reads

So one folder is the reader and the memory encoder that belongs to it, and their fingerprint is one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ml_dtypes
import numpy as np

from encoders import errors, memory_encoder, model_folder, weights
from encoders.aliases import Json
from encoders.fingerprint import Fingerprint
from encoders.memory_spec import MAX_TOKENS, MemorySpec
from encoders.model_folder import ModelFolderError
from encoders.reader.config import ReaderConfig
from encoders.reader.names import (
    LIVE_BIAS,
    QUESTION,
    SCORE_BIAS,
    SCORE_NORM,
    SCORE_WEIGHT,
    extra_shapes,
)
from encoders.t5_config import T5Config, require_whole
from encoders.template import MEMORY_TEMPLATE, PassageTemplate

if TYPE_CHECKING:
    from encoders.reader.model import Reader

SETTINGS: Final = "reader.json"
EXTRA_WEIGHTS: Final = "reader.safetensors"
CODEC: Final = "codec.safetensors"
FORMAT: Final = 1
# What a hub name downloads of a reader.
PATTERNS: Final = (*model_folder.ENCODER_PATTERNS, SETTINGS, EXTRA_WEIGHTS, CODEC)

QUESTION_TEMPLATE: Final = "question: {text}"


@dataclass(frozen=True, kw_only=True)
class ReaderSettings:
    """All of a reader but its weights.

    Args:
        config: the model.
        compute_dtype, max_tokens, template: as in `MemorySpec`; see `memory`.
        question_template: how a question becomes text, in {text}.
        answer_tokens: the longest answer, EOS included.
        retrieved, selected: k, and m that it reads with; selected is None without a score.
        codec: of the memory that it was trained on, {name, configuration} as a card has it; None: on memory
            as the encoder gives it.

    Raises:
        EncoderError: one is out of range.
    """

    config: ReaderConfig
    compute_dtype: str = "bfloat16"
    max_tokens: int = MAX_TOKENS
    template: str = MEMORY_TEMPLATE
    question_template: str = QUESTION_TEMPLATE
    answer_tokens: int = 32
    retrieved: int = 20
    selected: int | None = None
    codec: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _ = self.memory
        if self.codec is not None and not self.config.memory_layers:
            raise errors.EncoderError(f"{self.config.system} stores no memory, and has no codec for it")
        for name, least in (("answer_tokens", 2), ("retrieved", 1)):
            require_whole(name, getattr(self, name), least)
        if self.selected is not None:
            require_whole("selected", self.selected, 1)
        if self.config.reranks and not (self.selected and self.selected <= self.retrieved):
            raise errors.EncoderError(
                f"{self.selected} passages selected of {self.retrieved} retrieved: wanted 1 or more, and no "
                "more than are retrieved"
            )
        if not self.config.reranks and self.selected is not None:
            raise errors.EncoderError(f"{self.config.system} scores no passages and selects none")
        PassageTemplate(self.question_template)

    @property
    def memory(self) -> MemorySpec:
        """How passages become the memory that this reader reads. How many are computed at a time is no
        matter of a reader's."""
        return MemorySpec(
            live_proportion=self.config.live_proportion,
            compute_dtype=self.compute_dtype,
            max_tokens=self.max_tokens,
            template=self.template,
        )

    def memory_fingerprint(self, folder: str | Path) -> Fingerprint:
        """The fingerprint of the memory that this reader reads, from the weights in `folder`."""
        return memory_encoder.memory_fingerprint(folder, self.memory)

    def to_json(self) -> Json:
        """What `from_json` reads."""
        raw = {name: value for name, value in asdict(self).items() if name != "config"}
        # Of readers without a codec it is left out, so that an older memcorpus reads them.
        if self.codec is None:
            del raw["codec"]
        return {"format": FORMAT, "reader": self.config.to_json(), **raw}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ReaderSettings:
        """Raises:
        EncoderError: a field is missing, unknown, or out of range.
        """
        values = dict(raw)
        if values.pop("format", None) != FORMAT:
            raise errors.EncoderError(f"format is {raw.get('format')!r}, wanted {FORMAT}")
        try:
            return cls(config=ReaderConfig.from_json(values.pop("reader")), **values)
        except (KeyError, TypeError, AttributeError) as error:
            raise errors.EncoderError(f"no reader's settings: {error}") from error


@dataclass(frozen=True, kw_only=True)
class ReaderFolder:
    """A folder's settings, and where its tensors are; `tensor(name)` reads one."""

    path: Path
    settings: ReaderSettings
    tensor: Callable[[str], np.ndarray]

    def codec_parameters(self) -> dict[str, np.ndarray]:
        """The trained parameters of the codec that this reader was trained with, by name; none without one.

        Raises:
            ModelFolderError: the file cannot be read.
        """
        path = self.path / CODEC
        if self.settings.codec is None or not path.is_file():
            return {}
        return from_tensors(path)


def is_reader(name_or_folder: str | Path) -> bool:
    """Whether a folder holds a reader, and not a plain T5."""
    folder = Path(name_or_folder).expanduser()
    if model_folder.is_placed(name_or_folder):
        folder = model_folder.resolve(name_or_folder, patterns=(SETTINGS,))
    return (folder / SETTINGS).is_file()


def open_reader(name_or_folder: str | Path) -> ReaderFolder:
    """A reader that was saved; every tensor is found and its shape checked, none is read yet.

    Raises:
        ModelFolderError: the folder holds no reader, or not all of one.
    """
    path = model_folder.resolve(name_or_folder, patterns=PATTERNS)
    if not (path / SETTINGS).is_file():
        from encoders.retro.folder import is_retro  # for this message alone

        if is_retro(path):
            raise ModelFolderError(
                f"{path} holds a RETRO, a language model, which writes on and answers no question: "
                "memcorpus retro generate CORPUS PROMPT --model FOLDER"
            )
        raise ModelFolderError(
            f"{path} has no {SETTINGS}: it holds no reader; give the folder that `memcorpus train` wrote"
        )
    try:
        settings = ReaderSettings.from_json(model_folder.read_json(path / SETTINGS))
    except errors.EncoderError as error:
        raise ModelFolderError(f"{path / SETTINGS}: {error}") from error
    config = settings.config
    found = _t5_tensors(path, config)
    extra = model_folder.find_wanted_tensors(path / EXTRA_WEIGHTS, extra_shapes(config), settings=SETTINGS)
    found |= {name: tensor.read for name, tensor in extra.items()}
    if not config.memory_layers:
        found[LIVE_BIAS] = found[weights.RELATIVE_BIAS]
    return ReaderFolder(path=path, settings=settings, tensor=lambda name: found[name]())


def from_t5(name_or_folder: str | Path, settings: ReaderSettings) -> ReaderFolder:
    """A reader not yet trained, from a T5.1.1: the memory encoder is its first (1-α)L layers, the live
    encoder its last αL with a copy of the table of positions, a separate question encoder a copy of the
    memory encoder; the score is drawn at random, the same each time.

    Raises:
        ModelFolderError: the folder holds no T5 with a decoder, or one of another shape.
    """
    path = model_folder.resolve(name_or_folder)
    config = settings.config
    found = _t5_tensors(path, config)

    def tensor(name: str) -> np.ndarray:
        if name == SCORE_WEIGHT:
            # Not zero: Adafactor's steps are relative to a weight's own size, and it would stay there.
            d = config.t5.d_model
            return np.random.default_rng(0).normal(0, d**-0.5, d).astype(np.float32)
        if name in (SCORE_NORM, SCORE_BIAS):
            return np.full(extra_shapes(config)[name], float(name == SCORE_NORM), np.float32)
        if name == LIVE_BIAS:
            name = weights.RELATIVE_BIAS
        return found[name.removeprefix(QUESTION)]()

    return ReaderFolder(path=path, settings=settings, tensor=tensor)


def read_t5(name_or_folder: str | Path) -> tuple[T5Config, int]:
    """Shape of a T5's encoder, and the layers of its decoder.

    Raises:
        ModelFolderError: no T5, or one that starts or ends its answers otherwise than the published.
    """
    path = model_folder.resolve(name_or_folder)
    raw = model_folder.read_json(path / "config.json")
    config = weights.read_config(path)
    layers = raw.get("num_decoder_layers") or config.layers
    start, eos = raw.get("decoder_start_token_id", 0), raw.get("eos_token_id", 1)
    if (start, eos) != (0, 1):
        raise ModelFolderError(
            f"{path / 'config.json'} starts answers with token {start} and ends them with {eos}; wanted "
            "0 and 1, as every published T5 has"
        )
    return config, int(layers)


def save(reader: Reader, settings: ReaderSettings, folder: Path, *, like: Path) -> None:
    """Write a reader's folder.

    Args:
        reader: its weights are kept in float32.
        settings: go into reader.json.
        folder: must not be there; it is written aside and renamed, so it is there whole or not at all.
        like: config.json and the tokenizer are copied from this folder.

    Raises:
        FileExistsError: the folder is there.
    """
    from safetensors.numpy import save_file

    from encoders.reader import tensors

    if folder.exists():
        raise FileExistsError(f"{folder} exists; give a folder that does not")
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    for file in model_folder.find_tokenizer_files(like):
        shutil.copy(file, aside)
    raw = model_folder.read_json(like / "config.json")
    raw |= {"architectures": ["T5ForConditionalGeneration"], "dtype": "float32"}
    raw |= {"tie_word_embeddings": False, "scale_decoder_outputs": False}
    raw |= {"num_decoder_layers": settings.config.decoder_layers}
    raw.pop("torch_dtype", None)
    (aside / "config.json").write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    whole, extra = tensors.named(reader)
    save_file(whole, aside / model_folder.WEIGHTS, metadata={"format": "pt"})
    if extra:
        save_file(extra, aside / EXTRA_WEIGHTS)
    if reader.codes is not None and (parameters := reader.codes.stored_parameters()):
        save_file(to_tensors(parameters), aside / CODEC)
    (aside / SETTINGS).write_text(json.dumps(settings.to_json(), indent=2) + "\n", encoding="utf-8")
    aside.rename(folder)


def to_tensors(parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A codec's parameters as safetensors has them: what a store keeps as 16 bits is bfloat16."""
    return {
        name: array.view(ml_dtypes.bfloat16) if array.dtype == np.uint16 else array
        for name, array in parameters.items()
    }


def from_tensors(path: Path) -> dict[str, np.ndarray]:
    """A codec's parameters from a safetensors file, as a store has them.

    Raises:
        ModelFolderError: the file cannot be read.
    """
    found = {name: tensor.read() for name, tensor in model_folder.find_file_tensors(path).items()}
    return {name: v.view("<u2") if v.dtype == ml_dtypes.bfloat16 else v for name, v in found.items()}


def _t5_tensors(path: Path, config: ReaderConfig) -> dict[str, Callable[[], np.ndarray]]:
    """How to read every tensor of the encoder and decoder, the encoder's under their canonical names."""
    shape, layers = read_t5(path)
    if shape != config.t5 or layers != config.decoder_layers:
        raise ModelFolderError(
            f"{path} is a T5 of {shape.layers} + {layers} layers, width {shape.d_model}, the reader is one "
            f"of {config.t5.layers} + {config.decoder_layers}, width {config.t5.d_model}; "
            "do they belong together?"
        )
    encoder = weights.find(path, shape, shape.layers)
    stored = model_folder.find_tensors(path)
    found = {name: tensor.read for name, tensor in encoder.items()}
    for name, wanted in weights.decoder_shapes(shape, layers).items():
        tied = name == weights.HEAD and _ties_head(path)
        tensor = stored.get(name, encoder[weights.EMBEDDING] if tied else None)
        if tensor is None or tensor.shape != wanted:
            there = "is missing" if tensor is None else f"has shape {list(tensor.shape)}"
            raise ModelFolderError(
                f"{path}: {name} {there}, wanted {list(wanted)} as config.json says; a reader needs a T5 "
                "with its decoder and its head (T5ForConditionalGeneration)"
            )
        scaled = name == weights.HEAD and _scales_outputs(path)
        found[name] = _scaled(tensor) if scaled else tensor.read
    return found


def _ties_head(path: Path) -> bool:
    """Whether this T5 may have its embedding for a head: as transformers, where config.json is mute."""
    return bool(model_folder.read_json(path / "config.json").get("tie_word_embeddings", True))


def _scales_outputs(path: Path) -> bool:
    """Whether this T5 scales its decoder's output by 1/sqrt(d): T5 1.0, whose head is its embedding, does.

    transformers 4 said so with tie_word_embeddings; 5 writes that as true for all.
    """
    raw = model_folder.read_json(path / "config.json")
    return bool(raw.get("scale_decoder_outputs", raw.get("tie_word_embeddings", True)))


def _scaled(head: model_folder.Tensor) -> Callable[[], np.ndarray]:
    """A head that does the scaling, since a reader's is its own."""
    return lambda: head.read().astype(np.float32) * np.float32(head.shape[1] ** -0.5)
