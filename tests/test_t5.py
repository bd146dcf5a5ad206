"""Our T5 encoder is transformers' T5 encoder, at every layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import T5Config as HfConfig
from transformers.models.t5.modeling_t5 import T5Attention

from encoders import t5
from encoders.t5_config import PUBLISHED_SIZES, T5Config, memory_layers, parse_live_proportion
from encoders.weights import tensor_shapes
from tests import small_models

# Largest difference of a layer over its largest magnitude; measured 0.5e-6 to 3e-6 (base size). Over
# the root mean square of the same token, which is harsher, 3e-6 to 2e-5.
PARITY = 1e-5


def hf_config(**changes: int | str) -> HfConfig:
    shape = {"vocab_size": 200, "d_model": 48, "d_kv": 8, "d_ff": 64, "num_layers": 5, "num_heads": 6}
    return HfConfig(**(shape | {"feed_forward_proj": "gated-gelu"} | changes))


def ours(
    config: HfConfig, model: torch.nn.Module, *, layers: int, compute_dtype: str = "float32"
) -> t5.T5Encoder:
    """Our encoder with the reference's weights, taken by name from its state."""
    state = {name.removeprefix("encoder."): tensor for name, tensor in model.state_dict().items()}
    return t5.T5Encoder(
        T5Config.from_hugging_face(config.to_dict()),
        lambda name: state[name].float().numpy(),
        layers=layers,
        compute_dtype=compute_dtype,
    )


def reference(
    model: torch.nn.Module, ids: np.ndarray, lengths: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """The residual stream before the first block and after each, and the output after the norm."""
    blocks = model.encoder.block
    seen: list[np.ndarray] = []

    def before(_: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        seen.append(arguments[0].float().numpy().copy())

    hooks = [block.register_forward_pre_hook(before) for block in blocks]
    hooks.append(model.encoder.final_layer_norm.register_forward_pre_hook(before))
    mask = np.arange(ids.shape[1]) < lengths[:, None]
    with torch.inference_mode():
        last = model(input_ids=torch.tensor(ids).long(), attention_mask=torch.tensor(mask).long())
    for hook in hooks:
        hook.remove()
    return seen, last.last_hidden_state.float().numpy()


def texts(rows: int, length: int, vocab: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, length + 1, rows).astype(np.int32)
    lengths[0] = length
    return rng.integers(0, vocab, (rows, length)).astype(np.int32), lengths


def distance(a: np.ndarray, b: np.ndarray, lengths: np.ndarray) -> tuple[float, float]:
    """(max|a-b| / max|b|, max over elements of |a-b| / RMS of b's token), on real tokens."""
    real = np.arange(a.shape[1]) < lengths[:, None]
    a, b = a[real], b[real]
    rms = np.sqrt(np.mean(b**2, axis=1, keepdims=True))
    return float(np.abs(a - b).max() / np.abs(b).max()), float((np.abs(a - b) / rms).max())


def compare(
    config: HfConfig, *, compute_dtype: str = "float32", reference_dtype: str = "float32", length: int = 150
) -> tuple[float, float]:
    """The worst `distance` over all layers and the final norm."""
    model = small_models.random_t5(config).to(getattr(torch, reference_dtype))
    ids, lengths = texts(4, length, config.vocab_size)
    residuals, last = reference(model, ids, lengths)
    assert len(residuals) == config.num_layers + 1
    # Not trivial: every layer changes the stream, and by no negligible part.
    for one, other in itertools.pairwise(residuals):
        assert distance(one, other, lengths)[0] > 0.05
    encoder = ours(config, model, layers=config.num_layers, compute_dtype=compute_dtype)
    with jax.numpy_dtype_promotion("strict"):
        mine = encoder.residuals(jnp.asarray(ids), jnp.asarray(lengths))
        final = encoder.final_norm(mine[-1])
    assert len(mine) == len(residuals)
    pairs = [*zip(mine, residuals, strict=True), (final, last)]
    worst = [distance(np.asarray(a), b, lengths) for a, b in pairs]
    assert worst[0] == (0.0, 0.0)  # the embedding is copied
    return max(first for first, _ in worst), max(second for _, second in worst)


@pytest.mark.parametrize("feed_forward", ["gated-gelu", "relu"])
def test_every_layer_is_transformers(feed_forward: str) -> None:
    relative, by_token = compare(hf_config(feed_forward_proj=feed_forward))
    assert relative < PARITY
    assert by_token < 10 * PARITY


def test_every_layer_is_transformers_with_other_buckets() -> None:
    config = hf_config(relative_attention_num_buckets=16, relative_attention_max_distance=40)
    assert compare(config)[0] < PARITY


def test_every_layer_is_transformers_at_base_size() -> None:
    config = hf_config(d_model=768, d_kv=64, d_ff=2048, num_layers=12, num_heads=12)
    relative, by_token = compare(config, length=64)
    assert relative < PARITY
    assert by_token < 10 * PARITY


@pytest.mark.parametrize("reference_dtype", ["float32", "bfloat16"])
def test_bfloat16_stays_near_transformers(reference_dtype: str) -> None:
    # One rounding to bfloat16 is 2^-9 = 0.002, and those of the layers add up. Measured, at this and at
    # base size: 0.005 to 0.019 from float32, 0.013 to 0.030 from transformers' own bfloat16.
    relative, _ = compare(hf_config(), compute_dtype="bfloat16", reference_dtype=reference_dtype)
    assert 1e-4 < relative < 0.05


def test_bfloat16_is_nearer_to_float32_than_transformers_bfloat16_is() -> None:
    config = hf_config()
    ids, lengths = texts(4, 150, config.vocab_size)
    exact = reference(small_models.random_t5(config), ids, lengths)[1]
    model = small_models.random_t5(config)
    mine = ours(config, model, layers=config.num_layers, compute_dtype="bfloat16")
    rounded = reference(small_models.random_t5(config).bfloat16(), ids, lengths)[1]
    error = distance(np.asarray(mine(jnp.asarray(ids), jnp.asarray(lengths))), exact, lengths)[0]
    assert error < distance(rounded, exact, lengths)[0]


@pytest.mark.parametrize("layers", [0, 1, 3, 5])
def test_the_first_layers_are_the_stream_up_to_there(layers: int) -> None:
    config = hf_config()
    model = small_models.random_t5(config)
    ids, lengths = texts(3, 40, config.vocab_size)
    residuals, last = reference(model, ids, lengths)
    expected = last if layers == config.num_layers else residuals[layers]
    got = ours(config, model, layers=layers)(jnp.asarray(ids), jnp.asarray(lengths))
    assert distance(np.asarray(got), expected, lengths)[0] < PARITY


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_padding_and_partners_change_rounding_only(compute_dtype: str) -> None:
    config = hf_config()
    encoder = ours(config, small_models.random_t5(config), layers=4, compute_dtype=compute_dtype)
    ids, _ = texts(5, 60, config.vocab_size)
    lengths = np.array([23, 60, 1, 23, 40], np.int32)
    alone = np.asarray(encoder(jnp.asarray(ids[:1, :23]), jnp.asarray(lengths[:1])))[0]
    garbage = ids.copy()
    garbage[:, 23:][0] = 7  # what stands in the padding must not matter
    among = np.asarray(encoder(jnp.asarray(garbage), jnp.asarray(lengths)))[0, :23]
    bound = 1e-6 if compute_dtype == "float32" else 0.01
    assert np.abs(alone - among).max() / np.abs(alone).max() < bound
    # Not trivial: the text that is 23 tokens long does attend beyond its own token.
    cut = np.asarray(encoder(jnp.asarray(ids[:1, :23]), jnp.asarray([12])))[0, :12]
    assert np.abs(alone[:12] - cut).max() / np.abs(alone).max() > 0.01


def test_what_stands_in_the_padding_changes_no_bit() -> None:
    config = hf_config()
    encoder = ours(config, small_models.random_t5(config), layers=4)
    ids, lengths = texts(4, 32, config.vocab_size, seed=3)
    real = np.arange(32) < lengths[:, None]
    assert not real.all()
    one = np.asarray(encoder(jnp.asarray(ids), jnp.asarray(lengths)))
    other = np.asarray(encoder(jnp.asarray(np.where(real, ids, 5)), jnp.asarray(lengths)))
    np.testing.assert_array_equal(one[real], other[real])


@pytest.mark.parametrize("shape", [(32, 128), (16, 64), (8, 20), (64, 256)])
def test_buckets_are_transformers_at_every_distance(shape: tuple[int, int]) -> None:
    buckets, max_distance = shape
    relative = np.arange(-20_000, 20_001)
    expected = T5Attention._relative_position_bucket(torch.tensor(relative), True, buckets, max_distance)
    got = t5.bucket_of(relative, buckets=buckets, max_distance=max_distance)
    np.testing.assert_array_equal(got, expected.numpy())
    assert set(got) >= set(range(buckets)) - {buckets // 2}  # "0 after the query" is never used
    table = t5.relative_position_buckets(9, buckets=buckets, max_distance=max_distance)
    assert table[2, 5] == got[20_003]  # key 5 seen from query 2
    assert table[5, 2] == got[19_997]


@pytest.mark.parametrize(
    ("layers", "dtype", "message"),
    [(6, "float32", "6 layers of an encoder of 5"), (1, "float16", "compute_dtype is 'float16'")],
)
def test_encoder_refuses(layers: int, dtype: str, message: str) -> None:
    config = hf_config()
    with pytest.raises(ValueError, match=message):
        ours(config, small_models.random_t5(config), layers=layers, compute_dtype=dtype)


def test_published_sizes() -> None:
    # Encoder parameters without the embedding, against 12 d^2 (or so) a layer: the attention has
    # 4 d inner, the gated feed-forward 3 d d_ff.
    for config in PUBLISHED_SIZES.values():
        count = sum(
            math.prod(shape)
            for name, shape in tensor_shapes(config, config.layers).items()
            if len(shape) == 2 and "block" in name and "relative" not in name
        )
        assert count == config.layers * config.d_model * (4 * config.inner + 3 * config.d_ff)
    assert PUBLISHED_SIZES["base"].inner == 768
    assert PUBLISHED_SIZES["small"].inner == 384  # narrower than d_model


@given(st.integers(1, 48), st.integers(0, 48))
def test_every_whole_split_is_found(layers: int, live: int) -> None:
    live = min(live, layers)
    assert memory_layers(layers, Fraction(live, layers)) == layers - live


@pytest.mark.parametrize(
    ("text", "layers", "expected"),
    [("1/3", 12, 8), ("1/3", 24, 16), ("0.25", 12, 9), ("0", 12, 12), ("1", 12, 0), (" 1/2 ", 8, 4)],
)
def test_memory_layers(text: str, layers: int, expected: int) -> None:
    assert memory_layers(layers, parse_live_proportion(text)) == expected


def test_parse_takes_numbers_too() -> None:
    assert parse_live_proportion(0) == 0
    assert parse_live_proportion(Fraction(1, 3)) == Fraction(1, 3)


@pytest.mark.parametrize(
    ("text", "layers", "message"),
    [
        (
            "0.4",
            12,
            "live proportion 0.4 of 12 layers is 4.8 layers, wanted a whole number; the nearest are "
            "1/3 (4 live layers) and 5/12 (5 live layers)",
        ),
        (
            "0.333",
            12,
            "live proportion 0.333 of 12 layers is 3.996 layers, wanted a whole number; the nearest are "
            "1/4 (3 live layers) and 1/3 (4 live layers)",
        ),
        (
            "1/7",
            8,
            "live proportion 1/7 of 8 layers is 8/7 layers, wanted a whole number; the nearest are "
            "1/8 (1 live layer) and 1/4 (2 live layers)",
        ),
    ],
)
def test_a_split_that_is_not_whole_names_the_nearest(text: str, layers: int, message: str) -> None:
    with pytest.raises(ValueError, match=r"live proportion") as error:
        memory_layers(layers, parse_live_proportion(text))
    assert str(error.value) == message


@pytest.mark.parametrize("text", ["", "a third", "-1/3", "1/0", "1e-1", "0.5.1", "1/3/1", "nan", "1."])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="is no number, wanted"):
        parse_live_proportion(text)


def test_parse_refuses_more_than_all() -> None:
    with pytest.raises(ValueError, match=r"1\.5 is above 1"):
        parse_live_proportion("1.5")


def shape(**changes: int | float | str) -> Callable[[], T5Config]:
    base = {"vocab_size": 10, "d_model": 8, "d_kv": 4, "d_ff": 8, "layers": 2, "heads": 2}
    return lambda: T5Config(**(base | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 0}, "heads is 0"),
        ({"d_ff": True}, "d_ff is True"),
        ({"layers": 2.0}, r"layers is 2\.0"),
        ({"feed_forward": "gated-silu"}, "feed_forward is 'gated-silu'"),
        ({"relative_buckets": 30}, "multiple of 4"),
        ({"relative_max_distance": 8}, "wanted more than a quarter"),
        ({"norm_epsilon": 0.0}, "norm_epsilon"),
    ],
)
def test_config_validates_itself(change: dict[str, int | float | str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shape(**change)()
    shape()()


def test_config_of_old_files() -> None:
    raw = {"vocab_size": 9, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 2, "num_heads": 2}
    assert T5Config.from_hugging_face({"model_type": "t5"} | raw).feed_forward == "relu"
    assert T5Config.from_hugging_face({"model_type": "mt5"} | raw).feed_forward == "gated-gelu"
    with pytest.raises(ValueError, match="model_type is 'bert'"):
        T5Config.from_hugging_face({"model_type": "bert"} | raw)
    with pytest.raises(ValueError, match="d_ff, num_heads missing"):
        T5Config.from_hugging_face(
            {"model_type": "t5"} | {key: raw[key] for key in raw if key not in ("d_ff", "num_heads")}
        )
