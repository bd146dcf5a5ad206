"""How a memory corpus lies on the disk: its folder, components, arrays, tables, checksums, the manifest."""

from storage.codecs import Codec as Codec
from storage.errors import CorpusError as CorpusError
from storage.errors import DamagedError as DamagedError
from storage.errors import MismatchError as MismatchError
from storage.errors import UnknownPassageError as UnknownPassageError
from storage.files import FileEntry as FileEntry
from storage.folder import CorpusFolder as CorpusFolder
from storage.manifest import Manifest as Manifest
from storage.memory_store import MemoryLayout as MemoryLayout
from storage.passage_table import PassageTable as PassageTable
from storage.ragged import RaggedMemory as RaggedMemory
from storage.receipts import Receipt as Receipt
from storage.remote import open_folder as open_folder
from storage.shards import ShardGrid as ShardGrid
from storage.vector_array import VectorArray as VectorArray
from storage.vector_array import VectorLayout as VectorLayout
from storage.verify import Verification as Verification
from storage.verify import verify_corpus as verify_corpus
