"""The index of clustered vectors: built by one worker and by two, killed and resumed; then searched.

    python -m benchmarks.index --passages 2000000 --dim 64

Every build is a process of its own. The second is killed when it has trained, again when it has added a third
of the ranges, and again while the parts are put together; its file has to be the first one's. Seconds of a
core are those of the process and its workers. Beside them stands what `plan` counts for so many passages, and
at 36 million.

Queries are vectors of the corpus with noise, which no index has seen. Recall is against exact search.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.accounts.plan import indexing
from pipeline.components.index import build as component
from pipeline.components.index.build import IndexPlan
from pipeline.units import engines
from pipeline.units.stages import Stages
from retrieval import exact, refining
from retrieval.index import Index
from retrieval.index_shape import choose
from storage import components, files, vector_array
from storage.aliases import AnyArray
from storage.components import index as index_component
from storage.folder import CorpusFolder
from storage.shards import ShardGrid
from storage.vector_array import VectorArray, VectorLayout

SHARD: Final = 16_384
FINGERPRINT: Final = "0" * 64
QUERIES: Final = 200
K: Final = 10
FULL: Final = 36_000_000


def layout_of(passages: int, dim: int) -> VectorLayout:
    grid = ShardGrid(passages=passages, shard_passages=SHARD)
    return VectorLayout(grid=grid, dim=dim, dtype="float32")


def clustered(rng: np.random.Generator, centres: AnyArray, count: int) -> AnyArray:
    """Vectors of length 1 around centres of which some are much larger than others."""
    place = (len(centres) * rng.random(count) ** 2).astype(np.int64)
    found = centres[place] + rng.normal(size=(count, centres.shape[1])) * 0.6
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def centres_of(passages: int, dim: int) -> AnyArray:
    return np.random.default_rng(0).normal(size=(max(64, passages // 100), dim)).astype(np.float32)


def write_vectors(root: Path, passages: int, dim: int) -> None:
    """The vectors of an unfinished corpus."""
    corpus, layout = CorpusFolder(root), layout_of(passages, dim)
    folder = corpus.path(components.VECTORS.folder(FINGERPRINT))
    vector_array.create(folder, layout)
    centres = centres_of(passages, dim)
    for shard in layout.grid:
        first, stop = layout.grid.bounds(shard)
        rng = np.random.default_rng([1, shard])
        vector_array.write_shard(folder, layout, shard, clustered(rng, centres, stop - first))
    corpus.work.make()
    corpus.work.write_plan({"benchmark": True})


def build(root: Path, passages: int, dim: int, workers: int) -> None:
    """What a build process does. Prints what it took."""
    corpus = CorpusFolder(root)
    options: list[str] = []
    if workers > 1:
        options = ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
    stages = Stages(corpus, engines.chosen(None, tuple(options)))
    plan = IndexPlan(
        corpus=corpus, fingerprint=FINGERPRINT, vectors=layout_of(passages, dim), similarity="dot"
    )
    component.make(stages, plan)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    (receipt,) = corpus.work.receipts(component.STAGE.name, range(1), component.STAGE.counts)
    told = {
        "seconds": stages.seconds,
        "core_seconds": sum(one.ru_utime + one.ru_stime for one in used),
        "launcher_bytes": used[0].ru_maxrss * 1024,
        "worker_bytes": used[1].ru_maxrss * 1024,
        "counts": receipt.counts.to_json(),
        "step_seconds": dict(receipt.seconds),
        "kind": receipt.notes[0]["kind"],
    }
    for stage, units in ((component.TRAIN, 1), (component.ADD, plan.units)):
        receipts = corpus.work.receipts(stage.name, range(units), stage.counts)
        told[stage.name] = sum(sum(one.seconds.values()) for one in receipts)
    print(json.dumps(told), flush=True)


def run(root: Path, passages: int, dim: int, workers: int, stop: Callable[[], bool] | None) -> Any:
    """A build in a process group of its own, killed as soon as `stop` says so. None if it was."""
    command = [sys.executable, "-m", "benchmarks.index", "--build", str(root)]
    command += ["--passages", str(passages), "--dim", str(dim), "--workers", str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    while stop is not None and process.poll() is None:
        if stop():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
        time.sleep(0.02)
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the build of {root} ended with {process.returncode}")
    return json.loads(out.splitlines()[-1])


def index_of(root: Path) -> Path:
    return root / components.INDEX.folder(FINGERPRINT) / index_component.FILE


def killed(root: Path, passages: int, dim: int) -> Any:
    """By two workers, killed three times."""
    work, units = root / "work", -(-passages // component.index_building.UNIT_PASSAGES)
    train, add = work / component.TRAIN.name / "000000.json", work / component.ADD.name
    times = []

    def stopped(when: Callable[[], bool], what: str) -> None:
        if run(root, passages, dim, 2, when) is None:
            times.append(what)

    stopped(train.exists, "trained")
    trained = train.stat().st_ino
    stopped(lambda: len(list(add.glob("*.json"))) >= units // 3, "a third added")
    stopped(lambda: any(index_of(root).parent.glob("*.partial")), "being put together")
    told = run(root, passages, dim, 2, None)
    told["killed"] = times
    told["trained_once"] = train.stat().st_ino == trained
    return told


def search(queue: Any, path: Path, root: Path, passages: int, dim: int, mapped: bool) -> None:
    """Recall, milliseconds and RAM of searches, in a process of its own."""
    entry = files.entry_of(path.parent, path)
    layout = layout_of(passages, dim)
    vectors = VectorArray(root / components.VECTORS.folder(FINGERPRINT), layout)
    rng = np.random.default_rng(2)
    queries = vectors.take(np.sort(rng.choice(passages, QUERIES, replace=False)))
    queries = (queries + 0.3 * rng.normal(size=queries.shape) / np.sqrt(dim)).astype(np.float32)
    before = _anonymous()
    index = Index.read(path.parent, entry, passages=passages, dim=dim, mapped=mapped)
    opened = _anonymous() - before
    best, _ = exact.search(vectors.batches(), queries, K)
    shape = choose(passages, dim)
    found = {}
    for name, factor in (("codes", 0), ("refined", shape.refined)):
        started, used = time.perf_counter(), time.process_time()
        ids = []
        for query in queries:
            if factor:
                ids.append(refining.search(index, vectors, query[None], K, factor)[0][0])
            else:
                ids.append(index.search(query[None], K)[0][0])
        taken, used = time.perf_counter() - started, time.process_time() - used
        scores = np.stack([vectors.take(row) @ query for row, query in zip(ids, queries, strict=True)])
        found[name] = {
            "recall": float((scores >= best[:, -1:] - 1e-6).mean()),
            "ms": 1000 * taken / QUERIES,
            "core_ms": 1000 * used / QUERIES,
        }
    queue.put({"mapped": mapped, "index_bytes": entry.bytes, "ram_bytes": opened, **found})


def _anonymous() -> int:
    """RAM of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not tell")


def searched(path: Path, root: Path, passages: int, dim: int, *, mapped: bool) -> Any:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=search, args=(queue, path, root, passages, dim, mapped))
    process.start()
    result = queue.get()
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--passages", type=int, default=2_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="Where it works; a temporary one by default.")
    given = parser.parse_args()
    passages, dim = given.passages, given.dim
    if given.build is not None:
        build(given.build, passages, dim, given.workers)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        one, two = Path(name) / "one", Path(name) / "two"
        write_vectors(one, passages, dim)
        # The vectors are the same files.
        shutil.copytree(one, two, copy_function=os.link)
        print(f"{passages:,} x {dim}, load {os.getloadavg()[0]:.1f}", flush=True)
        alone = run(one, passages, dim, 1, None)
        print("one worker:", json.dumps(alone), flush=True)
        both = killed(two, passages, dim)
        print("two workers, killed:", json.dumps(both), flush=True)
        same = index_of(one).read_bytes() == index_of(two).read_bytes()
        print(f"the same {index_of(one).stat().st_size:,} bytes: {same}", flush=True)
        for mapped in (False, True):
            print(json.dumps(searched(index_of(one), one, passages, dim, mapped=mapped)), flush=True)
    for count, width in ((passages, dim), (FULL, 768)):
        print(f"plan, {count:,} x {width}:", json.dumps(indexing.foretold(count, width).to_json()))
    print(f"load {os.getloadavg()[0]:.1f}")
    if not same:
        raise SystemExit("the two indexes differ")


if __name__ == "__main__":
    main()
