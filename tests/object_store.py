"""Local S3 servers, empty or with a corpus in them."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from storage import object_lock
from storage.bucket import S3_ENDPOINT

BUCKET = "memory-corpora"
URL = f"s3://{BUCKET}/wiki"


@contextmanager
def serving(corpus: Path | None = None) -> Iterator[Any]:
    """A client of a server that child processes find too; with the corpus, uploaded below `wiki/`."""
    with pytest.MonkeyPatch.context() as patch:
        # Its thread would tell of every request on whatever stream another test has given to logging.
        patch.setattr(logging.getLogger("werkzeug"), "disabled", True)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        try:
            host, port = server.get_host_and_port()
            yield _filled(f"http://{host}:{port}", "test", patch, corpus)
        finally:
            server.stop()


@contextmanager
def real_server(folder: Path, host: str = "127.0.0.1") -> Iterator[Any]:
    """As `serving`, by versitygw, a real server: its program is on PATH or named by MEMCORPUS_S3_SERVER."""
    program = os.environ.get("MEMCORPUS_S3_SERVER") or shutil.which("versitygw")
    if program is None:
        pytest.skip(
            "versitygw is not on PATH: `go install github.com/versity/versitygw/cmd/versitygw@v1.8.0`"
        )
    with socket.socket() as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    keys = {"ROOT_ACCESS_KEY": "test", "ROOT_SECRET_KEY": "testtest"}
    command = [program, "--port", f"{host}:{port}", "--quiet", "posix", str(folder)]
    with pytest.MonkeyPatch.context() as patch, open(os.devnull, "w") as nowhere:
        server = subprocess.Popen(command, env={**os.environ, **keys}, stdout=nowhere, stderr=nowhere)
        try:
            for _ in range(100):
                with socket.socket() as asked:
                    if asked.connect_ex((host, port)) == 0:
                        break
                time.sleep(0.1)
            yield _filled(f"http://{host}:{port}", "testtest", patch)
        finally:
            server.kill()
            server.wait()


def _filled(endpoint: str, secret: str, patch: pytest.MonkeyPatch, corpus: Path | None = None) -> Any:
    for name, value in (
        (S3_ENDPOINT, endpoint),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", secret),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        patch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    for path in () if corpus is None else corpus.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), BUCKET, f"wiki/{path.relative_to(corpus).as_posix()}")
    return client


def content(client: Any, prefix: str) -> dict[str, bytes]:
    """All objects below a prefix, by their names there."""
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        for each in page.get("Contents", []):
            body = client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"]
            found[each["Key"].removeprefix(prefix)] = body.read()
    return found


def files(folder: Path) -> dict[str, bytes]:
    """The same of a local folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def without_times(content: dict[str, bytes]) -> dict[str, bytes]:
    """What must be the same whoever built it, and where: all but statistics, and the lock."""
    return {
        name: data
        for name, data in content.items()
        if not name.startswith("statistics/") and name != object_lock.NAME
    }
