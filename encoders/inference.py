"""The lower layers of a T5 encoder, for inference alone: fast, and on any number of devices.

The arithmetic is that of `encoders.t5`, which is the one to train; see there for the equations. Here the
weights are plain arrays, split over a mesh as `encoders.sharding` has it, and each device runs `_forward` on
its rows of the batch and its share of the heads and of d_ff.

Precision. Kernels and the activations that meet them are in the compute dtype; every product is accumulated
and returned in float32, and so are the sums over devices; the residual stream, norms, softmax, gate and
relative bias are float32. With compute dtype float32, products are computed in full float32 everywhere.

Speed. Attention is by the kernel that `encoders.attention` chooses for the platform. The relative bias is
made once for all layers and rows, [heads, tokens, tokens]; padding is masked where scores are added up, never
as an array of its own. Layers are not stacked for `scan`, which was slower in bfloat16 on a CPU and saved
little compiling. No buffer is donated: no input is as large as any output. `benchmarks.encoder` measures it,
on accelerators `benchmarks.accelerator`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NotRequired, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from encoders import attention, sharding
from encoders.aliases import AnyDtype
from encoders.sharding import DATA, MODEL, TensorSource
from encoders.t5 import relative_position_buckets
from encoders.t5_config import T5Config, require_compute_dtype


class BlockWeights(TypedDict):
    """Of one layer, on this device; see `sharding.parameters` for the kernels' layout."""

    attention_norm: Float[Array, " d"]
    qkv: Float[Array, "d 3 inner"]
    out: Float[Array, "inner d"]
    feed_forward_norm: Float[Array, " d"]
    wi: Float[Array, "d matrices ff"]
    wo: Float[Array, "ff d"]


class Weights(TypedDict):
    """Of an encoder. One that runs no layer has no relative bias; only one that runs all has a final norm."""

    embedding: Float[Array, "vocab d"]
    blocks: list[BlockWeights]
    relative_bias: NotRequired[Float[Array, "buckets heads"]]
    final_norm: NotRequired[Float[Array, " d"]]


# What becomes of the residual stream: (h [rows, tokens, d], real [rows, tokens], *arguments) -> arrays whose
# first axis is the rows.
Finish = Callable[..., PyTree]


class Encoder:
    """The first `layers` layers of a T5 encoder on the devices of a mesh.

    Args:
        config: shape of the whole encoder.
        tensor: gives each tensor of `weights.tensor_shapes(config, layers)` by name; asked for each device.
        layers: how many to run, 0 (the embedding alone) to config.layers (and the final norm).
        compute_dtype: "float32", or "bfloat16" for the kernels and what meets them.
        mesh: from `sharding.mesh_for`; None: all local devices.

    Raises:
        ValueError: layers or compute_dtype is none of these, or the mesh does not divide the encoder.
    """

    def __init__(
        self,
        config: T5Config,
        tensor: TensorSource,
        *,
        layers: int,
        compute_dtype: str = "float32",
        mesh: Mesh | None = None,
    ) -> None:
        config.require_layers(layers)
        require_compute_dtype(compute_dtype)
        self.config, self.layers, self.compute_dtype = config, layers, compute_dtype
        self.mesh = sharding.mesh_for(config, layers, compute_dtype) if mesh is None else mesh
        parameters = sharding.parameters(config, layers, compute_dtype)
        self.weights: Weights = jax.tree.map(lambda p: p.load(tensor, self.mesh), parameters)

    @property
    def data_parallel(self) -> int:
        """Into how many parts the rows of a batch are split."""
        return int(self.mesh.shape[DATA])

    @property
    def on_cpu(self) -> bool:
        return _platform(self.mesh) == "cpu"

    def everywhere(self, arrays: PyTree) -> PyTree:
        """A tree of arrays on every device, to be given to what `compile` returns."""
        return jax.device_put(arrays, NamedSharding(self.mesh, sharding.WHOLE))

    def compile(self, finish: Finish) -> Callable[..., PyTree]:
        """The encoder as a function (ids, lengths, *arguments) -> what `finish` makes, compiled per shape.

        ids [rows, tokens] and lengths [rows] (1 or more) are int32 NumPy arrays; what stands from a row's
        length on is ignored. Rows are filled up to a multiple of `data_parallel`: the result may have more.
        """
        run = program(
            self.config, self.layers, compute_dtype=self.compute_dtype, mesh=self.mesh, finish=finish
        )
        placed = NamedSharding(self.mesh, sharding.ROWS)

        def call(
            ids: Int[np.ndarray, "rows tokens"], lengths: Int[np.ndarray, " rows"], *rest: PyTree
        ) -> PyTree:
            # jax splits an axis over devices in equal parts only.
            filler = -len(ids) % self.data_parallel
            ids = np.pad(ids, ((0, filler), (0, 0)))
            lengths = np.pad(lengths, (0, filler), constant_values=1)
            return run(self.weights, *jax.device_put((ids, lengths), placed), *rest)

        return call


def _platform(mesh: Mesh) -> str:
    return str(mesh.devices.flat[0].platform)


def program(
    config: T5Config,
    layers: int,
    *,
    compute_dtype: str,
    mesh: Mesh,
    finish: Finish,
    kernel: str | None = None,
) -> jax.stages.Wrapped:
    """A compiled function (weights, ids, lengths, *arguments) over the mesh; see `Encoder.compile`.

    Lowered from the parameters' structs (`sharding.Parameter.struct`) it needs no weights. `kernel`: of
    `attention.KERNELS`; None: the one chosen for the mesh's platform.
    """
    config.require_layers(layers)
    require_compute_dtype(compute_dtype)
    specs = jax.tree.map(lambda p: p.spec, sharding.parameters(config, layers, compute_dtype))
    dtype = jnp.dtype(compute_dtype)
    attend = attention.kernel(kernel or attention.chosen(_platform(mesh)))

    @jax.jit
    def run(weights: Weights, ids: Array, lengths: Array, *arguments: PyTree) -> PyTree:
        def local(weights: Weights, ids: Array, lengths: Array, *arguments: PyTree) -> PyTree:
            real = jnp.arange(ids.shape[1]) < lengths[:, None]
            h = _forward(weights, ids, real, config=config, dtype=dtype, attend=attend)
            return finish(h, real, *arguments)

        return jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(specs, sharding.ROWS, sharding.ROWS, *(sharding.WHOLE for _ in arguments)),
            out_specs=sharding.ROWS,
            # The check would ask `finish` to mark its constants as different on each device.
            check_vma=False,
        )(weights, ids, lengths, *arguments)

    return run


def _forward(
    weights: Weights,
    ids: Int[Array, "rows tokens"],
    real: Bool[Array, "rows tokens"],
    *,
    config: T5Config,
    dtype: jnp.dtype,
    attend: attention.Kernel,
) -> Float[Array, "rows tokens d"]:
    """The residual stream of this device's rows, after the final norm if the weights have one."""
    h = weights["embedding"][ids]
    if "relative_bias" in weights:
        buckets = relative_position_buckets(
            ids.shape[1], buckets=config.relative_buckets, max_distance=config.relative_max_distance
        )
        # Of this device's heads alone: the table is split as the kernels' columns are.
        bias = weights["relative_bias"].T[:, buckets]
        norm = functools.partial(_norm, epsilon=config.norm_epsilon)
        for block in weights["blocks"]:
            qkv = _product(norm(h, block["attention_norm"]), block["qkv"], dtype).astype(dtype)
            mixed = attend(qkv, real, bias=bias, d_kv=config.d_kv)
            # Each device has multiplied its heads by their rows of `out`: the sum over devices is the whole
            # product.
            h = h + _over_model(_product(mixed, block["out"], dtype))
            inner = _product(norm(h, block["feed_forward_norm"]), block["wi"], dtype)
            h = h + _over_model(_product(_activate(inner), block["wo"], dtype))
    return _norm(h, weights["final_norm"], epsilon=config.norm_epsilon) if "final_norm" in weights else h


def _over_model(part: Array) -> Array:
    """The sum of what the devices of a model have each computed of it."""
    total: Array = lax.psum(part, MODEL)  # type: ignore[no-untyped-call]
    return total


def _norm(
    x: Float[Array, "*rows d"], scale: Float[Array, " d"], *, epsilon: float
) -> Float[Array, "*rows d"]:
    return x * lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon) * scale


def _product(
    x: Float[Array, "*rows in"], kernel: Float[Array, "in *out"], dtype: jnp.dtype
) -> Float[Array, "*rows *out"]:
    """x @ kernel with inputs in `dtype`, accumulated in float32."""
    return attention.dot(x.astype(dtype), kernel, (((x.ndim - 1,), (0,)), ((), ())))


def _activate(inner: Float[Array, "*rows matrices ff"]) -> Float[Array, "*rows ff"]:
    """gelu(wi_0 x) * (wi_1 x), or relu(wi x)."""
    if inner.shape[-2] == 1:
        return jax.nn.relu(inner[..., 0, :])
    return jax.nn.gelu(inner[..., 0, :], approximate=True) * inner[..., 1, :]


def compile_memory(encoder: Encoder) -> Callable[..., tuple[Array, Array]]:
    """The encoder as a function (ids, lengths, dtype, quantize) -> (memory, peaks), compiled per shape.

    Memory is [rows, tokens, d] in `dtype`, or what `quantize` makes of its float32, such as
    [rows, tokens, stored_width] of codes: a pytree, see `encoders.quantizing`; `dtype` is ignored then.
    Peaks [rows] float32 is the largest magnitude among a row's real tokens before that rounding (NaN
    if there is one), which tells overflow. Rows as in `Encoder.compile`.
    """
    placed: list[tuple[PyTree, PyTree]] = [(None, None)]

    @functools.cache
    def compiled(dtype: AnyDtype | None) -> Callable[..., PyTree]:
        return encoder.compile(functools.partial(memory_and_peaks, dtype=dtype))

    def run(
        ids: Int[np.ndarray, "rows tokens"],
        lengths: Int[np.ndarray, " rows"],
        dtype: AnyDtype | None,
        quantize: PyTree = None,
    ) -> PyTree:
        if placed[0][0] is not quantize:
            # Once a quantizer: its tables may have hundreds of megabytes, and go to every device.
            placed[0] = (quantize, encoder.everywhere(quantize))
        return compiled(None if quantize is not None else dtype)(ids, lengths, placed[0][1])

    return run


def memory_and_peaks(
    h: Float[Array, "rows tokens d"],
    real: Bool[Array, "rows tokens"],
    quantize: Callable[[Array], Array] | None,
    *,
    dtype: AnyDtype | None,
) -> tuple[Shaped[Array, "rows tokens stored"], Float[Array, " rows"]]:
    """What an encoder's states are stored as, and the largest magnitude of each row; see
    `compile_memory`."""
    peaks = jnp.max(jnp.where(real[:, :, None], jnp.abs(h), 0.0), axis=(1, 2))
    # XLA:CPU's max passes over NaN, so ask for it.
    broken = jnp.any(real[:, :, None] & jnp.isnan(h), axis=(1, 2))
    memory = h.astype(dtype) if quantize is None else quantize(h)
    return memory, jnp.where(broken, jnp.nan, peaks)
