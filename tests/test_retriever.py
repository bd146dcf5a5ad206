"""The retriever is sentence-transformers', Dense layer and all, and reads no pickle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from encoders import ModelFolderError, fingerprint
from encoders.retriever import (
    BACKENDS,
    JAX,
    SENTENCE_TRANSFORMERS,
    Retriever,
    default_backend,
)
from encoders.retriever_folder import open_folder
from encoders.transformers_output import silenced
from tests import small_models

# Short and long ones in turn, so that sorting by length moves every text; one beyond 64 tokens.
TEXTS = ["Tea", small_models.TEXTS[0], "", small_models.TEXTS[3], "Vienna", " ".join(small_models.TEXTS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.make_gtr_folder(tmp_path_factory.mktemp("gtr"))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


@pytest.fixture(scope="module", params=BACKENDS)
def retriever(folder: Path, request: pytest.FixtureRequest) -> Retriever:
    return Retriever.load(folder, backend=request.param, device="cpu")


def torch_modules(retriever: Retriever) -> Any:
    assert retriever.backend == SENTENCE_TRANSFORMERS
    tower: Any = retriever._tower
    return tower.model


def sentence_transformers(folder: Path, texts: list[str]) -> np.ndarray:
    """Each text alone, in float32."""
    with silenced():
        model = SentenceTransformer(str(folder), device="cpu").float()
    return np.concatenate([model.encode([text], show_progress_bar=False) for text in texts])


def refusal(folder: Path, **options: Any) -> str:
    """The one line that both loading and fingerprinting refuse a folder with."""
    messages = []
    for call in (Retriever.load, lambda *a, **k: open_folder(*a, **k).fingerprint):
        with pytest.raises(ModelFolderError) as error:
            call(folder, **options)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]
    return messages[0]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 32])
def test_batches_change_rounding_only(folder: Path, batch_size: int) -> None:
    loaded = Retriever.load(folder, backend=SENTENCE_TRANSFORMERS, batch_size=batch_size, device="cpu")
    np.testing.assert_allclose(loaded.encode(TEXTS), sentence_transformers(folder, TEXTS), atol=1e-6)
    counts: list[int] = []
    loaded.encode(TEXTS, on_batch=counts.append)
    assert counts == [min(batch_size, len(TEXTS) - i) for i in range(0, len(TEXTS), batch_size)]


def test_vectors_are_sentence_transformers(folder: Path, retriever: Retriever) -> None:
    got = retriever.encode(TEXTS)
    assert got.shape == (len(TEXTS), 24)
    assert got.dtype == np.float32
    assert retriever.dim == open_folder(folder).dim == 24
    np.testing.assert_allclose(got, sentence_transformers(folder, TEXTS), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
    # Not trivial: the vectors differ.
    assert np.max(got @ got.T - np.eye(len(TEXTS))) < 0.999
    assert np.min(got @ got.T) < 0.9


def test_spaces_around_a_text_are_as_in_sentence_transformers(folder: Path, retriever: Retriever) -> None:
    texts = ["  Tea ", "Tea\n", "\tWhales  and   tea", " ", "TEA", "tea\u3000", "é ﬁ"]
    np.testing.assert_allclose(retriever.encode(texts), sentence_transformers(folder, texts), atol=1e-6)


def test_vectors_by_hand(folder: Path, retriever: Retriever) -> None:
    """Encoder, mean over real tokens, Dense, norm: written out."""
    plain = Retriever.load(folder, backend=SENTENCE_TRANSFORMERS, device="cpu")
    transformer, pooling, dense, _ = torch_modules(plain)
    del pooling
    encoded = transformer.tokenizer(TEXTS, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.inference_mode():
        model = next(m for m in transformer.modules() if type(m).__name__ == "T5EncoderModel")
        hidden = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])[0]
        real = encoded["attention_mask"][..., None]
        assert (real == 0).any()
        mean = (hidden * real).sum(1) / real.sum(1)
        projected = mean @ load_file(folder / "2_Dense" / "model.safetensors")["linear.weight"].T
        expected = torch.nn.functional.normalize(projected, dim=1)
    assert dense.linear.bias is None
    np.testing.assert_allclose(retriever.encode(TEXTS), expected.numpy(), atol=1e-6)


def test_the_dense_layer_is_used(folder: Path, copy: Path, retriever: Retriever) -> None:
    path = copy / "2_Dense" / "model.safetensors"
    weight = load_file(path)["linear.weight"]
    save_file({"linear.weight": weight.flip(0).contiguous()}, path)
    flipped = Retriever.load(copy, backend=retriever.backend, device="cpu").encode(TEXTS)
    np.testing.assert_allclose(flipped, retriever.encode(TEXTS)[:, ::-1], atol=1e-6)
    assert np.abs(flipped - retriever.encode(TEXTS)).max() > 0.1


def test_same_list_same_bytes(folder: Path, retriever: Retriever) -> None:
    first = retriever.encode(TEXTS)
    np.testing.assert_array_equal(first, retriever.encode(TEXTS))
    again = Retriever.load(folder, backend=retriever.backend, device="cpu")
    np.testing.assert_array_equal(first, again.encode(TEXTS))


def test_float16(retriever: Retriever) -> None:
    half = retriever.encode(TEXTS, dtype=np.float16)
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, retriever.encode(TEXTS).astype(np.float16))


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_folder_computes_in_float32(tmp_path: Path, backend: str) -> None:
    half = small_models.make_gtr_folder(tmp_path, dtype="float16")
    assert load_file(half / "2_Dense" / "model.safetensors")["linear.weight"].dtype == torch.float16
    loaded = Retriever.load(half, backend=backend, device="cpu")
    if backend == SENTENCE_TRANSFORMERS:
        assert {p.dtype for p in torch_modules(loaded).parameters()} == {torch.float32}
    np.testing.assert_allclose(loaded.encode(TEXTS), sentence_transformers(half, TEXTS), atol=1e-6)


@pytest.mark.parametrize(("dense", "normalize"), [(False, True), (True, False), (False, False)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_folder_lists_is_used(tmp_path: Path, dense: bool, normalize: bool, backend: str) -> None:
    other = small_models.make_gtr_folder(tmp_path, dense=dense, normalize=normalize)
    loaded = Retriever.load(other, backend=backend, device="cpu")
    assert loaded.dim == open_folder(other).dim == (24 if dense else 32)
    np.testing.assert_allclose(
        loaded.encode(TEXTS), sentence_transformers(other, TEXTS), atol=1e-5, rtol=1e-5
    )
    unit = np.allclose(np.linalg.norm(loaded.encode(TEXTS), axis=1), 1, atol=1e-3)
    assert unit == normalize


def test_max_tokens_is_the_lowest_limit(folder: Path, copy: Path) -> None:
    whole = Retriever.load(folder, device="cpu")
    assert whole.max_tokens == 64  # the folder's own
    short = Retriever.load(folder, max_tokens=9, device="cpu")
    assert short.max_tokens == 9
    long = " ".join(small_models.TEXTS)
    assert np.abs(short.encode([long]) - whole.encode([long])).max() > 0.01
    np.testing.assert_allclose(short.encode(["Tea"]), whole.encode(["Tea"]), atol=1e-6)
    keys = fingerprint.differences(whole.description, short.description)
    assert keys == ["max_tokens"]
    small_models.edit_json(copy / "tokenizer_config.json", model_max_length=int(1e30))
    small_models.edit_json(copy / "sentence_bert_config.json", max_seq_length=33)
    assert Retriever.load(copy, device="cpu").max_tokens == 33
    small_models.edit_json(copy / "sentence_bert_config.json", max_seq_length=None)
    assert Retriever.load(copy, device="cpu").max_tokens == 512


def test_no_texts_and_counts(retriever: Retriever) -> None:
    assert retriever.encode([]).shape == (0, 24)
    counts: list[int] = []
    retriever.encode(TEXTS, on_batch=counts.append)
    assert sum(counts) == len(TEXTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"backend": "tensorflow"}, "backend is 'tensorflow'"), ({"batch_size": 0}, "batch_size is 0")],
)
def test_load_refuses(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Retriever.load(folder, **options)


def test_encode_refuses(retriever: Retriever) -> None:
    with pytest.raises(ValueError, match="dtype is int8"):
        retriever.encode(["Tea"], dtype=np.int8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_vectors_that_are_not_finite(copy: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small_models.edit_tensor(copy / "2_Dense" / "model.safetensors", "linear.weight", add=float("nan"))
    with pytest.raises(ModelFolderError, match=r"linear\.weight has values that are NaN or infinite"):
        Retriever.load(copy, backend=backend, device="cpu")
    # Finite weights can give what is not, by overflow.
    monkeypatch.setattr(fingerprint, "_require_finite", lambda *_: None)
    with pytest.raises(OverflowError, match="text 0 has a vector that float32 cannot hold"):
        Retriever.load(copy, backend=backend, device="cpu").encode(["Tea"])


@pytest.mark.parametrize("max_tokens", [1, 0, -3])
def test_max_tokens_out_of_range(folder: Path, max_tokens: int) -> None:
    with pytest.raises(ValueError, match=f"max_tokens is {max_tokens}, wanted 2 or more"):
        Retriever.load(folder, max_tokens=max_tokens)


@pytest.mark.parametrize("module", ["", "2_Dense"])
def test_pickles_are_refused(copy: Path, module: str) -> None:
    (copy / module / "model.safetensors").rename(copy / module / "pytorch_model.bin")
    assert "pytorch_model.bin only, a pickle" in refusal(copy)


@pytest.mark.parametrize("module", ["", "2_Dense"])
def test_missing_weights(copy: Path, module: str) -> None:
    (copy / module / "model.safetensors").unlink()
    assert "has no weights" in refusal(copy)


def edit_modules(folder: Path, index: int, **changes: Any) -> None:
    path = folder / "modules.json"
    modules = json.loads(path.read_text())
    modules[index] |= changes
    path.write_text(json.dumps(modules))


@pytest.mark.parametrize("kind", ["evil.Transformer", "os.system", "sentence_transformers.models.CNN", ""])
def test_foreign_modules_are_refused(copy: Path, kind: str) -> None:
    edit_modules(copy, 2, type=kind)
    assert "code that comes with a model is never run" in refusal(copy)


@pytest.mark.parametrize("path", ["../model", "/tmp", "a/../../b"])
def test_modules_outside_the_folder_are_refused(copy: Path, path: str) -> None:
    edit_modules(copy, 2, path=path)
    assert "wanted one inside its own" in refusal(copy)


@pytest.mark.parametrize("text", ["{", "3", '{"a": 1}', "[1]", '[{"type": "x"}]'])
def test_damaged_modules(copy: Path, text: str) -> None:
    (copy / "modules.json").write_text(text)
    assert "is no list of modules" in refusal(copy)


def test_no_transformer_first(copy: Path) -> None:
    (copy / "modules.json").write_text("[]")
    assert "wanted a Transformer first" in refusal(copy)


def test_a_t5_folder_is_no_retriever(tmp_path: Path) -> None:
    assert "has no modules.json" in refusal(small_models.make_t5_folder(tmp_path))


def test_old_module_names(copy: Path, retriever: Retriever) -> None:
    """The published GTR folders name sentence_transformers.models.*, without the newer files."""
    for i, name in enumerate(("Transformer", "Pooling", "Dense", "Normalize")):
        edit_modules(copy, i, type=f"sentence_transformers.models.{name}")
    shutil.rmtree(copy / "3_Normalize")
    (copy / "sentence_bert_config.json").write_text('{"max_seq_length": 64, "do_lower_case": false}')
    old = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False}
    old |= {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}
    (copy / "1_Pooling" / "config.json").write_text(json.dumps(old))
    loaded = Retriever.load(copy, backend=retriever.backend, device="cpu")
    assert open_folder(copy).dim == 24
    np.testing.assert_allclose(loaded.encode(TEXTS), retriever.encode(TEXTS), atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_loading_and_encoding_make_no_noise(
    folder: Path, backend: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Retriever.load(folder, backend=backend, device="cpu").encode(["tea " * 2000])
    assert capfd.readouterr() == ("", "")


def test_fingerprint_without_loading(folder: Path, retriever: Retriever) -> None:
    made = open_folder(folder).fingerprint
    assert (made.hex, made.description) == (retriever.fingerprint, retriever.description)


def test_fingerprint_sees_what_matters_and_no_more(copy: Path) -> None:
    before = open_folder(copy).fingerprint
    small_models.edit_json(copy / "config.json", transformers_version="9", _name_or_path="x", dtype="y")
    (copy / "README.md").write_text("about")
    assert open_folder(copy).fingerprint == before
    small_models.edit_tensor(copy / "2_Dense" / "model.safetensors", "linear.weight", add=0.5)
    dense = open_folder(copy).fingerprint
    assert fingerprint.differences(before.description, dense.description) == ["modules"]
    name = "encoder.block.1.layer.1.DenseReluDense.wo.weight"
    small_models.edit_tensor(copy / "model.safetensors", name)
    assert len({before.hex, dense.hex, open_folder(copy).fingerprint.hex}) == 3
    small_models.make_tokenizer(copy, texts=small_models.TEXTS[:-1], vocab=200)
    keys = fingerprint.differences(dense.description, open_folder(copy).fingerprint.description)
    assert "tokenizer.tokenizer.json" in keys


@pytest.mark.parametrize("bias", [False, True])
def test_a_dense_layer_with_a_bias(copy: Path, bias: bool) -> None:
    path = copy / "2_Dense" / "model.safetensors"
    weight = load_file(path)["linear.weight"]
    extra = {"linear.bias": torch.linspace(-1, 1, len(weight))} if bias else {}
    save_file({"linear.weight": weight, **extra}, path)
    small_models.edit_json(copy / "2_Dense" / "config.json", bias=bias)
    vectors = [Retriever.load(copy, backend=backend, device="cpu").encode(TEXTS) for backend in BACKENDS]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    small_models.edit_json(copy / "2_Dense" / "config.json", bias=not bias)
    with pytest.raises(ModelFolderError, match="wanted linear"):
        Retriever.load(copy, backend=JAX)


@pytest.mark.parametrize(
    ("file", "changes", "reason"),
    [
        ("1_Pooling", {"pooling_mode": "cls"}, "it pools by cls, wanted the mean"),
        ("1_Pooling", {"pooling_mode": ["mean", "max"]}, "it pools by max, mean"),
        (
            "1_Pooling",
            {"pooling_mode": None, "pooling_mode_max_tokens": True},
            "it pools by max, wanted the mean",
        ),
        ("2_Dense", {"activation_function": "torch.nn.modules.activation.Tanh"}, "the activation torch"),
        ("2_Dense", {"activation_function": None}, "the activation torch"),
        ("2_Dense", {"module_input_name": "token_embeddings"}, "its Dense works on"),
        (".", {"model_type": "bert"}, "model_type is 'bert'"),
    ],
)
def test_what_jax_cannot_run_is_left_to_sentence_transformers(
    copy: Path, file: str, changes: dict[str, Any], reason: str
) -> None:
    assert default_backend(open_folder(copy)) == JAX
    small_models.edit_json(copy / file / "config.json", **changes)
    assert default_backend(open_folder(copy)) == SENTENCE_TRANSFORMERS
    with pytest.raises(ModelFolderError, match=r"cannot be run by jax: .*take the backend") as error:
        Retriever.load(copy, backend=JAX)
    assert reason in str(error.value)


def test_other_modules_are_left_to_sentence_transformers(copy: Path) -> None:
    settings = copy / "config_sentence_transformers.json"
    small_models.edit_json(settings, prompts={"query": "q: "}, default_prompt_name="query")
    assert default_backend(open_folder(copy)) == JAX
    small_models.edit_json(copy / "1_Pooling" / "config.json", include_prompt=False)
    assert default_backend(open_folder(copy)) == SENTENCE_TRANSFORMERS
    small_models.edit_json(settings, prompts={"query": None}, default_prompt_name=None)
    assert default_backend(open_folder(copy)) == JAX
    edit_modules(copy, 1, type="sentence_transformers.models.Dropout")
    with pytest.raises(ModelFolderError, match="how many dimensions"):
        open_folder(copy)


def test_backends_agree_and_have_one_fingerprint(folder: Path) -> None:
    loaded = [Retriever.load(folder, backend=backend) for backend in BACKENDS]
    assert loaded[0].fingerprint == loaded[1].fingerprint
    texts = [" ".join(small_models.TEXTS[: i % 7]) for i in range(60)]
    vectors = [retriever.encode(texts) for retriever in loaded]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    # A question alone is what it is among many, to rounding.
    np.testing.assert_allclose(loaded[0].encode(texts[5:6]), vectors[0][5:6], atol=1e-6)
