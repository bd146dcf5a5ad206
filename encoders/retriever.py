"""The retriever: texts in, one vector each, through jax or sentence-transformers.

GTR (Ni et al. 2022): T5 encoder, mean over real tokens, Dense without bias, L2 norm; questions and
passages go through the same tower, so there is one `encode` for both (PAPERS: Retrieval model).
The folder's modules.json decides what is run. Importing this loads neither jax nor torch; `Retriever.load`
loads one of them. Their vectors agree to rounding (1e-5 of a vector of length 1 at most, in float32), so the
fingerprint is the same for both; a build stays with one of them all the same, so that its bytes do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from encoders import errors, fingerprint, gtr, model_folder
from encoders.fingerprint import Fingerprint
from encoders.model_folder import ModelFolderError
from encoders.t5_config import T5Config
from encoders.transformers_output import silenced

# GTR's longest input (Ni et al. 2022, section 3).
MAX_TOKENS = 512
DEFAULT_BATCH_SIZE = 32
VECTOR_DTYPES = ("float32", "float16")

JAX: Final = "jax"
SENTENCE_TRANSFORMERS: Final = "sentence-transformers"
BACKENDS: Final = (JAX, SENTENCE_TRANSFORMERS)

# What a hub name downloads: configurations, tokenizer and safetensors of every module.
PATTERNS = ("*.json", "*.safetensors", "spiece.model")

# Modules that are known to run no code but sentence-transformers' own, and whether they have
# weights. Both the old and the new module paths end in these class names.
_MODULES = {"Transformer": True, "Dense": True, "Pooling": False, "Normalize": False}

# Keys of config files that say who saved them, or in what dtype, and decide no number.
_NOISE = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"}


class _Tower(Protocol):
    """A model that runs: places in the texts and their vectors [places, dim], batch by batch."""

    dim: int

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[Any, npt.NDArray[np.float32]]]: ...


class Retriever:
    """A loaded retriever. Made by `load`.

    Args:
        dim: length of a vector.
        max_tokens: texts are cut to this.
        backend: what runs it.
        fingerprint: hex digest of all that decides the numbers.
        description: what the digest was taken of.
    """

    def __init__(self, *, tower: _Tower, print_of: Fingerprint, max_tokens: int, backend: str) -> None:
        self._tower = tower
        self.dim: int = tower.dim
        self.max_tokens = max_tokens
        self.backend = backend
        self.fingerprint = print_of.hex
        self.description = print_of.description

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        *,
        max_tokens: int = MAX_TOKENS,
        backend: str | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        device: str = "all",
    ) -> Retriever:
        """Loads a sentence-transformers model, from a folder or from the hub.

        Weights are computed with in float32, whatever they are stored in: GTR is published in
        float16, which is slow and inexact on a CPU.

        Args:
            name_or_folder: a folder with modules.json, or a hub name.
            max_tokens: texts are cut to this, or to what the folder says if that is less; at most
                512.
            backend: "jax" or "sentence-transformers"; None for `default_backend`.
            batch_size: texts of one batch, with sentence-transformers; jax's batches go by tokens.
            device: "all", a kind such as "cpu" or "gpu", or one of a kind, "gpu:1"; sentence-transformers
                takes the first of several. See `sharding.named`.

        Raises:
            ModelFolderError: the model cannot be loaded, or not by this backend, or has weights only
                as pickles.
            ValueError: max_tokens is not in 2..512, or another argument is out of range.
        """
        folder, max_tokens, print_of = _examine(name_or_folder, max_tokens)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, wanted a positive number")
        chosen = backend or _default_backend(print_of.description)
        if chosen not in BACKENDS:
            raise errors.EncoderError(f"backend is {backend!r}, wanted one of {', '.join(BACKENDS)}")
        tower: _Tower
        if chosen == JAX:
            tower = gtr.Tower(folder, print_of.description, max_tokens=max_tokens, devices=device)
        else:
            tower = _SentenceTransformers(folder, max_tokens, batch_size=batch_size, device=device)
        return cls(tower=tower, print_of=print_of, max_tokens=max_tokens, backend=chosen)

    def encode(
        self,
        texts: Sequence[str],
        *,
        dtype: npt.DTypeLike = np.float32,
        on_batch: Callable[[int], None] | None = None,
    ) -> npt.NDArray[Any]:
        """The vectors of texts, questions and passages alike.

        Texts of similar length run together; which ones depends on the list alone, so the same
        call gives the same bytes on the same kind of machine.

        Args:
            texts: any strings; longer ones are cut at max_tokens.
            dtype: float32, or float16 (rounded once; vectors of length 1 lose 5e-4 at most).
            on_batch: called after each batch with the number of texts it encoded.

        Returns:
            [texts, dim], in the order given.

        Raises:
            ValueError: dtype is none of these.
            UnstorableError: a vector is not finite in dtype.
        """
        kind = np.dtype(dtype)
        if kind.name not in VECTOR_DTYPES:
            raise ValueError(f"dtype is {kind}, wanted one of {', '.join(VECTOR_DTYPES)}")
        vectors = np.empty((len(texts), self.dim), kind)
        for rows, batch in self._tower.batches(texts):
            with np.errstate(over="ignore"):
                vectors[rows] = batch
            whole = np.isfinite(vectors[rows]).all(axis=1)
            if not whole.all():
                raise errors.UnstorableError(
                    f"text {rows[int(np.argmin(whole))]} has a vector that {kind} cannot hold; "
                    "take float32, and check that the weights are whole"
                )
            if on_batch is not None:
                on_batch(len(rows))
        return vectors


class _SentenceTransformers:
    """The model as sentence-transformers runs it, texts of similar length together."""

    def __init__(self, folder: Path, max_tokens: int, *, batch_size: int, device: str) -> None:
        with silenced():
            import torch
            from sentence_transformers import SentenceTransformer

            try:
                model = SentenceTransformer(
                    str(folder),
                    # None: an accelerator if there is one. Torch has another word for the kind.
                    device=None if device == "all" else device.replace("gpu", "cuda"),
                    trust_remote_code=False,
                    local_files_only=True,
                    model_kwargs={"dtype": torch.float32, "use_safetensors": True},
                )
            except Exception as error:  # whatever the modules' own loaders raise
                reason = " ".join(str(error).split())
                raise ModelFolderError(f"{folder} cannot be loaded as a retriever: {reason}") from error
        self.model: Any = model.float().eval()
        self.model.max_seq_length = max_tokens
        self.dim: int = self.model.get_embedding_dimension()
        self._batch_size = batch_size

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[Any, npt.NDArray[np.float32]]]:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            yield (
                rows,
                self.model.encode(
                    [texts[i] for i in rows],
                    batch_size=len(rows),
                    show_progress_bar=False,
                    convert_to_numpy=True,
                ),
            )


def default_backend(name_or_folder: str | Path) -> str:
    """jax where it is installed and knows all of the folder's modules, else sentence-transformers."""
    return _default_backend(_examine(name_or_folder, MAX_TOKENS)[-1].description)


def _default_backend(description: dict[str, Any]) -> str:
    return JAX if find_spec("jax") and gtr.unfit(description) is None else SENTENCE_TRANSFORMERS


def retriever_fingerprint(name_or_folder: str | Path, *, max_tokens: int = MAX_TOKENS) -> Fingerprint:
    """The fingerprint that `Retriever.load` would have, without loading torch.

    Args and Raises: as for `Retriever.load`.
    """
    return _examine(name_or_folder, max_tokens)[-1]


def retriever_dim(name_or_folder: str | Path) -> int:
    """Dimensions of the vectors, as the modules' settings have it, without loading torch.

    Raises:
        ModelFolderError: the folder is no retriever, or does not say.
    """
    dim = 0
    for module in _examine(name_or_folder, MAX_TOKENS)[-1].description["modules"]:
        config = module["config"]["config.json"]
        for key in ("embedding_dimension", "word_embedding_dimension", "out_features"):
            dim = int(config.get(key) or dim)
    if dim < 1:
        raise ModelFolderError(f"{name_or_folder} does not say how many dimensions its vectors have")
    return dim


def retriever_config(name_or_folder: str | Path) -> T5Config:
    """The shape of the retriever's encoder, without loading torch.

    Raises:
        ModelFolderError: the folder is no retriever, or its encoder no T5.
    """
    described = _examine(name_or_folder, MAX_TOKENS)[-1].description["modules"][0]
    try:
        return T5Config.from_hugging_face(described["config"]["config.json"])
    except errors.EncoderError as error:
        raise ModelFolderError(f"{name_or_folder}: {error}") from error


def _examine(name_or_folder: str | Path, max_tokens: int) -> tuple[Path, int, Fingerprint]:
    """Folder, effective token limit, and fingerprint, after checking every module."""
    if not 2 <= max_tokens <= MAX_TOKENS:
        raise ValueError(f"max_tokens is {max_tokens}, wanted 2 to {MAX_TOKENS}")
    folder = model_folder.resolve(name_or_folder, patterns=PATTERNS)
    modules = [_describe_module(folder, entry) for entry in _read_modules(folder)]
    first = _inside(folder, modules[0]["path"])
    max_tokens = min([max_tokens, *_limits(first, modules[0]["config"])])
    prompts = folder / "config_sentence_transformers.json"
    settings = model_folder.read_json(prompts) if prompts.is_file() else {}
    description = {
        "kind": "retriever",
        "arithmetic": fingerprint.ARITHMETIC,
        "modules": modules,
        "prompts": settings.get("prompts") or {},
        "default_prompt_name": settings.get("default_prompt_name"),
        "tokenizer": {
            path.name: fingerprint.digest_file(path) for path in model_folder.find_tokenizer_files(first)
        },
        "max_tokens": max_tokens,
    }
    return folder, max_tokens, fingerprint.of(description)


def _limits(folder: Path, config: dict[str, dict[str, Any]]) -> list[int]:
    """The folder's own limits on tokens: older and newer libraries keep it in different files."""
    tokenizer = folder / "tokenizer_config.json"
    found = [config["sentence_bert_config.json"].get("max_seq_length")]
    if tokenizer.is_file():
        found.append(model_folder.read_json(tokenizer).get("model_max_length"))
    return [int(limit) for limit in found if limit]


def _read_modules(folder: Path) -> list[dict[str, Any]]:
    """modules.json, after checking that it lists known modules, a Transformer first.

    Raises:
        ModelFolderError: it does not, or is not there.
    """
    path = folder / "modules.json"
    if not path.is_file():
        raise ModelFolderError(
            f"{folder} has no modules.json, wanted a retriever as sentence-transformers saves it"
        )
    try:
        with errors.naming(path):
            modules = json.loads(path.read_text(encoding="utf-8"))
        types = [str(entry["type"]) for entry in modules]
        for entry in modules:
            str(entry["path"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(f"{path} is no list of modules: {error!r}") from error
    for kind in types:
        package, _, name = kind.rpartition(".")
        if package.split(".")[0] != "sentence_transformers" or name not in _MODULES:
            raise ModelFolderError(
                f"{path} lists a module of type {kind!r}, wanted {', '.join(_MODULES)} of "
                "sentence-transformers; code that comes with a model is never run"
            )
    if not types or not types[0].endswith(".Transformer"):
        raise ModelFolderError(f"{path} lists the modules {types}, wanted a Transformer first")
    return list(modules)


def _describe_module(folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """A module's class, settings, and the digest of its tensors."""
    name = entry["type"].rpartition(".")[-1]
    place = _inside(folder, entry["path"])
    configs = {"config.json"} | ({"sentence_bert_config.json"} if name == "Transformer" else set())
    config = {
        file: _without_noise(model_folder.read_json(place / file)) if (place / file).is_file() else {}
        for file in sorted(configs)
    }
    described: dict[str, Any] = {"class": name, "path": entry["path"], "config": config}
    if _MODULES[name]:
        described["tensors"] = fingerprint.digest_tensors(model_folder.find_tensors(place))
    return described


def _inside(folder: Path, path: object) -> Path:
    """A module's folder, refused if it is not inside the model's."""
    place = folder / str(path)
    if Path(str(path)).is_absolute() or ".." in Path(str(path)).parts:
        raise ModelFolderError(
            f"{folder / 'modules.json'} names the folder {path!r}, wanted one inside its own"
        )
    return place


def _without_noise(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _NOISE}
