"""Hosts that share no folder: each with a network namespace and temporary files of its own, and S3 between.

Corpus, sources and models lie in a real server (versitygw). Wants root, `ip`, `unshare`, Dask.
Minutes long.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from examples.miniwiki.export import DumpTruth
from tests import object_store
from tests.object_store import BUCKET, without_times
from tests.test_failures import ROOT

pytest.importorskip("distributed", reason="the extra `dask` is not installed")
pytestmark = pytest.mark.slow
BRIDGE, NET = "mchosts0", "10.213.7"
GATE = f"{NET}.1"
WORKERS = 2


class Hosts:
    """Namespaces `mchost2`, `mchost3`, ... with the addresses `NET`.2, `NET`.3, ..."""

    def __init__(self, stack: ExitStack, count: int) -> None:
        self._stack = stack
        self.processes: list[subprocess.Popen[str]] = []
        self._ip("link", "add", BRIDGE, "type", "bridge")
        stack.callback(self._ip, "link", "del", BRIDGE)
        self._ip("addr", "add", f"{GATE}/24", "dev", BRIDGE)
        self._ip("link", "set", BRIDGE, "up")
        for number in range(2, 2 + count):
            name, outer, inner = f"mchost{number}", f"mcout{number}", f"mcin{number}"
            self._ip("netns", "add", name)
            stack.callback(self._ip, "netns", "del", name)
            self._ip("link", "add", outer, "type", "veth", "peer", "name", inner)
            # Before the namespace goes, which keeps its own as long as a process of it ends.
            stack.callback(self._ip, "link", "del", outer)
            self._ip("link", "set", inner, "netns", name)
            self._ip("link", "set", outer, "master", BRIDGE)
            self._ip("link", "set", outer, "up")
            self._ip("-n", name, "addr", "add", f"{NET}.{number}/24", "dev", inner)
            self._ip("-n", name, "link", "set", inner, "up")
            self._ip("-n", name, "link", "set", "lo", "up")

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    def start(self, number: int, *command: str) -> subprocess.Popen[str]:
        """A command on a host, with its own /tmp and nothing of ours in it."""
        inside = (
            "mount --make-rprivate / && mount -t tmpfs tmpfs /tmp && mkdir /tmp/home && cd /tmp/home && "
            'exec "$@"'
        )
        environment = {
            **os.environ,
            "HOME": "/tmp/home",
            "XDG_CACHE_HOME": "/tmp/cache",
            "TMPDIR": "/tmp",
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        process = subprocess.Popen(
            ["ip", "netns", "exec", f"mchost{number}", "unshare", "-m", "sh", "-c", inside, "sh", *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        child.kill()
            process.kill()
            process.communicate()


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("unshare")):
        pytest.skip("network namespaces want root, `ip` and `unshare`")
    with ExitStack() as stack:
        tried = subprocess.run(["unshare", "-n", "-m", "true"], check=False, capture_output=True, text=True)
        if tried.returncode:
            pytest.skip(f"no namespaces here: {tried.stderr}")
        made = Hosts(stack, WORKERS + 1)
        stack.callback(made.end)
        yield made


@pytest.fixture
def server(hosts: Hosts, tmp_path: Path, dump: DumpTruth, models: Path) -> Iterator[Any]:
    (tmp_path / "s3").mkdir()
    with object_store.real_server(tmp_path / "s3", GATE) as client:
        for folder, name in ((dump.path.parent, "wiki"), (models, "models")):
            for path in folder.rglob("*"):
                if path.is_file():
                    client.upload_file(str(path), BUCKET, f"in/{name}/{path.relative_to(folder).as_posix()}")
        yield client


def free_port() -> int:
    with socket.socket() as found:
        found.bind((GATE, 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize("kills", [False, True])
def test_workers_that_share_no_folder(
    hosts: Hosts, server: Any, corpus: Path, dump: DumpTruth, kills: bool
) -> None:
    """The content of the local build; also where a worker's host dies in the middle and another one comes."""
    scheduler = f"tcp://{GATE}:{free_port()}"
    dask = (sys.executable, "-m", "dask")
    running = subprocess.Popen(
        [*dask, "scheduler", "--host", scheduler, "--no-dashboard", "--no-jupyter"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    hosts.processes.append(running)
    options = ("--nthreads", "1", "--memory-limit", "0", "--no-dashboard")
    workers = [
        hosts.start(number, *dask, "worker", scheduler, "--host", f"{NET}.{number}", *options)
        for number in range(3, 3 + WORKERS)
    ]
    url = f"s3://{BUCKET}"
    build = (
        *(sys.executable, "-m", "pipeline", "build", "--source", f"mediawiki:{url}/in/wiki/{dump.path.name}"),
        *("--out", f"{url}/out/wiki", "--retriever", f"{url}/in/models/gtr"),
        *(
            "--memory-encoder",
            f"{url}/in/models/t5",
            "--compute-dtype",
            "float32",
            "--live-proportion",
            "1/3",
        ),
        *("--shard-passages", "64", "--split-bytes", "20000", "--engine", f"dask:{scheduler}"),
    )
    launcher = hosts.start(2, *build)
    if kills:
        until = time.monotonic() + 300
        while not server.list_objects_v2(Bucket=BUCKET, Prefix="out/wiki/work/shards/").get("Contents"):
            assert launcher.poll() is None, launcher.communicate()
            assert time.monotonic() < until
            time.sleep(0.2)
        for process in [*psutil.Process(workers[0].pid).children(recursive=True), workers[0]]:
            process.send_signal(signal.SIGKILL)
    out, told = launcher.communicate(timeout=900)
    assert launcher.returncode == 0, (out, told)
    found = object_store.content(server, "out/wiki/")
    assert without_times(found) == without_times(object_store.files(corpus))
    names = found["statistics/build.json"].decode()
    assert "dask:" in names
