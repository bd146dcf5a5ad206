"""The reader family against transformers' T5, and against itself in other settings."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import T5ForConditionalGeneration

from encoders import memory_encoder
from encoders.memory_spec import MemorySpec
from encoders.reader import folder, losses
from encoders.reader.config import ReaderConfig, preset
from encoders.reader.greedy import greedy
from encoders.reader.model import Reader, select
from encoders.t5_config import PUBLISHED_SIZES
from encoders.t5_folder import memory_fingerprint
from encoders.transformers_output import silenced
from tests.small_models import make_t5_folder
from tests.small_readers import Batch, make, settings_of, with_score

LAYERS = 6


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_t5_folder(tmp_path_factory.mktemp("reader") / "t5", decoder=True, layers=LAYERS)


@pytest.fixture(scope="module")
def old_t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """T5 1.0: relu, and a head that is the embedding, with scaled outputs."""
    path = tmp_path_factory.mktemp("reader") / "t5-1.0"
    return make_t5_folder(path, decoder=True, layers=LAYERS, tied=True, feed_forward="relu")


@pytest.fixture(scope="module")
def theirs(t5_folder: Path) -> Any:
    with silenced():
        return T5ForConditionalGeneration.from_pretrained(t5_folder).eval()


def real_text(batch: Batch, row: int, passage: int) -> list[int]:
    question = batch.questions[row, : batch.question_lengths[row]]
    return [*question.tolist(), *batch.ids[row, passage, : batch.lengths[row, passage]].tolist()]


def require_logits(ours: np.ndarray, theirs: Any, batch: Batch) -> None:
    """Logits [rows, tokens, vocabulary] of FiD on one passage are those of transformers' T5."""
    inputs = np.asarray(losses.inputs_of(batch.targets))
    assert len(ours) == len(inputs) > 1
    for row, logits in enumerate(ours):
        text = torch.tensor([real_text(batch, row, 0)])
        with torch.no_grad():
            wanted = theirs(input_ids=text, decoder_input_ids=torch.tensor(inputs[row : row + 1])).logits
        assert np.abs(logits - wanted[0].numpy()).max() <= 1e-4


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_fid_with_one_passage_is_t5(t5_folder: Path, old_t5_folder: Path, version: str) -> None:
    chosen = t5_folder if version == "1.1" else old_t5_folder
    reader = make(chosen, "fid")
    with silenced():
        theirs = T5ForConditionalGeneration.from_pretrained(chosen).eval()
    batch = Batch(passages=1, batch=4)
    batch.lengths[:] = np.maximum(batch.lengths, 1)
    ours = batch.logits(reader)
    require_logits(ours, theirs, batch)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2, "rows differ, or nothing was compared"


def test_greedy_answers_are_those_of_transformers(t5_folder: Path, theirs: Any) -> None:
    reader = make(t5_folder, "fid")
    batch = Batch(passages=1, batch=16, seed=1)
    batch.lengths[:] = np.maximum(batch.lengths, 1)
    read, _, _ = reader.read(batch.pairs(reader))
    ours, totals = jax.jit(lambda e, r: greedy(reader.decoder, e, r, tokens=12))(*read.fused())
    for row in range(16):
        text = torch.tensor([real_text(batch, row, 0)])
        wanted = theirs.generate(
            text,
            max_new_tokens=12,
            do_sample=False,
            num_beams=1,
            output_scores=True,
            return_dict_in_generate=True,
        )
        expected = wanted.sequences[0, 1:].tolist()
        assert np.asarray(ours[row])[: len(expected)].tolist() == expected
        assert not np.asarray(ours[row])[len(expected) :].any()
        scores = [torch.log_softmax(s[0], -1).max().item() for s in wanted.scores]
        assert float(totals[row]) == pytest.approx(sum(scores), abs=1e-3)


@pytest.mark.parametrize("alpha", ["1/6", "1/2", "5/6"])
def test_lumen_before_training_reads_what_t5_splits_into(t5_folder: Path, alpha: str) -> None:
    """Layer by layer: the memory of question and passage alone, then the live layers on both."""
    from encoders import t5

    reader = make(t5_folder, "lumen", live_proportion=Fraction(alpha))
    batch = Batch(batch=1, passages=1, seed=3)
    batch.lengths[:] = 9
    read, _, _ = reader.read(batch.pairs(reader))
    whole = t5.T5Encoder(
        reader.config.t5,
        folder.from_t5(t5_folder, settings_of(reader.config)).tensor,
        layers=LAYERS,
        compute_dtype="float32",
    )
    count = int(batch.question_lengths[0])
    layers = reader.config.memory_layers
    alone = [
        whole.residuals(ids[None], jnp.array([ids.shape[0]]))[layers][0]
        for ids in (jnp.asarray(batch.questions[0, :count]), jnp.asarray(batch.ids[0, 0, :9]))
    ]
    h = jnp.concatenate(alone)[None]
    rows = t5.relative_position_buckets(h.shape[1])
    bias = t5.masked_bias(whole.relative_bias[...], rows, jnp.ones((1, h.shape[1]), bool))
    for block in whole.blocks[layers:]:
        h = block(h, bias)
    wanted = whole.final_norm(h)[0]
    got = np.asarray(read.h[0, 0])[np.asarray(read.real[0, 0])]
    assert np.abs(got - np.asarray(wanted)).max() <= 1e-4


def test_padding_and_absent_passages_change_nothing(t5_folder: Path) -> None:
    reader = with_score(make(t5_folder, "glimmer", live_proportion=Fraction(2, 3)))
    batch = Batch(seed=4)
    plain = batch.logits(reader, selected=4)
    wide = Batch(seed=4)
    rng = np.random.default_rng(9)
    # More padding, other ids in it, and two more passages that are absent.
    wide.questions = np.pad(batch.questions, ((0, 0), (0, 3)), constant_values=5)
    wide.ids = rng.integers(3, 120, (3, 7, 16)).astype(np.int32)
    wide.lengths = np.pad(batch.lengths, ((0, 0), (0, 2)))
    for row in range(3):
        for passage in range(5):
            count = batch.lengths[row, passage]
            wide.ids[row, passage, :count] = batch.ids[row, passage, :count]
    assert np.abs(wide.logits(reader, selected=4) - plain).max() <= 1e-4
    fewer = Batch(seed=4)
    fewer.lengths[1, 2] = 0
    assert np.abs(fewer.logits(reader, selected=4)[1] - plain[1]).max() > 1e-3, (
        "a passage that is there counts"
    )


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_scores_do_not_hang_on_the_other_passages(t5_folder: Path, pooling: str) -> None:
    reader = with_score(make(t5_folder, "glimmer", live_proportion=Fraction(2, 3), pooling=pooling))
    batch = Batch(seed=5)
    _, _, scores = reader.read(batch.pairs(reader), selected=2)
    assert scores is not None
    scores = np.asarray(scores)
    assert scores[0, -1] == -np.inf
    assert np.std(scores[1]) > 0.1, "the passages' scores differ"
    alone = Batch(seed=5)
    alone.ids, alone.lengths = batch.ids[:, 2:3], batch.lengths[:, 2:3]
    _, _, one = reader.read(alone.pairs(reader), selected=1)
    assert one is not None
    assert np.abs(np.asarray(one)[:, 0] - scores[:, 2]).max() <= 1e-4


def test_all_selected_is_lumen(t5_folder: Path) -> None:
    glimmer = with_score(make(t5_folder, "glimmer", live_proportion=Fraction(2, 3)))
    lumen = make(t5_folder, "lumen", live_proportion=Fraction(2, 3))
    batch = Batch(seed=6)
    expected = batch.logits(lumen)
    assert np.abs(batch.logits(glimmer, selected=5) - expected).max() <= 1e-5
    assert np.abs(batch.logits(glimmer, selected=4) - expected).max() > 1e-3


def test_selection_keeps_the_best_in_their_order() -> None:
    scores = jnp.array([[0.1, 3.0, -1.0, 2.0, 2.5], [1.0, 1.0, 1.0, 1.0, -np.inf]])
    assert select(scores, 3).tolist() == [[1, 3, 4], [0, 1, 2]]


@pytest.mark.parametrize("beta", ["0", "1/4", "1/2", "1"])
def test_live_a_runs_beta_alpha_layers(t5_folder: Path, beta: str) -> None:
    """Layers are counted by breaking them: those after A change the answer, not the score."""
    config = {"live_proportion": Fraction(2, 3), "rerank_proportion": Fraction(beta)}
    batch = Batch(seed=7)
    base = with_score(make(t5_folder, "glimmer", **config))
    _, _, before = base.read(batch.pairs(base), selected=2)
    counted = 0
    for place in range(base.config.live_layers):
        other = with_score(make(t5_folder, "glimmer", **config))
        assert other.live is not None
        assert before is not None
        other.live.blocks[place].feed_forward.wo[...] *= -1
        _, _, after = other.read(batch.pairs(other), selected=2)
        assert after is not None
        present = np.isfinite(np.asarray(before))
        counted += bool(np.abs(np.asarray(after - before)[present]).max() > 1e-6)
    assert counted == base.config.rerank_layers == Fraction(beta) * 4


def test_memory_is_that_of_the_memory_encoder(t5_folder: Path) -> None:
    reader = make(t5_folder, "lumen", live_proportion=Fraction(1, 3))
    encoder = memory_encoder.MemoryEncoder.load(t5_folder, MemorySpec(compute_dtype="float32", max_tokens=16))
    tokens = encoder.tokenize(["Tea is made by pouring hot water.", "Whales returned to the sea."])
    wanted = np.empty((len(tokens.ids), encoder.width), np.float32)
    encoder.encode(tokens, wanted)
    ids = np.zeros((1, 2, 16), np.int32)
    for i in range(2):
        text = tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]]
        ids[0, i, : len(text)] = text
    got = reader.remember(ids, tokens.lengths[None])
    for i in range(2):
        begin, end = tokens.offsets[i], tokens.offsets[i + 1]
        assert np.abs(np.asarray(got[0, i, : end - begin]) - wanted[begin:end]).max() <= 1e-4


def test_a_step_at_a_time_gives_the_logits_of_the_whole(t5_folder: Path) -> None:
    reader = make(t5_folder, "memory-fid")
    batch = Batch(seed=8)
    encoded, real = reader.read(batch.pairs(reader))[0].fused()
    inputs = losses.inputs_of(batch.targets)
    whole = reader.decoder(inputs, encoded, real)
    cache = reader.decoder.start(encoded, tokens=5)
    for at in range(5):
        logits, cache = reader.decoder.step(inputs[:, at], jnp.int32(at), cache, real)
        assert np.abs(np.asarray(logits - whole[:, at])).max() <= 1e-4


@pytest.mark.parametrize("system", ["fid", "memory-fid", "lumen", "glimmer"])
def test_saved_and_opened_again(t5_folder: Path, tmp_path: Path, system: str) -> None:
    options = {"live_proportion": Fraction(2, 3)} if system in ("lumen", "glimmer") else {}
    reader = make(t5_folder, system, **options)
    if reader.score is not None:
        with_score(reader)
    if reader.question_encoder is not None:
        reader.question_encoder.blocks[0].attention.out[...] *= 2
    if reader.live is not None:
        reader.live.relative_bias[...] += 1
    settings = settings_of(reader.config)
    folder.save(reader, settings, tmp_path / "saved", like=t5_folder)
    opened = folder.open_reader(tmp_path / "saved")
    assert opened.settings == settings
    again = Reader(opened.settings.config, opened.tensor, compute_dtype="float32", memory_dtype="float32")
    batch = Batch(seed=10)
    selected = 2 if reader.score is not None else None
    assert np.array_equal(batch.logits(again, selected), batch.logits(reader, selected))
    untouched = memory_fingerprint(
        t5_folder, MemorySpec(live_proportion=reader.config.live_proportion, compute_dtype="float32")
    )
    assert settings.memory_fingerprint(tmp_path / "saved").hex == untouched.hex
    with pytest.raises(FileExistsError, match="saved exists"):
        folder.save(reader, settings, tmp_path / "saved", like=t5_folder)


def test_a_saved_fid_is_what_transformers_opens(t5_folder: Path, tmp_path: Path, theirs: Any) -> None:
    reader = make(t5_folder, "fid")
    folder.save(reader, settings_of(reader.config), tmp_path / "saved", like=t5_folder)
    with silenced():
        again = T5ForConditionalGeneration.from_pretrained(tmp_path / "saved").eval()
    for name, wanted in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], wanted), name


@pytest.mark.parametrize("size", PUBLISHED_SIZES)
@pytest.mark.parametrize("system", ["fid", "memory-fid", "lumen", "glimmer"])
def test_presets_of_all_sizes(size: str, system: str) -> None:
    shape = PUBLISHED_SIZES[size]
    if system in ("lumen", "glimmer") and shape.layers % 3:
        with pytest.raises(ValueError, match="wanted a whole number; the nearest are"):
            preset(system, shape)
        config = preset(system, shape, live_proportion=Fraction(1, 2))
    else:
        config = preset(system, shape)
    assert config.system == system
    assert config.memory_layers + config.live_layers == shape.layers
    assert ReaderConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"system": "retro"}, "wanted one of fid"),
        ({"system": "fid", "live_proportion": Fraction(1, 2)}, "fid has α = 1"),
        ({"system": "lumen", "rerank_proportion": Fraction(1, 2)}, "has no β"),
        (
            {"system": "glimmer", "rerank_proportion": Fraction(1, 3)},
            "wanted a whole number; such as 0 or 1/4",
        ),
        ({"system": "glimmer", "pooling": "max"}, "wanted first or mean"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preset(options.pop("system"), PUBLISHED_SIZES["base"], **options)


def test_selecting_needs_a_score(t5_folder: Path) -> None:
    batch = Batch()
    with pytest.raises(ValueError, match="this reader scores none"):
        batch.logits(make(t5_folder, "lumen", live_proportion=Fraction(1, 3)), selected=2)
    with pytest.raises(ValueError, match="6 of 5 passages cannot be selected"):
        batch.logits(make(t5_folder, "glimmer", live_proportion=Fraction(2, 3)), selected=6)


@pytest.mark.slow
def test_fid_of_base_size_is_t5(tmp_path: Path) -> None:
    path = make_t5_folder(
        tmp_path / "base",
        decoder=True,
        layers=12,
        decoder_layers=12,
        d_model=768,
        d_ff=2048,
        heads=12,
        d_kv=64,
    )
    reader = make(path, "fid")
    with silenced():
        theirs = T5ForConditionalGeneration.from_pretrained(path).eval()
    batch = Batch(passages=1, batch=4, seed=2)
    batch.lengths[:] = np.maximum(batch.lengths, 1)
    ours = batch.logits(reader)
    read, _, _ = reader.read(batch.pairs(reader))
    answers, _ = jax.jit(lambda e, r: greedy(reader.decoder, e, r, tokens=12))(*read.fused())
    require_logits(ours, theirs, batch)
    for row in range(4):
        text = torch.tensor([real_text(batch, row, 0)])
        expected = theirs.generate(text, max_new_tokens=12, do_sample=False)[0, 1:].tolist()
        assert np.asarray(answers[row])[: len(expected)].tolist() == expected
