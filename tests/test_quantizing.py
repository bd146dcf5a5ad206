"""On the device as in NumPy: the same codes up to ties, the same values of the same codes up to rounding.

Nobody owes the same bits but the same program on the same processor: programs of other shapes, and NumPy, may
sum in another order. What is only moved, looked up or rounded is the same everywhere.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from encoders import codebooks, quantizing
from storage import codecs
from tests.test_codecs import FAST, WIDTH, coder_of, states


def on_device(coder: codecs.Coder, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with jax.numpy_dtype_promotion("strict"):
        stored = jax.jit(quantizing.quantizer(coder))(jnp.asarray(values))
    assert stored.dtype == coder.codec.stored_dtype
    assert stored.shape == (*values.shape[:-1], coder.stored_width)
    return np.asarray(stored)


def require_as_near(
    coder: codecs.Coder, one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], values: np.ndarray[Any, Any]
) -> None:
    """Two codings of the same values: where another code was taken, it is as near."""
    exact = values.astype(np.float64)
    errors = [np.linalg.norm(coder.decoded(rows).astype(np.float64) - exact, axis=1) for rows in (one, other)]
    np.testing.assert_allclose(errors[0], errors[1], rtol=0.02, atol=1e-6 * np.abs(exact).max())


def require_same_values(
    coder: codecs.Coder, got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]
) -> None:
    """Two decodings [rows, width] of the same codes: only turbo's are sums, and those differ by rounding."""
    assert got.dtype == expected.dtype == coder.codec.dtype
    if coder.codec.kind != "turbo":
        np.testing.assert_array_equal(got.view(np.uint8), expected.view(np.uint8))
        return
    a, b = got.astype(np.float32), expected.astype(np.float32)
    # float32's rounding of a sum, as much of it as a value may have that comes out near to nothing.
    noise = 1e-6 * np.abs(b).max(axis=1, keepdims=True)
    # One unit of bfloat16's last place: the other neighbour.
    assert (np.abs(a - b) <= 2.0**-7 * np.abs(b) + noise).all()
    assert (np.abs(a - b) > noise).mean() < 0.02


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("width", [32, 96])
def test_codes_are_numpys_up_to_ties(name: str, width: int) -> None:
    coder = coder_of(name, width)
    values = states(600, width, seed=3)
    values[17] = 0
    values[18, 1:] = 0
    stored, expected = on_device(coder, values), coder.encode(values)
    different = np.any(stored != expected, axis=1).mean()
    if coder.codec.kind == "float":
        assert different == 0
    elif coder.codec.kind == "turbo":  # its scale is a sum: equal but for rounding
        at = slice(width * coder.codec.bits // 8, width * coder.codec.bits // 8 + 4)  # type: ignore[attr-defined]
        scales = [np.ascontiguousarray(rows[:, at]).view("<f4") for rows in (stored, expected)]
        np.testing.assert_allclose(scales[0], scales[1], rtol=1e-4)
        codes = np.delete(stored != expected, np.r_[at], axis=1)
        assert codes.any(axis=1).mean() < 0.02
    else:
        assert different < 0.02
    require_as_near(coder, stored, expected, values)


@pytest.mark.parametrize("name", FAST)
def test_values_are_numpys(name: str) -> None:
    coder = coder_of(name)
    stored = coder.encode(states(500))
    with jax.numpy_dtype_promotion("strict"):
        values = jax.jit(quantizing.dequantizer(coder))(jnp.asarray(stored))
    require_same_values(coder, np.asarray(values), coder.decoded(stored))
    one = np.asarray(quantizing.dequantizer(coder)(jnp.asarray(stored[7])))
    assert one.shape == (WIDTH,)
    require_same_values(coder, one[None], np.asarray(values)[7:8])


@pytest.mark.parametrize("name", FAST)
def test_any_number_of_leading_dimensions(name: str) -> None:
    coder = coder_of(name)
    values = states(24)
    flat = on_device(coder, values)
    cube = on_device(coder, values.reshape(2, 3, 4, WIDTH)).reshape(24, -1)
    if coder.codec.kind in ("float", "int8"):
        np.testing.assert_array_equal(cube, flat)
    assert (cube != flat).mean() < 0.05  # turbo: the scales' last bytes; pq: equally near codes
    require_as_near(coder, cube, flat, values)
    assert on_device(coder, values[:0]).shape == (0, coder.stored_width)


def test_blocks_of_codes_change_ties_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    coder = coder_of("pq8x9")
    values = states(100)
    whole = on_device(coder, values)
    monkeypatch.setattr(codebooks, "BLOCK_DISTANCES", 6400)
    assert codebooks._block(512, 100) == 64
    in_blocks = on_device(coder, values)
    assert (in_blocks != whole).mean() < 0.02  # equally near codes
    require_as_near(coder, in_blocks, whole, values)


def test_tables_are_arguments() -> None:
    """Not constants of the program: a large codebook would be copied into each."""
    coder = coder_of("pq8x8")

    def apply(function: Any, h: Any) -> Any:
        return function(h)

    program = jax.jit(apply).lower(quantizing.quantizer(coder), jnp.zeros((4, WIDTH))).as_text()
    arguments = program[program.index("@main(") : program.index("->", program.index("@main("))]
    assert f"tensor<{WIDTH // 8}x256x8xbf16>" in arguments


def test_an_unknown_codec() -> None:
    class Strange:
        view_only = False

        class codec:
            name = kind = "zip"

    with pytest.raises(ValueError, match="codec zip has no form for devices"):
        quantizing.quantizer(Strange())  # type: ignore[arg-type]
