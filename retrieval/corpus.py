"""An open corpus: passages, search and memory by passage id."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from storage import (
    canaries,
    codec_parameters,
    components,
    errors,
    ids,
    locks,
    passage_table,
    remote,
    remote_memory,
    segments,
    texts,
)
from storage.aliases import AnyArray
from storage.components import IndexCard, MemoryCard, TokensCard, VectorsCard
from storage.fields import Fields
from storage.folder import CorpusFolder
from storage.joined import JoinedVectors
from storage.joined_memory import JoinedMemoryFiles, Piece
from storage.manifest import Manifest
from storage.memory_files import MemoryFiles
from storage.passage_table import PassageTable
from storage.segments import Segment
from storage.thread_locks import ThreadLock
from storage.vector_array import VectorArray

if TYPE_CHECKING:
    from typing import SupportsIndex

    from encoders.retriever import Retriever
    from encoders.token_encoder import TokenEncoder
    from retrieval.index import Index
    from retrieval.reranking import Reranker


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
        # Are so few texts searched for that a framework would take longest to load? Of a command, say.
        self.few_queries = False
        self._refines: bool | None = None
        self._lock = ThreadLock()
        self._retriever: Retriever | None = None
        self._index: Index | None = None
        self._vectors: VectorArray | None = None
        self._tokens: TokenReader | None = None
        self._rerankers: dict[str, Reranker] = {}

    def __reduce__(self) -> tuple[object, ...]:
        """To another process travels where it lies, and as what it was opened here: all read the same."""
        return Corpus._again, (self.folder, self._retriever_name, self.manifest, self._refines)

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
        pieces = []
        for part in self.segments:
            if name in part.manifest.of(components.MEMORY):
                pieces.append(self._memory_piece(part, name, card))
                continue
            why = (
                f"memory version {name} was left behind by update {part.number}, and has none of passages "
                f"{part.first} to {part.stop - 1}; bring it forward by the `memcorpus reencode` that made it"
            )
            pieces.append(Piece(first=part.first, passages=part.passages, files=None, why=why))
        opened: MemoryFiles | JoinedMemoryFiles | None = pieces[0].files if len(pieces) == 1 else None
        return MemoryReader(
            opened or JoinedMemoryFiles(pieces),
            card,
            check=check,
            passages=self.ids_given,
            require_live=self.tombstones.require_live if len(self.tombstones) else None,
            reopen=(_reopened, self.folder, name, check, self.generation),
        )

    def _memory_piece(self, part: Segment, name: str, first: MemoryCard) -> Piece:
        """The files of a version in one segment.

        Raises:
            MismatchError: they are of other passages, or hold rows that are not read like those of the first.
        """
        card = part.card(components.MEMORY, name)
        if card.layout.grid.passages != part.passages:
            raise errors.MismatchError(
                f"memory version {name} holds {card.layout.grid.passages} passages, "
                f"the corpus {part.passages}"
            )
        for what, ours, theirs in (
            ("width", card.layout.width, first.layout.width),
            ("codec", card.layout.codec, first.layout.codec),
            ("rows a chunk", card.layout.chunk_rows, first.layout.chunk_rows),
            ("parameters of the codec", dict(card.codec_parameters), dict(first.codec_parameters)),
            ("encoder", card.encoder_fingerprint, first.encoder_fingerprint),
        ):
            if ours != theirs:
                raise errors.MismatchError(
                    f"memory version {name} has another {what} in generation {part.number} than in the build"
                )
        if card.codec_parameters and part is self.segments[0]:
            self._ensure_codec(part, card)
        files = remote_memory.open_files(part.folder, card, first=part.first)
        return Piece(first=part.first, passages=part.passages, files=files)

    def _memory_card(self, name: str) -> MemoryCard:
        self.folder.refresh()
        if name not in self.folder.manifest.versions:
            raise errors.CorpusError(
                f"memory version {name} has been removed since the corpus was opened; open it again"
            )
        return self.segments[0].card(components.MEMORY, name)

    def _ensure_codec(self, part: Segment, card: MemoryCard) -> None:
        """Bring the files of a version's trained codec here, where they are not."""
        below = f"{components.MEMORY.folder(card.version)}/{codec_parameters.FOLDER}/"
        listed = part.folder.listed(card.files)
        part.folder.ensure(*(entry for entry in listed if entry.path.startswith(below)))

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
        name = self.manifest.version(version)
        card = self._memory_card(name)
        home = self.segments[0].folder
        home.ensure(card.canaries.file)
        if encoder.fingerprint != card.encoder_fingerprint:
            raise errors.MismatchError(
                f"memory version {name} was written by encoder {card.encoder_fingerprint[:16]}, "
                f"this is {encoder.fingerprint[:16]}"
            )
        from encoders.retro.memory import ChunkEncoder

        ids = list(card.canaries.passage_ids)
        if isinstance(encoder, ChunkEncoder):
            read = neighbours.retrieved(self, ids)
            again = encoder.encode_chunks(read.values, read.mask)
        else:
            texts = [
                encoder.template.render(title=row["title"], section=row["section"], text=row["text"])
                for row in self._table.take(ids).to_pylist()
            ]
            again = encoder.encode_texts(texts)
        kept = canaries.read(home.root, card.canaries, width=card.layout.width)
        return canaries.require_same(
            kept,
            again.astype(kept.dtype),
            compute_dtype=Fields(card.encoder, f"the encoder of memory {name}").text("compute_dtype"),
            what=f"memory version {name} is not what this encoder gives now",
        )

    @property
    def vectors_card(self) -> VectorsCard:
        """The vectors that searches run on; of a corpus that was updated, those of the build."""
        for fingerprint in self.manifest.of(components.VECTORS):
            return self.segments[0].card(components.VECTORS, fingerprint)
        raise errors.CorpusError(f"the corpus in {self.folder} has no vectors")

    @property
    def index_card(self) -> IndexCard:
        """The index that searches run on, as it was last trained."""
        return self._index_cards()[0][1]

    def _index_cards(self) -> list[tuple[Segment, IndexCard]]:
        """The index that was last trained, and what updates added to it since."""
        fingerprint = self.vectors_card.fingerprint
        found: list[tuple[Segment, IndexCard]] = []
        for part in self.segments:
            if fingerprint not in part.manifest.of(components.INDEX):
                raise errors.CorpusError(f"the corpus in {self.folder} has no index of its vectors")
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
        """The retriever's vectors, by passage id; those of passages that updates removed among them.

        Raises:
            MismatchError: those of an update are by another retriever.
        """
        with self._lock:
            if self._vectors is None:
                card = self.vectors_card
                pieces = []
                for part in self.segments:
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
                    grid = replace(card.layout.grid, passages=self.ids_given)
                    self._vectors = JoinedVectors(pieces, replace(card.layout, grid=grid))
            return self._vectors

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
        wanted = asked.count(k, len(self))
        if rerank is None:
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
        ids, scores = self.reranker(rerank).rank(texts, found.passage_ids)
        return SearchResult(passage_ids=ids[:, :wanted], scores=scores[:, :wanted])

    def reranker(self, version: str | None = None, *, encoder: str | None = None) -> Reranker:
        """What reranks by a version's memory; loaded once, and PyTorch with it.

        Args:
            version: of a multi-vector retriever; None: the current one.
            encoder: where that is, if not where it was when the version was written.

        Raises:
            CorpusError, MismatchError: as `reranking.open_reranker`.
        """
        from retrieval.reranking import open_reranker

        name = self.manifest.version(version)
        memory = self.memory(name)
        with self._lock:
            if name not in self._rerankers:
                self._rerankers[name] = open_reranker(memory, self.folder, encoder=encoder)
            return self._rerankers[name]

    def _nearest(self, queries: Queries, wanted: int, refine: bool | None = None) -> SearchResult:
        vectors = asked.read(queries, dim := self.vectors_card.layout.dim)
        if isinstance(vectors, list):
            vectors = np.asarray(asked.read(self._encode(vectors), dim))
        factor = self._candidates() if (self.refines if refine is None else refine) else 0
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

    @property
    def refines(self) -> bool:
        """Are searches refined that do not say it?

        They are where the index was built to be searched so, and the vectors are on this machine: in an
        object store a query would take a request or two for each candidate, and read 200 KB for it. It can
        be set.
        """
        if self._refines is not None:
            return self._refines
        return bool(self.index_card.refined) and not self.vectors_are_remote

    @refines.setter
    def refines(self, value: bool | None) -> None:
        self._refines = value

    @property
    def vectors_are_remote(self) -> bool:
        """Does a vector that is read take a request?"""
        return self.folder.values is not None

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
        with other._lock:
            shared = other._index, other._retriever, other._vectors, other._tokens
        self._refines = other._refines
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
                from retrieval.index import join

                pieces = self.index_pieces(mapped=not self.generation)
                # Of a corpus that was never updated an index of other passages is one of damage.
                self._index = join(pieces, self.tombstones if self.generation else None)
                if not self.generation and self._index.faiss.ntotal != len(self):
                    raise errors.DamagedError(
                        f"the index of {self.folder} holds {self._index.faiss.ntotal} vectors, wanted "
                        f"{len(self)}"
                    )
            return self._index

    def index_pieces(self, *, mapped: bool = False) -> list[Index]:
        """The index that was last trained, and what updates added to it since, read anew.

        `mapped` leaves each in its file, for who searches it and does not change it.

        Raises:
            DamagedError: a file is not as it was written.
        """
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
