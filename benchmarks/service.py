"""A service under load, from processes beside it: searches a second, memory, RAM.

    python -m benchmarks.service CORPUS [--seconds 4] [--json]

Starts `memcorpus serve` with searches going together and with `--batch 1`, asks it from another process over
1, 16 and 64 connections, and fetches memory of 20 and of 1,000 passages as the client does, beside the same
fetch from the folder, warm. RAM is what each process has for itself (Pss of /proc/PID/smaps_rollup).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np

CONNECTIONS = (1, 16, 64)
PASSAGES = (20, 1000)
READERS = 8


@contextlib.contextmanager
def serving(corpus: str, *options: str) -> Iterator[tuple[str, int]]:
    """A service's URL and process id."""
    command = [sys.executable, "-m", "memcorpus", "serve", corpus, "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("serves "):
                raise SystemExit(f"the service did not begin: {line}")
            yield line.split()[1], process.pid
        finally:
            process.terminate()


def own_bytes(pid: int) -> int:
    """RAM of a process, what it shares divided among those who share it."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024


async def _asking(url: str, connections: int, seconds: float) -> dict[str, float]:
    """Searches for texts on so many connections, each asking as soon as it was answered."""
    parts = urlsplit(url)
    taken: list[float] = []
    until = time.perf_counter() + seconds

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        asked = 0
        while (began := time.perf_counter()) < until:
            asked += 1
            query = urlencode({"q": f"What is the capital of country {number} {asked}?", "k": 10})
            writer.write(f"GET /v1/search?{query} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(head.decode())
            length = next(x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            taken.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(connections)))
    wall = time.perf_counter() - began
    return {
        "connections": connections,
        "searches_per_second": len(taken) / wall,
        "p50_ms": 1000 * float(np.quantile(taken, 0.5)),
        "p99_ms": 1000 * float(np.quantile(taken, 0.99)),
    }


def searches(url: str, seconds: float) -> list[dict[str, float]]:
    """The load, from a process of its own."""
    found = []
    for connections in CONNECTIONS:
        for run in (min(1.0, seconds), seconds):  # the first one warms up
            command = [sys.executable, "-m", "benchmarks.service", "--ask", url, str(connections), str(run)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    return found


def memory(url: str, corpus: str) -> list[dict[str, float]]:
    """Fetches of the current version, from the folder and from the service in turns."""
    from retrieval import open_corpus

    readers = {"folder": open_corpus(corpus).memory(), "service": open_corpus(url).memory()}
    rows = []
    for passages in PASSAGES:
        rng = np.random.default_rng(0)
        times: dict[str, list[float]] = {name: [] for name in readers}
        size = 0
        for _ in range(60):
            ids = rng.choice(
                readers["folder"].passages, min(passages, readers["folder"].passages), replace=False
            )
            for name, reader in readers.items():
                began = time.perf_counter()
                fetched = reader.fetch(ids)
                times[name].append(time.perf_counter() - began)
                size = fetched.values.nbytes
                del fetched
        folder, service = (float(np.median(times[name][10:])) for name in ("folder", "service"))
        rows.append(
            {
                "passages": len(ids),
                "bytes": size,
                "folder_ms": 1000 * folder,
                "service_ms": 1000 * service,
                "service_bytes_per_second": size / service,
                "share_of_folder": folder / service,
            }
        )
    return rows


_READER = """
import sys, time
from retrieval import open_corpus
corpus = open_corpus(sys.argv[1])
corpus.search("a question", 10)
corpus.memory().fetch([0, 1, 2])
print("ready", flush=True)
sys.stdin.read()
"""


def ram_of_readers(url: str) -> int:
    """Of `READERS` processes that search by text and fetch memory, together."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _READER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(READERS)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise SystemExit("a reader did not begin")
        return sum(own_bytes(process.pid) for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, Any] = {"cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    with serving(given.corpus) as (url, pid):
        found["together"] = searches(url, given.seconds)
        found["memory"] = memory(url, given.corpus)
        found["ram_service"] = own_bytes(pid)
        found["ram_clients"] = ram_of_readers(url)
    found["ram_folder_readers"] = ram_of_readers(given.corpus)
    with serving(given.corpus, "--batch", "1") as (url, _):
        found["alone"] = searches(url, given.seconds)
    if given.json:
        print(json.dumps(found))
        return
    print(f"{found['cpus']} CPUs, load {found['load']:.1f}")
    print("searches by text                 a second   p50 ms   p99 ms")
    for name, what in (("together", "together"), ("alone", "--batch 1")):
        for row in found[name]:
            print(
                f"  {what:<10} {row['connections']:>3} connections  {row['searches_per_second']:>8,.0f} "
                f"{row['p50_ms']:>8.2f} {row['p99_ms']:>8.2f}"
            )
    print("memory                 bytes   folder ms  service ms   MB/s   of the folder's")
    for row in found["memory"]:
        print(
            f"  {row['passages']:>5} passages {row['bytes']:>11,} {row['folder_ms']:>10.3f} "
            f"{row['service_ms']:>11.3f} {row['service_bytes_per_second'] / 1e6:>6,.0f}   "
            f"{row['share_of_folder']:.2f}"
        )
    ram = {name: found[f"ram_{name}"] / 1e6 for name in ("service", "clients", "folder_readers")}
    print(
        f"RAM: service {ram['service']:,.0f} MB, {READERS} clients {ram['clients']:,.0f} MB; "
        f"{READERS} readers of the folder {ram['folder_readers']:,.0f} MB"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ask"]:
        print(json.dumps(asyncio.run(_asking(sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))))
    else:
        main()
