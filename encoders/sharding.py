"""Devices for an encoder: which hold what of its weights, and how many bytes that is.

Devices form a mesh [data, model]. A batch's rows are split over `data`. Over `model` every layer is split:
heads and d_ff, so that a device holds the columns of q, k, v and wi, and the rows of o and wo that belong to
its share, and each of the two sums of a layer takes one exchange (Shoeybi et al. 2019, section 3). The
embedding and the norms are on all devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from encoders import errors, weights
from encoders.aliases import AnyDtype
from encoders.t5_config import T5Config

DATA: Final = "data"
MODEL: Final = "model"

# How an array lies on the mesh: a batch split by rows; a kernel split by its outputs, or by its inputs; the
# relative-position table split by heads; and what is whole everywhere.
ROWS: Final = PartitionSpec(DATA)  # type: ignore[no-untyped-call]
OUTPUTS: Final = PartitionSpec(None, None, MODEL)  # type: ignore[no-untyped-call]
INPUTS: Final = PartitionSpec(MODEL, None)  # type: ignore[no-untyped-call]
HEADS: Final = PartitionSpec(None, MODEL)  # type: ignore[no-untyped-call]
WHOLE: Final = PartitionSpec()  # type: ignore[no-untyped-call]

# Share of a device's memory that weights may take; the rest is for activations and the program.
WEIGHTS_SHARE: Final = 0.7

# All local devices, in a name for devices.
ALL: Final = "all"

# A tensor by its canonical name, as in `weights.tensor_shapes`: matrices are [out, in].
TensorSource = Callable[[str], np.ndarray]
Index = tuple[slice, ...]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One array of an encoder: its shape, how it is split, and how a part of it is read."""

    shape: tuple[int, ...]
    dtype: AnyDtype
    spec: PartitionSpec
    read: Callable[[TensorSource, Index], np.ndarray]

    def struct(self, mesh: Mesh) -> jax.ShapeDtypeStruct:
        """The array's shape and place, without its values."""
        place = NamedSharding(mesh, self.spec)
        return jax.ShapeDtypeStruct(self.shape, self.dtype, sharding=place)  # type: ignore[no-untyped-call]

    def load(self, tensor: TensorSource, mesh: Mesh) -> jax.Array:
        """The array, read and cast part by part: the host never holds more than one device's part."""

        def part(index: Index | None) -> np.ndarray:
            assert index is not None
            return np.ascontiguousarray(self.read(tensor, index).astype(self.dtype))

        return jax.make_array_from_callback(self.shape, NamedSharding(mesh, self.spec), part)

    def device_bytes(self, model_parallel: int) -> int:
        """Bytes on each device."""
        # Over `data` nothing of the weights is split: each row of the mesh has a copy.
        parts = model_parallel if MODEL in self.spec else 1
        return math.prod(self.shape) * self.dtype.itemsize // parts


def parameters(config: T5Config, layers: int, compute_dtype: str) -> PyTree:
    """The arrays of the first `layers` layers, as the tree of them that `encoders.inference` computes with.

    Kernels are in the compute dtype: qkv [d, 3, heads * d_kv], out [heads * d_kv, d], wi [d, 2, d_ff] (1 of
    them without a gate), wo [d_ff, d]. All else is float32.
    """
    kind = jnp.dtype(compute_dtype)
    gated = config.feed_forward == "gated-gelu"
    tree: PyTree = {
        "embedding": _whole(weights.EMBEDDING, (config.vocab_size, config.d_model)),
        "blocks": [],
    }
    for layer in range(layers):
        name = f"block.{layer}.layer"
        attention, dense = f"{name}.0.SelfAttention", f"{name}.1.DenseReluDense"
        tree["blocks"].append(
            {
                "attention_norm": _whole(f"{name}.0.layer_norm.weight", (config.d_model,)),
                "qkv": _columns([f"{attention}.{which}.weight" for which in "qkv"], config, kind),
                "out": _rows(f"{attention}.o.weight", config, kind),
                "feed_forward_norm": _whole(f"{name}.1.layer_norm.weight", (config.d_model,)),
                "wi": _columns(
                    [f"{dense}.{which}.weight" for which in (("wi_0", "wi_1") if gated else ("wi",))],
                    config,
                    kind,
                ),
                "wo": _rows(f"{dense}.wo.weight", config, kind),
            }
        )
    if layers:
        tree["relative_bias"] = Parameter(
            shape=(config.relative_buckets, config.heads),
            dtype=np.dtype(np.float32),
            spec=HEADS,
            read=lambda tensor, index: tensor(weights.RELATIVE_BIAS)[index],
        )
    if layers == config.layers:
        tree["final_norm"] = _whole(weights.FINAL_NORM, (config.d_model,))
    return tree


def _whole(name: str, shape: tuple[int, ...]) -> Parameter:
    return Parameter(
        shape=shape,
        dtype=np.dtype(np.float32),
        spec=WHOLE,
        read=lambda tensor, index: tensor(name)[index],
    )


def _columns(names: Sequence[str], config: T5Config, kind: AnyDtype) -> Parameter:
    """Matrices [out, in] side by side as [in, matrices, out], split by their outputs."""
    out = config.inner if "SelfAttention" in names[0] else config.d_ff
    return Parameter(
        shape=(config.d_model, len(names), out),
        dtype=kind,
        spec=OUTPUTS,
        # Side by side, not end to end: a split of the last axis gives each device the same heads of q, k and
        # v, and the same columns of wi_0 and wi_1.
        read=lambda tensor, index: np.stack([tensor(name)[index[2]].T for name in names], axis=1),
    )


def _rows(name: str, config: T5Config, kind: AnyDtype) -> Parameter:
    """A matrix [out, in] as [in, out], split by its inputs."""
    inner = config.inner if "SelfAttention" in name else config.d_ff
    return Parameter(
        shape=(inner, config.d_model),
        dtype=kind,
        spec=INPUTS,
        read=lambda tensor, index: tensor(name)[:, index[0]].T,
    )


def weight_bytes(config: T5Config, layers: int, compute_dtype: str, *, model_parallel: int) -> int:
    """Bytes of the weights on each device."""
    tree = parameters(config, layers, compute_dtype)
    return sum(parameter.device_bytes(model_parallel) for parameter in jax.tree.leaves(tree))


def named(name: str) -> list[jax.Device]:
    """The local devices of a name.

    Args:
        name: "all" of the kind that jax prefers here, all of a kind ("cpu", "gpu", "tpu"), or one of a kind
            ("gpu:1"), counted among those that this process sees.

    Raises:
        EncoderError: there is none of this name.
    """
    if name == ALL:
        return list(jax.local_devices())
    kind, _, number = name.partition(":")
    try:
        found = list(jax.local_devices(backend=kind))
        return [found[int(number)]] if number else found
    except (RuntimeError, ValueError, IndexError) as error:
        seen = ", ".join(f"{device.platform}:{at}" for at, device in enumerate(jax.local_devices()))
        raise errors.EncoderError(f"there is no device {name!r} here; jax sees {seen}") from error


def mesh_for(
    config: T5Config,
    layers: int,
    compute_dtype: str,
    *,
    devices: Sequence[jax.Device] | None = None,
    model_parallel: int | None = None,
) -> Mesh:
    """The mesh [data, model] that an encoder runs on.

    Args:
        config, layers, compute_dtype: of the encoder.
        devices: all local ones if not given.
        model_parallel: devices that share one copy of the weights. None: the least number whose memory holds
            the weights, 1 where a device does not tell how much it has (CPUs).

    Raises:
        EncoderError: model_parallel does not divide the heads, d_ff and the devices, or no number will do.
    """
    given = list(jax.local_devices() if devices is None else devices)
    if not given:
        raise ValueError("no devices given, wanted one or more")
    if model_parallel is None:
        model_parallel = _least_that_fits(config, layers, compute_dtype, given)
    if model_parallel < 1 or not _divides(model_parallel, config, len(given)):
        raise errors.EncoderError(
            f"model_parallel is {model_parallel}, wanted a divisor of {config.heads} heads, of d_ff "
            f"{config.d_ff:,} and of {len(given)} devices"
        )
    return Mesh(np.asarray(given).reshape(-1, model_parallel), (DATA, MODEL))


def _divides(model_parallel: int, config: T5Config, devices: int) -> bool:
    return not any(size % model_parallel for size in (config.heads, config.d_ff, devices))


def _least_that_fits(config: T5Config, layers: int, compute_dtype: str, devices: list[jax.Device]) -> int:
    memory = min(_memory_bytes(device) for device in devices)
    # Ascending: the fewer devices share a copy, the more copies work side by side, and the less is exchanged.
    counts = [n for n in range(1, len(devices) + 1) if _divides(n, config, len(devices))]
    for count in counts:
        needed = weight_bytes(config, layers, compute_dtype, model_parallel=count)
        if needed <= WEIGHTS_SHARE * memory:
            return count
    raise errors.EncoderError(
        f"the weights take {needed / 2**30:.1f} GiB on each of {counts[-1]} devices, wanted at most "
        f"{WEIGHTS_SHARE:.0%} of their {memory / 2**30:.1f} GiB; take more devices, or bfloat16"
    )


def _memory_bytes(device: jax.Device) -> float:
    told: Mapping[str, int] = device.memory_stats() or {}
    return told.get("bytes_limit", math.inf)
