"""The fast encoder is transformers' encoder, at every layer, and the same on one device and on eight."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import torch
from transformers import T5Config as HfConfig

from encoders import attention, inference, sharding
from encoders.t5_config import PUBLISHED_SIZES, T5Config
from tests import small_models
from tests.rounding import require_rounded_once
from tests.test_t5 import PARITY, distance, hf_config, ours, reference, texts


def fast(
    config: HfConfig,
    model: torch.nn.Module,
    *,
    layers: int,
    compute_dtype: str = "float32",
    devices: list[jax.Device] | None = None,
    model_parallel: int | None = None,
) -> inference.Encoder:
    """The fast encoder with the reference's weights, taken by name from its state."""
    state = {name.removeprefix("encoder."): tensor for name, tensor in model.state_dict().items()}
    shape = T5Config.from_hugging_face(config.to_dict())
    return inference.Encoder(
        shape,
        lambda name: state[name].float().numpy(),
        layers=layers,
        compute_dtype=compute_dtype,
        mesh=sharding.mesh_for(shape, layers, compute_dtype, devices=devices, model_parallel=model_parallel),
    )


def memory(encoder: inference.Encoder, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    values, _ = inference.compile_memory(encoder)(ids, lengths, np.dtype(np.float32))
    return np.asarray(values)[: len(ids)]


@pytest.mark.parametrize("feed_forward", ["gated-gelu", "relu"])
def test_every_layer_is_transformers(feed_forward: str) -> None:
    config = hf_config(feed_forward_proj=feed_forward)
    model = small_models.random_t5(config)
    ids, lengths = texts(4, 150, config.vocab_size)
    residuals, last = reference(model, ids, lengths)
    for layers, expected in enumerate([*residuals[:-1], last]):
        got = memory(fast(config, model, layers=layers), ids, lengths)
        relative, by_token = distance(got, expected, lengths)
        assert relative < PARITY
        assert by_token < 10 * PARITY
        # Not trivial: another layer's stream is far away.
        other = residuals[layers - 1] if layers else residuals[1]
        assert distance(got, other, lengths)[0] > 0.05


def test_base_size_is_transformers() -> None:
    config = hf_config(d_model=768, d_kv=64, d_ff=2048, num_layers=12, num_heads=12)
    model = small_models.random_t5(config)
    ids, lengths = texts(3, 64, config.vocab_size)
    residuals, last = reference(model, ids, lengths)
    for layers, expected in ((8, residuals[8]), (12, last)):
        got = memory(fast(config, model, layers=layers), ids, lengths)
        assert distance(got, expected, lengths)[0] < PARITY


def test_other_buckets_are_transformers() -> None:
    config = hf_config(relative_attention_num_buckets=16, relative_attention_max_distance=40)
    model = small_models.random_t5(config)
    ids, lengths = texts(4, 150, config.vocab_size)
    got = memory(fast(config, model, layers=5), ids, lengths)
    assert distance(got, reference(model, ids, lengths)[1], lengths)[0] < PARITY


def test_bfloat16_is_that_of_the_trained_encoder() -> None:
    # Its own distance from transformers is held in test_t5; both round at the same places.
    config = hf_config()
    model = small_models.random_t5(config)
    ids, lengths = texts(4, 100, config.vocab_size)
    got = memory(fast(config, model, layers=5, compute_dtype="bfloat16"), ids, lengths)
    flax = ours(config, model, layers=5, compute_dtype="bfloat16")
    relative, _ = distance(got, np.asarray(flax(ids, lengths)), lengths)
    assert relative < 0.01
    exact = reference(model, ids, lengths)[1]
    assert 1e-4 < distance(got, exact, lengths)[0] < 0.05


def test_all_rows_at_once_as_on_accelerators() -> None:
    config = hf_config()
    model = small_models.random_t5(config)
    encoder = fast(config, model, layers=3)
    ids, lengths = texts(4, 60, config.vocab_size)
    at_once = inference.program(
        encoder.config,
        3,
        compute_dtype="float32",
        mesh=encoder.mesh,
        finish=lambda h, real: h,
        kernel=attention.AT_ONCE,
    )(encoder.weights, ids, lengths)
    assert distance(np.asarray(at_once), memory(encoder, ids, lengths), lengths)[0] < 1e-6


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_padding_and_partners_change_rounding_only(compute_dtype: str) -> None:
    config = hf_config()
    encoder = fast(config, small_models.random_t5(config), layers=4, compute_dtype=compute_dtype)
    ids, _ = texts(5, 60, config.vocab_size)
    lengths = np.array([23, 60, 1, 23, 40], np.int32)
    alone = memory(encoder, ids[:1, :23], lengths[:1])[0]
    garbage = ids.copy()
    garbage[:, 23:][0] = 7  # what stands in the padding must not matter
    among = memory(encoder, garbage, lengths)[0, :23]
    assert np.abs(alone - among).max() / np.abs(alone).max() < (1e-6 if compute_dtype == "float32" else 0.01)
    cut = memory(encoder, ids[:1, :23], np.array([12], np.int32))[0, :12]
    assert np.abs(alone[:12] - cut).max() / np.abs(alone).max() > 0.01


def test_compile_memory_rounds_once_and_tells_the_peak() -> None:
    config = hf_config()
    encoder = fast(config, small_models.random_t5(config), layers=3)
    ids, lengths = texts(3, 24, config.vocab_size)
    run = inference.compile_memory(encoder)
    full, peaks = (np.asarray(array) for array in run(ids, lengths, np.dtype("float32")))
    half, _ = run(ids, lengths, np.dtype("float16"))
    require_rounded_once(np.asarray(half), full)
    for row, length in enumerate(lengths):
        assert peaks[row] == np.abs(full[row, :length]).max()


def test_a_value_that_is_no_number_is_told() -> None:
    config = hf_config()
    model = small_models.random_t5(config)
    with torch.no_grad():
        model.encoder.block[1].layer[1].DenseReluDense.wo.weight[0, 0] = float("nan")
    ids, lengths = texts(3, 24, config.vocab_size)
    _, peaks = inference.compile_memory(fast(config, model, layers=3))(ids, lengths, np.dtype("float32"))
    assert np.isnan(np.asarray(peaks)).all()


@pytest.mark.parametrize(
    ("layers", "dtype", "message"),
    [(6, "float32", "6 layers of an encoder of 5"), (1, "float16", "compute_dtype is 'float16'")],
)
def test_encoder_refuses(layers: int, dtype: str, message: str) -> None:
    config = hf_config()
    with pytest.raises(ValueError, match=message):
        fast(config, small_models.random_t5(config), layers=layers, compute_dtype=dtype)


def test_devices_by_name() -> None:
    assert sharding.named("all") == sharding.named("cpu") == jax.local_devices()
    assert sharding.named("cpu:0") == jax.local_devices()[:1]
    for name in ("cpu:99", "gpu", "nonsense:0"):
        with pytest.raises(ValueError, match=f"no device '{name}' here; jax sees cpu:0"):
            sharding.named(name)


@pytest.mark.parametrize("model_parallel", [0, 4, 7])
def test_mesh_refuses_what_divides_nothing(model_parallel: int) -> None:
    shape = T5Config.from_hugging_face(hf_config().to_dict())  # 6 heads
    one = jax.local_devices()[:1]
    with pytest.raises(ValueError, match=f"model_parallel is {model_parallel}, wanted a divisor of 6 heads"):
        sharding.mesh_for(shape, 2, "float32", devices=one * 4, model_parallel=model_parallel)
    with pytest.raises(ValueError, match="no devices given"):
        sharding.mesh_for(shape, 2, "float32", devices=[])


class _Device:
    """A device of which only the memory is asked."""

    def __init__(self, gib: float | None) -> None:
        self._gib = gib

    def memory_stats(self) -> dict[str, int] | None:
        return None if self._gib is None else {"bytes_limit": int(self._gib * 2**30)}


@pytest.mark.parametrize(("gib", "expected"), [(None, 1), (80, 1), (8, 2), (4, 4)])
def test_as_many_devices_share_the_weights_as_it_takes(gib: float | None, expected: int) -> None:
    xxl = PUBLISHED_SIZES["xxl"]
    devices: list = [_Device(gib)] * 8
    assert sharding.weight_bytes(xxl, 16, "bfloat16", model_parallel=1) == 6_700_933_120  # 6.24 GiB
    mesh = sharding.mesh_for(xxl, 16, "bfloat16", devices=devices)
    assert dict(mesh.shape) == {"data": 8 // expected, "model": expected}


def test_weights_that_fit_nowhere_are_refused() -> None:
    devices: list = [_Device(1)] * 8
    with pytest.raises(ValueError, match=r"1\.2 GiB on each of 8 devices, wanted at most 70%"):
        sharding.mesh_for(PUBLISHED_SIZES["xxl"], 16, "bfloat16", devices=devices)


def on_eight_devices(script: str) -> dict:
    """What a script prints as JSON, in a process with eight CPU devices."""
    code = (
        "import os; flags = os.environ.get('XLA_FLAGS', '')\n"
        "os.environ['XLA_FLAGS'] = f'{flags} --xla_force_host_platform_device_count=8'\n" + script
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


_SAME_MEMORY = """
import json, sys
import jax, numpy as np
from encoders import inference, quantizing
from tests import small_models
from tests.rounding import require_rounded_once
from tests.test_codecs import coder_of
from tests.test_inference import fast, memory
from tests.test_t5 import distance, hf_config, texts

assert len(jax.devices()) == 8
found = {}
config = hf_config(d_model=64, num_heads=8, d_ff=64)
model = small_models.random_t5(config)
ids, lengths = texts(11, 60, config.vocab_size)
coders = {name: coder_of(name, 64) for name in ("int8", "pq4x3")}
for dtype in ("float32", "bfloat16"):
    one = fast(config, model, layers=4, compute_dtype=dtype, devices=jax.devices()[:1])
    alone = memory(one, ids, lengths)
    for split in (1, 2, 4, 8):
        encoder = fast(config, model, layers=4, compute_dtype=dtype, model_parallel=split)
        assert dict(encoder.mesh.shape) == {"data": 8 // split, "model": split}
        name = f"{dtype} {split}"
        got = memory(encoder, ids, lengths)
        apart = []
        for coder in coders.values():
            codes = []
            for each in (one, encoder):
                stored, _ = inference.compile_memory(each)(ids, lengths, None, quantizing.quantizer(coder))
                rows = np.asarray(stored)[: len(ids)][np.arange(60) < lengths[:, None]]
                codes.append(coder.decoded(rows))
            assert len(np.unique(codes[0])) > 4
            largest = np.abs(codes[0]).max()
            apart.append(float((np.abs(codes[0] - codes[1]) > 1e-5 * largest).mean()))
        found[name] = [*distance(got, alone, lengths), *apart]
print(json.dumps(found))
"""


def test_same_memory_on_one_device_and_on_eight() -> None:
    found = on_eight_devices(_SAME_MEMORY)
    assert len(found) == 8
    for name, (relative, _, *apart) in found.items():
        assert relative < (1e-6 if name.startswith("float32") else 0.02), name
        # What the codes stand for differs where a value lies within rounding of a boundary.
        assert max(apart) < (1e-3 if name.startswith("float32") else 0.2), (name, apart)


_XXL = """
import json
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from encoders import attention, inference, sharding
from encoders.t5_config import PUBLISHED_SIZES

config, layers, rows, tokens = PUBLISHED_SIZES["xxl"], 16, 2, 304
mesh = sharding.mesh_for(config, layers, "bfloat16", model_parallel=8)
structs = jax.tree.map(lambda p: p.struct(mesh), sharding.parameters(config, layers, "bfloat16"))
placed = NamedSharding(mesh, PartitionSpec("data"))
def last(h, real):
    return h.astype(jnp.bfloat16)
run = inference.program(config, layers, compute_dtype="bfloat16", mesh=mesh, finish=last)
ids = jax.ShapeDtypeStruct((rows, tokens), jnp.int32, sharding=placed)
lengths = jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=placed)
compiled = run.lower(structs, ids, lengths).compile()
memory = compiled.memory_analysis()
print(json.dumps({
    "arguments": memory.argument_size_in_bytes,
    "output": memory.output_size_in_bytes,
    "temporary": memory.temp_size_in_bytes,
    "planned": sharding.weight_bytes(config, layers, "bfloat16", model_parallel=8),
    "exchanges": compiled.as_text().count(" all-reduce("),
}))
"""


def test_xxl_compiles_over_eight_devices_into_the_bytes_planned() -> None:
    found = on_eight_devices(_XXL)
    d, inner, ff, layers, heads = 4096, 4096, 10240, 16, 64
    kernels = 2 * layers * (4 * d * inner + 3 * d * ff) // 8
    others = 4 * (32128 * d + layers * 2 * d + 32 * heads // 8)
    assert found["planned"] == kernels + others
    ids_and_lengths = 4 * (2 * 304 + 2)
    assert found["arguments"] == found["planned"] + ids_and_lengths
    assert found["output"] == 2 * 304 * d * 2
    # Activations, far below the weights: nobody gathers a kernel.
    assert found["temporary"] < found["planned"] // 4
    assert found["exchanges"] == 2 * layers
