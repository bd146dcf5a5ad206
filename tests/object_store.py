"""A local S3 server that holds a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from storage import remote

BUCKET = "memory-corpora"
URL = f"s3://{BUCKET}/wiki"


@contextmanager
def serving(corpus: Path) -> Iterator[Any]:
    """The corpus, uploaded below `wiki/`: a client of the server that child processes find too."""
    with pytest.MonkeyPatch.context() as patch:
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        try:
            host, port = server.get_host_and_port()
            for name, value in (
                (remote.S3_ENDPOINT, f"http://{host}:{port}"),
                ("AWS_ACCESS_KEY_ID", "test"),
                ("AWS_SECRET_ACCESS_KEY", "test"),
                ("AWS_DEFAULT_REGION", "us-east-1"),
            ):
                patch.setenv(name, value)
            client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
            client.create_bucket(Bucket=BUCKET)
            for path in corpus.rglob("*"):
                if path.is_file():
                    client.upload_file(str(path), BUCKET, f"wiki/{path.relative_to(corpus).as_posix()}")
            yield client
        finally:
            server.stop()
