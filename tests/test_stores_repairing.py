"""Checks and repairs of a corpus in a bucket: they find and mend there what they find and mend here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.components.memory.encode import EncodeShards
from pipeline.jobs import repair as repair_module
from storage import bucket as bucket_module
from storage import object_lock
from storage.bucket import S3_ENDPOINT
from storage.stored_folder import StoredFolder
from tests import faulty_proxy, jobs, object_store
from tests.object_store import BUCKET
from tests.test_repairing import Here, Killed

Run = Callable[..., tuple[int, str, str]]
NAME = "checked/wiki"
URL = f"s3://{BUCKET}/{NAME}"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    real = os.environ.get("MEMCORPUS_S3_SERVER")
    server = object_store.real_server(tmp_path_factory.mktemp("s3")) if real else object_store.serving()
    with server as client, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield client


@pytest.fixture
def both(bucket: Any, corpus_copy: Path) -> Iterator[Both]:
    """The corpus on the disk, and the same in the bucket."""
    made = Both(bucket, corpus_copy)
    for name, data in object_store.files(corpus_copy).items():
        made.put(name, data)
    yield made
    for name in made.stored():
        bucket.delete_object(Bucket=BUCKET, Key=f"{NAME}/{name}")


class Both:
    """A corpus in two places, of which files are damaged in the same way."""

    def __init__(self, client: Any, root: Path) -> None:
        self.client, self.root = client, root
        self.whole = object_store.files(root)

    def put(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=f"{NAME}/{name}", Body=data)

    def named(self, pattern: str) -> str:
        """The first file of a pattern."""
        return min(self.root.glob(pattern)).relative_to(self.root).as_posix()

    def damage(self, name: str, how: int) -> None:
        """Flip a bit, cut a byte off, or remove the file."""
        data, path = self.whole[name], self.root / name
        if how % 3 == 2 or not data:
            path.unlink()
            self.client.delete_object(Bucket=BUCKET, Key=f"{NAME}/{name}")
            return
        at = len(data) // 2
        changed = data[:-1] if how % 3 else data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        path.write_bytes(changed)
        self.put(name, changed)

    def restore(self, name: str) -> None:
        (self.root / name).write_bytes(self.whole[name])
        self.put(name, self.whole[name])

    def stored(self) -> dict[str, bytes]:
        """All objects, but the lock."""
        found = object_store.content(self.client, f"{NAME}/")
        return {name: data for name, data in found.items() if name != object_lock.NAME}

    def shards(self) -> list[str]:
        """Of the current version, in order."""
        below = f"memory/{jobs.manifest(self.root).version(None)}/values/c/"
        found = [name for name in self.whole if name.startswith(below)]
        return sorted(found, key=lambda name: int(name.removeprefix(below).split("/")[0]))


def test_a_repair_of_a_shard_touches_that_shard(both: Both, command: Run) -> None:
    """By what is asked of the server: nothing of other shards is read, nothing but it is written."""
    shards = both.shards()
    vectors = both.named("vectors/*/c/1/0")
    for how, name in enumerate((shards[0], vectors, shards[1])):
        both.damage(name, how)
    damaged = both.stored()
    asked: list[tuple[str, str]] = []

    def note(method: str, path: str, headers: dict[str, str]) -> None:
        asked.append((method, path.split("?")[0].removeprefix(f"/{BUCKET}/{NAME}/")))

    with (
        faulty_proxy.before(os.environ[S3_ENDPOINT]) as network,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv(S3_ENDPOINT, network.endpoint)
        network.fault = note
        status, out, err = command("repair", URL, "--shard", "1-2")
    assert status == 0, err
    assert sorted(out.replace("repaired: ", "").split()) == sorted((shards[1], vectors))
    assert both.stored() == {**damaged, shards[1]: both.whole[shards[1]], vectors: both.whole[vectors]}
    data = set(both.shards()) | {name for name in both.whole if "/c/" in name and name.startswith("vectors/")}
    read = {name for method, name in asked if method == "GET"} & data
    # What is missing or has another size is not read.
    assert read == {shards[2], vectors.replace("/c/1/", "/c/2/")}
    written = {name for method, name in asked if method in ("PUT", "DELETE")} & set(both.whole)
    assert written == {shards[1], vectors}
    status, out, _ = command("repair", URL, "--shard", "3")
    assert (status, out) == (0, "nothing is damaged\n")
    assert command("repair", URL, "--shard", "0")[0] == 0
    assert both.stored() == both.whole


def test_a_repair_that_ends_in_the_middle_goes_on(
    both: Both, monkeypatch: pytest.MonkeyPatch, command: Run
) -> None:
    """Killed while it makes and while it puts in place, then refused by the store: nothing is done twice."""
    for name in both.shards()[:4]:
        both.damage(name, 0)
    made: list[int] = []
    real, take = EncodeShards.finish, StoredFolder.take

    def finish(self: EncodeShards, unit: int, *arguments: Any) -> Any:
        if len(made) == 2:
            raise Killed
        made.append(unit)
        return real(self, unit, *arguments)

    def repaired() -> repair_module.Repaired:
        return repair_module.repair(StoredFolder(URL), engine=Here())

    with monkeypatch.context() as patch:
        patch.setattr(EncodeShards, "finish", finish)
        with pytest.raises(Killed):
            repaired()
    assert made == [0, 1]
    made.clear()

    def counting(self: EncodeShards, unit: int, *arguments: Any) -> Any:
        made.append(unit)
        return real(self, unit, *arguments)

    monkeypatch.setattr(EncodeShards, "finish", counting)
    taken: list[str] = []

    def some(self: StoredFolder, path: Path, entry: Any) -> bool:
        if len(taken) == 1:
            raise Killed
        if entry.path in both.shards():
            taken.append(entry.path)
        return take(self, path, entry)

    with monkeypatch.context() as patch:
        patch.setattr(StoredFolder, "take", some)
        with pytest.raises(Killed):
            repaired()
    assert made == [2, 3]

    # The store takes no more: a line for each file, what was whole is whole, what was made is kept.
    before = both.stored()
    with faulty_proxy.before(os.environ[S3_ENDPOINT]) as network, monkeypatch.context() as patch:
        patch.setenv(S3_ENDPOINT, network.endpoint)
        patch.setattr(bucket_module, "TRIES", 2)
        copies = f"/{BUCKET}/{NAME}/memory/"
        network.fault = lambda method, path, headers: (
            faulty_proxy.ERROR if method == "PUT" and path.startswith(copies) else None
        )
        status, out, err = command("repair", URL)
    assert (status, "Traceback" in err) == (1, False), err
    lines = out.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.endswith("what is made is kept: run the same command again"), line
    whole = {name: data for name, data in before.items() if not name.startswith("work/")}
    assert {name: data for name, data in both.stored().items() if not name.startswith("work/")} == whole
    outcome = repaired()
    assert (made, outcome.left) == ([2, 3], [])
    assert len(outcome.repaired) == 3
    assert both.stored() == both.whole
