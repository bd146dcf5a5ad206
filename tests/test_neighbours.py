"""Tables of neighbours: against brute force, without the own document, the same bytes however they were made.

RETRO's reimplementation in Megatron-LM had eleven defects. Tests here and in `test_chunks` name those that
concern data, by number, and fail on each.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipeline.components import neighbours as component
from pipeline.components.settings import BuildSettings
from pipeline.jobs import neighbours as module
from pipeline.units import engines
from retrieval import Corpus, index_building, nearest, neighbours, open_corpus
from retrieval import exact as exact_search
from retrieval import index as index_module
from retrieval.index import Index
from retrieval.nearest import Best
from storage import components, errors
from storage.components.neighbours import NeighboursLayout, foretold_bytes
from storage.folder import CorpusFolder
from tests import jobs, small_models
from tests.commands import Command, refused
from tests.killing import Killed, killed_at
from tests.object_store import BUCKET, serving
from tests.test_cards import WRONG, leaves, with_value

K = 3
LONG = 260
WORDS = (
    "river hill sea land city tea water sugar mineral oxygen symphony hall paper leaf whale mammal".split()
)


def write_source(path: Path, *, documents: int, seed: int, long: bool) -> str:
    """Documents of 1 to 9 chunks; with `long` one of hundreds, which says nearly the same all along."""
    rng = random.Random(seed)
    with path.open("w") as file:
        for number in range(documents):
            count = rng.randint(4, 60)
            text = " ".join(rng.choice(WORDS) for _ in range(count))
            if long and number == documents // 2:
                text = "the river flows to the sea. " * (LONG * 2)
            file.write(json.dumps({"id": number, "title": f"D{number}", "text": text}) + "\n")
    return f"jsonl:{path}"


@pytest.fixture(scope="module")
def chunk_settings(
    settings: BuildSettings, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> BuildSettings:
    source = write_source(tmp_path_factory.mktemp("source") / "a.jsonl", documents=60, seed=0, long=True)
    return replace(settings, sources=(source,), passage_tokens=12, tokenizer=str(tokenizer_folder))


@pytest.fixture(scope="module")
def chunked(chunk_settings: BuildSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an exact index and no table."""
    return jobs.build(chunk_settings, tmp_path_factory.mktemp("exact") / "corpus").corpus.root


@pytest.fixture(scope="module")
def listed(chunk_settings: BuildSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an index of lists."""
    out = tmp_path_factory.mktemp("lists") / "corpus"
    return jobs.build(chunk_settings, out, exact_limit=64).corpus.root


@pytest.fixture(scope="module")
def other(chunk_settings: BuildSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Held-out documents, by the same retriever."""
    folder = tmp_path_factory.mktemp("other")
    source = write_source(folder / "b.jsonl", documents=20, seed=5, long=False)
    return jobs.build(replace(chunk_settings, sources=(source,)), folder / "held-out").corpus.root


@pytest.fixture(scope="module")
def table(chunked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with a table of three."""
    copy = Path(shutil.copytree(chunked, tmp_path_factory.mktemp("table") / "corpus"))
    jobs.neighbours(copy, k=K, title="three")
    return copy


def vectors_of(corpus: Corpus) -> np.ndarray:
    return np.asarray(corpus.vectors().read(0, len(corpus)), np.float64)


def document_of(corpus: Corpus) -> np.ndarray:
    ordinal = corpus.passages(np.arange(len(corpus))).column("ordinal").to_numpy()
    return np.cumsum(ordinal == 0)


def brute_force(queries: np.ndarray, database: np.ndarray, own: np.ndarray, k: int) -> np.ndarray:
    """The k largest scores of each query [q, k], -inf where there are fewer; `own` [q, n] is left out."""
    scores = np.where(own, -np.inf, queries @ database.T)
    scores = np.concatenate([scores, np.full((len(queries), k), -np.inf)], axis=1)
    return -np.sort(-scores, axis=1)[:, :k]


def require_table(corpus: Corpus, database: Corpus, own: np.ndarray, *, name: str | None = None) -> None:
    reader = corpus.neighbours(name)
    found = reader.fetch(np.arange(len(corpus)))
    queries, vectors = vectors_of(corpus), vectors_of(database)
    wanted = brute_force(queries, vectors, own, reader.k)
    np.testing.assert_array_equal(found.mask, wanted > -np.inf)
    np.testing.assert_allclose(found.scores, wanted, atol=2e-6)
    rows = np.broadcast_to(np.arange(len(corpus))[:, None], found.mask.shape)[found.mask]
    ids = found.passage_ids[found.mask]
    # Each id has the score that it claims, and none is of the own document, or there twice.
    np.testing.assert_allclose(
        (queries[rows] * vectors[ids]).sum(axis=1), found.scores[found.mask], atol=2e-6
    )
    assert not own[rows, ids].any()
    assert len(set(zip(rows.tolist(), ids.tolist(), strict=True))) == len(ids)


def test_a_table_is_that_of_brute_force(table: Path) -> None:
    corpus = open_corpus(table)
    documents = document_of(corpus)
    assert np.bincount(documents).max() > LONG
    require_table(corpus, corpus, documents[:, None] == documents)
    card = corpus.neighbours().card
    assert card.recall == 1.0
    assert card.recall_queries == min(component.RECALL_QUERIES, len(corpus))
    counts = card.counts
    assert counts.searched == len(corpus)
    assert (counts.found, counts.missing, counts.short) == (K * len(corpus), 0, 0)
    assert counts.excluded == int((np.bincount(documents) ** 2).sum())


def test_no_own_document_though_it_fills_whole_lists(listed: Path, tmp_path: Path) -> None:
    """Megatron takes 200 hits and drops its own; where they are all its own, it is left with none."""
    copy = Path(shutil.copytree(listed, tmp_path / "corpus"))
    corpus = open_corpus(copy)
    assert corpus.index_card.parameters["lists"] > 0
    documents = document_of(corpus)
    index = corpus.open_index()
    every = np.asarray(corpus.vectors().read(0, len(corpus)), np.float32)
    longest = np.argmax(np.bincount(documents))
    mine = np.flatnonzero(documents == longest)
    # The case is not trivial: a plain search of 200 finds nothing but the own document.
    hits, _ = index.search(every[mine[:1]], min(200, len(corpus)))
    assert (documents[hits] == longest).all()
    name = jobs.neighbours(copy, k=K)
    found = open_corpus(copy).neighbours(name).fetch(np.arange(len(corpus)))
    assert (found.passage_ids >= 0).all()
    assert (documents[found.passage_ids] != documents[:, None]).all()
    card = open_corpus(copy).neighbours(name).card
    assert card.search["method"] == "index"
    assert card.counts.missing == 0
    # Recall as it is recorded, by brute force on the same rows.
    rows = np.unique(np.linspace(0, len(corpus) - 1, card.recall_queries).astype(np.int64))
    own = documents[rows][:, None] == documents
    best = brute_force(every[rows].astype(np.float64), every.astype(np.float64), own, K)
    true = np.einsum("qkd,qd->qk", every[found.passage_ids[rows]], every[rows])
    assert card.recall == pytest.approx(float((true >= best[:, -1:] - 1e-6).mean()), abs=1e-3)
    # The exact table of the same corpus stands beside it, and is another.
    exact = jobs.neighbours(copy, k=K, exact=True)
    assert exact != name
    require_table(open_corpus(copy), corpus, documents[:, None] == documents, name=exact)
    assert jobs.neighbours(copy, k=K, probes=int(corpus.index_card.parameters["lists"])) not in (name, exact)
    with pytest.raises(errors.CorpusError, match=r"probes is 0: the index has \d+ lists"):
        jobs.neighbours(copy, probes=0)


def test_a_database_of_one_document_has_no_neighbours(chunk_settings: BuildSettings, tmp_path: Path) -> None:
    """Megatron's defect 1: what is missing is -1, counted, and masked; not the database's last chunk."""
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"id": 1, "title": "A", "text": "the river flows to the sea. " * 20}) + "\n")
    root = jobs.build(replace(chunk_settings, sources=(f"jsonl:{path}",)), tmp_path / "corpus").corpus.root
    jobs.neighbours(root, k=2)
    corpus = open_corpus(root)
    found = corpus.neighbours().fetch(np.arange(len(corpus)))
    assert (found.passage_ids == -1).all()
    assert (found.scores == -np.inf).all()
    counts = corpus.neighbours().card.counts
    assert (counts.found, counts.missing, counts.short) == (0, 2 * len(corpus), len(corpus))
    assert not neighbours.retrieved(corpus, found.passage_ids).mask.any()


def test_held_out_text_is_searched_in_another_corpus(
    chunked: Path, other: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(other, tmp_path / "held-out"))
    before = {p: p.read_bytes() for p in chunked.rglob("*") if p.is_file()}
    monkeypatch.chdir(chunked)
    status, out, err = command("neighbours", ".", "--of", copy, "-k", 2, "--json")
    assert status == 0, err
    told = json.loads(out)
    assert (told["database"], told["rule"], told["recall"]) == ("corpus", "nothing excluded", 1.0)
    assert {p: p.read_bytes() for p in chunked.rglob("*") if p.is_file()} == before
    held, database = open_corpus(copy), open_corpus(chunked)
    require_table(held, database, np.zeros((len(held), len(database)), bool))
    held.neighbours().require_database(database)
    with pytest.raises(errors.MismatchError, match=r"was searched in corpus \([\d,]+ passages\), not in"):
        held.neighbours().require_database(held)
    # Its own table is another one, and nothing is taken by default then.
    jobs.neighbours(copy, k=2)
    with pytest.raises(errors.CorpusError, match=r"several tables of neighbours: .*2 in corpus.*; name one"):
        open_corpus(copy).neighbours()
    assert command("neighbours", chunked, "--of", copy, "--check", 1, "--table", told["table"])[0] == 0
    # A corpus searched in itself is its own database, however it is spelled; of a copy it is said.
    assert jobs.neighbours(copy, of=copy, k=2) in CorpusFolder(copy).manifest.of(components.NEIGHBOURS)
    refused(command, ["neighbours", other, "--of", copy], "are one corpus in two places: each passage would")
    assert len(CorpusFolder(copy).manifest.of(components.NEIGHBOURS)) == 2


def test_a_database_that_was_changed_meanwhile_is_refused(chunked: Path, other: Path) -> None:
    """Nobody locks it, and each worker opens it for itself."""
    held, database = open_corpus(other), open_corpus(chunked)
    plan = component.plan(held, database, k=1, own=False)
    for content, refuses in ((plan.content, False), ("0" * 64, True)):
        job = component.SearchNeighbours(
            corpus=held.folder, plan=replace(plan, content=content), folder=plan.folder
        )
        if refuses:
            with pytest.raises(errors.MismatchError, match="another corpus than when the search began"):
                job.search(np.arange(2), exact=True)
        else:
            assert job.search(np.arange(2), exact=True).ids.shape == (2, 1)


def test_a_copy_of_a_document_is_found(chunked: Path, chunk_settings: BuildSettings, tmp_path: Path) -> None:
    """What `--of` is for: text that leaked into the database comes back with a score of one."""
    source = Path(chunk_settings.sources[0].partition(":")[2])
    path = tmp_path / "leak.jsonl"
    path.write_text(source.read_text().splitlines(keepends=True)[7])
    root = jobs.build(replace(chunk_settings, sources=(f"jsonl:{path}",)), tmp_path / "leak").corpus.root
    place = Path(shutil.copytree(chunked, tmp_path / "there" / "corpus"))
    jobs.neighbours(place, of=root, k=1)
    found = open_corpus(root).neighbours().fetch(np.arange(len(open_corpus(root))))
    np.testing.assert_allclose(found.scores, 1.0, atol=1e-5)
    # The database was moved: a repair, too, is told where it is.
    whole = {path: path.read_bytes() for path in sorted((root / "neighbours").glob("*/*/c/0/0"))}
    for path, data in whole.items():
        path.write_bytes(data[:-1])
    place.rename(tmp_path / "moved")
    left = jobs.repair(root).left
    assert len(left) == len(whole) == 2
    assert "holds no corpus" in left[0]
    assert "name where corpus is now, the database of table" in left[0]
    assert jobs.repair(root, database=str(tmp_path / "moved")).left == []
    assert {path: path.read_bytes() for path in whole} == whole
    database = open_corpus(chunked)
    texts = database.passages(found.passage_ids[:, 0]).column("text").to_pylist()
    assert texts == open_corpus(root).passages(np.arange(len(texts))).column("text").to_pylist()


def test_an_ordinary_corpus_has_neighbours_too(corpus_copy: Path) -> None:
    """Passages of words: documents come out of the passage table, and there are no tokens."""
    jobs.neighbours(corpus_copy, k=2, score_dtype="float16")
    corpus = open_corpus(corpus_copy)
    documents = document_of(corpus)
    found = corpus.neighbours().fetch(np.arange(len(corpus)))
    every = vectors_of(corpus)
    wanted = brute_force(every, every, documents[:, None] == documents, 2)
    np.testing.assert_allclose(found.scores, wanted, atol=1e-3)
    assert (documents[found.passage_ids] != documents[:, None]).all()
    page = np.array(corpus.passages(np.arange(len(corpus))).column("page_id").to_pylist())
    assert (page[found.passage_ids] != page[:, None]).all()
    follows = corpus.continuations(found.passage_ids)
    assert (page[follows[follows >= 0]] == page[found.passage_ids[follows >= 0]]).all()


@contextmanager
def dying(root: Path, change: int | None) -> Iterator[None]:
    """As `killed_at`; Beam's runner in this process tells the kill of a unit in words."""
    try:
        with killed_at(root, change):
            yield
    except RuntimeError as e:
        if "killing.Killed" not in str(e):
            raise
        raise Killed from None


def usage(command: Command, arguments: list[object], words: str) -> None:
    """Options that do not go together: status 2, and click's own lines."""
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert words in err


def arrays_of(root: Path, name: str) -> dict[str, bytes]:
    folder = root / components.NEIGHBOURS.folder(name)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_one_and_two_workers_write_the_same_bytes(listed: Path, tmp_path: Path) -> None:
    options = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    made = []
    for folder, beam_options in ((tmp_path / "one", ()), (tmp_path / "two", options)):
        copy = Path(shutil.copytree(listed, folder))
        names = [
            jobs.neighbours(copy, k=2, exact=exact, engine=engines.chosen(beam_options=beam_options))
            for exact in (False, True)
        ]
        made.append(([arrays_of(copy, name) for name in names], (copy / "corpus.json").read_bytes()))
    assert made[0] == made[1]
    assert len(made[0][0][0]) > 4


def test_killed_ten_times_it_has_the_same_bytes(table: Path, chunked: Path, tmp_path: Path) -> None:
    """Megatron's defect 10: blocks written in place, without a checksum."""
    copy = Path(shutil.copytree(chunked, tmp_path / "corpus"))
    name = open_corpus(table).neighbours().name
    kills = 0
    for change in (1, 2, 3, 5, 7, 9, 12, 15, 18, 21, None):
        try:
            with dying(copy, change):
                jobs.neighbours(copy, k=K, title="three")
            break
        except Killed:
            kills += 1
            # Before the manifest there is no table, and what is begun is nobody's but this job's.
            if name not in CorpusFolder(copy).manifest.of(components.NEIGHBOURS) and kills == 5:
                with pytest.raises(errors.MismatchError, match=r"is unfinished .* differs .* in neighbours"):
                    jobs.neighbours(copy, k=1)
                assert jobs.garbage(copy) == []
                with pytest.raises(errors.CorpusError, match="is unfinished"):
                    jobs.repair(copy)
    assert kills == 10
    assert arrays_of(copy, name) == arrays_of(table, name)
    assert not (copy / "work").exists()
    assert jobs.verify(copy, full=True).ok
    assert jobs.garbage(copy) == []


def test_what_is_unfinished_can_be_dropped(chunked: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(chunked, tmp_path / "corpus"))
    with pytest.raises(Killed), dying(copy, 14):
        jobs.neighbours(copy, k=1)
    assert jobs.garbage(copy) == []
    reader = open_corpus(copy)  # reads nothing of what goes
    assert {item.kind for item in jobs.collect(copy, unfinished=True)} == {"unfinished"}
    assert len(reader)
    assert not list((copy / "neighbours").glob("*"))
    assert not (copy / "work").exists()


def test_another_k_leaves_every_finished_table(table: Path, tmp_path: Path) -> None:
    """Megatron's defect 6: changing the number of neighbours deletes all files that are finished."""
    copy = Path(shutil.copytree(table, tmp_path / "corpus"))
    name = open_corpus(copy).neighbours().name
    before = arrays_of(copy, name)
    stamps = {p: p.stat().st_mtime_ns for p in (copy / "neighbours" / name).rglob("*") if p.is_file()}
    second = jobs.neighbours(copy, k=1)
    assert arrays_of(copy, name) == before
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    corpus = open_corpus(copy)
    first = corpus.neighbours("three").fetch(np.arange(len(corpus)))
    np.testing.assert_array_equal(
        corpus.neighbours(second).fetch(np.arange(len(corpus))).passage_ids, first.passage_ids[:, :1]
    )
    assert corpus.neighbours(second[:7]).name == second
    with pytest.raises(errors.CorpusError, match="name 'three' is table"):
        jobs.neighbours(copy, k=2, title="three")
    # A name for a table that is there would not be seen.
    for k, has in ((1, "without a name"), (K, "'three'")):
        with pytest.raises(errors.CorpusError, match=f"is there already, {has}, and stays as it is"):
            jobs.neighbours(copy, k=k, title="another")
    with pytest.raises(errors.CorpusError, match=r"table name '\.\./x' is not allowed"):
        jobs.neighbours(copy, k=2, title="../x")
    with pytest.raises(
        errors.CorpusError, match=r"no table of neighbours 'x' in .*; known: three \(3 in itself\)"
    ):
        corpus.neighbours("x")


def test_a_table_hangs_on_the_data_and_not_on_a_training_run(table: Path, listed: Path) -> None:
    """Megatron's defect 9: keyed by seed and sequence length, so that each change searches again."""
    card = open_corpus(table).neighbours().card
    assert set(card.search) == {
        "search", "k", "rule", "method", "index", "probes", "score_dtype", "queries", "database",
    }  # fmt: skip
    outcome = module.make(CorpusFolder(table), module.NeighboursSettings(k=K))[0]
    assert outcome.already
    # A memory version more changes nothing of it; another corpus or index does.
    folder = open_corpus(listed)
    one = component.plan(folder, folder, k=K, own=True)
    again = component.plan(folder, folder, k=K, own=True, exact=True)
    assert len({card.fingerprint, one.fingerprint, again.fingerprint}) == 2 + (
        card.fingerprint != again.fingerprint
    )


def test_the_index_is_trained_on_passages_from_end_to_end(
    listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Megatron's defects 4, 5 and 8: "sampled" were the first chunks; an index of one size fails on few."""
    taken: list[np.ndarray] = []
    vectors = open_corpus(listed).vectors()
    real = vectors.take
    monkeypatch.setattr(vectors, "take", lambda ids: taken.append(ids) or real(ids))
    shape = index_module.choose(len(open_corpus(listed)), 24, exact_limit=64)
    index_building.build(vectors, shape, listed.parent / "again.faiss")
    points = taken[0]
    count = vectors.layout.grid.passages
    assert points[0] == 0
    assert points[-1] == count - 1
    assert np.diff(points).max() <= max(1, round(count / len(points)) + 1)


def test_a_share_is_checked_bit_by_bit(table: Path, tmp_path: Path, command: Command) -> None:
    copy = Path(shutil.copytree(table, tmp_path / "corpus"))
    status, out, err = command("neighbours", copy, "--check", 0.3, "--json")
    assert status == 0, err
    told = json.loads(out)
    grid = open_corpus(copy).neighbours().card.layout.grid
    assert (told["shards"], told["different"], told["ok"]) == (round(0.3 * grid.shards), [], True)
    assert not (copy / "work").exists()
    path = copy / "neighbours" / open_corpus(copy).neighbours().name / "scores/c/0/0"
    data = bytearray(path.read_bytes())
    data[1] ^= 1
    path.write_bytes(data)
    status, out, err = command("neighbours", copy, "--check", 1)
    assert status == 1
    assert out.startswith(f"different: {path.relative_to(copy)}\n")
    assert "1 differ" in out
    refused(command, ["neighbours", copy, "--check", 0], "share to check is 0.0, wanted above 0")
    usage(command, ["neighbours", copy, "--check", 1, "-k", 2], "-k makes a table")


def test_damage_is_found_and_made_again(table: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(table, tmp_path / "corpus"))
    whole = {p: p.read_bytes() for p in (copy / "neighbours").rglob("*") if p.is_file()}
    made = sorted(p for p in whole if p.name not in ("neighbours.json", "files.parquet"))
    for path in made:
        data = bytearray(whole[path])
        data[0] ^= 4
        path.write_bytes(data)
    assert len(jobs.verify(copy, full=True).damaged) == len(made)
    with pytest.raises(errors.DamagedError):
        open_corpus(copy).neighbours().fetch(np.arange(3))
    outcome = jobs.repair(copy)
    assert outcome.left == []
    assert {p: p.read_bytes() for p in whole} == whole


def test_cards_are_read_strictly(table: Path) -> None:
    """A field of another type is refused; what `search` holds is compared, and a title may be none."""
    corpus = open_corpus(table)
    tried = 0
    for card in (corpus.tokens_card, corpus.neighbours().card):
        plain = json.loads(json.dumps(card.to_json()))
        assert type(card).from_json(plain, "card") == card
        for way, value in leaves(plain):
            if way[0] in ("search", "title") and len(way) > (way[0] == "search"):
                continue
            for wrong in WRONG[type(value)]:
                with pytest.raises(errors.CorpusError):
                    type(card).from_json(with_value(plain, way, wrong), "card")
                tried += 1
    assert tried > 150


def test_bytes_are_foretold(table: Path) -> None:
    layout = open_corpus(table).neighbours().card.layout
    shards = [p for p in (table / "neighbours").rglob("*") if p.is_file() and "c" in p.parts]
    assert sum(p.stat().st_size for p in shards) == foretold_bytes(layout)


def test_a_table_can_be_taken_away(table: Path, tmp_path: Path, command: Command) -> None:
    copy = Path(shutil.copytree(table, tmp_path / "corpus"))
    usage(command, ["neighbours", copy, "--forget"], "--forget wants --table NAME")
    status, out, _ = command("neighbours", copy, "--forget", "--table", "three")
    assert (status, "is gone" in out) == (0, True)
    with pytest.raises(errors.CorpusError, match="has no table of neighbours; make one by"):
        open_corpus(copy).neighbours()
    assert [item.kind for item in jobs.collect(copy)] == ["stray"]
    manifest = json.loads((copy / "corpus.json").read_text())
    assert "neighbours" not in manifest


def test_info_and_report_tell_of_it(table: Path, command: Command) -> None:
    status, out, err = command("info", table, "--json")
    assert status == 0, err
    told = json.loads(out)
    (found,) = told["neighbours"].values()
    assert (found["title"], found["k"], found["recall"]) == ("three", K, 1.0)
    assert found["bytes"] == told["bytes"]["neighbours"] > 0
    assert told["tokens"]["tokens"] == open_corpus(table).tokens_card.counts.tokens
    assert "Neighbours three" in command("info", table)[1]
    report = json.loads(command("report", table, "--json")[1])
    assert report["bytes_by_part"]["neighbours"] == found["bytes"]
    assert report["bytes_by_part"]["tokens"] == told["bytes"]["tokens"]
    assert {row["part"] for row in report["planned"]} >= {"tokens", "passages"}


def test_everything_is_as_in_the_folder_from_an_object_store(table: Path, tmp_path: Path) -> None:
    with serving(table):
        there = open_corpus(f"s3://{BUCKET}/wiki", cache=tmp_path)
        here = open_corpus(table)
        ids = np.arange(len(here))[::-1]
        np.testing.assert_array_equal(there.tokens(ids).values, here.tokens(ids).values)
        np.testing.assert_array_equal(there.documents(ids).stops, here.documents(ids).stops)
        found = there.neighbours("three").fetch(ids)
        np.testing.assert_array_equal(found.passage_ids, here.neighbours().fetch(ids).passage_ids)
        np.testing.assert_array_equal(
            there.continuations(found.passage_ids), here.continuations(found.passage_ids)
        )
        assert not list(tmp_path.glob("tokens/*/c"))


def test_vectors_of_two_retrievers_are_refused(
    chunked: Path, chunk_settings: BuildSettings, tmp_path: Path, command: Command
) -> None:
    small_models.make_gtr_folder(tmp_path / "gtr", seed=9)
    source = write_source(tmp_path / "b.jsonl", documents=3, seed=5, long=False)
    changed = replace(chunk_settings, sources=(source,), retriever=str(tmp_path / "gtr"))
    root = jobs.build(changed, tmp_path / "other").corpus.root
    refused(command, ["neighbours", chunked, "--of", root], "build both with one retriever")
    refused(command, ["neighbours", chunked, "-k", 0], "k is 0, wanted 1 to 1,024 neighbours")
    refused(command, ["neighbours", chunked, "--probes", 3], "an exact search looks into no lists")
    assert not (chunked / "work").exists()


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_tables_compare_as_the_retriever_does(
    similarity: str, chunk_settings: BuildSettings, tmp_path: Path, command: Command
) -> None:
    """Of vectors that are not of length 1."""
    retriever = small_models.make_gtr_folder(tmp_path / "gtr", normalize=False, seed=3)
    small_models.edit_json(retriever / "config_sentence_transformers.json", similarity_fn_name=similarity)
    source = write_source(tmp_path / "a.jsonl", documents=12, seed=5, long=False)
    changed = replace(chunk_settings, sources=(source,), retriever=str(retriever))
    root = jobs.build(changed, tmp_path / "corpus").corpus.root
    if similarity == "euclidean":
        refused(command, ["neighbours", root], "are compared by distance", "inner products and cosines")
        return
    jobs.neighbours(root, k=2)
    corpus = open_corpus(root)
    every, documents = vectors_of(corpus), document_of(corpus)
    lengths = np.linalg.norm(every, axis=1, keepdims=True)
    assert lengths.max() > 1.01 * lengths.min()
    wanted = brute_force(every / lengths, every / lengths, documents[:, None] == documents, 2)
    found = corpus.neighbours().fetch(np.arange(len(corpus)))
    np.testing.assert_allclose(found.scores, wanted, atol=2e-6)
    assert corpus.neighbours().card.recall == 1


# --- the search itself, on vectors alone


@dataclass(frozen=True)
class VectorsAlone:
    """As much of a search as measuring its recall asks for."""

    vectors: np.ndarray

    def query_vectors(self, ids: np.ndarray) -> np.ndarray:
        return self.vectors[ids]

    database_vectors = query_vectors


@pytest.mark.parametrize("length", [1e-4, 1.0, 1e4])
def test_recall_is_the_same_whatever_the_vectors_length(length: float) -> None:
    rng = np.random.default_rng(5)
    vectors = (length * rng.standard_normal((400, 96))).astype(np.float32)
    rows = np.arange(400)
    best = exact_search.search_outside([(0, vectors)], vectors, 5, rows, rows + 1)
    exact = component.Found(ids=best.ids, scores=best.scores, excluded=np.ones(400))
    searching: Any = VectorsAlone(vectors)
    assert component._recall(best.ids, exact, searching, rows) == 1
    # One of two that rounding alone tells apart is as right as the other.
    twins = np.concatenate([vectors, vectors])
    twins[400:, 0] = np.nextafter(vectors[:, 0], np.float32(np.inf))
    assert (twins[400:] != vectors).any()
    searching = VectorsAlone(twins)
    assert component._recall(best.ids + 400, exact, searching, rows) == 1
    table = best.ids.copy()
    table[:, -1] = (rows + 1) % 400  # which is hardly ever among the five nearest
    assert component._recall(table, exact, searching, rows) == pytest.approx(0.8, abs=0.01)


def test_scores_that_a_type_does_not_hold_are_refused() -> None:
    kept = np.array([[65504.0, -np.inf]], np.float32)
    assert component.stored_scores(kept, "float16").tolist() == kept.tolist()
    for score in (1e5, -1e5):  # which would be none
        scores = np.array([[score]], np.float32)
        assert component.stored_scores(scores, "float32") == scores
        with pytest.raises(errors.CorpusError, match=r"a score of -?100,000 is beyond what float16 holds"):
            component.stored_scores(scores, "float16")


@pytest.mark.parametrize("kind", ["exact", "IVF16,SQ8", "IVF16,Flat", "OPQ4,IVF16,PQ4"])
@pytest.mark.parametrize("tight", [False, True])
def test_a_search_of_random_documents(kind: str, tight: bool) -> None:
    """Documents of any length, also one that fills whole lists, against what an index's own vectors say."""
    rng = np.random.default_rng(3)
    lengths = [1, 2, 300, 1, *rng.integers(1, 20, 60).tolist()]
    document = np.repeat(np.arange(len(lengths)), lengths)
    centres = rng.standard_normal((len(lengths), 16))
    spread = 0.05 if tight else 1.0
    vectors = (centres[document] + spread * rng.standard_normal((len(document), 16))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    firsts = np.searchsorted(document, document)
    stops = np.searchsorted(document, document, side="right")
    own = document[:, None] == document
    if kind == "exact":
        batches = [(0, vectors[:100]), (100, vectors[100:])]
        best = exact_search.search_outside(batches, vectors, 5, firsts, stops)
        seen = vectors
    else:
        index = faiss.index_factory(16, kind, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
        ivf = faiss.extract_index_ivf(index)
        ivf.nprobe = 16
        # Few queries are searched one after the other, many list by list: both find the same.
        best = nearest.by_index(Index(index), vectors, 5, firsts, stops)
        one = nearest.by_document(Index(index), vectors, 5, firsts, stops)
        np.testing.assert_allclose(one.scores, best.scores, atol=3e-6)
        assert (document[one.ids] != document[:, None]).all()
        lists = nearest.Lists.of(Index(index))
        assert (lists is None) == kind.endswith("Flat")
        if lists is not None:
            few = nearest.by_list(lists, vectors, 5, firsts, stops, probes=2)
            ivf.nprobe = 2
            again = nearest.by_document(Index(index), vectors, 5, firsts, stops)
            np.testing.assert_allclose(few.scores, again.scores, atol=3e-6)
        ivf.make_direct_map()
        seen = index.reconstruct_n(0, len(vectors))
    wanted = brute_force(vectors.astype(np.float64), seen.astype(np.float64), own, 5)
    np.testing.assert_allclose(best.scores, wanted, atol=3e-6)
    assert (document[best.ids] != document[:, None]).all()


def test_queries_that_probe_too_few_lists_search_them_all() -> None:
    rng = np.random.default_rng(4)
    document = np.repeat(np.arange(20), 30)
    vectors = rng.standard_normal((20, 8))[document] + 0.01 * rng.standard_normal((600, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    index = faiss.index_factory(8, "IVF20,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.extract_index_ivf(index).nprobe = 1
    firsts, stops = document * 30, document * 30 + 30
    best = nearest.by_document(Index(index), vectors, 4, firsts, stops)
    # One list holds one document: without the second search, nothing would be found.
    assert (best.ids >= 0).all()
    assert (document[best.ids] != document[:, None]).all()
    coded = faiss.index_factory(8, "IVF20,SQ8", faiss.METRIC_INNER_PRODUCT)
    coded.train(vectors)
    coded.add(vectors)
    lists = nearest.Lists.of(Index(coded))
    assert lists is not None
    turned = nearest.by_list(lists, vectors, 4, firsts, stops, probes=1)
    assert (turned.ids >= 0).all()
    assert (document[turned.ids] != document[:, None]).all()
    np.testing.assert_allclose(turned.scores, best.scores, atol=0.02)  # 8 bits a dimension


@given(st.data())
@hypothesis_settings(max_examples=200, deadline=None)
def test_the_best_are_kept_in_any_order(data: st.DataObject) -> None:
    """Offered in blocks, with equal scores: the k largest, equal ones by id."""
    queries = data.draw(st.integers(1, 4))
    k = data.draw(st.integers(1, 5))
    count = data.draw(st.integers(0, 30))
    values = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0])
    scores = np.array(
        data.draw(
            st.lists(st.lists(values, min_size=count, max_size=count), min_size=queries, max_size=queries)
        ),
        np.float32,
    ).reshape(queries, count)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    best = Best(queries, k)
    for low, high in zip([0, *cuts], [*cuts, count], strict=True):
        best.offer(np.arange(queries), scores[:, low:high].copy(), np.arange(low, high))
    for row in range(queries):
        order = sorted(
            (i for i in range(count) if scores[row, i] > -np.inf), key=lambda i: (-scores[row, i], i)
        )[:k]
        assert best.ids[row].tolist() == order + [-1] * (k - len(order))
        assert best.scores[row, : len(order)].tolist() == scores[row, order].tolist()


def test_a_shard_alone_has_the_bytes_that_it_has_among_others() -> None:
    layout = NeighboursLayout.sized(passages=61_000_000, k=2, score_dtype="float32")
    assert layout.grid.shard_passages == 4096
    assert NeighboursLayout.sized(passages=200, k=2, score_dtype="float32").grid.shard_passages == 64
