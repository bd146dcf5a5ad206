"""Model folders as Hugging Face writes them: JSON, tokenizer files, and safetensors.

Nothing pickled is ever opened. Tensors are found by their byte ranges, so that a fingerprint can
be taken without loading anything, and only the layers in use are read. Needs numpy alone; the hub
client is imported when a name has to be downloaded.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import ml_dtypes
import numpy as np

from encoders import errors
from encoders.aliases import AnyArray, AnyDtype, Json

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "spiece.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
# What tokenizers of other models are kept in where there is neither of the first two; and what puts a text
# into a chat.
OTHER_TOKENIZER_FILES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "chat_template.jinja",
)
# What a hub name downloads: never the pickled weights beside them.
ENCODER_PATTERNS = (
    "config.json",
    WEIGHTS,
    WEIGHTS_INDEX,
    "model-*-of-*.safetensors",
    *TOKENIZER_FILES,
)

_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_DTYPES: Mapping[str, AnyDtype] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_MAX_HEADER_BYTES = 100_000_000  # the safetensors library's own limit


# By scheme of a URL, what copies such a folder: (URL, patterns) to a folder here. Filled in by whoever can.
PLACES: dict[str, Callable[[str, Sequence[str]], Path]] = {}


class ModelFolderError(errors.EncoderError):
    """A model folder that cannot be used. One line: thing, value, rule, remedy."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Where one tensor lies: bytes [begin, end) of a safetensors file, row-major, little endian."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    begin: int
    end: int

    def read(self) -> AnyArray:
        """The tensor as a read-only view of the mapped file, in the dtype on disk.

        Raises:
            ModelFolderError: as `require_dtype`.
        """
        self.require_dtype()
        mapped = np.memmap(self.path, np.uint8, "r", self.begin, (self.end - self.begin,))
        return mapped.view(np.ndarray).view(_DTYPES[self.dtype]).reshape(self.shape)

    def require_dtype(self) -> None:
        """
        Raises:
            ModelFolderError: the dtype is none of float32, float16, bfloat16.
        """
        if self.dtype not in _DTYPES:
            raise ModelFolderError(
                f"{self.path}: {self.name} is {self.dtype}, wanted {', '.join(_DTYPES)}; "
                "quantized weights must be saved as one of these first"
            )

    def chunks(self, chunk_bytes: int = 1 << 22) -> Iterator[bytes]:
        """The tensor's bytes in order, at most `chunk_bytes` in memory at a time."""
        with errors.naming(self.path), self.path.open("rb") as file:
            file.seek(self.begin)
            left = self.end - self.begin
            while left:
                chunk = file.read(min(chunk_bytes, left))
                if not chunk:
                    raise ModelFolderError(f"{self.path} became shorter while it was read")
                left -= len(chunk)
                yield chunk


def is_placed(name_or_folder: str | Path) -> bool:
    """Does it name a folder of `PLACES`?"""
    scheme, separator, _ = str(name_or_folder).partition("://")
    return bool(separator) and scheme in PLACES


def resolve(name_or_folder: str | Path, *, patterns: Sequence[str] = ENCODER_PATTERNS) -> Path:
    """The folder of a model: the folder itself, or the hub's files for a hub name.

    Args:
        name_or_folder: a folder, or a hub name such as "google/t5-v1_1-base" (downloaded once, into
            the hub client's cache).
        patterns: the files to download.

    Raises:
        ModelFolderError: neither a folder nor a model that could be downloaded.
    """
    if is_placed(name_or_folder):
        url = str(name_or_folder)
        return PLACES[url.partition("://")[0]](url, patterns)
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelFolderError(f"{folder} is a file, wanted a model folder or a hub name")
    import huggingface_hub
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        return Path(
            huggingface_hub.snapshot_download(
                str(name_or_folder),
                allow_patterns=list(patterns),
                ignore_patterns=["onnx/*", "openvino/*"],
            )
        )
    except Exception as error:  # the client raises its own, httpx's and the system's errors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelFolderError(
            f"{str(name_or_folder)!r} is neither a folder nor a model that could be downloaded: "
            f"{reason.rstrip('.')}; give a folder"
        ) from error
    finally:
        if not were_disabled:
            enable_progress_bars()


def put(aside: Path, folder: Path) -> None:
    """Give a folder that was written aside its name, with its bytes on the disk before: who finds it finds it
    whole, though the machine may have lost its power."""
    inside = sorted(aside.rglob("*"))
    for path in [*inside, aside]:
        _sync(path)
    aside.rename(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Json:
    """A JSON object from a file.

    Raises:
        ModelFolderError: the file is missing or holds no JSON object.
        OSError: it cannot be read.
    """
    try:
        with errors.naming(path):
            value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFolderError(
            f"{path.parent} has no {path.name}, wanted a model folder as Hugging Face saves it"
        ) from error
    except ValueError as error:
        raise ModelFolderError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelFolderError(f"{path} holds a JSON {type(value).__name__}, wanted an object")
    return value


def find_tokenizer_files(folder: Path) -> list[Path]:
    """The tokenizer's files in a folder, in the order of `TOKENIZER_FILES`.

    Raises:
        ModelFolderError: there is neither tokenizer.json nor spiece.model.
    """
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not {"tokenizer.json", "spiece.model"} & {file.name for file in files}:
        raise ModelFolderError(
            f"{folder} has neither tokenizer.json nor spiece.model; save the model's tokenizer into it"
        )
    return files


def find_any_tokenizer_files(folder: Path) -> list[Path]:
    """The files of any model's tokenizer in a folder; those of `OTHER_TOKENIZER_FILES` where they are read.

    Raises:
        ModelFolderError: there is none that has a vocabulary.
    """
    others = [folder / name for name in OTHER_TOKENIZER_FILES if (folder / name).is_file()]
    chat = [file for file in others if file.suffix == ".jinja"]
    # Who has tokenizer.json needs no other vocabulary.
    if (folder / "tokenizer.json").is_file() or not any(
        "vocab" in f.name or "model" in f.name for f in others
    ):
        return find_tokenizer_files(folder) + chat
    return [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()] + others


def find_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's weights, by their names on disk, from one file or from shards.

    Raises:
        ModelFolderError: no safetensors weights (or pickled ones only), a shard is missing or lies
            outside the folder, a file is damaged, or a tensor that the index lists is not there.
    """
    if (folder / WEIGHTS).is_file():
        return find_file_tensors(folder / WEIGHTS)
    if not (folder / WEIGHTS_INDEX).is_file():
        pickles = [name for name in _PICKLES if (folder / name).is_file()]
        if pickles:
            raise ModelFolderError(
                f"{folder} has its weights as {pickles[0]} only, a pickle, which is never read "
                "here; save the model again as safetensors (in transformers, from_pretrained then "
                "save_pretrained)"
            )
        raise ModelFolderError(
            f"{folder} has no weights, wanted {WEIGHTS} or {WEIGHTS_INDEX}; save the model as safetensors"
        )
    index = folder / WEIGHTS_INDEX
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFolderError(f"{index} has no weight_map, wanted one file name per tensor")
    files: dict[str, dict[str, Tensor]] = {}
    found: dict[str, Tensor] = {}
    for name, file_name in weight_map.items():
        path = _inside(folder, file_name, index)
        if file_name not in files:
            files[file_name] = find_file_tensors(path)
        if name not in files[file_name]:
            raise ModelFolderError(
                f"{folder / file_name} has no tensor {name}, though {index.name} lists it there; "
                "copy the model again"
            )
        found[name] = files[file_name][name]
    return found


def _inside(folder: Path, file_name: object, index: Path) -> Path:
    """A shard's path, refused unless it is a plain file name in the folder."""
    plain = (
        isinstance(file_name, str)
        and file_name not in ("", ".", "..")
        and PurePosixPath(file_name).name == file_name
        and PureWindowsPath(file_name).name == file_name
    )
    if not plain:
        raise ModelFolderError(
            f"{index} names the shard {file_name!r}, wanted a plain file name in its own folder"
        )
    path = folder / str(file_name)
    if not path.is_file():
        raise ModelFolderError(f"{folder} has no {path.name}, which {index.name} lists; copy it")
    return path


def find_file_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file, after checking that their bytes are all there.

    The format: 8 bytes of little-endian header length, that much JSON, then the data, to which the
    offsets are relative.

    Raises:
        ModelFolderError: the file is missing or damaged.
    """
    if not path.is_file():
        raise ModelFolderError(f"{path.parent} has no {path.name}, wanted beside its other files; copy it")
    size = path.stat().st_size
    with errors.naming(path), path.open("rb") as file:
        prefix = file.read(8)
        header_bytes = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if 8 + header_bytes > size or header_bytes > _MAX_HEADER_BYTES:
            raise ModelFolderError(f"{path} is cut short or no safetensors file; copy it again")
        text = file.read(header_bytes)
    start = 8 + header_bytes
    found = {}
    try:
        for name, entry in json.loads(text).items():
            if name == "__metadata__":
                continue
            shape = tuple(int(side) for side in entry["shape"])
            begin, end = (start + int(offset) for offset in entry["data_offsets"])
            dtype = str(entry["dtype"])
            if not start <= begin <= end <= size:
                raise ModelFolderError(
                    f"{path}: {name} ends at byte {end:,} of {size:,}; the file is cut short, copy it again"
                )
            if dtype in _DTYPES and end - begin != _DTYPES[dtype].itemsize * int(np.prod(shape)):
                raise ModelFolderError(
                    f"{path}: {name} has {end - begin:,} bytes, which is not its shape "
                    f"{list(shape)} in {dtype}; the file is damaged, copy it again"
                )
            found[name] = Tensor(name=name, dtype=dtype, shape=shape, path=path, begin=begin, end=end)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ModelFolderError):
            raise
        raise ModelFolderError(f"{path} has a header that is no safetensors: {error}") from error
    return found


def find_wanted_tensors(
    path: Path, wanted: Mapping[str, tuple[int, ...]], *, settings: str
) -> dict[str, Tensor]:
    """Tensors of a safetensors file, by the shapes that a model's settings want.

    Args:
        path: the file; it is not looked for where nothing is wanted.
        wanted: shape by name.
        settings: name of the file that says so, for messages.

    Raises:
        ModelFolderError: one is missing or has another shape.
    """
    there = find_file_tensors(path) if wanted else {}
    for name, shape in wanted.items():
        if name not in there or there[name].shape != shape:
            told = f"shape {list(there[name].shape)}" if name in there else "none"
            raise ModelFolderError(
                f"{path}: {name} has {told}, wanted {list(shape)} as {settings} says; "
                "do they belong together?"
            )
    return {name: there[name] for name in wanted}
