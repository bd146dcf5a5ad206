"""Codecs on the device: GB/s of values that are coded and decoded there, and if they are the store's."""

from __future__ import annotations

from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.device import work
from benchmarks.device.boxes import Box, Row
from encoders import quantizing
from storage import codecs

# Of the codes, beside which NumPy's may lie: ties, and what rounds over a boundary.
MOST_OTHER_ROWS: Final = 0.05
CHECKED_ROWS: Final = 256


def codecs_on_device(box: Box) -> None:
    """Every codec, with parameters drawn at random: speed hangs on their shapes alone."""
    size = box.settings["sizes"][min(1, len(box.settings["sizes"]) - 1)]
    width = work.SIZES[size].d_model
    tokens = box.settings["budgets"][-1]
    for name in (*codecs.NAMES, "rq64x8"):
        if name == "pq16x16" and box.settings["tiny"]:
            box.put(name, {"skipped": "65,536 codes are not for a tiny run"})
            continue
        box.entry(name, lambda name=name: _codec(box, name, width, tokens))


def coder_of(name: str, width: int) -> codecs.Coder:
    codec = codecs.by_name(name)
    random = np.random.default_rng(0)
    parameters: dict[str, Any] = {}
    for key, (shape, dtype) in codec.parameter_shapes(width).items():
        if dtype == np.float32:  # int8's scales
            parameters[key] = random.uniform(0.5, 2, shape).astype(np.float32)
        else:  # codebooks, bfloat16
            drawn = random.normal(size=shape).astype(np.float32)
            parameters[key] = drawn.astype(codecs.bfloat16).view(np.uint16)
    return codec.bind(width, parameters)


def _codec(box: Box, name: str, width: int, tokens: int) -> Row:
    coder = coder_of(name, width)
    quantize, restore = quantizing.quantizer(coder), quantizing.dequantizer(coder)
    apply = jax.jit(lambda function, x: function(x))
    h = jax.random.normal(jax.random.key(0), (tokens, width), jnp.float32)
    stored = apply(quantize, h)
    values = np.asarray(h[:CHECKED_ROWS])
    codes = np.asarray(stored[:CHECKED_ROWS])
    same_rows = float((codes == coder.encode(values)).all(axis=1).mean())
    decoded = np.asarray(apply(restore, stored[:CHECKED_ROWS]), np.float32)
    wanted = coder.decoded(codes).astype(np.float32)
    away = float(np.abs(decoded - wanted).max() / np.abs(wanted).max())
    to_codes = work.seconds_of(box, lambda: apply(quantize, h))
    back = work.seconds_of(box, lambda: apply(restore, stored))
    size = tokens * width * 4
    return {
        "width": width,
        "tokens": tokens,
        "coded_bytes_per_s": size / to_codes,
        "decoded_bytes_per_s": tokens * width * 2 / back,
        "bytes_a_token": coder.codec.token_bytes(width),
        "rows_as_numpy": same_rows,
        "decoded_error": away,
        # turbo's scale is a sum, whose last bits are nobody's: its rows are held by what they decode to.
        "right": away <= 2.0**-7 and (coder.codec.kind == "turbo" or same_rows >= 1 - MOST_OTHER_ROWS),
    }
