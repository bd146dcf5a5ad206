"""Corpora written into an object store: the same content as on a disk, by the same jobs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.jobs import build as build_module
from retrieval import open_corpus
from storage import checked_json, errors, manifest, object_lock
from storage.object_store import ObjectStore
from storage.stored_folder import StoredFolder, open_for_writing
from tests import editions, jobs, object_store
from tests.object_store import BUCKET, without_times

Run = Callable[..., tuple[int, str, str]]
NAME = "built/wiki"
URL = f"s3://{BUCKET}/{NAME}"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with object_store.serving() as client, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield client


@pytest.fixture(scope="module")
def built(bucket: Any, settings: Any) -> Any:
    """The settings of the `corpus` that lies on the disk, built into the bucket."""
    return build_module.build(settings, open_for_writing(URL))


def stored(bucket: Any, name: str = NAME) -> dict[str, bytes]:
    return without_times(object_store.content(bucket, f"{name}/"))


@pytest.fixture
def copied(bucket: Any, built: Any) -> Iterator[str]:
    """A copy of the bucket's corpus that the test may change: its name."""
    name = "copied/wiki"
    for key in object_store.content(bucket, f"{NAME}/"):
        bucket.copy_object(Bucket=BUCKET, Key=f"{name}/{key}", CopySource=f"{BUCKET}/{NAME}/{key}")
    yield name
    ObjectStore(f"s3://{BUCKET}/{name}").delete_below("")


def test_what_is_built_there_is_what_is_built_here(bucket: Any, built: Any, corpus: Path) -> None:
    assert not built.already
    here = without_times(object_store.files(corpus))
    assert len(here) > 20
    assert stored(bucket) == here
    # Nothing is left of the job, but for its lock, which is free, and nothing in the scratch folder.
    lock = json.loads(object_store.content(bucket, f"{NAME}/")[object_lock.NAME])
    assert lock["free"]
    assert object_store.files(built.corpus.root) == {}


def test_a_finished_one_is_left_as_it_is(bucket: Any, built: Any, settings: Any) -> None:
    before = object_store.content(bucket, f"{NAME}/")
    assert build_module.build(settings, open_for_writing(URL)).already
    assert object_store.content(bucket, f"{NAME}/") == before


def test_commands_tell_of_it_what_they_tell_of_a_folder(built: Any, corpus: Path, command: Run) -> None:
    def told(*arguments: str, of: str | Path) -> Any:
        status, out, err = command(arguments[0], of, *arguments[1:])
        assert (status, err) == (0, "")
        return json.loads(out)

    for arguments in (("verify", "--json"), ("verify", "--full", "--json")):
        there, here = told(*arguments, of=URL), told(*arguments, of=corpus)
        assert there["ok"]
        assert (there["files"], there["strays"]) == (here["files"], [])
    there, here = (told("versions", "--json", of=of) for of in (URL, corpus))
    assert {**there, "seconds": 0} == {**here, "seconds": 0}
    there, here = told("info", "--json", of=URL), told("info", "--json", of=corpus)
    assert there["passages"] == here["passages"]
    there, here = told("report", "--json", of=URL), told("report", "--json", of=corpus)
    assert there["bytes_by_part"]["memory"] == here["bytes_by_part"]["memory"]


def test_versions_there_are_versions_here(bucket: Any, copied: str, corpus_copy: Path, command: Run) -> None:
    """Recoded, used, compared, and collected: after each step the same content; readers follow `current`."""
    url = f"s3://{BUCKET}/{copied}"
    reader = open_corpus(url)
    first = reader.memory().card.version

    def same() -> None:
        assert stored(bucket, copied) == without_times(object_store.files(corpus_copy))

    for arguments in (
        ("reencode", "--from", "current", "--codec", "int8", "--as", "small"),
        ("use", "small"),
        ("use", "--back"),
        ("use", "small"),
        ("use", "first", "--alias", "first"),
        ("reencode", "--from", "small", "--codec", "turbo4", "--use"),
    ):
        outcomes = []
        for where in (url, corpus_copy):
            arguments_ = tuple(first if a == "first" and i == 1 else a for i, a in enumerate(arguments))
            status, out, err = command(arguments_[0], where, *arguments_[1:])
            assert status == 0, err
            outcomes.append(out)
        same()
    assert (
        command("diff", url, first, "small", "--json")[1]
        == command("diff", corpus_copy, first, "small", "--json")[1]
    )
    listed_there, listed_here = (command("versions", where)[1].count("\n") for where in (url, corpus_copy))
    assert listed_there == listed_here
    assert StoredFolder(url).run_names() == jobs.CorpusFolder(corpus_copy).run_names()
    follower = open_corpus(url)
    small = follower.memory()
    assert small.card.layout.codec.name == "turbo4"
    here = open_corpus(corpus_copy).memory()
    np.testing.assert_array_equal(small.fetch([3, 70]).values, here.fetch([3, 70]).values)
    for where in (url, corpus_copy):
        status, out, err = command("use", where, "--forget", "--alias", "first")
        assert status == 0, err
    listed = [command("gc", where)[1] for where in (url, corpus_copy)]
    assert first in listed[0]
    for where in (url, corpus_copy):
        status, out, err = command("gc", where, "--yes")
        assert status == 0, err
        assert first in out
    same()
    assert not [name for name in stored(bucket, copied) if first in name]


@pytest.mark.slow
def test_encoded_again_by_an_encoder_from_there(
    bucket: Any, copied: str, corpus_copy: Path, models: Path, command: Run
) -> None:
    """The encoder lies in the bucket, for both; the version that it makes is the same on a disk."""
    for path in (models / "t5").iterdir():
        bucket.upload_file(str(path), BUCKET, f"models/again/{path.name}")
    encoder = ("--memory-encoder", f"s3://{BUCKET}/models/again", "--live-proportion", "1/2")
    url = f"s3://{BUCKET}/{copied}"
    before = set(stored(bucket, copied))
    versions = []
    for where in (url, corpus_copy):
        status, out, err = command("reencode", where, *encoder, "--as", "deeper", "--use", "--json")
        assert status == 0, err
        versions.append(json.loads(out)["version"])
    assert versions[0] == versions[1]
    found = stored(bucket, copied)
    assert len(set(found) - before) > 3
    assert found == without_times(object_store.files(corpus_copy))
    # Done is done.
    status, out, err = command("reencode", url, *encoder, "--as", "deeper", "--json")
    assert (status, json.loads(out)["already"]) == (0, True), err
    there, here = (open_corpus(where).memory() for where in (url, corpus_copy))
    assert there.card.version == versions[0]
    np.testing.assert_array_equal(there.fetch([3, 70]).values, here.fetch([3, 70]).values)


@pytest.mark.slow
def test_neighbours_there_are_neighbours_here(
    bucket: Any, copied: str, corpus_copy: Path, command: Run
) -> None:
    url = f"s3://{BUCKET}/{copied}"
    for where in (url, corpus_copy):
        status, _, err = command("neighbours", where, "-k", "2")
        assert status == 0, err
        status, out, err = command("neighbours", where, "--check", "1")
        assert status == 0, (out, err)
    here = without_times(object_store.files(corpus_copy))
    assert any(name.startswith("neighbours/") for name in here)
    assert stored(bucket, copied) == here
    with pytest.raises(errors.CorpusError, match="open for reading"):
        open_corpus(url).folder.alone()


def test_damage_there_is_found_and_repaired(bucket: Any, copied: str, command: Run) -> None:
    url = f"s3://{BUCKET}/{copied}"
    whole = stored(bucket, copied)
    version = open_corpus(url).memory().card.version
    vectors = next(name for name in whole if name.startswith("vectors/") and name.endswith("/c/1/0"))
    index = next(name for name in whole if name.endswith("index.faiss"))
    memory = f"memory/{version}"
    names = (
        f"{memory}/values/c/0/0/0",
        f"{memory}/offsets/c/0/0",
        f"{memory}/values/zarr.json",
        vectors,
        index,
    )
    for name in names:
        data = bytearray(whole[name])
        data[len(data) // 2] ^= 1
        bucket.put_object(Bucket=BUCKET, Key=f"{copied}/{name}", Body=bytes(data))
    bucket.delete_object(Bucket=BUCKET, Key=f"{copied}/{memory}/values/c/1/0/0")
    status, out, err = command("verify", url, "--full")
    assert status == 1, err
    assert out.count("damaged: ") == 6
    status, out, err = command("verify", url)
    assert status == 1
    assert out.count("damaged: ") == 1
    status, out, err = command("repair", url)
    assert (status, out.count("repaired: ")) == (0, 6), (out, err)
    assert stored(bucket, copied) == whole


def test_a_bucket_that_holds_something_else_is_left_alone(bucket: Any, command: Run, settings: Any) -> None:
    bucket.put_object(Bucket=BUCKET, Key="other/wiki/notes.txt", Body=b"mine")
    with pytest.raises(errors.CorpusError, match=r"holds something else \(notes\.txt"):
        build_module.build(settings, open_for_writing(f"s3://{BUCKET}/other/wiki"))
    assert object_store.content(bucket, "other/") == {"wiki/notes.txt": b"mine"}
    with pytest.raises(
        errors.CorpusError, match="s3://no-such-bucket/wiki cannot be used: there is no such bucket"
    ):
        build_module.build(settings, open_for_writing("s3://no-such-bucket/wiki"))


def test_a_second_job_is_refused_in_a_line(bucket: Any, copied: str, command: Run) -> None:
    url = f"s3://{BUCKET}/{copied}"
    with StoredFolder(url).alone():
        before = object_store.content(bucket, f"{copied}/")
        for arguments in (("use", url, "--back"), ("gc", url, "--yes"), ("repair", url)):
            status, _, err = command(*arguments)
            assert status == 2
            assert "another job is at work in s3://" in err
            assert err.count("\n") == 1
        assert object_store.content(bucket, f"{copied}/") == before


def test_a_manifest_of_another_job_is_never_replaced(bucket: Any, copied: str) -> None:
    """Of one that took the lock over while this one slept."""
    url = f"s3://{BUCKET}/{copied}"
    folder = StoredFolder(url)
    with folder.alone():
        folder.refresh()
        found = folder.manifest
        theirs, ours = (
            replace(found, aliases={**found.aliases, name: found.version(None)})
            for name in ("theirs", "ours")
        )
        ObjectStore(url).put(manifest.NAME, checked_json.encode(theirs.to_json()))
        with pytest.raises(errors.CorpusError, match="changed by another job"):
            folder.write_manifest(ours)
    assert "theirs" in StoredFolder(url).manifest.aliases


@pytest.mark.slow
def test_what_an_interrupted_build_left_is_checked_byte_by_byte(
    bucket: Any, built: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its commit, then some of it damaged: the rerun does again what is damaged."""
    name = "resumed/wiki"
    url = f"s3://{BUCKET}/{name}"

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build_module._Build, "_commit", dies)
        with pytest.raises(KeyboardInterrupt):
            build_module.build(settings, open_for_writing(url))
    left = object_store.content(bucket, f"{name}/")
    assert "corpus.json" not in left
    with pytest.raises(errors.CorpusError, match="not finished"):
        StoredFolder(url).manifest  # noqa: B018
    damaged = next(key for key in left if "/values/c/1/" in key)
    data = bytearray(left[damaged])
    data[5] ^= 1
    bucket.put_object(Bucket=BUCKET, Key=f"{name}/{damaged}", Body=bytes(data))
    build_module.build(settings, open_for_writing(url))
    assert stored(bucket, name) == stored(bucket)


def test_a_local_job_does_not_know_of_all_this(corpus: Path, tmp_path: Path) -> None:
    """No lock file, no scratch folder: a folder on a disk has what it always had."""
    copy = Path(shutil.copytree(corpus, tmp_path / "copy"))
    with jobs.CorpusFolder(copy).alone():
        assert not (copy / object_lock.NAME).exists()


def test_an_updated_corpus_is_read_and_checked_there_and_changed_here_alone(
    bucket: Any, live: Path, first_edition: editions.Edition, command: Run, tmp_path: Path
) -> None:
    source = editions.write(editions.edited(first_edition, 7), tmp_path / "second.jsonl")
    jobs.update(live, source)
    for name, data in object_store.files(live).items():
        bucket.put_object(Bucket=BUCKET, Key=f"updated/wiki/{name}", Body=data)
    url = f"s3://{BUCKET}/updated/wiki"
    here, there = open_corpus(live), open_corpus(url, cache=tmp_path / "cache")
    ids = here.passage_ids
    assert there.generation == 1
    assert there.passage_ids.tolist() == ids.tolist()
    assert there.passages(ids).equals(here.passages(ids))
    assert there.memory().fetch(ids).values.tobytes() == here.memory().fetch(ids).values.tobytes()
    queries = np.random.default_rng(0).normal(size=(3, here.vectors_card.layout.dim)).astype("f4")
    assert there.search(queries, 9).passage_ids.tolist() == here.search(queries, 9).passage_ids.tolist()
    gone = np.setdiff1d(np.arange(here.ids_given), ids)
    with pytest.raises(errors.TombstoneError):
        there.memory().fetch(gone[:1])
    before = object_store.content(bucket, "updated/")
    status, out, err = command("verify", url, "--full")
    assert status == 0, (out, err)
    for arguments in (("update", url, "--source", source), ("compact", url)):
        status, _, err = command(*arguments)
        assert status == 2
        assert "is done on a local disk" in err
        assert err.count("\n") == 1
    assert object_store.content(bucket, "updated/") == before
    # A part of the generation that is damaged there is found there.
    name = next(n for n in before if "generations/" in n and "/values/c/" in n)
    data = bytearray(before[name])
    data[len(data) // 2] ^= 1
    bucket.put_object(Bucket=BUCKET, Key=f"updated/{name}", Body=bytes(data))
    status, out, err = command("verify", url, "--full")
    assert status == 1
    assert name.removeprefix("wiki/") in out + err
