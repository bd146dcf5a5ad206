"""Search: a corpus's vectors, index and retriever, each opened when first used, and what they find.

A corpus holds one `Searcher`. It knows segments, cards and tombstones, and nothing of passages or memory.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retrieval import queries as asked
from retrieval.queries import Queries
from storage import components, errors
from storage.aliases import AnyArray
from storage.components import IndexCard, VectorsCard
from storage.folder import CorpusFolder
from storage.joined import JoinedVectors
from storage.manifest import Manifest
from storage.segments import Segment
from storage.thread_locks import ThreadLock
from storage.tombstones import Tombstones
from storage.vector_array import VectorArray

if TYPE_CHECKING:
    from typing import SupportsIndex

    from encoders.retriever import Retriever
    from retrieval.index import Index
    from retrieval.memory import MemoryReader
    from retrieval.reranking import Reranker


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


class Searcher:
    """What a corpus is searched by. Thread-safe.

    Attributes:
        few_queries: are so few texts searched for that a framework would take longest to load?
        refines: are searches refined that do not say it? None: as the index and its place ask for.
    """

    def __init__(
        self,
        folder: CorpusFolder,
        manifest: Manifest,
        segments: Sequence[Segment],
        tombstones: Tombstones,
        *,
        retriever: str | None,
    ) -> None:
        """
        Args:
            folder: of the corpus.
            manifest: of the moment that the corpus is opened as of.
            segments: of that moment.
            tombstones: of that moment.
            retriever: name or folder of the one for text queries; None: where the build found it.
        """
        self.few_queries = False
        self.refines: bool | None = None
        self._folder, self._manifest = folder, manifest
        self._segments, self._tombstones = segments, tombstones
        self._retriever_name = retriever
        self._lock = ThreadLock()
        self._retriever: Retriever | None = None
        self._index: Index | None = None
        self._vectors: VectorArray | None = None
        self._rerankers: dict[str, Reranker] = {}

    def __len__(self) -> int:
        """Passages that can be found."""
        return self._tombstones.passages - len(self._tombstones)

    @property
    def vectors_card(self) -> VectorsCard:
        """See `Corpus.vectors_card`."""
        for fingerprint in self._manifest.of(components.VECTORS):
            return self._segments[0].card(components.VECTORS, fingerprint)
        raise errors.CorpusError(f"the corpus in {self._folder} has no vectors")

    @property
    def index_card(self) -> IndexCard:
        """See `Corpus.index_card`."""
        return self._index_cards()[0][1]

    def _index_cards(self) -> list[tuple[Segment, IndexCard]]:
        """The index that was last trained, and what updates added to it since."""
        fingerprint = self.vectors_card.fingerprint
        found: list[tuple[Segment, IndexCard]] = []
        for part in self._segments:
            if fingerprint not in part.manifest.of(components.INDEX):
                raise errors.CorpusError(f"the corpus in {self._folder} has no index of its vectors")
            card = part.card(components.INDEX, fingerprint)
            whole = not card.first_passage_id
            if not whole and card.first_passage_id != part.first:
                raise errors.DamagedError(
                    f"the index of generation {part.number} begins at passage {card.first_passage_id}, "
                    f"wanted {part.first}"
                )
            found = [(part, card)] if whole else [*found, (part, card)]
        return found

    def vectors(self) -> VectorArray:
        """See `Corpus.vectors`."""
        with self._lock:
            if self._vectors is None:
                card = self.vectors_card
                pieces = []
                for part in self._segments:
                    own = part.card(components.VECTORS, card.fingerprint)
                    if (own.layout.dim, own.layout.dtype, own.encoder_fingerprint) != (
                        card.layout.dim,
                        card.layout.dtype,
                        card.encoder_fingerprint,
                    ) or own.layout.grid.passages != part.passages:
                        raise errors.MismatchError(
                            f"vectors of generation {part.number} are others than those of the build"
                        )
                    store = part.folder.store(components.VECTORS.folder(card.fingerprint))
                    pieces.append((part.first, VectorArray(store, own.layout)))
                if len(pieces) == 1:
                    self._vectors = pieces[0][1]
                else:
                    grid = replace(card.layout.grid, passages=self._tombstones.passages)
                    self._vectors = JoinedVectors(pieces, replace(card.layout, grid=grid))
            return self._vectors

    def search(
        self,
        queries: Queries,
        k: SupportsIndex,
        *,
        reranker: Callable[[], Reranker] | None,
        candidates: SupportsIndex | None,
        refine: bool | None,
    ) -> SearchResult:
        """See `Corpus.search`; `reranker` opens the one that ranks what was found."""
        wanted = asked.count(k, len(self))
        if reranker is None:
            if candidates is not None:
                raise errors.CorpusError("candidates are passages to be reranked; name the version by rerank")
            return self._nearest(queries, wanted, refine)
        among = wanted if candidates is None else asked.count(candidates, len(self))
        if among < wanted:
            raise errors.CorpusError(f"candidates is {among}, wanted {wanted} or more, the k of the search")
        texts = asked.read(queries, self.vectors_card.layout.dim)
        if not isinstance(texts, list):
            raise errors.CorpusError("queries are vectors, wanted texts, of which a reranker makes its own")
        found = self._nearest(texts, among, refine)
        ids, scores = reranker().rank(texts, found.passage_ids)
        return SearchResult(passage_ids=ids[:, :wanted], scores=scores[:, :wanted])

    def reranker(self, version: str, memory: MemoryReader, *, encoder: str | None) -> Reranker:
        """See `Corpus.reranker`; `memory` is the version's."""
        from retrieval.reranking import open_reranker

        with self._lock:
            if version not in self._rerankers:
                self._rerankers[version] = open_reranker(memory, self._segments[0].folder, encoder=encoder)
            return self._rerankers[version]

    def _nearest(self, queries: Queries, wanted: int, refine: bool | None) -> SearchResult:
        vectors = asked.read(queries, dim := self.vectors_card.layout.dim)
        if isinstance(vectors, list):
            vectors = np.asarray(asked.read(self._encode(vectors), dim))
        factor = self._candidates() if (self.refined() if refine is None else refine) else 0
        if factor:
            from retrieval import refining

            found, scores = refining.search(self.open_index(), self.vectors(), vectors, wanted, factor)
        else:
            found, scores = self.open_index().search(vectors, wanted)
        return SearchResult(passage_ids=found, scores=scores)

    def _candidates(self) -> int:
        """For each passage wanted, where a search is refined; 0 where the index holds the vectors."""
        from retrieval.index_shape import refined

        card = self.index_card
        return card.refined or refined(card.kind, card.parameters["lists"])

    def refined(self) -> bool:
        """Is a search refined that does not say it? See `Corpus.refines`."""
        if self.refines is not None:
            return self.refines
        return bool(self.index_card.refined) and not self.vectors_are_remote

    @property
    def vectors_are_remote(self) -> bool:
        """Does a vector that is read take a request?"""
        return self._folder.values is not None

    def take_over(self, other: Searcher) -> None:
        """Share what another searcher of the same vectors and index has open."""
        with other._lock:
            shared = other._index, other._retriever, other._vectors
        self.refines = other.refines
        with self._lock:
            self._index, self._retriever, self._vectors = shared

    def open_index(self) -> Index:
        """See `Corpus.open_index`."""
        with self._lock:
            if self._index is None:
                # FAISS is for those alone who search.
                from retrieval.index import join

                updated = self._manifest.generation > 0
                pieces = self.index_pieces(mapped=not updated)
                # Of a corpus that was never updated an index of other passages is one of damage.
                self._index = join(pieces, self._tombstones if updated else None)
                if not updated and self._index.faiss.ntotal != len(self):
                    raise errors.DamagedError(
                        f"the index of {self._folder} holds {self._index.faiss.ntotal} vectors, wanted "
                        f"{len(self)}"
                    )
            return self._index

    def index_pieces(self, *, mapped: bool) -> list[Index]:
        """See `Corpus.index_pieces`."""
        from retrieval.index import Index

        similarity = self.vectors_card.similarity
        pieces = []
        cards = self._index_cards()
        whole = cards[0][1].file.bytes
        for part, card in cards:
            part.folder.ensure(card.file)
            pieces.append(
                Index.read(
                    part.folder.root,
                    card.file,
                    passages=card.passages,
                    dim=card.dim,
                    similarity=similarity,
                    within=whole,
                    mapped=mapped,
                )
            )
        return pieces

    def _encode(self, texts: Sequence[str]) -> AnyArray:
        return self.retriever().encode(texts, role="query", dtype="float32")

    def retriever(self) -> Retriever:
        """See `Corpus.retriever`."""
        with self._lock:
            if self._retriever is None:
                name = self._retriever_name or self._built_with()
                self._retriever = _open_retriever(name, self.vectors_card, few_queries=self.few_queries)
            return self._retriever

    def _built_with(self) -> str:
        # Beside what the build wrote, which a compaction puts elsewhere.
        run = self._segments[0].folder.run()
        if run is None or run.retriever is None:
            raise errors.CorpusError("name the retriever: it is not known here where the build found it")
        return run.retriever


def _open_retriever(name: str, card: VectorsCard, *, few_queries: bool) -> Retriever:
    """The retriever of a folder or a name, which has to be the one that made the vectors of `card`."""
    # A framework is loaded here, for those alone who search by text: jax where it is installed and can run
    # the retriever; PyTorch else, or where the program has loaded that alone, as two share an accelerator
    # badly. Their vectors agree to rounding.
    from encoders import fingerprint
    from encoders.retriever import SENTENCE_TRANSFORMERS, Retriever

    try:
        torch_used = "torch" in sys.modules and "jax" not in sys.modules
        known = torch_used and importlib.util.find_spec("sentence_transformers") is not None
        backend = SENTENCE_TRANSFORMERS if known else None
        loaded = Retriever.for_few(name) if few_queries else Retriever.load(name, backend=backend)
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
    return loaded
