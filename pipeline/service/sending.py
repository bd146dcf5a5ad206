"""Answers of many bytes: sent from where they lie, piece by piece, and given up where nobody takes them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from pipeline.service import problems
from storage import files

PIECE_BYTES: Final = 1 << 20
# RFC 9530. TCP's own sums let one error in some billions of packets through, and proxies make others.
DIGEST: Final = "content-digest"
# What the protocol leaves in the scope: a connection's end without waiting for who does not read.
ABORT: Final = "memcorpus.abort"


def digest(parts: Sequence[memoryview]) -> str:
    """The CRC-32C of a body, as the header has it."""
    value = 0
    for part in parts:
        value = files.crc32c(part, value)
    return f"crc32c=:{base64.b64encode(value.to_bytes(4, 'big')).decode()}:"


class Budget:
    """Bytes of answers that are on their way, all together. Belongs to one event loop."""

    def __init__(self, limit: int, *, waiting: int, seconds: float) -> None:
        self._limit, self._waiting, self._seconds = limit, waiting, seconds
        self._held = 0
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def held(self) -> int:
        return self._held

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold so many bytes; an answer of more than there are at all is sent alone.

        Raises:
            Problem: too many wait, or for too long.
        """
        size = min(size, self._limit)
        until = asyncio.get_running_loop().time() + self._seconds
        while self._held + size > self._limit:
            if len(self._waiters) >= self._waiting:
                raise problems.busy(f"{len(self._waiters)} answers wait already; try again in a second")
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                async with asyncio.timeout_at(until):
                    await waiter
            except TimeoutError:
                raise problems.busy("other answers are still on their way; try again", 503) from None
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        self._held += size
        try:
            yield
        finally:
            self._held -= size
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters = []


class Parts(Response):
    """An answer out of buffers, none of which is copied on its way to the socket."""

    def __init__(
        self, parts: Sequence[memoryview], media_type: str, headers: Mapping[str, str], *, seconds: float
    ) -> None:
        """
        Args:
            parts: bytes; sent one after the other.
            seconds: that a client may take for each `PIECE_BYTES`.
        """
        super().__init__(status_code=200, headers=dict(headers), media_type=media_type)
        self.parts = [part.cast("B") for part in parts]
        self.size = sum(len(part) for part in self.parts)
        self.headers["content-length"] = str(self.size)
        if DIGEST not in headers:
            self.headers[DIGEST] = digest(self.parts)
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def put(message: Message) -> None:
            async with asyncio.timeout(self._seconds):
                await send(message)

        try:
            await put(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            for part in self.parts:
                for at in range(0, len(part), PIECE_BYTES):
                    piece = part[at : at + PIECE_BYTES]
                    await put({"type": "http.response.body", "body": piece, "more_body": True})
            # Waits until the last piece has left: only then its memory is given back.
            await put({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            problems.LOG.warning("a client took longer than %s s for a piece, and is left", self._seconds)
            if (abort := scope.get(ABORT)) is not None:
                abort()
