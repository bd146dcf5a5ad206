"""Passage ids and keys.

A `passage_id` is a row number: int64, dense from 0, given by prefix sums over the parts' row counts,
never renumbered. A `passage_key` (128 bits) depends on the passage alone, so that it survives a new
dump and tells what has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from storage import arrays, errors

KEY_BYTES: Final = 16


def passage_key(page_id: str, section: Sequence[str], ordinal: int, *, text: str, splitter: str) -> bytes:
    """BLAKE2b-128 over page id, section path, ordinal, text and splitter version.

    Every field goes in behind its length, so that no two different passages give the same bytes.
    """
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for field in (splitter, page_id, str(ordinal), str(len(section)), *section, text):
        data = field.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()


def content_key(page_id: str, title: str, section: Sequence[str], text: str) -> bytes:
    """BLAKE2b-128 over page id, title, section path and text: what makes two passages the same for an update.

    The place in the article is left out, so that a paragraph that is put before others leaves them what they
    are; so is the splitter, whose number does not matter where the text it cut is the same. Several passages
    of a page may have one key: they are matched as often as they come.
    """
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for field in (page_id, title, str(len(section)), *section, text):
        data = field.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()


def first_ids(rows: Iterable[int]) -> list[int]:
    """Prefix sums: the first passage id of each part, and at the end the number of passages."""
    firsts = [0]
    for count in rows:
        firsts.append(firsts[-1] + count)
    return firsts


def copied(ids: npt.ArrayLike) -> npt.ArrayLike:
    """What a caller gives, for later: `as_ids` judges it, and the caller may change his own meanwhile."""
    try:
        return np.array(arrays.plain(ids))
    except (TypeError, ValueError):
        return ids


def as_ids(ids: npt.ArrayLike, passages: int) -> npt.NDArray[np.int64]:
    """Check ids asked for: whole numbers in [0, passages), any order, duplicates allowed. Shape [k].

    Raises:
        UnknownPassageError: naming the ids that are not there.
        CorpusError: for floats, booleans, lists of lists, more than one dimension, masked places.
    """
    try:
        array = np.asarray(arrays.plain(ids))
    except (TypeError, ValueError) as e:
        if isinstance(e, errors.CorpusError):
            raise
        raise errors.CorpusError(
            f"passage ids are {arrays.shown(ids)}; wanted one dimension of whole numbers"
        ) from None
    if array.size == 0 and array.ndim <= 1:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise errors.CorpusError(
            f"passage ids have shape {array.shape} and type {array.dtype}; "
            "wanted one dimension of whole numbers"
        )
    # Compared before the cast, which would wrap a large uint64 into a valid id.
    unknown = (array < 0) | (array >= passages)
    if unknown.any():
        raise errors.UnknownPassageError([int(i) for i in array[unknown]], passages)
    return array.astype(np.int64)
