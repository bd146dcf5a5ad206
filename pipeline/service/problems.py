"""Refusals as RFC 9457 has them: a line of JSON that names the thing, the value, the rule and the remedy.

Only what was said of the request itself is quoted. Whatever else goes wrong is told to the service's own log,
with the folders and files it names; the client is told which kind it was.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from starlette.responses import Response

from encoders.errors import EncoderError
from retrieval import wire
from storage import errors

LOG: Final = logging.getLogger("memcorpus.service")
# The kinds, each a class of errors at the client; see `retrieval.service_client`.
UNKNOWN_PASSAGE: Final = "urn:memcorpus:unknown-passage"
REMOVED: Final = "urn:memcorpus:removed"
REFUSED: Final = "urn:memcorpus:refused"
LIMIT: Final = "urn:memcorpus:limit"
CHANGED: Final = "urn:memcorpus:changed"
DAMAGED: Final = "urn:memcorpus:damaged"
UNREADABLE: Final = "urn:memcorpus:unreadable"
BUSY: Final = "urn:memcorpus:busy"
TOKEN: Final = "urn:memcorpus:token"
OTHER: Final = "about:blank"
_TITLES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    410: "Gone",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Problem(Exception):
    """A refusal on its way to the client."""

    def __init__(
        self, status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.headers = dict(headers or {})
        self.more = more

    def body(self) -> bytes:
        fields = {"type": self.kind, "title": _TITLES[self.status], "status": self.status}
        line = {**fields, "detail": " ".join(self.detail.split()), **self.more}
        return (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "replace")

    def response(self) -> Response:
        return Response(
            self.body(),
            self.status,
            media_type=wire.PROBLEM,
            headers={**self.headers, "cache-control": "no-store"},
        )


def refused(detail: str, status: int = 422, **more: Any) -> Problem:
    """Something in the request is not as it should be."""
    return Problem(status, REFUSED, detail, **more)


def over_limit(name: str, value: int, limit: int, what: str, status: int = 422) -> Problem:
    """More than one request may ask for."""
    detail = f"{value:,} {what}, this service takes up to {limit:,} a request; ask in several"
    return Problem(status, LIMIT, detail, limit=limit, name=name)


def busy(detail: str, status: int = 429) -> Problem:
    """Not now."""
    return Problem(status, BUSY, detail, headers={"retry-after": "1"})


@contextmanager
def of_request() -> Iterator[None]:
    """A block that judges what was asked, and reads nothing: what it raises may be quoted."""
    try:
        yield
    except errors.UnknownPassageError as e:
        shown = e.ids[:100]
        raise Problem(404, UNKNOWN_PASSAGE, str(e), ids=shown) from None
    except errors.TombstoneError as e:
        raise Problem(404, REMOVED, str(e), ids=e.ids[:100]) from None
    except errors.CorpusError as e:
        raise refused(str(e)) from None


@contextmanager
def of_version(name: str) -> Iterator[None]:
    """A block that reads memory: that a version was left behind by an update may be told."""
    try:
        yield
    except errors.CorpusError as e:
        if str(e).startswith(f"memory version {name} was left behind"):
            raise refused(str(e), 404) from None
        raise


def of_error(error: Exception) -> Problem:
    """What the client is told of an error that is not about its request."""
    if isinstance(error, errors.DamagedError):
        LOG.error("damaged: %s", error)
        return Problem(
            500, DAMAGED, "stored bytes do not match their checksum; the service's log names the file"
        )
    if isinstance(error, errors.UnreadableError | OSError):
        LOG.error("unreadable: %s", error)
        return Problem(
            503, UNREADABLE, "stored bytes cannot be read now; the service's log says why",
            headers={"retry-after": "5"},
        )  # fmt: skip
    if isinstance(error, errors.CorpusError | EncoderError):
        LOG.error("refused: %s", error)
        return Problem(
            503, UNREADABLE, "the corpus does not have what this needs; the service's log says what"
        )
    LOG.error("a bug", exc_info=error)
    return Problem(500, OTHER, "an unexpected error; the service's log has its traceback")


def title(status: int) -> str:
    """What HTTP calls a status."""
    return _TITLES[status]
