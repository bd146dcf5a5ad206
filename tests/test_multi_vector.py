"""Multi-vector retrievers: their vectors as memory, and MaxSim from it, against sentence-transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.util import maxsim as own_maxsim

from encoders import errors, memory_encoders
from encoders.memory_spec import MemorySpec
from encoders.multi_vector import MultiVectors
from encoders.transformers_output import silenced
from pipeline.jobs.reencode import ReencodeSettings
from retrieval import maxsim, open_corpus
from storage import errors as storage_errors
from storage.ragged import RaggedMemory
from tests import jobs
from tests.serving_http import serving
from tests.small_encoders import make_encoder, make_multi_vector
from tests.small_models import TEXTS, edit_json

PASSAGES = [f"{text} ({i}), {text * (i % 3)}" for i, text in enumerate(TEXTS)] + ["x", "., ;"]
SPEC = MemorySpec(live_proportion=None, compute_dtype="float32", token_budget=200)
EXPANSION = {"strategy": "fixed", "length": 24, "attend": False}
MAKES: dict[str, dict[str, Any]] = {
    "colbert": {"prompts": {"query": "[unused0] ", "document": "passage: "}, "expansion": EXPANSION},
    "modern": {"kind": "modernbert", "document_length": None, "skip": ()},
    "plain": {"dim": None, "prompts": {"passage": "a passage: "}, "similarity": "meanmaxsim"},
    "attending": {"expansion": {**EXPANSION, "attend": True}, "skip": ("the", ".")},
}


@pytest.fixture(scope="module")
def makes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("multi")

    def make(name: str) -> Path:
        if not (folder / name).exists():
            make_multi_vector(folder / name, **MAKES[name])
        return folder / name

    return make


def own(folder: Path) -> Any:
    with silenced():
        return MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)


def loaded(folder: Path, **changes: Any) -> MultiVectors:
    found = memory_encoders.open_encoder(folder, SPEC.changed(changes)).load(device="cpu")
    assert isinstance(found, MultiVectors)
    return found


@pytest.mark.parametrize("make", MAKES)
def test_vectors_are_the_librarys(make: str, makes: Callable[[str], Path]) -> None:
    folder = makes(make)
    model, encoder = own(folder), loaded(folder)
    tokens = encoder.tokenize(PASSAGES)
    offsets = encoder.offsets(tokens)
    wanted = [v.numpy() for v in model.encode_document(PASSAGES, batch_size=3)]
    assert np.diff(offsets).tolist() == [len(v) for v in wanted]
    assert (offsets[-1] < len(tokens.ids)) == bool(MAKES[make].get("skip", (".", ",", ";")))
    np.testing.assert_allclose(encoder.encode_texts(PASSAGES), np.concatenate(wanted), atol=2e-5)
    queries = [f"{text[:30]}?" for text in TEXTS]
    for ours, theirs in zip(encoder.queries(queries), model.encode_query(queries), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-5)
    if document := MAKES[make].get("document_length", 40):
        assert encoder.max_tokens == document
        assert tokens.lengths.max() == document
        assert tokens.cut.any()
        assert loaded(folder, max_tokens=20).tokenize(PASSAGES).lengths.max() == 20


def test_threads_cut_their_own_texts_alone(makes: Callable[[str], Path]) -> None:
    """Documents and questions are cut at limits of their own, by one tokenizer."""
    encoder = loaded(makes("colbert"))
    question = encoder.queries(["Where is it?"])[0]
    documents = [text * 20 for text in PASSAGES]
    alone = encoder.tokenize(documents)

    def again(number: int) -> bool:
        if number % 4 == 0:
            return np.array_equal(encoder.queries(["Where is it?"])[0], question)
        found = encoder.tokenize(documents)
        return np.array_equal(found.ids, alone.ids) and np.array_equal(found.cut, alone.cut)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(again, range(80)))


@given(st.data())
def test_maxsim_is_its_definition(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    lengths = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=8))
    d, n = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 5))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = rng.standard_normal((int(offsets[-1]), d)).astype(np.float32)
    query = rng.standard_normal((n, d)).astype(np.float32)
    memory = RaggedMemory(passage_ids=np.arange(len(lengths)), offsets=offsets, values=values)
    wanted = [
        sum(max(float(q @ p) for p in passage) for q in query) if len(passage) else -np.inf
        for passage in memory
    ]
    np.testing.assert_allclose(maxsim.scores(query, memory), wanted, atol=1e-4)


def test_maxsim_refuses_other_dimensions() -> None:
    memory = RaggedMemory(
        passage_ids=np.arange(1), offsets=np.array([0, 2]), values=np.zeros((2, 3), np.float32)
    )
    with pytest.raises(storage_errors.CorpusError, match=r"\[4, 2\], wanted \[1 or more, 3\]"):
        maxsim.scores(np.zeros((4, 2), np.float32), memory)


@pytest.fixture(scope="module")
def reranked(corpus: Path, makes: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared corpus with two versions of a ColBERT, in float32 and int8, and one of a BERT."""
    root = Path(shutil.copytree(corpus, tmp_path_factory.mktemp("reranked") / "corpus"))
    colbert = str(makes("colbert"))
    for codec in ("float32", "int8"):
        jobs.reencode(root, ReencodeSettings(memory_encoder=colbert, codec=codec, name=f"as-{codec}"))
    bert = make_encoder(root.parent / "bert")
    jobs.reencode(root, ReencodeSettings(memory_encoder=str(bert), name="bert"))
    return root


def questions(root: Path, count: int) -> list[str]:
    corpus = open_corpus(root)
    ids = corpus.passage_ids[:: max(1, len(corpus.passage_ids) // count)][:count]
    return [" ".join(text.split()[2:9]) for text in corpus.passages(ids)["text"].to_pylist()]


def test_reranking_is_the_librarys_on_100_questions(reranked: Path, makes: Callable[[str], Path]) -> None:
    corpus, model = open_corpus(reranked), own(makes("colbert"))
    corpus.few_queries = True  # compiles nothing
    asked = questions(reranked, 100)
    assert len(asked) == 100
    k = 20
    before = corpus.search(asked, k)
    after = corpus.search(asked, k, rerank="as-float32")
    coded = corpus.search(asked, k, rerank="as-int8")
    template = str(corpus.memory("as-float32").card.encoder["template"])
    rows = corpus.passages(corpus.passage_ids).to_pylist()
    texts = [template.format(title=r["title"], section=r["section"], text=r["text"]) for r in rows]
    documents = model.encode_document(texts)
    queries = model.encode_query(asked)
    every = own_maxsim(queries, documents).numpy()
    at = {int(row["passage_id"]): place for place, row in enumerate(rows)}
    moved = 0
    for q in range(len(asked)):
        assert set(after.passage_ids[q]) == set(before.passage_ids[q])
        theirs = every[q, [at[int(i)] for i in after.passage_ids[q]]]
        np.testing.assert_allclose(after.scores[q], theirs, rtol=1e-5, atol=1e-4)
        assert (np.diff(theirs) < 1e-4).all()
        near = every[q, [at[int(i)] for i in coded.passage_ids[q]]]
        np.testing.assert_allclose(coded.scores[q], near, rtol=0.02)
        moved += int((after.passage_ids[q] != before.passage_ids[q]).any())
    assert moved > 50
    # Of more candidates the best k.
    deep = corpus.search(asked[:5], 3, rerank="as-float32", candidates=k)
    np.testing.assert_array_equal(deep.passage_ids, after.passage_ids[:5, :3])


def test_a_mean_is_over_the_questions_vectors(makes: Callable[[str], Path]) -> None:
    folder = makes("plain")
    model, encoder = own(folder), loaded(folder)
    assert encoder.similarity == "meanmaxsim"
    values = encoder.encode_texts(PASSAGES)
    offsets = encoder.offsets(encoder.tokenize(PASSAGES))
    memory = RaggedMemory(passage_ids=np.arange(len(PASSAGES)), offsets=offsets, values=values)

    class Fixed:
        def fetch(self, ids: Any) -> RaggedMemory:
            return memory

    ids = np.arange(len(PASSAGES))[None]
    ranked, scores = maxsim.rerank(encoder.queries(["river"]), ids, Fixed(), mean=True)  # type: ignore[arg-type]
    theirs = model.similarity(model.encode_query(["river"]), model.encode_document(PASSAGES))[0].numpy()
    np.testing.assert_allclose(scores[0], np.sort(theirs)[::-1], atol=1e-5)
    np.testing.assert_allclose(theirs[ranked[0]], scores[0], atol=1e-5)


def test_its_versions_are_verified_and_repaired(reranked: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(reranked, tmp_path / "corpus"))
    version = open_corpus(root).memory("as-int8").version
    assert open_corpus(root).check_encoder(jobs.load_encoder(root, None, "as-int8"), "as-int8") is not None
    shard = root / "memory" / version / "values/c/0/0/0"
    before = shard.read_bytes()
    shard.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert jobs.repair(root).left == []
    assert shard.read_bytes() == before


def test_by_the_command_line(
    reranked: Path, makes: Callable[[str], Path], command: Callable[..., Any], tmp_path: Path
) -> None:
    question = questions(reranked, 3)[1]
    wanted = open_corpus(reranked).search([question], 2, rerank="as-int8", candidates=9)
    options = ("-k", "2", "--rerank", "as-int8", "--candidates", "9")
    moved = Path(shutil.copytree(makes("colbert"), tmp_path / "moved"))
    for given_ in (options, (*options, "--reranker", moved)):
        status, out, err = command("search", reranked, question, *given_, "--json")
        assert status == 0, err
        found = json.loads(out)["passages"]
        assert [p["passage_id"] for p in found] == wanted.passage_ids[0].tolist()
        assert found[0]["score"] == pytest.approx(float(wanted.scores[0, 0]), rel=1e-5)
    for given_, words in (
        (("--rerank", "bert"), "holds no vectors of a multi-vector retriever"),
        (("--rerank", "current"), "holds no vectors of a multi-vector retriever"),
        (("--rerank", "none"), "none"),
        (("--candidates", "9"), "candidates are passages to be reranked"),
        (("--rerank", "as-int8", "-k", "5", "--candidates", "3"), "candidates is 3, wanted 5 or more"),
        (("--rerank", "as-int8", "--reranker", makes("plain")), "is not the one that wrote memory version"),
        (("--reranker", moved), "add --rerank VERSION"),
    ):
        status, out, err = command("search", reranked, question, *given_)
        assert status == 2, err
        assert words in err
        assert out == ""
    corpus = open_corpus(reranked)
    vectors = np.ones((1, corpus.vectors().layout.dim), np.float32)
    with pytest.raises(storage_errors.CorpusError, match="queries are vectors, wanted texts"):
        corpus.search(vectors, 2, rerank="as-int8")


def test_what_makes_no_memory_is_refused(makes: Callable[[str], Path], tmp_path: Path) -> None:
    pooled = make_multi_vector(tmp_path / "pooled", pooling=True)
    with pytest.raises(errors.EncoderError, match="HierarchicalTokenPooling"):
        memory_encoders.open_encoder(pooled, SPEC)
    skipping = make_multi_vector(tmp_path / "skipping", skip=("[CLS]", "[SEP]"))
    with pytest.raises(errors.EncoderError, match="a skip list with its special tokens"):
        memory_encoders.open_encoder(skipping, SPEC).load()
    with pytest.raises(errors.EncoderError, match="whose vectors are the memory; leave out --memory-layers"):
        memory_encoders.open_encoder(makes("plain"), SPEC.changed({"memory_layers": "1"}))
    with pytest.raises(errors.EncoderError, match="is no T5"):
        memory_encoders.open_encoder(makes("plain"), MemorySpec())
    lacking = Path(shutil.copytree(makes("plain"), tmp_path / "lacking"))
    edit_json(lacking / "config.json", num_hidden_layers=3)
    with pytest.raises(errors.EncoderError, match=r"lacks 16 of its weights"):
        memory_encoders.open_encoder(lacking, SPEC).require_loadable()


def test_fingerprints_tell_what_decides(makes: Callable[[str], Path], tmp_path: Path) -> None:
    def hexes(folder: Path, **changes: Any) -> str:
        return memory_encoders.open_encoder(folder, SPEC.changed(changes)).fingerprint.hex

    first = hexes(makes("colbert"))
    copy = Path(shutil.copytree(makes("colbert"), tmp_path / "copy"))
    edit_json(copy / "config_sentence_transformers.json", __version__={"torch": "9"})
    assert hexes(copy) == first
    found = {first, hexes(copy, max_tokens=20), hexes(copy, memory_template="{text}")}
    edit_json(copy / "2_MultiVectorMask" / "config.json", skiplist_words=["."])
    found.add(hexes(copy))
    edit_json(copy / "config_sentence_transformers.json", prompts={"query": "", "document": ""})
    found.add(hexes(copy))
    assert len(found) == 5


def test_stanfords_colbert(tmp_path: Path) -> None:
    """A BERT under "bert." with its projection beside it, and `artifact.metadata`, as colbert-ir's are."""
    from safetensors.torch import load_file, save_file

    folder = make_encoder(tmp_path / "stanford", "bert")
    tensors = {f"bert.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors["linear.weight"] = torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    edit_json(folder / "config.json", architectures=["HF_ColBERT"])
    (folder / "artifact.metadata").write_text(json.dumps({"doc_maxlen": 30, "query_maxlen": 12}))
    encoder, model = loaded(folder), own(folder)
    assert (encoder.width, encoder.max_tokens) == (16, 30)
    wanted = torch.cat(model.encode_document(PASSAGES)).numpy()
    np.testing.assert_allclose(encoder.encode_texts(PASSAGES), wanted, atol=2e-5)
    (vectors,) = encoder.queries(["river?"])
    assert len(vectors) == 12


def test_a_client_of_a_service_reranks_with_a_model_of_its_own(
    reranked: Path, makes: Callable[[str], Path]
) -> None:
    question = questions(reranked, 3)[:2]
    wanted = open_corpus(reranked).search(question, 3, rerank="as-int8", candidates=8)
    with serving(reranked) as served:
        remote = open_corpus(served.url)
        with pytest.raises(storage_errors.CorpusError, match="it is not known where the retriever"):
            remote.search(question, 3, rerank="as-int8")
        remote.reranker("as-int8", encoder=str(makes("colbert")))
        found = remote.search(question, 3, rerank="as-int8", candidates=8)
    np.testing.assert_array_equal(found.passage_ids, wanted.passage_ids)
    np.testing.assert_array_equal(found.scores, wanted.scores)
