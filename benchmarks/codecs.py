"""Codecs side by side: bytes, error, decoding against memcpy, and what quantizing adds to the encoder.

    python -m benchmarks.codecs [--encoder FOLDER] [--codecs bfloat16 int8 ...] [--skip-encoder]

Three kinds of memory: that of a T5 (--encoder, or one of T5.1.1 base's shape with random weights, made on
the spot: no evidence about trained ones), independent Gaussians (the worst case for whatever uses
correlation), and Gaussians with massive channels as trained T5s have them (the worst case for whatever
shares a scale). Errors are of tokens that no codec was trained on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import interleaved
from encoders import quantizing
from encoders.memory_encoder import MemoryEncoder
from encoders.memory_spec import MAX_TOKENS, MemorySpec
from storage import codecs, memory_store
from storage.memory_store import MemoryLayout
from storage.shards import ShardGrid

DEFAULT = ("float32", "bfloat16", "float16", "int8", "turbo4", "turbo2", "pq4x8", "pq8x8")
HELD_OUT = 8192
Array = np.ndarray[Any, Any]


def gaussians(tokens: int, width: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(tokens, width)).astype(np.float32)


def massive(tokens: int, width: int, seed: int) -> Array:
    """Gaussians; four channels are massive in every token, one more in one token of fifty."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(tokens, width))
    values[:, 5] += 200 * (1 + 0.1 * rng.normal(size=tokens))
    values[:, width // 3] -= 60
    values[:, width // 2] *= 30
    values[:, width // 5] *= 10
    values[rng.random(tokens) < 0.02, 7] *= 1000
    return values.astype(np.float32)


def texts(count: int, words: list[str], seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.normal(190, 30, count), 20, 200).astype(int)
    return [" ".join(rng.choice(words, length)) for length in lengths]


def make_encoder(folder: str | None, scratch: Path) -> tuple[MemoryEncoder, list[str]]:
    from tests import small_models

    words = " ".join(small_models.TEXTS).split()
    if folder is None:
        small_models.make_t5_folder(scratch, layers=12, d_model=768, d_ff=2048, heads=12, d_kv=64)
        folder = str(scratch)
    return MemoryEncoder.load(folder, MemorySpec()), words


def memory_of(encoder: MemoryEncoder, words: list[str], tokens: int, seed: int) -> Array:
    """At least `tokens` tokens' memory, or all of the texts'."""
    pieces, done, batch = [], 0, 0
    while done < tokens:
        found = encoder.tokenize(texts(64, words, seed + 1000 * batch))
        out = np.empty((len(found.ids), encoder.width), np.float32)
        encoder.encode(found, out)
        pieces.append(out)
        done, batch = done + len(out), batch + 1
    return np.concatenate(pieces)[:tokens]


def disk_bytes_a_token(codec: codecs.Codec, width: int) -> float:
    """Of a shard of 64 passages of 250 tokens, offsets, checksums and chunk index included."""
    grid = ShardGrid(passages=64, shard_passages=64)
    layout = MemoryLayout(grid=grid, width=width, max_tokens=MAX_TOKENS, codec=codec)
    offsets = np.arange(65, dtype=np.int64) * 250
    with tempfile.TemporaryDirectory() as name:
        memory_store.create(Path(name), layout)
        buffer = memory_store.allocate(layout, int(offsets[-1]))
        paths = memory_store.write_shard(Path(name), layout, 0, offsets=offsets, buffer=buffer)
        return sum(path.stat().st_size for path in paths) / int(offsets[-1])


def quality(exact: Array, decoded: Array) -> tuple[float, float, float, float]:
    """Relative mean square error, its root, mean cosine, and the median channel's relative error.

    The last is of a channel's error against its variance: what becomes of the channels that are not
    massive.
    """
    x, y = exact.astype(np.float64), decoded.astype(np.float64)
    mse = float(((y - x) ** 2).sum() / (x**2).sum())
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    cosine = float(((x * y).sum(axis=1) / norms).mean())
    channel = float(np.median(((y - x) ** 2).mean(axis=0) / np.maximum(x.var(axis=0), 1e-30)))
    return mse, mse**0.5, cosine, channel


def compare(title: str, train: Array, held_out: Array, names: list[str]) -> dict[str, codecs.Coder]:
    width = held_out.shape[1]
    print(f"\n{title}: trained on {len(train):,} tokens, errors of {len(held_out):,} others, width {width}")
    print(
        f"{'codec':<10}{'bytes/token':>12}{'x bf16':>8}{'rel. MSE':>11}{'rel. error':>11}{'cosine':>9}"
        f"{'median channel':>16}{'training s':>12}{'encode s':>10}"
    )
    coders: dict[str, codecs.Coder] = {}
    bf16 = disk_bytes_a_token(codecs.BFLOAT16, width)
    for name in names:
        codec = codecs.by_name(name)
        start = time.perf_counter()
        coders[name] = coder = codec.bind(width, codec.train(train))
        trained = time.perf_counter() - start
        start = time.perf_counter()
        stored = coder.encode(held_out)
        encoded = time.perf_counter() - start
        mse, error, cosine, channel = quality(held_out, coder.decoded(stored))
        size = disk_bytes_a_token(codec, width)
        print(
            f"{name:<10}{size:>12.1f}{bf16 / size:>8.2f}{mse:>11.2e}{error:>11.4f}{cosine:>9.5f}"
            f"{channel:>16.2e}{trained:>12.1f}{encoded:>10.2f}"
        )
    return coders


def decoding(coders: dict[str, codecs.Coder], values: Array, rounds: int) -> None:
    """Decoding one fetch of 20 passages' tokens, and memcpy of as many bytes, taking turns.

    NumPy's turns first, then JAX's: its threads go on waiting for work after each call, on all cores.
    """
    values = np.ascontiguousarray(values[:5000])
    source = np.zeros(values.shape, np.uint16)
    target = np.zeros_like(source)
    memcpy = {"memcpy": lambda: np.copyto(target, source)}
    runs: dict[str, Callable[[], object]] = {}
    device: dict[str, Callable[[], object]] = {}
    for name, coder in coders.items():
        stored = coder.encode(values)
        out = np.empty(values.shape, coder.codec.dtype)
        out.view(np.uint8)[:] = 1
        runs[f"{name} NumPy"] = lambda c=coder, s=stored, o=out: c.decode(s, o)
        on_device = jax.jit(quantizing.dequantizer(coder))
        sent = jax.device_put(stored)
        device[f"{name} JAX"] = lambda f=on_device, s=sent: f(s).block_until_ready()
    in_numpy = interleaved(runs | memcpy, rounds)
    seconds = interleaved(device, rounds) | in_numpy
    size = values.size * 2
    base = float(np.median(seconds["memcpy"]))
    print(f"\ndecoding {len(values):,} tokens of width {values.shape[1]}: GB/s of bfloat16 (share of memcpy)")
    print(f"{'memcpy':<10}{size / base / 1e9:>8.2f}")
    print(f"{'codec':<10}{'NumPy':>16}{'JAX on ' + jax.devices()[0].platform:>16}")
    for name in coders:
        cells = [float(np.median(seconds[f"{name} {kind}"])) for kind in ("NumPy", "JAX")]
        print(f"{name:<10}" + "".join(f"{size / s / 1e9:>8.2f} ({base / s:>4.2f})" for s in cells))


def quantizing_cost(encoder: MemoryEncoder, coders: dict[str, codecs.Coder], words: list[str]) -> None:
    """The encoder with and without each quantizer, taking turns."""
    tokens = encoder.tokenize(texts(48, words, 77))
    runs: dict[str, Callable[[], object]] = {}

    def run(coder: codecs.Coder | None, out: Array) -> None:
        encoder.encode(tokens, out, coder)

    for name, coder in coders.items():
        out = np.empty((len(tokens.ids), coder.stored_width), coder.codec.stored_dtype)
        runs[name] = lambda c=coder, o=out: run(c, o)
        encoder.encode(tokens, out, coder)  # compiles
        function = jax.jit(quantizing.quantizer(coder))
        h = jnp.asarray(np.random.default_rng(0).normal(size=(1216, encoder.width)).astype(np.float32))
        runs[f"{name} alone"] = lambda f=function, x=h: f(x).block_until_ready()
    # One quantizer is kept on the device at a time, so each round pays for moving its tables: as a build
    # never does. Time alone is therefore given too.
    seconds = interleaved(runs, 5)
    base = float(np.median(seconds["bfloat16"])) / len(tokens.ids)
    print(f"\nencoder of {encoder.layers} layers, width {encoder.width}: microseconds a token")
    print(f"{'codec':<10}{'encoder with it':>16}{'alone':>9}{'share of the encoder':>22}")
    for name in coders:
        whole = float(np.median(seconds[name])) / len(tokens.ids)
        alone = float(np.median(seconds[f"{name} alone"])) / 1216
        print(f"{name:<10}{whole * 1e6:>16.1f}{alone * 1e6:>9.2f}{alone / base:>22.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--encoder", help="folder of a T5 with safetensors weights")
    parser.add_argument("--codecs", nargs="+", default=list(DEFAULT))
    parser.add_argument("--width", type=int, default=1024, help="of the synthetic memory")
    parser.add_argument("--train", type=int, default=16384, help="tokens of the synthetic samples")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--skip-encoder", action="store_true")
    parser.add_argument("--skip-synthetic", action="store_true")
    arguments = parser.parse_args()
    names = arguments.codecs
    if not arguments.skip_synthetic:
        for title, make in (("independent Gaussians", gaussians), ("massive channels", massive)):
            train, held_out = make(arguments.train, arguments.width, 1), make(HELD_OUT, arguments.width, 2)
            coders = compare(title, train, held_out, names)
        decoding(coders, held_out, arguments.rounds)
    if arguments.skip_encoder:
        return
    with tempfile.TemporaryDirectory() as scratch:
        encoder, words = make_encoder(arguments.encoder, Path(scratch))
        memory = memory_of(encoder, words, arguments.train + 2048, 5)
        kind = "random weights" if arguments.encoder is None else arguments.encoder
        coders = compare(f"T5 of {kind}", memory[:-2048], memory[-2048:], names)
        if "bfloat16" in coders:
            quantizing_cost(encoder, coders, words)


if __name__ == "__main__":
    main()
