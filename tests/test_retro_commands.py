"""`memcorpus retro` on corpora of chunks: trained, judged, writing; and what does not belong together."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from encoders import fingerprint
from encoders.model_folder import find_tokenizer_files
from encoders.retro import folder as retro_folder
from encoders.retro.folder import RetroSettings
from pipeline.readers.retro import opening
from retrieval import open_corpus
from storage import errors
from tests import jobs, small_models, small_retro
from tests.commands import Command, refused

M = 16
SMALL = (
    "--encoder-width=16 --encoder-layers=1 --encoder-heads=2 --encoder-head-width=8 --cca-layers=2 "
    "--window=3 --steps=2 --every=1 --batch=2 --warmup=1 --compute-dtype=float32"
).split()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.make_llama_folder(tmp_path_factory.mktemp("language") / "llama")


def build(settings: Any, llama: Path, place: Path, texts: list[str]) -> Path:
    source = place / "texts.jsonl"
    rows = [{"id": i, "title": f"T{i}", "text": text} for i, text in enumerate(texts)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = dataclasses.replace(
        settings, sources=(f"jsonl:{source}",), passage_tokens=M, tokenizer=str(llama), codec="float32"
    )
    return jobs.build(chosen, place / "corpus").corpus.root


def texts(seed: int, count: int) -> list[str]:
    """Documents of the tokenizer's own sentences, one to three chunks long."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.permutation(small_models.TEXTS)[: rng.integers(1, 4)]) for _ in range(count)]


@pytest.fixture(scope="module")
def text(settings: Any, llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = build(settings, llama, tmp_path_factory.mktemp("text"), texts(0, 20))
    jobs.neighbours(root, k=3)
    return root


@pytest.fixture(scope="module")
def heldout(settings: Any, text: Path, llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its neighbours lie in the text."""
    root = build(settings, llama, tmp_path_factory.mktemp("heldout"), texts(1, 4))
    jobs.neighbours(text, of=root, k=3)
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def rows(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_it_is_fitted_judged_and_writes(
    command: Command, text: Path, heldout: Path, llama: Path, place: Path
) -> None:
    out = place / "run"
    arguments = ["retro", "train", text, "--out", out, "--model", llama, *SMALL, "--dev", heldout, "--json"]
    status, said, err = command(*arguments)
    assert status == 0, err
    found = json.loads(said)
    assert Path(found["retro"]) == out / "retro"
    assert found["loss"] > 0
    assert "bits per byte" in err
    # The language model is the one that was given, to the bit.
    from safetensors.numpy import load_file

    given, kept = (load_file(folder / "model.safetensors") for folder in (llama, out / "retro"))
    assert {name: tensor.tobytes() for name, tensor in given.items()} == {
        name: tensor.tobytes() for name, tensor in kept.items() if name in given
    }
    again = json.loads(command(*arguments)[1])
    assert again["resumed"] == 2
    modes = ("on", "off", "stale", "shuffled")
    status, said, err = command(
        "retro", "evaluate", heldout, "--database", text, "--model", out / "retro", "--json",
        *(f"--retrieval={mode}" for mode in modes), "--overlap=0.25", "--overlap=2",
    )  # fmt: skip
    assert status == 0, err
    judged = rows(said)
    assert [(row["retrieval"], row["overlap"]) for row in judged] == [
        (mode, share) for mode in modes for share in (None, 0.25, 2.0)
    ]
    opened = open_corpus(heldout)
    tokens = int(opened.tokens(np.arange(len(opened))).lengths.sum()) - opened.tokens_card.counts.documents
    for row in judged:
        if row["overlap"] != 0.25:
            assert (row["chunks"], row["tokens"]) == (len(opened), tokens)
    assert len({row["bits_per_byte"] for row in judged if row["overlap"] is None}) == 4
    last = (out / "dev.csv").read_text().split()[-1].split(",")
    assert float(last[1]) == pytest.approx(judged[0]["bits_per_byte"], rel=1e-5)
    assert float(last[2]) == pytest.approx(judged[3]["bits_per_byte"], rel=1e-5)
    # Bytes are those of the documents' text but for what its first tokens say, and what is lost.
    whole = sum(len(row["text"].encode()) for row in opened.passages(np.arange(len(opened))).to_pylist())
    assert 0.8 * whole < judged[0]["bytes"] < whole
    status, said, err = command("retro", "evaluate", text, "--model", out / "retro")
    assert status == 0, err
    assert said.startswith("on: ")
    for option in ("--seed=1", "--steps=3", "--read=1", "--window=2", "--retrieval=stale", "--every=2"):
        name = option[2:].partition("=")[0].replace("read", "neighbours").replace("retrieval", "mode")
        refused(command, [*arguments, option], "was begun with", name)
    prompt = "The river rises in the hills of"
    for mode, spelled, lost in (("on", "", (0, 0)), ("off", "</s> 北", (1, 1)), ("stale", "", (0, 0))):
        status, said, err = command(
            "retro", "generate", text, prompt + spelled, "--model", out / "retro",
            "--tokens=30", f"--retrieval={mode}", "--json",
        )  # fmt: skip
        assert status == 0, err
        said_of = json.loads(said)
        assert said_of["text"].startswith(prompt)
        # What a document would lose as well, the prompt does not lose in silence.
        assert (said_of["prompt"]["unknown"], said_of["prompt"]["special"]) == lost
        assert ("vocabulary lacks" in err, "special tokens" in err) == tuple(map(bool, lost))
        assert bool(said_of["neighbours"]) == (mode != "off")


@pytest.mark.parametrize("encoding", ["stored", "vectors"])
def test_it_reads_memory_and_refuses_that_of_another_encoder(
    encoding: str, command: Command, text: Path, llama: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = place / encoding
    status, _, err = command(
        "retro", "train", text, "--out", out, "--model", llama, "--encoding", encoding, *SMALL
    )
    assert status == 0, err
    settings = json.loads((out / "retro" / "retro.json").read_text())
    opened = open_corpus(text)
    wanted = opened.memory().card if encoding == "stored" else opened.vectors_card
    assert settings["memory_encoder"] == wanted.encoder_fingerprint
    evaluate = ["retro", "evaluate", text, "--model", out / "retro", "--json"]
    status, said, err = command(*evaluate)
    assert status == 0, err
    assert len({row["bits_per_byte"] for row in rows(said)}) == 2
    settings["memory_encoder"] = "d" * 64
    (out / "retro" / "retro.json").write_text(json.dumps(settings))
    refused(command, evaluate, "d" * 16)


def test_what_is_refused(
    command: Command, text: Path, corpus: Path, llama: Path, tmp_path: Path, models: Path
) -> None:
    train = ["retro", "train", text, "--out", tmp_path / "run", *SMALL]
    refused(command, train, "--model", "--tokenizer")
    refused(command, [*train, "--model", llama, "--tokenizer", llama], "--model", "--tokenizer")
    refused(command, [*train, "--model", llama, "--retrieval", "off"], "--learns language")
    refused(command, [*train, "--tokenizer", llama, "--learns", "retrieval"], "give --model")
    refused(command, [*train, "--model", models / "t5"], "model_type is 't5'")
    refused(command, [*train, "--model", llama, "--cca-layers", "first"], "wanted numbers")
    refused(command, [*train, "--model", llama, "--cca-layers", "9"], "from 1 to 3")
    refused(command, [*train, "--model", llama, "-k", "9"], "table that has 3")
    refused(command, [*train, "--model", llama, "--memory", "v1"], "conditioned on the chunk")
    own = [*train, "--model", llama, "--encoding", "unconditioned"]
    refused(command, [*own, "--memory", "current"], "is being trained")
    refused(command, ["retro", "train", corpus, *train[3:], "--model", llama], "--passage-tokens")
    refused(command, ["retro", "evaluate", text, "--model", llama], "holds no RETRO")
    # By the readers' name it is the same command.
    refused(command, ["train", text, "--system", "retro", "--out", tmp_path / "run"], "--tokenizer")
    refused(command, ["evaluate", text, "--bits-per-byte", "--model", llama], "holds no RETRO")
    other = small_models.make_llama_folder(
        tmp_path / "other", texts=("Another text.", "And others."), vocab=40
    )
    refused(command, [*train, "--model", other], "another tokenizer.json")
    assert not (tmp_path / "run").exists()


def settings_of(llama: Path, m: int = M) -> RetroSettings:
    """Of a RETRO that reads chunks of m tokens."""
    config = small_retro.config(
        language=retro_folder.read_language(llama), chunk_tokens=m, neighbour_tokens=2 * m, cca_layers=(2,)
    )
    return RetroSettings(config=config, window=3)


def test_the_own_document_is_left_out_by_whatever_path_the_database_is_named(
    text: Path, llama: Path, tmp_path: Path
) -> None:
    """Shuffled, it leaks through else: what was found for another chunk may be of this one's document."""
    (tmp_path / "link").symlink_to(text)
    copied = shutil.copytree(text, tmp_path / "copy")
    corpus, every = open_corpus(text), np.arange(len(open_corpus(text)))
    firsts = corpus.documents(every).firsts
    for database in (None, corpus, *map(open_corpus, (text, tmp_path / "link", copied))):
        given = opening.text(corpus, settings_of(llama), mode="shuffled", database=database).retrieval
        assert given is not None
        found = given.ids(every)
        assert not (firsts[np.maximum(found, 0)] == firsts[:, None])[found >= 0].any()
        let = dataclasses.replace(given, own_documents=True).ids(every)
        assert (let != found).any(), "else the case is trivial"
        near = opening.nearest(corpus, database=database)
        assert near.database is near.chunks


def saved(llama: Path, place: Path, **changes: Any) -> Path:
    """A RETRO's folder with the Llama's tokenizer."""
    settings = settings_of(llama, **changes)
    retro_folder.save(small_retro.make(settings.config), settings, place, like=llama)
    return place


def test_a_tokenizer_that_cannot_be_compared_is_refused(text: Path, llama: Path, tmp_path: Path) -> None:
    assert find_tokenizer_files(llama)
    small_models.make_sentencepiece(tmp_path)
    with pytest.raises(errors.MismatchError, match="cannot be compared"):
        opening.require_tokenizer(open_corpus(text), tmp_path)
    # Both folders have a spiece.model; chunks were cut by what stands beside that of the one.
    card = SimpleNamespace(tokenizer_files={"tokenizer.json": "a" * 64, "spiece.model": "b" * 64})
    corpus: Any = SimpleNamespace(tokens_card=card, folder=text)
    digest = fingerprint.digest_file(tmp_path / "spiece.model")
    card.tokenizer_files["spiece.model"] = digest
    with pytest.raises(errors.MismatchError, match="cannot be compared"):
        opening.require_tokenizer(corpus, tmp_path)
    del card.tokenizer_files["tokenizer.json"]
    opening.require_tokenizer(corpus, tmp_path)
    # Without tokenizer.json the others count as well.
    (tmp_path / "tokenizer_config.json").write_text("{}")
    card.tokenizer_files["tokenizer_config.json"] = "c" * 64
    with pytest.raises(errors.MismatchError, match="another tokenizer_config"):
        opening.require_tokenizer(corpus, tmp_path)


def test_chunks_of_another_size_or_tokenizer_are_refused(
    command: Command, settings: Any, text: Path, llama: Path, tmp_path: Path
) -> None:
    """Of the text, of a database, and of held-out text: ids would mean other pieces."""
    short = saved(llama, tmp_path / "short", m=8)
    for last in ((), ("--database", text), ("--retrieval=off",)):
        refused(command, ["retro", "evaluate", text, "--model", short, *last], str(text), "chunks of 16")
    refused(command, ["retro", "generate", text, "The river", "--model", short], str(text), "chunks of 16")
    retro = saved(llama, tmp_path / "retro")
    other = small_models.make_llama_folder(tmp_path / "other", texts=small_models.TEXTS[:5], vocab=60)
    root = build(settings, other, tmp_path, texts(2, 3))
    said = (str(root), "another tokenizer.json")
    for first in (("evaluate", text, "--database", root), ("evaluate", root, "--retrieval=off")):
        refused(command, ["retro", *first, "--model", retro], *said)
    refused(command, ["retro", "generate", root, "The river", "--model", retro], *said)
    train = ["retro", "train", text, "--out", tmp_path / "run", "--model", llama, *SMALL]
    refused(command, [*train, "--dev", root], *said)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--seed=-1", "seed is -1"),
        (f"--seed={1 << 32}", "below 2^32"),
        ("--learning-rate=nan", "learning_rate is nan"),
        ("--learning-rate=inf", "learning_rate is inf"),
        ("--learning-rate=0", "learning_rate is 0"),
        ("--weight-decay=inf", "weight_decay is inf"),
        ("--weight-decay=-1", "weight_decay is -1"),
        ("--dropout=1", "dropout is 1"),
        ("--dropout=nan", "dropout is nan"),
        ("--dropout=-0.1", "dropout is -0.1"),
        ("--steps=0", "0 steps"),
        ("--every=0", "every is 0"),
        ("--warmup=-1", "warm-up of -1"),
        ("--batch=0", "batch of 0"),
        ("--micro-batch=0", "micro-batches of 0"),
        ("--micro-batch=3", "micro-batches of 3"),
        ("--window=0", "window is 0"),
        ("--read=0", "neighbours is 0"),
        ("--encoder-width=0", "d_model is 0"),
        ("--cca-layers=0", "cross-attention is 0"),
        ("--dev-neighbours=one", "give --dev"),
    ],
)
def test_numbers_out_of_range_are_refused_in_training(
    option: str, said: str, command: Command, text: Path, llama: Path, tmp_path: Path
) -> None:
    train = ["retro", "train", text, "--out", tmp_path / "run", "--model", llama, *SMALL]
    refused(command, [*train, option], said)
    assert not (tmp_path / "run").exists()


def test_numbers_out_of_range_and_options_without_effect_are_refused(
    command: Command, text: Path, llama: Path, tmp_path: Path
) -> None:
    retro = saved(llama, tmp_path / "retro")
    judge = ["retro", "evaluate", text, "--model", retro]
    for options, said in (
        (["--batch=0"], "0 rows"),
        (["--window=0"], "rows of 0 chunks"),
        (["--stride=0"], "stride of 0"),
        (["--stride=4"], "wanted 1 to 3"),
        (["--window=1", "--stride=2"], "wanted 1 to 1"),
        (["--seed=-1"], "seed is -1"),
        (["-k", "0"], "0 neighbours"),
        (["--overlap=nan"], "--overlap nan"),
        (["--retrieval=off", "--memory=current"], "--memory current"),
        (["--retrieval=off", "-k", "2"], "-k 2"),
        (["--retrieval=off", "--own-documents"], "--own-documents: with"),
        (["--retrieval=off", "--neighbours=one"], "--neighbours one"),
        (["--retrieval=off", "--database", text], "--database"),
    ):
        refused(command, [*judge, *options], said)
    write = ["retro", "generate", text, "The river", "--model", retro]
    for options, said in (
        (["--tokens=0"], "0 to write"),
        (["--temperature=nan"], "temperature nan"),
        (["--temperature=-1"], "temperature -1"),
        (["--temperature=inf"], "temperature inf"),
        (["--seed=-1"], "seed is -1"),
        (["--retrieval=off", "--memory=current"], "--memory current"),
    ):
        refused(command, [*write, *options], said)
    refused(command, ["retro", "generate", text, "", "--model", retro], "prompt of 0 tokens")
    language = ["retro", "train", text, "--out", tmp_path / "run", "--tokenizer", llama, "--learns=language"]
    for option in ("--retrieval=stale", "--neighbours=one", "--memory=current"):
        refused(command, [*language, *SMALL, option], option.replace("=", " "), "nothing is retrieved")
    wide = ["retro", "train", text, "--out", tmp_path / "run", "--model", llama, *SMALL]
    refused(command, [*wide, "--shared-embedding"], "width 16", "width 32")


def test_of_no_byte_there_are_no_bits(capsys: pytest.CaptureFixture[str]) -> None:
    """As where a filter leaves no chunk."""
    from pipeline.cli.retro import _show
    from pipeline.readers.retro.bits import Sums

    _show("on", Sums(), 0.125, False)
    assert capsys.readouterr().out.startswith("on, overlap up to 0.125: no bits per byte, 0 chunks")
    _show("on", Sums(), 0.125, True)
    assert json.loads(capsys.readouterr().out)["bits_per_byte"] is None


def test_held_out_text_of_several_tables(
    command: Command, text: Path, heldout: Path, llama: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(heldout, tmp_path / "heldout")
    jobs.neighbours(text, of=root, k=2, title="two")
    train = ["retro", "train", text, "--out", tmp_path / "run", "--model", llama, *SMALL, "--dev", root]
    refused(command, train, "several tables")
    refused(command, [*train, "--dev-neighbours=two", "-k", "3"], "table that has 2")


def test_a_chunk_is_searched_as_a_passage_and_all_of_a_small_database_is_found() -> None:
    class Few:
        def __len__(self) -> int:
            return 2

        def retriever(self) -> Any:
            def encode(texts: list[str], *, role: str, dtype: str) -> Any:
                assert (texts, role) == (["3 4"], "document")
                return np.ones((1, 3), dtype)

            return SimpleNamespace(encode=encode)

        def search(self, vectors: Any, k: int) -> Any:
            assert (vectors.shape, k) == ((1, 3), 2)
            return SimpleNamespace(passage_ids=np.array([[1, 0]]))

    words: Any = SimpleNamespace(decode=lambda ids: " ".join(map(str, ids)))
    few: Any = Few()
    assert opening.searching(few, words, 5)(np.array([3, 4], np.int32)).tolist() == [1, 0]


def test_a_run_begins_from_nothing_and_its_language_model_is_read(
    command: Command, text: Path, llama: Path, place: Path
) -> None:
    shape = "--width=16 --layers=2 --heads=2 --head-width=8".split()
    first = place / "language"
    status, _, err = command(
        "retro", "train", text, "--out", first, "--tokenizer", llama, *shape, "--learns=language", *SMALL
    )
    assert status == 0, err
    # The encoder has the language model's width then, whatever that is.
    own = [option for option in SMALL if not option.startswith("--encoder-width")]
    status, _, err = command(
        "retro", "train", text, "--out", place / "fitted", "--model", first / "retro", *own,
        "--retrieval=stale", "--shared-embedding",
    )  # fmt: skip
    assert status == 0, err
    assert (first / "retro" / "model.safetensors").read_bytes() == (
        place / "fitted" / "retro" / "model.safetensors"
    ).read_bytes()
