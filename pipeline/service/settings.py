"""What a service is to do, and what it allows."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retrieval import wire
from storage import errors, files

# A shorter one can be guessed over a network.
LEAST_TOKEN: Final = 16
DEFAULT_PORT: Final = 8321


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one request may ask for, and all of them together may take.

    Attributes:
        k: passages for a query.
        queries: of a request.
        ids: passages of a request.
        body_bytes: of a request's body.
        answer_bytes: of an answer of memory, and as much again for each of the others that are on their way,
            up to four times as much in all.
        waiting: searches that wait for the one that runs; one more is refused with 429.
        text_bytes: of one query.
    """

    k: int = 1000
    queries: int = 1024
    ids: int = 10_000
    body_bytes: int = 16 << 20
    answer_bytes: int = 256 << 20
    waiting: int = 256
    text_bytes: int = 32 << 10

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise errors.CorpusError(f"limit {name} is {getattr(self, name)}, wanted 1 or more")

    def to_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceSettings:
    """All of a service.

    Attributes:
        corpus: a folder or URL.
        host, port: where to listen; port 0 takes a free one.
        workers: processes, each with the corpus and its index open.
        version: of the memory, where a request names none; None follows the corpus's current one.
        retriever: for queries given as text, where it is not at the place that the build found it.
        reader: a folder that `memcorpus train` wrote; None: no answers.
        tokenizer: the memory encoder's folder, for the page; None: where the build found it.
        token: that each request must bear; None: nobody asks for one.
        without_token: listen beyond this machine although there is none.
        window_ms: how long a search waits for others to go with it, when no search runs. Those that come
            while one runs always go together.
        batch: searches that go together at most; 1: each alone.
        follow_seconds: how often the corpus is looked at for a switch or an update.
        client_seconds: for a client to send its request, and to take each MiB of its answer.
        drain_seconds: how long requests are still taken when the service is told to end.
        connections: of a worker at a time.
        limits: of requests.
    """

    corpus: str
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    workers: int = 1
    version: str | None = None
    retriever: str | None = None
    reader: str | None = None
    tokenizer: str | None = None
    token: str | None = None
    without_token: bool = False
    window_ms: float = 0.0
    batch: int = 64
    follow_seconds: float = 0.5
    client_seconds: float = 30.0
    drain_seconds: float = 1.0
    connections: int = 8192
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise errors.CorpusError(f"port is {self.port}, wanted 0 to 65535")
        for name in ("workers", "batch", "connections"):
            if getattr(self, name) < 1:
                raise errors.CorpusError(f"{name} is {getattr(self, name)}, wanted 1 or more")
        for name, least in (("window_ms", 0), ("drain_seconds", 0), ("client_seconds", 1)):
            if not least <= getattr(self, name) <= 3600:
                raise errors.CorpusError(f"{name} is {getattr(self, name)}, wanted {least} to 3600")
        if not 0.05 <= self.follow_seconds <= 3600:
            raise errors.CorpusError(f"follow_seconds is {self.follow_seconds}, wanted 0.05 to 3600")
        if self.token is not None and not _is_token(self.token):
            raise errors.CorpusError(
                f"a token has {len(self.token)} characters, wanted {LEAST_TOKEN} or more printable ones of "
                "ASCII, no blanks; `openssl rand -hex 32` makes one"
            )
        if not self.local and self.token is None and not self.without_token:
            raise errors.CorpusError(
                f"host {self.host} can be reached from other machines, and there is no token: give "
                f"--token-file or {wire.TOKEN}, or --without-token where anybody may read the corpus"
            )

    @property
    def local(self) -> bool:
        """Does it listen for this machine alone?"""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _is_token(token: str) -> bool:
    return len(token) >= LEAST_TOKEN and all("!" <= letter <= "~" for letter in token)


def read_token(path: Path | None) -> str | None:
    """The token in a file, without the end of its line; else the environment's; else None.

    Raises:
        CorpusError: the file cannot be read, or is none of a token.
    """
    if path is None:
        return os.environ.get(wire.TOKEN) or None
    try:
        data = files.read_bytes(path) if path.stat().st_size <= 4096 else b""
        token = data.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise errors.CorpusError(f"token file {path} cannot be read: {type(e).__name__}") from e
    if not token:
        raise errors.CorpusError(f"token file {path} holds no token; `openssl rand -hex 32` makes one")
    return token
