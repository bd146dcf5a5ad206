"""A trained RETRO's encoder as a memory version: written by `reencode`, read by id, to the bit what it gives
live."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import errors as encoder_errors
from encoders.memory_spec import MemorySpec
from encoders.retro import folder as retro_folder
from encoders.retro import memory as retro_memory
from encoders.retro.folder import RetroFolder
from encoders.retro.loss import token_losses
from encoders.retro.model import Retro
from pipeline.readers.retro import encodings, opening, windows
from retrieval import open_corpus
from storage import components, errors
from storage.folder import CorpusFolder
from tests import jobs, small_models, small_retro
from tests.commands import Command, refused
from tests.live_encodings import LiveChunks
from tests.test_retro_commands import SMALL, M, build, texts

# Chunks of a row of the model.
WINDOW = 3


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.make_llama_folder(tmp_path_factory.mktemp("language") / "llama")


def saved(llama: Path, place: Path, encoding: str = "unconditioned", seed: int = 0, **changes: Any) -> Path:
    """A RETRO's folder, of weights of which every part matters."""
    language = retro_folder.read_language(llama)
    encoder = (
        {"encoder": dataclasses.replace(small_retro.ENCODER, d_model=language.d_model, **changes)}
        if encoding != "vectors"
        else {"memory_width": 16}
    )
    config = small_retro.config(
        encoding, language=language, chunk_tokens=M, neighbour_tokens=2 * M, cca_layers=(2,), **encoder
    )
    settings = retro_folder.RetroSettings(
        config=config, window=WINDOW, memory_encoder="d" * 64 if encoding == "vectors" else None
    )
    tensors = small_retro.tensors(config, seed)
    model = Retro(config, lambda name: tensors[name], stored_dtype="float32")
    retro_folder.save(model, settings, place, like=llama)
    return place


@pytest.fixture(scope="module")
def retro(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(llama, tmp_path_factory.mktemp("retro") / "retro")


@pytest.fixture(scope="module")
def text(settings: Any, llama: Path, retro: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of chunks with its neighbours, and a memory version `own` by the RETRO's encoder."""
    root = build(settings, llama, tmp_path_factory.mktemp("text"), texts(0, 20))
    jobs.neighbours(root, k=2)
    encode(root, retro, "own", codec="float32", shard_passages=16)
    return root


def encode(root: Path, retro: Path, name: str, **changes: Any) -> str:
    from pipeline.jobs.reencode import ReencodeSettings

    return jobs.reencode(root, ReencodeSettings(memory_encoder=str(retro), name=name, **changes))[1]


def states(root: Path, opened: RetroFolder, version: str | None) -> tuple[Any, Any]:
    """Rows over the whole corpus, and what is retrieved for them."""
    corpus = open_corpus(root)
    given = opening.text(corpus, opened.settings, memory=version, model=opened)
    assert given.retrieval is not None
    ids = np.arange(-(-len(corpus) // WINDOW) * WINDOW).reshape(-1, WINDOW)
    window = windows.rows_of(given.chunks, ids)
    return window.rows, given.retrieval.fetch(ids)


def test_the_store_gives_the_encoder_run_live_to_the_bit(text: Path, retro: Path) -> None:
    """Every state and every token's loss, in float32, in other batches than those of the store. The encoder
    that is part of the model's own program is the same but for rounding."""
    opened = retro_folder.open_retro(retro)
    model = Retro(opened.settings.config, opened.tensor)
    corpus = open_corpus(text)
    encoder = retro_memory.ChunkEncoder.load(retro, retro_memory.spec(opened, MemorySpec()))
    live = LiveChunks(corpus, encoder)
    rows, near = states(text, opened, "own")
    assert near.tokens is None
    real = np.asarray(near.real)
    assert 0.5 < real.any(axis=-1).mean() < 1
    given = opening.text(corpus, opened.settings, memory="own", model=opened).retrieval
    assert given is not None
    ids = np.arange(len(rows.lengths.reshape(-1))).reshape(rows.lengths.shape)
    again = dataclasses.replace(given, encodings=live).fetch(ids)
    np.testing.assert_array_equal(again.real, near.real)
    np.testing.assert_array_equal(again.states, near.states)
    few = dataclasses.replace(given, encodings=live).fetch(ids[1:2])
    np.testing.assert_array_equal(few.states, np.asarray(near.states)[1:2])
    losses = [
        np.asarray(token_losses(small_retro.logits(model, rows, found), rows.targets))
        for found in (near, again, states(text, opened, None)[1])
    ]
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_allclose(losses[0], losses[2], rtol=2e-5, atol=1e-5)
    assert losses[0].max() > 1


def test_a_chunks_states_are_of_its_continuation_too(text: Path) -> None:
    corpus = open_corpus(text)
    ids = np.arange(len(corpus))
    lengths = corpus.tokens(ids).lengths
    following = corpus.continuations(ids)
    both = lengths + np.where(following >= 0, lengths[following], 0)
    memory = corpus.memory("own")
    np.testing.assert_array_equal(memory.tokens(ids), both)
    assert (following >= 0).any()
    assert memory.card.layout.max_tokens == 2 * M
    assert memory.card.counts.tokens == both.sum()


@pytest.mark.slow
def test_what_is_evaluated_from_the_store_is_what_the_live_encoder_gives(
    command: Command, text: Path, retro: Path
) -> None:
    evaluate = ["retro", "evaluate", text, "--model", retro, "--json"]
    found = []
    for arguments in ([], ["--memory", "own"]):
        status, said, err = command(*evaluate, *arguments)
        assert status == 0, err
        found.append([json.loads(line) for line in said.splitlines()])
    for live, stored in zip(*found, strict=True):
        assert stored == {**live, "bits_per_byte": pytest.approx(live["bits_per_byte"], rel=1e-6)}
    assert found[0][0]["bits_per_byte"] != found[0][1]["bits_per_byte"]
    status, said, err = command(
        "retro", "generate", text, "The river rises", "--model", retro, "--tokens=40", "--memory", "own"
    )
    assert status == 0, err
    assert said == command("retro", "generate", text, "The river rises", "--model", retro, "--tokens=40")[1]


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "allowed"), [("bfloat16", 1e-2), ("int8", 2e-2), ("turbo4", 0.2)])
def test_codecs_apply(codec: str, allowed: float, text: Path, retro: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(text, tmp_path / "corpus"))
    encode(root, retro, codec, codec=codec)
    corpus, ids = open_corpus(root), np.arange(7)
    exact = np.asarray(corpus.memory("own").fetch(ids).values, np.float64)
    coded = np.asarray(corpus.memory(codec).fetch(ids).values, np.float64)
    off = np.linalg.norm(coded - exact) / np.linalg.norm(exact)
    assert 0 < off < allowed
    opened = retro_folder.open_retro(retro)
    rows, near = states(root, opened, codec)
    model = Retro(opened.settings.config, opened.tensor)
    losses = np.asarray(token_losses(small_retro.logits(model, rows, near), rows.targets))
    live = np.asarray(token_losses(small_retro.logits(model, *states(root, opened, None)), rows.targets))
    assert 0 < np.abs(losses - live).max() < 50 * allowed


def test_another_encoders_memory_is_refused(
    command: Command, text: Path, retro: Path, llama: Path, tmp_path: Path
) -> None:
    other = saved(llama, tmp_path / "other", seed=1)
    evaluate = ["retro", "evaluate", text, "--json", "--model"]
    refused(command, [*evaluate, other, "--memory", "own"], "encoder")
    # Memory of a T5 is none of a RETRO's encoder.
    refused(command, [*evaluate, retro, "--memory", "current"], "encoder")
    conditioned = saved(llama, tmp_path / "conditioned", "conditioned")
    refused(command, [*evaluate, conditioned, "--memory", "own"], "conditioned on the chunk", "--memory")
    # What only the language model and cross-attention have learned since changes nothing.
    opened = retro_folder.open_retro(retro)
    assert retro_memory.fingerprint_of(opened).hex == open_corpus(text).memory("own").card.encoder_fingerprint
    with pytest.raises(errors.MismatchError):
        opening.memory_of(open_corpus(text), opened.settings, "own", model=retro_folder.open_retro(other))


def test_what_cannot_be_stored_is_refused(
    command: Command, text: Path, retro: Path, llama: Path, corpus: Path, settings: Any, tmp_path: Path
) -> None:
    before = (text / "corpus.json").read_bytes()
    conditioned = saved(llama, tmp_path / "conditioned", "conditioned")
    reencode = ["reencode", text, "--memory-encoder"]
    refused(command, [*reencode, conditioned], "conditioned on the chunk", "--encoding unconditioned")
    refused(command, [*reencode, saved(llama, tmp_path / "vectors", "vectors")], "no encoder of its own")
    refused(command, [*reencode, retro, "--max-tokens", "9"], "max_tokens", "leave it out")
    refused(command, [*reencode, retro, "--live-proportion", "1/2"], "live_proportion")
    refused(command, ["reencode", corpus, "--memory-encoder", retro], "--passage-tokens")
    other = small_models.make_llama_folder(
        tmp_path / "other", texts=("Another text.", "And others."), vocab=40
    )
    refused(command, [*reencode, saved(other, tmp_path / "tokens")], "another tokenizer.json")
    assert (text / "corpus.json").read_bytes() == before


def test_it_is_verified_and_made_again(command: Command, text: Path, retro: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(text, tmp_path / "corpus"))
    status, said, err = command("verify", root, "--encoder", retro, "--version", "own", "--json")
    assert status == 0, err
    assert json.loads(said)["encoder"]["relative_error"] < 1e-6
    folder = root / components.MEMORY.folder(CorpusFolder(root).manifest.version("own"))
    shards = sorted((folder / "values" / "c").glob("*/0/0"))
    assert len(shards) > 1
    whole = shards[1].read_bytes()
    shards[1].write_bytes(whole[:20] + bytes([whole[20] ^ 1]) + whole[21:])
    assert jobs.repair(root).repaired
    assert shards[1].read_bytes() == whole


@pytest.mark.slow
def test_a_retro_is_fitted_to_what_another_has_stored(
    command: Command, text: Path, retro: Path, llama: Path, tmp_path: Path
) -> None:
    """Frozen and stored: a second RETRO reads the first's encoder and trains none."""
    out = tmp_path / "run"
    status, _, err = command(
        "retro", "train", text, "--out", out, "--model", llama, "--encoding=stored", "--memory=own", *SMALL
    )
    assert status == 0, err
    raw = json.loads((out / "retro" / "retro.json").read_text())
    assert raw["memory_encoder"] == open_corpus(text).memory("own").card.encoder_fingerprint
    assert raw["retro"]["neighbour_tokens"] == 2 * M
    evaluate = ["retro", "evaluate", text, "--model", out / "retro", "--json", "--retrieval=on"]
    status, said, err = command(*evaluate, "--memory=own")
    assert status == 0, err
    assert json.loads(said)["bits_per_byte"] > 0
    refused(command, evaluate, "encoder")


@pytest.mark.slow
def test_an_updated_corpus_is_encoded_again_segment_by_segment(
    text: Path, retro: Path, tmp_path: Path
) -> None:
    """An update leaves a RETRO's version behind, and is refused where it is the current one; documents of
    both generations are encoded then."""
    root = Path(shutil.copytree(text, tmp_path / "corpus"))
    changes = tmp_path / "changes.jsonl"
    rows = [{"id": 50 + i, "title": f"New {i}", "text": t} for i, t in enumerate(texts(5, 6))]
    changes.write_text("".join(json.dumps({"op": "upsert", **row}) + "\n" for row in rows))
    current = CorpusFolder(root).manifest.version(None)
    jobs.use(root, "own")
    with pytest.raises(errors.CorpusError, match=r"RETRO's encoder.*`reencode` behind the update"):
        jobs.update(root, f"jsonl:{changes}")
    jobs.use(root, current)
    done = jobs.update(root, f"jsonl:{changes}")
    own = CorpusFolder(root).manifest.version("own")
    assert current in done.brought
    assert own not in done.brought
    encode(root, retro, "again", codec="float32", shard_passages=16)
    corpus = open_corpus(root)
    assert corpus.generation == 1
    ids = np.asarray(corpus.passage_ids)
    assert len(ids) > len(open_corpus(text))
    opened = retro_folder.open_retro(retro)
    encoder = retro_memory.ChunkEncoder.load(retro, retro_memory.spec(opened, MemorySpec()))
    live, real = LiveChunks(corpus, encoder).fetch(ids)
    stored = encodings.padded(corpus.memory("again").fetch(ids), 2 * M)
    np.testing.assert_array_equal(stored[1], real)
    np.testing.assert_array_equal(stored[0], live)


def test_chunks_have_no_gap() -> None:
    tokens = retro_memory.ChunkEncoder.ragged
    encoder: Any = type("Encoder", (), {"max_tokens": 4})()
    values = np.array([[1, 2, 3, 4], [5, 0, 0, 0]])
    mask = np.array([[True] * 4, [True, False, False, False]])
    found = tokens(encoder, values, mask)
    assert found.ids.tolist() == [1, 2, 3, 4, 5]
    assert found.offsets.tolist() == [0, 4, 5]
    with pytest.raises(ValueError, match="gap"):
        tokens(encoder, values, mask[:, ::-1])
    with pytest.raises(encoder_errors.EncoderError, match="chunks of 3 tokens"):
        tokens(encoder, np.ones((2, 6)), np.ones((2, 6), bool))
