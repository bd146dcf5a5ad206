"""Uvicorn, told what it does not know: when a client is too slow or asks for too much, and how to end.

A service that is told to end goes on for a moment: it answers, and asks each client to close its connection.
So a client that keeps a connection is told before it is closed, and nothing that was asked is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
from types import FrameType
from typing import Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline.service import problems, sending
from pipeline.service.routes import Service
from pipeline.service.settings import ServiceSettings

HEAD_BYTES: Final = 1 << 16
KEEP_ALIVE_SECONDS: Final = 75
_BACKLOG: Final = 4096


def protocol(settings: ServiceSettings) -> type[HttpToolsProtocol]:
    """A class of connections that keep to the settings' limits."""

    class Connection(HttpToolsProtocol):
        """One client."""

        _due: asyncio.TimerHandle | None = None
        _head = 0
        _in_head = True
        _ending = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect()
            if len(self.connections) > settings.connections:
                self._refuse(problems.busy("too many connections; try again in a second", 503))

        def connection_lost(self, exc: Exception | None) -> None:
            self._came()
            super().connection_lost(exc)

        def _expect(self) -> None:
            """From now on a request is to come whole within the client's time."""
            if self._due is None:
                self._due = self.loop.call_later(settings.client_seconds, self._late)

        def _came(self) -> None:
            if self._due is not None:
                self._due.cancel()
                self._due = None

        def _late(self) -> None:
            self._due = None
            if self.transport.is_closing():
                return
            if self.cycle is None or self.cycle.response_complete:
                self._refuse(problems.Problem(408, problems.REFUSED, "the request took too long to come"))
            else:
                self.transport.abort()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if self._in_head:
                self._head += len(data)
            super().data_received(data)
            if self._in_head and self._head > HEAD_BYTES:
                self._refuse(
                    problems.Problem(
                        431, problems.LIMIT, f"the request's head is longer than {HEAD_BYTES:,} bytes"
                    )
                )

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._in_head = True
            self._expect()
            self.scope[sending.ABORT] = self.transport.abort  # type: ignore[typeddict-unknown-key]

        def on_headers_complete(self) -> None:
            self._in_head, self._head = False, 0
            super().on_headers_complete()
            if self._ending:
                self.cycle.keep_alive = False

        def on_message_complete(self) -> None:
            self._in_head, self._head = True, 0
            self._came()
            super().on_message_complete()

        def shutdown(self) -> None:
            """End when nothing is asked any more: what was sent before the client could know is answered."""
            self._ending = True
            if self.cycle is None or self.cycle.response_complete:
                self.loop.call_later(settings.drain_seconds, self._end)
            else:
                self.cycle.keep_alive = False

        def _end(self) -> None:
            # Who is in the middle of a request has the time that every client has.
            silent = self.cycle is None or self.cycle.response_complete
            if silent and not self._head and not self.transport.is_closing():
                self.transport.close()

        def send_400_response(self, msg: str) -> None:
            self._refuse(problems.Problem(400, problems.REFUSED, "this is no HTTP request"))

        def _refuse(self, problem: problems.Problem) -> None:
            """Answer in place of the application, and close."""
            if self.transport.is_closing():
                return
            body = problem.body()
            head = [
                f"HTTP/1.1 {problem.status} {problems.title(problem.status)}",
                "content-type: application/problem+json",
                f"content-length: {len(body)}",
                "connection: close",
                *(f"{name}: {value}" for name, value in problem.headers.items()),
            ]
            self.transport.write(("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body)
            self.transport.close()

    return Connection


class Server(uvicorn.Server):
    """Uvicorn's, which first tells its clients that it is about to end."""

    def __init__(self, config: uvicorn.Config, service: Service, drain_seconds: float) -> None:
        super().__init__(config)
        self._service, self._drain_seconds = service, drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        guard = self._service.guard
        if guard.draining or sig == signal.SIGINT:
            self.should_exit = True
            return
        guard.draining = True
        asyncio.get_running_loop().call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        asyncio.get_running_loop().call_later(self._drain_seconds, setattr, self, "should_exit", True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        came: list[socket.socket] = []
        # The kernel would reset who has connected and was not looked at yet. So hardly any are let wait, and
        # those are taken in, before the address is given up in the same breath.
        for one in sockets or []:
            one.listen(0)
            with contextlib.suppress(OSError):
                while True:
                    came.append(one.accept()[0])
        for server in self.servers:
            server.close()
        for one in came:
            one.setblocking(False)
            await loop.connect_accepted_socket(self._connection, one)
        await super().shutdown(sockets)

    def _connection(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


def serve(service: Service, settings: ServiceSettings, sockets: list[socket.socket]) -> None:
    """Answer on these sockets until told to end."""
    raise_open_files()
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    Server(config_of(service, settings), service, settings.drain_seconds).run(sockets=sockets)


def config_of(service: Service, settings: ServiceSettings) -> uvicorn.Config:
    """How Uvicorn is to run a service."""
    return uvicorn.Config(
        app=service.guard,
        http=protocol(settings),
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.client_seconds) + 1,
        backlog=_BACKLOG,
    )


def raise_open_files() -> None:
    """Each connection is an open file, and the usual limit is 1,024 of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 16
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, 1 << 16) if soft < 1 << 16 else soft, hard))


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: the address is taken, or not one of this machine.
    """
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(address)
    except OSError:
        made.close()
        raise
    made.listen(_BACKLOG)
    made.setblocking(False)
    made.set_inheritable(True)
    return made
