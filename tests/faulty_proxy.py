"""A proxy in front of an S3 server that does harm: lost answers, errors, cut and slow bodies; and counts."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

LOST = "the answer is lost after the server has done it"
ERROR = "500, and the server never hears of it"
CONFLICT = "409 ConditionalRequestConflict"
SLOW_DOWN = "503 SlowDown"
CUT = "half of the body, then the connection is closed"
SLOW = "a second late"

_ANSWERS = {
    ERROR: (500, "InternalError"),
    CONFLICT: (409, "ConditionalRequestConflict"),
    SLOW_DOWN: (503, "SlowDown"),
}


class _Quiet(ThreadingHTTPServer):
    """A client that is killed while it is answered is no news."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        return


class Proxy:
    """What it does to requests is up to `fault`, which is told method, path and headers.

    Attributes:
        requests: by method.
        bytes: of bodies, both ways.
        faults: by kind.
    """

    def __init__(self, endpoint: str) -> None:
        self.fault: Callable[[str, str, dict[str, str]], str | None] = lambda method, path, headers: None
        self.requests: Counter[str] = Counter()
        self.bytes = 0
        self.faults: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.host = urlsplit(endpoint).netloc
        self.server = _Quiet(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                return

            def _any(self) -> None:
                # Read first: a client that is answered in the middle of its body breaks off.
                body = self._body()
                headers = {name.lower(): value for name, value in self.headers.items()}
                fault = proxy.fault(self.command, self.path, headers)
                with proxy.lock:
                    proxy.requests[self.command] += 1
                    proxy.bytes += len(body)
                    if fault:
                        proxy.faults[fault] += 1
                if fault in _ANSWERS:
                    status, code = _ANSWERS[fault]
                    self._answer(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
                    return
                if fault == SLOW:
                    time.sleep(1)
                status, found, data = proxy.forward(self.command, self.path, dict(self.headers), body)
                with proxy.lock:
                    proxy.bytes += len(data)
                if fault == LOST:
                    self.close_connection = True
                    return
                self._answer(status, found, data, cut=fault == CUT)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                    pieces = []
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        pieces.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(pieces)
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def _answer(self, status: int, headers: dict[str, str], data: bytes, cut: bool = False) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                length = headers.get("Content-Length", len(data)) if self.command == "HEAD" else len(data)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                if cut and data:
                    self.wfile.write(data[: len(data) // 2])
                    self.wfile.flush()
                    self.close_connection = True
                    return
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

        return Handler

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            # The host as the client signed it.
            kept = {k: v for k, v in headers.items() if k.lower() not in ("transfer-encoding", "connection")}
            connection.request(method, path, body=body or None, headers=kept)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()


@contextmanager
def before(endpoint: str) -> Iterator[Proxy]:
    """A proxy before a server."""
    proxy = Proxy(endpoint)
    thread = threading.Thread(target=proxy.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join()
