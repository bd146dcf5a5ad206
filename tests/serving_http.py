"""A service on a free port: in a thread of this process, or in a process of its own, as a user has it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
import uvicorn

from pipeline.service import protocol, running
from pipeline.service.routes import Service
from pipeline.service.settings import ServiceSettings

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Served:
    """A service that runs, and how to ask it."""

    url: str
    service: Service
    http: urllib3.PoolManager

    def get(self, path: str, **headers: str) -> urllib3.BaseHTTPResponse:
        return self.http.request("GET", self.url + path, headers=_names(headers), redirect=False)

    def post(self, path: str, body: Any, **headers: str) -> urllib3.BaseHTTPResponse:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": "application/json", **_names(headers)}
        return self.http.request("POST", self.url + path, body=data, headers=given, redirect=False)


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@contextlib.contextmanager
def serving(corpus: Path | str, **given: Any) -> Iterator[Served]:
    """A service in a thread of this process."""
    settings = ServiceSettings(corpus=str(corpus), port=0, drain_seconds=0, **given)
    service = Service(functools.partial(running.open_corpus, settings), settings)
    listening = protocol.bound(settings.host, 0)
    server = uvicorn.Server(protocol.config_of(service, settings))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    http = urllib3.PoolManager(retries=False, timeout=60, maxsize=8)
    try:
        yield Served(url=running.url_of(listening), service=service, http=http)
    finally:
        http.clear()
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@contextlib.contextmanager
def process(corpus: Path | str, *arguments: str, **environment: str) -> Iterator[tuple[str, Any]]:
    """`memcorpus serve` in a process of its own: its URL and the process, killed at the end."""
    command = [sys.executable, "-m", "memcorpus", "serve", str(corpus), "--port", "0", *arguments]
    given = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **given},
        cwd=ROOT,
    ) as running_process:
        try:
            assert running_process.stdout is not None
            line = running_process.stdout.readline()
            if not line.startswith("serves http"):
                _, told = running_process.communicate(timeout=30)
                raise AssertionError((line, told))
            yield line.split()[1], running_process
        finally:
            running_process.kill()
            running_process.communicate()
