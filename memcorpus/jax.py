"""Memory for JAX; `import memcorpus.jax` loads jax when something of it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memcorpus import packages

if TYPE_CHECKING:
    from retrieval.jax_loading import DeviceMemory as DeviceMemory
    from retrieval.jax_loading import batches_on_device as batches_on_device
    from retrieval.jax_loading import decoder as decoder

__all__ = ["DeviceMemory", "batches_on_device", "decoder"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'memcorpus.jax' has no attribute {name!r}")
    with packages.importing(packages.READING):
        from retrieval import jax_loading
    value: object = getattr(jax_loading, name)
    globals()[name] = value
    return value
