"""A RETRO's folder: its language model is a Llama to transformers, and what is saved is what is read."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from flax import nnx

from encoders.model_folder import ModelFolderError
from encoders.reader import folder as reader_folder
from encoders.retro import folder, llama, tensors
from encoders.retro.config import RetroConfig
from encoders.retro.folder import RetroSettings
from encoders.retro.model import Retro
from encoders.retro.rows import Rows
from tests import small_retro
from tests.small_models import make_llama_folder

SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "tied": {"tied": True, "theta": 500_000.0},
    "wide heads": {"head_dim": 12, "key_heads": 4},
    "bfloat16": {"dtype": "bfloat16", "key_heads": 1},
}


def settings_of(path: Path, **changes: Any) -> RetroSettings:
    language = folder.read_language(path)
    config = RetroConfig(
        language=language,
        encoder=small_retro.ENCODER,
        chunk_tokens=8,
        neighbour_tokens=16,
        cca_layers=(2,),
    )
    return RetroSettings(config=dataclasses.replace(config, **changes), window=4)


def rows_of(tokens: np.ndarray) -> Rows:
    shape = (len(tokens), tokens.shape[1] // 8)
    return Rows(
        tokens=tokens,
        lengths=np.full(shape, 8, np.int32),
        documents=np.zeros(shape, np.int32),
        targets=np.full(tokens.shape, -1, np.int32),
    )


def transformers_logits(path: Path, tokens: np.ndarray) -> np.ndarray:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    with torch.no_grad():
        found: np.ndarray = model(torch.from_numpy(tokens).long()).logits.numpy()
    return found


def run(model: Retro, rows: Rows) -> np.ndarray:
    graph, state = nnx.split(model)
    return np.asarray(jax.jit(lambda state, rows: nnx.merge(graph, state)(rows))(state, rows))


@pytest.mark.parametrize("shape", SHAPES)
def test_with_retrieval_off_it_is_transformers_llama(shape: str, tmp_path: Path) -> None:
    path = make_llama_folder(tmp_path / "llama", **SHAPES[shape])
    opened = folder.from_language(path, settings_of(path))
    model = Retro(opened.settings.config, opened.tensor)
    tokens = np.random.default_rng(0).integers(3, opened.settings.config.language.vocab_size, (2, 40))
    wanted = transformers_logits(path, tokens)
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(run(model, rows_of(tokens.astype(np.int32))), wanted, atol=5e-4, rtol=1e-4)


def test_transformers_reads_the_language_model_of_a_retro(tmp_path: Path) -> None:
    path = make_llama_folder(tmp_path / "llama")
    opened = folder.from_language(path, settings_of(path), seed=3)
    model = Retro(opened.settings.config, opened.tensor)
    folder.save(model, opened.settings, tmp_path / "retro", like=path)
    tokens = np.random.default_rng(1).integers(3, 60, (2, 24))
    np.testing.assert_array_equal(
        transformers_logits(path, tokens), transformers_logits(tmp_path / "retro", tokens)
    )
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(tmp_path / "retro").encode("river") == (
        AutoTokenizer.from_pretrained(path).encode("river")
    )


@pytest.mark.parametrize("encoding", ["conditioned", "unconditioned", "stored"])
@pytest.mark.parametrize("kind", ["llama", "relative"])
def test_what_is_saved_is_what_is_read(encoding: str, kind: str, tmp_path: Path) -> None:
    tokenizer = make_llama_folder(tmp_path / "llama")
    language = small_retro.llama() if kind == "llama" else small_retro.language(tied=True)
    config = small_retro.config(encoding, language=language)
    memory = "e" * 64 if encoding == "stored" else None
    settings = RetroSettings(config=config, memory_encoder=memory)
    weights = small_retro.tensors(config)
    model = Retro(config, weights.__getitem__)
    folder.save(model, settings, tmp_path / "retro", like=tokenizer)
    opened = folder.open_retro(tmp_path / "retro")
    assert opened.settings == settings
    assert {name: opened.tensor(name).tobytes() for name in weights} == {
        name: tensor.tobytes() for name, tensor in weights.items()
    }
    again = Retro(opened.settings.config, opened.tensor)
    language_again, extra = tensors.named(again)
    assert {**language_again, **extra}.keys() == weights.keys()
    assert folder.is_retro(tmp_path / "retro")
    assert not folder.is_retro(tokenizer)
    with pytest.raises(FileExistsError):
        folder.save(model, settings, tmp_path / "retro", like=tokenizer)


def test_what_is_drawn_hangs_on_the_seed_and_ends_in_zeros(tmp_path: Path) -> None:
    path = make_llama_folder(tmp_path / "llama")
    settings = settings_of(path)
    one, same, other = (folder.from_language(path, settings, seed=seed) for seed in (0, 0, 1))
    name = "encoder.layers.1.mlp.up_proj.weight"
    np.testing.assert_array_equal(one.tensor(name), same.tensor(name))
    assert np.abs(one.tensor(name) - other.tensor(name)).max() > 0.01
    assert not one.tensor("cca.2.attention.o_proj.weight").any()
    lm = "model.layers.1.mlp.up_proj.weight"
    np.testing.assert_array_equal(one.tensor(lm), other.tensor(lm))


def changed(path: Path, to: Path, **changes: Any) -> Path:
    shutil.copytree(path, to)
    raw = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(raw | changes))
    return to


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'"),
        ({"attention_bias": True}, "without biases"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "scaled"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "scaled"),
        ({"num_key_value_heads": 3}, "no multiple"),
    ],
)
def test_language_models_that_are_not_known(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = make_llama_folder(tmp_path / "llama")
    with pytest.raises(ModelFolderError, match=said):
        folder.read_language(changed(path, tmp_path / "changed", **changes))


def test_an_older_transformers_config_is_read(tmp_path: Path) -> None:
    path = make_llama_folder(tmp_path / "llama", theta=500_000.0)
    raw = json.loads((path / "config.json").read_text())
    del raw["rope_parameters"]
    older = llama.from_json(raw | {"rope_theta": 500_000.0, "rope_scaling": None})
    assert older == folder.read_language(path)
    assert older.rotary_theta == 500_000.0


def test_folders_that_are_no_retro(tmp_path: Path) -> None:
    path = make_llama_folder(tmp_path / "llama")
    with pytest.raises(ModelFolderError, match=r"holds no RETRO"):
        folder.open_retro(path)
    opened = folder.from_language(path, settings_of(path))
    folder.save(Retro(opened.settings.config, opened.tensor), opened.settings, tmp_path / "retro", like=path)
    with pytest.raises(ModelFolderError, match=r"holds a RETRO.*memcorpus retro generate"):
        reader_folder.open_reader(tmp_path / "retro")
    other = changed(tmp_path / "retro", tmp_path / "other", rms_norm_eps=1e-5)
    with pytest.raises(ModelFolderError, match="different language models"):
        folder.open_retro(other)
    (tmp_path / "retro" / "retro.safetensors").unlink()
    with pytest.raises(ModelFolderError, match=r"no retro\.safetensors"):
        folder.open_retro(tmp_path / "retro")


def test_an_encoder_that_is_stored_is_named() -> None:
    from encoders.errors import EncoderError

    with pytest.raises(EncoderError, match="fingerprint"):
        RetroSettings(config=small_retro.config("stored"))
    with pytest.raises(EncoderError, match="no other encoder"):
        RetroSettings(config=small_retro.config(), memory_encoder="e" * 64)
