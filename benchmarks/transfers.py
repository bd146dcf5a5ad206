"""What it costs to check each transfer from an object store, and what a warm local fetch costs beside it.

    python -m benchmarks.transfers                      (extra `dev`: moto is the S3 server)

One corpus of bfloat16 memory is read from a folder, and from a local S3 server in a process of its own. The
ways of checking take turns. Besides seconds, this process's CPU time is told, since the server's seconds are
nobody's but moto's: a real one takes tens of milliseconds a request, and the check what it takes here.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.store import ours
from benchmarks.store.truth import Truth
from retrieval import open_corpus
from retrieval.memory import MemoryReader
from storage import codecs
from storage.bucket import S3_ENDPOINT

BUCKET: Final = "memcorpus"
WAYS: Final = ("never", "once", "always")


def serve(root: Path, told: Connection) -> None:
    """An S3 server that holds the corpus; tells its address, and runs until it is ended."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    for path in root.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), BUCKET, path.relative_to(root).as_posix())
    told.send(f"http://{host}:{port}")
    told.recv()


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """The corpus's URL, while a server holds it."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(root, there), daemon=True)
    process.start()
    try:
        os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        os.environ[S3_ENDPOINT] = here.recv()
        yield f"s3://{BUCKET}"
    finally:
        process.terminate()
        process.join()


def measure(
    readers: dict[str, MemoryReader], draws: list[npt.NDArray[np.int64]]
) -> dict[str, list[tuple[float, float]]]:
    """(seconds, CPU seconds of this process) of each reader and draw, after one that is not counted."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    for number, ids in enumerate(draws):
        names = list(readers)
        # In turn the first: who comes after another finds the server warm.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            wall, cpu = time.perf_counter(), time.process_time()
            readers[name].fetch(ids)
            if number:
                found[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return found


def report(found: dict[str, list[tuple[float, float]]], base: str) -> dict[str, Any]:
    """Medians, and what each takes more than `base`, round by round."""
    rows: dict[str, Any] = {}
    for name, rounds in found.items():
        more = [mine[1] - other[1] for mine, other in zip(rounds, found[base], strict=True)]
        rows[name] = {
            "ms": 1000 * statistics.median(wall for wall, _ in rounds),
            "cpu_ms": 1000 * statistics.median(cpu for _, cpu in rounds),
            "cpu_ms_more": 1000 * statistics.median(more),
        }
    return rows


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run, print a table for each place, and return the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--passages", type=int, default=400)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--fetched", type=int, default=20, help="passages of a fetch")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args(arguments)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="memcorpus-transfers-") as name:
        folder = Path(name)
        truth = Truth.create(folder, passages=options.passages, width=options.width)
        coded = ours.Coded(truth, codecs.by_name(ours.BASE_CODEC), folder)
        ours.write_corpus(folder / "corpus", truth, [coded])
        draw = np.random.default_rng(0)
        draws = [
            draw.choice(options.passages, options.fetched, replace=False) for _ in range(options.rounds + 1)
        ]
        size = float(np.mean([truth.lengths[ids].sum() for ids in draws])) * truth.row_bytes
        print(f"{options.fetched} random passages, {size / 1e6:.1f} MB a fetch, {options.rounds} rounds")
        with serving(folder / "corpus") as url:
            for place, where in (("a folder, warm", folder / "corpus"), ("S3", url)):
                corpus = open_corpus(where, cache=folder / "cache")
                readers = {way: corpus.memory(ours.BASE_CODEC, check=way) for way in WAYS}
                for reader in readers.values():  # checked once, in the page cache
                    reader.fetch(np.arange(options.passages))
                result[place] = report(measure(readers, draws), "never")
                print(f"{place:<16}{'ms':>10}{'CPU ms':>10}{'more than unchecked':>22}")
                for way, row in result[place].items():
                    print(
                        f"  check={way:<8}{row['ms']:>10.2f}{row['cpu_ms']:>10.2f}{row['cpu_ms_more']:>22.2f}"
                    )
    return result


if __name__ == "__main__":
    main()
