"""The HTTP API: each route a few lines, between what a request asks (`asking`) and how it is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from encoders.errors import EncoderError
from pipeline.service import answering, asking, description, guards, page, problems, sending
from pipeline.service.batching import Batcher
from pipeline.service.looking import Looker
from pipeline.service.metrics import CONTENT_TYPE, Metrics
from pipeline.service.sending import Budget, Parts
from pipeline.service.settings import ServiceSettings
from pipeline.service.states import State, States
from retrieval import wire
from retrieval.corpus import Corpus
from retrieval.memory import MemoryReader
from storage import components, errors
from storage.aliases import AnyArray

T = TypeVar("T")
# Fetches that run at a time; each reads on several threads of its own.
FETCHES: Final = 4
# Answers of memory that are on their way together, in units of the largest.
ANSWERS: Final = 4

Endpoint = Callable[[Request], Awaitable[Response]]


class Service:
    """One process's part of a service: the corpus, and what answers from it."""

    def __init__(self, open_corpus: Callable[[], Corpus], settings: ServiceSettings) -> None:
        """Open the corpus, its index and its memory, so that the first request waits for none of them.

        Raises:
            CorpusError: there is no corpus, or it lacks what the settings name.
        """
        self.settings = settings
        self.states = States(open_corpus, settings)
        state = self.states.take(None)
        state.memory(state.version(None))
        if state.has_index:
            state.corpus.open_index()
        self.reads_texts = self._has_retriever(state.corpus)
        self.metrics = Metrics()
        self.looker = Looker(settings)
        self.ready = False
        self._threads = ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch")
        self._answerer: Any = None
        self._answering = ThreadPoolExecutor(1, thread_name_prefix="answer")
        self.batcher = Batcher(
            most=settings.batch,
            waiting=settings.limits.waiting,
            window_seconds=settings.window_ms / 1000,
            told=self.metrics.batch,
        )
        self.budget = Budget(
            ANSWERS * settings.limits.answer_bytes,
            waiting=settings.limits.waiting,
            seconds=settings.client_seconds,
        )
        self._fetching = 0
        # What a server is given.
        self.guard = guards.Guard(self._router(), settings, self.metrics)

    def _has_retriever(self, corpus: Corpus) -> bool:
        """Load the retriever, so that the first query does not wait for it. Without it vectors are served."""
        try:
            corpus.retriever()
        except (errors.CorpusError, EncoderError, OSError) as e:
            if self.settings.retriever is not None:
                raise
            problems.LOG.warning("queries given as text are refused: %s", e)
            return False
        return True

    def _router(self) -> Router:
        routes = [
            ("/v1/search", self.search, ["GET", "POST"]),
            ("/v1/passages", self.passages, ["POST"]),
            ("/v1/memory", self.memory, ["POST"]),
            ("/v1/memory/lengths", self.lengths, ["POST"]),
            ("/v1/memory/{version}/parameters", self.parameters, ["GET"]),
            ("/v1/vectors", self.vectors, ["POST"]),
            ("/v1/tokens", self.tokens, ["POST"]),
            ("/v1/removed", self.removed, ["GET"]),
            ("/v1/corpus", self.corpus, ["GET"]),
            ("/v1/figures", self.figures, ["GET"]),
            ("/v1/look/{passage_id}", self.look, ["GET"]),
            ("/v1/answer", self.answer, ["POST"]),
            ("/healthz", self.healthz, ["GET"]),
            ("/readyz", self.readyz, ["GET"]),
            ("/metrics", self.counted, ["GET"]),
            ("/openapi.json", self.openapi, ["GET"]),
            *((path, page.serve, ["GET"]) for path in page.FILES),
        ]
        made = [Route(path, _named(path, endpoint), methods=methods) for path, endpoint, methods in routes]
        return Router(routes=made, lifespan=self._lifespan, redirect_slashes=False)

    @asynccontextmanager
    async def _lifespan(self, _: Router) -> AsyncIterator[None]:
        following = asyncio.create_task(self._follow())
        self.ready = True
        try:
            yield
        finally:
            self.ready = False
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            self.batcher.close()
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._answering.shutdown(wait=False, cancel_futures=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self.settings.follow_seconds)
            before = self.states.switches
            try:
                await asyncio.to_thread(self.states.look)
            except Exception as e:  # a bug of ours, but no reason to stop serving
                problems.LOG.error("cannot follow the corpus", exc_info=e)
            self.metrics.switches.inc(self.states.switches - before)

    async def _read(self, stage: str, work: Callable[[], T]) -> T:
        """What a thread reads; too many that wait are refused."""
        if self._fetching >= FETCHES + self.settings.limits.waiting:
            raise problems.busy("too many requests wait for the disk already; try again in a second")
        self._fetching += 1
        started = time.perf_counter()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._fetching -= 1
            self.metrics.stages.labels(stage).observe(time.perf_counter() - started)

    def _state(self, request: Request) -> State:
        return self.states.take(request.headers.get(wire.STATE))

    # --- what is asked

    async def search(self, request: Request) -> Response:
        """`GET` and `POST /v1/search`."""
        state = self._state(request)
        if not state.has_index:
            raise problems.refused("this corpus has no index to search in", 404)
        asked = await asking.searching(
            request,
            self.settings.limits,
            passages=len(state.corpus),
            dim=state.corpus.vectors_card.layout.dim,
        )
        if isinstance(asked.queries, list) and not self.reads_texts:
            raise problems.refused("this service has no retriever to read texts with; search by vector")
        if asked.refine and state.corpus.vectors_are_remote:
            raise problems.refused(
                "this service reads its vectors from an object store, some for each hit; leave out refine"
            )
        kind = asking.accepted(request, wire.JSON, wire.SAFETENSORS)
        self.metrics.waiting.set(self.batcher.waiting)
        if len(asked.queries):
            found = await self.batcher.search(state.corpus, asked.queries, asked.k, asked.refine)
        else:
            found = await self._read(
                "search", lambda: state.corpus.search(np.zeros((0, _dim(state))), asked.k)
            )
        if kind == wire.SAFETENSORS:
            arrays: dict[str, AnyArray] = {"passage_ids": found.passage_ids, "scores": found.scores}
            return self._parts(wire.pack(arrays), kind, state)
        results = await self._read(
            "passages", lambda: answering.found_as_json(state.rows, found, passages=asked.passages)
        )
        return _json({"state": state.name, "results": results}, state)

    async def passages(self, request: Request) -> Response:
        """`POST /v1/passages`."""
        state = self._state(request)
        given = await asking.fields(request, self.settings.limits, ("ids", "columns"))
        ids = asking.passage_ids(given, state.corpus, self.settings.limits)
        columns = asking.columns(given)
        kind = asking.accepted(request, wire.JSON, wire.ARROW)
        table = await self._read("passages", lambda: state.corpus.passages(ids, columns=columns))
        if kind == wire.ARROW:
            return self._parts([answering.table_as_arrow(table)], kind, state)
        return _json({"state": state.name, "passages": answering.passages_as_json(table)}, state)

    async def memory(self, request: Request) -> Response:
        """`POST /v1/memory`."""
        state = self._state(request)
        limits = self.settings.limits
        given = await asking.fields(request, limits, ("ids", "version", "tokens", "decode"))
        kind = asking.accepted(request, wire.SAFETENSORS, wire.ARROW)
        reader = await self._reader(state, asking.version(given))
        ids = asking.passage_ids(given, state.corpus, limits)
        tokens = asking.memory_tokens(given)
        decode: bool = asking.taken(given, "decode", "true or false", True)
        size = answering.memory_bytes(reader, len(ids) * reader.card.layout.max_tokens, decode=decode)
        if size > limits.answer_bytes:  # maybe they are shorter than that
            lengths = await self._read("lengths", lambda: answering.lengths(reader, ids, tokens))
            size = answering.memory_bytes(reader, int(lengths.sum()), decode=decode)
        if size > limits.answer_bytes:
            raise problems.over_limit("answer_bytes", size, limits.answer_bytes, "bytes of memory")
        return _Memory(self, state, reader, ids, tokens, decode=decode, kind=kind, size=size)

    async def lengths(self, request: Request) -> Response:
        """`POST /v1/memory/lengths`."""
        state = self._state(request)
        given = await asking.fields(request, self.settings.limits, ("ids", "version"))
        reader = await self._reader(state, asking.version(given))
        ids = asking.passage_ids(given, state.corpus, self.settings.limits)
        kind = asking.accepted(request, wire.JSON, wire.SAFETENSORS)
        lengths = await self._read("lengths", lambda: answering.lengths(reader, ids, None))
        headers = answering.memory_headers(reader.card)
        if kind == wire.SAFETENSORS:
            return self._parts(wire.pack({"tokens": lengths}), kind, state, headers)
        return _json({"version": reader.version, "tokens": lengths.tolist()}, state, headers)

    async def parameters(self, request: Request) -> Response:
        """`GET /v1/memory/{version}/parameters`."""
        state = self._state(request)
        reader = await self._reader(state, request.path_params["version"])
        found = await self._read("parameters", lambda: reader.coder.parameters)
        headers = answering.memory_headers(reader.card)
        return self._parts(wire.pack(dict(found)), wire.SAFETENSORS, state, headers)

    async def vectors(self, request: Request) -> Response:
        """`POST /v1/vectors`."""
        state = self._state(request)
        if not state.has_vectors:
            raise problems.refused("this corpus has no vectors", 404)
        given = await asking.fields(request, self.settings.limits, ("ids",))
        ids = asking.passage_ids(given, state.corpus, self.settings.limits)
        kind = asking.accepted(request, wire.JSON, wire.SAFETENSORS)
        found = await self._read("vectors", lambda: state.corpus.vectors().take(ids))
        if kind == wire.SAFETENSORS:
            return self._parts(wire.pack({"vectors": found}), kind, state)
        return _json({"state": state.name, "vectors": found.astype(np.float64).tolist()}, state)

    async def tokens(self, request: Request) -> Response:
        """`POST /v1/tokens`."""
        state = self._state(request)
        with problems.of_request():
            if not state.corpus.manifest.of(components.TOKENS):
                raise errors.CorpusError("this corpus has no tokens: its passages are cut by words")
        given = await asking.fields(request, self.settings.limits, ("ids",))
        ids = asking.passage_ids(given, state.corpus, self.settings.limits)
        kind = asking.accepted(request, wire.JSON, wire.SAFETENSORS)
        found = await self._read("tokens", lambda: state.corpus.tokens(ids))
        if kind == wire.SAFETENSORS:
            arrays: dict[str, AnyArray] = {"values": found.values, "lengths": found.lengths}
            return self._parts(wire.pack(arrays), kind, state)
        rows = [row[:n] for row, n in zip(found.values.tolist(), found.lengths.tolist(), strict=True)]
        return _json({"state": state.name, "tokens": rows}, state)

    async def removed(self, request: Request) -> Response:
        """`GET /v1/removed`."""
        state = self._state(request)
        lists = state.corpus.tombstones.lists
        nothing = np.zeros(0, np.int64)
        arrays: dict[str, AnyArray] = {
            "ids": np.concatenate([nothing, *(gone for _, gone in lists)]),
            "generations": np.concatenate([nothing, *(np.full(len(gone), n) for n, gone in lists)]),
            "dropped": np.array([state.corpus.tombstones.dropped], np.int64),
        }
        return self._parts(wire.pack(arrays), wire.SAFETENSORS, state)

    async def corpus(self, request: Request) -> Response:
        """`GET /v1/corpus`."""
        state = self._state(request)
        return _json(state.description(), state)

    async def figures(self, request: Request) -> Response:
        """`GET /v1/figures`."""
        state = self._state(request)
        return _json(await self._read("figures", lambda: self.looker.figures(state)), state)

    async def look(self, request: Request) -> Response:
        """`GET /v1/look/{passage_id}`."""
        state = self._state(request)
        text = request.path_params["passage_id"]
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise problems.refused(f"passage id {text[:40]!r} is no whole number")
        limits = self.settings.limits
        ids = asking.passage_ids({"ids": [int(text)]}, state.corpus, limits)
        version = await self._reader(state, request.query_params.get("version"))
        other = request.query_params.get("other")
        second = None if other is None else await self._reader(state, other)
        return _json(
            await self._read("look", lambda: self.looker.look(state, int(ids[0]), version, second)), state
        )

    async def answer(self, request: Request) -> Response:
        """`POST /v1/answer`."""
        if self.settings.reader is None:
            raise problems.refused("this service has no reader; it was started without --reader", 404)
        given = await asking.fields(request, self.settings.limits, ("questions",))
        questions = asking.questions(given, self.settings.limits)
        state = self._state(request)
        found = await asyncio.get_running_loop().run_in_executor(
            self._answering, lambda: self.looker.answers(state, questions)
        )
        return _json({"state": state.name, **found}, state)

    async def healthz(self, _: Request) -> Response:
        """`GET /healthz`: does the process answer?"""
        return JSONResponse({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """`GET /readyz`: may it be given requests?"""
        if not self.ready or self.guard.draining:
            raise problems.busy("not ready, or about to end", 503)
        return JSONResponse({"status": "ready"})

    async def counted(self, _: Request) -> Response:
        """`GET /metrics`."""
        self.metrics.waiting.set(self.batcher.waiting)
        self.metrics.held.set(self.budget.held)
        return Response(await asyncio.to_thread(self.metrics.page), headers={"content-type": CONTENT_TYPE})

    async def openapi(self, _: Request) -> Response:
        """`GET /openapi.json`."""
        return JSONResponse(description.openapi(self.settings))

    async def _reader(self, state: State, asked: str | None) -> MemoryReader:
        """The memory version that is asked for, open.

        Raises:
            Problem: there is none of that name, or it has been removed.
        """
        with problems.of_request():
            name = state.version(asked)
        if (known := state.opened(name)) is not None:
            return known
        try:
            return await self._read("open", lambda: state.memory(name))
        except errors.DamagedError:
            raise
        except errors.CorpusError:
            raise problems.Problem(
                410,
                problems.CHANGED,
                f"memory version {name} has been removed since the corpus was opened; open it again",
            ) from None

    def _parts(
        self, parts: list[memoryview], kind: str, state: State, headers: dict[str, str] | None = None
    ) -> Parts:
        more = {**_headers(state), **(headers or {})}
        return Parts(parts, kind, more, seconds=self.settings.client_seconds)


class _Memory(Response):
    """Memory, fetched when there is room for it, and sent from the buffer it was read into."""

    def __init__(
        self,
        service: Service,
        state: State,
        reader: MemoryReader,
        ids: npt.NDArray[np.int64],
        tokens: slice | None,
        *,
        decode: bool,
        kind: str,
        size: int,
    ) -> None:
        super().__init__()
        self._service, self._state, self._reader = service, state, reader
        self._ids, self._tokens, self._decode = ids, tokens, decode
        self._kind, self._size = kind, size

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        service, card = self._service, self._reader.card
        twice = 2 if self._kind == wire.ARROW else 1  # there it is written once more, as Arrow has it
        async with service.budget.hold(twice * self._size):
            parts, digest = await service._read("fetch", self._fetched)
            headers = {**answering.memory_headers(card), sending.DIGEST: digest}
            answer = service._parts(parts, self._kind, self._state, headers)
            del parts
            await answer(scope, receive, send)

    def _fetched(self) -> tuple[list[memoryview], str]:
        card = self._reader.card
        with problems.of_version(card.version):
            memory = self._reader.fetch(self._ids, tokens=self._tokens, decode=self._decode)
        if self._kind == wire.ARROW:
            parts = [answering.memory_as_arrow(memory, card)]
        else:
            parts = answering.memory_parts(memory, card)
        return parts, sending.digest(parts)


def _named(path: str, endpoint: Endpoint) -> Endpoint:
    async def named(request: Request) -> Response:
        request.scope[guards.ROUTE] = path
        return await endpoint(request)

    return named


def _dim(state: State) -> int:
    return state.corpus.vectors_card.layout.dim


def _headers(state: State) -> dict[str, str]:
    return {wire.STATE: state.name, "cache-control": "no-store"}


def _json(value: Any, state: State, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(value, headers={**_headers(state), **(headers or {})})
