"""Asks a service (`memcorpus serve`): pooled connections, retries with a bound, and the errors of a folder.

A request is a question and changes nothing, so what got no whole answer is asked again. Bodies are checked
against the CRC-32C that comes with them before anything of them is used.
"""

from __future__ import annotations

import base64
import json
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from retrieval import wire
from storage import errors, files
from storage.thread_locks import ThreadLock

if TYPE_CHECKING:
    import urllib3

T = TypeVar("T")
TRIES: Final = 6
FIRST_WAIT_SECONDS: Final = 0.1
MOST_WAIT_SECONDS: Final = 3.0
CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 60.0
# Connections that wait for the next request; threads beyond that open their own.
KEPT_CONNECTIONS: Final = 32
PIECE_BYTES: Final = 1 << 18
MOST_JSON_BYTES: Final = 64 << 20
_AGAIN: Final = frozenset({408, 429, 502, 503, 504})
_KINDS: Final = "urn:memcorpus:"


class OtherServerError(errors.CorpusError):
    """What answers is no service of ours."""


class Body:
    """An answer's body, read as it comes."""

    def __init__(self, response: urllib3.BaseHTTPResponse, where: str) -> None:
        self.headers: Mapping[str, str] = response.headers
        self._response, self._where = response, where
        self._crc = 0

    def fill(self, target: memoryview) -> None:
        """Read exactly as many bytes as there is room for.

        Raises:
            ConnectionError: there are fewer.
        """
        at = 0
        while at < len(target):
            data = self._response.read(min(PIECE_BYTES, len(target) - at))
            if not data:
                raise ConnectionError(f"{self._where} broke off its answer")
            target[at : at + len(data)] = data
            at += len(data)
        self._crc = files.crc32c(target, self._crc)

    def whole(self, most: int) -> bytearray:
        """All of it.

        Raises:
            CorpusError: it is longer than that.
        """
        told = self.headers.get("content-length", "")
        size = int(told) if told.isdigit() else -1
        if not 0 <= size <= most:
            raise OtherServerError(f"{self._where} answered with {told or 'unknown'} bytes")
        data = bytearray(size)
        self.fill(memoryview(data))
        self.end()
        return data

    def end(self) -> None:
        """Require that nothing follows, and that what came is what was sent.

        Raises:
            ConnectionError: it is not.
        """
        if self._response.read(1):
            raise ConnectionError(f"{self._where} sent more than it announced")
        told = self.headers.get("content-digest", "")
        if told.startswith("crc32c=:"):
            sent = base64.b64decode(told.removeprefix("crc32c=:").rstrip(":"))
            if int.from_bytes(sent, "big") != self._crc:
                raise ConnectionError(f"what came from {self._where} is not what was sent")


class ServiceClient:
    """A service's address, and connections to it. Thread-safe, and free to be used after a fork."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._given = token
        self._token = token or os.environ.get(wire.TOKEN) or None
        self._lock = ThreadLock()
        self._pool: urllib3.PoolManager | None = None
        self._owner = 0

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[object, ...]:
        return ServiceClient, (self.url, self._given)

    def get(self, path: str, read: Callable[[Body], T], *, tries: int = TRIES, **headers: str) -> T:
        """What `read` makes of the answer to a GET."""
        return self._ask("GET", path, None, headers, read, tries)

    def post(
        self, path: str, body: bytes | Mapping[str, Any], read: Callable[[Body], T], **headers: str
    ) -> T:
        """What `read` makes of the answer to a POST of JSON, or of bytes of the type in `content_type`.

        Raises:
            CorpusError: the service refuses; of the class that a folder would have raised.
            UnreadableError: it cannot be reached, or is too busy.
        """
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content_type": wire.JSON, **headers}
        return self._ask("POST", path, data, given, read, TRIES)

    def _connections(self) -> urllib3.PoolManager:
        import urllib3

        with self._lock:
            # A forked process must not speak on its parent's connections.
            if self._pool is None or self._owner != os.getpid():
                self._pool = urllib3.PoolManager(
                    maxsize=KEPT_CONNECTIONS,
                    block=False,
                    retries=False,
                    timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
                )
                self._owner = os.getpid()
            return self._pool

    def _ask(
        self,
        method: str,
        path: str,
        data: bytes | None,
        headers: Mapping[str, str],
        read: Callable[[Body], T],
        tries: int,
    ) -> T:
        import urllib3

        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self._token is not None:
            given["authorization"] = f"Bearer {self._token}"
        for remaining in reversed(range(tries)):
            wait = 0.0
            try:
                response = self._connections().request(
                    method,
                    self.url + path,
                    body=data,
                    headers=given,
                    preload_content=False,
                    redirect=False,
                    decode_content=False,
                )
            except urllib3.exceptions.LocationValueError as e:
                raise errors.CorpusError(f"{self.url} is no address of a service: {e}") from None
            except (urllib3.exceptions.HTTPError, OSError) as e:
                failure = _reason(e)
            else:
                try:
                    body = Body(response, self.url)
                    if response.status == 200:
                        found = read(body)
                        response.release_conn()
                        return found
                    refusal = _refusal(response)
                    if response.status not in _AGAIN or not remaining:
                        self._raise(response.status, refusal)
                    failure = str(refusal.get("detail") or f"status {response.status}")
                    told = response.headers.get("retry-after", "")
                    wait = float(told) if told.isdigit() else 0.0
                except (urllib3.exceptions.HTTPError, OSError) as e:
                    if isinstance(e, errors.UnreadableError):
                        raise
                    failure = _reason(e)
                finally:
                    # What was not read to its end is no use to the next request.
                    response.close()
            if remaining:
                backoff = FIRST_WAIT_SECONDS * 2 ** (tries - 1 - remaining)
                time.sleep(min(MOST_WAIT_SECONDS, max(wait, backoff) * random.uniform(0.7, 1.3)))
        raise errors.UnreadableError(
            f"service {self.url} cannot be asked: {failure}; look after it or the network, and try again"
        )

    def _raise(self, status: int, refusal: Mapping[str, Any]) -> NoReturn:
        """The error that a refusal stands for."""
        told = str(refusal.get("type", ""))
        kind = told.removeprefix(_KINDS)
        detail = str(refusal.get("detail") or f"status {status}")
        said = f"service {self.url}: {detail}"
        if not told.startswith(_KINDS):
            if status in _AGAIN:  # of a proxy before it
                raise errors.UnreadableError(said)
            raise OtherServerError(said)
        if kind == "damaged":
            raise errors.DamagedError(said)
        if kind in ("unreadable", "busy"):
            raise errors.UnreadableError(said)
        if kind == "token":
            raise errors.CorpusError(f"{said}; give it as token=, or in {wire.TOKEN}")
        raise errors.CorpusError(detail if kind == "refused" else said)


def read_json(body: Body) -> Any:
    """A body that is JSON.

    Raises:
        CorpusError: it is none.
    """
    data = body.whole(MOST_JSON_BYTES)
    try:
        return json.loads(data)
    except ValueError:
        raise OtherServerError("a service's answer is no JSON; is a proxy in between?") from None


def describe(client: ServiceClient) -> dict[str, Any] | None:
    """What is served at an address; None where something else answers there, such as a plain web server.

    Raises:
        CorpusError: the service wants a token, or speaks a later protocol.
        UnreadableError: nothing answers.
    """

    def read(body: Body) -> Any:
        if body.headers.get("content-type", "").partition(";")[0] != wire.JSON:
            return None
        return read_json(body)

    try:
        found = client.get(wire.DESCRIPTION_PATH, read, accept=wire.JSON, tries=3)
    except OtherServerError:
        return None
    if not isinstance(found, dict) or found.get("service") != wire.SERVICE:
        return None
    if found.get("protocol") != wire.PROTOCOL:
        raise errors.CorpusError(
            f"service {client} speaks protocol {found.get('protocol')!r:.20}, we {wire.PROTOCOL}; "
            "use releases that agree"
        )
    return found


def _refusal(response: urllib3.BaseHTTPResponse) -> Mapping[str, Any]:
    """The fields of a refusal; none where it is not one of a service."""
    if response.headers.get("content-type", "") != wire.PROBLEM:
        return {}
    try:
        found = json.loads(response.read(1 << 20))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _reason(error: Exception) -> str:
    """Why a request got no answer, in the system's words where it has some."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        reason = getattr(cause, "reason", None)
        cause = reason if isinstance(reason, BaseException) else cause.__cause__ or cause.__context__
    return " ".join(str(error).split())[:200] or type(error).__name__
