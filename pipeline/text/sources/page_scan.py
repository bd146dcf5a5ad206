"""`<page>` elements cut out of the bytes of an export, without parsing what is around them.

"<page" and "</page>" cannot occur in a page's text, where "<" is written "&lt;"; exports have no
CDATA sections and no comments.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.text.sources.base import SourceError
from pipeline.text.sources.blocks import Blocks

# A page with its whole history may have gigabytes; an article has 2 MiB of text, and markup.
MAX_PAGE_BYTES = 64 << 20
_HEAD_BYTES = 16 << 10
_OPEN = re.compile(rb"<page[\s>]")
_EDGE = re.compile(rb"<page[\s>]|</page\s*>")
_END = re.compile(rb"</mediawiki\s*>")
# Longest tail that may be the start of one of the tags above.
_KEPT_BYTES = 16
_OPEN_BYTES = 6

_TITLE = re.compile(rb"<title>([^<]*)</title>")
_ID = re.compile(rb"<id>\s*(\d+)\s*</id>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fragment:
    """A page's element. With a `problem`, `data` is only its beginning."""

    data: bytes
    problem: str = ""

    @property
    def title(self) -> str:
        """The page's title by a look at the bytes, for messages."""
        found = _TITLE.search(self.data)
        return html.unescape(found.group(1).decode("utf-8", "replace")) if found else ""

    @property
    def page_id(self) -> str:
        """The page's id by a look at the bytes, for messages."""
        found = _ID.search(self.data)
        return found.group(1).decode() if found else ""


def fragments(blocks: Blocks, file: Path, max_page_bytes: int = MAX_PAGE_BYTES) -> Iterator[Fragment]:
    """The pages whose tags start before the blocks' limit, each to its end.

    Memory: the longest page, at most `max_page_bytes`, and a block.

    Raises:
        SourceError: the file ends inside a page, or without `</mediawiki>`.
    """
    scan = _Scan(max_page_bytes)
    for block in blocks:
        scan.buffer += block
        yield from scan.pages(blocks)
        if scan.done:
            return
    scan.check_end(file)


class _Scan:
    """`buffer` holds the bytes from `base` on; inside a page it starts with the page."""

    def __init__(self, max_page_bytes: int) -> None:
        self.buffer = bytearray()
        self.done = False
        self._max_page_bytes = max_page_bytes
        self._base = 0
        self._searched = 0  # bytes of the buffer that hold no tag
        self._inside = False
        self._page_start = 0
        self._head: bytes | None = None  # of a page that is too long to be kept
        self._ended = False  # </mediawiki> came after the last page
        self._last = Fragment(data=b"")

    def pages(self, blocks: Blocks) -> Iterator[Fragment]:
        while not self.done:
            step = self._close() if self._inside else self._open(blocks.limit)
            if step is None:
                return
            if isinstance(step, Fragment):
                self._last = step
                yield step

    def _open(self, limit: int | None) -> bool | None:
        """Find the next page's start; None when more bytes are wanted."""
        found = _OPEN.search(self.buffer, self._searched)
        if found is None:
            self._ended = self._ended or _END.search(self.buffer) is not None
            self._drop(max(0, len(self.buffer) - _KEPT_BYTES))
            self._searched = 0
            # The first byte from which a page may still start.
            next_start = self._base + max(0, len(self.buffer) - _OPEN_BYTES)
            self.done = limit is not None and next_start >= limit
            return None
        if limit is not None and self._base + found.start() >= limit:
            self.done = True
            return None
        self._drop(found.start())
        self._ended = False
        self._inside = True
        self._page_start = self._base
        self._searched = _OPEN_BYTES
        return True

    def _close(self) -> Fragment | None:
        """Find the page's end; None when more bytes are wanted."""
        found = _EDGE.search(self.buffer, self._searched)
        if found is None:
            if self._head is None and len(self.buffer) > self._max_page_bytes:
                self._head = bytes(self.buffer[:_HEAD_BYTES])
            if self._head is not None:
                self._drop(max(0, len(self.buffer) - _KEPT_BYTES))
                self._searched = 0
            else:
                # Not before the page's own tag, which would be taken for the next one's.
                self._searched = max(self._searched, len(self.buffer) - _KEPT_BYTES)
            return None
        unended = found.group().startswith(b"<page")
        end = found.start() if unended else found.end()
        size = self._base + end - self._page_start
        head = self._head if self._head is not None else bytes(self.buffer[:_HEAD_BYTES])
        if unended:
            page = Fragment(data=head, problem="the next page starts before its </page>")
        elif size > self._max_page_bytes:
            problem = f"its XML has {size:,} bytes, the limit is {self._max_page_bytes:,}"
            page = Fragment(data=head, problem=problem)
        else:
            page = Fragment(data=bytes(self.buffer[:end]))
        self._drop(end)
        self._searched = 0
        self._inside = False
        self._head = None
        return page

    def _drop(self, count: int) -> None:
        del self.buffer[:count]
        self._base += count

    def check_end(self, file: Path) -> None:
        end = self._base + len(self.buffer)
        if self._inside:
            page = Fragment(data=self._head or bytes(self.buffer[:_HEAD_BYTES]))
            raise SourceError(
                f"{file} is cut off: its XML ends inside the page {page.title!r} (id "
                f"{page.page_id or 'unknown'}), {end - self._page_start:,} bytes after its <page>; "
                "finish its download"
            )
        if not self._ended:
            after = f"after the page {self._last.title!r}" if self._last.data else "after no page"
            raise SourceError(
                f"{file} is cut off: its XML ends without </mediawiki>, {after}; finish its download"
            )
