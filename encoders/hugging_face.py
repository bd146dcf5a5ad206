"""Any encoder that transformers loads, as a memory encoder on PyTorch: the states of layers that are chosen.

Of a model with a decoder beside its encoder (T5Gemma, BART) the encoder alone. Importing this loads no
framework; opening a folder loads transformers for its configuration, and no weight.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from encoders import errors, fingerprint, model_folder, torch_encoder, transformers_output
from encoders.aliases import Json
from encoders.fingerprint import Fingerprint
from encoders.memory_spec import LEAST_TOKENS, MemorySpec
from encoders.model_folder import ModelFolderError
from encoders.retriever_folder import NOISE, table_limit
from encoders.token_encoder import TRANSFORMERS
from encoders.tokenizing import Tokens, unknown_id
from encoders.torch_encoder import TorchEncoder

# What a hub name downloads: settings, tokenizer, safetensors; never code nor pickles.
PATTERNS: Final = (*model_folder.ENCODER_PATTERNS, *model_folder.OTHER_TOKENIZER_FILES)
# Of the first token's state, which is not read: folders may lack its weights.
_UNREAD: Final = "pooler."


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A folder of transformers' of which the settings were read; see `token_encoder.OpenedEncoder`.

    Attributes:
        config: of the encoder, as transformers understands it.
        settings: config.json, without what decides no number.
        hidden: width of one layer's states.
    """

    folder: Path
    memory: MemorySpec
    config: Any
    settings: Json
    hidden: int

    @property
    def width(self) -> int:
        """Of a row."""
        return self.hidden * len(self.layers)

    @property
    def layers(self) -> tuple[int, ...]:
        """Whose states are memory."""
        assert self.memory.layers is not None  # as it was settled
        return self.memory.layers

    @property
    def layers_run(self) -> int:
        """See `token_encoder.OpenedEncoder`."""
        return int(self.config.num_hidden_layers)

    @functools.cached_property
    def _tensors(self) -> dict[str, model_folder.Tensor]:
        return model_folder.find_tensors(self.folder)

    @property
    def weights(self) -> int:
        """See `token_encoder.OpenedEncoder`."""
        return sum(math.prod(tensor.shape) for tensor in self._tensors.values())

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """See `token_encoder.OpenedEncoder`. Of all the folder's tensors, a decoder's among them: which of
        them an architecture reads is known to its code alone."""
        return fingerprint.of(
            {
                "kind": TRANSFORMERS,
                "arithmetic": fingerprint.ARITHMETIC,
                "tensors": fingerprint.digest_tensors(self._tensors),
                "config": self.settings,
                "layers": max(self.layers),
                "states": list(self.layers),
                "tokenizer": {
                    path.name: fingerprint.digest_file(path)
                    for path in model_folder.find_any_tokenizer_files(self.folder)
                },
                "max_tokens": self.memory.max_tokens,
                "template": self.memory.template,
                "compute_dtype": self.memory.compute_dtype,
            }
        )

    def tokenizer(self) -> Tokenizer:
        """See `token_encoder.OpenedEncoder`."""
        return Tokenizer(read_tokenizer(self.folder), max_tokens=self.memory.max_tokens)

    def require_loadable(self, *, model_parallel: int | None = None) -> None:
        """See `token_encoder.OpenedEncoder`. Names of tensors tell that all are there; where they do not,
        since transformers renames some, the model is loaded to see."""
        torch_encoder.require_own_device(model_parallel)
        tokenizer = self.tokenizer()
        if not self._names_are_there():
            Tower(self, device="cpu", padding=tokenizer.padding)

    def _names_are_there(self) -> bool:
        import torch

        with transformers_output.silenced(), torch.device("meta"):
            config, kind = _class_of(self.folder)
            try:
                model = kind.from_config(config, trust_remote_code=False)
            except Exception:  # whatever the model's own code raises: loading tells
                return False
        encoder = model.get_encoder() if config.is_encoder_decoder else model
        used = {id(parameter) for parameter in encoder.parameters()}
        prefix = f"{model.base_model_prefix}."
        stored = {name.removeprefix(prefix) for name in self._tensors}
        return all(
            name.removeprefix(prefix) in stored or _UNREAD in name or id(parameter) not in used
            for name, parameter in model.named_parameters()
        )

    def load(self, *, device: str = "all", model_parallel: int | None = None) -> TorchEncoder:
        """See `token_encoder.OpenedEncoder`."""
        torch_encoder.require_own_device(model_parallel)
        tokenizer = self.tokenizer()
        tower = Tower(self, device=device, padding=tokenizer.padding)
        if tokenizer.size > tower.vocabulary:
            raise ModelFolderError(
                f"{self.folder} has a tokenizer of {tokenizer.size:,} tokens for an embedding of "
                f"{tower.vocabulary:,} rows; do they belong together?"
            )
        return TorchEncoder(tower=tower, tokenize=tokenizer, memory=self.memory, print_of=self.fingerprint)


def open_folder(name_or_folder: str | Path, memory: MemorySpec) -> OpenedModel:
    """Look at a model of transformers', in a folder or on the hub, without loading it.

    Raises:
        ModelFolderError: no such model, or one that brings code or an adapter.
        EncoderError: it has no such layer.
    """
    folder = model_folder.resolve(name_or_folder, patterns=PATTERNS)
    settings = model_folder.read_json(folder / "config.json")
    if (folder / "adapter_config.json").is_file():
        raise ModelFolderError(
            f"{folder} holds an adapter of another model, wanted whole weights; merge it into the model"
        )
    config = _read_config(folder)
    hidden, layers = (getattr(config, name, None) for name in ("hidden_size", "num_hidden_layers"))
    if not isinstance(hidden, int) or not isinstance(layers, int):
        raise ModelFolderError(
            f"{folder / 'config.json'} does not say how wide and how deep the {settings.get('model_type')} "
            "is; wanted an encoder of text"
        )
    limit = table_limit({**config.to_dict(), "model_type": config.model_type}) or memory.max_tokens
    return OpenedModel(
        folder=folder,
        memory=replace(
            memory,
            layers=_settled(memory.layers, layers),
            max_tokens=max(LEAST_TOKENS, min(memory.max_tokens, limit)),
        ),
        config=config,
        settings={key: value for key, value in settings.items() if key not in NOISE},
        hidden=hidden,
    )


def _settled(asked: tuple[int, ...] | None, layers: int) -> tuple[int, ...]:
    """Layers counted from the front; the last where none was asked for."""
    if asked is None:
        return (layers,)
    found = tuple(layer + layers + 1 if layer < 0 else layer for layer in asked)
    if len(set(found)) < len(found) or not all(0 <= layer <= layers for layer in found):
        raise errors.EncoderError(
            f"memory layers are {','.join(map(str, asked))} of a model of {layers}: wanted 0 (its "
            f"embeddings) to {layers}, or -1 (its last) down, each once"
        )
    return found


def _read_config(folder: Path) -> Any:
    """The configuration of a folder's encoder, as transformers understands it."""
    transformers_output.load()
    from transformers import AutoConfig, PreTrainedConfig

    with transformers_output.silenced():
        try:
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        except Exception as error:  # whatever the configurations' own checks raise
            reason = " ".join(str(error).split())
            raise ModelFolderError(
                f"{folder} has a configuration that cannot be read: {reason:.300}"
            ) from error
    own = getattr(config, "encoder", None)
    found = own if isinstance(own, PreTrainedConfig) else config
    return found.get_text_config()


def read_tokenizer(folder: Path) -> Any:
    """A folder's tokenizer as transformers has it.

    Raises:
        ModelFolderError: it cannot be read.
    """
    model_folder.find_any_tokenizer_files(folder)
    transformers_output.load()
    from transformers import AutoTokenizer

    with transformers_output.silenced():
        try:
            return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        except Exception as error:  # whatever the tokenizer's own parsers raise
            reason = " ".join(str(error).split())
            raise ModelFolderError(f"{folder} has a tokenizer that cannot be read: {reason}") from error


class Tokenizer:
    """A tokenizer of transformers' with a limit on tokens; a text is cut as it cuts it.

    Attributes:
        size: of its vocabulary.
        padding: the id that fills rows up.
    """

    def __init__(self, tokenizer: Any, *, max_tokens: int) -> None:
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        # Where a text is cut is a state of the library's tokenizer, which a call sets for itself alone.
        self._alone = threading.Lock()
        self.size: int = len(tokenizer)
        self.padding: int = tokenizer.pad_token_id or 0
        self._unknown = unknown_id(tokenizer)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Token ids of texts, special ones among them, and how many of each were cut."""
        return cut_tokens(self._ids, texts, max_tokens=self._max_tokens, unknown=self._unknown)

    def offsets(self, tokens: Tokens) -> npt.NDArray[np.int64]:
        """Where the memory of each text begins, [texts + 1]: every token has a row."""
        return tokens.offsets

    def _ids(self, texts: Sequence[str], limit: int | None) -> list[list[int]]:
        with self._alone:
            found: list[list[int]] = self._tokenizer(
                list(texts),
                # Said each time: a tokenizer's file may hold a limit of its own.
                truncation=limit is not None,
                max_length=limit,
                padding=False,
                return_attention_mask=False,
                verbose=False,
            )["input_ids"]
        return found


def cut_tokens(
    ids_of: Callable[[Sequence[str], int | None], list[list[int]]],
    texts: Sequence[str],
    *,
    max_tokens: int,
    unknown: int | None,
) -> Tokens:
    """Texts to ids as a library cuts them, and what it cut.

    Args:
        ids_of: ids of texts, cut at a limit, or whole where that is None.

    Raises:
        EncoderError: a text has no token at all.
    """
    sequences = ids_of(texts, None) if texts else []
    whole = np.fromiter(map(len, sequences), np.int64, len(sequences))
    long = np.flatnonzero(whole > max_tokens)
    if len(long):
        short = ids_of([texts[int(i)] for i in long], max_tokens)
        for place, sequence in zip(long, short, strict=True):
            sequences[place] = sequence
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    if len(lengths) and not lengths.min():
        raise errors.EncoderError(
            f"the text {texts[int(lengths.argmin())]!r:.60} has no token, wanted one or more; does the "
            "tokenizer go with the texts?"
        )
    offsets = np.zeros(len(sequences) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    ids = np.fromiter((i for sequence in sequences for i in sequence), np.int32, int(offsets[-1]))
    return Tokens(ids, offsets, whole - lengths, unknown)


class Tower:
    """The model on its device; see `torch_encoder.Tower`.

    Weights are held in float32, whatever they are stored in.

    Raises:
        ModelFolderError: it cannot be loaded, or its files lack weights.
    """

    def __init__(self, opened: OpenedModel, *, device: str, padding: int) -> None:
        import torch

        self.device = torch_encoder.device_of(device)
        self.width = opened.width
        self.padding = padding
        self._layers, self._last = opened.layers, int(opened.config.num_hidden_layers)
        folder = str(opened.folder)
        with transformers_output.silenced():
            try:
                config, kind = _class_of(opened.folder)
                model, told = kind.from_pretrained(
                    folder,
                    config=config,
                    dtype=torch.float32,
                    output_loading_info=True,
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                )
            except Exception as error:  # whatever the model's own loader raises
                reason = " ".join(str(error).split())
                raise ModelFolderError(f"{folder} cannot be loaded as an encoder: {reason:.300}") from error
        self._model = model.get_encoder() if model.config.is_encoder_decoder else model
        _require_all_weights(opened.folder, model, self._model, told)
        self._model.to(self.device).eval()
        self.vocabulary = int(model.get_input_embeddings().weight.shape[0])

    def run(self, ids: Any, mask: Any) -> Any:
        """See `torch_encoder.Tower`."""
        import torch

        found = self._model(
            input_ids=ids,
            attention_mask=mask,
            output_hidden_states=self._layers != (self._last,),
            return_dict=True,
        )
        # The last with the norm that ends the encoder, as transformers gives it.
        states = [
            found.last_hidden_state if layer == self._last else found.hidden_states[layer]
            for layer in self._layers
        ]
        # Layers may compute in several types under autocast.
        return torch.cat([state.float() for state in states], dim=-1)

    def kept(self, ids: npt.NDArray[np.int32]) -> None:
        """Every token has states."""


def _class_of(folder: Path) -> tuple[Any, Any]:
    """A folder's configuration, and what makes its model: of an encoder alone where there is such a class, so
    that no decoder is loaded."""
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding

    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if type(config) not in AutoModelForTextEncoding._model_mapping:
        return config, AutoModel
    if config.is_encoder_decoder:
        config.is_encoder_decoder = False
    return config, AutoModelForTextEncoding


def _require_all_weights(folder: Path, model: Any, encoder: Any, told: dict[str, Any]) -> None:
    """Refuse a model of which the library has made up weights: it starts what it does not find at random."""
    used = {id(parameter) for parameter in encoder.parameters()}
    names = {
        name for name, parameter in model.named_parameters(remove_duplicate=False) if id(parameter) in used
    }
    wrong = {*told["missing_keys"], *(key[0] for key in told["mismatched_keys"])}
    missing = sorted(name for name in wrong & names if _UNREAD not in name)
    if missing:
        raise ModelFolderError(
            f"{folder} lacks {len(missing):,} of its weights ({missing[0]}, ...), which would be random; "
            "copy or save the model again"
        )
