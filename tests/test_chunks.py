"""Chunk corpora: tokens are the tokenizer's own of the whole document, cut in runs; their texts are it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from encoders.document_tokenizer import DocumentTokenizer
from encoders.model_folder import ModelFolderError
from pipeline.accounts.plan import from_source
from pipeline.components.passages import cut
from pipeline.components.settings import BuildSettings
from pipeline.text import chunks, passages, sources, words
from pipeline.text.articles import Article, Section
from pipeline.units import engines
from retrieval import Corpus, neighbours, open_corpus
from retrieval.documents import TableOrdinals, documents
from storage import components, errors, passage_table
from storage.components.tokens import TokensLayout, foretold_bytes
from storage.folder import CorpusFolder
from storage.passage_table import PassageTable
from tests import jobs, small_models
from tests.commands import Command, refused

M = 16


@pytest.fixture(scope="module")
def chunk_settings(settings: BuildSettings, tokenizer_folder: Path) -> BuildSettings:
    return replace(settings, passage_tokens=M, tokenizer=str(tokenizer_folder), split_bytes=20_000)


@pytest.fixture(scope="module")
def built(chunk_settings: BuildSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.build(chunk_settings, tmp_path_factory.mktemp("chunks") / "corpus").corpus.root


@pytest.fixture(scope="module")
def opened(built: Path) -> Corpus:
    return open_corpus(built)


def rows_by_document(corpus: Corpus) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = []
    for row in corpus.passages(np.arange(len(corpus))).to_pylist():
        if row["ordinal"] == 0:
            found.append([])
        found[-1].append(row)
    return found


def oracle_tokens(folder: Path, text: str) -> list[int]:
    """Transformers' own, special tokens left out."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    unknown = tokenizer.unk_token_id
    special = set(tokenizer.all_special_ids) - {unknown}
    return [i for i in tokenizer(text, add_special_tokens=False)["input_ids"] if i not in special]


def test_tokens_are_those_of_the_whole_document_in_runs(opened: Corpus, tokenizer_folder: Path) -> None:
    documents = rows_by_document(opened)
    assert len(documents) > 100
    assert max(map(len, documents)) > 3
    at = tokens = unknown = 0
    for rows in documents:
        wanted = oracle_tokens(tokenizer_folder, "".join(row["text"] for row in rows))
        found = opened.tokens(np.arange(at, at + len(rows)))
        assert found.values[found.mask].tolist() == wanted
        assert found.lengths[:-1].tolist() == [M] * (len(rows) - 1)
        assert 1 <= found.lengths[-1] <= M
        assert not found.values[~found.mask].any()
        at, tokens, unknown = at + len(rows), tokens + len(wanted), unknown + wanted.count(2)
    counts = opened.tokens_card.counts
    assert (at, tokens, unknown, len(documents)) == (
        len(opened), counts.tokens, counts.unknown, counts.documents,
    )  # fmt: skip
    assert opened.counts["kept"] == len(documents)
    assert unknown > 0


def test_ranges_of_documents_are_those_of_the_ordinals(opened: Corpus) -> None:
    ordinal = opened.passages(np.arange(len(opened))).column("ordinal").to_numpy()
    begins = np.append(np.flatnonzero(ordinal == 0), len(opened))
    place = np.searchsorted(begins, np.arange(len(opened)), side="right") - 1
    ids = np.random.default_rng(0).permutation(len(opened))
    found = opened.documents(ids)
    np.testing.assert_array_equal(found.firsts, begins[place[ids]])
    np.testing.assert_array_equal(found.stops, begins[place[ids] + 1])
    one = opened.documents([len(opened) - 1])
    assert one.stops.tolist() == [len(opened)]
    # The same without the array, out of the passage table.
    table = PassageTable(opened.root, opened.folder.passages.parts)
    again = documents(TableOrdinals(table), ids)
    np.testing.assert_array_equal(again.stops, found.stops)


def test_a_continuation_never_crosses_a_document(opened: Corpus) -> None:
    """Megatron's defect 2: id + 1, whatever document that is."""
    ordinal = opened.passages(np.arange(len(opened))).column("ordinal").to_numpy()
    ends = np.append(ordinal[1:] == 0, True)
    wanted = np.where(ends, -1, np.arange(len(opened)) + 1)
    ids = np.arange(-1, len(opened)).reshape(-1, 1)
    np.testing.assert_array_equal(opened.continuations(ids)[:, 0], np.append(-1, wanted))
    assert ends.sum() > 100


def test_none_is_masked_and_never_the_last_chunk(opened: Corpus) -> None:
    """Megatron's defects 1 and 3: -1 becomes the last chunk, and padding counts as text."""
    last = len(opened) - 1
    found = neighbours.retrieved(opened, [[-1, last], [0, -1]])
    assert found.values.shape == (2, 2, 2 * M)
    assert not found.mask[0, 0].any()
    assert not found.mask[1, 1].any()
    assert not found.values[0, 0].any()
    tokens = opened.tokens([last, 0, 1])
    assert found.mask[0, 1].sum() == tokens.lengths[0]
    np.testing.assert_array_equal(found.values[0, 1, :M], tokens.values[0])
    assert found.mask[1, 0].sum() == tokens.lengths[1] + tokens.lengths[2]
    np.testing.assert_array_equal(found.values[1, 0], tokens.values[1:].ravel())
    for ids in ([-1], [len(opened)], [-2]):
        with pytest.raises(errors.UnknownPassageError):
            opened.tokens(ids)
    for ids in ([-2], [len(opened)]):
        with pytest.raises(errors.UnknownPassageError):
            neighbours.retrieved(opened, ids)


def test_documents_and_sections(tokenizer_folder: Path, opened: Corpus) -> None:
    cutting = cut.TokenCut(
        passage_tokens=4,
        tokenizer=str(tokenizer_folder),
        fingerprint=opened.tokens_card.tokenizer,
        dtype="uint16",
    )
    sections = (
        Section(path=(), text="Glasgow is a city."),
        Section(path=("History",), text="The river rises."),
        Section(path=("History", "Empty"), text=""),
    )
    article = Article(page_id="7", title="Glasgow", sections=sections)
    rows = cut.passage_rows(article, cutting)
    text = "Glasgow is a city.\nThe river rises.\n"
    assert "".join(row["text"] for row in rows) == text
    assert [row["ordinal"] for row in rows] == list(range(len(rows)))
    # A chunk's section is that of its first token.
    at = 0
    for row in rows:
        begins = text.index(row["text"], at)
        assert row["section"] == ([] if begins < text.index("\n") else ["History"])
        at = begins + len(row["text"])
    assert sum(row["words"] for row in rows) == passages.article_words(article) == 7
    wanted = oracle_tokens(tokenizer_folder, text)
    stored = [np.frombuffer(row["tokens"], "<u2")[: row["length"]].tolist() for row in rows]
    assert [i for row in stored for i in row] == wanted
    assert not cut.passage_rows(replace(article, sections=(Section(path=(), text=" \n "),)), cutting)


TEXTS = st.text(
    st.one_of(
        st.sampled_from("abe .\n\t½…ﷺ漢字กำ́​{}<>/s"),
        st.characters(blacklist_categories=("Cs",)),
    ),
    max_size=60,
)


@given(st.lists(TEXTS, min_size=1, max_size=4), st.integers(1, 9))
def test_any_text_is_cut_without_loss(tokenizer_folder: Path, texts: list[str], m: int) -> None:
    """Whatever characters a tokenizer joins, drops or makes several tokens of."""
    tokenizer = _tokenizer(tokenizer_folder)
    article = Article(
        page_id="1", title="t", sections=tuple(Section(path=(str(i),), text=t) for i, t in enumerate(texts))
    )
    text = chunks.document(article)
    found = tokenizer(text)
    made = list(chunks.chunks(article, found.starts, m))
    count = sum(words.count_words(t) for t in texts)
    assert bool(made) == bool(len(found.ids) and count)
    if made:
        assert "".join(chunk.text for chunk in made) == text
        assert [(c.first, c.stop) for c in made] == [
            (i, min(i + m, len(found.ids))) for i in range(0, len(found.ids), m)
        ]
        assert sum(chunk.words for chunk in made) == count
        assert all(0 <= int(chunk.section[0]) < len(texts) for chunk in made)


_LOADED: dict[Path, DocumentTokenizer] = {}


def _tokenizer(folder: Path) -> DocumentTokenizer:
    if folder not in _LOADED:
        _LOADED[folder] = DocumentTokenizer(folder)
    return _LOADED[folder]


def test_a_text_that_spells_a_special_token_does_not_end(tokenizer_folder: Path) -> None:
    tokenizer = _tokenizer(tokenizer_folder)
    found = tokenizer("Tea </s> is <extra_id_0> made <pad> well")
    assert not set(found.ids.tolist()) & {0, 1, *range(tokenizer.vocabulary - 3, tokenizer.vocabulary)}
    assert found.special > 0
    assert tokenizer.unknown == 2
    assert tokenizer.count_unknown(tokenizer("漢 x").ids) == 1


def test_byte_level_vocabularies_have_no_unknown(tmp_path: Path) -> None:
    """A language model's BPE over bytes, of which several make one character."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|end|>"])
    made.train_from_iterator(["tea and water", "the sea"], trainer)
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = DocumentTokenizer(tmp_path)
    assert tokenizer.unknown is None
    text = "tea 漢字 <|end|> ½\n the sea"
    found = tokenizer(text)
    assert tokenizer.decode(found.ids) == text
    assert found.special == 0
    article = Article(page_id="1", title="t", sections=(Section(path=(), text=text),))
    assert "".join(c.text for c in chunks.chunks(article, found.starts, 2)) == text


def test_a_text_that_a_vocabulary_cannot_say_is_refused(tmp_path: Path) -> None:
    """Neither bytes nor a token for what it does not know: the library has an exception without a class."""
    from tokenizers import Tokenizer, models

    Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0)], unk_id=None)).save(str(tmp_path / "tokenizer.json"))
    tokenizer = DocumentTokenizer(tmp_path)
    assert tokenizer("abba").ids.tolist() == [0, 1, 1, 0]
    with pytest.raises(
        ModelFolderError, match=r"cannot say every text \(.*unk_id.*\); use one that has bytes"
    ):
        tokenizer("abc")


def test_the_card_names_the_tokenizer(opened: Corpus, tokenizer_folder: Path, built: Path) -> None:
    card = opened.tokens_card
    assert card.tokenizer == _tokenizer(tokenizer_folder).fingerprint.hex
    digest = hashlib.sha256((tokenizer_folder / "tokenizer.json").read_bytes()).hexdigest()
    assert card.tokenizer_files["tokenizer.json"] == digest
    assert card.vocabulary == len(AutoTokenizer.from_pretrained(tokenizer_folder))
    manifest = CorpusFolder(built).manifest
    assert manifest.settings["tokenizer"]["files"] == dict(card.tokenizer_files)  # type: ignore[index]
    assert manifest.built["passage_tokens"] == M
    assert "passage_words" not in manifest.built
    assert CorpusFolder(built).run().tokenizer == str(tokenizer_folder)  # type: ignore[union-attr]


def test_a_corpus_of_words_has_no_tokens(corpus: Path) -> None:
    manifest = json.loads((corpus / "corpus.json").read_text())
    assert not {"tokens", "neighbours"} & set(manifest)
    assert manifest["settings"]["settings"]["passage_words"] == 200
    assert not {"passage_tokens", "tokenizer"} & set(manifest["settings"]["settings"])
    opened = open_corpus(corpus)
    with pytest.raises(errors.CorpusError, match="cut by words; build one with --passage-tokens"):
        opened.tokens([0])
    assert opened.documents([0]).firsts.tolist() == [0]


def test_another_tokenizer_is_refused(
    chunk_settings: BuildSettings, built: Path, tmp_path: Path, tokenizer_folder: Path
) -> None:
    other = tmp_path / "other"
    small_models.make_tokenizer(other, vocab=120)
    with pytest.raises(
        errors.MismatchError, match=r"tokenizer\.json = [0-9a-f]{57}\.\.\., this .* [0-9a-f]{57}"
    ):
        jobs.build(replace(chunk_settings, tokenizer=str(other)), built)
    with pytest.raises(errors.MismatchError, match=r"passage_tokens = 16, this command has 32"):
        jobs.build(replace(chunk_settings, passage_tokens=32), built)
    # The same files elsewhere are the same tokenizer.
    moved = shutil.copytree(tokenizer_folder, tmp_path / "moved")
    assert jobs.build(replace(chunk_settings, tokenizer=str(moved)), built).already


def test_two_workers_write_the_same_bytes(chunk_settings: BuildSettings, built: Path, tmp_path: Path) -> None:
    options = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    again = jobs.build(
        chunk_settings, tmp_path / "two", engine=engines.chosen(beam_options=options)
    ).corpus.root
    for path in sorted((built / "tokens").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(built)).read_bytes(), path
    assert (built / "corpus.json").read_bytes() == (again / "corpus.json").read_bytes()


def test_every_damaged_file_is_made_again(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "corpus"))
    whole = {p: p.read_bytes() for p in sorted((copy / "tokens").rglob("*")) if p.is_file()}
    made = [p for p in whole if p.name not in ("tokens.json", "files.parquet")]
    assert len(made) > 3 * 3
    for path in made:
        data = bytearray(whole[path])
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert len(jobs.verify(copy, full=True).damaged) == len(made)
    with pytest.raises(errors.DamagedError):
        open_corpus(copy).tokens(np.arange(3))
    outcome = jobs.repair(copy)
    assert outcome.left == []
    assert {p: p.read_bytes() for p in whole} == whole


def test_verify_counts_their_files(built: Path) -> None:
    found = jobs.verify(built, full=True)
    assert found.ok
    assert found.strays == []
    assert found.files == sum(path.is_file() for path in built.rglob("*")) - 1  # the manifest


def test_wide_vocabularies_get_wide_integers() -> None:
    sized = TokensLayout.sized(passages=100, passage_tokens=64, vocabulary=65_536)
    assert sized.dtype == "uint16"
    assert TokensLayout.sized(passages=100, passage_tokens=64, vocabulary=65_537).dtype == "uint32"


def test_a_build_is_planned_with_its_tokens(built: Path, chunk_settings: BuildSettings) -> None:
    splits = [
        split
        for spec in chunk_settings.sources
        for split in sources.open_source(spec).splits(chunk_settings.split_bytes)
    ]
    planned = from_source.corpus_bytes(splits, chunk_settings)
    there = [path for path in built.rglob("*") if path.is_file()]
    assert planned.files == len(there)
    assert planned.total == pytest.approx(sum(path.stat().st_size for path in there), rel=0.03)
    card = CorpusFolder(built).card(components.TOKENS)
    assert planned.tokens == foretold_bytes(card.layout)


def test_bytes_are_foretold(built: Path) -> None:
    card = CorpusFolder(built).card(components.TOKENS)
    shards = [p for p in (built / "tokens").rglob("*") if p.is_file() and "c" in p.parts]
    assert sum(p.stat().st_size for p in shards) == foretold_bytes(card.layout)


@pytest.mark.parametrize(
    ("arguments", "words_"),
    [
        (("--passage-tokens", 64), "need a tokenizer; add --tokenizer DIR"),
        (("--tokenizer", "t5"), "without --passage-tokens"),
        (("--passage-tokens", 0, "--tokenizer", "t5"), "passage tokens is 0, wanted 1 to 4,096"),
        (("--passage-tokens", 64, "--tokenizer", "t5", "--passage-words", 100), "leave out --passage-words"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    command: Command, tmp_path: Path, models: Path, arguments: tuple[Any, ...], words_: str
) -> None:
    given_ = [models / "t5" if a == "t5" else a for a in arguments]
    given_ += ["--source", "jsonl:x", "--retriever", models / "gtr", "--memory-encoder", models / "t5"]
    refused(command, ["build", "--out", tmp_path / "out", "--live-proportion", "1/3", *given_], words_)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"neither tokenizer\.json nor spiece\.model"):
        DocumentTokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelFolderError, match="tokenizer that cannot be read"):
        DocumentTokenizer(tmp_path)


def test_the_passage_table_is_that_of_any_corpus(built: Path) -> None:
    schema = pq.read_schema(next((built / "passages").glob("*.parquet")))
    assert schema.equals(passage_table.SCHEMA)
