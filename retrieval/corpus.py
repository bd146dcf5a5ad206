"""An open corpus: passages, search and memory by passage id."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retrieval import documents, encoder_check, memory_opening, neighbours
from retrieval.documents import Documents, Ordinals, TableOrdinals
from retrieval.memory import MemoryReader
from retrieval.neighbours import NeighbourReader
from retrieval.queries import Queries
from retrieval.searching import Searcher, SearchResult
from retrieval.tokens import TokenReader, Tokens
from storage import canaries, components, errors, ids, locks, passage_table, remote, segments, texts
from storage.components import IndexCard, MemoryCard, TokensCard, VectorsCard
from storage.folder import CorpusFolder
from storage.manifest import Manifest
from storage.passage_table import PassageTable
from storage.thread_locks import ThreadLock
from storage.vector_array import VectorArray

if TYPE_CHECKING:
    from typing import SupportsIndex

    from encoders.retriever import Retriever
    from encoders.token_encoder import TokenEncoder
    from retrieval.index import Index
    from retrieval.reranking import Reranker


def _reopened(folder: CorpusFolder, version: str, check: str, generation: int) -> MemoryReader:
    """A reader that came from another process, of the generation that it was opened in."""
    return Corpus(folder, generation=generation).memory(version, check=check)


class Corpus:
    """A finished corpus, open for reading. Thread-safe; parts are opened when first used."""

    def __init__(
        self,
        folder: CorpusFolder,
        *,
        retriever: str | None = None,
        generation: int | None = None,
        found: Manifest | None = None,
    ) -> None:
        """`found` is the manifest to read it by; None: the one that is there now."""
        self.folder = folder
        if found is None:
            folder.refresh()
            found = folder.manifest
        # Of the moment of opening: versions, aliases and passages stay as they were then.
        self.manifest: Manifest = found if generation is None else found.at(generation)
        self.segments = segments.of(folder, self.manifest)
        # Against a compaction that would take the files away; a local corpus's alone.
        below = components.PASSAGES.folder("")
        held = () if folder.values is not None else self.segments
        self._holds = [locks.hold(part.folder.path(below)) for part in held]
        self._passages_card = self.segments[0].card(components.PASSAGES)
        self._table = PassageTable(
            folder.root,
            segments.parts(self.segments),
            ensure=folder.ensure,
            ranges=folder.read_range if isinstance(folder, remote.RemoteFolder) else None,
        )
        if len(self._table) != self.ids_given:
            raise errors.DamagedError(f"the parts of {folder} do not add up to its passages")
        self.tombstones = segments.removed(folder, self.manifest, self.ids_given)
        self._retriever_name = retriever
        self._searcher = Searcher(folder, self.manifest, self.segments, self.tombstones, retriever=retriever)
        self._lock = ThreadLock()
        self._tokens: TokenReader | None = None

    def __reduce__(self) -> tuple[object, ...]:
        """To another process travels where it lies, and as what it was opened here: all read the same."""
        return Corpus._again, (self.folder, self._retriever_name, self.manifest, self._searcher.refines)

    @classmethod
    def _again(
        cls, folder: CorpusFolder, retriever: str | None, found: Manifest, refines: bool | None
    ) -> Corpus:
        opened = cls(folder, retriever=retriever, found=found)
        opened.refines = refines
        return opened

    @property
    def root(self) -> Path:
        """The local folder, or the cache of a remote one."""
        return self.folder.root

    def __len__(self) -> int:
        """Passages in the corpus: as many as `ids_given`, less those that updates removed."""
        return self.ids_given - len(self.tombstones)

    @property
    def generation(self) -> int:
        """The update that it is opened as of; 0: as it was built."""
        return self.manifest.generation

    @property
    def ids_given(self) -> int:
        """One more than the last passage id that was ever given; an id is never given twice."""
        return segments.ids_given(self.segments)

    @property
    def passage_ids(self) -> npt.NDArray[np.int64]:
        """The ids of all passages, ascending, int64 [passages]."""
        return self.tombstones.live()

    @property
    def counts(self) -> dict[str, int]:
        """The reconciled counts of the build; docs/format.md lists them."""
        return dict(self._passages_card.counts)

    def _ids(self, passage_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Ids that were asked for, all of which are there."""
        wanted = ids.as_ids(passage_ids, self.ids_given)
        self.tombstones.require_live(wanted)
        return wanted

    def passages(self, passage_ids: npt.ArrayLike, *, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of the passage table, in the order asked, duplicates allowed.

        Args:
            passage_ids: whole numbers [k].
            columns: those to read, of which fewer take less time; None: all.

        Raises:
            UnknownPassageError: naming the ids that are not in the corpus.
            TombstoneError: naming the ids that an update removed.
            CorpusError: there is no such column.
        """
        unknown = [name for name in columns or () if name not in passage_table.SCHEMA.names]
        if unknown:
            raise errors.CorpusError(
                f"passages have no column {unknown[0]!r:.100}, wanted of "
                f"{', '.join(passage_table.SCHEMA.names)}"
            )
        return self._table.take(self._ids(passage_ids), columns=columns)

    def ids(self, keys: Sequence[str]) -> npt.NDArray[np.int64]:
        """Passage ids [k] of keys, as a writer was given them; of pages' ids, the first passage of each page.

        It reads the keys of the whole corpus: ask for many at once, or keep the ids.

        Raises:
            CorpusError: a key that the corpus does not have, or that is no text.
        """
        asked_for = [keys] if isinstance(keys, str) else list(keys)
        if not all(isinstance(key, str) for key in asked_for):
            raise errors.CorpusError(f"keys are {asked_for!r:.80}, wanted texts")
        found = self._table.first_of([texts.valid(key) for key in asked_for], self.tombstones.are_there)
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
        return self.segments[0].card(components.TOKENS)

    def tokens(self, passage_ids: npt.ArrayLike) -> Tokens:
        """The tokens of chunks, in the order asked, duplicates allowed.

        Raises:
            UnknownPassageError: naming the ids that are not in the corpus; -1 is such an id.
            CorpusError: the corpus's passages are not cut by tokens.
        """
        return self._open_tokens().fetch(self._ids(passage_ids))

    def _open_tokens(self) -> TokenReader:
        with self._lock:
            if self._tokens is None:
                _ = self.tokens_card  # which says plainly where there are none
                self._tokens = TokenReader(self.segments)
            return self._tokens

    @property
    def ordinals(self) -> Ordinals:
        """The place of each passage in its document: of chunks an array, else out of the passage table."""
        if self.manifest.of(components.TOKENS):
            return self._open_tokens().ordinals
        if self.generation:
            raise errors.CorpusError(
                f"the corpus in {self.folder} was updated: an article's passages may lie in several "
                "generations, and do not follow each other; look for their page_id, or open generation=0"
            )
        return TableOrdinals(self._table)

    def documents(self, passage_ids: npt.ArrayLike) -> Documents:
        """The documents of passages [n]: which ids are of the same article.

        Raises:
            UnknownPassageError: naming the ids that are not in the corpus.
            CorpusError: passages are cut by words, and the corpus was updated: they do not follow each other.
        """
        return documents.documents(self.ordinals, self._ids(passage_ids))

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
        home = self.segments[0]
        if self.generation and not home.manifest.of(components.NEIGHBOURS):
            raise errors.CorpusError(
                f"the corpus in {self.folder} was updated and has no table of neighbours: tables are of "
                "corpora as they were built; build the corpus anew"
            )
        card = neighbours.find(home.folder, home.manifest, name)
        if self.generation and card.layout.grid.passages == home.passages:
            raise errors.MismatchError(
                f"table {card.name} of neighbours was left behind by update {self.generation}: it knows "
                "nothing of what came and went since; open the corpus with generation=0 to read it"
            )
        if card.layout.grid.passages != len(self):
            raise errors.MismatchError(
                f"table {card.name} of neighbours is of {card.layout.grid.passages} passages, "
                f"the corpus has {len(self)}"
            )
        reader = NeighbourReader(home.folder, card)
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
        return MemoryReader(
            memory_opening.open_files(self.segments, card),
            card,
            check=check,
            passages=self.ids_given,
            require_live=self.tombstones.require_live if len(self.tombstones) else None,
            reopen=(_reopened, self.folder, name, check, self.generation),
        )

    def _memory_card(self, name: str) -> MemoryCard:
        self.folder.refresh()
        if name not in self.folder.manifest.versions:
            raise errors.CorpusError(
                f"memory version {name} has been removed since the corpus was opened; open it again"
            )
        return self.segments[0].card(components.MEMORY, name)

    def check_encoder(self, encoder: TokenEncoder, version: str | None = None) -> canaries.Difference:
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
        card = self._memory_card(self.manifest.version(version))
        retrieved = partial(neighbours.retrieved, self)
        return encoder_check.check(self.segments[0].folder, self._table, retrieved, encoder, card)

    @property
    def vectors_card(self) -> VectorsCard:
        """The vectors that searches run on; of a corpus that was updated, those of the build."""
        return self._searcher.vectors_card

    @property
    def index_card(self) -> IndexCard:
        """The index that searches run on, as it was last trained."""
        return self._searcher.index_card

    def vectors(self) -> VectorArray:
        """The retriever's vectors, by passage id; those of passages that updates removed among them.

        Raises:
            MismatchError: those of an update are by another retriever.
        """
        return self._searcher.vectors()

    def search(
        self,
        queries: Queries,
        k: SupportsIndex,
        *,
        rerank: str | None = None,
        candidates: SupportsIndex | None = None,
        refine: bool | None = None,
    ) -> SearchResult:
        """The k passages that are most similar to each query, by the retriever's own similarity.

        An index of codes finds some more than k, and ranks them roughly. Refined, they are ranked by their
        stored vectors.

        Args:
            queries: texts (a single one counts as one query; the retriever is loaded on first use), or
                vectors [q, dim] or [dim]: lists, arrays, tensors of NumPy, pandas, pyarrow, JAX or PyTorch.
                Half a pair of UTF-16 in a text, which is no character, is read as U+FFFD.
            k: 1 to the number of passages.
            rerank: a memory version of a multi-vector retriever: what was found is ranked by MaxSim of its
                vectors with the query's, and scores are those. Queries are texts then.
            candidates: passages found for each query to be reranked, k or more; None: k.
            refine: read the candidates' vectors, and rank by these. None: as `refines` says.

        Raises:
            CorpusError: k out of range, vectors of another dimension or not finite, anything else.
            MismatchError: the retriever found is not the one that made the corpus's vectors.
        """
        return self._searcher.search(
            queries,
            k,
            reranker=None if rerank is None else partial(self.reranker, rerank),
            candidates=candidates,
            refine=refine,
        )

    def reranker(self, version: str | None = None, *, encoder: str | None = None) -> Reranker:
        """What reranks by a version's memory; loaded once, and PyTorch with it.

        Args:
            version: of a multi-vector retriever; None: the current one.
            encoder: where that is, if not where it was when the version was written.

        Raises:
            CorpusError, MismatchError: as `reranking.open_reranker`.
        """
        name = self.manifest.version(version)
        return self._searcher.reranker(name, self.memory(name), encoder=encoder)

    @property
    def refines(self) -> bool:
        """Are searches refined that do not say it?

        They are where the index was built to be searched so, and the vectors are on this machine: in an
        object store a query would take a request or two for each candidate, and read 200 KB for it. It can
        be set.
        """
        return self._searcher.refined()

    @refines.setter
    def refines(self, value: bool | None) -> None:
        self._searcher.refines = value

    @property
    def few_queries(self) -> bool:
        """Are so few texts searched for that a framework would take longest to load? Of a command, say.

        It can be set, before the first search.
        """
        return self._searcher.few_queries

    @few_queries.setter
    def few_queries(self, value: bool) -> None:
        self._searcher.few_queries = value

    @property
    def vectors_are_remote(self) -> bool:
        """Does a vector that is read take a request?"""
        return self._searcher.vectors_are_remote

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
        if (self.generation, self.ids_given, len(self)) != (other.generation, other.ids_given, len(other)):
            raise errors.CorpusError(f"{self.folder} and {other.folder} are of other generations")
        self._searcher.take_over(other._searcher)
        with other._lock:
            tokens = other._tokens
        with self._lock:
            self._tokens = tokens
            self._table = other._table

    def open_index(self) -> Index:
        """The index that searches run on, read once.

        Raises:
            DamagedError: its file is not as it was written.
        """
        return self._searcher.open_index()

    def index_pieces(self, *, mapped: bool = False) -> list[Index]:
        """The index that was last trained, and what updates added to it since, read anew.

        `mapped` leaves each in its file, for who searches it and does not change it.

        Raises:
            DamagedError: a file is not as it was written.
        """
        return self._searcher.index_pieces(mapped=mapped)

    def retriever(self) -> Retriever:
        """The retriever for text queries, checked against the corpus's fingerprint."""
        return self._searcher.retriever()
