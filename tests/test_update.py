"""Updates: what is unchanged stays, what is new is as a build makes it, what has gone says so."""

from __future__ import annotations

import dataclasses
import gc
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.accounts import facts, figures
from pipeline.jobs.reencode import ReencodeSettings
from pipeline.readers import questions
from pipeline.readers.kilt import tasks as kilt_tasks
from pipeline.readers.retro import opening, windows
from pipeline.readers.retro.opening import CorpusChunks
from pipeline.readers.retro.run import Text
from retrieval import Corpus, open_corpus
from storage import components, errors, files, segments
from storage.folder import CorpusFolder
from tests import editions, jobs, small_models
from tests.editions import Truth
from tests.golden.make import FOLDER, expectations


def content(root: Path, below: str = "") -> dict[str, bytes]:
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in sorted((root / below).rglob("*"))
        if p.is_file() and "statistics" not in p.parts
    }


def stamps(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(p.relative_to(root)): (p.stat().st_ino, p.stat().st_mtime_ns)
        for p in root.rglob("*")
        if p.is_file()
    }


def said(rows: Any) -> list[editions.Said]:
    return [(r["page_id"], r["title"], tuple(r["section"]), r["text"]) for r in rows.to_pylist()]


def test_an_update_keeps_what_is_unchanged_and_adds_what_is_new(
    live: Path, live_settings: Any, first_edition: editions.Edition, tmp_path: Path
) -> None:
    truth = Truth()
    truth.take(editions.passages(first_edition))
    second = editions.edited(first_edition, 7)
    source = editions.write(second, tmp_path / "second.jsonl")
    before = stamps(live)
    old = open_corpus(live)
    old_rows = said(old.passages(range(len(old))))
    assert old_rows == truth.said

    done = jobs.update(live, source)
    counts = truth.take(editions.passages(second))
    assert 0 < counts["added"] < counts["kept"]
    assert counts["vanished"] > 0
    assert {name: done.counts[name] for name in counts} == counts
    assert (done.generation, done.already) == (1, False)
    # Not one file of the build is touched, but for the manifest.
    after = stamps(live)
    assert {k: v for k, v in after.items() if k in before and k != "corpus.json"} == {
        k: v for k, v in before.items() if k != "corpus.json"
    }
    corpus = open_corpus(live)
    assert corpus.passage_ids.tolist() == truth.live
    assert (len(corpus), corpus.ids_given) == (len(truth.live), len(truth.said))
    assert said(corpus.passages(truth.live)) == [truth.said[i] for i in truth.live]
    assert corpus.passages(truth.live)["passage_id"].to_pylist() == truth.live

    # The segment is a corpus of the new passages, byte for byte.
    added = range(counts["old"], len(truth.said))
    pages = {f"{i}": truth.said[i] for i in added}
    lines = {k: editions.Page(s[1], [(s[2], s[3])]) for k, s in pages.items()}
    alone = editions.write(lines, tmp_path / "alone.jsonl")
    direct = jobs.build(dataclasses.replace(live_settings, sources=(alone,)), tmp_path / "alone").corpus.root
    for below in ("vectors", "memory"):
        assert content(live / "generations/0001", below) == {
            f"{name}": data for name, data in content(direct, below).items()
        }
    # And within rounding of a fresh build of the new dump.
    fresh = open_corpus(
        jobs.build(dataclasses.replace(live_settings, sources=(source,)), tmp_path / "fresh").corpus.root
    )
    theirs = said(fresh.passages(range(len(fresh))))
    order = [theirs.index(truth.said[i]) for i in truth.live]
    ours = corpus.memory().fetch(truth.live)
    for mine, other in zip(ours, fresh.memory().fetch(order), strict=True):
        np.testing.assert_allclose(np.asarray(mine, np.float32), np.asarray(other, np.float32), atol=0.02)
    np.testing.assert_allclose(
        corpus.vectors().take(np.array(truth.live)), fresh.vectors().take(np.array(order)), atol=1e-5
    )

    # Search finds what is there, as brute force does.
    queries = np.random.default_rng(0).normal(size=(5, corpus.vectors_card.layout.dim)).astype("f4")
    found = corpus.search(queries, 7)
    rows = corpus.vectors().take(np.array(truth.live))
    best = np.argsort(-(queries @ rows.T), axis=1, kind="stable")[:, :7]
    np.testing.assert_allclose(
        found.scores, np.take_along_axis(queries @ rows.T, best, axis=1), rtol=1e-5, atol=1e-6
    )
    assert found.passage_ids.tolist() == [[truth.live[i] for i in row] for row in best]
    assert set(corpus.search(queries, len(corpus)).passage_ids[0].tolist()) == set(truth.live)
    with pytest.raises(errors.CorpusError):
        corpus.search(queries, len(corpus) + 1)

    # What has gone says so, by whatever it is asked for.
    gone = truth.there.index(False)
    for ask in (corpus.passages, corpus.memory().fetch, corpus.memory().tokens):
        with pytest.raises(errors.TombstoneError, match="removed by generation 1") as e:
            ask([truth.live[0], gone])
        assert e.value.ids == [gone]
    with pytest.raises(errors.UnknownPassageError):
        corpus.passages([len(truth.said)])
    # Readers of before stay with what they opened, and an earlier generation can be opened again.
    assert said(old.passages([gone])) == [truth.said[gone]]
    # A reader of before goes to another process as what it is, its memory too.
    sent = pickle.loads(pickle.dumps(old))
    assert (sent.generation, len(sent), sent.ids_given) == (0, len(old), len(old))
    assert pickle.loads(pickle.dumps(old.memory())).passages == len(old)
    again = open_corpus(live, generation=0)
    assert said(again.passages([gone])) == [truth.said[gone]]
    assert again.memory().fetch([gone]).values.tobytes() == old.memory().fetch([gone]).values.tobytes()
    assert again.search(queries, 3).passage_ids.tolist() == old.search(queries, 3).passage_ids.tolist()

    verified = jobs.verify(live, full=True)
    assert verified.ok
    assert verified.strays == []
    assert not (live / "work").exists()
    # The same source again is nothing new.
    whole = content(live)
    assert jobs.update(live, source).already
    assert content(live) == whole


def edit(root: Path, edition: editions.Edition, seed: int, tmp_path: Path, **given: Any) -> editions.Edition:
    """The next edition of a corpus, which is brought up to it."""
    following = editions.edited(edition, seed)
    jobs.update(root, editions.write(following, tmp_path / f"edition-{seed}.jsonl"), **given)
    return following


def test_versions_are_brought_forward_by_their_own_encoders_and_codecs(
    live: Path, first_edition: editions.Edition, tmp_path: Path
) -> None:
    small_models.make_t5_folder(tmp_path / "other", layers=6, seed=11)
    encode = ReencodeSettings(memory_encoder=str(tmp_path / "other"), codec="pq4x4", name="second")
    jobs.reencode(live, encode)
    jobs.reencode(live, ReencodeSettings(origin="current", codec="turbo4", name="small"))
    found = jobs.manifest(live)
    names = {alias: found.version(alias) for alias in ("current", "second", "small")}
    second = edit(live, first_edition, 3, tmp_path)
    corpus = open_corpus(live)
    assert list(corpus.segments[1].manifest.of(components.MEMORY)) == list(names.values())
    new = [i for i in corpus.passage_ids.tolist() if i >= corpus.segments[1].first]
    # Recoded rows are those of the coder on the origin's, in what was added as in what was there.
    small, origin = corpus.memory("small"), corpus.memory("current")
    for ids in ([0, 3], new):
        expected = small.coder.encode(np.asarray(origin.fetch(ids).values))
        np.testing.assert_array_equal(np.asarray(small.fetch(ids, decode=False).values), expected)
    # The other encoder's rows are what it gives, within its codec's bound, by the codebooks of the build.
    encoder = jobs.load_encoder(live, None, "second")
    coded = corpus.memory("second")
    texts = [
        encoder.template.render(title=r["title"], section=r["section"], text=r["text"])
        for r in corpus.passages(new).to_pylist()
    ]
    direct = encoder.encode_texts(texts)
    stored = np.asarray(coded.fetch(new).values, np.float32)
    off = np.linalg.norm(stored - direct, axis=1)
    assert (off <= coded.coder.error_bound(direct) * 1.01).all()
    digests = [part.card(components.MEMORY, names["second"]).codec_parameters for part in corpus.segments]
    assert digests[0] == digests[1] != {}

    # Only the current one: the others say what they lack, and a re-encoding completes them.
    edit(live, second, 4, tmp_path, versions="current")
    corpus = open_corpus(live)
    last = corpus.segments[-1]
    assert list(last.manifest.of(components.MEMORY)) == [names["current"]]
    live_ids = corpus.passage_ids
    behind = live_ids[live_ids >= last.first]
    assert len(corpus.memory("current").fetch(behind)) == len(behind)
    with pytest.raises(errors.CorpusError, match="left behind by update 2"):
        corpus.memory("second").fetch(behind)
    assert corpus.memory("second").holds(live_ids).sum() == len(live_ids) - len(behind)
    assert jobs.diff(live, "second", "second")["relative_error"] == 0
    assert not jobs.reencode(live, encode)[0].already
    jobs.reencode(live, ReencodeSettings(origin="current", codec="turbo4"))
    corpus = open_corpus(live)
    small, origin = corpus.memory("small"), corpus.memory("current")
    np.testing.assert_array_equal(
        np.asarray(small.fetch(behind, decode=False).values),
        small.coder.encode(np.asarray(origin.fetch(behind).values)),
    )
    assert len(corpus.memory("second").fetch(behind)) == len(behind)
    assert jobs.reencode(live, encode)[0].already
    # A new version has all segments at once.
    jobs.reencode(live, ReencodeSettings(origin="second", codec="float32", name="wide"))
    corpus = open_corpus(live)
    wide, coded = corpus.memory("wide"), corpus.memory("second")
    ids = corpus.passage_ids
    assert wide.fetch(ids).values.tobytes() == np.asarray(coded.fetch(ids).values, np.float32).tobytes()
    verified = jobs.verify(live, full=True)
    assert (verified.ok, verified.strays) == (True, [])

    # What no name points at goes from all generations at once, if nobody reads it.
    del corpus, small, origin, wide, coded
    gc.collect()
    jobs.use(live, "small")
    for alias in ("previous", "second", "wide"):
        jobs.forget(live, alias)
    gone = {item.path for item in jobs.collect(live)}
    assert len(gone) == 3 * 3 - 0
    assert not any(
        path.parent.name == "memory" and path.name != names["small"] for path in live.rglob("*/memory/*")
    )
    assert jobs.verify(live, full=True).ok
    # The origin of what is left is gone: it is encoded for it, and leaves nothing behind.
    third = editions.edited(second, 5)
    jobs.update(live, editions.write(third, tmp_path / "third.jsonl"))
    corpus = open_corpus(live)
    assert [p.name for p in (live / "generations/0003/memory").iterdir()] == [names["small"]]
    new = corpus.passage_ids[corpus.passage_ids >= corpus.segments[-1].first]
    encoder = jobs.load_encoder(live, None, None)
    texts = [
        encoder.template.render(title=r["title"], section=r["section"], text=r["text"])
        for r in corpus.passages(new).to_pylist()
    ]
    direct = encoder.encode_texts(texts)
    small = corpus.memory()
    off = np.linalg.norm(np.asarray(small.fetch(new).values, np.float32) - direct, axis=1)
    assert (off <= small.coder.error_bound(direct) * 1.01 + 0.01 * np.linalg.norm(direct, axis=1)).all()
    verified = jobs.verify(live, full=True)
    assert (verified.ok, verified.strays) == (True, [])


def test_changes_by_page(live: Path, first_edition: editions.Edition, tmp_path: Path) -> None:
    truth = Truth()
    truth.take(editions.passages(first_edition))
    edition = dict(first_edition)
    more = (("New",), "One more sentence is here.")
    edition["3"] = editions.Page("Title 3", [*edition["3"].sections, more])
    edition["new"] = editions.Page("Quite new", [((), "A page of its own.")])
    del edition["5"], edition["7"]
    rows = [
        {"op": "delete", "id": 5},
        {
            "op": "upsert",
            "id": "3",
            "title": "Title 3",
            "sections": [{"path": list(p), "text": t} for p, t in edition["3"].sections],
        },
        {"op": "delete", "id": "7"},
        {"op": "delete", "id": "never there"},
        {"op": "upsert", "id": "new", "title": "Quite new", "text": "A page of its own."},
    ]
    path = tmp_path / "changes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = jobs.update(live, f"jsonl:{path}")
    counts = truth.take(editions.passages(edition))
    assert counts["added"] == 2
    assert {name: done.counts[name] for name in counts} == counts
    assert done.counts["changes: deleted pages"] == 3
    corpus = open_corpus(live)
    assert corpus.passage_ids.tolist() == truth.live
    assert said(corpus.passages(truth.live)) == [truth.said[i] for i in truth.live]
    # Taken out and nothing else: a generation without passages.
    path.write_text('{"op": "delete", "id": "new"}\n')
    done = jobs.update(live, f"jsonl:{path}")
    assert (done.counts["added"], done.counts["vanished"], done.generation) == (0, 1, 2)
    del edition["new"]
    truth.take(editions.passages(edition))
    assert open_corpus(live).passage_ids.tolist() == truth.live
    before = content(live)
    for wrong, match in (
        ('{"op": "delete", "id": "9"}\n{"id": "1", "title": "a", "text": "b"}', '"op" is None'),
        ('{"op": "remove", "id": "9"}', "'remove', wanted"),
        ('{"op": "upsert", "id": "9", "title": "x", "text": " "}', "has no text"),
        ('{"op": "upsert", "id": "9", "title": "x"}', "'text' is missing"),
        ('{"op": "delete", "id": "9"}\n{"op": "delete", "id": 9}', "named twice"),
        ('{"id": "1", "title": "a", "text": "One page alone."}', "is it a whole dump"),
    ):
        path.write_text(wrong + "\n")
        with pytest.raises(errors.CorpusError, match=match):
            jobs.update(live, f"jsonl:{path}")
        assert content(live) == before
    names = "".join(f'{{"op": "delete", "id": "{key}"}}\n' for key in edition)
    path.write_text(names)
    with pytest.raises(errors.CorpusError, match="would leave no passage"):
        jobs.update(live, f"jsonl:{path}")
    assert content(live) == before
    verified = jobs.verify(live, full=True)
    assert (verified.ok, verified.strays) == (True, [])


def test_an_interrupted_update_goes_on_and_other_jobs_keep_off(
    live: Path, first_edition: editions.Edition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.reencode(live, ReencodeSettings(origin="current", codec="turbo4", name="small"))
    second = editions.edited(first_edition, 9)
    source = editions.write(second, tmp_path / "second.jsonl")
    straight = Path(shutil.copytree(live, tmp_path / "straight"))
    jobs.update(straight, source)
    wanted = content(straight)
    before = content(live)

    class Stop(BaseException):
        pass

    real = files.finish_partial
    stop_at, finished = 3, False
    while not finished:
        count = iter(range(10**6))

        def stopping(partial: Path, path: Path, count: Any = count, stop_at: int = stop_at) -> None:
            if next(count) == stop_at:
                raise Stop
            real(partial, path)

        with monkeypatch.context() as patch:
            patch.setattr(files, "finish_partial", stopping)
            try:
                jobs.update(live, source)
                finished = True
            except (Stop, RuntimeError):
                pass
        if not finished and jobs.manifest(live).generation == 0:
            # Nobody sees anything of it.
            there = content(live)
            assert {k: there[k] for k in before} == before
            verified = jobs.verify(live, full=False)
            assert verified.ok
            assert all(name.startswith(("generations/", "work/")) for name in verified.strays)
            if jobs.unfinished(live) is not None:
                with pytest.raises(errors.CorpusError, match="update 1 is unfinished"):
                    jobs.reencode(live, ReencodeSettings(origin="current", codec="float32"))
                with pytest.raises(errors.MismatchError, match="is unfinished"):
                    jobs.update(
                        live,
                        editions.write(first_edition, tmp_path / "other.jsonl") + "",
                        max_vanished=0.9,
                        versions="current",
                    )
                assert jobs.collect(live) == []
        stop_at += 11
    assert content(live) == wanted
    assert open_corpus(live).generation == 1


def test_an_unfinished_update_can_be_dropped(
    live: Path, first_edition: editions.Edition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(live)
    source = editions.write(editions.edited(first_edition, 9), tmp_path / "second.jsonl")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.components.index.extend.faiss_index.extend", stop)
        with pytest.raises(KeyboardInterrupt):
            jobs.update(live, source)
    assert jobs.unfinished(live) == "1"
    assert {item.kind for item in jobs.garbage(live, unfinished=True)} == {"unfinished"}
    jobs.collect(live, unfinished=True)
    assert content(live) == before
    # And while another holds the corpus, none begins.
    with CorpusFolder(live).alone(), pytest.raises(errors.CorpusError, match="another job is at work"):
        jobs.update(live, source)
    assert content(live) == before


def test_every_damaged_file_of_a_generation_is_found_and_made_again(
    live: Path, first_edition: editions.Edition, tmp_path: Path
) -> None:
    edit(live, edit(live, first_edition, 2, tmp_path), 3, tmp_path)
    whole = content(live)
    remade = []
    for name, data in whole.items():
        if not name.startswith("generations/") or not data:
            continue
        damaged = bytearray(data)
        damaged[len(data) // 2] ^= 4
        (live / name).write_bytes(damaged)
        found = jobs.verify(live, full=True)
        assert not found.ok, name
        assert any(name in line for line in found.damaged), (name, found.damaged)
        if "/c/" in name or name.endswith(("zarr.json", ".faiss")):
            remade.append(name)
        else:
            (live / name).write_bytes(data)
    assert len([name for name in remade if name.startswith("generations/0002/")]) > 5
    outcome = jobs.repair(live)
    assert outcome.left == []
    assert sorted(outcome.repaired) == sorted(remade)
    assert content(live) == whole
    assert jobs.verify(live, full=True).strays == []


def test_the_golden_corpus_is_brought_up_to_date(tmp_path: Path) -> None:
    """It was written by a release that knew nothing of generations, and that kept every section."""
    root = Path(shutil.copytree(FOLDER / "format-1", tmp_path / "corpus"))
    small_models.make_t5_folder(tmp_path / "t5", layers=3, seed=1)
    small_models.make_gtr_folder(tmp_path / "gtr", seed=2)
    config = json.loads((tmp_path / "gtr/config.json").read_text())
    (tmp_path / "gtr/config.json").write_text(
        json.dumps({**config, "num_decoder_layers": 1})
    )  # as it was then
    old = open_corpus(root)
    before = stamps(root)
    rows = old.passages(range(len(old))).to_pylist()
    edition: editions.Edition = {}
    for row in rows:
        page = edition.setdefault(row["page_id"], editions.Page(row["title"], []))
        page.sections.append((tuple(row["section"]), row["text"]))
    last = list(edition)[-1]
    edition[last].sections.append((("New",), "A paragraph that was not there."))
    source = editions.write(edition, tmp_path / "second.jsonl")
    models = {"retriever": str(tmp_path / "gtr"), "memory_encoder": str(tmp_path / "t5")}
    done = jobs.update(root, source, **models)
    assert (done.counts["added"], done.counts["vanished"], done.generation) == (1, 0, 1)
    assert len(done.brought) == 4
    assert {k: v for k, v in stamps(root).items() if k in before and k != "corpus.json"} == {
        k: v for k, v in before.items() if k != "corpus.json"
    }
    corpus = open_corpus(root)
    assert corpus.passages([len(rows)])["text"].to_pylist() == ["A paragraph that was not there."]
    for version in corpus.manifest.versions:
        reader = corpus.memory(version)
        assert len(reader.fetch(corpus.passage_ids)) == len(rows) + 1
        exact = np.asarray(corpus.memory().fetch([len(rows)]).values, np.float32)
        coded = np.asarray(reader.fetch([len(rows)]).values, np.float32)
        off = np.linalg.norm(coded - exact, axis=1)
        assert (off <= reader.coder.error_bound(exact) * 1.01).all()
    assert jobs.verify(root, full=True).ok
    expected = json.loads((FOLDER / "format-1.json").read_text())
    found = expectations(open_corpus(root, generation=0))
    assert found["text"] == expected["text"]
    assert found["nearest"] == expected["nearest"]


def test_a_compaction_drops_what_has_gone_and_changes_no_answer(
    live: Path, first_edition: editions.Edition, tmp_path: Path
) -> None:
    jobs.reencode(live, ReencodeSettings(origin="current", codec="pq4x4", name="small"))
    second = edit(live, first_edition, 2, tmp_path)
    third = edit(live, second, 3, tmp_path)
    before = open_corpus(live)
    ids = before.passage_ids
    queries = np.random.default_rng(1).normal(size=(4, before.vectors_card.layout.dim)).astype("f4")

    def answers(corpus: Any) -> list[Any]:
        found = corpus.search(queries, 9)
        return [
            said(corpus.passages(ids)),
            corpus.passage_ids.tolist(),
            found.passage_ids.tobytes() + found.scores.tobytes(),
            *(corpus.memory(v).fetch(ids, decode=False).values.tobytes() for v in ("current", "small")),
        ]

    wanted = answers(before)
    told = jobs.compact(live, dry_run=True)
    assert open_corpus(live, generation=0).ids_given < before.ids_given
    gone = np.setdiff1d(np.arange(before.ids_given), ids)
    assert told.passages == len(gone)
    values = list(live.rglob("values/c/*/0/0"))
    size = sum(p.stat().st_size for p in values)
    done = jobs.compact(live)
    assert (done.memory_bytes, done.text_bytes) == (told.memory_bytes, told.text_bytes)
    # The reader of before goes on, and what it holds stays.
    assert done.held > 0
    assert answers(before) == wanted
    after = open_corpus(live)
    assert answers(after) == wanted
    del before
    gc.collect()
    jobs.collect(live)
    left = sum(p.stat().st_size for p in live.rglob("values/c/*/0/0"))
    assert size - left == told.memory_bytes > 0
    for ask in (after.passages, after.memory().fetch):
        with pytest.raises(errors.TombstoneError, match="`memcorpus compact` has dropped the bytes"):
            ask(gone[:1])
    for generation in (0, 1):
        with pytest.raises(errors.CorpusError, match="can be read no more"):
            open_corpus(live, generation=generation)
    # No word of what has gone is left in any part.
    texts = {row for part in live.rglob("part-*.parquet") for row in pq.read_table(part)["text"].to_pylist()}
    assert texts - {""} == {row[3] for row in wanted[0]}
    verified = jobs.verify(live, full=True)
    assert (verified.ok, verified.strays) == (True, [])
    encoder = jobs.load_encoder(live, None, None)
    assert after.check_encoder(encoder).relative_error < 1e-4
    # Again there is nothing to drop, and life goes on.
    assert jobs.compact(live).passages == 0
    fourth = edit(live, third, 4, tmp_path)
    assert sorted(said(open_corpus(live).passages(open_corpus(live).passage_ids))) == sorted(
        editions.passages(fourth)
    )
    del after, ask
    gc.collect()
    done = jobs.compact(live)
    assert (done.passages > 0, done.held) == (True, 0)
    jobs.reencode(live, ReencodeSettings(origin="small", codec="float32", name="wide"))
    wide = open_corpus(live).memory("wide").fetch(open_corpus(live).passage_ids)
    small = open_corpus(live).memory("small").fetch(open_corpus(live).passage_ids)
    assert wide.values.tobytes() == np.asarray(small.values, np.float32).tobytes()
    verified = jobs.verify(live, full=True)
    assert (verified.ok, verified.strays) == (True, [])
    assert sorted(said(open_corpus(live).passages(open_corpus(live).passage_ids))) == sorted(
        editions.passages(fourth)
    )


def test_the_commands(live: Path, first_edition: editions.Edition, tmp_path: Path, command: Any) -> None:
    truth = Truth()
    truth.take(editions.passages(first_edition))
    second = editions.edited(first_edition, 21)
    source = editions.write(second, tmp_path / "second.jsonl")
    wanted = truth.take(editions.passages(second))
    whole = content(live)
    status, out, err = command("plan", "--update", live, "--source", source, "--json", "--sample", "1")
    assert status == 0, err
    planned = json.loads(out)
    assert content(live) == whole
    # Every page was read, so it is no estimate.
    assert planned["whole"]
    assert (planned["added"], planned["kept"]) == (wanted["added"], wanted["kept"])
    assert 0 < planned["bytes"] < planned["rebuild_bytes"]
    assert command("plan", "--update", live, "--source", source)[0] == 0
    status, out, err = command("update", live, "--source", source, "--json")
    assert status == 0, err
    done = json.loads(out)
    assert {name: done["counts"][name] for name in wanted} == wanted
    assert command("update", live, "--source", source)[1].startswith("nothing has changed")
    status, out, _ = command("info", live, "--json")
    summary = json.loads(out)
    assert (summary["format"], summary["passages"]) == (2, wanted["new"])
    assert summary["updates"][0]["counts"]["kept"] == wanted["kept"]
    status, out, _ = command("report", live, "--json", "--build-device", "h100")
    assert status == 0
    (row,) = json.loads(out)["updates"]
    assert (row["added"], row["saved_bytes"] > 0, row["saved_dollars"] >= 0) == (wanted["added"], True, True)
    assert "Updates" in command("report", live)[1]
    assert command("info", live)[0] == 0
    assert command("versions", live)[0] == 0
    gone = truth.there.index(False)
    status, _, err = command("get", live, str(gone))
    assert (status, "removed by generation 1" in err, err.count("\n")) == (2, True, 1)
    assert "would be freed" in command("compact", live, "--dry-run")[1]
    assert "bytes freed" in command("compact", live)[1]
    assert command("compact", live)[1] == "nothing to drop\n"
    assert command("verify", live, "--full")[0] == 0
    status, _, err = command("update", live, "--source", "jsonl:/not/there.jsonl")
    assert (status, err.count("\n")) == (2, 1)


def test_a_corpus_of_chunks_is_updated_by_whole_documents(
    live_settings: Any, first_edition: editions.Edition, models: Path, tmp_path: Path
) -> None:
    """Its tokens, texts and memory are those of a fresh build, document by document."""
    chunks = dataclasses.replace(live_settings, passage_tokens=16, tokenizer=str(models / "t5"))
    root = jobs.build(chunks, tmp_path / "corpus").corpus.root
    table = jobs.neighbours(root, k=1)
    old = open_corpus(root)
    before = content(root)
    second = editions.edited(first_edition, 7)
    source = editions.write(second, tmp_path / "second.jsonl")
    done = jobs.update(root, source)
    assert 0 < done.counts["added"] < done.counts["kept"]
    assert {k: v for k, v in content(root).items() if k in before and k != "corpus.json"} == {
        k: v for k, v in before.items() if k != "corpus.json"
    }
    fresh = jobs.build(dataclasses.replace(chunks, sources=(source,)), tmp_path / "fresh").corpus.root

    def read(corpus: Any) -> dict[Any, tuple[bytes, Any]]:
        """By page and place in it: tokens and memory; of the newest of those that are there."""
        ids = corpus.passage_ids
        rows = corpus.passages(ids).select(["page_id", "title", "section", "ordinal", "text"]).to_pylist()
        tokens, memory = corpus.tokens(ids), corpus.memory().fetch(ids)
        found: dict[Any, tuple[bytes, Any]] = {}
        for place, row in enumerate(rows):
            key = (row["page_id"], row["title"], tuple(row["section"]), row["ordinal"], row["text"])
            own = tokens.values[place, : tokens.lengths[place]].tobytes()
            found.setdefault(key, (own, np.asarray(memory[place], np.float32)))
        return found

    updated, built = read(open_corpus(root)), read(open_corpus(fresh))
    assert updated.keys() == built.keys()
    for key, (tokens, memory) in built.items():
        assert updated[key][0] == tokens
        # In another shard a passage is encoded beside others.
        np.testing.assert_allclose(updated[key][1], memory, atol=0.05)
    gone = np.setdiff1d(np.arange(len(old)), open_corpus(root).passage_ids)
    assert len(gone) == done.counts["vanished"] > 0
    with pytest.raises(errors.TombstoneError):
        open_corpus(root).tokens(gone[:1])
    assert jobs.verify(root, full=True).ok
    # What is told of them is of all generations, and of a table that an update left it behind.
    told = figures.summary(facts.read(CorpusFolder(root)))
    cards = [part.card(components.TOKENS).counts for part in segments.of(CorpusFolder(root))]
    assert told["tokens"]["tokens"] == sum(card.tokens for card in cards) > cards[0].tokens
    assert told["tokens"]["documents"] == sum(card.documents for card in cards)
    # Of memory an average of passages is not known: rows of what has gone are there still.
    assert {memory["passages"] for memory in told["memory"].values()} == {None}
    (vectors,) = told["vectors"].values()
    assert vectors["read"] is not None
    assert vectors["read"]["tokens"] > old.vectors_card.counts.tokens
    assert told["neighbours"][table]["left_behind"]
    with pytest.raises(errors.MismatchError, match="was left behind by update 1"):
        open_corpus(root).neighbours()
    _require_judged_once(open_corpus(root))
    # What is told of chunks is of all that are stored, as of memory.
    stored, held = facts.read(CorpusFolder(root)).tokens, open_corpus(root)
    assert stored is not None
    assert stored.counts.tokens == held._open_tokens()._lengths.read(0, held.ids_given).sum()
    # A run that was begun on the corpus as it was is none of the updated one.
    plans = [
        opening.described(corpus, Text(chunks=CorpusChunks(corpus), retrieval=None))
        for corpus in (old, open_corpus(root))
    ]
    assert plans[0]["passages"] == plans[1]["passages"]
    assert plans[0] != plans[1]
    jobs.compact(root)
    assert jobs.verify(root, full=True).ok
    compacted = open_corpus(root)
    _require_judged_once(compacted)
    # What the build wrote of itself lies elsewhere now, and so do tables of neighbours.
    assert compacted.retriever().fingerprint == compacted.vectors_card.encoder_fingerprint
    with pytest.raises(errors.CorpusError, match=f"{root} was updated and has no table"):
        compacted.neighbours()


def _require_judged_once(corpus: Corpus) -> None:
    """A language model is judged by the chunks that are there: each token but a document's first, once."""
    held, ids = CorpusChunks(corpus), corpus.passage_ids
    assert 0 < len(ids) < len(held)
    judged: list[int] = []
    own: list[int] = []
    for window in windows.sliding(held, length=3, stride=2, rows=4):
        judged += window.judged[window.judged >= 0].tolist()
        own += window.own.tolist()
    assert own == ids.tolist()
    firsts, lengths = corpus.documents(ids).firsts, corpus.tokens(ids).lengths
    assert sorted(judged) == np.repeat(ids, lengths - (firsts == ids)).tolist()
    following = held.continuations(ids)
    np.testing.assert_array_equal(following[:-1] >= 0, firsts[1:] == firsts[:-1])
    assert set(following[following >= 0].tolist()) <= set(ids.tolist())
    drawn = windows.drawn(held, length=3, rows=4, seed=0, step=0)
    assert (drawn.rows.targets >= 0).any()


def test_trainers_read_the_passages_that_are_there(
    live: Path, first_edition: editions.Edition, tmp_path: Path
) -> None:
    """Datasets, gold passages and what was retrieved before: of an updated corpus ids are not 0 to n - 1."""
    import memcorpus.torch as loading

    before = open_corpus(live)
    edit(live, first_edition, 7, tmp_path)
    corpus = open_corpus(live)
    live_ids = corpus.passage_ids.tolist()
    assert live_ids != list(range(len(live_ids)))
    data = loading.MemoryDataset(live)
    assert len(data) == len(live_ids)
    assert [data[i]["passage_id"] for i in (0, 7, -1)] == [live_ids[0], live_ids[7], live_ids[-1]]
    stream = loading.MemoryStream(corpus, batch_size=16, shuffle=True, seed=3)
    assert sorted(i for batch in stream for i in batch.passage_ids.tolist()) == live_ids
    gone = int(np.setdiff1d(np.arange(corpus.ids_given), live_ids)[0])
    with pytest.raises(errors.TombstoneError):
        loading.MemoryDataset(live, [gone])
    # What was opened before the update, or of the generation before, goes on as it was, in every process.
    kept = pickle.loads(pickle.dumps(loading.MemoryDataset(before)))
    assert len(kept) == len(before)
    assert kept[gone]["passage_id"] == gone
    # The gold passage of a page that was added.
    rows = corpus.passages(corpus.passage_ids).to_pylist()
    added = next(row for row in rows if row["passage_id"] >= before.ids_given)
    page = kilt_tasks.Provenance(wikipedia_id=added["page_id"])
    example = kilt_tasks.Example(
        id="1", input="?", outputs=(kilt_tasks.Output(answer=added["text"][:30], provenance=(page,)),)
    )
    task = questions.Task(
        name="t", examples=(example,), passage_ids=np.array([[live_ids[0], live_ids[1]]]), digest="0" * 64
    )
    assert questions.with_gold(task, corpus).passage_ids[0].tolist() == [added["passage_id"], live_ids[0]]
    assert questions.path_of(tmp_path, task, corpus, 2) != questions.path_of(tmp_path, task, before, 2)


def test_a_repair_after_a_compaction_makes_what_it_can_and_says_of_the_rest_why_not(
    live: Path, first_edition: editions.Edition, models: Path, tmp_path: Path
) -> None:
    """Versions: encoded before, recoded from it, and encoded after it. Every file of shards, one run."""
    jobs.reencode(live, ReencodeSettings(origin="current", codec="int8", name="small"))
    # Two articles of the middle shard.
    left = {key: page for key, page in first_edition.items() if key not in ("28", "30")}
    jobs.update(live, editions.write(left, tmp_path / "second.jsonl"))
    assert jobs.compact(live).passages > 1
    found = open_corpus(live)
    first, small = (found.memory(v).card.version for v in ("current", "small"))
    assert found.memory().card.counts.tokens_unknown is None
    del found
    gc.collect()
    jobs.collect(live)
    compacted = jobs.manifest(live).compacted
    assert compacted is not None
    root = live / compacted.folder
    emptied = {
        shard
        for part in root.glob("passages/*.parquet")
        for row in pq.read_table(part, columns=["passage_id", "words"]).to_pylist()
        if not row["words"]
        for shard in [row["passage_id"] // 64]
    }
    every = sorted(root.glob(f"memory/{first}/values/c/*/0/0"), key=lambda p: int(p.parts[-3]))
    shards = range(len(every))
    assert 0 < len(emptied) < len(every)
    whole = content(live)

    def repaired(*patterns: str) -> tuple[set[str], dict[str, str]]:
        """Of the damaged files, what came back as it was, and what was said of each other."""
        paths = [path for pattern in patterns for path in root.glob(pattern)]
        names = [path.relative_to(live).as_posix() for path in paths]
        for path in paths:
            path.write_bytes(path.read_bytes()[:-1])
        outcome = jobs.repair(live)
        left = dict(line.split(": ", 1) for line in outcome.left)
        assert sorted([*outcome.repaired, *left]) == sorted(names)
        after = content(live)
        assert [name for name in names if after[name] == whole[name]] == sorted(
            outcome.repaired, key=names.index
        )
        for path, name in zip(paths, names, strict=True):
            path.write_bytes(whole[name])
        assert content(live) == whole
        return set(outcome.repaired), left

    def shard_of(name: str) -> int:
        return int(name.split("/c/")[1].split("/")[0])

    # What is recoded is made of the version as the compaction left it.
    made, left = repaired(f"memory/{small}/values/c/*/0/0", f"memory/{small}/offsets/c/0/0")
    assert (len(made), left) == (len(every) + 1, {})
    # Encoded: shards that lost nothing, and others where rounding does not tell; of the rest it is said.
    made, left = repaired(f"memory/{first}/values/c/*/0/0")
    assert {shard_of(name) for name in made} >= set(shards) - emptied
    for name, why in left.items():
        shard = shard_of(name)
        assert shard in emptied
        assert f"shard {shard} was written anew by a compaction, without " in why
        assert why.endswith("restore it from a copy, or encode the version again (`memcorpus reencode`)")
    # Vectors keep rows of what has gone.
    made, left = repaired("vectors/*/c/*/0")
    assert {shard_of(name) for name in left} == emptied
    assert {shard_of(name) for name in made} == set(shards) - emptied
    assert all(
        "whose text a compaction dropped, and they cannot be made again" in why for why in left.values()
    )
    # What is encoded afterwards has rows of every passage, and comes back.
    asked = ReencodeSettings(memory_encoder=str(models / "t5"), memory={"max_tokens": 96}, name="later")
    jobs.reencode(live, asked)
    later = open_corpus(live).memory("later").card.version
    whole = content(live)
    made, left = repaired(f"memory/{later}/values/c/*/0/0", f"memory/{later}/checksums/c/0/0")
    assert (len(made), left) == (len(every) + 1, {})
