"""A folder of token states, a file a sample, as trainers of draft models and of image models keep them.

    .safetensors  hidden_states [tokens, layers, d], token_ids [tokens]: vLLM's connector, speculators
    .npz          caption_feature [1, T, d], attention_mask [1, T]: PixArt's extraction of T5 features
    .npy          one array [tokens, d]

Nothing pickled is opened: .pt and .ckpt files are to be written as one of these first.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from storage import errors
from storage.aliases import AnyArray

SAFETENSORS: Final = ".safetensors"
SUFFIXES: Final = (SAFETENSORS, ".npz", ".npy")
PICKLED: Final = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
# Names of the states, and of what says which rows are tokens, where the user names none.
_STATES: Final = ("hidden_states", "caption_feature", "last_hidden_state", "states", "values")
_MASKS: Final = ("attention_mask", "mask")
# Of the tokens, as vLLM's connector writes them: they tell which dimension the tokens are.
_TOKENS: Final = "token_ids"
_TYPES: Final[Mapping[str, str]] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_NUMBER: Final = re.compile(r"(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What a file's header says of its states.

    Attributes:
        tokens: rows; with a mask at most so many.
        width: of a row, all other dimensions together.
        dtype: of a value.
        left_out: names of other arrays in the file.
    """

    tokens: int
    width: int
    dtype: str
    left_out: tuple[str, ...]


def natural(key: str) -> list[tuple[int, int, str]]:
    """Sorts hs_2 before hs_10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in _NUMBER.split(key) if part]


@dataclass(frozen=True)
class StatesFolder:
    """The files of one form below a folder; see the module.

    Attributes:
        root: the folder.
        suffix: of its files.
        keys: their paths below it without the suffix, in natural order: hs_2 before hs_10.
        tensor: the name of the states in a file; None: one of those that are known, or the only one.
        mask: the name of the mask; None: one of those that are known, where there is one.
    """

    root: Path
    suffix: str
    keys: tuple[str, ...]
    tensor: str | None
    mask: str | None

    @classmethod
    def open(cls, folder: Path, *, tensor: str | None = None, mask: str | None = None) -> StatesFolder:
        """Look what is there.

        Raises:
            CorpusError: no folder, no files of a form that is read, or of several.
        """
        if not folder.is_dir():
            raise errors.CorpusError(f"{folder} is no folder; wanted one with a file for each sample")
        found: dict[str, list[str]] = {}
        pickled = ""
        for path in folder.rglob("*"):
            if path.suffix in SUFFIXES and path.is_file():
                found.setdefault(path.suffix, []).append(path.relative_to(folder).with_suffix("").as_posix())
            elif path.suffix in PICKLED:
                pickled = path.name
        if not found:
            pickles = f"; {pickled} is pickled, and is not opened: save it as safetensors" if pickled else ""
            raise errors.CorpusError(f"{folder} has no {', '.join(SUFFIXES)} files{pickles}")
        if len(found) > 1:
            raise errors.CorpusError(
                f"{folder} has files of several forms, {', '.join(sorted(found))}: move others away"
            )
        ((suffix, keys),) = found.items()
        return cls(folder, suffix, tuple(sorted(keys, key=natural)), tensor, mask)

    def path(self, key: str) -> Path:
        return self.root / f"{key}{self.suffix}"

    @property
    def bytes(self) -> int:
        return sum(self.path(key).stat().st_size for key in self.keys)

    def shape(self, key: str) -> Shape:
        """Of one file, from its header alone.

        Raises:
            CorpusError: it is no such file, or its states cannot be told.
        """
        headers = dict(self._headers(key))
        name, mask = self._names(key, headers)
        shape, dtype = headers[name]
        rows = _layout(key, shape, headers.get(_TOKENS, ((), ""))[0])
        return Shape(
            tokens=shape[rows],
            width=int(np.prod([size for at, size in enumerate(shape) if at != rows], dtype=object)),
            dtype=dtype,
            left_out=tuple(sorted(set(headers) - {name, mask})),
        )

    def _names(self, key: str, headers: Mapping[str, Any]) -> tuple[str, str | None]:
        known = [self.tensor] if self.tensor is not None else [n for n in _STATES if n in headers]
        if not known and len(headers) == 1:
            known = list(headers)
        if not known or known[0] not in headers:
            raise errors.CorpusError(
                f"{self.path(key)} has {', '.join(sorted(headers)) or 'nothing'}; wanted "
                f"{self.tensor or ' or '.join(_STATES)}: name the states by --tensor"
            )
        masks = [self.mask] if self.mask is not None else [n for n in _MASKS if n in headers]
        if masks and masks[0] not in headers:
            raise errors.CorpusError(
                f"{self.path(key)} has no mask {masks[0]}, but {', '.join(sorted(headers))}"
            )
        return str(known[0]), masks[0] if masks else None

    def read(self, key: str) -> AnyArray:
        """The states of one file, [tokens, width].

        Raises:
            CorpusError: it is damaged, is not what its header said, or its mask has another shape.
        """
        arrays = self._arrays(key)
        name, mask = self._names(key, arrays)
        values = arrays[name]
        tokens = arrays[_TOKENS].shape if _TOKENS in arrays else ()
        rows = _layout(key, values.shape, tokens)
        values = np.moveaxis(values, rows, 0).reshape(values.shape[rows], -1)
        if mask is not None:
            kept = np.asarray(arrays[mask]).reshape(-1) != 0
            if len(kept) != len(values):
                raise errors.CorpusError(
                    f"{self.path(key)}: mask {mask} has {len(kept)} places for {len(values)} rows of {name}"
                )
            values = values[kept]
        return values

    def _headers(self, key: str) -> Iterator[tuple[str, tuple[tuple[int, ...], str]]]:
        path = self.path(key)
        with _said(path):
            if self.suffix == SAFETENSORS:
                from safetensors import safe_open

                with safe_open(path, "np") as file:
                    for name in file.keys():  # noqa: SIM118 - not a mapping
                        part = file.get_slice(name)
                        dtype = part.get_dtype()
                        yield name, (tuple(part.get_shape()), _TYPES.get(dtype, dtype))
            elif self.suffix == ".npz":
                with zipfile.ZipFile(path) as archive:
                    for member in archive.namelist():
                        with archive.open(member) as file:
                            yield member.removesuffix(".npy"), _npy_header(file)
            else:
                with path.open("rb") as file:
                    yield path.stem, _npy_header(file)

    def _arrays(self, key: str) -> dict[str, AnyArray]:
        path = self.path(key)
        with _said(path):
            if self.suffix == SAFETENSORS:
                from safetensors import safe_open

                with safe_open(path, "np") as file:
                    names = list(file.keys())
                    name, mask = self._names(key, dict.fromkeys(names))
                    wanted = [n for n in (name, mask, _TOKENS) if n is not None and n in names]
                    return {n: file.get_tensor(n) for n in wanted}
            found = np.load(path, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return {path.stem: found}
            with found:
                name, mask = self._names(key, dict.fromkeys(found.files))
                return {n: found[n] for n in (name, mask) if n is not None}


def _layout(key: str, shape: tuple[int, ...], tokens: tuple[int, ...]) -> int:
    """Which dimension is the tokens': the first but for ones, or the one as long as `token_ids`."""
    places = [at for at, size in enumerate(shape[:-1]) if size != 1] or [max(0, len(shape) - 2)]
    if len(shape) < 2:
        raise errors.CorpusError(f"the states of {key} have shape {list(shape)}, wanted [tokens, ..., d]")
    if len(tokens) == 1 and shape[places[0]] != tokens[0]:
        # vLLM's first connectors wrote [layers, tokens, d].
        places = [at for at in range(len(shape) - 1) if shape[at] == tokens[0]]
        if not places:
            raise errors.CorpusError(
                f"the states of {key} have shape {list(shape)} for {tokens[0]} token ids; is the file whole?"
            )
    return places[0]


def _npy_header(file: Any) -> tuple[tuple[int, ...], str]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return tuple(shape), dtype.name


class _said:
    """What a library says of a file that it cannot read, in our words."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, errors.CorpusError | GeneratorExit):
            return
        if isinstance(error, OSError) and error.errno is not None:
            raise errors.from_os(self._path, error) from error
        if type(error).__name__ == "SafetensorError" or isinstance(
            error, ValueError | OSError | EOFError | KeyError | TypeError | zipfile.BadZipFile
        ):
            raise errors.CorpusError(
                f"{self._path} cannot be read: {' '.join(str(error).split())[:120]}; is it whole?"
            ) from error
