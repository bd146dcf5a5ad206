"""A service in a process of its own: told to end, switched, flooded, left, and asked at random."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import memcorpus
from pipeline.service.settings import Limits
from retrieval import open_corpus, wire
from storage import errors
from tests import jobs
from tests.second_version import add_version
from tests.serving_http import process, serving

TOKENS = {"content-type": "application/json"}


def address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def ask_on(url: str, body: bytes, stop: threading.Event, outcomes: Counter[str]) -> None:
    """Ask again and again on one connection, without any retry, and count what came of it."""
    host, port = address(url)
    client: http.client.HTTPConnection | None = None
    while not stop.is_set():
        try:
            if client is None:
                client = http.client.HTTPConnection(host, port, timeout=30)
                client.connect()
        except ConnectionRefusedError:
            outcomes["refused"] += 1
            return
        except OSError:
            outcomes["not connected"] += 1
            client = None
            continue
        try:
            client.request("POST", "/v1/memory", body, TOKENS)
            answer = client.getresponse()
            data = answer.read()
            assert answer.status == 200
            wire.unpack(data)
            outcomes["whole"] += 1
            if answer.headers.get("connection") == "close":
                outcomes["told to close"] += 1
                client.close()
                client = None
        except (OSError, http.client.HTTPException) as e:
            outcomes[f"cut: {type(e).__name__}"] += 1
            client = None


@pytest.mark.slow
def test_told_to_end_under_load_it_cuts_no_answer(corpus: Path) -> None:
    outcomes: Counter[str] = Counter()
    stop = threading.Event()
    body = json.dumps({"ids": list(range(60))}).encode()
    with process(corpus, "--drain", "1") as (url, service):
        threads = [
            threading.Thread(target=ask_on, args=(url, body, stop, outcomes), daemon=True) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        time.sleep(2)
        before = outcomes["whole"]
        assert before > 20
        service.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert service.wait(30) in (0, -signal.SIGTERM)
        assert time.monotonic() - began < 20
        stop.set()
        for thread in threads:
            thread.join(30)
    print(dict(outcomes))
    assert outcomes["told to close"] > 0
    assert outcomes["refused"] > 0
    assert [kind for kind in outcomes if kind.startswith("cut")] == []


@pytest.mark.slow
def test_ten_thousand_requests_while_versions_are_switched(corpus: Path, tmp_path: Path) -> None:
    """None fails, none mixes: what an answer's header names is what its bytes are."""
    root = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    add_version(root, "int8", alias="small")
    local = open_corpus(root)
    versions = {name: local.memory(name) for name in local.manifest.versions}
    expected = {
        (name, decode): reader.fetch(list(range(4)), decode=decode).values.tobytes()
        for name, reader in versions.items()
        for decode in (True, False)
    }
    seen: Counter[str] = Counter()
    wrong: list[Any] = []
    with process(root, "--follow", "0.05") as (url, _):
        host, port = address(url)

        def ask(number: int) -> None:
            client = http.client.HTTPConnection(host, port, timeout=60)
            for i in range(2500):
                decode = (i + number) % 2 == 0
                client.request(
                    "POST", "/v1/memory", json.dumps({"ids": [0, 1, 2, 3], "decode": decode}), TOKENS
                )
                answer = client.getresponse()
                data = answer.read()
                version = answer.headers.get(wire.VERSION, "")
                seen[version] += 1
                if answer.status != 200:
                    wrong.append((answer.status, data))
                elif wire.unpack(data)["values"].tobytes() != expected[version, decode]:
                    wrong.append((version, decode))
            client.close()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        switches = 0
        while any(thread.is_alive() for thread in threads):
            jobs.use(root, None if switches else "small")
            switches += 1
            time.sleep(0.2)
        for thread in threads:
            thread.join()
    print(dict(seen), switches, "switches")
    assert wrong == []
    assert sum(seen.values()) == 10_000
    assert set(seen) == set(versions)
    assert min(seen.values()) > 100


@pytest.mark.slow
def test_clients_that_misbehave_leave_the_others_served(corpus: Path) -> None:
    """Slow ones, ones that leave, a gigabyte of body, 5,000 connections: memory stays bounded."""
    with process(corpus, "--client-timeout", "4", "--connections", "6000") as (url, service):
        host, port = address(url)
        opened = memcorpus.open(url)
        reader = opened.memory()
        expected = np.array(reader.fetch(range(20)).values)
        before = resident(service.pid)

        def served() -> None:
            assert np.array_equal(reader.fetch(range(20)).values, expected)

        # A gigabyte, announced and not; the service reads neither to its end.
        for head in (b"content-length: 1073741824\r\n", b"transfer-encoding: chunked\r\n"):
            with socket.create_connection((host, port), timeout=20) as client:
                client.sendall(
                    b"POST /v1/memory HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                    + head
                    + b"\r\n"
                )
                sent, piece = 0, b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
                try:
                    while sent < 1 << 30:
                        client.sendall(piece)
                        sent += len(piece)
                except OSError:
                    pass
                assert sent < 200 << 20, sent
            served()
        # Who takes nothing of a large answer, and who leaves in its middle.
        everything = json.dumps({"ids": list(range(380)) * 20}).encode()
        request = (
            b"POST /v1/memory HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: " + str(len(everything)).encode() + b"\r\n\r\n" + everything
        )
        slow = []
        for i in range(8):
            client = socket.create_connection((host, port), timeout=20)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(request)
            if i % 2:
                client.recv(1000)
                client.close()
            else:
                slow.append(client)
        served()
        # Who sends a byte now and then.
        late = [socket.create_connection((host, port), timeout=20) for _ in range(20)]
        for client in late:
            client.sendall(b"GET /v1/cor")
        # And five thousand who say nothing.
        silent = [socket.create_connection((host, port), timeout=20) for _ in range(5000)]
        served()
        assert opened.search("a river", 3).passage_ids.shape == (1, 3)
        during = resident(service.pid)
        time.sleep(6)
        served()
        # They were all left, within the time that a client has.
        for client in (late[0], silent[0], silent[-1]):
            client.settimeout(10)
            assert client.recv(100).startswith(b"HTTP/1.1 408")
        for client in (*late, *silent):
            client.close()
        # What nobody takes is given up too.
        held = [
            line
            for line in opened.client.get("/metrics", lambda body: bytes(body.whole(1 << 20)))
            .decode()
            .splitlines()
            if line.startswith("memcorpus_held_bytes ")
        ]
        assert held == ["memcorpus_held_bytes 0.0"]
        for client in slow:
            client.close()
        after = resident(service.pid)
    print({"before": before >> 20, "during": during >> 20, "after": after >> 20})
    # Eight answers of 87 MB are refused, or sent four at a time; a connection is some kilobytes.
    assert during - before < 900 << 20
    assert after - before < 600 << 20


@pytest.mark.slow
def test_whatever_the_description_allows_gives_no_500(corpus: Path) -> None:
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings

    with serving(corpus, limits=Limits(ids=100, queries=8)) as served:
        schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
        statuses: Counter[int] = Counter()
        count = 0
        for result in schema.get_all_operations():
            operation = result.ok()
            for mode in schemathesis.GenerationMode:
                try:
                    strategy = operation.as_strategy(generation_mode=mode)
                except Exception:  # nothing that is not allowed can be made of it
                    continue

                @given(case=strategy)
                @settings(
                    max_examples=40,
                    deadline=None,
                    database=None,
                    derandomize=True,
                    suppress_health_check=list(HealthCheck),
                    phases=[Phase.generate],
                )
                def ask(case: Any) -> None:
                    if case.path != wire.DESCRIPTION_PATH:  # else hardly any would get further than that
                        (case.headers or {}).pop(wire.STATE, None)
                    answer = case.call()
                    statuses[answer.status_code] += 1
                    assert answer.status_code < 500, (case, answer.text)
                    if answer.status_code >= 400:
                        assert answer.headers["content-type"] == [wire.PROBLEM]
                        told = answer.json()
                        assert told["status"] == answer.status_code
                        assert str(corpus) not in answer.text

                try:
                    ask()
                except Exception as e:
                    if "Unsatisfiable" not in type(e).__name__:
                        raise
                count += 1
        print(count, "strategies", dict(statuses))
        assert count > 15
        assert statuses[200] > 100
        assert served.get("/healthz").status == 200


@pytest.mark.slow
def test_several_workers_share_an_address_and_their_counters(corpus: Path) -> None:
    with process(corpus, "--workers", "2") as (url, service):
        opened = memcorpus.open(url)
        for _ in range(20):
            assert memcorpus.open(url).memory().fetch([1, 2]).values.any()
        text = opened.client.get("/metrics", lambda body: bytes(body.whole(1 << 20))).decode()
        count = next(
            line
            for line in text.splitlines()
            if line.startswith('memcorpus_requests_total{route="/v1/memory"')
        )
        assert float(count.rsplit(" ", 1)[1]) == 20
        # A worker that dies is begun again.
        children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
        workers = [
            pid for pid in map(int, children) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        assert len(workers) == 2
        time.sleep(10)
        os.kill(workers[0], signal.SIGKILL)
        for _ in range(40):
            assert opened.memory().fetch([3]).values.any()
        service.send_signal(signal.SIGTERM)
        assert service.wait(60) == 0
        with pytest.raises(errors.UnreadableError):
            opened.passages([1])
