"""Memory for PyTorch's DataLoader; `import memcorpus.torch` loads torch when something of it is first used.

data = memcorpus.torch.MemoryDataset("corpus")
loader = DataLoader(data, batch_size=32, num_workers=2, collate_fn=memcorpus.torch.Collate("padded"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memcorpus import packages

if TYPE_CHECKING:
    from retrieval.torch_batches import Collate as Collate
    from retrieval.torch_batches import OnDevice as OnDevice
    from retrieval.torch_batches import PackedMemory as PackedMemory
    from retrieval.torch_batches import PaddedMemory as PaddedMemory
    from retrieval.torch_decoding import Decoder as Decoder
    from retrieval.torch_loading import MemoryDataset as MemoryDataset
    from retrieval.torch_loading import MemoryStream as MemoryStream

__all__ = ["Collate", "Decoder", "MemoryDataset", "MemoryStream", "OnDevice", "PackedMemory", "PaddedMemory"]

_MODULES = {
    "Collate": "retrieval.torch_batches",
    "Decoder": "retrieval.torch_decoding",
    "MemoryDataset": "retrieval.torch_loading",
    "MemoryStream": "retrieval.torch_loading",
    "OnDevice": "retrieval.torch_batches",
    "PackedMemory": "retrieval.torch_batches",
    "PaddedMemory": "retrieval.torch_batches",
}


def __getattr__(name: str) -> object:
    import importlib

    if name not in _MODULES:
        raise AttributeError(f"module 'memcorpus.torch' has no attribute {name!r}")
    with packages.importing(packages.READING, extra="torch"):
        value: object = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value
