"""Clients of object stores against each other, at one server: what writes corpora was chosen by it.

    python -m benchmarks.object_stores

The server is versitygw where it is on PATH, else moto. Small objects are put and got from eight threads, a
large one by one call. Times are of one machine that is client and server at once: trust ratios.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tests import object_store

SMALL: Final = os.urandom(4096)
LARGE: Final = os.urandom(64 << 20)
COUNT: Final = 400
THREADS: Final = 8
ROUNDS: Final = 3

Put = Callable[[str, bytes], object]
Get = Callable[[str], Any]


def obstore_client(endpoint: str) -> tuple[Put, Get, Callable[[], object]]:
    import obstore
    from obstore.store import S3Store

    store: Any = S3Store(
        object_store.BUCKET,
        prefix="obstore",
        endpoint=endpoint,
        region="us-east-1",
        conditional_put="etag",
        client_options={"allow_http": True},
    )
    return (
        lambda name, data: obstore.put(store, name, data),
        lambda name: obstore.get(store, name).bytes(),
        lambda: obstore.put(store, "if", b"", mode="create"),
    )


def tensorstore_client(endpoint: str) -> tuple[Put, Get, Callable[[], object]]:
    import tensorstore as ts

    store = ts.KvStore.open(
        {
            "driver": "s3",
            "bucket": object_store.BUCKET,
            "path": "tensorstore/",
            "endpoint": endpoint,
            "aws_region": "us-east-1",
            "aws_credentials": {"type": "environment"},
        }
    ).result()

    return (
        lambda name, data: store.write(name, data).result(),
        lambda name: store.read(name).result().value,
        lambda: store.write("if", b"", if_equal=store.read("if").result().stamp.generation).result(),
    )


def pyarrow_client(endpoint: str) -> tuple[Put, Get, Callable[[], object]]:
    from pyarrow import fs

    store = fs.S3FileSystem(
        endpoint_override=endpoint.removeprefix("http://"), scheme="http", region="us-east-1"
    )

    def put(name: str, data: bytes) -> None:
        with store.open_output_stream(f"{object_store.BUCKET}/pyarrow/{name}") as stream:
            stream.write(data)

    def get(name: str) -> Any:
        with store.open_input_file(f"{object_store.BUCKET}/pyarrow/{name}") as stream:
            return stream.read()

    def put_if() -> None:
        raise NotImplementedError("pyarrow.fs makes no conditional puts")

    return put, get, put_if


def boto3_client(endpoint: str) -> tuple[Put, Get, Callable[[], object]]:
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    where = {"Bucket": object_store.BUCKET}
    return (
        lambda name, data: client.put_object(**where, Key=f"boto3/{name}", Body=data),
        lambda name: client.get_object(**where, Key=f"boto3/{name}")["Body"].read(),
        lambda: client.put_object(**where, Key="boto3/if", Body=b"", IfNoneMatch="*"),
    )


CLIENTS: Final = {
    "obstore": obstore_client,
    "tensorstore": tensorstore_client,
    "pyarrow": pyarrow_client,
    "boto3": boto3_client,
}


def measure(put: Put, get: Get) -> dict[str, float]:
    """Best of the rounds: small objects a second and CPU µs of each, MiB/s of a large one."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for what, call in (("puts", lambda i: put(f"s{i}", SMALL)), ("gets", lambda i: get(f"s{i}"))):
            wall, cpu = time.perf_counter(), time.process_time()
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(call, range(COUNT)))
            rate = COUNT / (time.perf_counter() - wall)
            if rate > best.get(f"{what} a second", 0):
                best[f"{what} a second"] = round(rate)
                best[f"{what}: CPU µs"] = round(1e6 * (time.process_time() - cpu) / COUNT)
        for what, once in (("put", lambda: put("large", LARGE)), ("get", lambda: len(get("large")))):
            wall = time.perf_counter()
            once()
            rate = 64 / (time.perf_counter() - wall)
            best[f"{what} MiB/s"] = max(best.get(f"{what} MiB/s", 0), round(rate))
    return best


def size_of(package: str) -> int:
    """Bytes that it takes installed, without what it depends on."""
    import importlib.util

    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        real = os.environ.get("MEMCORPUS_S3_SERVER") or shutil.which("versitygw")
        stack.enter_context(object_store.real_server(folder) if real else object_store.serving())
        for name, client in CLIENTS.items():
            put, get, put_if = client(os.environ["AWS_ENDPOINT_URL"])
            result: dict[str, object] = {"client": name, "server": "versitygw" if real else "moto"}
            result |= measure(put, get)
            try:
                put_if()
                result["conditional puts"] = True
            except NotImplementedError:
                result["conditional puts"] = False
            result["installed MB"] = round(size_of(name) / 1e6)
            print(json.dumps(result, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
