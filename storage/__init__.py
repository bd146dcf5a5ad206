"""How a memory corpus lies on the disk: ids, shards, arrays, tables, checksums, the manifest."""

from storage.codecs import Codec as Codec
from storage.errors import CorpusError as CorpusError
from storage.errors import DamagedError as DamagedError
from storage.errors import MismatchError as MismatchError
from storage.errors import UnknownPassageError as UnknownPassageError
from storage.files import FileEntry as FileEntry
from storage.manifest import Manifest as Manifest
from storage.memory_store import MemoryLayout as MemoryLayout
from storage.passage_table import PassageTable as PassageTable
from storage.ragged import RaggedMemory as RaggedMemory
from storage.receipts import Receipt as Receipt
from storage.shards import ShardGrid as ShardGrid
from storage.vector_array import VectorArray as VectorArray
from storage.vector_array import VectorLayout as VectorLayout
from storage.verify import Verification as Verification
from storage.verify import verify as verify
