"""Puts that must be the only ones, and requests that fail: at a server behind a proxy that does harm."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from storage import bucket, errors, object_lock, object_store, processes
from storage.files import FileEntry
from storage.object_store import ObjectStore, TakenError
from storage.traffic import TRAFFIC
from tests import faulty_proxy
from tests.faulty_proxy import Proxy
from tests.object_store import BUCKET, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with serving() as client:
        yield client


@pytest.fixture
def proxy(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with faulty_proxy.before(os.environ["AWS_ENDPOINT_URL"]) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.endpoint)
        monkeypatch.setattr(bucket, "FIRST_PAUSE", 0.005)
        monkeypatch.setattr(bucket, "LONGEST_PAUSE", 0.05)
        yield found


@pytest.fixture
def store(proxy: Proxy) -> ObjectStore:
    return ObjectStore(f"s3://{BUCKET}/{uuid.uuid4().hex}")


def once(proxy: Proxy, kind: str, method: str, name: str, times: int = 1) -> None:
    left = [kind] * times

    def fault(asked: str, path: str, headers: dict[str, str]) -> str | None:
        return left.pop() if left and asked == method and path.split("?")[0].endswith(name) else None

    proxy.fault = fault


def test_a_put_and_what_it_replaces(store: ObjectStore) -> None:
    first = store.put_if("a", b"1", None)
    with pytest.raises(TakenError):
        store.put_if("a", b"2", None)
    second = store.put_if("a", b"2", first.state)
    with pytest.raises(TakenError):  # of a state that is gone
        store.put_if("a", b"3", first.state)
    found = store.get("a")
    assert found is not None
    assert (found.data, found.state) == (b"2", second.state)
    store.delete(["a", "never there"])
    assert store.get("a") is None
    with pytest.raises(TakenError):  # what it was to replace is not there: lost, whatever the store calls it
        store.put_if("a", b"3", second.state)


@pytest.mark.parametrize("state", ["new", "replaced"])
@pytest.mark.parametrize("kind", [faulty_proxy.LOST, faulty_proxy.CONFLICT, faulty_proxy.ERROR])
def test_a_put_whose_answer_does_not_tell_is_known_by_its_writer(
    store: ObjectStore, proxy: Proxy, kind: str, state: str
) -> None:
    before = store.put_if("lock", b"before", None).state if state == "replaced" else None
    once(proxy, kind, "PUT", "lock", times=3)
    found = store.put_if("lock", b"ours", before)
    there = store.get("lock")
    assert there is not None
    assert (there.data, there.state) == (b"ours", found.state)
    assert proxy.faults[kind] >= 1
    with pytest.raises(TakenError):
        store.put_if("lock", b"theirs", before)


def test_of_many_writers_one_wins(store: ObjectStore, proxy: Proxy) -> None:
    """Also where answers are lost and conflicts are told: exactly one believes that it has won, and has."""
    chance = random.Random(7)
    kinds = [faulty_proxy.LOST, faulty_proxy.CONFLICT, faulty_proxy.ERROR, None, None]
    proxy.fault = lambda method, path, headers: chance.choice(kinds) if method == "PUT" else None

    def attempt(i: int) -> bytes | None:
        try:
            return store.put_if("race", b"%d" % i, None).data
        except TakenError:
            return None

    with ThreadPoolExecutor(12) as pool:
        won = [data for data in pool.map(attempt, range(12)) if data is not None]
    proxy.fault = lambda method, path, headers: None
    found = store.get("race")
    assert found is not None
    assert won == [found.data]


def test_what_fails_for_a_while_is_tried_again_and_counted(
    store: ObjectStore, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of harm to every third request; small blocks, so that there are many."""
    monkeypatch.setattr(object_store, "BLOCK_BYTES", 6 << 20)
    monkeypatch.setattr(object_store, "WHOLE_BYTES", 8 << 20)
    data = random.Random(3).randbytes(19 << 20)
    (tmp_path / "a").write_bytes(data)
    number = iter(range(10**6))
    kinds = [faulty_proxy.ERROR, faulty_proxy.CUT, faulty_proxy.SLOW_DOWN, faulty_proxy.LOST]

    def fault(method: str, path: str, headers: dict[str, str]) -> str | None:
        count = next(number)
        return kinds[count // 3 % len(kinds)] if count % 3 == 2 else None

    proxy.fault = fault
    before = TRAFFIC.counts().get("retries", 0)
    store.put_file("large", tmp_path / "a")
    for i in range(6):
        store.put(f"below/{i}", b"%d" % i)
    assert store.get_file("large", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == data
    assert [store.get(f"below/{i}").data for i in range(6)] == [b"%d" % i for i in range(6)]  # type: ignore[union-attr]
    assert [found.name for found in store.listed("below/")] == [f"below/{i}" for i in range(6)]
    store.delete_below("below/")
    assert list(store.listed("below/")) == []
    entry = FileEntry(path="large", bytes=len(data), crc32=zlib.crc32(data))
    assert store.damage(entry) is None
    assert proxy.faults.total() > 10
    assert TRAFFIC.counts()["retries"] > before + 3
    assert not list(tmp_path.glob("*.partial"))


def test_what_fails_for_ever_ends_with_a_line(store: ObjectStore, proxy: Proxy) -> None:
    proxy.fault = lambda method, path, headers: faulty_proxy.ERROR
    for call in (
        lambda: store.get("a"),
        lambda: store.put("a", b""),
        lambda: store.put_if("a", b"", None),
        lambda: list(store.listed()),
        lambda: store.delete(["a"]),
        lambda: store.size("a"),
    ):
        requests = proxy.requests.total()
        with pytest.raises(errors.UnreadableError, match=r"look after the network.*same command again"):
            call()
        assert proxy.requests.total() - requests <= 2 * bucket.TRIES**2


def test_a_body_that_is_damaged_on_its_way_is_not_taken(store: ObjectStore, tmp_path: Path) -> None:
    store.put("a", b"12345678")
    entry = FileEntry(path="a", bytes=8, crc32=zlib.crc32(b"12345679"))
    assert "CRC-32" in str(store.damage(entry))
    assert store.damage(entry, full=False) is None
    assert "bytes" in str(store.damage(FileEntry(path="a", bytes=9, crc32=0), full=False))
    assert "missing" in str(store.damage(FileEntry(path="b", bytes=9, crc32=0), full=False))
    assert not store.get_file("b", tmp_path / "b")


# --- the lock


def test_a_second_job_is_refused_and_the_lock_is_given_back(store: ObjectStore) -> None:
    with object_lock.held(store) as lock:
        lock.require()
        with (
            pytest.raises(errors.CorpusError, match=r"another job is at work.*process"),
            object_lock.held(store),
        ):
            pass
        lock.require()
    with object_lock.held(store):
        pass


def elsewhere(monkeypatch: pytest.MonkeyPatch, name: str = "another machine") -> None:
    """Have this process be on another machine, as far as the lock can see."""
    monkeypatch.setattr(processes, "machine", lambda: name)


def test_a_job_of_another_machine_is_seen_by_its_renewals(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_lock, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(object_lock, "LOOK_SECONDS", 0.1)
    with object_lock.held(store):
        elsewhere(monkeypatch)
        started = time.monotonic()
        with pytest.raises(errors.CorpusError, match="another job"), object_lock.held(store):
            pass
        assert time.monotonic() - started < 10


def test_a_lock_whose_holder_died_is_taken_over(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once where its machine is this one, else after it has been silent for so long; and a holder that was
    only asleep makes nothing visible any more."""
    code = (
        "import os, sys; from storage import object_lock; from storage.object_store import ObjectStore\n"
        "object_lock.held(ObjectStore(sys.argv[1])).__enter__(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, store.url], check=False).returncode == 9
    started = time.monotonic()
    with object_lock.held(store):
        pass
    assert time.monotonic() - started < 5
    monkeypatch.setattr(object_lock, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(object_lock, "LOOK_SECONDS", 0.2)
    asleep = object_lock.ObjectLock(store, object_lock._take(store))
    asleep._ended.set()  # it renews no more
    elsewhere(monkeypatch)
    started = time.monotonic()
    with object_lock.held(store) as lock:
        assert 1 <= time.monotonic() - started < 20
        with pytest.raises(errors.CorpusError, match="taken over by another job"):
            asleep.require()
        lock.require()
        asleep.release()
        lock.require()


def test_the_lock_survives_lost_answers(
    store: ObjectStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    once(proxy, faulty_proxy.LOST, "PUT", object_lock.NAME, times=2)
    with object_lock.held(store) as lock:
        lock.require()
        assert proxy.faults[faulty_proxy.LOST] == 2
        with pytest.raises(errors.CorpusError, match="another job"), object_lock.held(store):
            pass
        lock.require()
