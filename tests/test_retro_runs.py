"""A RETRO's runs: resumed to the same bytes, a folder out; what it writes; memory from the store and live."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from encoders.memory_encoder import MemoryEncoder
from encoders.memory_spec import MemorySpec
from encoders.retro import folder as retro_folder
from encoders.retro.config import STORED
from encoders.retro.folder import RetroSettings
from encoders.retro.loss import token_losses
from encoders.retro.model import Retro
from encoders.retro.training import RetroTraining
from encoders.token_bytes import TokenBytes
from pipeline.readers.retro import chunks, encodings, generating, run, windows
from pipeline.readers.retro.chunks import ArrayChunks, ArrayTable
from pipeline.readers.retro.generating import Writer
from pipeline.readers.retro.retrieval import Retrieval
from pipeline.readers.retro.run import Run, Text
from retrieval import open_corpus
from storage import errors
from tests import small_retro
from tests.live_encodings import LiveMemory
from tests.small_models import make_llama_folder

M, WINDOW = 4, 3
COUNTS = TokenBytes(counts=np.ones(50, np.int32), unknown=None)


def text(seed: int = 0, documents: int = 12) -> tuple[ArrayChunks, ArrayTable]:
    rng = np.random.default_rng(seed)
    held = chunks.from_tokens(
        [rng.integers(3, 50, int(n)).astype(np.int32) for n in rng.integers(1, 30, documents)], M
    )
    found = rng.integers(-1, len(held), (len(held), 2))
    own = (found >= 0) & (held.first[found] == held.first[:, None])
    return held, ArrayTable(values=np.where(own, -1, found))


def retrieved(held: ArrayChunks, table: ArrayTable, mode: str = "on") -> Retrieval:
    return Retrieval(chunks=held, database=held, table=table, neighbours=2, mode=mode)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama_folder(tmp_path_factory.mktemp("retro") / "llama")


def made(tokenizer: Path, *, steps: int = 6, learns: str = "all", **changes: Any) -> Run:
    config = small_retro.config(chunk_tokens=M, neighbour_tokens=2 * M, cca_layers=(2,))
    settings = RetroSettings(config=config, window=WINDOW)
    held, table = text()
    dev, dev_table = text(1, 3)
    off = learns == "language"
    training = RetroTraining(
        steps=steps, learns=learns, warmup=2, batch=4, micro_batch=2, dropout=0.1, learning_rate=1e-3
    )
    values: dict[str, Any] = {
        "opened": retro_folder.from_nothing(tokenizer, settings),
        "training": training,
        "text": Text(chunks=held, retrieval=None if off else retrieved(held, table)),
        "dev": Text(chunks=dev, retrieval=retrieved(dev, dev_table)),
        "counts": COUNTS,
        "plan": {"steps": steps, "learns": learns},
        "every": 2,
    }
    return Run(**values | changes)


def written(out: Path) -> dict[str, bytes]:
    names = ["metrics.csv", "dev.csv", "retro/retro.safetensors", "retro/model.safetensors"]
    return {name: (out / name).read_bytes() for name in names}


def test_a_run_that_was_stopped_gives_the_same_bytes(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run.train(made(tokenizer), tmp_path / "whole")
    assert whole.resumed == 0
    step = run.RetroTrainer.step

    def fails(self: Any, *given: Any) -> Any:
        if int(self.state.step) == 5:
            raise KeyboardInterrupt
        return step(self, *given)

    monkeypatch.setattr(run.RetroTrainer, "step", fails)
    with pytest.raises(KeyboardInterrupt):
        run.train(made(tokenizer), tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "retro").exists()
    monkeypatch.setattr(run.RetroTrainer, "step", step)
    again = run.train(made(tokenizer), tmp_path / "stopped")
    assert again.resumed == 4
    assert written(tmp_path / "whole") == written(tmp_path / "stopped")
    losses = [float(line.split(",")[1]) for line in (tmp_path / "whole/metrics.csv").read_text().split()[1:]]
    assert len(losses) == 6
    assert again.loss == pytest.approx(np.mean(losses[-2:]))
    # Finished, it is left as it is; and the result is made again where it was lost.
    third = run.train(made(tokenizer), tmp_path / "stopped")
    assert third.resumed == 6
    before = written(tmp_path / "whole")
    (tmp_path / "whole" / "retro").rename(tmp_path / "aside")
    run.train(made(tokenizer), tmp_path / "whole")
    assert written(tmp_path / "whole") == before


def test_what_is_trained_is_opened_and_gives_the_dev_texts_bits(tokenizer: Path, tmp_path: Path) -> None:
    from pipeline.readers.retro import bits

    trained = run.train(made(tokenizer), tmp_path / "run")
    opened = retro_folder.open_retro(trained.folder)
    model = Retro(opened.settings.config, opened.tensor)
    dev, table = text(1, 3)
    found = [
        bits.measure(model, dev, COUNTS, retrieval=r, window=WINDOW, stride=1, rows=2).all.bits_per_byte
        for r in (retrieved(dev, table), None)
    ]
    last = (tmp_path / "run" / "dev.csv").read_text().split()[-1].split(",")
    assert [float(value) for value in last[1:]] == pytest.approx(found, rel=1e-6)
    assert found[0] != found[1]


def test_a_folder_of_another_run_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    run.train(made(tokenizer, steps=2), tmp_path / "run")
    before = written(tmp_path / "run")
    with pytest.raises(errors.MismatchError, match="learns"):
        run.train(made(tokenizer, steps=2, learns="language"), tmp_path / "run")
    assert written(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"every": 0}, "every is 0"),
        ({"learns": "language"}, "retrieval off"),
        ({"width": 8}, "of 8 tokens"),
        ({"dev": 1}, "2 chunks have no token to predict"),
        ({"text": 1}, "2 chunks have no token to predict"),
    ],
)
def test_runs_that_cannot_be(tokenizer: Path, changes: dict[str, Any], said: str) -> None:
    good = made(tokenizer)
    if "learns" in changes:
        changes = {"training": dataclasses.replace(good.training, learns="language")}
    if "width" in changes:
        other = chunks.from_tokens([np.ones(9, np.int32)], 8)
        changes = {
            "text": Text(chunks=other, retrieval=retrieved(other, ArrayTable(values=np.full((2, 2), -1))))
        }
    for name in [name for name, value in changes.items() if value == 1]:
        alone = chunks.from_tokens([np.ones(1, np.int32)] * 2, M)
        near = retrieved(alone, ArrayTable(values=np.full((2, 2), -1)))
        changes = {name: Text(chunks=alone, retrieval=near)}
    with pytest.raises(errors.CorpusError, match=said):
        dataclasses.replace(good, **changes)


def test_tokens_that_the_model_has_not_are_refused_in_training(tokenizer: Path) -> None:
    """A vocabulary may have more pieces than the model rows."""
    good = made(tokenizer)
    held, table = text()
    far = dataclasses.replace(held, values=np.where(held.values == held.values[0, 0], 50, held.values))
    for changed, said in (
        (dataclasses.replace(retrieved(held, table), database=far), "database has token 50"),
        (retrieved(far, table), "text has token 50"),
    ):
        wrong = dataclasses.replace(good, text=Text(chunks=changed.chunks, retrieval=changed))
        with pytest.raises(errors.CorpusError, match=said):
            [run._batch(wrong, step) for step in range(20)]
    model, (held, _) = model_of(), text(5)
    with pytest.raises(errors.CorpusError, match="prompt has token 50"):
        Writer(model, held, searching(held)[0]).write(np.array([3, 50], np.int32), tokens=1)


def model_of(encoding: str = "conditioned") -> Retro:
    return small_retro.make(
        small_retro.config(encoding, chunk_tokens=M, neighbour_tokens=2 * M, cca_layers=(2, 4))
    )


def greedy(
    model: Retro, prompt: list[int], count: int, found: list[list[int]], held: ArrayChunks
) -> list[int]:
    """The likeliest tokens, each by the whole row again. `found`: the neighbours of each chunk that ended."""
    graph, state = nnx.split(model)
    whole = jax.jit(lambda state, rows, near: nnx.merge(graph, state)(rows, near))
    tokens = list(prompt)
    length = -(-(len(prompt) + count) // M)
    for _ in range(count):
        ends = len(tokens) // M
        of = np.full((length, 2), -1)
        for u in range(ends):
            of[u, : len(found[u])] = found[u]
        padded = np.array(tokens + [0] * (length * M - len(tokens)), np.int32)
        text_of = ArrayChunks(
            values=padded.reshape(-1, M),
            lengths=np.full(length, M, np.int32),
            first=np.zeros(length, np.int64),
        )
        near = Retrieval(chunks=text_of, database=held, table=ArrayTable(values=of), neighbours=2)
        rows = windows.rows_of(text_of, np.arange(length)[None]).rows
        out = np.asarray(whole(state, rows, near.fetch(np.arange(length)[None])))
        tokens.append(int(out[0, len(tokens) - 1].argmax()))
    return tokens[len(prompt) :]


def searching(held: ArrayChunks) -> tuple[generating.Search, list[list[int]]]:
    """A search by the chunk's tokens alone, and what it was asked."""
    asked: list[list[int]] = []

    def search(tokens: np.ndarray) -> np.ndarray:
        asked.append(tokens.tolist())
        return np.array([int(tokens.sum()) % len(held), -1])

    return search, asked


def test_what_it_writes_is_what_the_whole_row_says() -> None:
    """Cached keys, a search at each chunk's end; the prompt ends within a chunk."""
    model, (held, _) = model_of(), text(5)
    search, asked = searching(held)
    prompt = [5, 9, 33, 7, 21, 30]
    said = Writer(model, held, search).write(np.array(prompt, np.int32), tokens=9)
    whole = prompt + said.tokens.tolist()
    # The last token is not attended to any more.
    assert asked == [whole[u * M : (u + 1) * M] for u in range((len(whole) - 1) // M)]
    assert said.neighbours == [[sum(chunk) % len(held)] for chunk in asked]
    assert said.tokens.tolist() == greedy(model, prompt, 9, said.neighbours, held)
    off = Writer(model, held, search, mode="off").write(np.array(prompt, np.int32), tokens=9)
    assert off.neighbours == []
    assert off.tokens.tolist() != said.tokens.tolist()


def test_a_search_behind_the_next_chunk_is_read_one_chunk_late_and_moved_on() -> None:
    model, (held, _) = model_of(), text(5)
    search, asked = searching(held)
    began = threading.Event()
    main = threading.get_ident()

    def behind(tokens: np.ndarray) -> np.ndarray:
        assert threading.get_ident() != main
        began.set()
        return search(tokens)

    prompt = [5, 9, 33, 7, 21, 30]
    said = Writer(model, held, behind, mode="stale").write(np.array(prompt, np.int32), tokens=12)
    assert began.is_set()
    found = [np.array([sum(chunk) % len(held)]) for chunk in asked]
    moved = [[int(n) for n in held.continuations(ids) if n >= 0] for ids in found]
    assert said.neighbours == [[], *moved[:-1]]
    assert said.tokens.tolist() == greedy(model, prompt, 12, said.neighbours, held)


def test_drawing_hangs_on_the_seed_and_an_end_ends() -> None:
    model, (held, _) = model_of(), text(5)
    search, _ = searching(held)
    prompt = np.array([5, 9], np.int32)
    drawn = [
        Writer(model, held, search).write(prompt, tokens=8, temperature=1.5, seed=seed) for seed in (0, 0, 1)
    ]
    assert drawn[0].tokens.tolist() == drawn[1].tokens.tolist()
    assert drawn[0].tokens.tolist() != drawn[2].tokens.tolist()
    third = int(drawn[0].tokens[2])
    ended = Writer(model, held, search, end=third).write(prompt, tokens=8, temperature=1.5, seed=0)
    place = drawn[0].tokens.tolist().index(third)
    assert ended.tokens.tolist() == drawn[0].tokens[: place + 1].tolist()
    with pytest.raises(errors.CorpusError, match="prompt of 0"):
        Writer(model, held, search).write(np.empty(0, np.int32), tokens=3)
    with pytest.raises(errors.CorpusError, match="shuffled"):
        Writer(model, held, search, mode="shuffled")


# Of the shared corpus: α is 1/3 of 6 layers, and passages are up to 200 words.
PLACES = 304


@pytest.fixture(scope="module")
def memory_encoder(models: Path) -> MemoryEncoder:
    return MemoryEncoder.load(models / "t5", MemorySpec(compute_dtype="float32"))


@pytest.fixture(scope="module")
def exact_corpus(settings: Any, even_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus whose memory is stored in float32."""
    from tests.jobs import build

    chosen = dataclasses.replace(settings, sources=(f"jsonl:{even_source}",), codec="float32")
    return build(chosen, tmp_path_factory.mktemp("exact") / "corpus").corpus.root


@pytest.mark.parametrize("codec", ["float32", "bfloat16"])
def test_memory_from_the_store_is_the_encoder_run_live(
    codec: str, request: pytest.FixtureRequest, memory_encoder: MemoryEncoder
) -> None:
    """The same loss to the bit, the encoder run in the batches of the store; in others, but for rounding."""
    opened = open_corpus(request.getfixturevalue("exact_corpus" if codec == "float32" else "corpus"))
    dtype = opened.memory().card.layout.codec.dtype
    assert dtype.name == codec
    stored = encodings.StoredMemory(opened.memory(), places=PLACES, encoder=memory_encoder.fingerprint)
    shard = opened.memory().card.layout.grid.shard_passages
    live = [LiveMemory(opened, memory_encoder, places=PLACES, dtype=dtype, shard=s) for s in (shard, None)]
    rng = np.random.default_rng(0)
    held, _ = text(2, 6)
    database = ArrayChunks(
        values=np.ones((len(opened), M), np.int32),
        lengths=np.full(len(opened), M, np.int32),
        first=np.arange(len(opened)) // 3 * 3,
    )
    table = ArrayTable(values=rng.integers(-1, len(opened), (len(held), 2)))
    assert (table.values[:6] >= 0).any()
    config = small_retro.config(
        STORED, chunk_tokens=M, neighbour_tokens=2 * PLACES, memory_width=stored.width, cca_layers=(2,)
    )
    model = small_retro.make(config)
    losses = []
    for source in (stored, *live):
        near = Retrieval(chunks=held, database=database, table=table, neighbours=2, encodings=source)
        window = windows.rows_of(held, np.arange(6)[None])
        found = near.fetch(window.ids)
        assert found.states is not None
        losses.append(
            np.asarray(token_losses(small_retro.logits(model, window.rows, found), window.rows.targets))
        )
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_allclose(losses[0], losses[2], rtol=1e-5)
    assert losses[0].any()


def test_memory_of_another_encoder_is_refused(corpus: Path) -> None:
    opened = open_corpus(corpus)
    with pytest.raises(errors.MismatchError, match="encoder"):
        encodings.StoredMemory(opened.memory(), places=PLACES, encoder="d" * 64)
    with pytest.raises(errors.MismatchError, match="retriever"):
        encodings.VectorMemory(opened, encoder="d" * 64)
    with pytest.raises(errors.CorpusError, match="states of memory"):
        encodings.StoredMemory(opened.memory(), places=2).fetch(np.arange(5))


def test_a_vector_is_a_memory_of_one_token(corpus: Path) -> None:
    opened = open_corpus(corpus)
    vectors = encodings.VectorMemory(opened, encoder=opened.vectors_card.encoder_fingerprint)
    ids = np.array([0, 1, 2, 7, 8, 30])
    states, real = vectors.fetch(ids)
    assert real.all()
    for place, one in enumerate(ids):
        np.testing.assert_array_equal(
            states[place, 0], opened.vectors().read(int(one), int(one) + 1)[0].astype(np.float32)
        )
    assert jnp.isfinite(states).all()
