"""What models cannot read is counted, told and judged: cut tokens and unknown ones, of both models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from transformers import AutoTokenizer

from encoders.memory_spec import MemorySpec
from encoders.retriever import BACKENDS
from encoders.template import PassageTemplate
from encoders.transformers_output import silenced
from pipeline.accounts import facts, figures, reading
from pipeline.components.settings import BuildSettings
from pipeline.jobs.reencode import ReencodeSettings
from retrieval import open_corpus
from storage.components import ReadCounts
from storage.folder import CorpusFolder
from tests import jobs, small_models, small_retrievers

ROOT = Path(__file__).parents[1]
# Of four languages, none of them whole in an English vocabulary.
PAGES = {
    "en": ("Glasgow", "Glasgow is a city on the River Clyde in the west central Lowlands of Scotland. " * 14),
    "uk": ("Київ", "Київ є столицею та найбільшим містом України, розташованим на Дніпрі. " * 14),
    "ja": ("東京", "東京は日本の首都であり、世界最大の都市の一つである。人口は約千四百万人。" * 20),
    "ko": ("서울", "서울은 대한민국의 수도이자 최대 도시이다. 한강이 도시를 가로지른다. " * 14),
}
PROMPTS = {"document": "tell us of ", "query": "ask: "}


def write_pages(path: Path, languages: tuple[str, ...], copies: int = 20) -> Path:
    rows = [
        {"id": f"{language}{i}", "title": f"{PAGES[language][0]} {i}", "text": PAGES[language][1]}
        for i in range(copies)
        for language in languages
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def by_transformers(folder: Path, texts: list[str], limit: int) -> ReadCounts:
    """Each text by itself, whole and cut."""
    with silenced():
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        whole = [len(tokenizer(text, verbose=False)["input_ids"]) for text in texts]
        kept = [tokenizer(text, truncation=True, max_length=limit)["input_ids"] for text in texts]
    return ReadCounts(
        tokens=sum(map(len, kept)),
        passages_cut=sum(n > limit for n in whole),
        tokens_cut=sum(whole) - sum(map(len, kept)),
        tokens_unknown=sum(ids.count(tokenizer.unk_token_id) for ids in kept),
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("reading")
    made = {
        "t5": small_models.make_t5_folder(root / "t5", layers=3),
        "gtr": small_models.make_gtr_folder(root / "gtr"),
        "bert": small_retrievers.make_retriever(root / "bert", "bert", prompts=PROMPTS),
    }
    small_models.edit_json(made["gtr"] / "config_sentence_transformers.json", prompts=PROMPTS)
    return made


def settings_of(folders: dict[str, Path], source: Path, retriever: str, **more: Any) -> BuildSettings:
    return BuildSettings(
        sources=(f"jsonl:{source}",),
        retriever=str(folders[retriever]),
        memory_encoder=str(folders["t5"]),
        memory=MemorySpec(compute_dtype="float32", max_tokens=96),
        shard_passages=64,
        **more,
    )


@pytest.mark.parametrize(
    ("retriever", "backend"), [*(("gtr", backend) for backend in BACKENDS), ("bert", BACKENDS[1])]
)
def test_counts_are_those_of_transformers(
    folders: dict[str, Path], tmp_path: Path, retriever: str, backend: str
) -> None:
    source = write_pages(tmp_path / "pages.jsonl", ("en", "uk", "ja", "ko"))
    settings = settings_of(folders, source, retriever, retriever_backend=backend)
    root = jobs.build(settings, tmp_path / "corpus").corpus.root
    corpus = open_corpus(root)
    rows = corpus.passages(range(len(corpus))).to_pylist()
    texts = PassageTemplate(settings.memory.template).render_rows(rows)
    expected = by_transformers(folders["t5"], texts, 96)
    card = CorpusFolder(root).memory(corpus.manifest.version(None))
    assert card.counts.read == expected
    texts = [PROMPTS["document"] + t for t in PassageTemplate(settings.retriever_template).render_rows(rows)]
    expected = by_transformers(folders[retriever], texts, {"gtr": 64, "bert": 48}[retriever])
    assert corpus.vectors_card.counts == expected
    # Not trivial.
    assert 0 < expected.passages_cut <= len(rows)
    assert min(expected.tokens_cut, expected.tokens_unknown) > 100

    # A new encoder counts anew, a codec keeps what was counted, and so on.
    longer, version = jobs.reencode(
        root, ReencodeSettings(memory_encoder=str(folders["t5"]), memory={"max_tokens": 128})
    )
    del longer
    texts = PassageTemplate(settings.memory.template).render_rows(rows)
    encoded = CorpusFolder(root).memory(version).counts.read
    assert encoded == by_transformers(folders["t5"], texts, 128) != card.counts.read
    _, small = jobs.reencode(root, ReencodeSettings(origin=version, codec="int8"))
    _, smaller = jobs.reencode(root, ReencodeSettings(origin=small, codec="turbo4"))
    assert CorpusFolder(root).memory(smaller).counts.read == encoded
    # A repair makes files again, and no card.
    before = {path: path.read_bytes() for path in root.rglob("*.json")}
    shard = next((root / "vectors").rglob("c/0/0"))
    shard.write_bytes(b"x" + shard.read_bytes()[1:])
    jobs.repair(root)
    assert jobs.verify(root, full=True).damaged == []
    assert {path: path.read_bytes() for path in before} == before


def test_much_is_warned_of(folders: dict[str, Path], tmp_path: Path, command: Callable[..., Any]) -> None:
    """Two articles whose text is unknown have one memory, byte for byte; whoever builds is told."""
    rows = [
        {"id": i, "title": "x", "text": text}
        for i, text in enumerate(("長江是中國最長的河流", "水是一種無色液體"))
    ]
    source = tmp_path / "pages.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = small_models.make_t5_folder(tmp_path / "t5", layers=3)
    options = ["--source", f"jsonl:{source}", "--retriever", folders["gtr"], "--memory-encoder", model]
    status, out, err = command("build", *options, "--live-proportion", "1/3", "--out", tmp_path / "c")
    assert status == 0, err
    corpus = open_corpus(tmp_path / "c")
    first, second = (np.asarray(corpus.memory().fetch([i]).values).tobytes() for i in (0, 1))
    assert first == second
    warned = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 2
    version = corpus.manifest.version(None)
    assert f"warning: memory {version}: " in warned[0]
    assert "of the tokens are unknown to the memory encoder" in warned[0]
    assert "take an encoder for the language" in warned[0]
    assert "retriever: " in warned[1]
    for name in ("info", "report"):
        status, out, _ = command(name, tmp_path / "c")
        assert status == 0
        assert [line for line in out.splitlines() if line.startswith("warning: ")] == warned
        status, out, _ = command(name, tmp_path / "c", "--json")
        assert [f"warning: {line}" for line in json.loads(out)["warnings"]] == warned
    status, _, err = command("report", tmp_path / "c", "--html", tmp_path / "page.html")
    assert status == 0, err
    page = (tmp_path / "page.html").read_text()
    assert page.count('<p class="warning">Warning: ') == 2
    status, out, _ = command("reencode", tmp_path / "c", "--from", "current", "--codec", "int8")
    assert status == 0
    assert [line for line in out.splitlines() if line.startswith("warning: memory")] != []


def test_a_plan_foretells_what_a_build_counts(
    folders: dict[str, Path], tmp_path: Path, command: Callable[..., Any]
) -> None:
    """A source that is sampled whole: the same counts, and the same warnings."""
    source = write_pages(tmp_path / "pages.jsonl", ("en", "uk", "ja"))
    models = ["--retriever", folders["bert"], "--memory-encoder", folders["t5"]]
    options = ["--source", f"jsonl:{source}", *models, "--max-tokens", "96", "--live-proportion", "1/3"]
    status, out, err = command("build", *options, "--out", tmp_path / "c", "--json")
    assert status == 0, err
    built = json.loads(out)
    status, out, err = command("plan", *options, "--device", "h100", "--json")
    assert status == 0, err
    plan = json.loads(out)
    jsonschema.validate(plan, json.loads((ROOT / "docs/plan.schema.json").read_text()))
    (vectors,), (memory,) = built["vectors"].values(), built["memory"].values()
    assert plan["read"] == {"memory": memory["read"], "retriever": vectors["read"]}
    name = next(iter(built["memory"]))
    assert plan["warnings"] == [line.replace(f"memory {name}", "memory") for line in built["warnings"]]
    assert len(plan["warnings"]) == 4
    assert plan["ways"][0]["retriever_flops"] == 2 * (vectors["read"]["tokens"] * 2 * 32 * (4 * 32 + 2 * 40))
    status, out, err = command("plan", *options, "--device", "h100")
    assert status == 0, err
    assert "retriever: unknown tokens" in out
    status, out, err = command("report", tmp_path / "c", "--json")
    report = json.loads(out)
    jsonschema.validate(report, json.loads((ROOT / "docs/report.schema.json").read_text()))
    assert report["vectors"][0]["read"] == vectors["read"]
    assert report["versions"][0]["read"] == memory["read"]
    assert report["warnings"] == built["warnings"]


def test_what_is_not_known_is_told(
    folders: dict[str, Path], tmp_path: Path, command: Callable[..., Any]
) -> None:
    """An architecture without a line in the cost model, and counts that nobody made."""
    folder = small_retrievers.make_retriever(tmp_path / "m", "bert")
    small_models.edit_json(folder / "config.json", num_hidden_layers=None)  # left to the class
    given = ["--passages", "1000", "--tokens-per-passage", "100", "--size", "base", "--device", "h100"]
    status, out, err = command("plan", *given, "--retriever", folder)
    assert status == 0, err
    assert "not counted" in out
    assert "warning: retriever: its FLOPs are not counted, since its architecture (bert) is not known" in out
    status, out, err = command("plan", *given, "--retriever", folder, "--json")
    plan = json.loads(out)
    jsonschema.validate(plan, json.loads((ROOT / "docs/plan.schema.json").read_text()))
    assert plan["ways"][0]["retriever_flops"] is None
    assert plan["read"] == {"memory": None, "retriever": None}


def test_corpora_of_before_say_not_counted(command: Callable[..., Any], tmp_path: Path) -> None:
    # Made before tokens were counted; `format-1-chunks` was made since.
    root = Path(shutil.copytree(ROOT / "tests/golden/format-1", tmp_path / "golden"))
    for name in ("info", "report"):
        status, out, err = command(name, root)
        assert status == 0, err
        assert out.count("not counted") >= 3
        assert "warning:" not in out
    found = figures.summary(facts.read(CorpusFolder(root)))
    assert [one["read"] for one in (*found["vectors"].values(), *found["memory"].values())] == [None] * (
        len(found["vectors"]) + len(found["memory"])
    )


def test_shards_of_an_earlier_release_leave_the_corpus_uncounted(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that another release began: some receipts lack the counts, so that sums would be too small."""
    from pipeline.components.memory import encode

    source = write_pages(tmp_path / "pages.jsonl", ("en", "uk", "ja", "ko"))
    settings = settings_of(folders, source, "gtr")
    finish = encode.EncodeShards.finish

    def as_before(self: Any, unit: int, computed: Any, meter: Any) -> Any:
        receipt = finish(self, unit, computed, meter)
        if unit == 0:
            counts = {
                name: count
                for name, count in receipt.counts.to_json().items()
                if name not in receipt.counts.optional
            }
            object.__setattr__(receipt, "counts", type(receipt.counts).from_json(counts))
        return receipt

    monkeypatch.setattr(encode.EncodeShards, "finish", as_before)
    root = jobs.build(settings, tmp_path / "corpus").corpus.root
    corpus = open_corpus(root)
    assert corpus.vectors_card.counts is None
    counts = CorpusFolder(root).memory(corpus.manifest.version(None)).counts
    assert counts.read is None
    assert counts.tokens_cut > 0
    # And what is recoded of them knows no more.
    _, version = jobs.reencode(root, ReencodeSettings(origin="current", codec="int8"))
    again = CorpusFolder(root).memory(version).counts
    assert again.read is None
    assert (again.tokens, again.tokens_cut) == (counts.tokens, counts.tokens_cut)


@pytest.mark.parametrize(
    ("cut", "unknown", "lines"), [(50, 9, 0), (54, 9, 1), (0, 10, 0), (0, 11, 1), (80, 20, 2), (0, 0, 0)]
)
def test_where_much_begins(cut: int, unknown: int, lines: int) -> None:
    """More than a twentieth cut, more than a hundredth unknown."""
    given = reading.to_json(
        ReadCounts(tokens=1000, passages_cut=cut and 3, tokens_cut=cut, tokens_unknown=unknown)
    )
    assert len(list(reading.of_memory(given, limit=304))) == lines
    assert len(list(reading.of_retriever(given, limit=None))) == lines
    assert list(reading.of_memory(None, limit=304)) == []
