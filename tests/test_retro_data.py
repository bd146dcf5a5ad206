"""Rows and neighbours of chunk corpora: continuations, windows, modes, overlap, bytes, bits per byte."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from encoders import token_bytes
from encoders.errors import DivergedError
from encoders.model_folder import ModelFolderError
from encoders.retro.config import STORED
from encoders.token_bytes import TokenBytes
from pipeline.readers.retro import bits, chunks, generating, overlap, retrieval, windows
from pipeline.readers.retro.chunks import ArrayChunks, ArrayTable
from pipeline.readers.retro.retrieval import Retrieval
from storage import errors
from tests import plain_retro, small_retro
from tests.small_models import TEXTS, make_tokenizer

M = 4


def corpus(lengths: list[int], seed: int = 0) -> ArrayChunks:
    """Documents of so many tokens."""
    rng = np.random.default_rng(seed)
    return chunks.from_tokens([rng.integers(3, 50, n).astype(np.int32) for n in lengths], M)


CORPUS = corpus([10, 4, 1, 16, 9])  # chunks 0-2, 3, 4, 5-8, 9-11
UNKNOWN = int(CORPUS.values[1, 2])


def test_documents_are_cut_into_chunks() -> None:
    assert CORPUS.lengths.tolist() == [4, 4, 2, 4, 1, 4, 4, 4, 4, 4, 4, 1]
    assert CORPUS.first.tolist() == [0, 0, 0, 3, 4, 5, 5, 5, 5, 9, 9, 9]


def test_a_continuation_stays_in_its_document() -> None:
    """Megatron's defect 2: id + 1 whatever document it is of."""
    ids = np.array([[0, 2], [3, 4], [8, 11], [-1, 5]])
    assert CORPUS.continuations(ids).tolist() == [[1, -1], [-1, -1], [-1, -1], [-1, 6]]


def test_short_chunks_within_a_document_are_refused() -> None:
    values = np.ones((2, M), np.int32)
    with pytest.raises(errors.CorpusError, match="followed by another"):
        ArrayChunks(values=values, lengths=np.array([3, 4], np.int32), first=np.array([0, 0]))
    with pytest.raises(errors.CorpusError, match="follow each other"):
        ArrayChunks(
            values=np.ones((3, M), np.int32), lengths=np.full(3, M, np.int32), first=np.array([0, 1, 0])
        )


@st.composite
def texts(draw: Any) -> ArrayChunks:
    return corpus(draw(st.lists(st.integers(1, 14), min_size=1, max_size=6)), draw(st.integers(0, 9)))


@settings(deadline=None, max_examples=60)
@given(texts(), st.integers(1, 5), st.data(), st.integers(1, 3))
def test_each_token_but_a_documents_first_is_judged_once(
    text: ArrayChunks, length: int, data: Any, rows: int
) -> None:
    stride = data.draw(st.integers(1, length))
    judged: list[tuple[int, int]] = []
    own: list[int] = []
    for window in windows.sliding(text, length=length, stride=stride, rows=rows):
        assert window.ids.shape == (rows, length)
        of, targets = window.judged.reshape(-1), window.rows.targets.reshape(-1)
        judged += [(int(c), int(t)) for c, t in zip(of, targets, strict=True) if c >= 0]
        assert ((of >= 0) == (targets >= 0)).all()
        own += window.own.tolist()
    wanted = [
        (c, int(text.values[c, place]))
        for c in range(len(text))
        for place in range(text.lengths[c])
        if place or text.first[c] != c
    ]
    assert sorted(judged) == sorted(wanted)
    assert sorted(own) == list(range(len(text)))


@settings(deadline=None, max_examples=60)
@given(texts(), st.integers(1, 5), st.integers(0, 30))
def test_rows_hold_the_corpus(text: ArrayChunks, length: int, step: int) -> None:
    assume((np.bincount(text.first, text.lengths) > 1).any())
    window = windows.drawn(text, length=length, rows=3, seed=1, step=step)
    rows = window.rows
    for row in range(3):
        for u, chunk in enumerate(window.ids[row]):
            there = 0 <= chunk < len(text)
            assert rows.lengths[row, u] == (text.lengths[chunk] if there else 0)
            if not there:
                assert rows.documents[row, u] == -1
                continue
            held = rows.tokens[row, u * M : (u + 1) * M]
            np.testing.assert_array_equal(held, text.values[chunk])
            for v, other in enumerate(window.ids[row]):
                if other < len(text):
                    same = rows.documents[row, u] == rows.documents[row, v]
                    assert same == (text.first[chunk] == text.first[other])
    again = windows.drawn(text, length=length, rows=3, seed=1, step=step)
    np.testing.assert_array_equal(again.ids, window.ids)


def table(k: int = 2) -> ArrayTable:
    """For each chunk others of later documents or, for the last, of the first; the second often absent."""
    found = np.full((len(CORPUS), k), -1)
    found[:3] = [[5, 8], [9, -1], [6, 3]]
    found[3:5] = [[0, 2], [1, -1]]
    found[5:9] = [[0, 9], [1, 10], [-1, -1], [2, 4]]
    found[9:] = [[5, -1], [6, 7], [8, -1]]
    return ArrayTable(values=found)


def modes(mode: str, **changes: Any) -> Retrieval:
    values: dict[str, Any] = {"chunks": CORPUS, "database": CORPUS, "table": table(), "neighbours": 2}
    return Retrieval(mode=mode, **values | changes)


def test_neighbours_come_with_their_continuations_and_padding_is_masked() -> None:
    """Megatron's defects 1, 2 and 3: -1 is no chunk, and neither continuations nor short chunks are whole."""
    asked = np.array([[0, 1, 2], [5, 7, 99]])
    found = modes("on").fetch(asked)
    assert found.tokens is not None
    for row, chunk in np.ndindex(2, 3):
        for j in range(2):
            u = asked[row, chunk]
            neighbour = table().values[u, j] if u < len(CORPUS) else -1
            wanted: list[int] = []
            real: list[bool] = []
            for c in (neighbour, neighbour + 1 if neighbour in (0, 1, 5, 6, 7, 9, 10) else -1):
                held = int(CORPUS.lengths[c]) if c >= 0 else 0
                wanted += CORPUS.values[c, :held].tolist() if c >= 0 else []
                real += [True] * held + [False] * (M - held)
            assert found.real[row, chunk, j].tolist() == real
            assert found.tokens[row, chunk, j][found.real[row, chunk, j]].tolist() == wanted


def test_stale_is_the_row_before_a_chunk_later() -> None:
    ids = np.arange(len(CORPUS))
    as_found = modes("stale-as-found").ids(ids)
    moved = modes("stale").ids(ids)
    for u in ids:
        first = CORPUS.first[u] == u
        wanted = [-1, -1] if first else table().values[u - 1].tolist()
        assert as_found[u].tolist() == wanted
        assert moved[u].tolist() == [
            n + 1 if n >= 0 and n + 1 < len(CORPUS) and CORPUS.first[n + 1] == CORPUS.first[n] else -1
            for n in wanted
        ]


def test_shuffled_is_some_other_row_without_the_own_document() -> None:
    ids = np.arange(len(CORPUS))
    found = modes("shuffled").ids(ids)
    rows = {tuple(row) for row in table().values.tolist()}
    assert (found != table().values).any()
    for u in ids:
        assert not any(n >= 0 and CORPUS.first[n] == CORPUS.first[u] for n in found[u])
        possible = {
            tuple(n if n < 0 or CORPUS.first[n] != CORPUS.first[u] else -1 for n in row) for row in rows
        }
        assert tuple(found[u].tolist()) in possible
    np.testing.assert_array_equal(found, modes("shuffled").ids(ids))
    assert (modes("shuffled", seed=1).ids(ids) != found).any()


def test_shuffled_is_nothing_where_there_is_no_other_chunk() -> None:
    alone = corpus([3])
    found = modes("shuffled", chunks=alone, table=ArrayTable(values=np.array([[5, 8]])))
    assert found.ids(np.array([0])).tolist() == [[-1, -1]]


@given(st.integers(2, 500), st.integers(0, 3))
def test_another_is_never_itself(count: int, seed: int) -> None:
    ids = np.arange(count)
    others = retrieval._others(ids, count, seed)
    assert (others != ids).all()
    assert others.min() >= 0
    assert others.max() < count
    assert count < 100 or len(np.unique(others)) > count / 2, "spread over the corpus"


def test_a_table_that_names_the_own_document_is_refused() -> None:
    wrong = table()
    wrong.values[1, 0] = 2
    with pytest.raises(errors.DamagedError, match="chunk 1 one of its own document"):
        modes("on", table=wrong).ids(np.arange(3))
    let = modes("on", table=wrong, own_documents=True).ids(np.arange(3))
    assert let[1, 0] == 2
    outside = table()
    outside.values[0, 0] = len(CORPUS)
    with pytest.raises(errors.DamagedError, match="names chunk 12"):
        modes("on", table=outside).ids(np.arange(3))


def test_retrieval_that_cannot_be() -> None:
    with pytest.raises(errors.CorpusError, match="retrieval is 'some'"):
        modes("some")
    with pytest.raises(errors.CorpusError, match="table that has 2"):
        modes("on", neighbours=3)
    with pytest.raises(errors.CorpusError, match="wanted as many"):
        modes("on", database=chunks.from_tokens([np.ones(8, np.int32)], 8))


class Counting:
    """States that tell which chunk and token they are of."""

    places, width, continued = M, 3, False

    def fetch(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        states = np.stack(
            [np.broadcast_to(x, (len(ids), M)) for x in (ids[:, None], np.arange(M), 1)], -1
        ).astype(np.float32)
        return states, np.arange(M) < CORPUS.lengths[ids][:, None]


def test_stored_states_stand_where_tokens_would() -> None:
    asked = np.array([[0, 1, 2, 8]])
    tokens = modes("on").fetch(asked)
    states = modes("on", encodings=Counting()).fetch(asked)
    assert states.tokens is None
    assert states.states is not None
    np.testing.assert_array_equal(states.real, tokens.real)
    for u, j, place in np.argwhere(states.real[0]):
        chunk, at, _ = states.states[0, u, j, place]
        assert tokens.tokens is not None
        assert CORPUS.values[int(chunk), int(at)] == tokens.tokens[0, u, j, place]


class Both(Counting):
    """States of chunks with their continuations, which tell which chunk and token they are of."""

    places, continued = 2 * M, True

    def fetch(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        following = CORPUS.continuations(ids)
        first, second = super().fetch(ids), super().fetch(np.maximum(following, 0))
        return (
            np.concatenate([first[0], second[0]], axis=1),
            np.concatenate([first[1], second[1] & (following >= 0)[:, None]], axis=1),
        )


def test_states_of_chunks_with_their_continuations_are_fetched_once() -> None:
    asked = np.array([[0, 1, 2, 8]])
    apart, whole = (modes("on", encodings=states).fetch(asked) for states in (Counting(), Both()))
    np.testing.assert_array_equal(whole.real, apart.real)
    assert whole.real.any()
    np.testing.assert_array_equal(np.asarray(whole.states)[whole.real], np.asarray(apart.states)[apart.real])


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=8),
    st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=6, max_size=6), min_size=1, max_size=3
    ),
    st.integers(0, 8),
)
def test_the_longest_common_run_is_that_of_brute_force(
    chunk: list[int], others: list[list[tuple[int, bool]]], held: int
) -> None:
    held = min(held, len(chunk))
    ends = [0] * len(chunk)
    for other in others:
        # Padding is a token that nothing equals.
        seen = [token if real else -1 for token, real in other]
        for i in range(held):
            for j in range(i + 1, held + 1):
                if any(seen[s : s + j - i] == chunk[i:j] for s in range(len(seen))):
                    ends[j - 1] = max(ends[j - 1], j - i)
    given_of = (
        np.array([chunk]),
        np.array([held]),
        np.array([[[token for token, _ in other] for other in others]]),
        np.array([[[real for _, real in other] for other in others]]),
    )
    assert overlap.common_runs(*given_of).tolist() == [ends]
    assert overlap.longest_common(*given_of).tolist() == [max(ends)]


def make_fast_tokenizer(path: Path, kind: str) -> Any:
    """A byte-level BPE, or a SentencePiece with bytes to fall back to, trained on the texts."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if kind == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=["</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        made.train_from_iterator(TEXTS, trainer)
        options: dict[str, Any] = {"eos_token": "</s>"}
    else:
        letters = {f"<0x{byte:02X}>": byte + 2 for byte in range(256)}
        vocab = {"<unk>": 0, "</s>": 1, **letters, "▁": 258, "a": 259, "b": 260}
        made = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True, unk_token="<unk>"))
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        options = {"eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, **options)
    tokenizer.save_pretrained(path)
    return tokenizer


ODD = "Tea is  made of\nthree pots: café — 北京 and 😀 {braces}. The river rises in the hills."


@pytest.mark.parametrize("kind", ["t5", "bytes", "fallback"])
def test_bytes_are_those_of_what_tokens_decode_to(kind: str, tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path) if kind == "t5" else make_fast_tokenizer(tmp_path, kind)
    found = token_bytes.read(tmp_path)
    assert (found.unknown is None) == (kind != "t5")
    for text in (*TEXTS, ODD):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        whole = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        first = tokenizer.decode(ids[:1], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        # The first token of a document is given, not predicted, and its blank is not decoded.
        assert found.counts[ids[1:]].sum() == len(whole.encode()) - len(first.encode())
        unknown = [i for i in ids if i == tokenizer.unk_token_id]
        assert (len(unknown) > 0) == (kind == "t5" and text == ODD)
        if kind != "t5":
            assert whole == text, "nothing is lost"
    assert found.counts[tokenizer.eos_token_id] == 0


def test_bytes_are_those_of_the_file_that_cuts_chunks(tmp_path: Path) -> None:
    """transformers' settings beside it say otherwise of some tokens, and decide nothing; tokens that were
    added as text are that text."""
    import json

    from encoders.document_tokenizer import DocumentTokenizer

    make_fast_tokenizer(tmp_path, "bytes")
    raw = json.loads((tmp_path / "tokenizer.json").read_text())
    word, number = next((w, n) for w, n in raw["model"]["vocab"].items() if w.isalpha() and len(w) > 2)
    new = len(raw["model"]["vocab"])
    raw["added_tokens"].append(raw["added_tokens"][0] | {"id": new, "content": "北  京", "special": False})
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    told = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(told | {"pad_token": word}))
    counts = token_bytes.read(tmp_path).counts
    assert counts[number] == len(word)
    cut = DocumentTokenizer(tmp_path)
    text = f"{TEXTS[0]} 北  京 and {TEXTS[1]}"
    ids = cut(text).ids
    assert new in ids
    assert cut.decode(ids) == text
    assert counts[ids].sum() == len(text.encode())


@pytest.mark.parametrize("kind", ["bytes", "fallback"])
def test_a_vocabulary_without_all_bytes_has_unknown_tokens(kind: str, tmp_path: Path) -> None:
    """They are told, and count no byte."""
    import json

    make_fast_tokenizer(tmp_path, kind)
    path = tmp_path / "tokenizer.json"
    raw = json.loads(path.read_text())
    lost = {"bytes": "~", "fallback": "<0x7E>"}[kind]
    raw["model"]["unk_token"] = unknown = "</s>" if kind == "bytes" else "<unk>"
    path.write_text(json.dumps(raw))
    assert token_bytes.read(tmp_path).unknown is None
    vocabulary = raw["model"]["vocab"]
    vocabulary["other"] = vocabulary.pop(lost)
    path.write_text(json.dumps(raw))
    found = token_bytes.read(tmp_path)
    assert found.unknown == vocabulary[unknown]
    assert found.counts[found.unknown] == 0


def test_other_tokenizers_are_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordPiece(vocab={"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    made.decoder = decoders.WordPiece()
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]").save_pretrained(tmp_path)
    with pytest.raises(ModelFolderError, match="decodes by WordPiece"):
        token_bytes.read(tmp_path)


def test_bits_per_byte_are_plain_numpys() -> None:
    """Of windows with a stride, neighbours, an unknown token, and a filter by overlap."""
    chosen = small_retro.config(STORED, chunk_tokens=M, neighbour_tokens=2 * M, memory_width=3)
    weights = small_retro.tensors(chosen)
    model = small_retro.make(chosen)
    counts = TokenBytes(counts=np.arange(50, dtype=np.int32) % 7, unknown=UNKNOWN)
    on, near = modes("on", encodings=Counting()), modes("on")
    found = bits.measure(
        model,
        CORPUS,
        counts,
        retrieval=on,
        window=3,
        stride=2,
        rows=2,
        overlaps=(0.25, 0.5, 1.0),
        nearest=near,
    )
    nats: dict[int, float] = dict.fromkeys(range(len(CORPUS)), 0.0)
    size = dict.fromkeys(range(len(CORPUS)), 0)
    total = unknown = 0
    for start in range(-1, len(CORPUS), 2):
        row = np.arange(start, start + 3)
        there = (row >= 0) & (row < len(CORPUS))
        held = np.where(there, CORPUS.lengths[row % len(CORPUS)], 0)
        of = np.where(there, CORPUS.first[row % len(CORPUS)], -1)
        states = on.fetch(row[None])
        assert states.states is not None
        logits = plain_retro.retro(
            chosen,
            weights,
            np.concatenate([CORPUS.values[c % len(CORPUS)] for c in row]),
            held,
            of,
            (states.states[0], states.real[0]),
        )
        for u in (1, 2):
            for t in range(held[u]):
                c, place = (row[u], t + 1) if t + 1 < held[u] else (row[u] + 1, 0)
                last = t + 1 >= held[u]
                if last and (c >= len(CORPUS) or CORPUS.first[c] != of[u]):
                    continue
                target = int(CORPUS.values[c, place])
                scores = logits[u * M + t]
                nats[c] += float(np.log(np.exp(scores).sum()) - scores[target])
                size[c] += int(counts.counts[target])
                total += 1
                unknown += target == UNKNOWN
    assert found.all.nats == pytest.approx(sum(nats.values()), rel=1e-4)
    assert found.all.bytes == sum(size.values())
    assert found.all.tokens == total == CORPUS.lengths.sum() - 5
    assert found.all.unknown == unknown > 0
    assert found.all.chunks == len(CORPUS)
    assert found.all.bits_per_byte == pytest.approx(sum(nats.values()) / math.log(2) / sum(size.values()))
    shared = bits.shared(CORPUS, near, np.arange(len(CORPUS)))
    assert len(set(shared.tolist())) > 1
    for alpha, sums in found.within.items():
        kept = [c for c in range(len(CORPUS)) if shared[c] <= alpha * M]
        assert sums.chunks == len(kept)
        assert sums.bytes == sum(size[c] for c in kept)
        assert sums.nats == pytest.approx(sum(nats[c] for c in kept), rel=1e-4, abs=1e-9)
    assert found.within[1.0] == found.all


def test_batches_of_any_size_are_the_same_sums() -> None:
    chosen = small_retro.config(STORED, chunk_tokens=M, neighbour_tokens=2 * M, memory_width=3)
    model = small_retro.make(chosen)
    counts = TokenBytes(counts=np.ones(50, np.int32), unknown=None)
    found = [
        bits.measure(model, CORPUS, counts, retrieval=None, window=3, stride=2, rows=rows) for rows in (1, 5)
    ]
    assert found[0].all.nats == pytest.approx(found[1].all.nats, rel=1e-5)
    assert found[0].all.chunks == found[1].all.chunks == len(CORPUS)


def test_a_text_without_a_token_to_predict_is_refused() -> None:
    """Documents of one token give none; rows of such are drawn again where there are others."""
    alone = corpus([1, 1, 1])
    with pytest.raises(errors.CorpusError, match="documents of two tokens"):
        windows.drawn(alone, length=2, rows=2, seed=0, step=0)
    few = corpus([1] * 20 + [2])
    for step in range(5):
        assert (windows.drawn(few, length=2, rows=2, seed=0, step=step).rows.targets >= 0).any()
    model = small_retro.make(small_retro.config())
    counts = TokenBytes(counts=np.ones(50, np.int32), unknown=None)
    with pytest.raises(errors.CorpusError, match="3 chunks have no token to predict"):
        bits.measure(model, alone, counts, retrieval=None, window=2, stride=1, rows=2)


def test_losses_that_are_not_finite_are_no_bits() -> None:
    model: Any = SimpleNamespace(config=small_retro.config())
    counts = TokenBytes(counts=np.ones(50, np.int32), unknown=None)

    def losses_of(rows: Any, _: Any) -> Any:
        return np.where(np.asarray(rows.targets) == CORPUS.values[6, 1], np.nan, 1.0)

    with pytest.raises(DivergedError, match=r"chunk \d+ has a loss of nan"):
        bits.measure(model, CORPUS, counts, retrieval=None, window=2, stride=1, rows=2, losses_of=losses_of)
    with pytest.raises(DivergedError, match="logits that are not finite"):
        generating._chosen(np.array([1.0, np.nan]), 0.0, np.random.default_rng(0))


def test_a_text_of_another_vocabulary_is_refused() -> None:
    model = small_retro.make(small_retro.config())
    far = chunks.from_tokens([np.array([3, 60], np.int32)], M)
    counts = TokenBytes(counts=np.ones(100, np.int32), unknown=None)
    with pytest.raises(errors.CorpusError, match="text has token 60"):
        bits.measure(model, far, counts, retrieval=None, window=2, stride=1)
    # And of neighbours, which JAX would read as the last token that there is.
    near = modes("on", database=far, table=ArrayTable(values=np.zeros((len(CORPUS), 2), np.int64)))
    with pytest.raises(errors.CorpusError, match="database has token 60"):
        bits.measure(model, CORPUS, counts, retrieval=near, window=2, stride=1)
    with pytest.raises(errors.CorpusError, match="stride"):
        bits.measure(model, CORPUS, counts, retrieval=None, window=2, stride=3)
