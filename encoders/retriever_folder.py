"""A retriever's folder, as sentence-transformers saves it: which modules, prompts, limit and similarity.

Nothing is loaded: settings are read, and weights are digested where the fingerprint is asked for. What
decides a vector is looked at here once, for whatever runs the model (`encoders.retriever`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from encoders import errors, fingerprint, model_folder, transformers_output
from encoders.aliases import Json
from encoders.fingerprint import Fingerprint
from encoders.model_folder import ModelFolderError

# Where neither the caller nor the folder has a limit: GTR's longest input (Ni et al. 2022, section 3).
MAX_TOKENS: Final = 512

# Sides of a search, in sentence-transformers' words for a task.
QUERY: Final = "query"
DOCUMENT: Final = "document"
ROLES: Final = (QUERY, DOCUMENT)

# How the model compares two vectors; of vectors of length 1 all three rank alike, and are `DOT`.
DOT: Final = "dot"
COSINE: Final = "cosine"
EUCLIDEAN: Final = "euclidean"
# Compared by city blocks, passages have no index here.
_REFUSED_SIMILARITY: Final = "manhattan"

# What a hub name downloads: configurations, tokenizer and safetensors of every module.
PATTERNS: Final = (
    *("*.json", "*.safetensors", "spiece.model"),
    *(f"*{name}" for name in model_folder.OTHER_TOKENIZER_FILES),
)

# Modules that are known to run no code but sentence-transformers' own, and whether they have
# weights. Both the old and the new module paths end in these class names.
_MODULES: Final[Mapping[str, bool]] = {
    "Transformer": True,
    "Dense": True,
    "LayerNorm": True,
    "Dropout": False,
    "Pooling": False,
    "Normalize": False,
}
# Where a Transformer's settings lie; older libraries named the file after the model.
TRANSFORMER_CONFIG: Final = "sentence_bert_config.json"
_OLD_CONFIGS: Final = tuple(
    f"sentence_{name}_config.json"
    for name in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_POOLING: Final[Mapping[str, str]] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Their positions begin behind the padding's, so that the table has rows that no token has.
_POSITIONS_BEHIND_PADDING: Final = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "data2vec-text"}
)

# Keys of config files that say who saved them, or in what dtype, and decide no number.
NOISE: Final = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"}


@dataclass(frozen=True, kw_only=True)
class RetrieverFolder:
    """What lies in a retriever's folder. Made by `open_folder`.

    Attributes:
        path: the folder.
        max_tokens: texts are cut to this, special tokens included.
        dim: of the vectors.
        modules: class, path and settings of each, as in the description.
        prompts: put before texts, by role; empty where there is none.
        similarity: by which passages are ranked: `DOT`, `COSINE` or `EUCLIDEAN`.
        truncate_dim: dimensions that are kept of the last module's; None for all.
    """

    path: Path
    max_tokens: int
    dim: int
    modules: tuple[Json, ...]
    prompts: Mapping[str, str]
    similarity: str
    truncate_dim: int | None
    _settings: Json

    @property
    def transformer(self) -> Json:
        """The config.json of the Transformer."""
        config: Json = self.modules[0]["config"]["config.json"]
        return config

    def place(self, module: Json) -> Path:
        """Where a module's files are."""
        return self.path / str(module["path"])

    def shapes(self, module: Json) -> Mapping[str, tuple[int, ...]]:
        """The shapes of a module's tensors, by name; no weight is read.

        Raises:
            ModelFolderError: weights that are missing, pickled or damaged.
        """
        if not _MODULES[module["class"]]:
            return {}
        tensors = model_folder.find_tensors(self.place(module))
        return {name: tensor.shape for name, tensor in tensors.items()}

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """Of all that decides the vectors. Digests the weights, on first use.

        Raises:
            ModelFolderError: weights that are missing, pickled, damaged or not finite.
        """
        first = self.place(self.modules[0])
        description: Json = {
            "kind": "retriever",
            "arithmetic": fingerprint.ARITHMETIC,
            "modules": [self._with_tensors(module) for module in self.modules],
            "prompts": self._settings.get("prompts") or {},
            "default_prompt_name": self._settings.get("default_prompt_name"),
            "tokenizer": {
                path.name: fingerprint.digest_file(path)
                for path in model_folder.find_any_tokenizer_files(first)
            },
            "max_tokens": self.max_tokens,
        }
        # Only where they decide something, so that the fingerprints of earlier releases hold where none does.
        if any(self.prompts.values()):
            description["prompts_used"] = dict(self.prompts)
        if self.similarity != DOT:
            description["similarity"] = self.similarity
        if self.truncate_dim is not None:
            description["truncate_dim"] = self.truncate_dim
        return fingerprint.of(description)

    def _with_tensors(self, module: Json) -> Json:
        if not _MODULES[module["class"]]:
            return module
        tensors = model_folder.find_tensors(self.place(module))
        return {**module, "tensors": fingerprint.digest_tensors(tensors)}


def open_folder(name_or_folder: str | Path, *, max_tokens: int | None = None) -> RetrieverFolder:
    """Look at a retriever, in a folder or on the hub, without loading it.

    Args:
        name_or_folder: a folder with modules.json, or a hub name.
        max_tokens: texts are cut to this, or to what the folder says if that is less; None: to what it says,
            or to `MAX_TOKENS` where it says nothing.

    Raises:
        ModelFolderError: no retriever of sentence-transformers, or one that cannot be used.
        ValueError: max_tokens is below 2.
    """
    if max_tokens is not None and max_tokens < 2:
        raise ValueError(
            f"max_tokens is {max_tokens}, wanted 2 or more: a token and the one that ends a text"
        )
    path = model_folder.resolve(name_or_folder, patterns=PATTERNS)
    modules = tuple(_describe_module(path, entry) for entry in _read_modules(path))
    file = path / "config_sentence_transformers.json"
    settings = model_folder.read_json(file) if file.is_file() else {}
    kind = settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise ModelFolderError(
            f"{file} is of a {kind}, wanted a SentenceTransformer: one vector for each text"
        )
    dim, length_1 = _shape(path, modules)
    truncate = settings.get("truncate_dim")
    if truncate is not None and not (isinstance(truncate, int) and truncate >= 1):
        raise ModelFolderError(f"{file} has truncate_dim {truncate!r}, wanted 1 or more dimensions")
    if truncate is not None and truncate < dim:
        dim, length_1 = truncate, False
    else:
        truncate = None
    own = _limit(path / modules[0]["path"], modules[0]["config"])
    limits = [limit for limit in (own, max_tokens) if limit is not None]
    return RetrieverFolder(
        path=path,
        max_tokens=min(limits, default=MAX_TOKENS),
        dim=dim,
        modules=modules,
        prompts=_prompts(file, settings),
        similarity=_similarity(file, settings, length_1),
        truncate_dim=truncate,
        _settings=settings,
    )


def pooling_modes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The ways of pooling, one vector behind the other, as newer and older libraries have them."""
    if (mode := config.get("pooling_mode")) is not None:
        return (mode,) if isinstance(mode, str) else tuple(map(str, mode))
    return tuple(name for key, name in _POOLING.items() if config.get(key)) or ("mean",)


def works_on(config: Mapping[str, Any]) -> set[str]:
    """What a module behind the Pooling reads and writes: a text's vector, or something else."""
    read = config.get("module_input_name") or "sentence_embedding"
    return {read, config.get("module_output_name") or read}


def _prompts(file: Path, settings: Json) -> dict[str, str]:
    """The prompt of each role, as `encode_query` and `encode_document` of sentence-transformers 6 have it.

    The library gives both roles an empty prompt where the folder has none, so that a default prompt is for
    neither, and "passage" or "corpus" are never taken for "document".
    """
    found = settings.get("prompts") or {}
    if not isinstance(found, dict) or not all(isinstance(text, str | None) for text in found.values()):
        raise ModelFolderError(f"{file} has the prompts {found!r:.80}, wanted a text by name")
    default = settings.get("default_prompt_name")
    if default is not None and default not in {*found, *ROLES}:
        raise ModelFolderError(
            f"{file} names the default prompt {default!r}, "
            f"wanted one of its prompts: {', '.join(found) or 'none'}"
        )
    return {role: found.get(role) or "" for role in ROLES}


def _similarity(file: Path, settings: Json, length_1: bool) -> str:
    """By what passages are ranked; the cosine where the folder does not say, as the library has it."""
    name = settings.get("similarity_fn_name")
    if name == _REFUSED_SIMILARITY:
        raise ModelFolderError(
            f"{file} compares vectors by {name}, wanted {COSINE}, {DOT} or {EUCLIDEAN}: "
            "there is no index for it here"
        )
    if name == DOT or length_1:
        return DOT
    return EUCLIDEAN if name == EUCLIDEAN else COSINE


def _shape(path: Path, modules: tuple[Json, ...]) -> tuple[int, bool]:
    """Dimensions of the vectors that the last module gives, and whether they are of length 1.

    Raises:
        ModelFolderError: the modules' settings do not say.
    """
    dim, length_1, pooled = 0, False, False
    for module in modules[1:]:
        config = module["config"]["config.json"]
        if module["class"] == "Pooling":
            width = config.get("embedding_dimension", config.get("word_embedding_dimension"))
            if isinstance(width, int):
                dim, length_1, pooled = width * len(pooling_modes(config)), False, True
        elif pooled and works_on(config) == {"sentence_embedding"}:
            if module["class"] == "Dense":
                dim = int(config.get("out_features") or 0)
            length_1 = module["class"] == "Normalize" or (length_1 and module["class"] == "Dropout")
    if not pooled or dim < 1:
        raise ModelFolderError(
            f"{path} does not say how many dimensions its vectors have; wanted a Pooling with its "
            "embedding_dimension behind the Transformer"
        )
    return dim, length_1


def table_limit(model: Json) -> int | None:
    """Tokens that a model's table of positions has room for, by its config.json; None where it has none."""
    positions = model.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    if model.get("model_type") in _POSITIONS_BEHIND_PADDING:
        positions -= int(model.get("pad_token_id", 1) or 0) + 1
    return positions


def _limit(first: Path, config: dict[str, Json]) -> int | None:
    """The folder's own limit on tokens, as sentence-transformers finds it; None where it has none.

    The Transformer's setting comes before the tokenizer's, and none is beyond the table of positions.
    """
    positions = table_limit(config["config.json"])
    wanted = config[TRANSFORMER_CONFIG].get("max_seq_length")
    tokenizer = first / "tokenizer_config.json"
    if wanted is None and tokenizer.is_file():
        wanted = model_folder.read_json(tokenizer).get("model_max_length")
    # A tokenizer without a limit is saved with a number of thirty digits, T5 and XLNet have no table.
    found = [limit for limit in (wanted, positions) if isinstance(limit, int | float) and 2 <= limit < 1e9]
    return min(map(int, found)) if found else None


def listed_modules(folder: Path) -> list[Json]:
    """What modules.json lists, each with its type and its path; whether these are known is not looked at.

    Raises:
        ModelFolderError: it is not there, or no such list.
    """
    path = folder / "modules.json"
    if not path.is_file():
        raise ModelFolderError(
            f"{folder} has no modules.json, wanted a retriever as sentence-transformers saves it"
        )
    try:
        with errors.naming(path):
            modules = json.loads(path.read_text(encoding="utf-8"))
        for entry in modules:
            str(entry["type"]), str(entry["path"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(f"{path} is no list of modules: {error!r}") from error
    return list(modules)


def _read_modules(folder: Path) -> list[Json]:
    """modules.json, after checking that it lists known modules, a Transformer first.

    Raises:
        ModelFolderError: it does not, or is not there.
    """
    path = folder / "modules.json"
    modules = listed_modules(folder)
    types = [str(entry["type"]) for entry in modules]
    for kind in types:
        package, _, name = kind.rpartition(".")
        if package.split(".")[0] != "sentence_transformers" or name not in _MODULES:
            raise ModelFolderError(
                f"{path} lists a module of type {kind!r}, wanted {', '.join(_MODULES)} of "
                "sentence-transformers; code that comes with a model is never run"
            )
    if not types or not types[0].endswith(".Transformer"):
        raise ModelFolderError(f"{path} lists the modules {types}, wanted a Transformer first")
    return modules


def _describe_module(folder: Path, entry: Json) -> Json:
    """A module's class and settings."""
    name = entry["type"].rpartition(".")[-1]
    place = inside(folder, entry["path"])
    config = {"config.json": _settings_in(place, "config.json")}
    if name == "Transformer":
        config[TRANSFORMER_CONFIG] = _settings_in(place, TRANSFORMER_CONFIG, *_OLD_CONFIGS)
        _require_plain(place, config["config.json"])
    if name == "Dense":
        _require_known_activation(place, config["config.json"])
    return {"class": name, "path": entry["path"], "config": config}


def _settings_in(place: Path, *names: str) -> Json:
    """The first of these files that is there, without what decides no number."""
    for name in names:
        if (place / name).is_file():
            config = model_folder.read_json(place / name)
            return {key: value for key, value in config.items() if key not in NOISE}
    return {}


def _require_plain(place: Path, config: Json) -> None:
    """Refuse a Transformer whose weights are not those of its own files, or that brings code."""
    if (place / "adapter_config.json").is_file():
        raise ModelFolderError(
            f"{place} holds an adapter of another model, wanted whole weights; "
            "merge it (merge_and_unload in peft) and save the model again"
        )
    kind = config.get("model_type")
    if "auto_map" in config and not _is_known(kind):
        raise ModelFolderError(
            f"{place} is a model of type {kind!r}, which transformers knows only by code that comes with the "
            "model; such code is never run here"
        )


def _is_known(model_type: object) -> bool:
    transformers_output.load()
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return model_type in CONFIG_MAPPING_NAMES


def _require_known_activation(place: Path, config: Json) -> None:
    """The library takes Tanh in place of an activation that it does not trust, and no word is said."""
    activation = config.get("activation_function", "torch.nn")
    if not str(activation).startswith("torch.nn"):
        raise ModelFolderError(
            f"{place} has the activation {activation!r}, wanted one of torch.nn; "
            "code that comes with a model is never run"
        )


def inside(folder: Path, path: object) -> Path:
    """A module's folder, refused if it is not inside the model's."""
    place = folder / str(path)
    if Path(str(path)).is_absolute() or ".." in Path(str(path)).parts:
        raise ModelFolderError(
            f"{folder / 'modules.json'} names the folder {path!r}, wanted one inside its own"
        )
    return place
