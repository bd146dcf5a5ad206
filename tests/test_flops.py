"""FLOPs by the papers' formulas: GLIMMER's Figure 2, figures counted by hand, and what must always hold."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders import model_folder
from encoders.t5_config import PUBLISHED_SIZES
from pipeline.accounts import flops, retrievers
from pipeline.accounts.plan import from_source
from storage import errors
from tests import small_models, small_retrievers

XXL = PUBLISHED_SIZES["xxl"]


def reader(name: str, retrieved: int, selected: int, **more: object) -> flops.Reader:
    values = {"layers": 24, "width": 4096, "live_proportion": Fraction(1, 3)} | more
    return flops.Reader(name=name, retrieved=retrieved, selected=selected, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "retrieved", "selected", "published", "within"),
    [
        ("FiD", 5, 5, 0.09272427, 0.001),
        ("LUMEN", 10, 10, 0.10675408, 0.001),
        ("GLIMMER", 25, 5, 0.12785867, 0.02),
    ],
)
def test_figure_2_of_glimmer(
    name: str, retrieved: int, selected: int, published: float, within: float
) -> None:
    """Samples per TFLOP at XXL (de Jong et al. 2023b, Figure 2); α = 1/3, β = 1/4, 352 tokens an input."""
    assert reader(name, retrieved, selected).samples_per_tflop == pytest.approx(published, rel=within)


def test_fid_and_lumen_by_hand() -> None:
    # L d² = 24 * 4096² = 402,653,184. FiD: (5 * 352 + 153) * 14 of it.
    assert reader("FiD", 5, 5).flops == 1913 * 14 * 402_653_184
    # LUMEN: 10 * 352 tokens, 12/3 + 2 = 6 of it each, and the decoder's 153 * 14.
    assert reader("LUMEN", 10, 10).flops == (3520 * 6 + 2142) * 402_653_184
    # GLIMMER: LUMEN(5), and 20 * 352 tokens through β α L = 2 layers of 12d².
    lumen = reader("LUMEN", 5, 5).flops
    assert reader("GLIMMER", 25, 5).flops == lumen + 7040 * 2 * 12 * 4096**2


def test_an_encoder_layer_by_hand() -> None:
    # XXL: four of 4096 * 4096 and three of 4096 * 10,240.
    assert flops.layer_weights(XXL) == 4 * 4096**2 + 3 * 4096 * 10240 == 192_937_984
    # 16 of 24 layers: 6.17 GFLOP a token (PAPERS: 2 (1-α) P a token).
    assert flops.encoder_flops(XXL, 16) == 2 * 16 * 192_937_984
    # GTR-Base has two matrices of 768 * 3072 in its feed-forward, and one of 768 * 768 for each text.
    layer = 4 * 768**2 + 2 * 768 * 3072
    assert retrievers.GTR_BASE.token_weights == 12 * layer
    assert retrievers.GTR_BASE.weights == 32128 * 768 + 12 * layer + 768**2
    assert retrievers.GTR_BASE.flops(3, 700) == 2 * (700 * 12 * layer + 3 * 768**2)


# Matrices that no token goes through, or that lead nowhere in a retriever.
_LOOKED_UP = (
    "embed_tokens",
    "word_embeddings",
    "tok_embeddings",
    "position_embeddings",
    "token_type_embeddings",
)
_BESIDE = ("relative_attention_bias", "pooler", "shared.weight")


@pytest.mark.parametrize("kind", [*small_retrievers.SHAPES, "t5"])
def test_a_retrievers_weights_are_its_matrices(tmp_path: Path, kind: str) -> None:
    """By its configuration, and by the tensors of a model that was made of it."""
    if kind == "t5":
        folder = small_models.make_gtr_folder(tmp_path / "m", dim=20)
    else:
        folder = small_retrievers.make_retriever(tmp_path / "m", kind, dense=20)
    shape = from_source.retriever_shape(str(folder))
    tensors = model_folder.find_tensors(folder)
    layers = 2 if kind == "albert" else 1  # which share their weights
    expected = 0
    for name, tensor in tensors.items():
        if len(tensor.shape) == 2 and not any(part in name for part in (*_LOOKED_UP, *_BESIDE)):
            expected += math.prod(tensor.shape) * (layers if "albert_layers" in name else 1)
    assert shape.token_weights == expected > 0
    held = sum(math.prod(tensor.shape) for tensor in tensors.values())
    dense = sum(math.prod(t.shape) for t in model_folder.find_tensors(folder / "2_Dense").values())
    assert (shape.kind, shape.dim, shape.text_weights) == (kind, 20, dense)
    assert shape.weights == held + dense
    assert shape.flops(7, 100) == 2 * (100 * expected + 7 * dense)


def test_what_is_not_known_is_not_counted(tmp_path: Path) -> None:
    folder = small_retrievers.make_retriever(tmp_path / "m", "bert")
    counted = from_source.retriever_shape(str(folder))
    small_models.edit_json(folder / "config.json", model_type="convbert")
    shape = from_source.retriever_shape(str(folder))
    assert (shape.kind, shape.token_weights, shape.flops(1, 1)) == ("convbert", None, None)
    assert shape.weights == counted.weights > 0
    small_models.edit_json(folder / "config.json", model_type="bert", intermediate_size=None)
    assert from_source.retriever_shape(str(folder)).token_weights is None


proportions = st.fractions(0, 1, max_denominator=24)


@given(k=st.integers(1, 50), m=st.integers(1, 50), alpha=proportions, beta=proportions)
def test_what_always_holds(k: int, m: int, alpha: Fraction, beta: Fraction) -> None:
    m = min(k, m)

    def of(name: str, selected: int = k, retrieved: int = k) -> float:
        return reader(name, retrieved, selected, live_proportion=alpha, rerank_proportion=beta).flops

    assert of("MemoryFiD") <= of("LUMEN") <= of("FiD")
    assert of("LUMEN", m, m) <= of("GLIMMER", m) <= of("LUMEN")
    # Precomputing at α and running live at α is the whole encoder once (12 L d²).
    one = reader("LUMEN", k, k, live_proportion=alpha)
    live = one.flops - reader("LUMEN", k, k, live_proportion=Fraction(0)).flops
    whole = 12 * 24 * 4096**2 * k * one.input_tokens
    assert live + one.memory_flops(k * one.input_tokens) == pytest.approx(whole)


def test_refusals_list_what_is_known() -> None:
    with pytest.raises(errors.CorpusError, match=r"'huge'; known are small, base, large, xl, xxl"):
        flops.size("huge")
    with pytest.raises(errors.CorpusError, match="RETRO"):
        reader("RETRO", 5, 5)
    with pytest.raises(errors.CorpusError, match="6 passages selected of 5"):
        reader("GLIMMER", 5, 6)


@pytest.mark.parametrize(("size", "parameters"), [("172m", 172), ("1.5b", 1451)])
def test_a_retros_chunk_is_near_what_its_parameters_say(size: str, parameters: int) -> None:
    """Two FLOPs a parameter and token: 64 tokens a chunk, and 256 of neighbours for the encoder's 19 M."""
    from encoders.retro.config import PUBLISHED_SIZES as RETROS

    told = 2 * ((parameters - 19) * 64 + 19 * 256) / 1e3
    assert flops.retro_chunk(RETROS[size]).total / 1e9 == pytest.approx(told, rel=0.06)


def test_a_retros_chunk_is_the_products_of_its_program() -> None:
    """Counted by XLA of the compiled model; the scores of attention are the rest, and are few here."""
    import dataclasses

    import jax
    import jax.numpy as jnp
    from flax import nnx

    from encoders.retro import names
    from encoders.retro.config import EncoderConfig, LanguageConfig, RetroConfig
    from encoders.retro.model import Retro
    from encoders.retro.rows import Neighbours, Rows

    language = LanguageConfig(vocab_size=8, d_model=128, d_head=32, d_ff=512, layers=2, heads=4)
    encoder = EncoderConfig(d_model=96, d_head=32, d_ff=384, layers=2, heads=3)
    config = RetroConfig(
        language=language, encoder=encoder, chunk_tokens=4, neighbour_tokens=8, cca_layers=(1, 2)
    )
    chunks, batch = 2, 16

    def counted(chosen: RetroConfig, *, retrieval: bool) -> float:
        shapes = names.language_shapes(chosen.language) | names.retrieval_shapes(chosen)

        def run(tokens: jax.Array, near: jax.Array) -> jax.Array:
            model = Retro(chosen, lambda name: jnp.full(shapes[name], 0.5))
            graph, state = nnx.split(model)
            rows = Rows(
                tokens=tokens,
                lengths=jnp.full((batch, chunks), 4),
                documents=jnp.zeros((batch, chunks), jnp.int32),
                targets=tokens,
            )
            found = Neighbours(tokens=near, states=None, real=jnp.ones(near.shape, bool))
            return nnx.merge(graph, state)(rows, found if retrieval else None)

        lowered = jax.jit(run).lower(
            jnp.zeros((batch, chunks * 4), jnp.int32), jnp.zeros((batch, chunks, 2, 8), jnp.int32)
        )
        return float(lowered.cost_analysis()["flops"])

    def foretold(chosen: RetroConfig) -> flops.RetroChunk:
        return flops.retro_chunk(chosen)

    # Differences of two programs: embeddings, head, norms and scores of the decoder are in both.
    deeper = dataclasses.replace(config, language=dataclasses.replace(language, layers=3))
    layer = counted(deeper, retrieval=False) - counted(config, retrieval=False)
    wanted = (foretold(deeper).language - foretold(config).language) * batch * chunks
    assert layer == pytest.approx(wanted, rel=0.1)
    reads = counted(config, retrieval=True) - counted(config, retrieval=False)
    one = foretold(config)
    assert reads == pytest.approx((one.reading + one.encoding) * batch * chunks, rel=0.15)


def test_what_a_stored_chunk_reads_and_saves() -> None:
    import dataclasses

    from encoders.retro.config import PUBLISHED_SIZES as RETROS

    live = RETROS["172m"]
    stored = dataclasses.replace(live, encoding="stored", encoder=None, memory_width=896)
    found = flops.retro_chunk(stored)
    assert found.read_bytes == 2 * 128 * 896 * 2 == 458_752
    assert found.encoding == 0
    assert found.reading == flops.retro_chunk(live).reading
    assert flops.retro_chunk(stored, neighbours=4).read_bytes == 2 * found.read_bytes
