"""Memory for PyTorch's DataLoader; `import memcorpus.torch` loads torch when something of it is first used.

data = memcorpus.torch.MemoryDataset("corpus")
loader = DataLoader(data, batch_size=32, num_workers=2, collate_fn=memcorpus.torch.Collate("padded"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memcorpus import packages

if TYPE_CHECKING:
    from retrieval.torch_decoding import Decoder as Decoder
    from retrieval.torch_loading import Collate as Collate
    from retrieval.torch_loading import MemoryDataset as MemoryDataset
    from retrieval.torch_loading import MemoryStream as MemoryStream
    from retrieval.torch_loading import OnDevice as OnDevice
    from retrieval.torch_loading import PackedMemory as PackedMemory
    from retrieval.torch_loading import PaddedMemory as PaddedMemory

__all__ = ["Collate", "Decoder", "MemoryDataset", "MemoryStream", "OnDevice", "PackedMemory", "PaddedMemory"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'memcorpus.torch' has no attribute {name!r}")
    with packages.importing(packages.READING, extra="torch"):
        from retrieval import torch_loading
    value: object = getattr(torch_loading, name)
    globals()[name] = value
    return value
