"""The memory encoder gives every token what transformers computes for it, whatever the batches."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, T5EncoderModel

from encoders import ModelFolderError, batching, fingerprint, template
from encoders.memory_encoder import MemoryEncoder, Tokens
from encoders.memory_spec import MemorySpec
from encoders.t5_folder import memory_fingerprint
from encoders.tokenizing import Tokenizer
from encoders.transformers_output import silenced
from storage import codecs
from tests import small_models
from tests.rounding import require_rounded_once

THIRD = Fraction(1, 3)
MAX_TOKENS = 48
MEMORY = MemorySpec(live_proportion=THIRD, compute_dtype="float32", max_tokens=MAX_TOKENS, token_budget=192)
# Of different lengths, one empty, one longer than MAX_TOKENS.
TEXTS = ["", "Tea", *small_models.TEXTS, " ".join(small_models.TEXTS), small_models.TEXTS[0][:30]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.make_t5_folder(tmp_path_factory.mktemp("t5"), layers=3)


def load(folder: Path, **changes: Any) -> MemoryEncoder:
    return MemoryEncoder.load(folder, dataclasses.replace(MEMORY, **changes))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> MemoryEncoder:
    return load(folder)


def encode(encoder: MemoryEncoder, texts: Sequence[str], dtype: Any = np.float32) -> np.ndarray:
    tokens = encoder.tokenize(texts)
    out = np.full((len(tokens.ids), encoder.width), 77, dtype)
    encoder.encode(tokens, out)
    return out


def reference(folder: Path, texts: Sequence[str], *, layers: int) -> list[np.ndarray]:
    """Each text alone through transformers, without padding: the stream after `layers` layers."""
    with silenced():
        model = T5EncoderModel.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
    final = layers == len(model.encoder.block)
    model.encoder.block = model.encoder.block[:layers]
    if not final:
        model.encoder.final_layer_norm = torch.nn.Identity()
    rows = []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            rows.append(model(input_ids=ids["input_ids"]).last_hidden_state[0].numpy())
    return rows


def error_of(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(("alpha", "layers"), [(Fraction(0), 3), (THIRD, 2), (Fraction(1), 0)])
def test_memory_is_transformers(folder: Path, alpha: Fraction, layers: int) -> None:
    encoder = load(folder, live_proportion=alpha)
    assert encoder.layers == layers
    got = encode(encoder, TEXTS)
    expected = reference(folder, TEXTS, layers=layers)
    lengths = encoder.tokenize(TEXTS).lengths
    assert [len(row) for row in expected] == lengths.tolist()
    assert len({*lengths.tolist()}) > 4  # several buckets
    assert error_of(got, np.concatenate(expected)) < 1e-5
    assert np.std(got) > 0.1


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_sharded_and_half_precision_folders(encoder: MemoryEncoder, tmp_path: Path, dtype: str) -> None:
    other = small_models.make_t5_folder(tmp_path, layers=3, sharded=True, dtype=dtype)
    got = encode(load(other), TEXTS)
    assert error_of(got, np.concatenate(reference(other, TEXTS, layers=2))) < 1e-5
    if dtype == "float32":
        np.testing.assert_array_equal(got, encode(encoder, TEXTS))
    else:
        assert 1e-5 < error_of(got, encode(encoder, TEXTS)) < 0.1


def test_bfloat16_compute(folder: Path, encoder: MemoryEncoder) -> None:
    exact = encode(encoder, TEXTS)
    error = error_of(encode(load(folder, compute_dtype="bfloat16"), TEXTS), exact)
    assert 1e-4 < error < 0.03


def test_stored_dtypes_round_once(encoder: MemoryEncoder) -> None:
    full = encode(encoder, TEXTS)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        require_rounded_once(encode(encoder, TEXTS, dtype), full)


def test_partners_and_budget_change_rounding_only(folder: Path, encoder: MemoryEncoder) -> None:
    together = encode(encoder, TEXTS)
    offsets = encoder.tokenize(TEXTS).offsets
    for i, text in enumerate(TEXTS):
        assert error_of(together[offsets[i] : offsets[i + 1]], encode(encoder, [text])) < 1e-5
    assert error_of(together, encode(load(folder, token_budget=1), TEXTS)) < 1e-5
    backwards = encode(encoder, TEXTS[::-1])
    last = encoder.tokenize(TEXTS[-1:]).lengths[0]
    assert error_of(backwards[:last], together[-last:]) < 1e-5


def test_same_call_same_bytes(folder: Path, encoder: MemoryEncoder) -> None:
    first = encode(encoder, TEXTS)
    np.testing.assert_array_equal(first, encode(encoder, TEXTS))
    np.testing.assert_array_equal(first, encode(load(folder), TEXTS))


def test_a_cut_changes_what_comes_before_it_only_through_attention(encoder: MemoryEncoder) -> None:
    """The cut text's memory is that of its own ids, EOS last: nothing of the rest leaks in."""
    long = " ".join(small_models.TEXTS)
    tokens = encoder.tokenize([long])
    assert tokens.cut[0] > 0
    assert len(tokens.ids) == MAX_TOKENS
    longer = encoder.tokenize([long + " and more"])
    np.testing.assert_array_equal(tokens.ids, longer.ids)
    np.testing.assert_array_equal(encode(encoder, [long]), encode(encoder, [long + " and more"]))


def test_on_batch_counts_every_passage(encoder: MemoryEncoder) -> None:
    tokens = encoder.tokenize(TEXTS)
    counts: list[int] = []
    encoder.encode(tokens, np.empty((len(tokens.ids), encoder.width), np.float32), on_batch=counts.append)
    assert sum(counts) == len(TEXTS)
    assert len(counts) > 1


def test_no_texts(encoder: MemoryEncoder) -> None:
    assert encode(encoder, []).shape == (0, encoder.width)


def test_float16_overflow_is_refused(folder: Path, tmp_path: Path) -> None:
    huge = Path(shutil.copytree(folder, tmp_path / "huge"))
    tensors = load_file(huge / "model.safetensors")
    token = load(huge).tokenize(["Tea"]).ids[0]
    tensors["shared.weight"][token, 5] = 70_000
    save_file(tensors, huge / "model.safetensors")
    encoder = load(huge, live_proportion=Fraction(1))
    with pytest.raises(OverflowError) as error:
        encode(encoder, ["", "Tea"], np.float16)
    assert str(error.value) == (
        "passage 1 has a memory value of magnitude 70000, float16 holds up to 65504; "
        "store bfloat16 or float32"
    )
    assert encode(encoder, ["", "Tea"], ml_dtypes.bfloat16).max() > 69_000
    assert np.isfinite(encode(encoder, [""], np.float16)).all()
    tensors["shared.weight"][token, 5] = float("nan")
    save_file(tensors, huge / "model.safetensors")
    with pytest.raises(ModelFolderError, match=r"shared\.weight has values that are NaN or infinite"):
        load(huge)


@pytest.mark.parametrize("name", [*codecs.NAMES[:-2], "pq4x3"])
def test_codes_leave_the_device(encoder: MemoryEncoder, name: str) -> None:
    codec = codecs.by_name(name)
    full = encode(encoder, [*TEXTS, *(text[::-1] for text in TEXTS)])
    tokens = encoder.tokenize(TEXTS)
    exact = encode(encoder, TEXTS)
    coder = codec.bind(encoder.width, codec.train(np.tile(full, (4, 1))))
    stored = np.zeros((len(exact), coder.stored_width), codec.stored_dtype)
    encoder.encode(tokens, stored, coder)
    error = np.linalg.norm(coder.decoded(stored).astype(np.float64) - exact, axis=1)
    assert (error <= coder.error_bound(exact)).all()
    assert np.any(stored != coder.encode(exact), axis=1).mean() < (1 if codec.kind == "turbo" else 0.05)
    again = np.zeros_like(stored)
    encoder.encode(tokens, again, coder)
    np.testing.assert_array_equal(stored, again)
    with pytest.raises(ValueError, match="wanted"):
        encoder.encode(tokens, stored[:-1], coder)
    with pytest.raises(ValueError, match="wanted"):
        encoder.encode(tokens, stored.astype(np.int64), coder)


@pytest.mark.parametrize("name", ["bfloat16", "int8", "turbo2", "pq4x3"])
def test_no_codes_of_what_is_not_finite(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Finite weights can give what is not, by overflow.
    monkeypatch.setattr(fingerprint, "_require_finite", lambda *_: None)
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    tensors = load_file(broken / "model.safetensors")
    tensors["shared.weight"][load(broken).tokenize(["Tea"]).ids[0], 5] = float("nan")
    save_file(tensors, broken / "model.safetensors")
    codec = codecs.by_name(name)
    sample = np.random.default_rng(0).normal(size=(400, 32)).astype(np.float32)
    coder = codec.bind(32, codec.train(sample))
    tokens = load(broken).tokenize(["", "Tea"])
    out = np.zeros((len(tokens.ids), coder.stored_width), codec.stored_dtype)
    with pytest.raises(
        OverflowError, match=rf"passage 1 has .* magnitude nan, {name} holds .*are the weights whole"
    ):
        load(broken).encode(tokens, out, coder)


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_out_of_another_dtype(encoder: MemoryEncoder, dtype: type) -> None:
    with pytest.raises(ValueError, match="wanted float32, float16 or bfloat16"):
        encode(encoder, ["Tea"], dtype)


def test_out_of_another_shape(encoder: MemoryEncoder) -> None:
    with pytest.raises(ValueError, match="a row per token"):
        encoder.encode(encoder.tokenize(["Tea"]), np.empty((99, encoder.width), np.float32))


def test_foreign_ids(encoder: MemoryEncoder) -> None:
    tokens = Tokens(np.array([10**6, 1], np.int32), np.array([0, 2]), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="were they made by this encoder's tokenizer"):
        encoder.encode(tokens, np.empty((2, encoder.width), np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"live_proportion": Fraction(2, 5)}, "the nearest are"),
        ({"compute_dtype": "float16"}, "unknown compute dtype 'float16'"),
        ({"max_tokens": 1}, "max tokens is 1"),
        ({"token_budget": 0}, "token budget is 0"),
        ({"template": "{title}"}, "has no {text}"),
    ],
)
def test_load_refuses(folder: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(folder, **change)


def test_tokenizer_larger_than_the_embedding(tmp_path: Path) -> None:
    folder = small_models.make_t5_folder(tmp_path, embedding_rows=50)
    with pytest.raises(ModelFolderError, match="tokens for an embedding of 50 rows"):
        load(folder)


def test_fingerprint_without_loading(folder: Path, encoder: MemoryEncoder) -> None:
    made = memory_fingerprint(folder, MEMORY)
    assert made.hex == encoder.fingerprint
    assert made.description == encoder.description


def test_import_loads_no_framework(folder: Path) -> None:
    code = (
        "import sys\n"
        "import encoders, encoders.memory_encoder, encoders.retriever, encoders.batching\n"
        "from encoders import t5_folder\n"
        f"t5_folder.memory_fingerprint({str(folder)!r}, encoders.MemorySpec())\n"
        "heavy = {'jax', 'flax', 'torch', 'transformers', 'tokenizers', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


# Tokens


def test_tokens_are_transformers(folder: Path, encoder: MemoryEncoder) -> None:
    with silenced():
        tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = encoder.tokenize(TEXTS)
    for i, text in enumerate(TEXTS):
        expected = tokenizer(text, truncation=True, max_length=MAX_TOKENS)["input_ids"]
        assert tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]].tolist() == expected
        whole = tokenizer(text, verbose=False)["input_ids"]
        assert tokens.cut[i] == max(0, len(whole) - MAX_TOKENS)
    assert tokens.ids[0] == tokenizer.eos_token_id  # the empty text
    assert tokens.ids.dtype == np.int32
    assert (tokens.offsets.dtype, tokens.cut.dtype) == (np.int64, np.int64)


def test_long_texts_make_no_noise(
    encoder: MemoryEncoder, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert encoder.tokenize(["tea " * 2000]).cut[0] > 512
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_loading_makes_no_noise(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(folder)
    assert capfd.readouterr() == ("", "")


def test_a_folder_with_spiece_model_only(folder: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(folder, tmp_path / "old"))
    (old / "tokenizer.json").unlink()
    (old / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer", "extra_ids": 0}')
    small_models.make_sentencepiece(old)
    try:
        from sentencepiece import sentencepiece_model_pb2  # noqa: F401
    except Exception:
        # This sentencepiece wants a protobuf that Beam forbids: then at least the error says so.
        with pytest.raises(ModelFolderError, match=r"spiece\.model only, .*install sentencepiece 0\.2\.2"):
            Tokenizer(old, max_tokens=MAX_TOKENS)
        return
    tokens = Tokenizer(old, max_tokens=MAX_TOKENS)(TEXTS)
    np.testing.assert_array_equal(tokens.ids, Tokenizer(folder, max_tokens=MAX_TOKENS)(TEXTS).ids)


def test_a_tokenizer_without_eos(folder: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(folder, tmp_path / "bare"))
    small_models.edit_json(bare / "tokenizer.json", post_processor=None)
    small_models.edit_json(bare / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    with pytest.raises(ModelFolderError, match=r"makes \[\] of an empty text, wanted its EOS"):
        load(bare)


def test_a_damaged_tokenizer(folder: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    (damaged / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelFolderError, match="has a tokenizer that cannot be read") as error:
        load(damaged)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("offsets", "cut"), [([0, 2], 2), ([0, 3], 1), ([1, 2], 1), ([0, 0, 2], 2), ([0, 3, 2], 2)]
)
def test_tokens_validate_themselves(offsets: list[int], cut: int) -> None:
    with pytest.raises(ValueError, match="wanted"):
        Tokens(np.zeros(2, np.int32), np.array(offsets), np.zeros(cut, np.int64))


# Batching


@given(
    st.integers(2, 700).flatmap(lambda m: st.tuples(st.just(m), st.lists(st.integers(1, m), max_size=200))),
    st.integers(1, 4000),
)
def test_every_passage_once_in_few_shapes(case: tuple[int, list[int]], budget: int) -> None:
    max_tokens, lengths = case
    batches = batching.plan(lengths, max_tokens=max_tokens, token_budget=budget)
    held = np.concatenate([b.passages for b in batches]) if batches else np.array([], np.int64)
    assert sorted(held) == list(range(len(lengths)))
    buckets = batching.bucket_lengths(max_tokens)
    for batch in batches:
        longest = max(lengths[p] for p in batch.passages)
        assert batch.length == min(b for b in buckets if b >= longest)
        full = max(1, budget // batch.length)
        assert batch.rows in (full, max(1, full // batching.SMALL))
        assert 1 <= len(batch.passages) <= batch.rows
    assert all(len(b.passages) == b.rows for b in batches[:-1])
    again = batching.plan(np.array(lengths, np.int32), max_tokens=max_tokens, token_budget=budget)
    assert [b.passages.tolist() for b in again] == [b.passages.tolist() for b in batches]


@given(st.integers(1, 5000))
def test_buckets(max_tokens: int) -> None:
    lengths = batching.bucket_lengths(max_tokens)
    assert lengths == tuple(sorted(set(lengths)))
    assert len(lengths) <= 28
    assert max_tokens <= lengths[-1] < max_tokens + 8
    assert all(length % 8 == 0 for length in lengths)


def test_buckets_of_the_default() -> None:
    assert batching.bucket_lengths(304) == (*range(16, 177, 16), *range(192, 305, 8))


def test_other_batches_want_another_version() -> None:
    """Stored bytes depend on them: who changes them changes `batching.VERSION`, and then this."""
    lengths = np.random.default_rng(0).integers(1, 305, 500)
    digest = hashlib.sha256()
    for budget in (304, 608, 16_384):
        for batch in batching.plan(lengths, max_tokens=304, token_budget=budget):
            digest.update(np.array([batch.rows, batch.length, *batch.passages], np.int64).tobytes())
    assert (batching.VERSION, digest.hexdigest()[:16]) == (1, "510d6ff1d6025bb7")


def test_padding_is_small_on_passages() -> None:
    rng = np.random.default_rng(0)
    lengths = np.clip(np.rint(rng.normal(265, 40, 1024)), 20, 304).astype(int)
    batches = batching.plan(lengths, max_tokens=304, token_budget=batching.DEFAULT_TOKEN_BUDGET)
    waste = batching.waste(batches, lengths)
    computed = sum(b.rows * b.length for b in batches)
    assert waste.padding + waste.filler == computed - lengths.sum()
    assert waste.filler == sum((b.rows - len(b.passages)) * b.length for b in batches)
    assert lengths.sum() / computed > 0.97
    assert len({(b.rows, b.length) for b in batches}) < 40


@given(st.lists(st.integers(1, 40), min_size=1, max_size=7), st.integers(1, 120))
def test_no_other_batches_of_these_shapes_are_cheaper(lengths: list[int], budget: int) -> None:
    buckets = np.array(batching.bucket_lengths(40))
    ordered = sorted(lengths, reverse=True)

    def cost(rows: int, length: int) -> float:
        return rows * length + budget * batching.BATCH_COST

    def cheapest(left: list[int]) -> float:
        if not left:
            return 0.0
        length = int(buckets[np.searchsorted(buckets, left[0])])
        full = max(1, budget // length)
        return min(cost(n, length) + cheapest(left[n:]) for n in (full, max(1, full // batching.SMALL)))

    batches = batching.plan(lengths, max_tokens=40, token_budget=budget)
    assert sum(cost(b.rows, b.length) for b in batches) == pytest.approx(cheapest(ordered))


@pytest.mark.parametrize(
    ("lengths", "max_tokens", "budget", "message"),
    [
        ([5, 0], 9, 9, "passage 1 has 0 tokens, wanted 1 to 9"),
        ([10], 9, 9, "passage 0 has 10 tokens"),
        ([5], 9, 0, "token_budget is 0"),
        ([5], 0, 9, "max_tokens is 0"),
    ],
)
def test_plan_refuses(lengths: list[int], max_tokens: int, budget: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batching.plan(lengths, max_tokens=max_tokens, token_budget=budget)


# Template


def test_the_default_templates() -> None:
    fields = {"title": "Tea", "section": ("History", "China"), "text": "Tea is old."}
    render = template.PassageTemplate(template.MEMORY_TEMPLATE).render
    assert render(**fields) == "title: Tea context: Tea is old."
    assert template.PassageTemplate(template.RETRIEVER_TEMPLATE).render(**fields) == "Tea Tea is old."


def test_section_is_a_path() -> None:
    render = template.PassageTemplate("{{{title}}} [{section}] {text}").render
    assert render(title="A", section=["B", "C"], text="d") == "{A} [B > C] d"
    assert render(title="A", section="B > C", text="d") == "{A} [B > C] d"
    assert render(title="A", text="d") == "{A} [] d"


@given(st.text(), st.lists(st.text()), st.text())
def test_data_is_never_a_template(title: str, section: list[str], text: str) -> None:
    got = template.PassageTemplate("{title}|{section}|{text}").render(title=title, section=section, text=text)
    assert got == title + "|" + " > ".join(section) + "|" + text


def test_braces_in_data_stay() -> None:
    got = template.PassageTemplate("{title} {text}").render(title="{0.__class__}", text="{text} }{ {{")
    assert got == "{0.__class__} {text} }{ {{"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{title}", "has no {text}"),
        ("{text} {name}", "has {name}, wanted only"),
        ("{text} {}", "has {}, wanted only"),
        ("{text.__class__}", "has {text.__class__}"),
        ("{text[0]}", r"has {text\[0\]}"),
        ("{text!r}", "has {text!r}"),
        ("{text:>10}", "has {text:>10}"),
        ("{text:{title}}", "has {text:{title}}"),
        ("{text", "wanted only"),
        ("{text} }", "wanted only"),
    ],
)
def test_template_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        template.PassageTemplate(text)


# A device without enough memory


class Exhausted:
    """Runs batches of up to so many tokens at a time, and otherwise fails as XLA does, then or later."""

    def __init__(self, run: Any, most_tokens: int, *, late: bool) -> None:
        self.run, self.most_tokens, self.late, self.shapes = run, most_tokens, late, []

    def __call__(self, ids: Any, lengths: Any, dtype: Any, quantize: Any) -> Any:
        self.shapes.append(ids.shape)
        if ids.size <= self.most_tokens:
            return self.run(ids, lengths, dtype, quantize)
        error = RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123 bytes.")
        if not self.late:
            raise error

        class Output:
            def copy_to_host_async(self) -> None: ...
            def __array__(self, *_: object, **__: object) -> Any:
                raise error

        return Output(), Output()


@pytest.mark.parametrize("late", [False, True])
def test_batches_are_halved_where_memory_does_not_suffice(
    models: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    encoder = MemoryEncoder.load(
        models / "t5",
        MemorySpec(compute_dtype="float32", max_tokens=64, token_budget=512),
    )
    tokens = encoder.tokenize(["word " * (1 + i % 25) for i in range(60)])
    wanted = np.empty((len(tokens.ids), encoder.width), np.float32)
    assert encoder.encode(tokens, wanted).halved == 0
    scarce = Exhausted(encoder._run, 100, late=late)
    monkeypatch.setattr(encoder, "_run", scarce)
    found = np.full_like(wanted, np.nan)
    seen: list[int] = []
    spent = encoder.encode(tokens, found, on_batch=seen.append)
    assert spent.halved > 1
    assert sum(seen) == 60
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    # What was too much is not tried again.
    scarce.shapes.clear()
    assert encoder.encode(tokens, found).halved == 0
    assert all(rows * length <= 100 or rows == 1 for rows, length in scarce.shapes)


def test_a_row_that_is_too_much_says_so(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = MemoryEncoder.load(models / "t5", MemorySpec(compute_dtype="float32"))
    tokens = encoder.tokenize(["some words"] * 5)
    out = np.empty((len(tokens.ids), encoder.width), np.float32)
    monkeypatch.setattr(encoder, "_run", Exhausted(encoder._run, 0, late=True))
    with pytest.raises(MemoryError, match=r"too little memory for one row of \d+ tokens"):
        encoder.encode(tokens, out)

    def broken(*_: object) -> Any:
        raise RuntimeError("INTERNAL: something else")

    monkeypatch.setattr(encoder, "_run", broken)
    with pytest.raises(RuntimeError, match="something else"):
        encoder.encode(tokens, out)
