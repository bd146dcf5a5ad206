"""One suite for all codecs: bounds kept, same bytes every time, bad input refused; then each one's own."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from storage import codecs, errors
from storage.codecs import kmeans, rotation, turbo

BF16 = np.dtype(ml_dtypes.bfloat16)
# pq16x16 is trained in a test of its own: 65,536 codes take a minute.
FAST = (*(name for name in codecs.NAMES if name != "pq16x16"), "pq4x3", "pq8x9", "rq16x3")
VIEWS = ("float32", "bfloat16", "float16")
WIDTH = 32


def states(rows: int, width: int = WIDTH, seed: int = 0) -> npt.NDArray[np.float32]:
    """Like T5's residual stream: a few massive channels, some tokens much larger than others."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, width)) * rng.lognormal(size=(rows, 1))
    values[:, 5] = values[:, 5] * 200 + 900
    values[:, width // 2] *= 60
    return values.astype(np.float32)


@functools.cache
def coder_of(name: str, width: int = WIDTH, seed: int = 0) -> codecs.Coder:
    codec = codecs.by_name(name)
    return codec.bind(width, codec.train(sample_for(codec, width), seed))


def sample_for(codec: codecs.Codec, width: int = WIDTH) -> npt.NDArray[np.float32]:
    return states(getattr(codec, "fewest_tokens", 2000), width, seed=9)


def round_trip(coder: codecs.Coder, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    stored = coder.encode(values)
    assert stored.dtype == coder.codec.stored_dtype
    assert stored.shape == (len(values), coder.stored_width)
    assert stored.nbytes == len(values) * coder.codec.token_bytes(coder.width)
    out = np.empty((len(values), coder.width), coder.codec.dtype)
    coder.decode(stored, out)
    np.testing.assert_array_equal(out.view(np.uint8), coder.decoded(stored).view(np.uint8))
    return out.astype(np.float32)


def error(coder: codecs.Coder, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Of each row."""
    back = round_trip(coder, values).astype(np.float64)
    return np.linalg.norm(back - values.astype(np.float64), axis=1)


def relative_mse(coder: codecs.Coder, values: npt.NDArray[np.float32]) -> float:
    return float((error(coder, values) ** 2).sum() / (values.astype(np.float64) ** 2).sum())


rows_of_any_values = hypothesis_numpy.arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.just(WIDTH)),
    elements=st.floats(-60000, 60000, width=32) | st.sampled_from([0.0, 1e-40, -1e-30, 60000.0]),
)


@pytest.mark.parametrize("name", FAST)
@given(values=rows_of_any_values)
@settings(deadline=None, max_examples=60)
def test_error_stays_inside_the_stated_bound(name: str, values: npt.NDArray[np.float32]) -> None:
    coder = coder_of(name)
    bound = coder.error_bound(values)
    assert bound.shape == (len(values),)
    assert (error(coder, values) <= bound).all()


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("width", [32, 96, 128, 768])
def test_states_with_massive_channels(name: str, width: int) -> None:
    if name.startswith(("pq", "rq")) and width > 32:
        pytest.skip("its groups know nothing of the width, and training takes time")
    coder = coder_of(name, width)
    values = states(300, width)
    assert (error(coder, values) <= coder.error_bound(values)).all()
    assert relative_mse(coder, values) < 0.2
    if name in ("int8", "turbo4"):  # and the other channels do not drown in the massive ones' error
        rest = np.ones(width, bool)
        rest[[5, width // 2]] = False
        off = round_trip(coder, values)[:, rest] - values[:, rest]
        assert np.square(off).sum() / np.square(values[:, rest]).sum() < {"int8": 5e-4, "turbo4": 0.02}[name]


@pytest.mark.parametrize("name", FAST)
def test_rows_are_coded_alone_and_the_same_every_time(name: str) -> None:
    coder = coder_of(name)
    values = states(5000)  # several blocks
    stored = coder.encode(values)
    np.testing.assert_array_equal(stored, coder.encode(values.copy()))
    decoded = coder.decoded(stored).astype(np.float32)
    one = coder.decoded(coder.encode(values[4321:4322])).astype(np.float32)
    # Products of matrices may round otherwise in another shape: by one unit of bfloat16's last place.
    np.testing.assert_allclose(one[0], decoded[4321], rtol=2.0**-7, atol=1e-3)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_what_any_codec_gives_any_other_takes(name: str, dtype: npt.DTypeLike) -> None:
    """As the same numbers in float32."""
    coder = coder_of(name)
    values = states(300).astype(dtype)
    np.testing.assert_array_equal(coder.encode(values), coder.encode(values.astype(np.float32)))


@pytest.mark.parametrize("name", ["bfloat16", "int8", "turbo4", "turbo2", "pq8x8", "rq16x3"])
@pytest.mark.parametrize("width", [64, 768, 1024])
def test_values_do_not_depend_on_the_rows_beside_them(name: str, width: int) -> None:
    """A reader that fetches a passage alone gets the bits that one who fetches many gets."""
    coder = coder_of(name, 64 if name in ("pq8x8", "rq16x3") else width)
    stored = coder.encode(states(300, coder.width))
    everything = coder.decoded(stored)
    for rows in (slice(0, 1), slice(7, 8), slice(3, 140), slice(120, 300), slice(299, 300)):
        np.testing.assert_array_equal(
            coder.decoded(stored[rows]).view(np.uint8), everything[rows].view(np.uint8)
        )


@pytest.mark.parametrize("name", FAST)
def test_training_is_deterministic(name: str) -> None:
    codec = codecs.by_name(name)
    sample = sample_for(codec)
    first, again = codec.train(sample, 3), codec.train(sample.copy(), 3)
    assert codec.trained == bool(first)
    shapes = codec.parameter_shapes(WIDTH)
    assert {k: (v.shape, v.dtype) for k, v in first.items()} == shapes
    for key in first:
        np.testing.assert_array_equal(first[key], again[key])


@pytest.mark.parametrize("name", FAST)
def test_edges(name: str) -> None:
    coder = coder_of(name)
    assert round_trip(coder, np.zeros((0, WIDTH), np.float32)).shape == (0, WIDTH)
    assert round_trip(coder, states(1)).shape == (1, WIDTH)
    zeros = round_trip(coder, np.zeros((3, WIDTH), np.float32))
    if not name.startswith(("pq", "rq")):
        assert not zeros.any()
    values = states(40)
    # From bfloat16, and from every second row of a larger array.
    rounded = values.astype(BF16)
    np.testing.assert_array_equal(coder.encode(rounded), coder.encode(rounded.astype(np.float32)))
    np.testing.assert_array_equal(coder.encode(values[::2]), coder.encode(values[::2].copy()))
    stored = coder.encode(values)
    out = np.empty((20, WIDTH), coder.codec.dtype)
    coder.decode(stored[::2], out)
    np.testing.assert_array_equal(out, coder.decoded(stored[::2].copy()))
    with pytest.raises(errors.CorpusError, match="C-contiguous"):
        coder.decode(stored, np.empty((80, WIDTH), coder.codec.dtype)[::2])
    with pytest.raises(errors.CorpusError, match="wanted"):
        coder.decode(stored, np.empty((40, WIDTH), np.float64))
    with pytest.raises(errors.CorpusError, match="stored rows are"):
        coder.decode(stored[:, 1:], np.empty((40, WIDTH), coder.codec.dtype))
    for wrong in (values.astype(np.float64), values[:, 1:], values[0]):
        with pytest.raises(errors.CorpusError, match="memory to store is"):
            coder.encode(wrong)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(name: str, bad: float) -> None:
    values = states(400)
    values[317, 3] = bad
    with pytest.raises(errors.CorpusError, match="token 317 is not finite"):
        coder_of(name).encode(values)
    if codecs.by_name(name).trained:
        with pytest.raises(errors.CorpusError, match="token 317 is not finite"):
            codecs.by_name(name).train(values)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("huge", [1e10, 1e30, 3e38])
def test_huge_values_are_stored_or_refused(name: str, huge: float) -> None:
    values = states(3)
    values[1] = 0
    values[1, [0, 1, 2, 3, 4, 7]] = huge
    coder = coder_of(name)
    refusal = ""
    try:
        stored = coder.encode(values)
    except errors.CorpusError as e:
        refusal = str(e)
    if refusal:
        assert "is beyond" in refusal
        assert name == "float16" or huge > 1e38
        return
    back = coder.decoded(stored).astype(np.float64)
    assert (np.linalg.norm(back - values, axis=1) <= coder.error_bound(values)).all()


@pytest.mark.parametrize("name", VIEWS)
def test_floats_are_views(name: str) -> None:
    coder = coder_of(name)
    stored = coder.encode(states(3))
    assert coder.view_only
    assert np.shares_memory(coder.decoded(stored), stored)
    with pytest.raises(TypeError, match="are codes"):
        coder_of("int8").view(stored)


def test_wrong_dtype_is_not_reinterpreted() -> None:
    with pytest.raises(TypeError, match="stores bfloat16"):
        codecs.BFLOAT16.stored(np.zeros(3, np.float16))


# Names, JSON, parameters


@pytest.mark.parametrize("name", [*FAST, "pq16x16", "pq256x16", "rq64x8", "rq1024x128"])
def test_json_round_trip(name: str) -> None:
    codec = codecs.by_name(name)
    assert codec.name == name
    assert codecs.from_json(codec.to_json()) == codec
    assert hash(codec) == hash(codecs.by_name(name))


PQ = {"dims": 8, "bits": 8}


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"name": "zip", "configuration": {}}, "known are float32, bfloat16, float16, int8, turbo4"),
        ({"name": "float32", "configuration": {"bits": 8}}, "a newer memcorpus"),
        ({"name": "float32", "configuration": None}, "a newer memcorpus"),
        ({"name": "float32", "configuration": object()}, "a newer memcorpus"),
        ({"name": "float32"}, "not of the form"),
        ({"name": "float32", "configuration": {}, "more": 1}, "not of the form"),
        ("float32", "not of the form"),
        (["x" * 10**6], "not of the form"),
        ({"name": 7, "configuration": {}}, "wanted a string"),
        ({"name": "pq8x8", "configuration": {}}, "a newer memcorpus"),
        ({"name": "pq8x8", "configuration": PQ | {"dims": 8.0}}, "a newer memcorpus"),
        ({"name": "pq8x1", "configuration": PQ | {"bits": True}}, "a newer memcorpus"),
        ({"name": "pq8x8", "configuration": PQ | {"dims": 16}}, "a newer memcorpus"),
        ({"name": "rq64x8", "configuration": {"dims": 64}}, "a newer memcorpus"),
        ({"name": "rq64x8", "configuration": {"dims": 64, "steps": 4}}, "a newer memcorpus"),
        ({"name": "turbo4", "configuration": {"bits": 4, "seed": 1}}, "a newer memcorpus"),
        *(
            ({"name": name, "configuration": PQ}, "unknown memory codec")
            for name in (
                "pq0x8", "pq8x0", "pq8x17", "pq8x99", "pq257x8", "pq-8x8", "pq8x8x8", "pq08x8", "pq８x8",
                "rq0x8", "rq8x0", "rq1025x8", "rq64x129", "rq064x8", f"rq{'9' * 10_000}x8", "rq64x8x8",
                "pq8x8\n", "PQ8x8", f"pq{'9' * 10_000}x8", f"pq8x{'9' * 10_000}", "turbo3", "",
            )
        ),
    ],
)  # fmt: skip
def test_unknown_codecs_are_refused(value: object, match: str) -> None:
    with pytest.raises(errors.CorpusError, match=match) as caught:
        codecs.from_json(value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("name", "width", "match"),
    [
        ("pq8x8", 36, "do not divide the memory's width 36; take a group size that does"),
        ("pq16x16", 0, "do not divide"),
        ("rq64x8", 96, "do not divide the memory's width 96"),
        ("turbo2", 30, "wanted a multiple from 4 to 65,536"),
        ("turbo4", 2, "wanted a multiple"),
        ("turbo4", 1 << 17, "wanted a multiple"),
    ],
)
def test_widths_that_a_codec_cannot_store(name: str, width: int, match: str) -> None:
    codec = codecs.by_name(name)
    for ask in (codec.stored_width, codec.token_bytes, codec.parameter_shapes):
        with pytest.raises(errors.CorpusError, match=match):
            ask(width)


@pytest.mark.parametrize("name", ["int8", "pq8x8", "pq8x9", "rq16x3"])
def test_parameters_are_checked(name: str) -> None:
    codec = codecs.by_name(name)
    ((key, good),) = coder_of(name).parameters.items()
    with pytest.raises(errors.CorpusError, match="train it on a sample"):
        codec.bind(WIDTH, {})
    nans = np.full_like(good, 0x7FC0) if good.dtype.kind == "u" else np.full_like(good, np.nan)
    for wrong in ({key: good, "more": good}, {key: good[:-1]}, {key: good.astype(np.float64)}, {key: nans}):
        with pytest.raises(errors.CorpusError, match=r"parameter|wanted|not finite|no positive"):
            codec.bind(WIDTH, wrong)
    with pytest.raises(errors.CorpusError, match="got parameters"):
        codecs.BFLOAT16.bind(WIDTH, {key: good})


def test_samples_that_are_too_small() -> None:
    with pytest.raises(errors.CorpusError, match=r"9,983 tokens are too small a sample, wanted 9,984"):
        codecs.by_name("pq8x8").train(states(9983))
    with pytest.raises(errors.CorpusError, match=r"9,983 tokens are too small a sample, wanted 9,984"):
        codecs.by_name("rq16x3").train(states(9983))
    with pytest.raises(errors.CorpusError, match="wanted 262,144; take fewer bits"):
        codecs.by_name("pq16x16").train(states(9983))
    with pytest.raises(errors.CorpusError, match="no tokens"):
        codecs.by_name("int8").train(states(0))


def test_stored_codes_out_of_range_are_damage() -> None:
    coder = coder_of("pq4x3")
    stored = coder.encode(states(4))
    stored[2, 1] = 8
    with pytest.raises(errors.DamagedError, match="has 8 codes"):
        coder.decoded(stored)
    coder = coder_of("turbo4")
    stored = coder.encode(states(4))
    stored[2, -1] = 1
    with pytest.raises(errors.DamagedError, match="have width 32"):
        coder.decoded(stored)
    stored = coder_of("int8").encode(states(4))
    stored[1, -4:] = 255  # a scale that is no number gives values that are none, and no crash
    assert np.isnan(coder_of("int8").decoded(stored)[1].astype(np.float32)).any()


# The bytes themselves: a change of any of these is another format


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("float32", "18dfed1f9e795e06"),
        ("bfloat16", "5853711d89474c56"),
        ("float16", "bc5164120509ba9b"),
        ("int8", "c792bf0e205e9151"),
        ("turbo4", "10f44ae96180854b"),
        ("turbo2", "c7df9bb64a99d67f"),
        ("pq8x8", "683afc345cac3019"),
        ("pq4x3", "a948e7c20a2bcef7"),
        ("pq8x9", "4417316452775026"),
        ("pq16x16", "53b18a809df5e280"),
        ("rq16x3", "97062b21f8171897"),
    ],
)
def test_golden_bytes(name: str, digest: str) -> None:
    """Of input that lies on no boundary between two codes, so that no machine's rounding can differ."""
    codec = codecs.by_name(name)
    values = np.random.default_rng(5).integers(-(2**20), 2**20, (7, WIDTH)).astype(np.float32) / 2**14
    parameters: dict[str, npt.NDArray[Any]] = {}
    if codec.kind == "int8":
        parameters = {"channel_scale": 2.0 ** (np.arange(WIDTH, dtype=np.float32) % 5 - 2)}
    if codec.kind in ("pq", "rq"):
        ((shape, dtype),) = codec.parameter_shapes(WIDTH).values()
        books = np.random.default_rng(0).integers(-255, 256, shape) / 16
        parameters = {"codebooks": books.astype(BF16).view(dtype)}
    stored = codec.bind(WIDTH, parameters).encode(values)
    if codec.kind == "turbo":  # its scale comes of sums, whose order is the machine's
        at = WIDTH * codec.bits // 8  # type: ignore[attr-defined]
        scales = np.ascontiguousarray(stored[:, at : at + 4]).view("<f4")
        np.testing.assert_allclose(scales[0], {2: 32.979774, 4: 33.27584}[codec.bits], rtol=1e-5)  # type: ignore[attr-defined]
        stored[:, at : at + 4] = 0
    assert hashlib.sha256(stored.tobytes()).hexdigest()[:16] == digest


# turbo


@pytest.mark.parametrize("bits", [2, 4])
def test_levels_are_lloyd_and_max(bits: int) -> None:
    def density(x: float) -> float:
        return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    def below(x: float) -> float:
        return (1 + math.erf(x / math.sqrt(2))) / 2

    positive = turbo.POSITIVE_LEVELS[bits]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(positive)]
    edges = [0.0, *middles, 40.0]
    shares = [below(b) - below(a) for a, b in itertools.pairwise(edges)]
    # Each level is the mean of the values that are nearest to it.
    for level, a, b, share in zip(positive, edges, edges[1:], shares, strict=False):
        assert abs(level - (density(a) - density(b)) / share) < 1e-7
    distortion = 1 - 2 * sum(s * level**2 for s, level in zip(shares, positive, strict=True))
    assert abs(distortion - turbo.DISTORTION[bits]) < 1e-6


@pytest.mark.parametrize("width", [4, 6, 7, 32, 96, 512, 768, 1024, 2048, 4096])
def test_the_rotation_is_one(width: int) -> None:
    turn = rotation.Rotation.of(width)
    values = states(3, max(width, 6))[:, :width].copy()
    rotated = turn.rotate(values)
    np.testing.assert_allclose(np.linalg.norm(rotated, axis=1), np.linalg.norm(values, axis=1), rtol=1e-5)
    columns = np.ascontiguousarray(rotated.T).reshape(*turn.first.shape, 3)
    back = turn.restore(columns, np.empty_like(columns)).transpose(2, 1, 0).reshape(3, width) * turn.norm
    np.testing.assert_allclose(back, values, atol=1e-5 * np.abs(values).max())


def test_signs_are_splitmix64() -> None:
    # The first outputs of splitmix64 from state 0, as published with the generator.
    published = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC)
    assert rotation.signs(4, 0).tolist() == [-1.0 if z >> 63 else 1.0 for z in published]
    assert abs(rotation.signs(4096, 1).mean()) < 0.05
    assert abs((rotation.signs(4096, 0) * rotation.signs(4096, 1)).mean()) < 0.05


@pytest.mark.parametrize("name", ["turbo2", "turbo4"])
@pytest.mark.parametrize("width", [512, 768, 1024])
def test_turbo_reaches_the_papers_distortion(name: str, width: int) -> None:
    coder = coder_of(name, width)
    wanted = turbo.DISTORTION[coder.codec.bits]  # type: ignore[attr-defined]
    normal = np.random.default_rng(1).normal(size=(500, width)).astype(np.float32)
    assert 0.9 * wanted < relative_mse(coder, normal) < 1.01 * wanted
    # Of twenty large channels only four are kept aside.
    normal[:, :20] *= 1000
    assert relative_mse(coder, normal) < 1.1 * wanted


# pq and k-means


def test_pq_takes_the_nearest_stored_code() -> None:
    coder = coder_of("pq4x3")
    values = states(200)
    books = coder.parameters["codebooks"].view(BF16).astype(np.float64)
    groups = values.astype(np.float64).reshape(200, 8, 4)
    distances = np.square(groups[:, :, None] - books).sum(axis=-1)
    taken = np.take_along_axis(distances, coder.encode(values)[:, :, None].astype(np.int64), axis=2)[..., 0]
    assert (taken <= distances.min(axis=2) * (1 + 1e-4) + 1e-4).all()


def test_kmeans_finds_clusters_and_revives_dead_codes() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(64, 4)).astype(np.float32) * 100
    values = centres[rng.integers(0, 64, 5000)] + rng.normal(size=(5000, 4)).astype(np.float32) * 0.01
    codes = kmeans.train(values, 64, rng)
    assert np.sqrt(np.square(values - codes[kmeans.nearest(values, codes)[0]]).mean()) < 0.05
    values += rng.normal(size=values.shape).astype(np.float32)
    many = kmeans.train(values, 2048, rng)  # by two levels
    assert many.shape == (2048, 4)
    assert len(np.unique(kmeans.nearest(values, many)[0])) > 1500
    same = kmeans.train(np.ones((300, 3), np.float32), 256, rng)
    assert (same == 1).all()


def test_pq_beats_its_rate_on_what_is_correlated() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(4, WIDTH))
    values = (rng.normal(size=(12_000, 4)) @ mix).astype(np.float32)
    codec = codecs.by_name("pq8x8")
    coder = codec.bind(WIDTH, codec.train(values[:10_000]))
    assert relative_mse(coder, values[10_000:]) < 0.1  # independent dimensions: 0.25 at best


@pytest.mark.slow
def test_pq16x16() -> None:
    codec = codecs.by_name("pq16x16")
    values = np.random.default_rng(0).normal(size=(codec.fewest_tokens, 16)).astype(np.float32)  # type: ignore[attr-defined]
    coder = codec.bind(16, codec.train(values))
    held_out = np.random.default_rng(1).normal(size=(500, 16)).astype(np.float32)
    assert relative_mse(coder, held_out) < 0.33
    assert coder.codec.token_bytes(16) * 16 == 16 * 2


# rq


def test_rq_takes_the_nearest_code_of_what_is_left() -> None:
    """Step by step, in float64, from the codes that it took; decoded, it is their sum."""
    coder = coder_of("rq16x3")
    values = states(200)
    books = coder.parameters["codebooks"].view(BF16).astype(np.float64)  # [2, 3, 256, 16]
    taken = coder.encode(values).reshape(200, 2, 3)
    left = values.astype(np.float64).reshape(200, 2, 16)
    total = np.zeros((200, 2, 16), np.float32)
    for step in range(3):
        distances = np.square(left[:, :, None] - books[:, step]).sum(axis=-1)  # [200, 2, 256]
        found = np.take_along_axis(distances, taken[:, :, step, None].astype(np.int64), axis=2)[..., 0]
        assert (found <= distances.min(axis=2) * (1 + 1e-4) + 1e-4).all()
        codes = books[np.arange(2), step, taken[:, :, step]]
        left -= codes
        total += codes.astype(np.float32)
    np.testing.assert_array_equal(coder.decoded(taken.reshape(200, 6)), total.reshape(200, 32).astype(BF16))


def test_each_step_of_rq_leaves_less() -> None:
    values, wide = states(2000, seed=4), [codecs.by_name(f"rq32x{steps}") for steps in (1, 2, 4)]
    left = [relative_mse(codec.bind(WIDTH, codec.train(sample_for(codec))), values) for codec in wide]
    assert left[2] < 0.7 * left[1] < 0.7 * 0.7 * left[0]


def test_rq_says_more_than_pq_in_as_many_bytes_of_words_in_context() -> None:
    """Of what memory is: one of some hundred words, and a little of its surroundings."""
    rng = np.random.default_rng(0)
    words = rng.normal(size=(200, WIDTH))
    values = words[rng.integers(0, 200, 12_000)] + 0.3 * rng.normal(size=(12_000, WIDTH))
    found = []
    for name in ("pq8x8", "rq32x4"):
        codec = codecs.by_name(name)
        assert codec.token_bytes(WIDTH) == 4
        coder = codec.bind(WIDTH, codec.train(values[:10_000].astype(np.float32)))
        found.append(relative_mse(coder, values[10_000:].astype(np.float32)))
    assert found[1] < 0.6 * found[0]


def test_codebooks_of_rq_whose_sums_are_not_finite_are_refused() -> None:
    codec = codecs.by_name("rq16x3")
    ((key, good),) = coder_of("rq16x3").parameters.items()
    books = np.zeros(good.shape, BF16)
    books[1, 0, 3, 5], books[1, 1, 200, 5] = 3e38, -3e38
    with pytest.raises(errors.CorpusError, match="hold, or add up to, what is not finite"):
        codec.bind(WIDTH, {key: books.view(good.dtype)})
    books[1, 1, 200, 5], books[1, 1, 200, 6] = 0, -3e38  # of another dimension
    assert np.isfinite(
        codec.bind(WIDTH, {key: books.view(good.dtype)}).decoded(np.full((1, 6), 3, np.uint8))
    ).all()
