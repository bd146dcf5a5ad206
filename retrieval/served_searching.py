"""Search in a corpus that a service holds: its vectors by id, and its index asked over the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from retrieval import queries as asked
from retrieval import wire
from retrieval.queries import Queries
from retrieval.searching import Searcher, SearchResult
from retrieval.service_client import Body, ServiceClient
from storage import errors
from storage.aliases import AnyArray
from storage.folder import CorpusFolder
from storage.segments import Segment
from storage.tombstones import Tombstones
from storage.vector_array import VectorArray, VectorLayout

if TYPE_CHECKING:
    from retrieval.index import Index


class ServedVectors(VectorArray):
    """The retriever's vectors out of a service."""

    def __init__(
        self, client: ServiceClient, layout: VectorLayout, state: str, limits: Mapping[str, int]
    ) -> None:
        self.layout = layout
        self._client, self._state, self._limits = client, state, limits

    def read(self, first: int, stop: int) -> AnyArray:
        return self.take(np.arange(first, stop, dtype=np.int64))

    def take(self, ids: npt.NDArray[np.int64]) -> AnyArray:
        out = np.empty((len(ids), self.layout.dim), np.dtype(self.layout.dtype))
        step = max(1, min(self._limits["ids"], self._limits["answer_bytes"] // self.layout.row_bytes))
        for first in range(0, len(ids), step):
            part = out[first : first + step]

            def read(body: Body, part: AnyArray = part) -> None:
                found = wire.unpack(body.whole(part.nbytes + wire.MAX_HEADER_BYTES)).get("vectors")
                if found is None or (found.dtype, found.shape) != (part.dtype, part.shape):
                    raise errors.DamagedError(f"service {self._client} answered with other vectors")
                part[:] = found

            self._client.post(
                "/v1/vectors",
                {"ids": np.asarray(ids[first : first + step]).tolist()},
                read,
                accept=wire.SAFETENSORS,
                memcorpus_state=self._state,
            )
        return out


class ServedSearcher(Searcher):
    """A searcher whose index, and as a rule its retriever, are the service's."""

    def __init__(
        self,
        client: ServiceClient,
        folder: CorpusFolder,
        segments: Sequence[Segment],
        tombstones: Tombstones,
        *,
        state: str,
        limits: Mapping[str, int],
        retriever: str | None,
        refines_there: bool | None,
    ) -> None:
        """
        Args:
            client: of the service.
            folder: its cards, as it told of them.
            segments: all its passages as one.
            tombstones: ids that are gone.
            state: of the service, that is asked for.
            limits: of one request: `k`, `queries`, `ids`, `answer_bytes`.
            retriever: that reads texts here; None: the service's own.
            refines_there: does the service refine what does not say it? None: it is of an earlier release,
                and cannot be told.
        """
        super().__init__(folder, folder.manifest, segments, tombstones, retriever=retriever)
        self._refines_there = refines_there
        self._client, self._state, self._limits = client, state, limits

    def vectors(self) -> VectorArray:
        """The retriever's vectors, by passage id."""
        layout = self.vectors_card.layout
        layout = replace(layout, grid=replace(layout.grid, passages=self._tombstones.passages))
        return ServedVectors(self._client, layout, self._state, self._limits)

    def open_index(self) -> Index:
        """
        Raises:
            CorpusError: always; the index is the service's.
        """
        raise errors.CorpusError(
            f"{self._client} is a service, and keeps its index; search, or open the folder"
        )

    def _nearest(self, queries: Queries, wanted: int, refine: bool | None) -> SearchResult:
        """As of a `Corpus`; texts are read by the service, unless a retriever was named here.

        Raises:
            CorpusError: `refine` is given to a service of an earlier release, or to one that reads its
                vectors from an object store.
            UnreadableError: the service cannot be reached.
        """
        refine = self.refines if refine is None else refine
        if refine is not None and self._refines_there is None:
            raise errors.CorpusError(
                f"service {self._client} is of an earlier memcorpus, which searches for all alike; leave out "
                "refine, or open the folder"
            )
        read = asked.read(queries, dim := self.vectors_card.layout.dim)
        if isinstance(read, list) and self._retriever_name is not None:
            read = np.asarray(asked.read(self._encode(read), dim), np.float32)
        step = self._limits["queries"]
        parts = [
            self._searched(read[first : first + step], wanted, refine) for first in range(0, len(read), step)
        ]
        if not parts:
            return SearchResult(
                passage_ids=np.zeros((0, wanted), np.int64), scores=np.zeros((0, wanted), np.float32)
            )
        return SearchResult(
            passage_ids=np.concatenate([part.passage_ids for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
        )

    def refined(self) -> bool:
        """Is a search refined that does not say it? It is where the service does so, or as it is set."""
        return bool(self._refines_there if self.refines is None else self.refines)

    def _searched(
        self, queries: list[str] | npt.NDArray[np.float32], k: int, refine: bool | None
    ) -> SearchResult:
        shape = (len(queries), k)

        def read(body: Body) -> SearchResult:
            found = wire.unpack(body.whole(len(queries) * k * 12 + wire.MAX_HEADER_BYTES))
            passage_ids, scores = found.get("passage_ids"), found.get("scores")
            if (
                passage_ids is None
                or scores is None
                or (passage_ids.dtype, passage_ids.shape) != (np.dtype(np.int64), shape)
                or (scores.dtype, scores.shape) != (np.dtype(np.float32), shape)
            ):
                raise errors.DamagedError(f"service {self._client} answered with no search result")
            return SearchResult(passage_ids=np.array(passage_ids), scores=np.array(scores))

        headers = {"accept": wire.SAFETENSORS, "memcorpus_state": self._state}
        if isinstance(queries, list):
            given = {"queries": queries, "k": k, "passages": False}
            if refine is not None:
                given["refine"] = refine
            return self._client.post("/v1/search", given, read, **headers)
        data = b"".join(wire.pack({"queries": queries}))
        asked_for = f"k={k}" if refine is None else f"k={k}&refine={str(refine).lower()}"
        return self._client.post(
            f"/v1/search?{asked_for}", data, read, content_type=wire.SAFETENSORS, **headers
        )
