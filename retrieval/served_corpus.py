"""A corpus that a service holds: the interface of one in a folder, with neither files nor index here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retrieval import service_client, wire
from retrieval.corpus import Corpus
from retrieval.documents import Ordinals, TableOrdinals
from retrieval.memory import MemoryReader
from retrieval.neighbours import NeighbourReader
from retrieval.served_memory import ServedMemory
from retrieval.served_searching import ServedSearcher
from retrieval.service_client import Body, ServiceClient
from retrieval.tokens import Tokens
from storage import components, errors, ids, passage_table
from storage.aliases import Json
from storage.components import Component
from storage.components.base import C
from storage.fields import Fields
from storage.files import FileEntry
from storage.folder import CorpusFolder
from storage.manifest import Manifest
from storage.passage_table import PassageTable
from storage.thread_locks import ThreadLock
from storage.tombstones import Tombstones

_COMPONENTS: Final = (components.MEMORY, components.VECTORS, components.INDEX, components.TOKENS)


class ServedFolder(CorpusFolder):
    """What a service tells of its corpus's folder: its cards. What else is asked of it is refused."""

    def __init__(self, client: ServiceClient, description: Json) -> None:
        """
        Raises:
            CorpusError: the description is misshapen.
        """
        self.client = client
        fields = Fields(description, f"service {client}")
        self._told: dict[tuple[str, str], Any] = {}
        cards: dict[str, dict[str, FileEntry]] = {component.noun: {} for component in components.TABLE}
        told = fields.nested("cards")
        for component in _COMPONENTS:
            for name, card in told.object(component.noun).items():
                self._told[component.noun, name] = component.card.from_json(card, f"{client}: {name[:40]}")
                entry = FileEntry(path=f"{component.noun}/{name}", bytes=0, crc32=0)
                cards[component.noun][name] = entry
        self._manifest = Manifest(
            settings={}, sources=(), cards=cards, aliases=fields.texts_by_name("aliases")
        )

    def __str__(self) -> str:
        return self.client.url

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise errors.CorpusError(
            f"{self.client} is a service: this needs the corpus's folder itself; open that"
        )

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a served corpus travels as its address; pickle the corpus itself")

    def refresh(self) -> None:
        """Nothing to do: a served corpus stays as it was opened."""

    def card_at(self, component: Component[C], name: str, entry: FileEntry) -> C:
        found = self._told.get((component.noun, name))
        if not isinstance(found, component.card):
            raise errors.CorpusError(f"service {self.client} has no {component.noun} {name[:100]!r}")
        return found


class ServedSegment:
    """All of a served corpus's passages as one segment: where its cards are."""

    number = first = 0

    def __init__(self, folder: ServedFolder, passages: int) -> None:
        self.folder, self.manifest = folder, folder.manifest
        self.passages = self.stop = passages

    def card(self, component: Component[C], name: str = "") -> C:
        entries = self.manifest.of(component)
        if name not in entries:
            raise errors.CorpusError(f"service {self.folder} has no {component.noun} {name[:100]!r}")
        return self.folder.card_at(component, name, entries[name])


class ServedTable(PassageTable):
    """The passage table out of a service."""

    def __init__(self, client: ServiceClient, passages: int, state: str, limits: dict[str, int]) -> None:
        self._client, self._passages = client, passages
        self._state, self._limits = state, limits

    def __len__(self) -> int:
        return self._passages

    def take(self, wanted: npt.ArrayLike, *, columns: Sequence[str] | None = None) -> pa.Table:
        rows = ids.as_ids(wanted, len(self))
        schema = passage_table.SCHEMA
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])

        def read(body: Body) -> pa.Table:
            data = body.whole(self._limits["answer_bytes"])
            try:
                found = pa.ipc.open_stream(data).read_all()
            except pa.ArrowException:
                found = None
            if found is None or not found.schema.equals(schema):
                raise errors.DamagedError(f"service {self._client} answered with no passages")
            return found

        tables = []
        for first in range(0, len(rows), self._limits["ids"]):
            part = rows[first : first + self._limits["ids"]].tolist()
            given: Json = {"ids": part} if columns is None else {"ids": part, "columns": list(columns)}
            found = self._client.post(
                "/v1/passages", given, read, accept=wire.ARROW, memcorpus_state=self._state
            )
            if found.num_rows != len(part):
                raise errors.DamagedError(f"service {self._client} answered with other passages")
            tables.append(found)
        return pa.concat_tables(tables).combine_chunks() if tables else schema.empty_table()


class ServedCorpus(Corpus):
    """A corpus that a service holds. Thread-safe, and free to be used in processes that are forked.

    It stays as it was opened: memory versions by their names, passages and index by the service's state.
    Where the service has let go of these, an error says so.
    """

    def __init__(self, client: ServiceClient, description: Json, *, retriever: str | None = None) -> None:
        """Made by `open_corpus`.

        Args:
            client: of the service.
            description: what `service_client.describe` gave.
            retriever: that reads texts here; None: the service's own.

        Raises:
            CorpusError: the description is misshapen.
        """
        fields = Fields(description, f"service {client}")
        self.client = client
        self.folder = ServedFolder(client, description)
        self.manifest = self.folder.manifest
        self.state = fields.text("state")
        limits = fields.nested("limits")
        self._limits = {
            name: limits.integer(name, least=1) for name in ("k", "queries", "ids", "answer_bytes")
        }
        self._counts = {name: int(count) for name, count in fields.object("counts").items()}
        self._generation = fields.integer("generation")
        given = fields.integer("ids_given")
        self.tombstones = (
            _removed(client, self.state, given) if fields.integer("removed") else Tombstones(given, [])
        )
        if len(self) != fields.integer("passages"):
            raise errors.DamagedError(f"service {client} told of other passages than it has removed")
        self.segments = cast(Any, (ServedSegment(self.folder, given),))
        self._table = ServedTable(client, given, self.state, self._limits)
        self._retriever_name = retriever
        self._searcher = ServedSearcher(
            client,
            self.folder,
            self.segments,
            self.tombstones,
            state=self.state,
            limits=self._limits,
            retriever=retriever,
            refines_there=fields.boolean("refines") if "refines" in fields else None,
        )
        self._lock = ThreadLock()
        self._tokens = None

    def __reduce__(self) -> tuple[object, ...]:
        """Workers of a data loader open it again; what has changed since is refused there."""
        return _again, (self.client, self.state, self._retriever_name, self._searcher.refines)

    @property
    def root(self) -> Path:
        """
        Raises:
            CorpusError: always; the folder is the service's.
        """
        return self.folder.root

    @property
    def counts(self) -> dict[str, int]:
        """The reconciled counts of the build; docs/format.md lists them."""
        return dict(self._counts)

    @property
    def generation(self) -> int:
        """The update that it is opened as of; 0: as it was built."""
        return self._generation

    @property
    def ids_given(self) -> int:
        """One more than the last passage id that was ever given; an id is never given twice."""
        return self.tombstones.passages

    @property
    def ordinals(self) -> Ordinals:
        """The place of each passage in its document."""
        if self.generation:
            raise errors.CorpusError(
                f"the corpus in {self.folder} was updated: an article's passages may lie in several "
                "generations, and do not follow each other; look for their page_id, or open generation=0"
            )
        return TableOrdinals(self._table)

    def ids(self, keys: Sequence[str]) -> npt.NDArray[np.int64]:
        """
        Raises:
            CorpusError: always; it takes the keys of the whole corpus.
        """
        raise errors.CorpusError(f"{self.client} is a service, which looks up no keys; open the folder")

    def memory(self, version: str | None = None, *, check: str = "once") -> MemoryReader:
        """As `Corpus.memory`."""
        card = self._memory_card(self.manifest.version(version))
        return ServedMemory(
            self.client,
            card,
            state=self.state,
            limits=self._limits,
            check=check,
            tombstones=self.tombstones,
            reopen=(_memory_again, self.client, self.state, card.version, check),
        )

    def tokens(self, passage_ids: npt.ArrayLike) -> Tokens:
        """As `Corpus.tokens`."""
        wanted = self._ids(passage_ids)
        card = self.tokens_card
        values = np.zeros((len(wanted), card.passage_tokens), card.layout.dtype)
        lengths = np.zeros(len(wanted), np.int64)
        for first in range(0, len(wanted), self._limits["ids"]):
            part = slice(first, first + self._limits["ids"])

            def read(body: Body, part: slice = part) -> None:
                found = wire.unpack(body.whole(self._limits["answer_bytes"]))
                for name, target in (("values", values[part]), ("lengths", lengths[part])):
                    one = found.get(name)
                    if one is None or (one.dtype, one.shape) != (target.dtype, target.shape):
                        raise errors.DamagedError(f"service {self.client} answered with other tokens")
                    target[:] = one

            self.client.post(
                "/v1/tokens",
                {"ids": wanted[part].tolist()},
                read,
                accept=wire.SAFETENSORS,
                memcorpus_state=self.state,
            )
        return Tokens(values=values, lengths=lengths)

    def neighbours(self, name: str | None = None) -> NeighbourReader:
        """
        Raises:
            CorpusError: always; tables of neighbours are not served.
        """
        raise errors.CorpusError(
            f"{self.client} is a service, which gives no tables of neighbours; open the folder"
        )


def open_service(url: str, *, token: str | None = None, retriever: str | None = None) -> ServedCorpus | None:
    """The corpus that a service at an address holds; None where something else answers there.

    Raises:
        CorpusError: the service wants a token, speaks a later protocol, or describes no corpus.
        UnreadableError: nothing answers.
    """
    client = ServiceClient(url, token)
    description = service_client.describe(client)
    return None if description is None else ServedCorpus(client, description, retriever=retriever)


def _removed(client: ServiceClient, state: str, given: int) -> Tombstones:
    """The ids that updates removed.

    Raises:
        CorpusError: what the service says of them makes no sense.
    """

    def read(body: Body) -> Tombstones:
        found = wire.unpack(body.whole(16 * given + wire.MAX_HEADER_BYTES))
        gone, by, dropped = (found.get(name) for name in ("ids", "generations", "dropped"))
        if gone is None or by is None or dropped is None or gone.shape != by.shape or dropped.shape != (1,):
            raise errors.DamagedError(f"service {client} answered with no list of removed passages")
        lists = [(int(number), np.array(gone[by == number])) for number in np.unique(by)]
        return Tombstones(given, lists, dropped=int(dropped[0]))

    return client.get("/v1/removed", read, accept=wire.SAFETENSORS, memcorpus_state=state)


def _memory_again(client: ServiceClient, state: str, version: str, check: str) -> MemoryReader:
    return _again(client, state, None, None).memory(version, check=check)


def _again(client: ServiceClient, state: str, retriever: str | None, refines: bool | None) -> ServedCorpus:
    description = service_client.describe(client)
    if description is None or description.get("state") != state:
        raise errors.CorpusError(f"the corpus served at {client} has changed; open it again")
    opened = ServedCorpus(client, description, retriever=retriever)
    opened.refines = refines
    return opened
