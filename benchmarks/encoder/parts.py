"""Where our encoder's time goes: what becomes of it when a part is left out, and its values are wrong."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks.encoder.contenders import Ours
from benchmarks.encoder.shapes import ROUNDS, full
from benchmarks.encoder.work import MAX_TOKENS, Work
from benchmarks.store.report import columns
from benchmarks.timing import interleaved
from encoders import attention, inference


def _values(qkv: Any, real: Any, *, bias: Any, d_kv: int) -> Any:
    return qkv[:, 2]


def _two_products(qkv: Any, real: Any, *, bias: Any, d_kv: int) -> Any:
    q, k, v = qkv.reshape(len(qkv), 3, -1, d_kv).transpose(1, 2, 0, 3)
    scores = attention.dot(q, k, (((2,), (2,)), ((0,), (0,)))).astype(qkv.dtype)
    mixed = attention.dot(scores, v, (((2,), (1,)), ((0,), (0,)))).astype(qkv.dtype)
    return mixed.transpose(1, 0, 2).reshape(len(qkv), -1)


def _first(inner: Any) -> Any:
    return inner[..., 0, :]


def _as_it_is(x: Any, scale: Any, *, epsilon: float) -> Any:
    return jnp.asarray(x)


LEFT_OUT: Final[dict[str, dict[str, Callable[..., Any]]]] = {
    "nothing": {},
    "attention but for its two products": {"attend": _two_products},
    "attention": {"attend": _values},
    "the gate": {"_activate": _first},
    "norms": {"_norm": _as_it_is},
    "all of these": {"attend": _values, "_activate": _first, "_norm": _as_it_is},
}


def run(work: Work, dtype: str, budget: int) -> dict[str, float]:
    """Tokens a second of a full batch of the longest passages, by what is left out; prints the table."""
    batch = full(max(1, budget // MAX_TOKENS), MAX_TOKENS)
    # The kernel whose row is `attention.attend`, which is replaced here.
    kernel = attention.ROW_BY_ROW if jax.default_backend() == "cpu" else attention.AT_ONCE
    plain: type[Ours] = type("Plain", (Ours,), {"kernel": kernel})
    ours: dict[str, Ours] = {}
    for name, replaced in LEFT_OUT.items():
        with ExitStack() as stack:
            for part, function in replaced.items():
                module = attention if part == "attend" else inference
                stack.enter_context(mock.patch.object(module, part, function))
            ours[name] = plain(work, dtype, budget)
            ours[name].prepared = [batch]
            ours[name].run()  # traced while the part is replaced
    seconds = interleaved({name: contender.run for name, contender in ours.items()}, ROUNDS)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows = [[f"{dtype}, {list(batch.ids.shape)}, without", "tokens/s", "of the time"]]
    for name, median in medians.items():
        share = 1 - median / medians["nothing"]
        rows.append([name, f"{batch.ids.size / median:,.0f}", f"{share:.0%}"])
    print(columns(rows) + "\n")
    return {name: batch.ids.size / median for name, median in medians.items()}
