"""A bucket of an object store: how its URL is opened, and how calls that fail for a while are tried again.

Tries are bounded, with jitter between them, and counted.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

from storage import errors, s3_credentials
from storage.traffic import TRAFFIC

T = TypeVar("T")

SCHEMES: Final = ("s3", "gs")
# An S3 server other than Amazon's: the variable that Amazon's own tools read.
S3_ENDPOINT: Final = "AWS_ENDPOINT_URL"
# A server of Google's protocol other than Google's: the variable that obstore reads.
GCS_ENDPOINT: Final = "GOOGLE_BASE_URL"
# Tries of a request, and seconds before the second; they double, up to a most, and are drawn at random below.
TRIES: Final = 8
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 10.0
CONNECT_SECONDS: Final = 10
# Without a byte, and of a whole request.
READ_SECONDS: Final = 60
REQUEST_SECONDS: Final = 300

_used = False
_lost = False


class ShortError(Exception):
    """A body that ended before its length."""


class Bucket:
    """What lies below a URL: s3://bucket/prefix or gs://bucket/prefix. Thread-safe; not in a forked process.

    Attributes:
        url: without a slash at its end.
        library: obstore.
        store: the client that obstore's functions take. It tries nothing again: `tried` does, and counts.
        parts: a client that does, for large objects: their parts are better sent again than all of them.
    """

    def __init__(self, url: str) -> None:
        """
        Raises:
            CorpusError: the URL names no bucket, obstore is not installed, or keys are of a kind that it
                cannot use.
        """
        global _used
        if _lost:
            raise errors.CorpusError(
                f"{url} cannot be written in a process that was forked after its parent had used an object "
                "store: start processes by spawn"
            )
        try:
            import obstore
            import obstore.exceptions
        except ImportError as e:
            raise errors.CorpusError(
                f"{url}: obstore is not installed, and writes to object stores; pip install "
                "'memcorpus[stores]'"
            ) from e
        _used = True
        self.url = url.rstrip("/")
        self.library: Any = obstore
        self.store = _open(self.url, retries=0)
        self.parts = _open(self.url, retries=TRIES - 1)

    def tried(self, what: str, call: Callable[[], T]) -> T:
        """Make a call, again where it fails for a reason that may pass.

        Raises:
            FileNotFoundError: there is no such object.
            UnreadableError: it failed to the last; or the store refuses.
            CorpusError: there is no such bucket.
        """
        exceptions = self.library.exceptions
        time_tried = 1
        while True:
            try:
                return call()
            except (exceptions.NotFoundError, FileNotFoundError) as e:
                raise FileNotFoundError(what) from e
            except (exceptions.GenericError, exceptions.JoinError, ShortError, OSError) as e:
                final = getattr(e, "errno", None) is not None or "NoSuchBucket" in str(e)
                if time_tried == TRIES or final:
                    raise self.refused(what, e) from e
                TRAFFIC.add(retries=1)
                pause(time_tried)
                time_tried += 1
            except exceptions.BaseError as e:
                raise self.refused(what, e) from e

    def refused(self, what: str, error: Exception) -> errors.UnreadableError | errors.CorpusError:
        """The error for users, of what the library raised about `what`."""
        if isinstance(error, errors.UnreadableError | errors.CorpusError):
            return error
        if "NoSuchBucket" in str(error):
            return self.missing()
        told = " ".join(str(error).split("\n")[0].split())[:300]
        return errors.UnreadableError(
            f"{what} cannot be read or written ({told}); look after the network, the bucket and the keys, "
            "and run the same command again: what is done is kept"
        )

    def missing(self) -> errors.CorpusError:
        """The error of a bucket that is not there."""
        return errors.CorpusError(f"{self.url} cannot be used: there is no such bucket; make it first")


def pause(time_tried: int) -> None:
    """Wait before the next try, longer after each."""
    time.sleep(random.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2**time_tried))


def _open(url: str, *, retries: int) -> Any:
    from obstore import store as stores

    parts = urlsplit(url)
    if not parts.netloc:
        raise errors.CorpusError(f"{url} names no bucket; wanted {parts.scheme}://bucket/path")
    prefix = unquote(parts.path).strip("/") or None
    client: Any = {
        "timeout": timedelta(seconds=REQUEST_SECONDS),
        "read_timeout": timedelta(seconds=READ_SECONDS),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
    }
    retry: Any = {
        "max_retries": retries,
        "backoff": {
            "init_backoff": timedelta(seconds=FIRST_PAUSE),
            "max_backoff": timedelta(seconds=LONGEST_PAUSE),
        },
    }
    if parts.scheme == "gs":
        if os.environ.get(GCS_ENDPOINT, "").startswith("http://"):
            client["allow_http"] = True
        return stores.GCSStore(parts.netloc, prefix=prefix, client_options=client, retry_config=retry)
    config: dict[str, Any] = {"conditional_put": "etag", **s3_credentials.for_writing()}
    config.setdefault("region", _region())
    if endpoint := os.environ.get(S3_ENDPOINT):
        config["endpoint"] = endpoint
        client["allow_http"] = True
    return stores.S3Store(parts.netloc, prefix=prefix, client_options=client, retry_config=retry, **config)


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _after_fork() -> None:
    global _lost
    _lost = _lost or _used


os.register_at_fork(after_in_child=_after_fork)
