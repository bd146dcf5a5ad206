"""A small Google Cloud Storage in RAM: what memcorpus asks of its XML API, and of its JSON API to read.

Written after Google's reference of both: generations and preconditions, ranges, listings page by page, parts,
copies, the user's metadata. It checks no signature. There is no server of Google's to try against, so what
passes here says that our requests are those of the reference, and no more.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest

BUCKET = "memory-corpora"
# A page of a listing; Google's is 1,000, and a small one is turned in every test.
PAGE = 7


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An object as one put left it."""

    data: bytes
    generation: int
    metadata: dict[str, str]
    changed: datetime

    @property
    def e_tag(self) -> str:
        return f'"{hashlib.md5(self.data).hexdigest()}"'


@dataclass
class Server:
    """What a bucket holds, and which requests came for it."""

    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    lock: threading.RLock = field(default_factory=threading.RLock)
    generation: int = 1_700_000_000_000_000

    def put(self, name: str, data: bytes, metadata: dict[str, str]) -> Stored:
        self.generation += 1
        made = Stored(data=data, generation=self.generation, metadata=metadata, changed=datetime.now(UTC))
        self.objects[name] = made
        return made

    def listed(self, query: dict[str, str], after: str) -> tuple[list[str], list[str], str]:
        """Names and common prefixes of one page, and where the next begins ("": none)."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        names: list[str] = []
        prefixes: list[str] = []
        for name in sorted(self.objects):
            if not name.startswith(prefix) or name <= after:
                continue
            if prefixes and name.startswith(prefixes[-1]):
                continue
            if len(names) + len(prefixes) == PAGE:
                return names, prefixes, max([*names, *(prefix + "\uffff" for prefix in prefixes)])
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                prefixes.append(prefix + rest[: rest.index(delimiter) + 1])
            else:
                names.append(name)
        return names, prefixes, ""


@contextmanager
def serving() -> Iterator[Server]:
    """A server with an empty bucket, which this process and its children take for Google's."""
    server = Server()

    class Handler(_Handler):
        held = server

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{http.server_address[1]}"
    with pytest.MonkeyPatch.context() as patch:
        # obstore's variables, which writes, and TensorStore's, which reads.
        patch.setenv("GOOGLE_BASE_URL", address)
        patch.setenv("GOOGLE_BEARER_TOKEN", "test")
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
        # Nobody is to ask the machine's own metadata server for keys.
        patch.setenv("GCE_METADATA_ROOT", "127.0.0.1:1")
        try:
            yield server
        finally:
            http.shutdown()
            http.server_close()


class _Handler(BaseHTTPRequestHandler):
    held: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    # --- the request

    def _read(self) -> tuple[str, str, dict[str, str], bytes]:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self._body()
        path = parts.path.lstrip("/")
        if found := re.fullmatch(r"storage/v1/b/([^/]+)/o(?:/(.+))?", path):
            self.held.requests["json"] += 1
            return unquote(found[1]), unquote(found[2] or ""), query | {"api": "json"}, body
        bucket, _, name = path.partition("/")
        return unquote(bucket), unquote(name), query, body

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        with suppress(ConnectionError):
            self.end_headers()
        if self.command != "HEAD":
            # Who asks for many things at once leaves when one of them is not there.
            with suppress(ConnectionError):
                self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    # --- what is asked

    def do_GET(self) -> None:
        bucket, name, query, _ = self._read()
        with self.held.lock:
            self.held.requests[self.command] += 1
            if bucket != BUCKET:
                return self._refuse(404, "NoSuchBucket")
            if not name:
                return self._list(query)
            stored = self.held.objects.get(name)
        if stored is None:
            return self._refuse(404, "NoSuchKey")
        if query.get("api") == "json" and query.get("alt") != "media":
            return self._answer(
                200, json.dumps(_resource(name, stored)).encode(), Content_Type="application/json"
            )
        self._object(stored)
        return None

    do_HEAD = do_GET

    def _object(self, stored: Stored) -> None:
        headers = {
            "ETag": stored.e_tag,
            "x_goog_generation": str(stored.generation),
            "x_goog_stored_content_length": str(len(stored.data)),
            "Last_Modified": format_datetime(stored.changed, usegmt=True),
            "Content_Type": "application/octet-stream",
            **{f"x_goog_meta_{key}".replace("-", "_"): value for key, value in stored.metadata.items()},
        }
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        size = len(stored.data)
        if self.command == "HEAD":
            return self._answer(200, **headers, Content_Length=str(size))
        if asked is None:
            return self._answer(200, stored.data, **headers)
        if asked[1]:
            first, last = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
        else:
            first, last = max(0, size - int(asked[2])), size - 1
        if first > last:
            return self._answer(416, Content_Range=f"bytes */{size}")
        self._answer(
            206, stored.data[first : last + 1], **headers, Content_Range=f"bytes {first}-{last}/{size}"
        )
        return None

    def _list(self, query: dict[str, str]) -> None:
        held = self.held
        json_api = query.get("api") == "json"
        token = query.get("pageToken" if json_api else "continuation-token", "")
        after = base64.urlsafe_b64decode(token).decode() if token else ""
        names, prefixes, following = held.listed(query, after)
        begins = base64.urlsafe_b64encode(following.encode()).decode() if following else ""
        if json_api:
            found: dict[str, Any] = {
                "items": [_resource(name, held.objects[name]) for name in names],
                "prefixes": prefixes,
            }
            if begins:
                found["nextPageToken"] = begins
            return self._answer(200, json.dumps(found).encode(), Content_Type="application/json")
        rows = "".join(
            f"<Contents><Key>{escape(name)}</Key><Generation>{one.generation}</Generation>"
            f"<LastModified>{one.changed:%Y-%m-%dT%H:%M:%S.%fZ}</LastModified><ETag>{escape(one.e_tag)}</ETag>"
            f"<Size>{len(one.data)}</Size></Contents>"
            for name in names
            for one in [held.objects[name]]
        )
        rows += "".join(f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>" for p in prefixes)
        if begins:
            rows += f"<NextContinuationToken>{begins}</NextContinuationToken>"
        self._answer(
            200,
            f"<ListBucketResult><IsTruncated>{str(bool(begins)).lower()}</IsTruncated>{rows}</ListBucketResult>".encode(),
        )
        return None

    def do_PUT(self) -> None:
        bucket, name, query, body = self._read()
        held = self.held
        with held.lock:
            held.requests["PUT"] += 1
            if bucket != BUCKET:
                return self._refuse(404, "NoSuchBucket")
            if "uploadId" in query:
                if query["uploadId"] not in held.uploads:
                    return self._refuse(404, "NoSuchUpload")
                held.uploads[query["uploadId"]][int(query["partNumber"])] = body
                return self._answer(200, ETag=f'"{hashlib.md5(body).hexdigest()}"')
            wanted = self.headers.get("x-goog-if-generation-match")
            stored = held.objects.get(name)
            if wanted is not None and int(wanted) != (0 if stored is None else stored.generation):
                held.requests["refused"] += 1
                return self._refuse(412, "PreconditionFailed")
            if source := self.headers.get("x-goog-copy-source"):
                copied = held.objects.get(unquote(source).lstrip("/").partition("/")[2])
                if copied is None:
                    return self._refuse(404, "NoSuchKey")
                body = copied.data
            made = held.put(name, body, self._metadata())
        result = f"<CopyObjectResult><ETag>{escape(made.e_tag)}</ETag></CopyObjectResult>".encode()
        self._answer(200, result if source else b"", ETag=made.e_tag, x_goog_generation=str(made.generation))
        return None

    def _metadata(self) -> dict[str, str]:
        marked = "x-goog-meta-"
        return {
            key.lower().removeprefix(marked): value
            for key, value in self.headers.items()
            if key.lower().startswith(marked)
        }

    def do_POST(self) -> None:
        bucket, name, query, body = self._read()
        held = self.held
        with held.lock:
            held.requests["POST"] += 1
            if bucket != BUCKET:
                return self._refuse(404, "NoSuchBucket")
            if "uploads" in query:
                upload = f"upload{len(held.uploads)}"
                held.uploads[upload] = {}
                return self._answer(
                    200,
                    f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId>"
                    "</InitiateMultipartUploadResult>".encode(),
                )
            parts = held.uploads.pop(query.get("uploadId", ""), None)
            if parts is None:
                return self._refuse(404, "NoSuchUpload")
            wanted = [
                int(e.text or 0) for e in ElementTree.fromstring(body).iter() if e.tag.endswith("PartNumber")
            ]
            made = held.put(name, b"".join(parts[number] for number in wanted), {})
        self._answer(
            200,
            f"<CompleteMultipartUploadResult><ETag>{escape(made.e_tag)}</ETag>"
            "</CompleteMultipartUploadResult>".encode(),
            x_goog_generation=str(made.generation),
        )
        return None

    def do_DELETE(self) -> None:
        _, name, query, _ = self._read()
        with self.held.lock:
            self.held.requests["DELETE"] += 1
            if "uploadId" in query:
                self.held.uploads.pop(query["uploadId"], None)
                return self._answer(204)
            if self.held.objects.pop(name, None) is None:
                return self._refuse(404, "NoSuchKey")
        self._answer(204)
        return None


def _resource(name: str, stored: Stored) -> dict[str, Any]:
    """An object as the JSON API tells of it."""
    return {
        "kind": "storage#object",
        "name": name,
        "bucket": BUCKET,
        "generation": str(stored.generation),
        "size": str(len(stored.data)),
        "updated": stored.changed.isoformat(),
        "timeCreated": stored.changed.isoformat(),
        "etag": stored.e_tag,
    }
