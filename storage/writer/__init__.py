"""The public writer: any model's token states, by passage id, become a memory version of a corpus.

No Beam, no JAX, no PyTorch: NumPy arrays go in (or what gives them), and what `memcorpus build` would have
left comes out: the card, checksums, codes, receipts while it is written, and the manifest last.
"""

from storage.writer.memory_writer import MemoryWriter as MemoryWriter
from storage.writer.memory_writer import Shard as Shard
from storage.writer.opening import open_writer as open_writer
