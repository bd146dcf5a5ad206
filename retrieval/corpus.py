"""An open corpus: passages, search and memory by passage id."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retrieval import documents, neighbours
from retrieval import queries as asked
from retrieval.documents import Documents, Ordinals, TableOrdinals
from retrieval.memory import MemoryReader
from retrieval.neighbours import NeighbourReader
from retrieval.tokens import TokenReader, Tokens
from storage import canaries, codec_parameters, components, errors, ids, memory_files, remote, texts
from storage.aliases import AnyArray
from storage.components import IndexCard, MemoryCard, TokensCard, VectorsCard
from storage.fields import Fields
from storage.folder import CorpusFolder
from storage.manifest import Manifest
from storage.passage_table import PassageTable
from storage.thread_locks import ThreadLock
from storage.vector_array import VectorArray

if TYPE_CHECKING:
    from typing import SupportsIndex

    from encoders.memory_encoder import MemoryEncoder
    from encoders.retriever import Retriever
    from retrieval.index import Index


# Texts or vectors; a column of another library's is either.
Queries = Sequence[str] | str | npt.ArrayLike


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """The k best passages of q queries, best first.

    Attributes:
        passage_ids: int64 [q, k].
        scores: float32 [q, k], inner products; or what else the retriever compares by, see
            `retrieval.similarity`.
    """

    passage_ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


def local_folder(url: str | Path) -> CorpusFolder:
    """The local folder that a path or a file:// URL names, for what writes or checks a corpus.

    Raises:
        CorpusError: it names an object store.
    """
    if remote.is_remote(url):
        raise errors.CorpusError(f"corpus {url}: only local corpora can be written, checked and reported on")
    return remote.open_folder(url)


def open_corpus(url: str | Path, *, retriever: str | None = None, cache: Path | None = None) -> Corpus:
    """Open a finished corpus. It stays as it was opened, whatever is written beside it later.

    Args:
        url: a folder, as a path or a file:// URL; or s3://, gs://, http:// or https://.
        retriever: name or folder of the retriever for text queries; default is the one that the
            corpus was built with, where the build found it.
        cache: where the small files of a remote corpus are kept; see `remote.open_folder`.

    Raises:
        CorpusError: no corpus there, an unfinished one, or one of another format.
        DamagedError: the manifest does not match its checksum.
    """
    return Corpus(remote.open_folder(url, cache), retriever=retriever)


def _reopened(folder: CorpusFolder, version: str, check: str) -> MemoryReader:
    """A reader that came from another process."""
    return Corpus(folder).memory(version, check=check)


class Corpus:
    """A finished corpus, open for reading. Thread-safe; parts are opened when first used."""

    def __init__(self, folder: CorpusFolder, *, retriever: str | None = None) -> None:
        self.folder = folder
        folder.refresh()
        # Of the moment of opening: versions and aliases stay as they were then.
        self.manifest: Manifest = folder.manifest
        self._passages_card = folder.passages
        self._table = PassageTable(folder.root, self._passages_card.parts, ensure=folder.ensure)
        if len(self._table) != self._passages_card.passages:
            raise errors.DamagedError(f"the parts of {folder} do not add up to its passages")
        self._retriever_name = retriever
        # Are so few texts searched for that a framework would take longest to load? Of a command, say.
        self.few_queries = False
        self._lock = ThreadLock()
        self._retriever: Retriever | None = None
        self._index: Index | None = None
        self._vectors: VectorArray | None = None
        self._tokens: TokenReader | None = None

    def __reduce__(self) -> tuple[object, ...]:
        """To another process travels where it lies; there it is opened anew, as it is then."""
        return Corpus._again, (self.folder, self._retriever_name)

    @classmethod
    def _again(cls, folder: CorpusFolder, retriever: str | None) -> Corpus:
        return cls(folder, retriever=retriever)

    @property
    def root(self) -> Path:
        """The local folder, or the cache of a remote one."""
        return self.folder.root

    def __len__(self) -> int:
        """Passages in the corpus."""
        return len(self._table)

    @property
    def counts(self) -> dict[str, int]:
        """The reconciled counts of the build; docs/format.md lists them."""
        return dict(self._passages_card.counts)

    def passages(self, passage_ids: npt.ArrayLike) -> pa.Table:
        """Rows of the passage table, in the order asked, duplicates allowed.

        Raises:
            UnknownPassageError: naming the ids that are not in the corpus.
        """
        return self._table.take(passage_ids)

    def ids(self, keys: Sequence[str]) -> npt.NDArray[np.int64]:
        """Passage ids [k] of keys, as a writer was given them; of pages' ids, the first passage of each page.

        It reads the keys of the whole corpus: ask for many at once, or keep the ids.

        Raises:
            CorpusError: a key that the corpus does not have, or that is no text.
        """
        asked_for = [keys] if isinstance(keys, str) else list(keys)
        if not all(isinstance(key, str) for key in asked_for):
            raise errors.CorpusError(f"keys are {asked_for!r:.80}, wanted texts")
        found = self._table.first_of([texts.valid(key) for key in asked_for])
        unknown = [key for key, passage in zip(asked_for, found, strict=True) if passage < 0]
        if unknown:
            shown = ", ".join(repr(key)[:80] for key in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            raise errors.CorpusError(f"{len(unknown):,} keys are not in the corpus: {shown}")
        return found

    @property
    def tokens_card(self) -> TokensCard:
        """Of the chunks' tokens: tokenizer, vocabulary, tokens of a chunk, counts.

        Raises:
            CorpusError: the corpus's passages are not cut by tokens.
        """
        entries = self.manifest.of(components.TOKENS)
        if not entries:
            raise errors.CorpusError(
                f"the corpus in {self.folder} has no tokens: its passages are cut by words; "
                "build one with --passage-tokens"
            )
        return self.folder.card_at(components.TOKENS, "", entries[""])

    def tokens(self, passage_ids: npt.ArrayLike) -> Tokens:
        """The tokens of chunks, in the order asked, duplicates allowed.

        Raises:
            UnknownPassageError: naming the ids that are not in the corpus; -1 is such an id.
            CorpusError: the corpus's passages are not cut by tokens.
        """
        return self._open_tokens().fetch(ids.as_ids(passage_ids, len(self)))

    def _open_tokens(self) -> TokenReader:
        with self._lock:
            if self._tokens is None:
                card = self.tokens_card
                if card.layout.grid.passages != len(self):
                    raise errors.DamagedError(
                        f"tokens are of {card.layout.grid.passages} passages, the corpus has {len(self)}"
                    )
                self._tokens = TokenReader(self.folder, card)
            return self._tokens

    @property
    def ordinals(self) -> Ordinals:
        """The place of each passage in its document: of chunks an array, else out of the passage table."""
        if self.manifest.of(components.TOKENS):
            return self._open_tokens().ordinals
        return TableOrdinals(self._table)

    def documents(self, passage_ids: npt.ArrayLike) -> Documents:
        """The documents of passages [n]: which ids are of the same article.

        Raises:
            UnknownPassageError: naming the ids that are not in the corpus.
        """
        return documents.documents(self.ordinals, ids.as_ids(passage_ids, len(self)))

    def continuations(self, passage_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The next passage of the same document, -1 where there is none; see `neighbours.continuations`."""
        return neighbours.continuations(self.ordinals, passage_ids)

    def neighbours(self, name: str | None = None) -> NeighbourReader:
        """A table of neighbours: by its name, its title, or how its name begins; None: the only one.

        Raises:
            CorpusError: there is none, or more than one.
            MismatchError: it is not of this corpus's passages.
        """
        self.folder.refresh()
        card = neighbours.find(self.folder, self.manifest, name)
        if card.layout.grid.passages != len(self):
            raise errors.MismatchError(
                f"table {card.name} of neighbours is of {card.layout.grid.passages} passages, "
                f"the corpus has {len(self)}"
            )
        reader = NeighbourReader(self.folder, card)
        if card.database.own:
            reader.require_database(self)
        return reader

    def memory(self, version: str | None = None, *, check: str = "once") -> MemoryReader:
        """A reader of one memory version: by name, by alias, or the current one.

        Args:
            version: which; None is the corpus's current one.
            check: when stored bytes are checked; see `MemoryReader`.
        """
        name = self.manifest.version(version)
        card = self._memory_card(name)
        if card.layout.grid.passages != len(self):
            raise errors.MismatchError(
                f"memory version {name} holds {card.layout.grid.passages} passages, the corpus {len(self)}"
            )
        if card.codec_parameters:
            self._ensure_codec(card)
        return MemoryReader(
            memory_files.open_files(self.folder, card),
            card,
            check=check,
            reopen=(_reopened, self.folder, name, check),
        )

    def _memory_card(self, name: str) -> MemoryCard:
        self.folder.refresh()
        if name not in self.folder.manifest.versions:
            raise errors.CorpusError(
                f"memory version {name} has been removed since the corpus was opened; open it again"
            )
        return self.folder.card_at(components.MEMORY, name, self.manifest.of(components.MEMORY)[name])

    def _ensure_codec(self, card: MemoryCard) -> None:
        """Bring the files of a version's trained codec here, where they are not."""
        below = f"{components.MEMORY.folder(card.version)}/{codec_parameters.FOLDER}/"
        listed = self.folder.listed(card.files)
        self.folder.ensure(*(entry for entry in listed if entry.path.startswith(below)))

    def check_encoder(self, encoder: MemoryEncoder, version: str | None = None) -> canaries.Difference:
        """Encode the version's canaries again, and compare.

        Args:
            encoder: that wrote the version.
            version: which; None is the current one.

        Returns:
            How far they are apart: a matter of rounding.

        Raises:
            MismatchError: it is another encoder, or the same one gives other numbers here: a library,
                driver or kind of machine has changed since the version was written.
        """
        name = self.manifest.version(version)
        card = self._memory_card(name)
        self.folder.ensure(card.canaries.file)
        if encoder.fingerprint != card.encoder_fingerprint:
            raise errors.MismatchError(
                f"memory version {name} was written by encoder {card.encoder_fingerprint[:16]}, "
                f"this is {encoder.fingerprint[:16]}"
            )
        texts = [
            encoder.template.render(title=row["title"], section=row["section"], text=row["text"])
            for row in self.passages(list(card.canaries.passage_ids)).to_pylist()
        ]
        again = encoder.encode_texts(texts)
        kept = canaries.read(self.root, card.canaries, width=card.layout.width)
        return canaries.require_same(
            kept,
            again.astype(kept.dtype),
            compute_dtype=Fields(card.encoder, f"the encoder of memory {name}").text("compute_dtype"),
            what=f"memory version {name} is not what this encoder gives now",
        )

    @property
    def vectors_card(self) -> VectorsCard:
        """The vectors that searches run on."""
        for fingerprint, entry in self.manifest.of(components.VECTORS).items():
            return self.folder.card_at(components.VECTORS, fingerprint, entry)
        raise errors.CorpusError(f"the corpus in {self.folder} has no vectors")

    @property
    def index_card(self) -> IndexCard:
        """The index that searches run on."""
        fingerprint = self.vectors_card.fingerprint
        indexes = self.manifest.of(components.INDEX)
        if fingerprint not in indexes:
            raise errors.CorpusError(f"the corpus in {self.folder} has no index of its vectors")
        return self.folder.card_at(components.INDEX, fingerprint, indexes[fingerprint])

    def vectors(self) -> VectorArray:
        """The retriever's vectors, by passage id."""
        with self._lock:
            if self._vectors is None:
                card = self.vectors_card
                store = self.folder.store(components.VECTORS.folder(card.fingerprint))
                self._vectors = VectorArray(store, card.layout)
            return self._vectors

    def search(self, queries: Queries, k: SupportsIndex) -> SearchResult:
        """The k passages that are most similar to each query, by the retriever's own similarity.

        Args:
            queries: texts (a single one counts as one query; the retriever is loaded on first use), or
                vectors [q, dim] or [dim]: lists, arrays, tensors of NumPy, pandas, pyarrow, JAX or PyTorch.
                Half a pair of UTF-16 in a text, which is no character, is read as U+FFFD.
            k: 1 to the number of passages.

        Raises:
            CorpusError: k out of range, vectors of another dimension or not finite, anything else.
            MismatchError: the retriever found is not the one that made the corpus's vectors.
        """
        wanted = asked.count(k, len(self))
        vectors = asked.read(queries, dim := self.vectors_card.layout.dim)
        if isinstance(vectors, list):
            vectors = np.asarray(asked.read(self._encode(vectors), dim))
        found, scores = self.open_index().search(vectors, wanted)
        return SearchResult(passage_ids=found, scores=scores)

    def take_over(self, other: Corpus) -> None:
        """Share what another corpus has open: its index, retriever, vectors and tokens.

        For who opens a corpus again to see another memory version, and need not read gigabytes for it.

        Raises:
            CorpusError: other passages, vectors or another index.
        """
        for component in components.TABLE:
            same = self.manifest.of(component) == other.manifest.of(component)
            if component is not components.MEMORY and not same:
                raise errors.CorpusError(
                    f"{self.folder} and {other.folder} differ in their {component.noun}; open each by itself"
                )
        with other._lock:
            shared = other._index, other._retriever, other._vectors, other._tokens
        with self._lock:
            self._index, self._retriever, self._vectors, self._tokens = shared
            self._table = other._table

    def open_index(self) -> Index:
        """The index that searches run on, read once.

        Raises:
            DamagedError: its file is not as it was written.
        """
        with self._lock:
            if self._index is None:
                # FAISS is for those alone who search.
                from retrieval.index import Index

                card = self.index_card
                self.folder.ensure(card.file)
                self._index = Index.read(
                    self.root,
                    card.file,
                    passages=len(self),
                    dim=card.dim,
                    similarity=self.vectors_card.similarity,
                )
            return self._index

    def _encode(self, texts: Sequence[str] | str) -> AnyArray:
        texts = [texts] if isinstance(texts, str) else list(texts)
        return self.retriever().encode(texts, role="query", dtype="float32")

    def retriever(self) -> Retriever:
        """The retriever for text queries, checked against the corpus's fingerprint."""
        with self._lock:
            if self._retriever is None:
                # A framework is loaded here, for those alone who search by text: jax where it is installed
                # and can run the retriever; PyTorch else, or where the program has loaded that alone, as
                # two share an accelerator badly. Their vectors agree to rounding.
                from encoders import fingerprint
                from encoders.retriever import SENTENCE_TRANSFORMERS, Retriever

                name = self._retriever_name or self._built_with()
                card = self.vectors_card
                try:
                    torch_used = "torch" in sys.modules and "jax" not in sys.modules
                    known = torch_used and importlib.util.find_spec("sentence_transformers") is not None
                    backend = SENTENCE_TRANSFORMERS if known else None
                    loaded = (
                        Retriever.for_few(name) if self.few_queries else Retriever.load(name, backend=backend)
                    )
                except ModuleNotFoundError as e:
                    raise errors.CorpusError(
                        f"a query given as text needs the retriever, and {e.name} is not installed; "
                        "install memcorpus[text], or search by vector"
                    ) from e
                if loaded.fingerprint != card.encoder_fingerprint:
                    other = fingerprint.differences(card.encoder, loaded.description)
                    raise errors.MismatchError(
                        f"retriever {name} has fingerprint {loaded.fingerprint[:16]}, the corpus's vectors "
                        f"were made by {card.encoder_fingerprint[:16]}, and they differ in "
                        f"{', '.join(other[:3])}; name the folder of that one"
                    )
                self._retriever = loaded
            return self._retriever

    def _built_with(self) -> str:
        run = self.folder.run()
        if run is None or run.retriever is None:
            raise errors.CorpusError("name the retriever: it is not known here where the build found it")
        return run.retriever
