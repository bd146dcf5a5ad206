"""One job at a time on a corpus in an object store: a lease, which its holder writes anew all the time.

It is taken, renewed and given back by conditional puts alone, so two can never have it at once. Nobody's
clock is compared with another's: whoever finds the object looks whether it changes. Where it does not for
`LEASE_SECONDS`, its holder is dead, and the lease is taken over. A holder that was only asleep notices at its
next renewal, and before it makes anything visible.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from storage import errors, processes
from storage.object_store import Found, ObjectStore, TakenError

NAME: Final = "lock.json"
RENEW_SECONDS: Final = 10.0
# As long as a holder may be silent: six renewals.
LEASE_SECONDS: Final = 60.0
# Between two looks of somebody who waits.
LOOK_SECONDS: Final = 2.0


class ObjectLock:
    """The lease of one corpus, held by this process."""

    def __init__(self, store: ObjectStore, state: Found) -> None:
        self._store = store
        self._found = state
        self._lost = False
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def require(self) -> None:
        """Renew it now; before anything that others will see.

        Raises:
            CorpusError: another job has taken it over.
            UnreadableError: the store cannot be reached.
        """
        with self._turn:
            if not self._lost:
                try:
                    self._found = self._store.put_if(NAME, _content(), self._found.state)
                    return
                except TakenError:
                    self._lost = True
        raise errors.CorpusError(
            f"the lock of {self._store.url} was taken over by another job, after this one had been silent "
            f"for {LEASE_SECONDS:g} s; what is done is kept: run the same command again when that has ended"
        )

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            with contextlib.suppress(OSError):  # the store is away; the next renewal tells
                try:
                    self.require()
                except errors.CorpusError:
                    return

    def release(self) -> None:
        """Give it back. The object stays: another might have it in the moment before it is deleted."""
        self._ended.set()
        self._thread.join()
        with self._turn, contextlib.suppress(TakenError, OSError, errors.CorpusError):
            if not self._lost:
                self._store.put_if(NAME, _content(free=True), self._found.state)


@contextmanager
def held(store: ObjectStore) -> Iterator[ObjectLock]:
    """Hold the lease of a corpus.

    Raises:
        CorpusError: another job is at work there.
        UnreadableError: the store cannot be reached.
    """
    lock = ObjectLock(store, _take(store))
    try:
        yield lock
    finally:
        lock.release()


def _take(store: ObjectStore) -> Found:
    seen: Mapping[str, str | None] | None = None
    since = time.monotonic()
    while True:
        found = store.get(NAME)
        holder = {} if found is None else _read(found.data)
        state = None if found is None else found.state
        if found is None or holder.get("free") or _is_dead(holder):
            with contextlib.suppress(TakenError):  # by another who waited as well
                return store.put_if(NAME, _content(), state)
            continue
        if (seen is not None and state != seen) or _is_dead(holder) is False:
            raise errors.CorpusError(
                f"another job is at work in {store.url}: process {holder.get('process')} on "
                f"{holder.get('host')}; wait for it, or end it"
            )
        if seen is None:
            seen, since = state, time.monotonic()
        elif time.monotonic() - since > LEASE_SECONDS:
            with contextlib.suppress(TakenError):
                return store.put_if(NAME, _content(), state)
            seen = None
            continue
        time.sleep(LOOK_SECONDS)


def _content(*, free: bool = False) -> bytes:
    """What stands in it: who holds it, and something that is new each time."""
    return json.dumps(
        {
            "free": free,
            "host": socket.gethostname(),
            "machine": processes.machine(),
            "process": processes.named(),
            "renewal": uuid.uuid4().hex,
        },
        indent=1,
    ).encode()


def _read(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_dead(holder: Mapping[str, Any]) -> bool | None:
    """Has the process ended? None where this machine cannot say: it was another's."""
    machine, process = holder.get("machine"), holder.get("process")
    if not machine or machine != processes.machine() or not isinstance(process, str):
        return None
    try:
        return not processes.lives(process)
    except ValueError:
        return None
