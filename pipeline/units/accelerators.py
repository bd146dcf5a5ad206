"""A machine's accelerators: dealt out to the worker processes of the local runner, or there and unused."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# How many workers there are on this machine, for each of them to read.
WORKERS: Final = "MEMCORPUS_WORKERS"
_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_MEMORY: Final = "XLA_PYTHON_CLIENT_MEM_FRACTION"
_PLATFORMS: Final = "JAX_PLATFORMS"
# Where the system shows them, by what jax needs for them: its plugins, and the extra that brings one.
DEVICES: Final = Path("/dev")
_KINDS: Final = (
    ("NVIDIA GPU", "nvidia[0-9]*", ("jax_cuda12_plugin", "jax_cuda13_plugin"), "cuda"),
    ("TPU", "accel[0-9]*", ("libtpu",), "tpu"),
)
# Of a GPU's memory, what jax takes when it starts; torch, if it runs the retriever, needs some too.
_SHARE: Final = 0.75


def deal(gpus: Sequence[str], worker: int, workers: int) -> tuple[list[str], int]:
    """A worker's GPUs, and how many workers share each of them.

    Each gets as many as every other, or one: batches are as large as a worker's devices, and the bytes are to
    be the same whoever made them.
    """
    each = len(gpus) // workers
    if each:
        first = worker % workers * each
        return list(gpus[first : first + each]), 1
    return [gpus[worker % len(gpus)]], -(-workers // len(gpus))


def visible() -> list[str]:
    """The GPUs that this process may use, as CUDA names them; parts of one, where it is split into such."""
    given = os.environ.get(_VISIBLE)
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return re.findall(r"UUID: (MIG-[^)]+)", listed) or re.findall(r"UUID: (GPU-[^)]+)", listed)


def share(worker: int) -> None:
    """Leave this process its own GPUs and its share of their memory. Call before jax or torch is imported.

    Otherwise each worker would compute on all, and the first would take most of the memory of each.

    Args:
        worker: its number; those of the workers that live at the same time are consecutive.
    """
    workers = int(os.environ.get(WORKERS, "1"))
    gpus = visible()
    if workers > 1 and gpus:
        own, sharing = deal(gpus, worker, workers)
        os.environ[_VISIBLE] = ",".join(own)
        if sharing > 1:
            os.environ.setdefault(_MEMORY, f"{_SHARE / sharing:.3f}")


def present() -> dict[str, int]:
    """How many accelerators of each kind this machine has, whatever can use them.

    Kinds are "NVIDIA GPU" and "TPU"; those of which there is none are left out.
    """
    found = {kind: len(list(DEVICES.glob(pattern))) for kind, pattern, _, _ in _KINDS}
    return {kind: count for kind, count in found.items() if count}


def unused() -> str | None:
    """A line on an accelerator that is there and that the installed jax cannot use; None where all is well,
    or where somebody has told jax to compute elsewhere. Loads nothing.
    """
    there = present()
    if os.environ.get(_PLATFORMS) or os.environ.get(_VISIBLE, "all") in ("", "-1"):
        return None
    for kind, _, plugins, extra in _KINDS:
        if kind in there and not any(importlib.util.find_spec(plugin) for plugin in plugins):
            return (
                f"this machine has {there[kind]} {kind}{'s' if there[kind] > 1 else ''}, and the jax that is "
                f"installed computes on the CPU alone: pip install 'memcorpus[{extra}]'"
            )
    return None
