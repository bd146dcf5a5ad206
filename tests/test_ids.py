"""Ids and keys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import errors, ids


def test_first_ids_are_prefix_sums() -> None:
    assert ids.first_ids([3, 0, 2]) == [0, 3, 3, 5]


@given(
    st.lists(st.text(max_size=4), max_size=3),
    st.lists(st.text(max_size=4), max_size=3),
    st.text(max_size=4),
    st.text(max_size=4),
)
def test_keys_differ_where_anything_differs(one: list[str], other: list[str], page: str, text: str) -> None:
    def key(section: list[str], page: str = page, text: str = text, ordinal: int = 0) -> bytes:
        return ids.passage_key(page, section, ordinal, text=text, splitter="1")

    assert len(key(one)) == 16
    assert (key(one) == key(other)) == (one == other)
    # Moving characters between fields must not give the same bytes.
    assert key([*one, text], text="") != key(one)
    assert key(one, page + "x") != key(one)
    assert key(one, ordinal=1) != key(one)
    assert ids.passage_key(page, one, 0, text=text, splitter="2") != key(one)


def test_keys_are_fixed_forever() -> None:
    key = ids.passage_key("12", ("History",), 3, text="Some text.", splitter="1")
    assert key.hex() == "3c6688c94f6b09d7da2cbc964bd9ea0e"


@pytest.mark.parametrize("bad", [[3], [-1], [0, 1, 7], np.array([2**64 - 1], np.uint64), [-(2**62)]])
def test_unknown_ids_are_named(bad: list[int]) -> None:
    with pytest.raises(errors.UnknownPassageError) as caught:
        ids.as_ids(bad, 3)
    wrong = [int(i) for i in bad if not 0 <= int(i) < 3]
    assert caught.value.ids == wrong
    assert str(wrong[0]) in str(caught.value)
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize("bad", [[0.0], [[1, 2]], 3, [True], ["1"]])
def test_ids_of_another_kind_are_refused(bad: object) -> None:
    with pytest.raises(errors.CorpusError, match="whole numbers"):
        ids.as_ids(bad, 5)  # type: ignore[arg-type]


def test_ids_keep_order_and_duplicates() -> None:
    assert ids.as_ids(np.array([2, 0, 2], np.uint8), 3).tolist() == [2, 0, 2]
    assert ids.as_ids([], 3).shape == (0,)
