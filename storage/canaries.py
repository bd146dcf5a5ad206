"""Canaries: the memory of a few passages as the encoder gave it, kept to be compared with later.

An encoder is known by its fingerprint, but what it computes also depends on libraries, drivers and
kernels. Encoding the canaries again, and comparing, tells when those have changed. What a codec loses
is measured on them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import ml_dtypes
import numpy as np

from storage import errors, fields, file_names, files
from storage.aliases import AnyArray, AnyDtype, Json

FILE: Final = "canaries.npy"
PASSAGES: Final = 16
# What NumPy cannot save by name is saved as whole numbers of the same size.
_DTYPES: Final[dict[str, tuple[AnyDtype, AnyDtype]]] = {
    "float32": (np.dtype("<f4"), np.dtype("<f4")),
    "float16": (np.dtype("<f2"), np.dtype("<f2")),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), np.dtype("<u2")),
}
# Root mean square of the difference over that of the canaries, by compute dtype. Between kinds of
# machines bfloat16 products differ by their rounding, 4e-3 a layer's value; float32 by far less.
TOLERANCES: Final = {"bfloat16": 0.03, "float32": 1e-3}


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryCard:
    """Which passages, how many tokens each has, in what type, and the file [all tokens, width]."""

    passage_ids: tuple[int, ...]
    tokens: tuple[int, ...]
    dtype: str
    file: files.FileEntry

    def to_json(self) -> Json:
        return {
            "passage_ids": list(self.passage_ids),
            "tokens": list(self.tokens),
            "dtype": self.dtype,
            "file": self.file.to_json(),
        }

    @classmethod
    def from_json(cls, value: object, where: str) -> CanaryCard:
        found = fields.Fields(value, where)
        card = cls(
            passage_ids=found.integers("passage_ids"),
            tokens=found.integers("tokens", least=1),
            dtype=found.text("dtype"),
            file=files.FileEntry.from_json(found.object("file")),
        )
        if card.dtype not in _DTYPES or len(card.tokens) != len(card.passage_ids) or not card.tokens:
            raise errors.CorpusError(
                f"{where}: canaries of type {card.dtype!r:.40} with {card.tokens!s:.200} tokens make no sense"
            )
        return card


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How far two arrays of memory are apart.

    Attributes:
        relative_error: root mean square of the difference over that of the first.
        cosine: mean over tokens of the cosine between the two.
        largest: largest magnitude of the difference, over the largest of the first.
    """

    relative_error: float
    cosine: float
    largest: float

    def to_json(self) -> dict[str, float]:
        return {
            "relative_error": self.relative_error,
            "cosine": self.cosine,
            "largest": self.largest,
        }


def choose(passages: int) -> list[int]:
    """Ids of the canaries of a corpus, ascending: evenly spaced."""
    spaced = np.linspace(0, passages - 1, min(PASSAGES, passages))
    return [int(i) for i in np.unique(spaced.astype(np.int64))]


def within(passages: int, first: int, stop: int) -> list[int]:
    """The canaries among passages `first` to `stop` of a corpus."""
    return [i for i in choose(passages) if first <= i < stop]


def stored_bytes(values: AnyArray) -> bytes:
    """Rows of a canary as they are kept."""
    return values.view(_DTYPES[values.dtype.name][1]).tobytes()


def from_stored(data: bytes, *, width: int, dtype: str) -> AnyArray:
    """What `stored_bytes` gave the bytes of, [tokens, width]."""
    logical, stored = _DTYPES[dtype]
    return np.frombuffer(data, stored).reshape(-1, width).view(logical)


def write(path: Path, values: AnyArray) -> None:
    """Write all canaries, [tokens, width], as a .npy file."""
    stored = np.ascontiguousarray(values).view(_DTYPES[values.dtype.name][1])
    # As `numpy.save` does, which does not tell where a full disk did not take the file's end.
    with files.aside(path) as partial, partial.open("xb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(stored))
        file.write(files.bytes_of(stored))


def read(root: Path, card: CanaryCard, *, width: int) -> AnyArray:
    """The canaries' memory, [all tokens, width].

    Raises:
        DamagedError: the file is not as it was written.
        UnreadableError: it cannot be read.
    """
    if wrong := files.damage(root, card.file):
        raise errors.DamagedError(f"{wrong}; run `memcorpus verify`")
    logical, stored = _DTYPES[card.dtype]
    shape = (sum(card.tokens), width)
    try:
        with file_names.inside(root, card.file.path).open("rb") as file:
            # Compared before anything is allocated: the header may claim what it likes.
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0(file) if version == (1, 0) else None
            size = shape[0] * width * stored.itemsize
            if header != (shape, False, stored) or card.file.bytes != file.tell() + size:
                raise errors.CorpusError(f"{card.file.path} holds {header}, wanted {stored} {shape}")
            values: AnyArray = np.frombuffer(file.read(), stored).reshape(shape).view(logical)
            return values
    except errors.CorpusError:
        raise
    except ValueError as e:
        raise errors.CorpusError(f"{card.file.path} is no .npy file: {e}") from e
    except OSError as e:
        raise errors.from_os(card.file.path, e) from e


def difference(first: AnyArray, second: AnyArray) -> Difference:
    """Compare memory [tokens, width] with other memory of the same tokens, in float64."""
    a, b = (np.asarray(values, np.float64) for values in (first, second))
    scale = np.linalg.norm(a)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = np.divide((a * b).sum(axis=1), norms, out=np.ones(len(a)), where=norms > 0)
    return Difference(
        relative_error=float(np.linalg.norm(a - b) / scale) if scale else float(np.linalg.norm(b)),
        cosine=float(cosines.mean()),
        largest=float(np.abs(a - b).max() / max(np.abs(a).max(), np.finfo(np.float64).tiny)),
    )


def require_same(kept: AnyArray, again: AnyArray, *, compute_dtype: str, what: str) -> Difference:
    """Refuse to go on with an encoder that does not give the canaries again.

    Raises:
        MismatchError: the difference is beyond `TOLERANCES`.
    """
    found = difference(kept, again)
    allowed = TOLERANCES[compute_dtype]
    # Written so that NaN fails too.
    if not found.relative_error <= allowed:
        raise errors.MismatchError(
            f"{what}: encoded again here, passages come out {found.relative_error:.2g} off (relative, "
            f"allowed is {allowed:g}); a library, driver or kind of machine has changed since: use the old "
            "one, or re-encode the corpus under a new version"
        )
    return found
