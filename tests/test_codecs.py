"""Every codec keeps its stated error bound, and the manifest's form of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import codecs, errors


@pytest.mark.parametrize("codec", codecs.CODECS.values(), ids=str)
@given(
    values=st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-60000, max_value=60000),
        min_size=1,
        max_size=50,
    )
)
def test_error_stays_inside_the_stated_bound(codec: codecs.Codec, values: list[float]) -> None:
    exact = np.array(values, np.float32)
    rounded = exact.astype(codec.dtype)
    stored = codec.stored(rounded)
    assert stored.dtype == codec.stored_dtype
    back = codec.logical(stored).astype(np.float64)
    error = np.abs(back - exact.astype(np.float64))
    bound = np.maximum(codec.relative_error * np.abs(exact.astype(np.float64)), codec.absolute_error)
    assert (error <= bound).all()
    assert codec.token_bytes(10) == codec.stored(np.zeros(10, codec.dtype)).nbytes


@pytest.mark.parametrize("codec", codecs.CODECS.values(), ids=str)
def test_json_round_trip(codec: codecs.Codec) -> None:
    assert codecs.from_json(codec.to_json()) is codec


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"name": "zip", "configuration": {}}, "known are float32, bfloat16, float16"),
        ({"name": "float32", "configuration": {"bits": 8}}, "a newer memcorpus"),
        ({"name": "float32"}, "not of the form"),
        ("float32", "not of the form"),
    ],
)
def test_unknown_codecs_are_refused(value: object, match: str) -> None:
    with pytest.raises(errors.CorpusError, match=match):
        codecs.from_json(value)


def test_wrong_dtype_is_not_reinterpreted() -> None:
    with pytest.raises(TypeError, match="stores bfloat16"):
        codecs.BFLOAT16.stored(np.zeros(3, np.float16))
