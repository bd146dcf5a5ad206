"""Model folders: what is found in them, what is refused, and what a fingerprint sees."""

from __future__ import annotations

import json
import shutil
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5EncoderModel

from encoders import ModelFolderError, fingerprint, model_folder, weights
from encoders.memory_spec import MemorySpec
from encoders.t5_folder import memory_fingerprint
from encoders.transformers_output import silenced
from tests import small_models

LAYERS = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 with a decoder, 3 layers, in one file."""
    return small_models.make_t5_folder(tmp_path_factory.mktemp("whole"), layers=LAYERS, decoder=True)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy that the test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def rename(folder: Path, *, drop: str = "", add: str = "", keep: str = "") -> None:
    """Renames all tensors of a folder, or keeps only some."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({add + k.removeprefix(drop): v for k, v in tensors.items() if k.startswith(keep)}, path)


def find(folder: Path, layers: int = LAYERS) -> dict[str, model_folder.Tensor]:
    return weights.find(folder, weights.read_config(folder), layers)


def digest(folder: Path, layers: int = LAYERS) -> str:
    return fingerprint.digest_tensors(find(folder, layers))


def refusal(folder: Path) -> str:
    """The one line that a folder is refused with."""
    with pytest.raises(ModelFolderError) as error:
        find(folder)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_tensors_are_those_of_transformers(whole: Path) -> None:
    with silenced():
        state = T5EncoderModel.from_pretrained(whole).state_dict()
    found = find(whole)
    assert len(found) == 2 + LAYERS * 9 + 1
    for name, tensor in found.items():
        stored = state["shared.weight" if name == "shared.weight" else f"encoder.{name}"]
        np.testing.assert_array_equal(tensor.read(), stored.numpy())
        assert not tensor.read().flags.writeable
    assert sum(tensor.read().size for tensor in found.values()) < sum(
        t.numel() for t in load_file(whole / "model.safetensors").values()
    )  # not the decoder's


def test_only_the_layers_in_use_are_found(whole: Path) -> None:
    assert set(find(whole, 0)) == {"shared.weight"}
    two = find(whole, 2)
    assert "block.1.layer.1.DenseReluDense.wo.weight" in two
    assert not any(name.startswith("block.2") or "final" in name for name in two)
    assert "final_layer_norm.weight" in find(whole, LAYERS)


def test_names_of_every_way_to_save(folder: Path) -> None:
    expected = digest(folder)
    rename(folder, add="transformer.")  # with a head above the whole
    assert digest(folder) == expected
    rename(folder, drop="transformer.")
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    save_file(tensors, folder / "model.safetensors")
    rename(folder, keep="encoder.", drop="encoder.")  # the bare stack
    assert set(load_file(folder / "model.safetensors")) > {"embed_tokens.weight", "final_layer_norm.weight"}
    assert digest(folder) == expected


def test_embedding_stored_twice(folder: Path) -> None:
    path = folder / "model.safetensors"
    expected = digest(folder)
    tensors = load_file(path)
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"].clone()
    save_file(tensors, path)
    assert digest(folder) == expected
    small_models.edit_tensor(path, "encoder.embed_tokens.weight")
    assert "different values in shared.weight and encoder.embed_tokens.weight" in refusal(folder)


def test_sharding_changes_nothing(whole: Path, tmp_path: Path) -> None:
    sharded = small_models.make_t5_folder(tmp_path, layers=LAYERS, decoder=True, sharded=True)
    assert len(list(sharded.glob("model-*.safetensors"))) > 2
    assert not (sharded / "model.safetensors").exists()
    for name, tensor in find(sharded).items():
        np.testing.assert_array_equal(tensor.read(), find(whole)[name].read())
    assert digest(sharded) == digest(whole)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_on_disk(dtype: str, whole: Path, tmp_path: Path) -> None:
    half = small_models.make_t5_folder(tmp_path, layers=LAYERS, decoder=True, dtype=dtype)
    for name, tensor in find(half).items():
        expected = torch.tensor(find(whole)[name].read()).to(getattr(torch, dtype)).float().numpy()
        assert tensor.read().dtype.name == dtype
        np.testing.assert_array_equal(tensor.read().astype(np.float32), expected)


def test_pickles_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refusal(folder)
    assert "pytorch_model.bin only, a pickle" in message
    assert "save the model again as safetensors" in message


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "has no weights, wanted model.safetensors" in refusal(folder)


def test_missing_tensor(folder: Path) -> None:
    small_models.edit_json(folder / "config.json", num_layers=LAYERS + 1)
    with pytest.raises(ModelFolderError, match=r"no tensor encoder\.block\.3\.layer\.0"):
        find(folder, LAYERS + 1)


def test_no_embedding(folder: Path) -> None:
    rename(folder, keep="encoder.")
    assert "no embedding, wanted shared.weight or encoder.embed_tokens.weight" in refusal(folder)


def test_no_encoder(folder: Path) -> None:
    rename(folder, keep="decoder.")
    assert "holds 0 T5 encoders" in refusal(folder)


def test_wrong_shape(folder: Path) -> None:
    small_models.edit_json(folder / "config.json", d_ff=50)
    message = refusal(folder)
    assert "DenseReluDense.wi_0.weight has shape [48, 32], wanted [50, 32]" in message


def test_other_feed_forward(folder: Path) -> None:
    small_models.edit_json(folder / "config.json", feed_forward_proj="relu")
    assert "no tensor encoder.block.0.layer.1.DenseReluDense.wi.weight" in refusal(folder)


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "has no config.json" in refusal(folder)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "cannot be read as JSON"), ("[1]", "a JSON list, wanted an object")]
)
def test_damaged_config(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text)
    assert message in refusal(folder)


def test_config_of_another_model(folder: Path) -> None:
    small_models.edit_json(folder / "config.json", model_type="bert")
    message = refusal(folder)
    assert message.startswith(str(folder / "config.json"))
    assert "model_type is 'bert', wanted one of t5, mt5" in message


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return small_models.make_t5_folder(tmp_path / "sharded", layers=LAYERS, decoder=True, sharded=True)


def test_missing_shard(sharded: Path) -> None:
    next(iter(sorted(sharded.glob("model-00002*")))).unlink()
    assert "has no model-00002-of-" in refusal(sharded)


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/model", "a/b", "..\\x", "", "..", 3, ["model"], None]
)
def test_shard_outside_the_folder(sharded: Path, name: object) -> None:
    index = sharded / "model.safetensors.index.json"
    (sharded.parent / "model.safetensors").write_bytes(b"")
    weight_map = json.loads(index.read_text())["weight_map"]
    weight_map["encoder.final_layer_norm.weight"] = name
    small_models.edit_json(index, weight_map=weight_map)
    assert "wanted a plain file name in its own folder" in refusal(sharded)


def test_index_that_lies(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    names = sorted(set(weight_map.values()))
    moved = next(name for name, file in weight_map.items() if file == names[0])
    small_models.edit_json(index, weight_map=weight_map | {moved: names[1]})
    assert f"has no tensor {moved}" in refusal(sharded)
    small_models.edit_json(index, weight_map={})
    assert "has no weight_map" in refusal(sharded)


def test_cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    for size in (len(data) - 1, len(data) // 2, 100, 5, 0):
        path.write_bytes(data[:size])
        assert "cut short" in refusal(folder)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [1]}}',
        b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
    ],
)
def test_damaged_header(folder: Path, header: bytes) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    assert "model.safetensors" in refusal(folder)


def test_quantized_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    save_file(tensors | {name: tensors[name].to(torch.int8)}, path)
    found = find(folder)
    with pytest.raises(ModelFolderError, match="is I8, wanted F32, F16, BF16"):
        found[name.removeprefix("encoder.")].read()


def test_hub_name_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelFolderError) as error:
        model_folder.resolve("google/t5-v1_1-of-nowhere")
    message = str(error.value)
    assert "is neither a folder nor a model that could be downloaded: " in message
    assert message.endswith("; give a folder")
    assert "\n" not in message


def test_hub_name_downloads_no_pickle(monkeypatch: pytest.MonkeyPatch, whole: Path) -> None:
    import fnmatch

    import huggingface_hub

    asked: dict[str, list[str]] = {}

    def download(name: str, **options: list[str]) -> str:
        assert name == "google/t5-v1_1-base"
        asked.update(options)
        return str(whole)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert model_folder.resolve("google/t5-v1_1-base") == whole
    offered = ["config.json", "model.safetensors", "spiece.model", "model-00001-of-00002.safetensors"]
    others = ["pytorch_model.bin", "tf_model.h5", "modeling.py", "model.fp16.safetensors"]
    wanted = {f for f in offered + others if any(fnmatch.fnmatch(f, p) for p in asked["allow_patterns"])}
    assert wanted == set(offered)


def test_a_file_is_no_folder(whole: Path) -> None:
    with pytest.raises(ModelFolderError, match="is a file, wanted a model folder"):
        model_folder.resolve(whole / "config.json")


def test_tokenizer_missing(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelFolderError, match=r"neither tokenizer\.json nor spiece\.model"):
        model_folder.find_tokenizer_files(folder)


# Fingerprints


def memory(folder: Path, **changes: Any) -> fingerprint.Fingerprint:
    """Fingerprint of 2 of the 3 layers."""
    return memory_fingerprint(folder, MemorySpec(**({"compute_dtype": "float32"} | changes)))


def test_every_tensor_in_use_is_seen(whole: Path, tmp_path: Path) -> None:
    before = memory(whole)
    for i, (name, tensor) in enumerate(find(whole, 2).items()):
        copy = Path(shutil.copytree(whole, tmp_path / str(i)))
        with (copy / "model.safetensors").open("r+b") as file:
            file.seek(tensor.end - 1)
            last = file.read(1)
            file.seek(tensor.end - 1)
            file.write(bytes([last[0] ^ 1]))
        after = memory(copy)
        assert after.hex != before.hex, name
        assert fingerprint.differences(before.description, after.description) == ["tensors"]
        shutil.rmtree(copy)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.block.2.layer.0.SelfAttention.q.weight",
        "encoder.final_layer_norm.weight",
        "decoder.block.0.layer.0.SelfAttention.q.weight",
    ],
)
def test_live_layers_and_decoder_are_not_seen(folder: Path, name: str) -> None:
    before = memory(folder)
    small_models.edit_tensor(folder / "model.safetensors", name)
    assert memory(folder).hex == before.hex
    if name.startswith("encoder."):  # but they are once they are memory
        assert memory(folder, live_proportion=Fraction(0)).hex != memory(folder).hex


def test_resharding_is_not_seen(whole: Path, sharded: Path) -> None:
    assert memory(sharded).description["tensors"] == memory(whole).description["tensors"]
    assert memory(sharded).hex == memory(whole).hex


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({"live_proportion": Fraction(2, 3)}, ["layers", "tensors"]),
        ({"live_proportion": Fraction(0)}, ["final_norm", "layers", "tensors"]),
        ({"compute_dtype": "bfloat16"}, ["compute_dtype"]),
        ({"max_tokens": 303}, ["max_tokens"]),
        ({"template": "{title} {text}"}, ["template"]),
    ],
)
def test_settings_are_seen_and_named(whole: Path, change: dict[str, object], keys: list[str]) -> None:
    before, after = memory(whole), memory(whole, **change)
    assert before.hex != after.hex
    assert fingerprint.differences(before.description, after.description) == keys


def test_tokenizer_and_architecture_are_seen(folder: Path) -> None:
    before = memory(folder)
    small_models.edit_json(folder / "config.json", layer_norm_epsilon=1e-5, dropout_rate=0.3)
    after = memory(folder)
    assert fingerprint.differences(before.description, after.description) == ["architecture.norm_epsilon"]
    small_models.make_tokenizer(folder, texts=small_models.TEXTS[:-1], vocab=200)
    last = memory(folder)
    assert fingerprint.differences(after.description, last.description) == ["tokenizer.tokenizer.json"]


def test_a_description_is_json_and_gives_its_digest_again(whole: Path) -> None:
    made = memory(whole)
    again = fingerprint.of(json.loads(json.dumps(made.description)))
    assert again == made
    assert len(made.hex) == 64


def test_differences() -> None:
    one = {"a": 1, "b": {"c": 1, "d": None}, "e": []}
    assert fingerprint.differences(one, one) == []
    assert fingerprint.differences(one, {"a": 2, "b": {"c": 3}, "f": 0}) == ["a", "b.c", "b.d", "e", "f"]


def test_chunks_are_the_bytes(whole: Path) -> None:
    tensor = find(whole)["shared.weight"]
    pieces = list(tensor.chunks(chunk_bytes=1000))
    assert len(pieces) > 2
    assert max(map(len, pieces)) == 1000
    assert b"".join(pieces) == tensor.read().tobytes()
