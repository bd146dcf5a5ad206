"""The encoder on the device: parity, attention by kernel, tokens a second and share of the matrix rate."""

from __future__ import annotations

import time
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from benchmarks.device import work
from benchmarks.device.boxes import Box, Row, failed, told
from benchmarks.encoder.work import MAX_TOKENS, model_flops, passage_lengths
from encoders import attention, inference
from encoders.fingerprint import Fingerprint
from encoders.memory_encoder import MemoryEncoder
from encoders.t5_config import T5Config
from encoders.template import MEMORY_TEMPLATE, PassageTemplate
from encoders.tokenizing import Tokens

# max|a-b| / max|b| of the memory, as `benchmarks.encoder` has it.
BOUNDS: Final = {"float32": 1e-5, "bfloat16": 0.1}
# Of one attention in bfloat16, from the formula in float64. cuDNN rounds the bias as well.
ATTENTION_BOUND: Final = 0.03
PARITY_PASSAGES: Final = 6


def parity(box: Box) -> None:
    """Ours against transformers in float32 on the host, by type and kernel, at a small shape."""
    from benchmarks.encoder import contenders
    from benchmarks.encoder.work import Work

    config = work.SIZES[work.TINY if box.settings["tiny"] else "small"]
    passages = Work.of(config, work.layers_of(config), PARITY_PASSAGES)
    reference = passages.reference()

    def measure(kind: type[contenders.Contender], dtype: str) -> Row:
        error = kind(passages, dtype, box.settings["budgets"][0]).largest_error(reference)
        # Not `error > bound`, which NaN passes.
        return {"dtype": dtype, "error": error, "bound": BOUNDS[dtype], "right": error <= BOUNDS[dtype]}

    for dtype in BOUNDS:
        for name in work.tried():
            if name == attention.CUDNN and dtype == "float32":
                box.put(f"{dtype}, {name}", {"skipped": "cuDNN's attention has no float32"})
                continue
            ours: type[contenders.Ours] = type("Ours", (contenders.Ours,), {"kernel": name})
            box.entry(f"{dtype}, {name}", lambda ours=ours, dtype=dtype: measure(ours, dtype))
    box.entry("transformers in bfloat16, beside it", lambda: measure(contenders.Transformers, "bfloat16"))


def kernels(box: Box) -> None:
    """Attention alone, in bfloat16, by size and kernel, each held to the formula."""
    for size in box.settings["sizes"]:
        config = work.SIZES[size]
        rows = max(1, box.settings["budgets"][-1] // MAX_TOKENS)
        for name in work.tried():
            box.entry(
                f"{size}, {name}",
                lambda config=config, rows=rows, name=name, size=size: {
                    "size": size,
                    "kernel": name,
                    **_attention(box, config, rows, name),
                },
            )


def _attention(box: Box, config: T5Config, rows: int, name: str) -> Row:
    kernel, tokens, heads, d_kv = attention.kernel(name), MAX_TOKENS, config.heads, config.d_kv
    few = 2
    random = np.random.default_rng(0)
    given = jnp.asarray(random.normal(size=(few, tokens, 3, heads * d_kv)), jnp.bfloat16)
    bias = jnp.asarray(random.normal(size=(heads, tokens, tokens)), jnp.float32)
    lengths = np.array([tokens, tokens // 3])
    run = jax.jit(lambda qkv, real, bias: kernel(qkv, real, bias=bias, d_kv=d_kv))
    got = run(given, jnp.arange(tokens) < jnp.asarray(lengths)[:, None], bias)
    error = max(
        _distance(np.asarray(got[row, :length]), exact_attention(np.asarray(given[row, :length]), bias, d_kv))
        for row, length in enumerate(lengths)
    )
    many = jax.random.normal(jax.random.key(0), (rows, tokens, 3, heads * d_kv), jnp.bfloat16)
    real = jnp.ones((rows, tokens), bool)
    seconds = work.seconds_of(box, lambda: run(many, real, bias))
    return {
        "rows": rows,
        "tokens": tokens,
        "error": error,
        "bound": ATTENTION_BOUND,
        "right": bool(error <= ATTENTION_BOUND),
        "seconds": seconds,
        "flops_per_s": 4.0 * rows * tokens**2 * heads * d_kv / seconds,
    }


def exact_attention(qkv: Any, bias: Any, d_kv: int) -> np.ndarray:
    """The formula in float64, of one row's real tokens: qkv [length, 3, inner]; bias of all tokens."""
    length = len(qkv)
    q, k, v = qkv.astype(np.float64).reshape(length, 3, -1, d_kv).transpose(1, 2, 0, 3)
    scores = np.einsum("hqd,hkd->hqk", q, k) + np.asarray(bias, np.float64)[:, :length, :length]
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return np.einsum("hqk,hkd->qhd", shares, v).reshape(length, -1)


def _distance(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(got.astype(np.float64) - wanted).max() / np.abs(wanted).max())


def tokens_per_second(box: Box) -> None:
    """By size and batch budget, with the best kernel and at one budget with the default one too.

    FLOPs are of the formula; what XLA counts in the program stands beside it. `delivered` is what a build
    gets: passages of real lengths, batches as it cuts them, memory in bfloat16 on the host.
    """
    for size in box.settings["sizes"]:
        _size(box, size)


def _size(box: Box, size: str) -> None:
    try:
        encoder = work.encoder(work.SIZES[size], "bfloat16")
    except Exception as error:  # no room for its weights: the others go on
        box.put(size, {"error": told(error)})
        return
    best, default = work.best_kernel(box.earlier, size), attention.chosen(work.platform())
    budgets = box.settings["budgets"]
    asked = [(budget, best) for budget in budgets]
    if default != best:
        asked.append((budgets[len(budgets) // 2], default))
    rates: dict[int, float] = {}
    for budget, kernel in asked:
        row = box.entry(
            f"{size}, {budget:,} tokens, {kernel}", partial(_full, box, encoder, size, budget, kernel)
        )
        if not failed(row) and kernel == best:
            rates[budget] = row["tokens_per_s"]
    if rates:
        budget = max(rates, key=rates.__getitem__)
        name = f"{size}, delivered, {budget:,} tokens"
        box.entry(name, lambda: _delivered(box, encoder, size, budget))


def _full(box: Box, encoder: inference.Encoder, size: str, budget: int, kernel: str) -> Row:
    """One full batch of the longest passages, which stays on the device."""
    config, layers = encoder.config, encoder.layers
    rows, tokens = max(1, budget // MAX_TOKENS), MAX_TOKENS
    run = inference.program(
        config, layers, compute_dtype="bfloat16", mesh=encoder.mesh, finish=_as_bfloat16, kernel=kernel
    )
    ids = jax.random.randint(jax.random.key(0), (rows, tokens), 3, config.vocab_size)
    lengths = jnp.full(rows, tokens, jnp.int32)
    begun = time.perf_counter()
    compiled = run.lower(encoder.weights, ids, lengths).compile()
    compiling = time.perf_counter() - begun
    seconds = work.seconds_of(box, lambda: compiled(encoder.weights, ids, lengths))
    flops = model_flops(config, layers, np.full(rows, tokens))
    counted = compiled.cost_analysis() or {}
    return {
        "size": size,
        "layers": layers,
        "budget": budget,
        "kernel": kernel,
        "tokens": rows * tokens,
        "seconds": seconds,
        "compile_seconds": compiling,
        "tokens_per_s": rows * tokens / seconds,
        "flops": flops,
        "xla_flops": counted.get("flops"),
        "utilisation": _share(flops / seconds, box),
        "memory_peak_bytes": work.memory_peak(),
    }


def _share(flops_per_s: float, box: Box) -> float | None:
    peak = work.peak_rate(box.earlier)
    return None if peak is None else flops_per_s / peak


def _as_bfloat16(h: Any, real: Any) -> Any:
    return h.astype(jnp.bfloat16)


def _delivered(box: Box, encoder: inference.Encoder, size: str, budget: int) -> Row:
    """`MemoryEncoder.encode`, as a build calls it, after a call that compiles what it needs."""
    config = encoder.config
    count = max(8, 8 * budget // MAX_TOKENS)
    lengths = passage_lengths(count)
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    ids = np.random.default_rng(0).integers(3, config.vocab_size, offsets[-1]).astype(np.int32)
    tokens = Tokens(ids, offsets, np.zeros(count, np.int64))
    tokenizer: Any = SimpleNamespace(max_tokens=MAX_TOKENS)
    memory = MemoryEncoder(
        config=config,
        layers=encoder.layers,
        template=PassageTemplate(MEMORY_TEMPLATE),
        print_of=Fingerprint(hex="0" * 64, description={}),
        tokenizer=tokenizer,
        run=inference.compile_memory(encoder),
        token_budget=budget,
    )
    out = np.empty((len(ids), config.d_model), ml_dtypes.bfloat16)
    memory.encode(tokens, out)
    begun = time.perf_counter()
    spent = memory.encode(tokens, out)
    seconds = time.perf_counter() - begun
    flops = model_flops(config, encoder.layers, lengths)
    return {
        "size": size,
        "budget": budget,
        "kernel": attention.chosen(work.platform()),
        "tokens": len(ids),
        "seconds": seconds,
        "tokens_per_s": len(ids) / seconds,
        "bytes_per_s": out.nbytes / seconds,
        "waste": (spent.padding + spent.filler) / (len(ids) + spent.padding + spent.filler),
        "halved": spent.halved,
        "flops": flops,
        "utilisation": _share(flops / seconds, box),
    }
