"""`doctor`: what is installed, which devices are seen, how much room there is, if it works."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypedDict

import numpy as np

from pipeline.units import accelerators
from retrieval.corpus import Corpus
from storage import errors, native
from storage.folder import CorpusFolder
from storage.verify import verify_corpus
from storage.writer import open_writer

LIBRARIES: Final = (
    *("numpy", "pyarrow", "tensorstore", "faiss-cpu", "jax", "jaxlib", "flax", "apache-beam", "distributed"),
    *("transformers", "sentence-transformers", "torch"),
)
# Below this little can be built.
LEAST_FREE_BYTES: Final = 5 << 30
_PASSAGES, _WIDTH, _TOKENS = 64, 256, 32


class Test(TypedDict):
    """One step of the self-test; `error` is empty where it passed."""

    name: str
    seconds: float
    error: str


class Diagnosis(TypedDict):
    """What `memcorpus doctor --json` prints.

    `versions` has "" for what is not installed, `devices` of each framework those it sees; `decoding` tells
    who decodes memory; `warnings` are lines, each with its remedy; `ok` is False where a test failed.
    """

    python: str
    platform: str
    cpus: int
    memory_bytes: int
    open_files: int
    free_bytes: int
    versions: dict[str, str]
    accelerators: dict[str, int]
    devices: dict[str, list[str]]
    decoding: str
    tests: list[Test]
    warnings: list[str]
    ok: bool


def examine(folder: Path) -> Diagnosis:
    """Look, and try: a few seconds.

    Args:
        folder: where there must be room, and where the self-test writes and removes.

    Raises:
        CorpusError: there is no such folder.
    """
    if not folder.is_dir():
        raise errors.CorpusError(f"{folder} is no folder; wanted one that corpora are to lie in")
    free = shutil.disk_usage(folder).free
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    warnings = [line for line in (accelerators.unused(),) if line is not None]
    if free < LEAST_FREE_BYTES:
        warnings.append(
            f"{folder} has {free / 1e9:.1f} GB free: see `memcorpus plan` for what a corpus takes"
        )
    if 0 < soft < 1024:
        warnings.append(f"a process may open {soft} files: raise `ulimit -n` to 1,024 or more")
    tests = [_tried("write, read, verify", lambda: _store(folder)), _tried("a program of jax", _program)]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "open_files": soft,
        "free_bytes": free,
        "versions": {name: _version(name) for name in ("memcorpus", *LIBRARIES)},
        "accelerators": accelerators.present(),
        "devices": {"jax": _jax_devices(), "torch": _torch_devices()},
        "decoding": native.description(),
        "tests": tests,
        "warnings": warnings,
        "ok": not any(test["error"] for test in tests),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _jax_devices() -> list[str]:
    if importlib.util.find_spec("jax") is None:
        return []
    import jax

    try:
        return [f"{device.platform}:{device.id} {device.device_kind}" for device in jax.devices()]
    except RuntimeError as e:  # a plugin without its driver, say
        return [f"none: {' '.join(str(e).split())[:200]}"]


def _torch_devices() -> list[str]:
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    names = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return names or ["cpu"]


def _tried(name: str, test: Callable[[], None]) -> Test:
    begun = time.perf_counter()
    try:
        test()
        error = ""
    except Exception as e:  # whatever it is: that is what was to be found out
        error = f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
    return {"name": name, "seconds": round(time.perf_counter() - begun, 3), "error": error}


def _store(folder: Path) -> None:
    """A small corpus is written, read and verified; then a bit is turned, and must be found."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="memcorpus-doctor-") as name:
        corpus = Path(name) / "corpus"
        given = np.random.default_rng(0).normal(size=(_PASSAGES, _TOKENS, _WIDTH)).astype(np.float32)
        with open_writer(
            corpus, passages=_PASSAGES, width=_WIDTH, max_tokens=_TOKENS, encoder="doctor", codec="float32"
        ) as writer:
            for shard in writer.missing():
                writer.write(shard, given[shard.ids.start : shard.ids.stop])
            writer.publish()
        opened = CorpusFolder(corpus)
        read = Corpus(opened).memory().fetch(range(_PASSAGES)).values
        if not np.array_equal(read, given.reshape(-1, _WIDTH)):
            raise errors.DamagedError("what was read is not what was written")
        if not verify_corpus(opened, full=True).ok:
            raise errors.DamagedError("what was written does not verify")
        values = next(corpus.glob("memory/*/values/c/*/0/0"))
        data = bytearray(values.read_bytes())
        data[len(data) // 3] ^= 1
        values.write_bytes(data)
        if verify_corpus(opened, full=True).ok:
            raise errors.DamagedError("a bit that was turned is not found")


def _program() -> None:
    """A product on jax's first device, against NumPy's."""
    if importlib.util.find_spec("jax") is None:
        return
    import jax

    a = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    found = jax.jit(lambda x: jax.lax.dot(x, x.T, precision=jax.lax.Precision.HIGHEST))(a)
    off = float(np.abs(np.asarray(found) - a @ a.T).max())
    if not off < 1e-3:
        raise ValueError(f"a product of matrices is {off:.3g} off NumPy's")
