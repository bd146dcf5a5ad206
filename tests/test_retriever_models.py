"""Retrievers of any make against sentence-transformers: vectors, prompts, limits, similarity, counts."""

from __future__ import annotations

import itertools
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

from encoders import ModelFolderError
from encoders.memory_spec import MemorySpec
from encoders.retriever import BACKENDS, JAX, SENTENCE_TRANSFORMERS, Retriever, default_backend
from encoders.retriever_folder import COSINE, DOCUMENT, DOT, EUCLIDEAN, QUERY, ROLES, open_folder
from encoders.template import PassageTemplate
from encoders.tokenizing import Read, Tokenizer, unknown_id
from encoders.transformers_output import silenced
from pipeline.components.settings import BuildSettings
from retrieval import open_corpus
from storage.components import vectors as vectors_card
from tests import jobs, small_models, small_retrievers
from tests.small_retrievers import SHAPES, make_retriever

# Long ones beyond every limit here; scripts that the vocabularies know little or nothing of.
TEXTS = [
    "Tea",
    small_models.TEXTS[0],
    "",
    "Вікіпедія є загальнодоступною вільною енциклопедією, яку може редагувати кожен",
    " ".join(small_models.TEXTS),
    "東京は日本の首都である。人口は約1400万人。",
    "서울은 대한민국의 수도이다",
    "Київ 京都 부산 river",
    " ".join(reversed(small_models.TEXTS)),
]
PROMPTS = {QUERY: "ask: ", DOCUMENT: "tell us of "}


def library(folder: Path) -> SentenceTransformer:
    with silenced():
        return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32}).float()


def theirs(model: SentenceTransformer, texts: list[str], role: str) -> np.ndarray:
    """Each text alone."""
    encode = model.encode_query if role == QUERY else model.encode_document
    return np.concatenate([encode([text], show_progress_bar=False) for text in texts])


def counted(folder: Path, texts: list[str], limit: int, prompt: str) -> Read:
    """By transformers' own tokenizer: each text whole, and as it is cut."""
    with silenced():
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        whole = [tokenizer(prompt + text, verbose=False)["input_ids"] for text in texts]
        kept = [tokenizer(prompt + text, truncation=True, max_length=limit)["input_ids"] for text in texts]
    lost = [len(a) - len(b) for a, b in zip(whole, kept, strict=True)]
    special = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    unknown = {tokenizer.unk_token_id} - special - {None}
    return Read(
        texts=len(texts),
        tokens=sum(map(len, kept)),
        texts_cut=sum(n > 0 for n in lost),
        tokens_cut=sum(lost),
        tokens_unknown=sum(sum(token in unknown for token in ids) for ids in kept),
    )


def check(folder: Path, *, limit: int = small_retrievers.LENGTH) -> dict[str, Read]:
    """Vectors of both roles are the library's, and what is said to have been read was."""
    model = library(folder)
    opened = open_folder(folder)
    found: dict[str, Read] = {}
    for role in ROLES:
        reads: list[Read] = []
        loaded = Retriever.load(folder, device="cpu", batch_size=4)
        got = loaded.encode(TEXTS, role=role, on_read=reads.append)
        expected = theirs(model, TEXTS, role)
        assert got.shape == expected.shape == (len(TEXTS), opened.dim)
        np.testing.assert_allclose(got, expected, atol=2e-5, rtol=1e-5)
        # Not trivial: texts differ.
        assert np.linalg.norm(got[0] - got[1]) > 0.05 * np.linalg.norm(got[0])
        found[role] = sum(reads, Read())
        assert found[role] == counted(folder, TEXTS, limit, opened.prompts[role])
    return found


@pytest.mark.parametrize("kind", SHAPES)
def test_every_make_is_as_its_library_has_it(tmp_path: Path, kind: str) -> None:
    folder = make_retriever(tmp_path / "model", kind, prompts=PROMPTS)
    read = check(folder)[DOCUMENT]
    assert read.texts_cut >= 2
    assert read.tokens_cut > 100
    # Byte-level vocabularies know everything, however their folders name the end of a text.
    known = kind in ("roberta", "modernbert", "qwen2", "qwen3", "llama", "mistral") or kind.startswith(
        "gemma"
    )
    assert (read.tokens_unknown == 0) == known
    assert open_folder(folder).similarity == DOT


@pytest.mark.parametrize(
    ("pooling", "dim"),
    [
        ("cls", 32),
        ("max", 32),
        ("weightedmean", 32),
        ("lasttoken", 32),
        (("cls", "mean"), 64),
        (("mean_sqrt_len_tokens", "max", "mean"), 96),
    ],
)
@pytest.mark.parametrize("include_prompt", [True, False])
def test_poolings(tmp_path: Path, pooling: Any, dim: int, include_prompt: bool) -> None:
    kind = "qwen3" if pooling == "lasttoken" else "bert"
    folder = make_retriever(
        tmp_path / "model", kind, pooling=pooling, include_prompt=include_prompt, prompts=PROMPTS
    )
    check(folder)
    assert open_folder(folder).dim == dim


def test_dense_normalize_and_half_weights(tmp_path: Path) -> None:
    folder = make_retriever(tmp_path / "model", "xlm-roberta", dense=20, dtype="float16", prompts=PROMPTS)
    check(folder)
    plain = make_retriever(tmp_path / "plain", "xlm-roberta", dense=20, normalize=False)
    check(plain)
    assert (open_folder(folder).dim, open_folder(plain).dim) == (20, 20)
    assert (open_folder(folder).similarity, open_folder(plain).similarity) == (DOT, COSINE)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("prompts", "default"),
    [
        ({}, None),
        ({"query": "query: "}, None),
        ({"query": "query: ", "document": "passage: "}, None),
        ({"query": "query: ", "passage": "passage: "}, None),
        ({"query": "", "document": "title: none | text: "}, None),
        ({"query": "query: ", "document": ""}, "query"),
        ({"clustering": "cluster: "}, "clustering"),
        ({"corpus": "corpus: "}, "query"),
    ],
)
def test_prompts_are_the_librarys(
    tmp_path: Path, backend: str, prompts: dict[str, str], default: str | None
) -> None:
    folder = small_models.make_gtr_folder(tmp_path / "gtr")
    small_models.edit_json(
        folder / "config_sentence_transformers.json", prompts=prompts, default_prompt_name=default
    )
    assert default_backend(open_folder(folder)) == JAX
    model = library(folder)
    loaded = Retriever.load(folder, backend=backend, device="cpu")
    vectors = {}
    for role in ROLES:
        reads: list[Read] = []
        vectors[role] = loaded.encode(TEXTS, role=role, on_read=reads.append)
        np.testing.assert_allclose(vectors[role], theirs(model, TEXTS, role), atol=1e-5)
        assert sum(reads, Read()) == counted(folder, TEXTS, 64, open_folder(folder).prompts[role])
    same = prompts.get("query", "") == prompts.get("document", "")
    assert (np.abs(vectors[QUERY] - vectors[DOCUMENT]).max() < 1e-6) == same


def test_prompts_that_are_used_are_in_the_fingerprint(tmp_path: Path) -> None:
    """And those of folders that have none are as they were."""
    folder = small_models.make_gtr_folder(tmp_path / "gtr")
    file = folder / "config_sentence_transformers.json"
    assert not {"prompts_used", "similarity", "truncate_dim"} & set(
        open_folder(folder).fingerprint.description
    )
    seen = {open_folder(folder).fingerprint.hex}
    for changes in (
        {"prompts": {"query": "a", "document": ""}},
        {"prompts": {"query": "", "document": "a"}},
        {"truncate_dim": 8},
        {"truncate_dim": 8, "similarity_fn_name": "dot"},
        {"truncate_dim": 8, "similarity_fn_name": "euclidean"},
    ):
        small_models.edit_json(file, prompts={}, truncate_dim=None, similarity_fn_name="cosine")
        small_models.edit_json(file, **changes)
        seen.add(open_folder(folder).fingerprint.hex)
    assert len(seen) == 6


@pytest.mark.parametrize("backend", BACKENDS)
def test_dimensions_that_are_left_off(tmp_path: Path, backend: str) -> None:
    folder = small_models.make_gtr_folder(tmp_path / "gtr")
    file = folder / "config_sentence_transformers.json"
    small_models.edit_json(file, truncate_dim=10)
    opened = open_folder(folder)
    # What is left is not of length 1 any more.
    assert (opened.dim, opened.similarity) == (10, COSINE)
    loaded = Retriever.load(folder, backend=backend, device="cpu")
    np.testing.assert_allclose(loaded.encode(TEXTS), theirs(library(folder), TEXTS, DOCUMENT), atol=1e-5)
    small_models.edit_json(file, truncate_dim=24)
    assert (open_folder(folder).dim, open_folder(folder).similarity) == (24, DOT)


@pytest.mark.parametrize(
    ("kind", "own", "tokenizers", "limit"),
    [
        ("bert", None, None, 96),  # the table of positions
        ("bert", None, 40, 40),
        ("bert", 30, 20, 30),  # the Transformer's own comes before the tokenizer's
        ("bert", 200, None, 96),
        ("xlm-roberta", None, None, 94),  # its positions begin at 2
        ("qwen3", 48, None, 48),
    ],
)
def test_limits_are_the_librarys(
    tmp_path: Path, kind: str, own: int | None, tokenizers: int | None, limit: int
) -> None:
    folder = make_retriever(tmp_path / "model", kind, max_seq_length=None)
    small_models.edit_json(folder / "sentence_bert_config.json", max_seq_length=own)
    small_models.edit_json(folder / "tokenizer_config.json", model_max_length=tokenizers)
    assert open_folder(folder).max_tokens == limit
    if own != 200 and kind != "xlm-roberta":  # of which the library would read beyond the table
        check(folder, limit=limit)
    reads: list[Read] = []
    Retriever.load(folder, device="cpu").encode(TEXTS, on_read=reads.append)
    assert sum(reads, Read()) == counted(folder, TEXTS, limit, "")


def test_counting_looks_again_at_long_texts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_retriever(tmp_path / "model")
    loaded = Retriever.load(folder, device="cpu", batch_size=2)
    tower: Any = loaded._tower
    again: list[int] = []
    preprocess = tower.model.preprocess

    def watched(texts: list[str], **options: Any) -> Any:
        if "processing_kwargs" in options:
            again.append(len(texts))
        return preprocess(texts, **options)

    monkeypatch.setattr(tower.model, "preprocess", watched)
    loaded.encode(TEXTS)
    assert again == []  # whoever counts nothing pays nothing
    loaded.encode(TEXTS, on_read=lambda _: None)
    assert 0 < sum(again) < len(TEXTS)


def test_threads_embed_and_count_their_own_texts_alone(tmp_path: Path) -> None:
    folder = make_retriever(tmp_path / "model")
    loaded = Retriever.load(folder, device="cpu", batch_size=2)
    texts = [text * 30 for text in TEXTS]

    def embedded(count: bool) -> tuple[Any, Read]:
        reads: list[Read] = []
        return loaded.encode(texts, on_read=reads.append if count else None), sum(reads, Read())

    alone = embedded(True)

    def again(number: int) -> bool:
        vectors, read = embedded(bool(number % 2))
        return np.allclose(vectors, alone[0], atol=1e-6) and read in (Read(), alone[1])

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(again, range(60)))


def test_unknown_ids_are_asked_of_the_vocabulary(tmp_path: Path) -> None:
    made = {kind: small_retrievers.tokenizer_of(kind) for kind in ("bert", "albert", "qwen3", "modernbert")}
    found = {kind: unknown_id(tokenizer) for kind, tokenizer in made.items()}
    assert found == {
        "bert": made["bert"].unk_token_id,
        "albert": made["albert"].unk_token_id,
        "qwen3": None,
        "modernbert": None,
    }
    assert made["modernbert"].unk_token_id == made["modernbert"].eos_token_id == 0
    # A folder that does not name the one there is.
    made["bert"].unk_token = None
    made["bert"].save_pretrained(tmp_path / "bert")
    assert unknown_id(AutoTokenizer.from_pretrained(str(tmp_path / "bert"))) == found["bert"]
    small_models.make_tokenizer(tmp_path / "t5")
    (tmp_path / "t5" / "config.json").write_text('{"model_type": "t5"}')
    assert Tokenizer(tmp_path / "t5", max_tokens=9).unknown == 2


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config_sentence_transformers.json", {"similarity_fn_name": "manhattan"}, "no index for it here"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "is of a SparseEncoder"),
        ("config_sentence_transformers.json", {"default_prompt_name": "x"}, "names the default prompt 'x'"),
        ("config_sentence_transformers.json", {"prompts": {"query": 3}}, "wanted a text by name"),
        ("config_sentence_transformers.json", {"truncate_dim": 0}, "wanted 1 or more dimensions"),
        ("config.json", {"model_type": "strange", "auto_map": {"AutoModel": "a.B"}}, "never run here"),
        ("2_Dense/config.json", {"activation_function": "theirs.Swish"}, "has the activation 'theirs.Swish'"),
        ("2_Dense/config.json", {"out_features": 19}, "cannot be loaded as a retriever"),
        ("1_Pooling/config.json", {"embedding_dimension": None}, "how many dimensions"),
    ],
)
def test_what_is_refused(tmp_path: Path, file: str, changes: dict[str, Any], message: str) -> None:
    folder = make_retriever(tmp_path / "model", dense=20)
    small_models.edit_json(folder / file, **changes)
    with pytest.raises(ModelFolderError) as error:
        Retriever.load(folder, device="cpu")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_adapters_are_refused(tmp_path: Path) -> None:
    folder = make_retriever(tmp_path / "model")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelFolderError, match="an adapter of another model"):
        open_folder(folder)


def test_a_vocabulary_without_tokenizer_json(tmp_path: Path) -> None:
    """As older BERT folders have it; it is in the fingerprint."""
    folder = make_retriever(tmp_path / "model")
    vectors = Retriever.load(folder, device="cpu").encode(TEXTS[:2])
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelFolderError, match=r"has neither tokenizer\.json nor spiece\.model"):
        open_folder(folder).fingerprint  # noqa: B018
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in vocabulary))
    small_models.edit_json(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    np.testing.assert_allclose(Retriever.load(folder, device="cpu").encode(TEXTS[:2]), vectors, atol=1e-6)
    before = open_folder(folder).fingerprint.hex
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in reversed(vocabulary)))
    assert open_folder(folder).fingerprint.hex != before


def test_storage_and_encoders_have_one_word_for_a_similarity() -> None:
    assert {DOT, COSINE, EUCLIDEAN} == set(vectors_card.SIMILARITIES)
    assert (DOT, COSINE, EUCLIDEAN) == (vectors_card.DOT, vectors_card.COSINE, vectors_card.EUCLIDEAN)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Passages of different lengths, of words in any order."""
    words = " ".join(small_models.TEXTS).split()
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("source") / "pages.jsonl"
    rows = (
        {"id": i, "title": f"T{i}", "text": " ".join(rng.choice(words, size=3 + i % 60))} for i in range(150)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def build_settings(models: Path, source: Path, retriever: Path) -> BuildSettings:
    return BuildSettings(
        sources=(f"jsonl:{source}",),
        retriever=str(retriever),
        memory_encoder=str(models / "t5"),
        memory=MemorySpec(compute_dtype="float32"),
        shard_passages=128,
    )


@pytest.mark.parametrize(
    ("kind", "options", "similarity"),
    [
        ("mpnet", {"normalize": False}, COSINE),
        ("xlm-roberta", {"dense": 20, "prompts": PROMPTS}, DOT),
        ("modernbert", {"normalize": False, "similarity_fn_name": "dot"}, DOT),
        ("qwen3", {"pooling": "lasttoken", "prompts": PROMPTS, "truncate_dim": 12}, COSINE),
        ("bert", {"normalize": False, "similarity_fn_name": "euclidean", "prompts": PROMPTS}, EUCLIDEAN),
        ("gtr", {"normalize": False}, COSINE),
    ],
)
def test_a_corpus_is_searched_as_the_library_would(
    models: Path, source: Path, tmp_path: Path, kind: str, options: dict[str, Any], similarity: str
) -> None:
    if kind == "gtr":
        folder = small_models.make_gtr_folder(tmp_path / "model", **options)
    else:
        folder = make_retriever(tmp_path / "model", kind, **options)
    settings = build_settings(models, source, folder)
    corpus = open_corpus(jobs.build(settings, tmp_path / "corpus").corpus.root)
    assert corpus.vectors_card.similarity == similarity
    table = corpus.passages(range(len(corpus)))
    texts = PassageTemplate(settings.retriever_template).render_rows(table.to_pylist())
    model = library(folder)
    documents = theirs(model, texts, DOCUMENT)
    np.testing.assert_allclose(corpus.vectors().read(0, 150), documents, atol=2e-5, rtol=1e-5)
    questions = ["where is Glasgow", "who published four papers", "tea and whales", "x"]
    exact = model.similarity(theirs(model, questions, QUERY), documents).numpy().astype(np.float64)
    for found in (corpus.search(questions, 10), corpus.search(theirs(model, questions, QUERY), 10)):
        best = -np.sort(-exact, axis=1)[:, :10]
        scale = np.abs(best).max()
        np.testing.assert_allclose(found.scores, best, atol=2e-5 * scale)
        np.testing.assert_allclose(
            np.take_along_axis(exact, found.passage_ids, axis=1), best, atol=2e-5 * scale
        )
    if similarity != DOT:
        # Not trivial: inner products would find others.
        inner = np.argsort(-(theirs(model, questions, QUERY) @ documents.T), axis=1)[:, :10]
        assert any(set(a) != set(b) for a, b in zip(inner, found.passage_ids, strict=True))
    assert corpus.index_card.recall_at_10 == 1.0


def test_a_search_by_other_prompts_is_refused(models: Path, source: Path, tmp_path: Path) -> None:
    """Vectors that were made without the prompts are not asked with them."""
    folder = Path(shutil.copytree(models / "gtr", tmp_path / "gtr"))
    settings = build_settings(models, source, folder)
    corpus = open_corpus(jobs.build(settings, tmp_path / "corpus").corpus.root)
    corpus.search("tea", 1)
    small_models.edit_json(folder / "config_sentence_transformers.json", prompts=PROMPTS)
    with pytest.raises(ValueError, match="they differ in prompts"):
        open_corpus(tmp_path / "corpus").search("tea", 1)


def test_backends_of_every_make(tmp_path: Path) -> None:
    """JAX runs T5 alone."""
    for kind, seed in itertools.product(("bert", "qwen3"), (0,)):
        folder = make_retriever(tmp_path / kind, kind, seed=seed)
        assert default_backend(open_folder(folder)) == SENTENCE_TRANSFORMERS


@pytest.mark.parametrize("kind", ["bert", "gtr", "qwen3"])
def test_weights_that_are_missing_are_not_made_up(tmp_path: Path, kind: str) -> None:
    """The library would start them at random, other ones each time, without a word that is seen."""
    if kind == "gtr":
        folder = small_models.make_gtr_folder(tmp_path / "model")
    else:
        folder = make_retriever(tmp_path / "model", kind)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    # Under the name of the whole model, as published folders have it, they are found.
    save_file({f"bert.{n}" if kind == "bert" else n: t for n, t in tensors.items()}, file, {"format": "pt"})
    Retriever.load(folder, backend=SENTENCE_TRANSFORMERS, device="cpu")
    # What nobody reads may be missing.
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}
    assert (len(kept) < len(tensors)) == (kind == "bert")
    save_file(kept, file, {"format": "pt"})
    Retriever.load(folder, backend=SENTENCE_TRANSFORMERS, device="cpu")
    gone = next(name for name in sorted(kept) if name.endswith(("query.weight", "q.weight", "q_proj.weight")))
    del kept[gone]
    save_file(kept, file, {"format": "pt"})
    with pytest.raises(ModelFolderError, match="lacks 1 of its weights") as error:
        Retriever.load(folder, backend=SENTENCE_TRANSFORMERS, device="cpu")
    assert gone in str(error.value)
