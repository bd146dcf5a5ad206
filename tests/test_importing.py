"""`memcorpus import`: states as vLLM and PixArt write them come back by key; bad files are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import memcorpus
from pipeline.jobs import importing
from pipeline.jobs.states_folder import StatesFolder
from storage.folder import CorpusFolder
from tests import jobs
from tests.commands import Command, refused
from tests.killing import Killed, killed_at

LAYERS, WIDTH, SAMPLES = 3, 8, 90


def states(i: int) -> np.ndarray:
    """[tokens, layers, d]."""
    return np.random.default_rng(i).normal(size=(2 + i % 13, LAYERS, WIDTH)).astype(np.float32)


def safetensors(folder: Path, i: int, values: np.ndarray, **more: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    save_file({"hidden_states": values, **more}, folder / f"hs_{i}.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As vLLM's connector writes them now, and every third as its first release did: layers first."""
    root = tmp_path_factory.mktemp("hs") / "hidden"
    for i in range(SAMPLES):
        values = states(i).astype(ml_dtypes.bfloat16)
        tokens = np.arange(len(values))
        turned = (
            np.ascontiguousarray(values.swapaxes(0, 1)) if i % 3 == 0 and len(values) != LAYERS else values
        )
        safetensors(root, i, turned, token_ids=tokens, loss_mask=tokens % 2)
    return root


def import_from(root: Path, out: Path, **changes: Any) -> importing.Imported:
    taken = {name: changes.pop(name) for name in ("tensor", "mask") if name in changes}
    return importing.import_states(
        StatesFolder.open(root, **taken), CorpusFolder(out), **({"measure": False} | changes)
    )


def test_a_folder_of_hidden_states(folder: Path, tmp_path: Path, command: Command) -> None:
    status, out, err = command("import", folder, tmp_path / "c")
    assert status == 0, err
    assert f"{SAMPLES} samples" in out
    assert "of 24 bfloat16, stored as bfloat16" in out
    assert "left out: loss_mask, token_ids" in out
    assert f"before: {SAMPLES} files" in out
    corpus = memcorpus.open(tmp_path / "c")
    assert corpus.passages([2, 10, 89])["page_id"].to_pylist() == ["hs_2", "hs_10", "hs_89"]
    memory = corpus.memory().fetch(corpus.ids([f"hs_{i}" for i in range(SAMPLES)]))
    for i in range(SAMPLES):
        wanted = states(i).astype(ml_dtypes.bfloat16).reshape(-1, LAYERS * WIDTH)
        np.testing.assert_array_equal(memory[i], wanted, err_msg=str(i))
    assert jobs.verify(tmp_path / "c", full=True).ok
    status, out, _ = command("import", folder, tmp_path / "c", "--json")
    again = json.loads(out)
    assert (status, again["seconds"], again["samples"]) == (0, 0, SAMPLES)
    assert again["before"]["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert again["after"]["files"] == len([p for p in (tmp_path / "c").rglob("*") if p.is_file()])
    assert again["after"]["reads"] > 0


def test_int8_is_trained_on_the_folder(folder: Path, tmp_path: Path) -> None:
    found = import_from(folder, tmp_path / "c", codec="int8")
    assert 0 < found.relative_error < 0.02
    assert found.cosine > 0.9998
    memory = memcorpus.open(tmp_path / "c").memory()
    given = np.concatenate([states(i).astype(ml_dtypes.bfloat16) for i in (4, 77)]).astype(np.float32)
    given = given.reshape(-1, LAYERS * WIDTH)
    off = np.linalg.norm(memory.fetch([4, 77]).values.astype(np.float32) - given, axis=1)
    assert (off <= memory.coder.error_bound(given)).all()


def test_caption_features_and_their_mask(tmp_path: Path) -> None:
    root = tmp_path / "features"
    root.mkdir()
    lengths = {f"img_{i}": 1 + i for i in range(7)}
    for i, (name, length) in enumerate(lengths.items()):
        feature = np.random.default_rng(i).normal(size=(1, 12, 16)).astype(np.float32)
        mask = (np.arange(12) < length).astype(np.int16)[None]
        np.savez_compressed(root / f"{name}.npz", caption_feature=feature, attention_mask=mask)
    found = import_from(root, tmp_path / "c", codec="float32")
    assert (found.samples, found.tokens, found.width) == (7, sum(lengths.values()), 16)
    corpus = memcorpus.open(tmp_path / "c")
    for i, (name, length) in enumerate(lengths.items()):
        feature = np.random.default_rng(i).normal(size=(1, 12, 16)).astype(np.float32)
        np.testing.assert_array_equal(corpus.memory().fetch(corpus.ids(name))[0], feature[0, :length])


def test_plain_arrays_and_subfolders(tmp_path: Path) -> None:
    for i in range(5):
        path = tmp_path / "in" / f"part-{i % 2}" / f"{i}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, states(i)[:, 0].astype(np.float16))
    found = import_from(tmp_path / "in", tmp_path / "c")
    assert (found.codec, found.dtype) == ("float16", "float16")
    corpus = memcorpus.open(tmp_path / "c")
    assert corpus.passages(range(5))["page_id"].to_pylist() == [
        *("part-0/0", "part-0/2", "part-0/4", "part-1/1", "part-1/3")
    ]
    np.testing.assert_array_equal(corpus.memory().fetch([3])[0], states(1)[:, 0].astype(np.float16))


def test_an_import_that_was_killed_goes_on(folder: Path, tmp_path: Path) -> None:
    import_from(folder, tmp_path / "whole")
    with pytest.raises(Killed), killed_at(tmp_path / "c", 30):
        import_from(folder, tmp_path / "c")
    assert not (tmp_path / "c" / "corpus.json").exists()
    import_from(folder, tmp_path / "c")
    assert (tmp_path / "c" / "corpus.json").read_bytes() == (tmp_path / "whole" / "corpus.json").read_bytes()


def _cut(root: Path) -> None:
    path = root / "hs_1.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


BAD: list[tuple[Callable[[Path], Any], str]] = [
    (_cut, "hs_1.safetensors cannot be read"),
    (lambda root: (root / "hs_1.safetensors").write_bytes(b"rubbish"), "hs_1.safetensors cannot be read"),
    (lambda root: (root / "hs_1.safetensors").write_bytes(b""), "hs_1.safetensors cannot be read"),
    (lambda root: safetensors(root, 1, states(1)[:, :2]), "hs_1.safetensors has states of width 16, "),
    (lambda root: safetensors(root, 1, np.zeros((2, 3, 8))), "type F64, wanted float32"),
    (lambda root: safetensors(root, 1, np.zeros((0, 3, 8), np.float32)), "has no tokens"),
    (lambda root: safetensors(root, 1, np.float32([1.0])), r"shape \[1\], wanted \[tokens"),
    (lambda root: safetensors(root, 1, states(1), token_ids=np.arange(50)), "for 50 token ids"),
    (
        lambda root: save_file({"a": states(1), "b": states(1)}, root / "hs_1.safetensors"),
        "name the states by",
    ),
    (
        lambda root: safetensors(root, 1, states(1) * np.float32(np.nan)),
        "hs_1.safetensors has a value that is not finite",
    ),
    (lambda root: np.save(root / "x.npy", states(1)), "files of several forms"),
    (lambda root: safetensors(root, 1, states(1), mask=np.ones(7)), "7 places for 3 rows"),
    (lambda root: safetensors(root, 1, states(1), mask=np.zeros(3)), "its mask leaves no token"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_a_file_that_cannot_be_is_named(tmp_path: Path, spoil: Callable[[Path], Any], message: str) -> None:
    root = tmp_path / "in"
    for i in range(3):
        safetensors(root, i, states(i))
    spoil(root)
    with pytest.raises(memcorpus.CorpusError, match=message) as caught:
        import_from(root, tmp_path / "c")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "c" / "corpus.json").exists()


def test_what_is_no_folder_of_states(tmp_path: Path, command: Command) -> None:
    refused(command, ["import", tmp_path / "none", tmp_path / "c"], "is no folder")
    (tmp_path / "in").mkdir()
    refused(command, ["import", tmp_path / "in", tmp_path / "c"], "has no .safetensors, .npz, .npy files")
    (tmp_path / "in" / "data_0.pt").write_bytes(b"x")
    refused(command, ["import", tmp_path / "in", tmp_path / "c"], "data_0.pt is pickled, and is not opened")
    safetensors(tmp_path / "in", 0, states(0))
    for arguments, message in (
        (("--codec", "int9"), "unknown memory codec"),
        (("--tensor", "x"), "wanted x: name the states"),
        (("--mask", "x"), "has no mask x"),
        (("--max-tokens", "1"), "passage 0 has 2 tokens, wanted up to 1"),
    ):
        refused(command, ["import", tmp_path / "in", tmp_path / str(arguments[1]), *arguments], message)
