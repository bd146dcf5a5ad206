"""A corpus whose index has lists: built, searched, updated, repaired; and one of an earlier release."""

from __future__ import annotations

import json
import pickle
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from retrieval import Corpus, open_corpus, service_client
from storage import components, errors, files
from storage.components import IndexCard
from storage.folder import CorpusFolder
from tests import editions, jobs
from tests.commands import Command
from tests.serving_http import serving


@pytest.fixture(scope="module")
def listed(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("listed") / "corpus"
    asked = replace(settings, index_recall=0.9)
    return jobs.build(asked, out, exact_limit=64).corpus.root


def vectors_of(corpus: Corpus) -> Any:
    return corpus.vectors().read(0, corpus.ids_given).astype(np.float64)


def test_searches_are_refined_and_scores_exact(listed: Path) -> None:
    corpus = open_corpus(listed)
    card = corpus.index_card
    assert card.parameters["lists"] > 1
    assert (card.refined, card.target_recall) == (2, 0.9)
    assert "first_passage_id" not in card.to_json()  # which an update's index alone has
    assert card.codes_recall_at_10 is not None
    assert card.recall_at_10 >= 0.9
    assert card.codes_recall_at_10 <= card.recall_at_10
    every = vectors_of(corpus)
    queries = every[::9].astype(np.float32)
    found = corpus.search(queries, 10)
    exact = queries.astype(np.float64) @ every.T
    np.testing.assert_allclose(
        found.scores, np.take_along_axis(exact, found.passage_ids, 1), rtol=1e-5, atol=1e-5
    )
    # What the card says of a search is what one finds.
    rows = np.unique(np.linspace(0, len(corpus) - 1, 1000).astype(int))
    own = every[rows].astype(np.float32)
    last = np.sort(own.astype(np.float64) @ every.T, axis=1)[:, -10:-9]
    for refine, recall in ((None, card.recall_at_10), (False, card.codes_recall_at_10)):
        ids = corpus.search(own, 10, refine=refine).passage_ids
        reached = np.einsum("qd,qkd->qk", own.astype(np.float64), every[ids])
        assert (reached >= last - 1e-5).mean() == pytest.approx(recall, abs=2e-3)
    raw = faiss.read_index(str(next(listed.glob("index/*/index.faiss"))))
    codes = corpus.search(queries, 10, refine=False)
    np.testing.assert_array_equal(codes.passage_ids, raw.search(queries, 10)[1])
    corpus.refines = False
    np.testing.assert_array_equal(corpus.search(queries, 10).passage_ids, codes.passage_ids)


def test_a_service_refines_as_it_is_asked(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the folder gives, bit for bit, for each of the ways to ask; searches of both kinds at once."""
    here = open_corpus(listed)
    queries = vectors_of(here)[::20].astype(np.float32)[:16]
    ways = (None, True, False)
    wanted = {refine: here.search(queries, 10, refine=refine) for refine in ways}
    assert wanted[True].scores.tobytes() != wanted[False].scores.tobytes()

    def same(found: Any, refine: bool | None) -> None:
        assert found.passage_ids.tolist() == wanted[refine].passage_ids.tolist()
        assert found.scores.tobytes() == wanted[refine].scores.tobytes()

    # A window, so that they come together.
    with serving(listed, window_ms=50) as served:
        there = open_corpus(served.url)
        assert there.refines
        with ThreadPoolExecutor(6) as pool:
            asked = [(refine, pool.submit(there.search, queries, 10, refine=refine)) for refine in ways * 2]
            for refine, found in asked:
                same(found.result(), refine)
        text = ["the river"]
        for refine in ways:
            local, remote = (corpus.search(text, 5, refine=refine) for corpus in (here, there))
            assert remote.passage_ids.tolist() == local.passage_ids.tolist()
            assert remote.scores.tobytes() == local.scores.tobytes()
        there.refines = False
        same(there.search(queries, 10), False)
        same(pickle.loads(pickle.dumps(there)).search(queries, 10), False)
        with urllib.request.urlopen(f"{served.url}/v1/search?q=the+river&k=5&refine=false") as answer:
            (hits,) = json.load(answer)["results"]
        ids = here.search(text, 5, refine=False).passage_ids[0].tolist()
        assert [hit["passage_id"] for hit in hits["passages"]] == ids
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{served.url}/v1/search?q=a&refine=maybe")
        told = json.load(caught.value)
        assert (caught.value.code, told["detail"]) == (422, "refine is 'maybe', wanted true or false")
        # A service that cannot be told would give what was not asked for.
        describe = service_client.describe
        monkeypatch.setattr(
            service_client,
            "describe",
            lambda client: {k: v for k, v in (describe(client) or {}).items() if k != "refines"},
        )
        earlier = open_corpus(served.url)
        same(earlier.search(queries, 10), None)
        with pytest.raises(errors.CorpusError, match="is of an earlier memcorpus"):
            earlier.search(queries, 10, refine=True)


def test_an_index_of_an_earlier_release_is_searched_as_it_was(listed: Path, tmp_path: Path) -> None:
    """Whose card knows of no candidates: ranked by the codes, and by the vectors for who asks for it."""
    folder = CorpusFolder(listed)
    corpus = open_corpus(listed)
    keys = ("refined", "target_recall", "codes_recall_at_10")
    value = {key: item for key, item in corpus.index_card.to_json().items() if key not in keys}
    card = IndexCard.from_json(value, "card")
    assert card.to_json() == value
    own = tmp_path / "corpus"
    _copied(listed, own)
    older = CorpusFolder(own)
    entry = older.write_card(components.INDEX, card)
    older.write_manifest(folder.manifest.with_cards(components.INDEX, {card.fingerprint: entry}))
    opened = open_corpus(own)
    assert not opened.refines
    queries = vectors_of(corpus)[::11].astype(np.float32)
    plain, codes = opened.search(queries, 10), corpus.search(queries, 10, refine=False)
    np.testing.assert_array_equal(plain.passage_ids, codes.passage_ids)
    refined, asked = corpus.search(queries, 10), opened.search(queries, 10, refine=True)
    np.testing.assert_array_equal(refined.passage_ids, asked.passage_ids)


def _copied(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            to = target / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())


def test_a_command_says_how_it_ranks(listed: Path, models: Path, command: Command) -> None:
    arguments = ["search", listed, "the river", "-k", "3", "--json", "--retriever", models / "gtr"]
    corpus = open_corpus(listed, retriever=str(models / "gtr"))
    for option, refine in (("--refine", True), ("--no-refine", False)):
        status, out, err = command(*arguments, option)
        assert (status, err) == (0, "")
        ids = [row["passage_id"] for row in json.loads(out)["passages"]]
        assert ids == corpus.search(["the river"], 3, refine=refine).passage_ids[0].tolist()


def test_a_recall_that_cannot_be_is_refused(settings: Any, command: Command, tmp_path: Path) -> None:
    arguments = ["build", "--out", tmp_path / "c", "--source", settings.sources[0], "--index-recall", "1.5"]
    arguments += ["--retriever", settings.retriever, "--memory-encoder", settings.memory_encoder]
    status, _, err = command(*arguments, "--live-proportion", "1/2")
    assert status == 2
    assert "index recall is 1.5, wanted a share above 0 and up to 1" in err
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
def test_a_damaged_index_is_made_again(listed: Path, tmp_path: Path) -> None:
    own = tmp_path / "corpus"
    _copied(listed, own)
    (path,) = own.glob("index/*/index.faiss")
    whole = path.read_bytes()
    path.write_bytes(whole[:900] + bytes(50) + whole[950:])
    repaired = jobs.repair(own)
    assert repaired.repaired == [path.relative_to(own).as_posix()]
    assert path.read_bytes() == whole


@pytest.mark.slow
def test_updates_go_on_with_lists_and_train_again(
    live_settings: Any,
    first_edition: editions.Edition,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Added to; then, by growth, trained again. Searches find what is there, by exact scores."""
    root = jobs.build(live_settings, tmp_path / "live", exact_limit=64).corpus.root
    edition = first_edition
    for number in (1, 2):
        edition = editions.edited(edition, 8 + number)
        source = editions.write(edition, tmp_path / f"{number}.jsonl")
        if number == 2:  # any growth is too much
            monkeypatch.setattr("pipeline.components.index.extend.GROWN", 0)
        done = jobs.update(root, source, exact_limit=64)
        assert done.retrained == (number == 2)
        corpus = open_corpus(root)
        assert corpus.generation == number
        card = corpus.index_card
        assert (card.refined, card.target_recall) == (2, 0.97)
        assert card.passages == (len(corpus) if number == 2 else corpus.segments[0].passages)
        live = corpus.passage_ids
        every = vectors_of(corpus)
        queries = every[live[::7]].astype(np.float32)
        found = corpus.search(queries, 10)
        assert np.isin(found.passage_ids, live).all()
        exact = queries.astype(np.float64) @ every.T
        np.testing.assert_allclose(
            found.scores, np.take_along_axis(exact, found.passage_ids, 1), rtol=1e-5, atol=1e-5
        )
        best = np.sort(exact[:, live], axis=1)[:, -10:-9]
        assert (found.scores >= best - 1e-5).mean() > 0.9
    assert not list(files.leftovers(root))
