"""Codecs side by side: bytes, error, decoding against memcpy, and what quantizing adds to the encoder.

    python -m benchmarks.codecs [--encoder FOLDER] [--codecs bfloat16 int8 ...] [--skip-encoder]
    python -m benchmarks.codecs --skip-encoder --skip-synthetic [--decoding 64 1024 ...]   # decoding alone

Three kinds of memory: that of a T5 (--encoder, or one of T5.1.1 base's shape with random weights, made on
the spot: no evidence about trained ones), independent Gaussians (the worst case for whatever uses
correlation), and Gaussians with massive channels as trained T5s have them (the worst case for whatever
shares a scale). Errors are of tokens that no codec was trained on.
"""

from __future__ import annotations

import argparse
import mmap
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import interleaved
from encoders import quantizing
from encoders.memory_encoder import MemoryEncoder
from encoders.memory_spec import MAX_TOKENS, MemorySpec
from storage import codecs, memory_store, native
from storage.codecs import base
from storage.memory_store import MemoryLayout
from storage.shards import ShardGrid

DEFAULT = ("float32", "bfloat16", "float16", "int8", "turbo4", "turbo2", "pq4x8", "pq8x8", "rq64x8")
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


def any_coder(name: str, width: int) -> codecs.Coder:
    """With parameters that nobody trained: how fast codes are decoded does not depend on them."""
    codec, rng = codecs.by_name(name), np.random.default_rng(0)
    parameters: dict[str, Array] = {}
    for key, (shape, dtype) in codec.parameter_shapes(width).items():
        values = rng.lognormal(size=shape).astype(np.float32)
        parameters[key] = values.astype(base.bfloat16).view(dtype) if dtype == np.uint16 else values
    return codec.bind(width, parameters)


def any_rows(coder: codecs.Coder, rows: int) -> Array:
    """Stored rows of any codes: all of a table is used, as by real ones."""
    rng = np.random.default_rng(1)
    if coder.codec.kind == "rq":
        return rng.integers(0, 256, (rows, coder.stored_width)).astype(np.uint8)
    if coder.codec.kind == "pq":
        most = 1 << min(coder.codec.bits, 8 * coder.codec.stored_dtype.itemsize)  # type: ignore[attr-defined]
        return rng.integers(0, most, (rows, coder.stored_width)).astype(coder.codec.stored_dtype)
    few = coder.encode(rng.normal(size=(min(rows, 2000), coder.width)).astype(np.float32))
    return np.ascontiguousarray(few[np.arange(rows) % len(few)])


def decoding(names: list[str], width: int, rows: int, rounds: int, *, device: bool) -> None:
    """Decoding one fetch's tokens, and memcpy of as many bytes, taking turns.

    On one core, seconds are the thread's on the processor, in NumPy and natively; on two, seconds on the
    wall, each thread decoding a half. All decode into the same array, as a reader does, three times
    a turn, of which the last counts. JAX comes last: its threads go on waiting for work after each call, on
    all cores.
    """
    library = native.library()
    source = np.zeros((rows, width), np.uint16)
    # From where a page begins, as a reader's buffers do.
    room = np.ones(4 * source.size + mmap.PAGESIZE, np.uint8)
    room = room[-room.ctypes.data % mmap.PAGESIZE :]
    target = room[: source.nbytes].view(np.uint16).reshape(rows, width)
    one: dict[str, Callable[[], object]] = {"memcpy": lambda: np.copyto(target, source)}
    two: dict[str, Callable[[], object]] = {}
    on_device: dict[str, Callable[[], object]] = {}
    pool = ThreadPoolExecutor(1)

    def by(decoder: native.Library | None, coder: codecs.Coder, stored: Array, out: Array) -> None:
        with native.using(decoder):
            coder.decode(stored, out)

    def halves(run: Callable[[slice], None]) -> None:
        other = pool.submit(run, slice(rows // 2, rows))
        run(slice(rows // 2))
        other.result()

    two["memcpy"] = lambda: halves(lambda part: np.copyto(target[part], source[part]))
    for name in names:
        coder = any_coder(name, width)
        stored = any_rows(coder, rows)
        dtype = coder.codec.dtype
        out = room[: rows * width * dtype.itemsize].view(dtype).reshape(rows, width)
        one[f"{name} NumPy"] = lambda c=coder, s=stored, o=out: by(None, c, s, o)
        if library is not None and not coder.view_only:
            one[f"{name} native"] = lambda c=coder, s=stored, o=out: by(library, c, s, o)
        two[name] = lambda c=coder, s=stored, o=out: halves(lambda part: c.decode(s[part], o[part]))
        if device:
            function, sent = jax.jit(quantizing.dequantizer(coder)), jax.device_put(stored)
            on_device[name] = lambda f=function, s=sent: f(s).block_until_ready()
    seconds = interleaved(one, rounds, time.thread_time, untimed=2)
    shared = interleaved(two, rounds, untimed=2)
    pool.shutdown()
    size = rows * width * 2
    print(
        f"\ndecoding {rows:,} tokens of width {width}, GB/s of bfloat16: median (lower quartile to best); "
        f"decoded by {native.description()}; load {os.getloadavg()[0]:.0f}"
    )

    def cell(values: list[float] | None) -> str:
        if values is None:
            return f"{'':>24}"
        low, middle, high = (size / s / 1e9 for s in np.percentile(values, [75, 50, 0]))
        return f"{middle:>10.2f} ({low:.2f} to {high:.2f})".ljust(24)

    print(f"{'':<10}{'NumPy, one core':>24}{'native, one core':>24}{'two threads':>24}{'JAX':>12}")
    print(f"{'memcpy':<10}{'':>24}{cell(seconds['memcpy'])}{cell(shared['memcpy'])}")
    by_device = interleaved(on_device, rounds)
    for name in names:
        found = [seconds[f"{name} NumPy"], seconds.get(f"{name} native"), shared[name], by_device.get(name)]
        print(f"{name:<10}" + "".join(cell(values) for values in found))


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
    parser.add_argument("--decoding", type=int, nargs="*", default=[64, 1024, 4096], help="widths to decode")
    parser.add_argument("--skip-device", action="store_true", help="decode on the CPU, without JAX")
    parser.add_argument("--skip-encoder", action="store_true")
    parser.add_argument("--skip-synthetic", action="store_true")
    arguments = parser.parse_args()
    names = arguments.codecs
    if not arguments.skip_synthetic:
        for title, make in (("independent Gaussians", gaussians), ("massive channels", massive)):
            train, held_out = make(arguments.train, arguments.width, 1), make(HELD_OUT, arguments.width, 2)
            compare(title, train, held_out, names)
    for width in arguments.decoding:
        # As many bytes of each width: a fetch of 20 long passages at d = 1024.
        decoding(names, width, 5000 * 1024 // width, arguments.rounds, device=not arguments.skip_device)
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
