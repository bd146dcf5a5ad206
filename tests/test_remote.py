"""A corpus in an object store, read through a local S3 server: the same answers as from the folder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval import open_corpus
from storage import errors, s3_credentials
from tests import jobs
from tests.object_store import BUCKET, URL, serving


@pytest.fixture(scope="module")
def bucket(corpus: Path) -> Iterator[Any]:
    with serving(corpus) as client:
        yield client


def test_nothing_is_said_of_files_that_are_not_needed(bucket: Any, tmp_path: Path) -> None:
    """Amazon's library looks for keys below ~/.aws too, and writes to stderr where there are none."""
    command = [sys.executable, "-m", "pipeline", "get", f"s3://{BUCKET}/wiki", "5", "--memory"]
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("where", ["nowhere", "credentials", "config", "another profile"])
def test_keys_are_found_where_they_lie_and_nothing_is_said(bucket: Any, tmp_path: Path, where: str) -> None:
    """In ~/.aws, or nowhere: then a public bucket is read. Amazon's library writes to stderr as it looks."""
    keys = "aws_access_key_id = test\naws_secret_access_key = test\n"
    text = {"another profile": f"[profile other]\n{keys}"}.get(where, f"[default]\n{keys}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"], "HOME": str(tmp_path)}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    if where != "nowhere":
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws" / ("credentials" if where == "credentials" else "config")).write_text(text)
    if where == "another profile":
        environment["AWS_PROFILE"] = "other"
    command = [sys.executable, "-m", "pipeline", "get", URL, "5", "--memory"]

    def run() -> tuple[int, str]:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    if where == "nowhere":
        status, told = run()
        assert status == 1
        assert told.startswith(f"memcorpus: {URL}/corpus.json cannot be read")
        assert "PERMISSION_DENIED" in told
        assert told.count("\n") == 1
        for found in bucket.list_objects_v2(Bucket=BUCKET)["Contents"]:
            bucket.put_object_acl(Bucket=BUCKET, Key=found["Key"], ACL="public-read")
    assert run() == (0, "")


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, "environment"),
        ({"AWS_ACCESS_KEY_ID": "a"}, "anonymous"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/x"}, "ecs"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/x"}, "default"),
        ({"AWS_PROFILE": "sso"}, "default"),
        ({"AWS_PROFILE": "role"}, "profile"),
        ({"AWS_PROFILE": "none"}, "anonymous"),
        ({"vendor": "Amazon EC2"}, "imds"),
        ({"vendor": "Amazon EC2", "AWS_EC2_METADATA_DISABLED": "true"}, "anonymous"),
    ],
)
def test_where_keys_are_looked_for(
    environment: dict[str, str], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    vendor = tmp_path / "vendor"
    monkeypatch.setattr(s3_credentials, "_VENDOR", vendor)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(
        "[default]\nregion = eu-west-1\n[profile sso]\nsso_session = x\n[profile role]\nrole_arn = y\n"
    )
    for name, value in environment.items():
        if name == "vendor":
            vendor.write_text(value)
        else:
            monkeypatch.setenv(name, value)
    assert s3_credentials.chosen()["type"] == kind


def test_everything_is_as_in_the_folder(bucket: Any, corpus: Path, models: Path, tmp_path: Path) -> None:
    local = open_corpus(corpus)
    remote = open_corpus(f"s3://{BUCKET}/wiki", cache=tmp_path, retriever=str(models / "gtr"))
    assert len(remote) == len(local)
    assert remote.counts == local.counts
    ids = [5, 130, 6, 7, 5, len(local) - 1]
    assert remote.passages(ids).equals(local.passages(ids))
    here, there = local.memory(), remote.memory(check="always")
    for tokens in (None, slice(3, 9)):
        a, b = here.fetch(ids, tokens=tokens), there.fetch(ids, tokens=tokens)
        np.testing.assert_array_equal(a.values, b.values)
        np.testing.assert_array_equal(a.offsets, b.offsets)
    everything = list(range(len(local)))
    np.testing.assert_array_equal(here.fetch(everything).values, there.fetch(everything).values)
    np.testing.assert_array_equal(remote.vectors().take(np.array(ids)), local.vectors().take(np.array(ids)))
    query = np.asarray(local.vectors().take(np.array([17])))
    assert remote.search(query, 3).passage_ids.tolist() == local.search(query, 3).passage_ids.tolist()
    assert remote.search("a river", 2).passage_ids.shape == (1, 2)
    # The values are not copied; the rest was, and is not asked for again.
    assert not list(tmp_path.glob("memory/*/values/c/*"))
    stamp = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    again = open_corpus(f"s3://{BUCKET}/wiki", cache=tmp_path)
    np.testing.assert_array_equal(again.memory().fetch([9]).values, here.fetch([9]).values)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == stamp


def test_what_is_damaged_there_raises(bucket: Any, corpus: Path, tmp_path: Path) -> None:
    version = jobs.manifest(corpus).version(None)
    key = f"wiki/memory/{version}/values/c/0/0/0"
    whole = (corpus / key.removeprefix("wiki/")).read_bytes()
    try:
        bucket.put_object(Bucket=BUCKET, Key=key, Body=whole[:3] + bytes([whole[3] ^ 1]) + whole[4:])
        reader = open_corpus(f"s3://{BUCKET}/wiki", cache=tmp_path).memory()
        with pytest.raises(errors.DamagedError, match="passage 0"):
            reader.fetch([0])
        bucket.delete_object(Bucket=BUCKET, Key=key)
        with pytest.raises(errors.DamagedError, match="missing"):
            reader.fetch([0])
    finally:
        bucket.put_object(Bucket=BUCKET, Key=key, Body=whole)
    assert len(reader.fetch([0])) == 1
    part = corpus / "passages/part-00000.parquet"
    name = f"wiki/passages/{part.name}"
    try:
        bucket.put_object(Bucket=BUCKET, Key=name, Body=part.read_bytes()[:-1] + b"x")
        with pytest.raises(errors.DamagedError, match=part.name):
            open_corpus(f"s3://{BUCKET}/wiki", cache=tmp_path).passages([0])
    finally:
        bucket.put_object(Bucket=BUCKET, Key=name, Body=part.read_bytes())
    # A cache that was damaged is filled again.
    opened = open_corpus(f"s3://{BUCKET}/wiki", cache=tmp_path)
    right = opened.passages([0])
    cached = tmp_path / "passages" / part.name
    assert not cached.exists()  # rows are read by ranges, and only who reads all of a column brings the part
    opened.ids(right["page_id"].to_pylist())
    for at in (9, -1):
        cached.write_bytes(_flip(cached.read_bytes(), at % cached.stat().st_size))
        assert open_corpus(f"s3://{BUCKET}/wiki", cache=tmp_path).passages([0]).equals(right)
        assert cached.read_bytes() == part.read_bytes()


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


CHANGES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "a byte flipped": lambda mine, other: _flip(mine, 3),
    "another shard's bytes": lambda mine, other: other,
    "cut off": lambda mine, other: mine[:40],
    "zeros": lambda mine, other: bytes(len(mine)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_there_between_two_fetches_raises(
    bucket: Any, corpus: Path, tmp_path: Path, change: str
) -> None:
    """Each transfer is checked: that the last one was right says nothing of this one."""
    version = jobs.manifest(corpus).version(None)
    names = [f"memory/{version}/values/c/{shard}/0/0" for shard in (0, 1)]
    mine, other = ((corpus / name).read_bytes() for name in names)
    opened = open_corpus(f"s3://{BUCKET}/wiki", cache=tmp_path)
    right = open_corpus(corpus).memory().fetch([0])
    once, never = opened.memory(), opened.memory(check="never")
    tokens = slice(0, 2)
    for _ in range(2):
        np.testing.assert_array_equal(once.fetch([0]).values, right.values)
        np.testing.assert_array_equal(once.fetch([0], tokens=tokens).values, right.values[tokens])
        np.testing.assert_array_equal(never.fetch([0]).values, right.values)
    try:
        bucket.put_object(Bucket=BUCKET, Key=f"wiki/{names[0]}", Body=CHANGES[change](mine, other))
        for part in (None, tokens, slice(1, None)):
            with pytest.raises(errors.DamagedError):
                once.fetch([0], tokens=part)
            with pytest.raises(errors.DamagedError):
                list(once.batches([[0]], tokens=part))
        if change != "cut off":
            # What is wrong is there to be found: only the check keeps it from the caller.
            assert not np.array_equal(never.fetch([0]).values, right.values)
    finally:
        bucket.put_object(Bucket=BUCKET, Key=f"wiki/{names[0]}", Body=mine)
    np.testing.assert_array_equal(once.fetch([0]).values, right.values)


def test_vectors_that_change_there_raise(bucket: Any, corpus: Path, tmp_path: Path) -> None:
    (path,) = corpus.glob("vectors/*/c/0/0")
    name = path.relative_to(corpus).as_posix()
    mine = (corpus / name).read_bytes()
    vectors = open_corpus(f"s3://{BUCKET}/wiki", cache=tmp_path).vectors()
    right = open_corpus(corpus).vectors().read(0, 5)
    for _ in range(2):
        np.testing.assert_array_equal(vectors.read(0, 5), right)
    try:
        bucket.put_object(Bucket=BUCKET, Key=f"wiki/{name}", Body=_flip(mine, 3))
        with pytest.raises(errors.DamagedError):
            vectors.read(0, 5)
    finally:
        bucket.put_object(Bucket=BUCKET, Key=f"wiki/{name}", Body=mine)
    np.testing.assert_array_equal(vectors.read(0, 5), right)


def test_a_cache_that_cannot_be_read(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_corpus(f"s3://{BUCKET}/wiki", cache=tmp_path)
    cached = tmp_path / "corpus.json"
    real = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path == cached:
            raise OSError(errno.EIO, "Input/output error")  # of a read the system names no file
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(errors.UnreadableError, match=f"{cached} cannot be read: Input/output error"):
        open_corpus(f"s3://{BUCKET}/wiki", cache=tmp_path)


def test_what_cannot_be_opened_says_why(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.CorpusError, match=r"no corpus.*corpus\.json"):
        open_corpus(f"s3://{BUCKET}/elsewhere", cache=tmp_path)
    with pytest.raises(errors.CorpusError, match="known are local paths, file://, s3://"):
        open_corpus("ftp://x/y", cache=tmp_path)
    from retrieval.opening import local_folder, writable_folder

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(errors.CorpusError, match="can be read alone"):
        writable_folder("https://example.org/wiki")
    with pytest.raises(errors.CorpusError, match="is done on a local disk"):
        local_folder(f"s3://{BUCKET}/wiki")
