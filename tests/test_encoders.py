"""Encoders of transformers' that are no T5: their states, and a corpus that they wrote, kept and changed."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from encoders import errors, memory_encoders
from encoders.memory_spec import MemorySpec
from pipeline.accounts import prices
from pipeline.accounts.report import corpus_report
from pipeline.components.settings import BuildSettings
from pipeline.jobs.reencode import ReencodeSettings
from pipeline.units import engines
from retrieval import open_corpus
from storage import codecs
from storage.folder import CorpusFolder
from tests import editions, jobs
from tests.small_encoders import KINDS, LAYERS, make_encoder, own_states
from tests.small_models import TEXTS, edit_json, edit_tensor, make_t5_folder

PASSAGES = [f"title: T{i} context: {text * (1 + i % 3)}" for i, text in enumerate(TEXTS)] + ["x"]
SPEC = MemorySpec(live_proportion=None, compute_dtype="float32", token_budget=200)


def spec(**changes: Any) -> MemorySpec:
    return SPEC.changed(changes)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoders") / "bert")


@pytest.fixture(scope="module")
def modern(models: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildSettings:
    """Two layers of a ModernBERT; several shards and batches."""
    folder = tmp_path_factory.mktemp("modern")
    return BuildSettings(
        sources=(editions.write(editions.first(1, 60), folder / "first.jsonl"),),
        retriever=str(models / "gtr"),
        # Compiles nothing.
        retriever_backend="sentence-transformers",
        memory_encoder=str(make_encoder(folder / "modernbert", "modernbert", seed=3)),
        memory=spec(memory_layers="1,-1"),
        shard_passages=64,
        split_bytes=4000,
    )


@pytest.fixture(scope="module")
def built(modern: BuildSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.build(modern, tmp_path_factory.mktemp("built") / "corpus").corpus.root


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "corpus"))


def digests(root: Path) -> dict[str, str]:
    """Of a version's values, offsets and canaries."""
    files = (path for path in (root / "memory").rglob("*") if path.is_file() and path.name != "memory.json")
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", ["-1", "0,1,2"])
def test_states_are_those_of_transformers_itself(kind: str, layers: str, tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / kind, kind)
    opened = memory_encoders.open_encoder(folder, spec(memory_layers=layers, max_tokens=60))
    encoder = opened.load(device="cpu")
    tokens = encoder.tokenize(PASSAGES)
    assert len(set(tokens.lengths)) > 3
    assert tokens.cut.any()
    found = encoder.encode_texts(PASSAGES)
    wanted_layers = [LAYERS] if layers == "-1" else [0, 1, 2]
    own = own_states(folder, tokens.split(), wanted_layers)
    assert found.shape == own.shape == (len(tokens.ids), opened.width)
    assert np.abs(own).max() > 1
    np.testing.assert_allclose(found, own, atol=2e-5 * np.abs(own).max())
    if layers != "-1":
        parts = np.split(own, 3, axis=1)
        assert min(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in itertools.pairwise(parts)) > 0.1


def test_bfloat16_is_within_its_rounding(bert: Path) -> None:
    exact = memory_encoders.open_encoder(bert, SPEC).load().encode_texts(PASSAGES)
    found = memory_encoders.open_encoder(bert, spec(compute_dtype="bfloat16")).load().encode_texts(PASSAGES)
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.02


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_texts_are_cut_as_transformers_cuts_them(kind: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = make_encoder(tmp_path / kind, kind)
    own = AutoTokenizer.from_pretrained(folder)
    tokens = memory_encoders.open_encoder(folder, spec(max_tokens=24)).tokenizer()(PASSAGES)
    whole = [own(text, truncation=False)["input_ids"] for text in PASSAGES]
    wanted = [own(text, truncation=True, max_length=24)["input_ids"] for text in PASSAGES]
    assert [ids.tolist() for ids in tokens.split()] == wanted
    assert tokens.cut.tolist() == [max(0, len(ids) - 24) for ids in whole]
    assert 0 < np.count_nonzero(tokens.cut) < len(PASSAGES)


def test_threads_cut_their_own_texts_alone(bert: Path) -> None:
    """A limit is a state of the library's tokenizer, which several lanes of a worker share."""
    cut = memory_encoders.open_encoder(bert, SPEC).tokenizer()
    texts = [["river " * 400] * 40, ["river " * length for length in range(1, 90)]]
    alone = [cut(each) for each in texts]

    def again(number: int) -> bool:
        wanted, found = alone[number % 2], cut(texts[number % 2])
        return all(
            np.array_equal(getattr(wanted, name), getattr(found, name)) for name in ("ids", "offsets", "cut")
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(again, range(200)))


def test_a_table_of_positions_limits_tokens(bert: Path, tmp_path: Path) -> None:
    opened = memory_encoders.open_encoder(bert, spec(max_tokens=304))
    assert opened.memory.max_tokens == 96
    assert opened.load().tokenize(["river " * 400]).lengths.tolist() == [96]
    # RoBERTa's table begins behind the padding's row.
    roberta = make_encoder(tmp_path / "roberta", "roberta")
    pad = json.loads((roberta / "config.json").read_text())["pad_token_id"]
    encoder = memory_encoders.open_encoder(roberta, SPEC).load()
    assert encoder.max_tokens == 96 - pad - 1
    assert np.isfinite(encoder.encode_texts(["river " * 400])).all()


def test_threads_change_no_byte(bert: Path) -> None:
    encoder = memory_encoders.open_encoder(bert, SPEC).load()
    before = torch.get_num_threads()
    found = set()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.add(encoder.encode_texts(PASSAGES).tobytes())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


def test_a_device_that_is_too_small_is_asked_for_less(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder: Any = memory_encoders.open_encoder(bert, SPEC).load()
    tokens = encoder.tokenize(PASSAGES)
    wanted = encoder.encode_texts(PASSAGES)
    run = encoder.tower.run

    def small(ids: Any, mask: Any) -> Any:
        if len(ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(ids, mask)

    monkeypatch.setattr(encoder.tower, "run", small)
    most = 1
    out = np.empty((len(tokens.ids), encoder.width), np.float32)
    counts: list[int] = []
    spent = encoder.encode(tokens, out, on_batch=counts.append)
    assert spent.halved > 0
    assert sum(counts) == len(PASSAGES)
    np.testing.assert_allclose(out, wanted, atol=1e-5)
    most = 0
    with pytest.raises(errors.DeviceMemoryError, match="too little memory for one row"):
        encoder.encode(tokens, out)


@pytest.mark.parametrize("codec", ["bfloat16", "int8", "turbo4", "float16"])
def test_codes_are_the_coders(codec: str, bert: Path) -> None:
    encoder = memory_encoders.open_encoder(bert, SPEC).load()
    values = encoder.encode_texts(PASSAGES)
    found = codecs.by_name(codec)
    coder = found.bind(encoder.width, found.train(values) if found.trained else {})
    tokens = encoder.tokenize(PASSAGES)
    out = np.empty((len(tokens.ids), coder.stored_width), found.stored_dtype)
    encoder.encode(tokens, out, coder)
    np.testing.assert_array_equal(out, coder.encode(values))


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path / "llama", "llama")
    # The last norm's scale: every state of a token is as large.
    edit_tensor(folder / "model.safetensors", "norm.weight", add=1e6)
    encoder = memory_encoders.open_encoder(folder, SPEC).load()
    tokens = encoder.tokenize(PASSAGES)
    with pytest.raises(errors.UnstorableError, match=r"float16 holds up to 65504; store bfloat16 or float32"):
        encoder.encode(tokens, np.empty((len(tokens.ids), encoder.width), np.float16))


def test_fingerprints_tell_what_decides(bert: Path, tmp_path: Path) -> None:
    def hexes(folder: Path, **changes: Any) -> str:
        return memory_encoders.open_encoder(folder, spec(**changes)).fingerprint.hex

    first = hexes(bert)
    copy = Path(shutil.copytree(bert, tmp_path / "copy"))
    edit_json(copy / "config.json", _name_or_path="elsewhere", transformers_version="4")
    assert hexes(copy) == first == hexes(bert, memory_layers="2") == hexes(bert, token_budget=100)
    others = [
        hexes(bert, memory_layers="1"),
        hexes(bert, memory_layers="1,2"),
        hexes(bert, memory_layers="2,1"),
        hexes(bert, max_tokens=20),
        hexes(bert, memory_template="{text}"),
        hexes(bert, compute_dtype="bfloat16"),
    ]
    edit_json(copy / "config.json", hidden_act="relu")
    others.append(hexes(copy))
    edit_json(copy / "config.json", hidden_act="gelu")
    edit_tensor(copy / "model.safetensors", "encoder.layer.0.output.dense.weight")
    others.append(hexes(copy))
    assert len({first, *others}) == len(others) + 1


def test_the_memory_stored_is_the_states_of_transformers(built: Path, modern: BuildSettings) -> None:
    corpus = open_corpus(built)
    memory = corpus.memory()
    card = memory.card
    assert card.settings["memory_layers"] == "1,2"
    assert "live_proportion" not in card.settings
    ids = np.array([0, 70, 3, len(corpus.passage_ids) - 1])
    fetched = memory.fetch(ids)
    opened = memory_encoders.open_encoder(modern.memory_encoder, modern.memory)
    texts = [
        f"title: {row['title']} section: {row['section']} context: {row['text']}"
        for row in corpus.passages(ids).to_pylist()
    ]
    template = str(card.encoder["template"])
    texts = [
        template.format(title=row["title"], section=row["section"], text=row["text"])
        for row in corpus.passages(ids).to_pylist()
    ]
    tokens = opened.tokenizer()(texts)
    own = own_states(opened.folder, tokens.split(), [1, 2])
    np.testing.assert_array_equal(fetched.offsets, tokens.offsets)
    wanted = own.astype(ml_dtypes.bfloat16).astype(np.float32)
    # Rounded once; where the two implementations straddle a boundary, by a step.
    np.testing.assert_allclose(np.asarray(fetched.values, np.float32), wanted, rtol=2**-7, atol=1e-4)
    assert np.mean(np.asarray(fetched.values, np.float32) == wanted) > 0.99


def test_a_second_build_gives_the_same_bytes(built: Path, modern: BuildSettings, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        again = jobs.build(modern, tmp_path / "again").corpus.root
    finally:
        torch.set_num_threads(before)
    assert digests(again) == digests(built)
    assert jobs.build(modern, tmp_path / "again").already


@pytest.mark.slow
def test_two_workers_give_the_same_bytes(built: Path, modern: BuildSettings, tmp_path: Path) -> None:
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    root = jobs.build(modern, tmp_path / "two", engine=engines.chosen(None, options)).corpus.root
    assert digests(root) == digests(built)


def test_it_is_verified_and_repaired(copied: Path, modern: BuildSettings) -> None:
    assert jobs.verify(copied, full=True).ok
    found = open_corpus(copied).check_encoder(jobs.load_encoder(copied, None, None))
    assert found.relative_error < 1e-3
    wanted = digests(copied)
    shard = sorted((copied / "memory").glob("*/values/c/1/0/0"))[0]
    shard.unlink()
    assert not jobs.verify(copied, full=False).ok
    repaired = jobs.repair(copied)
    assert repaired.left == []
    assert digests(copied) == wanted
    # Another encoder is not taken for it.
    other = make_encoder(copied.parent / "other", "modernbert", seed=4)
    with pytest.raises(ValueError, match="fingerprint"):
        jobs.load_encoder(copied, str(other), None)


def test_an_update_brings_it_forward(copied: Path, modern: BuildSettings, tmp_path: Path) -> None:
    edition = editions.edited(editions.first(1, 60), 2, 0.3)
    source = editions.write(edition, tmp_path / "second.jsonl")
    updated = jobs.update(copied, source)
    corpus = open_corpus(copied)
    added = corpus.passage_ids[corpus.passage_ids >= corpus.segments[1].first]
    assert len(added) > 5
    ids = added[:4]
    memory = corpus.memory().fetch(ids)
    template = str(corpus.memory().card.encoder["template"])
    texts = [
        template.format(title=row["title"], section=row["section"], text=row["text"])
        for row in corpus.passages(ids).to_pylist()
    ]
    opened = memory_encoders.open_encoder(modern.memory_encoder, modern.memory)
    tokens = opened.tokenizer()(texts)
    own = own_states(opened.folder, tokens.split(), [1, 2])
    np.testing.assert_allclose(np.asarray(memory.values, np.float32), own, rtol=2**-7, atol=1e-4)
    assert updated is not None


def test_versions_of_several_kinds_live_in_one_corpus(corpus_copy: Path, bert: Path, models: Path) -> None:
    """A corpus that a T5 built, encoded again by a BERT in int8; and back by the T5."""
    _, version = jobs.reencode(
        corpus_copy, ReencodeSettings(memory_encoder=str(bert), codec="int8", name="bert")
    )
    corpus = open_corpus(corpus_copy)
    memory = corpus.memory("bert")
    assert memory.card.settings["memory_layers"] == "2"
    ids = np.array([5, 100, 7])
    template = str(memory.card.encoder["template"])
    texts = [
        template.format(title=row["title"], section=row["section"], text=row["text"])
        for row in corpus.passages(ids).to_pylist()
    ]
    opened = memory_encoders.open_encoder(bert, MemorySpec.from_json(memory.card.settings))
    values = opened.load().encode_texts(texts)
    fetched = np.asarray(memory.fetch(ids).values, np.float32)
    assert (np.linalg.norm(fetched - values, axis=1) <= 1.01 * memory.coder.error_bound(values) + 1e-3).all()
    assert jobs.verify(corpus_copy, full=True).ok
    assert {row["version"]: row["layers"] for row in jobs.listed(corpus_copy)}[version] == 2


@pytest.mark.slow
def test_a_t5_encodes_again_what_another_wrote(copied: Path, models: Path) -> None:
    before = jobs.listed(copied)[0]["version"]
    with pytest.raises(errors.EncoderError, match="no live-proportion given"):
        jobs.reencode(copied, ReencodeSettings(memory_encoder=str(models / "t5")))
    _, version = jobs.reencode(
        copied,
        ReencodeSettings(memory_encoder=str(models / "t5"), memory={"live_proportion": "1/2"}),
        use=True,
    )
    settings = open_corpus(copied).memory(version).card.settings
    assert settings["live_proportion"] == "1/2"
    assert "memory_layers" not in settings
    assert {row["version"]: row["layers"] for row in jobs.listed(copied)} == {before: 2, version: 3}
    report = corpus_report.corpus_report(
        CorpusFolder(copied), corpus_report.Options(prices=prices.read(None))
    )
    # α is the current version's own: the build had none.
    assert report["serving"] is not None
    assert report["serving"]["layers"] == 6


def test_what_does_not_fit_is_refused_in_a_line(
    copied: Path, bert: Path, models: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    def refused(*arguments: str | Path, words: str) -> None:
        before = digests(copied)
        status, out, err = command(*arguments)
        assert status == 2, err
        assert words in err
        assert len(err.strip().splitlines()) == 1
        assert out == ""
        assert digests(copied) == before

    reencode = ("reencode", copied, "--memory-encoder", bert)
    refused(*reencode, "--live-proportion", "1/3", words="is no T5 whose upper layers a reader runs")
    refused(*reencode, "--memory-layers", "3", words="memory layers are 3 of a model of 2: wanted 0")
    refused(*reencode, "--memory-layers", "2,-1", words="each once")
    refused(*reencode, "--memory-layers", "last", words="wanted numbers of layers with commas between")
    refused(*reencode, "--model-parallel", "2", words="runs on one device; leave out --model-parallel")
    t5 = ("reencode", copied, "--memory-encoder", models / "t5")
    refused(*t5, words="no live-proportion given; add --live-proportion")
    refused(
        *t5, "--memory-layers", "2", "--live-proportion", "1/2", words="layers are of encoders that are no"
    )
    lacking = Path(shutil.copytree(bert, tmp_path / "lacking"))
    edit_json(lacking / "config.json", num_hidden_layers=3)
    refused("reencode", copied, "--memory-encoder", lacking, words="of its weights (encoder.layer.2.")
    coded = Path(shutil.copytree(bert, tmp_path / "coded"))
    edit_json(coded / "config.json", model_type="own", auto_map={"AutoConfig": "own.Config"})
    refused("reencode", copied, "--memory-encoder", coded, words="has a configuration that cannot be read")
    adapter = Path(shutil.copytree(bert, tmp_path / "adapter"))
    (adapter / "adapter_config.json").write_text("{}")
    refused("reencode", copied, "--memory-encoder", adapter, words="holds an adapter of another model")
    pickled = Path(shutil.copytree(bert, tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    refused("reencode", copied, "--memory-encoder", pickled, words="a pickle, which is never read")


def test_a_missing_library_is_named(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_encoders, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(errors.EncoderError, match=r"torch is not installed: pip install 'memcorpus\[text\]'"):
        memory_encoders.open_encoder(bert, SPEC)


def test_plans_and_reports_know_it(
    built: Path, modern: BuildSettings, bert: Path, command: Callable[..., Any]
) -> None:
    import jsonschema

    given = ("--source", modern.sources[0], "--memory-encoder", modern.memory_encoder)
    asked = ("--memory-layers", "1,2", "--retriever", modern.retriever, "--device", "h100")
    status, out, err = command("plan", *given, *asked, "--sample", "1", "--json")
    assert status == 0, err
    plan = json.loads(out)
    root = Path(__file__).parents[1]
    jsonschema.validate(plan, json.loads((root / "docs/plan.schema.json").read_text()))
    (way,) = plan["ways"]
    true = open_corpus(built).memory().card
    assert plan["read"]["memory"]["tokens"] == true.counts.tokens
    assert (way["width"], way["layers"], way["live_proportion"]) == (64, 2, None)
    # Gated: 4 d² and three matrices of the feed-forward, in each of two layers; two FLOPs a weight.
    assert way["memory_flops"] == true.counts.tokens * 2 * 2 * (4 * 32 * 32 + 3 * 32 * 40)
    assert way["serving"] is None
    assert command("plan", *given, *asked, "--sample", "1")[0] == 0

    status, out, err = command("report", built, "--json")
    assert status == 0, err
    report = json.loads(out)
    jsonschema.validate(report, json.loads((root / "docs/report.schema.json").read_text()))
    assert report["serving"] is None
    assert report["time"][0]["encoded"]["memory_flops"] == way["memory_flops"]
    for arguments in (("report", built), ("info", built), ("versions", built), ("verify", built)):
        assert command(*arguments)[0] == 0


def test_a_reader_of_a_t5_refuses_its_memory(
    built: Path, models: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"id": "1", "input": "Where?", "output": [{"answer": "there"}]}) + "\n")
    arguments = (
        "train",
        built,
        "--model",
        make_t5_folder(tmp_path / "t5", decoder=True),
        "--out",
        tmp_path / "run",
        "--steps",
        "1",
    )
    given = ("--train", f"kilt={questions}", "--system", "lumen", "--live-proportion", "1/2")
    status, _, err = command(*arguments, *given, "--memory", "current")
    assert status == 2
    assert re.fullmatch(
        r"memcorpus: memory version \w{16} was written by encoder \w{16}, the reader has encoder \w{16}; "
        r"re-encode the corpus with it\n",
        err,
    )
