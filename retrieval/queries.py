"""What `Corpus.search` is asked with, in whatever form it comes: texts, or vectors."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from storage import arrays, errors, texts

# Texts or vectors; a column of another library's is either.
Queries = Sequence[str] | str | npt.ArrayLike

_WANTED: Final = "texts, or vectors"
_NO_NUMBERS: Final = "bcSUTmM"  # kinds of NumPy's types that are none, or are no real ones


def count(k: object, passages: int) -> int:
    """How many passages are wanted of each query: a whole number of Python's, NumPy's or anybody's.

    Raises:
        CorpusError: something else, or out of range.
    """
    try:
        wanted = None if isinstance(k, bool | np.bool_) else operator.index(k)  # type: ignore[arg-type]
    except TypeError:
        wanted = None
    if wanted is None:
        raise errors.CorpusError(f"k is {arrays.shown(k)}, wanted a whole number from 1 to {passages}")
    if not 1 <= wanted <= passages:
        raise errors.CorpusError(f"k is {wanted}, wanted 1 to {passages}, the passages of the corpus")
    return wanted


def read(queries: object, dim: int) -> list[str] | npt.NDArray[np.float32]:
    """The queries: texts, or vectors, float32 [q, dim].

    Args:
        queries: one text or vector, or several: lists, arrays, columns and tensors of any library.
        dim: of the corpus's vectors.

    Raises:
        CorpusError: neither, or both together; vectors of another dimension, masked or not finite.
    """
    if isinstance(queries, str):
        return [texts.valid(queries)]
    if queries is None or isinstance(queries, bytes | bytearray | Mapping | Set):
        raise errors.CorpusError(f"queries are {type(queries).__name__}, wanted {_WANTED} [q, {dim}]")
    given = _given(queries)
    items = given if isinstance(given, list) else _objects(given)
    strings = [isinstance(item, str) for item in items]
    if not any(strings):
        return _vectors(given, dim)
    if not all(strings):
        place = strings.index(False)
        raise errors.CorpusError(
            f"query {place} is {arrays.shown(items[place])}, others are texts; wanted one kind of them"
        )
    return [texts.valid(str(item)) for item in items]


def _given(queries: Any) -> Any:
    """What came in any form as an array, or as a list of single queries."""
    if hasattr(queries, "to_pylist"):  # pyarrow's, whose items are no strings
        return list(queries.to_pylist())
    if hasattr(queries, "to_numpy"):  # of pandas or polars
        queries = queries.to_numpy()
    if hasattr(queries, "dtype"):
        return arrays.plain(queries)
    return list(queries) if isinstance(queries, Iterable) else queries


def _objects(array: Any) -> list[Any]:
    """What stands in an array that may hold texts."""
    if getattr(getattr(array, "dtype", None), "kind", "") not in ("U", "T", "O"):
        return []
    if array.ndim > 1 and array.dtype.kind != "O":
        raise errors.CorpusError(f"queries are an array of texts {list(array.shape)}, wanted one dimension")
    return list(np.asarray(array).ravel())


def _vectors(given: Any, dim: int) -> npt.NDArray[np.float32]:
    try:
        if isinstance(given, list):
            rows = [np.asarray(arrays.plain(item)) for item in given]
            found = np.stack(rows) if rows else np.zeros((0, dim), np.float32)
        else:
            found = np.asarray(given)
        if found.dtype.kind in _NO_NUMBERS:
            raise TypeError
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is refused below
            vectors = np.atleast_2d(found.astype(np.float32))
    except (TypeError, ValueError, OverflowError) as e:
        if isinstance(e, errors.CorpusError):
            raise
        raise errors.CorpusError(f"queries are {arrays.shown(given)}, wanted {_WANTED} [q, {dim}]") from None
    if vectors.ndim != 2 or vectors.shape[1] != dim or not np.isfinite(vectors).all():
        raise errors.CorpusError(
            f"query vectors have shape {vectors.shape}, wanted [q, {dim}] of finite numbers"
        )
    return np.ascontiguousarray(vectors)
