"""Changes by page, instead of a dump: JSON lines with an "op" each, upsert or delete.

    {"op": "upsert", "id": "12", "title": "Danube", "text": "..."}
    {"op": "delete", "id": "40"}

An upsert is a page as `jsonl` reads it, and takes the place of all passages of that page. What is not named
stays as it is. A line that makes no sense ends the update before it begins: nothing is left out silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.components.passages import keys
from pipeline.text.sources import Source, changed
from storage import errors


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Pages that are named.

    Attributes:
        pages: their keys, sorted, 16 bytes each.
        counts: how many are upserted and deleted.
    """

    pages: bytes
    counts: Mapping[str, int]


def read(given: Sequence[Source]) -> Changes | None:
    """What the sources name, if they are changes; None if they are a dump.

    Raises:
        CorpusError: some lines or sources are changes and others are not, a line that cannot be read, or a
            page that is named twice.
    """
    found = [changed.operations(source) for source in given]
    if all(operations is None for operations in found):
        return None
    if any(operations is None for operations in found):
        raise errors.CorpusError(
            "some sources are changes by page and others are dumps; give one or the other in an update"
        )
    pages: set[bytes] = set()
    counts = {"changes: upserted pages": 0, "changes: deleted pages": 0}
    for operations in found:
        for operation, page_id, where in operations or ():
            key = keys.page_key(page_id)
            if key in pages:
                raise errors.CorpusError(
                    f"{where}: page {page_id!r:.100} is named twice in the changes; leave one line of it"
                )
            pages.add(key)
            what = "upserted" if operation == changed.UPSERT else "deleted"
            counts[f"changes: {what} pages"] += 1
    return Changes(pages=b"".join(sorted(pages)), counts=counts)
