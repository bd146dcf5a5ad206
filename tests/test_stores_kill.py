"""Builds into a real S3 server, killed at random moments, over a network that does harm: the same content.

A moment is a request: so kills fall everywhere in a build, however slow the machine is just then.
Minutes long. The server is versitygw where it is there, else moto.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from storage import object_lock
from storage.stored_folder import StoredFolder
from tests import faulty_proxy, object_store
from tests.faulty_proxy import Proxy
from tests.object_store import BUCKET, without_times

pytestmark = pytest.mark.slow
KILLS = 20
# Seconds that a build may take on a busy machine; longer is a hang.
TIMEOUT = 900
# Of a hundred requests, so many of each kind.
HARM = {
    faulty_proxy.ERROR: 3,
    faulty_proxy.SLOW_DOWN: 3,
    faulty_proxy.LOST: 3,
    faulty_proxy.CUT: 3,
    faulty_proxy.SLOW: 1,
}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Proxy]]:
    """A client of the server, and the proxy that all builds go through."""
    with ExitStack() as stack:
        real = os.environ.get("MEMCORPUS_S3_SERVER") or shutil.which("versitygw")
        server = object_store.real_server(tmp_path_factory.mktemp("s3")) if real else object_store.serving()
        client = stack.enter_context(server)
        made = stack.enter_context(faulty_proxy.before(os.environ["AWS_ENDPOINT_URL"]))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("AWS_ENDPOINT_URL", made.endpoint)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MEMCORPUS_COMPILED", str(tmp_path_factory.mktemp("compiled")))
        yield client, made


def start(source: Path, models: Path, out: str, *more: str) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "pipeline", "build", "--source", f"jsonl:{source}"),
        *("--out", out, "--retriever", str(models / "gtr"), "--memory-encoder", str(models / "t5")),
        *("--live-proportion", "1/3", "--shard-passages", "64", "--split-bytes", "8000", "--json", *more),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def local(
    proxy: object, even_source: Path, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What a build on the disk gives."""
    out = tmp_path_factory.mktemp("local") / "corpus"
    process = start(even_source, models, str(out))
    _, told = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, told
    return without_times(object_store.files(out))


@pytest.fixture(scope="module")
def requests(proxy: tuple[Any, Proxy], local: dict[str, bytes], even_source: Path, models: Path) -> int:
    """How many requests a build takes that nobody disturbs."""
    client, network = proxy
    before, data = network.requests.total(), network.bytes
    process = start(even_source, models, f"s3://{BUCKET}/whole/wiki")
    _, told = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, told
    assert without_times(object_store.content(client, "whole/wiki/")) == local
    took = network.requests.total() - before
    print(f"undisturbed: {took} requests, {network.bytes - data:,} bytes of bodies", flush=True)
    return took


def harmful(seed: int) -> Any:
    chance = random.Random(seed)
    kinds = [kind for kind, share in HARM.items() for _ in range(share)]

    def fault(method: str, path: str, headers: dict[str, str]) -> str | None:
        drawn = chance.randrange(100)
        return kinds[drawn] if drawn < len(kinds) else None

    return fault


def test_kills_at_random_moments(
    proxy: tuple[Any, Proxy], local: dict[str, bytes], requests: int, even_source: Path, models: Path
) -> None:
    client, network = proxy
    rng = random.Random(17)
    killed = committed = 0
    left_of: list[int] = []
    for number in range(KILLS):
        # Every second one over a network that does harm.
        network.fault = harmful(number) if number % 2 else lambda method, path, headers: None
        out = f"killed-{number}/wiki"
        workers = ("--", "--direct_running_mode=multi_processing", "--direct_num_workers=2")
        more = workers if number % 4 == 3 else ()
        moment = network.requests.total() + rng.randrange(1, requests)
        process = start(even_source, models, f"s3://{BUCKET}/{out}", *more)
        until = time.monotonic() + TIMEOUT
        while process.poll() is None and network.requests.total() < moment:
            assert time.monotonic() < until, "it hangs"
            time.sleep(0.005)
        if process.poll() is None:
            killed += 1
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            process.wait()
            psutil.wait_procs(children, timeout=30)
        process.communicate()
        left = object_store.content(client, f"{out}/")
        left_of.append(len(left))
        if "corpus.json" in left:
            committed += 1
            assert without_times(left).items() >= local.items()
        again = start(even_source, models, f"s3://{BUCKET}/{out}", *more)
        _, told = again.communicate(timeout=TIMEOUT)
        assert again.returncode == 0, (number, told)
        found = object_store.content(client, f"{out}/")
        assert without_times(found) == local, number
        if not json.loads(found[object_lock.NAME])["free"]:
            # Killed at its last steps: the rerun had nothing to do. The lock of the dead can be taken.
            assert "corpus.json" in left
            network.fault = lambda method, path, headers: None
            with StoredFolder(f"s3://{BUCKET}/{out}").alone():
                pass
        print(f"try {number}: {killed} killed so far, {len(left)} objects left of the last", flush=True)
    assert killed >= KILLS // 2
    assert len(set(left_of)) > KILLS // 4  # in the middle of builds, and not before their first request
    print(
        f"{killed} of {KILLS} killed, {committed} of them after the commit; requests "
        f"{dict(network.requests)}, {network.bytes:,} bytes; harm {dict(network.faults)}"
    )


def test_two_builds_at_once(
    proxy: tuple[Any, Proxy], local: dict[str, bytes], even_source: Path, models: Path
) -> None:
    """One builds; the other is refused in a line, or comes when all is done."""
    client, network = proxy
    network.fault = lambda method, path, headers: None
    out = "both/wiki"
    both = [start(even_source, models, f"s3://{BUCKET}/{out}") for _ in range(2)]
    told = [process.communicate(timeout=TIMEOUT) for process in both]
    statuses = sorted(process.returncode for process in both)
    assert statuses[0] == 0, told
    if statuses[1]:
        assert statuses[1] == 2
        (line,) = [err for process, (_, err) in zip(both, told, strict=True) if process.returncode]
        assert "another" in line.splitlines()[-1]
        assert "Traceback" not in line
    assert without_times(object_store.content(client, f"{out}/")) == local


def test_a_network_that_is_gone_ends_a_build_with_a_line(
    proxy: tuple[Any, Proxy], local: dict[str, bytes], even_source: Path, models: Path
) -> None:
    """From some request on nothing is answered but errors; the same command goes on when it is back."""
    client, network = proxy
    out = "gone/wiki"
    count = iter(range(10**6))
    network.fault = lambda method, path, headers: faulty_proxy.ERROR if next(count) > 40 else None
    process = start(even_source, models, f"s3://{BUCKET}/{out}")
    _, told = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1, told
    last = told.strip().splitlines()[-1]
    assert "look after the network" in last
    assert "Traceback" not in told
    network.fault = lambda method, path, headers: None
    _, told = (again := start(even_source, models, f"s3://{BUCKET}/{out}")).communicate(timeout=TIMEOUT)
    assert again.returncode == 0, told
    assert without_times(object_store.content(client, f"{out}/")) == local
