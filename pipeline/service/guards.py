"""What every request passes: who may ask, what is counted, and what becomes of an error."""

from __future__ import annotations

import hmac
import time
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.service import problems, sending
from pipeline.service.metrics import Metrics
from pipeline.service.settings import ServiceSettings

# Asked by what keeps a service alive, and the page, which asks for the token itself.
OPEN: Final = frozenset({"/", "/page.js", "/page.css", "/healthz", "/readyz", "/openapi.json"})
NOTHING: Final = "default-src 'none'; frame-ancestors 'none'"
PAGE: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
# Set by what routes a request: how metrics call it.
ROUTE: Final = "memcorpus.route"


class Guard:
    """Around the whole application.

    A service without a token answers on this machine alone, and only under its names: a page of another
    host, whose name was made to point here, bears that name in `Host`.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._token = None if settings.token is None else f"Bearer {settings.token}".encode()
        self._local_names = settings.token is None and settings.local and not settings.without_token
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Routes raise their 404 and 405 where there is an application that answers for them.
        scope["app"] = self
        started = time.perf_counter()
        status = sent = 0

        async def told(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = list(message.get("headers", []))
                headers += [
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"content-security-policy", (PAGE if scope["path"] == "/" else NOTHING).encode()),
                ]
                if self.draining:
                    headers.append((b"connection", b"close"))
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            try:
                self._require(scope)
                await self._app(scope, receive, told)
            except problems.Problem as e:
                refusal = e
            except HTTPException as e:
                refusal = problems.Problem(
                    e.status_code, problems.OTHER, _of_status(e.status_code), headers=dict(e.headers or {})
                )
            except Exception as e:
                refusal = problems.of_error(e)
            else:
                return
            if status:  # what was begun cannot be taken back, only broken off
                if (abort := scope.get(sending.ABORT)) is not None:
                    abort()
                return
            await refusal.response()(scope, receive, told)
        finally:
            route = scope.get(ROUTE, "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)
            self._metrics.bytes.labels(route).inc(sent)

    def _require(self, scope: Scope) -> None:
        """
        Raises:
            Problem: it may not be asked by this client.
        """
        headers = scope["headers"]
        if self._local_names:
            hosts = [value for name, value in headers if name == b"host"]
            host = hosts[0].decode("latin-1").lower() if hosts else ""
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if len(hosts) > 1 or name not in _LOCAL:
                raise problems.Problem(
                    403,
                    problems.REFUSED,
                    "this service is for its own machine: ask it as localhost, or start it with a token",
                )
        if self._token is None or scope["path"] in OPEN:
            return
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) != 1 or not hmac.compare_digest(given[0], self._token):
            raise problems.Problem(
                401,
                problems.TOKEN,
                "this service wants its token: Authorization: Bearer TOKEN",
                headers={"www-authenticate": "Bearer"},
            )


def _of_status(status: int) -> str:
    return {404: "there is nothing at this path", 405: "this path does not take this method"}.get(
        status, "the request cannot be answered"
    )
