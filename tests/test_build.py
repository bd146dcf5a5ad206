"""The whole way of the data against the direct computation, and the promises about it."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, T5EncoderModel

from encoders import batching
from examples.miniwiki.export import DumpTruth
from pipeline.components.settings import BuildSettings
from pipeline.text import articles, passages, sources
from pipeline.units import engines
from pipeline.units.engines import local
from pipeline.units.stage import Stage
from retrieval import open_corpus
from storage import errors, files, locks, manifest, shard_files
from tests.jobs import build
from tests.jobs import verify as verification


def content(root: Path) -> dict[str, bytes]:
    """Every file but the statistics, which hold times."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_relative_to(root / "statistics")
    }


def test_passages_are_the_direct_computation(corpus: Path, dump: DumpTruth) -> None:
    source = sources.open_source(f"mediawiki:{dump.path}")
    expected = []
    for split in source.splits(1 << 40):
        for page in sources.read_split(split):
            if isinstance(page, articles.Article):
                expected += [
                    (page.page_id, page.title, list(p.section), p.ordinal, p.text, p.words)
                    for p in passages.passages(articles.part(page)[0])
                ]
    opened = open_corpus(corpus)
    assert len(opened) == len(expected) > 300
    rows = opened.passages(np.arange(len(opened))).to_pylist()
    columns = ("page_id", "title", "section", "ordinal", "text", "words")
    assert [tuple(row[c] for c in columns) for row in rows] == expected
    assert [row["passage_id"] for row in rows] == list(range(len(expected)))
    assert len({row["passage_key"] for row in rows}) == len(expected)


def test_counts_reconcile_with_what_the_dump_holds(corpus: Path, dump: DumpTruth) -> None:
    counts = open_corpus(corpus).counts
    assert counts["pages"] == dump.pages
    assert counts["kept"] == dump.kept
    assert counts["dropped: redirect"] == dump.redirects > 0
    assert counts["dropped: other namespace"] == dump.other_namespace > 0
    assert counts["dropped: not wikitext"] == dump.not_wikitext > 0
    assert counts["dropped: empty"] == dump.empty > 0
    assert counts["dropped: deleted"] == dump.deleted > 0
    assert counts["quarantined"] == dump.broken == 1
    assert counts["article_words"] == counts["words"] + counts["left_out_words"]
    assert counts["words"] > 10_000
    assert counts["left_out_words"] >= counts["left_out_sections"] > 0
    (note,) = (corpus / "passages/quarantine.jsonl").read_text().splitlines()
    assert json.loads(note)["title"]
    assert json.loads(note)["reason"]


def test_vectors_are_those_of_sentence_transformers(corpus: Path, models: Path) -> None:
    opened = open_corpus(corpus)
    ids = np.random.default_rng(0).choice(len(opened), 60, replace=False)
    rows = opened.passages(ids).to_pylist()
    model = SentenceTransformer(str(models / "gtr"), device="cpu")
    expected = model.encode([f"{row['title']} {row['text']}" for row in rows], batch_size=7)
    np.testing.assert_allclose(opened.vectors().take(ids), expected, atol=2e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_memory_is_that_of_transformers(corpus: Path, models: Path) -> None:
    opened = open_corpus(corpus)
    ids = np.random.default_rng(1).choice(len(opened), 40, replace=False)
    tokenizer = AutoTokenizer.from_pretrained(models / "t5")
    model = T5EncoderModel.from_pretrained(models / "t5").eval()
    fetched = opened.memory().fetch(ids)
    for row, values in zip(opened.passages(ids).to_pylist(), fetched, strict=True):
        text = f"title: {row['title']} context: {row['text']}"
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=304)
        with torch.no_grad():
            states = model(**tokens, output_hidden_states=True).hidden_states[4][0].numpy()
        assert values.shape == states.shape
        # Stored as bfloat16: half a unit of its last place, and the float32 computation's own rounding.
        error = np.abs(values.astype(np.float32) - states)
        assert (error <= 2.0**-8 * np.abs(states) + 1e-5 * np.abs(states).max()).all()


def test_search_is_brute_force_and_takes_texts(corpus: Path, models: Path) -> None:
    opened = open_corpus(corpus)
    model = SentenceTransformer(str(models / "gtr"), device="cpu")
    texts = ["How long is the river Danube?", "Which planet has rings?", "Атомный номер гелия"]
    result = opened.search(texts, 7)
    exact = model.encode(texts).astype(np.float64) @ opened.vectors().read(0, len(opened)).T
    assert result.passage_ids.dtype == np.int64
    np.testing.assert_allclose(result.scores, -np.sort(-exact, axis=1)[:, :7], atol=1e-5)
    found = np.take_along_axis(exact, result.passage_ids, axis=1)
    np.testing.assert_allclose(found, result.scores, atol=1e-5)
    same = opened.search(model.encode(texts), 7)
    np.testing.assert_array_equal(same.passage_ids, result.passage_ids)
    assert opened.search(texts[0], 2).passage_ids.shape == (1, 2)
    everything = opened.search(texts, len(opened)).passage_ids
    assert sorted(everything[0].tolist()) == list(range(len(opened)))


def test_searches_that_make_no_sense_are_refused(corpus: Path, models: Path) -> None:
    opened = open_corpus(corpus)
    for k in (0, -1, len(opened) + 1):
        with pytest.raises(errors.CorpusError, match=f"k is {k}, wanted 1 to {len(opened)}"):
            opened.search(np.zeros((1, 24), np.float32), k)
    with pytest.raises(errors.CorpusError, match=r"wanted \[q, 24\]"):
        opened.search(np.zeros((1, 25), np.float32), 1)
    with pytest.raises(errors.CorpusError, match="finite"):
        opened.search(np.full((1, 24), np.nan, np.float32), 1)


def test_another_retriever_is_refused(corpus: Path, tmp_path: Path) -> None:
    from tests import small_models

    small_models.make_gtr_folder(tmp_path / "gtr", seed=9)
    with pytest.raises(errors.MismatchError, match="fingerprint"):
        open_corpus(corpus, retriever=str(tmp_path / "gtr")).search("text", 1)


def test_two_processes_give_the_same_bytes(corpus: Path, settings: Any, tmp_path: Path) -> None:
    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    build(settings, tmp_path / "two", engine=engines.chosen(beam_options=options))
    assert content(tmp_path / "two") == content(corpus)


def test_a_second_build_finds_nothing_to_do(corpus_copy: Path, settings: Any) -> None:
    before = content(corpus_copy)
    outcome = build(settings, corpus_copy)
    assert outcome.already
    assert content(corpus_copy) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"memory": {"live_proportion": "1/2"}}, "memory_encoder.layers = 4, this command has 3"),
        ({"memory": {"max_tokens": 100}}, "max_tokens = 304, this command has 100"),
        ({"codec": "float32"}, "settings.codec = bfloat16, this command has float32"),
        ({"passage_words": 150}, "settings.passage_words = 200, this command has 150"),
        ({"memory": {"memory_template": "{text}"}}, "template"),
        ({"retriever_template": "{text}"}, "template"),
        ({"vector_dtype": "float16"}, "settings.vector_dtype"),
        ({"retriever_backend": "sentence-transformers"}, "settings.retriever_backend = jax"),
    ],
)
def test_other_settings_are_refused_by_name(
    corpus_copy: Path, settings: BuildSettings, change: dict[str, Any], named: str
) -> None:
    before = content(corpus_copy)
    if "memory" in change:
        change = {"memory": settings.memory.changed(change["memory"])}
    with pytest.raises(errors.MismatchError, match="was built with") as caught:
        build(dataclasses.replace(settings, **change), corpus_copy)
    assert named in str(caught.value)
    assert content(corpus_copy) == before


def test_another_model_or_source_is_refused(
    corpus_copy: Path, settings: BuildSettings, tmp_path: Path
) -> None:
    from examples.miniwiki.export import write_dump
    from tests import small_models

    small_models.make_t5_folder(tmp_path / "t5", layers=6, seed=77)
    with pytest.raises(errors.MismatchError, match=r"memory_encoder\.tensors"):
        build(dataclasses.replace(settings, memory_encoder=str(tmp_path / "t5")), corpus_copy)
    other = write_dump(tmp_path / "other.xml", articles=20, form="xml")
    with pytest.raises(errors.MismatchError, match="sources"):
        build(dataclasses.replace(settings, sources=(f"mediawiki:{other.path}",)), corpus_copy)


class Stop(Exception):
    """An interruption that a test makes."""


def test_interrupted_anywhere_it_ends_with_the_same_bytes(
    corpus: Path, settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails before each write of the work in turn, from the first on, and goes on."""
    original = files.finish_partial
    written = 0
    out = tmp_path / "corpus"

    def fail_at_next(partial: Path, path: Path) -> None:
        nonlocal written
        written += 1
        if written > 2:
            raise Stop
        original(partial, path)

    interruptions = 0
    while not (out / manifest.NAME).exists():
        written = 0
        monkeypatch.setattr(files, "finish_partial", fail_at_next)
        try:
            build(settings, out)
        except (Stop, RuntimeError):
            interruptions += 1
        with monkeypatch.context() as patch:
            patch.setattr(files, "finish_partial", original)
            with pytest.raises(errors.CorpusError, match=r"not finished|holds no corpus"):
                open_corpus(out)
            if interruptions == 40:
                monkeypatch.setattr(files, "finish_partial", original)
                build(settings, out)
    assert interruptions >= 10
    assert content(out) == content(corpus)


def test_what_a_resume_finds_damaged_is_done_again(
    corpus: Path, settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.jobs import build as build_module

    out = tmp_path / "corpus"

    def stop(*_: object, **__: object) -> None:
        raise Stop

    monkeypatch.setattr(build_module.commit, "commit", stop)
    with pytest.raises(Stop):
        build(settings, out)
    monkeypatch.undo()
    damaged = [
        next((out / "memory").glob("*/values/c/1/0/0")),
        next((out / "vectors").glob("*/c/0/0")),
        out / "passages/part-00001.parquet",
        next((out / "index").glob("*/index.faiss")),
        out / "work/splits/000000.parquet",
        out / "work/shards/000002.json",
    ]
    for path in damaged:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    build(settings, out)
    assert content(out) == content(corpus)


def test_a_resume_with_other_settings_is_refused(
    settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.components.memory import encode as encode_shards

    out = tmp_path / "corpus"

    def stop(*_: object) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(encode_shards, "load_encoder", stop)
        with pytest.raises((Stop, RuntimeError)):
            build(settings, out)
    with pytest.raises(errors.MismatchError, match=r"was begun with settings\.codec = bfloat16"):
        build(dataclasses.replace(settings, codec="float16"), out)
    with pytest.raises(errors.MismatchError, match=r"was begun with settings\.retriever_backend = jax"):
        build(dataclasses.replace(settings, retriever_backend="sentence-transformers"), out)
    with monkeypatch.context() as patch:
        patch.setattr(batching, "VERSION", batching.VERSION + 1)
        with pytest.raises(errors.MismatchError, match=r"was begun with settings\.batching = 1"):
            build(dataclasses.replace(settings, memory=settings.memory.changed({})), out)


def test_a_killed_worker_ends_the_job(
    settings: BuildSettings, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    from pipeline.units import progress

    out = tmp_path / "corpus"
    killed = []

    class Killer:
        def stage_started(self, stage: Stage[Any], total: int) -> None: ...
        def stage_finished(self, stage: Stage[Any], snapshot: progress.Snapshot) -> None: ...
        def stage_polled(self, stage: Stage[Any], snapshot: progress.Snapshot) -> None:
            workers = local._DeathWatch._workers()
            if stage.name == "shards" and workers and not killed:
                killed.append(workers[0].pid)
                os.kill(workers[0].pid, signal.SIGKILL)

    options = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    with pytest.raises(engines.WorkerDied, match="run the same command again"):
        build(settings, out, engine=engines.chosen(beam_options=options), observer=Killer())
    assert killed
    assert local._DeathWatch._workers() == []
    build(settings, out)
    assert content(out) == content(corpus)


def test_one_build_at_a_time(settings: BuildSettings, tmp_path: Path) -> None:
    with locks.one_job(tmp_path), pytest.raises(errors.CorpusError, match="another job is at work"):
        build(settings, tmp_path)


def test_every_file_is_checked_and_every_flip_found(corpus_copy: Path) -> None:
    whole = verification(corpus_copy, full=True)
    assert whole.ok
    assert whole.strays == []
    assert whole.files == len([p for p in corpus_copy.rglob("*") if p.is_file()]) - 1  # corpus.json itself
    for path in sorted(p for p in corpus_copy.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if not data:
            continue
        for position in {0, len(data) // 3, len(data) - 1}:
            path.write_bytes(data[:position] + bytes([data[position] ^ 0x20]) + data[position + 1 :])
            result = verification(corpus_copy, full=True)
            assert not result.ok, f"byte {position} of {path.relative_to(corpus_copy)}"
        path.write_bytes(data[:-1])
        assert not verification(corpus_copy, full=False).ok
        path.unlink()
        if path.name == manifest.NAME:
            with pytest.raises(errors.CorpusError, match="holds no corpus"):
                verification(corpus_copy, full=False)
        else:
            assert not verification(corpus_copy, full=False).ok
        path.write_bytes(data)
    (corpus_copy / "notes.txt").write_text("mine")
    result = verification(corpus_copy, full=True)
    assert result.ok
    assert result.strays == ["notes.txt"]


def test_reading_what_is_damaged_raises(corpus_copy: Path) -> None:
    def use(pattern: str) -> None:
        (path, *_) = sorted(corpus_copy.glob(pattern))
        data = path.read_bytes()
        position = len(data) // 2
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        opened = open_corpus(corpus_copy)
        everything = np.arange(len(opened))
        opened.passages(everything)
        opened.memory().fetch(everything)
        opened.search(opened.vectors().read(0, len(opened)), 3)

    for pattern in (
        "corpus.json",
        "passages/passages.json",
        "passages/part-*.parquet",
        "vectors/*/vectors.json",
        "vectors/*/c/0/0",
        "index/*/index.json",
        "index/*/index.faiss",
        "memory/*/memory.json",
        "memory/*/values/c/0/0/0",
        "memory/*/offsets/c/0/0",
        "memory/*/checksums/c/0/0",
    ):
        backup = {p: p.read_bytes() for p in corpus_copy.glob(pattern)}
        with pytest.raises(errors.DamagedError):
            use(pattern)
        for path, data in backup.items():
            path.write_bytes(data)
    use("statistics/build-units.parquet")  # nothing that a reader reads


def test_a_resume_reads_the_files_it_was_given(
    settings: BuildSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source has moved meanwhile, and another of the same name lies where it was."""
    from pipeline.components.passages import read as read_passages

    def source(folder: str, word: str) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / "s.jsonl"
        lines = [json.dumps({"id": i, "title": f"T{i}", "text": f"{word} {i}."}) for i in range(30)]
        path.write_text("\n".join(lines) + "\n")
        return f"jsonl:{path}"

    def stop(*_: object) -> None:
        raise Stop

    out = tmp_path / "corpus"
    with monkeypatch.context() as patch:
        patch.setattr(read_passages.ReadPassages, "_batches", stop)
        with pytest.raises((Stop, RuntimeError)):
            build(dataclasses.replace(settings, sources=(source("a", "old"),)), out)
    moved = source("b", "old")
    source("a", "new")
    build(dataclasses.replace(settings, sources=(moved,)), out)
    texts = open_corpus(out).passages(range(30)).column("text").to_pylist()
    assert texts == [f"old {i}." for i in range(30)]


def test_a_source_that_changes_while_it_is_read_is_refused(
    settings: BuildSettings, dump: DumpTruth, tmp_path: Path
) -> None:
    import shutil

    from pipeline.units import progress

    copy = Path(shutil.copy(dump.path, tmp_path / "dump.xml.bz2"))

    class Touch:
        def stage_started(self, stage: Stage[Any], total: int) -> None:
            copy.touch()

        def stage_polled(self, stage: Stage[Any], snapshot: progress.Snapshot) -> None: ...
        def stage_finished(self, stage: Stage[Any], snapshot: progress.Snapshot) -> None: ...

    with pytest.raises(errors.MismatchError, match="was changed while it was read"):
        build(
            dataclasses.replace(settings, sources=(f"mediawiki:{copy}",)),
            tmp_path / "corpus",
            observer=Touch(),
        )
    assert not (tmp_path / "corpus" / manifest.NAME).exists()


def test_files_of_the_users_in_a_finished_corpus_stay(corpus_copy: Path, settings: Any) -> None:
    (corpus_copy / "work").mkdir()
    (corpus_copy / "work/thesis.txt").write_text("mine")
    assert build(settings, corpus_copy).already
    assert (corpus_copy / "work/thesis.txt").read_text() == "mine"


def test_the_files_of_another_shard_are_refused(corpus_copy: Path) -> None:
    (shards,) = corpus_copy.glob("memory/*/values/c")
    (shards / "1").rename(shards / "other")
    (shards / "2").rename(shards / "1")
    (shards / "other").rename(shards / "2")
    reader = open_corpus(corpus_copy).memory()
    with pytest.raises(errors.DamagedError):
        reader.fetch(range(64, 128))
    assert reader.fetch([0]).values.any()


@pytest.mark.parametrize("name", ["offsets", "checksums"])
def test_rows_of_another_version_are_refused(corpus_copy: Path, name: str) -> None:
    """Whole in themselves, every chunk under its own checksum."""
    (path,) = corpus_copy.glob(f"memory/*/{name}/c/0/0")
    layout = open_corpus(corpus_copy).memory().card.layout
    size = 4 * (layout.grid.shard_passages + (name == "offsets"))
    data, shards = path.read_bytes(), layout.grid.shards
    chunks = [data[at : at + size] for at in range(0, shards * (size + 4), size + 4)]
    shard_files.write(path, [chunks[0], *chunks[:0:-1]], chunk_bytes=size, total=shards)
    with pytest.raises(errors.DamagedError, match="CRC-32"):
        open_corpus(corpus_copy).memory()


def test_a_damaged_card_hides_its_own_component_only(corpus_copy: Path) -> None:
    for path in (corpus_copy / "passages/passages.json", next(corpus_copy.glob("memory/*/values/c/1/0/0"))):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    result = verification(corpus_copy, full=True)
    assert any("passages.json" in line for line in result.damaged)
    assert any("values/c/1/0/0" in line for line in result.damaged)
    assert result.strays == []


def test_a_link_out_of_the_corpus_is_refused(corpus_copy: Path, tmp_path: Path) -> None:
    (values,) = corpus_copy.glob("memory/*/values")
    values.rename(tmp_path / "elsewhere")
    values.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.CorpusError, match="link out of"):
        open_corpus(corpus_copy).memory().fetch([0])


RECORD = '{{"id": "{}", "title": "T{}", "text": "{}"}}\n'


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (
            '{"id": "1", "contents": "x"}\n' * 2,
            "of 2 pages 2 cannot be read, the first: '': line at byte 0: 'title'",
        ),
        # More than may be quarantined whatever their share.
        (
            '{"id": "1", "contents": "x"}\n' * 30,
            "of 30 pages 30 cannot be read, the first: '': line at byte 0",
        ),
        (RECORD.format(1, 1, " ") * 3, "of 3 pages 3 empty; is it the right format?"),
        (RECORD.format(1, 1, " ") + "no JSON\n", "of 2 pages 1 empty, 1 cannot be read, the first: ''"),
    ],
)
def test_no_passages_says_why_and_leaves_the_folder_free(
    settings: Any, tmp_path: Path, lines: str, why: str
) -> None:
    out, file = tmp_path / "out", tmp_path / "a.jsonl"
    file.write_text(lines)
    with pytest.raises(errors.CorpusError, match=re.escape(why)):
        build(dataclasses.replace(settings, sources=(f"jsonl:{file}",)), out)
    assert not list(out.iterdir())
    file.write_text(RECORD.format(1, 1, "One sentence."))
    assert (
        len(open_corpus(build(dataclasses.replace(settings, sources=(f"jsonl:{file}",)), out).corpus.root))
        == 1
    )


def test_the_same_file_twice_is_refused(settings: Any, tmp_path: Path) -> None:
    file, copy = tmp_path / "a.jsonl", tmp_path / "copy.jsonl"
    file.write_text(RECORD.format(1, 1, "One sentence."))
    shutil.copy(file, copy)
    for other in (file, copy):
        with pytest.raises(ValueError, match="give it once, or every passage would be in the corpus twice"):
            build(
                dataclasses.replace(settings, sources=(f"jsonl:{file}", f"jsonl:{other}")), tmp_path / "out"
            )
    assert not (tmp_path / "out").exists()


def test_sections_that_are_no_prose_are_kept_on_demand(tmp_path: Path, settings: BuildSettings) -> None:
    build(dataclasses.replace(settings, keep_sections=True), tmp_path / "kept")
    opened = open_corpus(tmp_path / "kept")
    counts = opened.counts
    assert counts["left_out_sections"] == counts["left_out_words"] == 0
    assert counts["article_words"] == counts["words"]
    rows = opened.passages(np.arange(len(opened))).to_pylist()
    assert "See also" in {row["section"][-1] for row in rows if row["section"]}
