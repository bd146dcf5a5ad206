"""Multi-vector retrievers (ColBERT, PyLate) of sentence-transformers: documents as memory, and questions.

The memory of a passage is what `MultiVectorEncoder.encode_document` gives: a vector for each token, but for
those on the model's skip list. Questions get theirs by `encode_query`, and `retrieval.maxsim` compares the
two (Khattab and Zaharia 2020, section 3). Importing this loads no framework.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from encoders import errors, fingerprint, library, model_folder, torch_encoder, transformers_output
from encoders.aliases import Json
from encoders.fingerprint import Fingerprint
from encoders.hugging_face import cut_tokens
from encoders.memory_spec import LEAST_TOKENS, MemorySpec
from encoders.model_folder import ModelFolderError
from encoders.retriever_folder import (
    DOCUMENT,
    NOISE,
    PATTERNS,
    TRANSFORMER_CONFIG,
    inside,
    listed_modules,
    table_limit,
)
from encoders.token_encoder import MULTI_VECTOR
from encoders.tokenizing import Tokens, unknown_id
from encoders.torch_encoder import TorchEncoder

SETTINGS: Final = "config_sentence_transformers.json"
_LIST: Final = "modules.json"
# Stanford's ColBERT keeps lengths and prefixes here, and its projection beside the Transformer's weights.
_STANFORD_SETTINGS: Final = "artifact.metadata"
_STANFORD_PROJECTION: Final = "linear.weight"
# What a hub name downloads.
_PATTERNS: Final = (*PATTERNS, _STANFORD_SETTINGS)
# Modules that give each token a vector of its own, and run no code but sentence-transformers'.
_MODULES: Final = ("Transformer", "Dense", "LayerNorm", "Dropout", "MultiVectorMask", "Normalize")
_PACKAGES: Final = ("sentence_transformers", "pylate")
# Keys of settings that say who saved them.
_SAVED_BY: Final = {*NOISE, "__version__"}
# Names under which `encode_document` looks for a prompt, in this order.
_DOCUMENT: Final = ("document", "passage", "corpus")
MAXSIM: Final = "maxsim"
MEAN_MAXSIM: Final = "meanmaxsim"


@dataclass(frozen=True, kw_only=True)
class OpenedMultiVector:
    """A folder of which the settings were read; see `token_encoder.OpenedEncoder`.

    Attributes:
        modules: class and folder of each; none of Stanford's ColBERT, which has no list.
    """

    folder: Path
    memory: MemorySpec
    width: int
    settings: Json
    modules: tuple[tuple[str, Path], ...]

    @property
    def places(self) -> tuple[Path, ...]:
        """Folders of its modules, the Transformer's first."""
        return tuple(dict.fromkeys(place for _, place in self.modules)) or (self.folder,)

    @property
    def layers_run(self) -> int:
        """See `token_encoder.OpenedEncoder`."""
        return int(self.settings.get("num_hidden_layers") or self.settings.get("n_layers") or 0)

    @functools.cached_property
    def _tensors(self) -> dict[str, dict[str, model_folder.Tensor]]:
        """By the place of the module that they are of."""
        having = [place for place in self.places if any(place.glob("*.safetensors"))]
        return {
            place.relative_to(self.folder).as_posix(): model_folder.find_tensors(place)
            for place in {self.places[0], *having}
        }

    @property
    def weights(self) -> int:
        """See `token_encoder.OpenedEncoder`."""
        return sum(math.prod(t.shape) for tensors in self._tensors.values() for t in tensors.values())

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """See `token_encoder.OpenedEncoder`. Of all settings of all modules, those of questions among them:
        memory is compared with them."""
        tokenizer = {path.name for path in model_folder.find_any_tokenizer_files(self.places[0])}
        settings: Json = {}
        for place in self.places:
            for path in sorted([*place.glob("*.json"), *place.glob(_STANFORD_SETTINGS)]):
                if path.name in (*tokenizer, model_folder.WEIGHTS_INDEX, _LIST):
                    continue
                settings[path.relative_to(self.folder).as_posix()] = _plain(path)
        return fingerprint.of(
            {
                "kind": MULTI_VECTOR,
                "arithmetic": fingerprint.ARITHMETIC,
                "tensors": {name: fingerprint.digest_tensors(each) for name, each in self._tensors.items()},
                "config": {key: value for key, value in self.settings.items() if key not in NOISE},
                "layers": self.layers_run,
                "modules": [
                    [name, place.relative_to(self.folder).as_posix()] for name, place in self.modules
                ],
                "settings": settings,
                "tokenizer": {
                    name: fingerprint.digest_file(self.places[0] / name) for name in sorted(tokenizer)
                },
                "max_tokens": self.memory.max_tokens,
                "template": self.memory.template,
                "compute_dtype": self.memory.compute_dtype,
            }
        )

    def require_loadable(self, *, model_parallel: int | None = None) -> None:
        """See `token_encoder.OpenedEncoder`. Loads it: modules are the library's own to judge."""
        torch_encoder.require_own_device(model_parallel)
        _ = self._tower

    def tokenizer(self) -> Tower:
        """See `token_encoder.OpenedEncoder`: the model itself, since the library cuts a text with it."""
        return self._tower

    @functools.cached_property
    def _tower(self) -> Tower:
        return Tower(self, device="cpu")

    def load(self, *, device: str = "all", model_parallel: int | None = None) -> MultiVectors:
        """See `token_encoder.OpenedEncoder`."""
        torch_encoder.require_own_device(model_parallel)
        return MultiVectors(tower=Tower(self, device=device), memory=self.memory, print_of=self.fingerprint)


def open_folder(name_or_folder: str | Path, memory: MemorySpec) -> OpenedMultiVector:
    """Look at a multi-vector retriever, in a folder or on the hub, without loading it.

    Raises:
        ModelFolderError: modules that are not known here, or of which memory cannot be made.
        EncoderError: layers are asked for.
    """
    if memory.layers is not None:
        raise errors.EncoderError(
            f"{name_or_folder} is a multi-vector retriever, whose vectors are the memory; leave out "
            "--memory-layers"
        )
    folder = model_folder.resolve(name_or_folder, patterns=_PATTERNS)
    entries = _modules(folder)
    first = entries[0][1] if entries else folder
    settings = model_folder.read_json(first / "config.json")
    limits = [memory.max_tokens, table_limit(settings), *_document_lengths(folder, first)]
    return OpenedMultiVector(
        folder=folder,
        memory=replace(memory, max_tokens=max(LEAST_TOKENS, min(n for n in limits if n is not None))),
        width=_width(folder, entries, settings),
        settings=settings,
        modules=tuple(entries),
    )


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """Class and place of each module; none of Stanford's ColBERT, which has no list.

    Raises:
        ModelFolderError: a module that is not known here.
    """
    path = folder / _LIST
    if not path.is_file():
        return []
    found = []
    for entry in listed_modules(folder):
        kind = str(entry["type"])
        package, _, name = kind.rpartition(".")
        if package.split(".")[0] not in _PACKAGES or name not in _MODULES:
            raise ModelFolderError(
                f"{path} lists a module of type {kind!r}, wanted {', '.join(_MODULES)} of "
                "sentence-transformers: each gives every token a vector of its own, by no code of the model's"
            )
        found.append((name, inside(folder, entry["path"])))
    if not found or found[0][0] != "Transformer":
        raise ModelFolderError(f"{path} lists no Transformer first, wanted one that reads the texts")
    return found


def _document_lengths(folder: Path, first: Path) -> list[int]:
    """Limits on a document's tokens that the folder's settings have."""
    found = []
    for path, key in (
        (first / TRANSFORMER_CONFIG, "document_length"),
        (first / TRANSFORMER_CONFIG, "max_seq_length"),
        (folder / SETTINGS, "document_length"),
        (folder / _STANFORD_SETTINGS, "doc_maxlen"),
    ):
        value = model_folder.read_json(path).get(key) if path.is_file() else None
        if isinstance(value, int) and not isinstance(value, bool):
            found.append(value)
    return found


def _width(folder: Path, entries: list[tuple[str, Path]], settings: Json) -> int:
    """Dimensions of a vector."""
    if not entries:
        projection = model_folder.find_tensors(folder).get(_STANFORD_PROJECTION)
        if projection is None or len(projection.shape) != 2:
            raise ModelFolderError(
                f"{folder} has no {_STANFORD_PROJECTION} among its weights, wanted with a ColBERT of "
                "Stanford's; save it as a MultiVectorEncoder of sentence-transformers"
            )
        return projection.shape[0]
    width = settings.get("hidden_size") or settings.get("dim") or settings.get("d_model")
    for name, place in entries:
        if name == "Dense":
            width = model_folder.read_json(place / "config.json").get("out_features")
    if not isinstance(width, int) or width < 1:
        raise ModelFolderError(f"{folder} does not say how many dimensions its vectors have")
    return width


def _plain(path: Path) -> Json:
    return {key: value for key, value in model_folder.read_json(path).items() if key not in _SAVED_BY}


class Tower:
    """The model on its device, as sentence-transformers loads it; see `torch_encoder.Tower`.

    Attributes:
        model: the library's.
        alone: held by whoever has texts cut.
        similarity: how scores are compared: `MAXSIM`, or `MEAN_MAXSIM`, which is by a question's vectors.

    Raises:
        ModelFolderError: it cannot be loaded, or its files lack weights.
    """

    def __init__(self, opened: OpenedMultiVector, *, device: str) -> None:
        import torch

        self.device = torch_encoder.device_of(device)
        self.width = opened.width
        self._max_tokens = opened.memory.max_tokens
        with transformers_output.silenced():
            from sentence_transformers import MultiVectorEncoder

            try:
                self.model: Any = MultiVectorEncoder(
                    str(opened.folder),
                    device=str(self.device),
                    trust_remote_code=False,
                    local_files_only=True,
                    model_kwargs={"dtype": torch.float32, "use_safetensors": True},
                )
            except Exception as error:  # whatever the modules' own loaders raise
                reason = " ".join(str(error).split())
                raise ModelFolderError(
                    f"{opened.folder} cannot be loaded as a multi-vector retriever: {reason:.300}"
                ) from error
            stored = model_folder.find_tensors(opened.places[0])
            library.require_all_weights(opened.folder, opened.places[0], stored, self.model[0].model)
        self.model.float().eval()
        # Where a text is cut is a state of the library's tokenizer, which a call sets for itself alone.
        self.alone = threading.Lock()
        tokenizer = self.model.tokenizer
        self.padding: int = tokenizer.pad_token_id or 0
        self._unknown = unknown_id(tokenizer)
        self.vocabulary = int(self.model[0].model.get_input_embeddings().weight.shape[0])
        self.similarity: str = self.model.similarity_fn_name
        named = next((name for name in _DOCUMENT if name in self.model.prompts), None)
        self._prompt: str | None = self.model._resolve_prompt(None, named)
        self._masks = [module for module in self.model if type(module).__name__ == "MultiVectorMask"]
        # What the library adds to a text's ids; the same for all texts.
        given = self.model.preprocess(["x"], prompt=self._prompt, task=DOCUMENT)
        self._types = "token_type_ids" in given
        self._others = {
            name: value
            for name, value in given.items()
            if name != "prompt_length" and not torch.is_tensor(value)
        }
        if not self.offsets(self([""]))[-1]:
            raise ModelFolderError(
                f"{opened.folder} has a skip list with its special tokens, so that a passage may have no "
                "vector; wanted one or more for each"
            )

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Token ids of documents, as the library cuts them."""
        return cut_tokens(self._ids, texts, max_tokens=self._max_tokens, unknown=self._unknown)

    def _ids(self, texts: Sequence[str], limit: int | None) -> list[list[int]]:
        own: Json = {"truncation": False} if limit is None else {"max_length": limit}
        with self.alone, transformers_output.silenced():  # of texts that are too long
            given = self.model.preprocess(
                list(texts), prompt=self._prompt, task=DOCUMENT, processing_kwargs={"text": own}
            )
        real = given["attention_mask"].bool()
        return [ids[mask].tolist() for ids, mask in zip(given["input_ids"], real, strict=True)]

    def offsets(self, tokens: Tokens) -> npt.NDArray[np.int64]:
        """Where the vectors of each text begin, [texts + 1]."""
        return torch_encoder.offsets_of(tokens, self.kept(tokens.ids))

    def kept(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """See `torch_encoder.Tower`: all but those on the skip list, as the library's own mask says."""
        import torch

        features: Json = {
            "input_ids": torch.from_numpy(ids.astype(np.int64))[None],
            "attention_mask": torch.ones(1, len(ids), dtype=torch.bool),
        }
        for mask in self._masks:
            features = mask(features, task=DOCUMENT)
        kept: npt.NDArray[np.bool_] = features["attention_mask"][0].numpy()
        return kept

    def run(self, ids: Any, mask: Any) -> Any:
        """See `torch_encoder.Tower`."""
        features = {"input_ids": ids, "attention_mask": mask, **self._others}
        if self._types:
            features["token_type_ids"] = ids * 0
        return self.model(features, task=DOCUMENT)["token_embeddings"]


class MultiVectors(TorchEncoder):
    """A loaded multi-vector retriever: memory of passages, and the vectors of questions.

    Attributes:
        similarity: `MAXSIM`, or `MEAN_MAXSIM`: the score over the number of a question's vectors.
    """

    tower: Tower

    def __init__(self, *, tower: Tower, memory: MemorySpec, print_of: Fingerprint) -> None:
        super().__init__(tower=tower, tokenize=tower, memory=memory, print_of=print_of)
        self.similarity = tower.similarity

    def queries(self, texts: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """The vectors of each question, [its tokens, width], with the library's prefix and expansion."""
        with self.computing(), self.tower.alone, transformers_output.silenced():
            found = self.tower.model.encode_query(list(texts), show_progress_bar=False)
        return [vectors.float().cpu().numpy() for vectors in found]
