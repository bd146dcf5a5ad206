"""The library that readers import: open a corpus, search it, fetch passages and their memory by id."""

from retrieval.corpus import Corpus as Corpus
from retrieval.memory import MemoryReader as MemoryReader
from retrieval.opening import open_corpus as open_corpus
from retrieval.searching import SearchResult as SearchResult
from storage.errors import CorpusError as CorpusError
from storage.errors import DamagedError as DamagedError
from storage.errors import MismatchError as MismatchError
from storage.errors import UnknownPassageError as UnknownPassageError
from storage.ragged import RaggedMemory as RaggedMemory
