"""Passages of a corpus that has none of Wikipedia's: keys, and texts where there are any.

A key stands where the id of a page would, so that whoever has a key finds its passage. They are taken as they
come, a row group in memory at a time; what is kept of each is sixteen bytes in a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage import components, errors, files, ids, passage_table
from storage.aliases import Json
from storage.components import passages as passages_component
from storage.components.passages import PassagesCard
from storage.fields import Fields
from storage.folder import CorpusFolder
from storage.passage_table import Part, PassageTable

# How passages of keys are cut: not at all.
RULE: Final = "given 1"
_PART_ROWS: Final = 64 * passage_table.ROW_GROUP
# In the manifest's settings: the digest of keys and texts.
DIGEST: Final = "passages_digest"
# In `work/`: what was written, and the digests of the keys.
_WRITTEN: Final = "given.json"
_DIGESTS: Final = "given.keys"
_DIGEST_BYTES: Final = 16
# Digests that are compared at a time.
_AT_ONCE: Final = 1 << 22


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """Passages that are written: how many, words and bytes of text, the parts, and a digest of all of it."""

    passages: int
    words: int
    text_bytes: int
    digest: str
    parts: tuple[Part, ...]

    def to_json(self) -> Json:
        return {
            "passages": self.passages,
            "words": self.words,
            "text_bytes": self.text_bytes,
            "digest": self.digest,
            "parts": [part.to_json() for part in self.parts],
        }

    @classmethod
    def read(cls, corpus: CorpusFolder) -> Given:
        """Those of a corpus that is being written."""
        found = Fields(corpus.work.read(_WRITTEN), _WRITTEN)
        return cls(
            passages=found.integer("passages", least=1),
            words=found.integer("words"),
            text_bytes=found.integer("text_bytes"),
            digest=found.text("digest"),
            parts=found.each("parts", Part.from_json),
        )

    def card(self, corpus: CorpusFolder) -> PassagesCard:
        """Their card; the parts are read and checked once more.

        Raises:
            DamagedError: a part is not as it was written.
        """
        for part in self.parts:
            corpus.require_whole(part.file)
        quarantine = corpus.path(f"{components.PASSAGES.noun}/{passages_component.QUARANTINE}")
        files.write_atomic(quarantine, b"")
        counts = {
            "pages": self.passages,
            "kept": self.passages,
            "quarantined": 0,
            "passages": self.passages,
            "words": self.words,
            "article_words": self.words,
            "text_bytes": self.text_bytes,
        }
        return PassagesCard(
            passages=self.passages,
            words=self.words,
            splitter={"rule": RULE},
            counts=counts,
            parts=self.parts,
            quarantine=corpus.entry(quarantine),
        )


@dataclass(frozen=True, kw_only=True)
class Source:
    """Keys and texts as a caller gives them.

    Attributes:
        keys: of the passages, in order of their ids; None: the ids themselves, `passages` of them.
        texts: one for each key; None: there are none.
    """

    keys: Iterable[str] | None
    texts: Iterable[str] | None
    passages: int | None

    def __post_init__(self) -> None:
        if isinstance(self.keys, str | bytes) or isinstance(self.texts, str | bytes):
            raise errors.CorpusError(
                "keys and texts are one for each passage: wanted lists, got a single text"
            )
        if self.passages is not None and (
            isinstance(self.passages, bool) or not isinstance(self.passages, int) or self.passages < 1
        ):
            raise errors.CorpusError(f"passages is {self.passages!r:.40}, wanted a whole number, 1 or more")
        if self.keys is not None and self.passages is not None:
            raise errors.CorpusError("give keys, or how many passages there are, not both")

    @property
    def said(self) -> bool:
        return any(part is not None for part in (self.keys, self.texts, self.passages))

    def _rows(self) -> Iterator[tuple[str, str]]:
        texts = None if self.texts is None else iter(self.texts)
        keys: Iterable[str]
        if self.keys is not None:
            keys = self.keys
        elif self.passages is not None:
            keys = map(str, range(self.passages))
        else:
            if texts is None:
                raise errors.CorpusError(
                    "give keys, texts, or how many passages there are: there is no corpus yet"
                )
            for number, text in enumerate(texts):
                yield str(number), _text(text, "text", number)
            return
        number = -1
        for number, key in enumerate(keys):
            text = ""
            if texts is not None:
                found = next(texts, None)
                if found is None:
                    raise errors.CorpusError(f"{number:,} texts for more keys: wanted one for each")
                text = _text(found, "text", number)
            key = _text(key, "key", number)
            if not key:
                raise errors.CorpusError(f"key {number} is empty, wanted a text that names the passage")
            yield key, text
        if texts is not None and next(texts, None) is not None:
            raise errors.CorpusError(f"{number + 1:,} keys for more texts: wanted one for each")

    def groups(self) -> Iterator[list[tuple[str, str]]]:
        rows = self._rows()
        while group := list(islice(rows, passage_table.ROW_GROUP)):
            yield group

    def digest(self) -> str:
        """Of all keys and texts; nothing is written."""
        digest = hashlib.sha256()
        for group in self.groups():
            _update(digest, group)
        return digest.hexdigest()


def _text(value: object, what: str, number: int) -> str:
    if not isinstance(value, str):
        raise errors.CorpusError(f"{what} {number} is {value!r:.60}, wanted a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise errors.CorpusError(
            f"{what} {number} holds half a pair of UTF-16, which is no character: {value!r:.60}"
        ) from None
    return value


def _update(digest: hashlib._Hash, group: Sequence[tuple[str, str]]) -> None:
    for field in chain.from_iterable(group):
        data = field.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)


def write(corpus: CorpusFolder, source: Source) -> Given:
    """Write the passages of a corpus that is to be made, once.

    Raises:
        CorpusError: there are none, a key stands twice, keys and texts are not as many.
    """
    folder = corpus.path(components.PASSAGES.folder(""))
    digest = hashlib.sha256()
    sums = {"passages": 0, "words": 0, "text_bytes": 0}
    digests = corpus.work.file(_DIGESTS)
    parts: list[Part] = []
    groups = source.groups()
    # First of all, for by this file the folder is known as a writer's.
    with digests.open("wb") as keys:
        folder.mkdir(parents=True, exist_ok=True)

        def batches(first: list[tuple[str, str]]) -> Iterator[pa.RecordBatch]:
            for group in chain([first], islice(groups, _PART_ROWS // passage_table.ROW_GROUP - 1)):
                _update(digest, group)
                keys.write(b"".join(_digest_of(key) for key, _ in group))
                yield _batch(sums["passages"], group)
                sums["passages"] += len(group)
                sums["words"] += sum(len(text.split()) for _, text in group)
                sums["text_bytes"] += sum(len(text.encode()) for _, text in group)

        while (first := next(groups, None)) is not None:
            path = folder / passage_table.part_name(len(parts))
            begun = sums["passages"]
            rows = passage_table.write_part(path, passage_table.SCHEMA, batches(first))
            parts.append(Part(file=corpus.entry(path), first_passage_id=begun, rows=rows))
    if not parts:
        raise errors.CorpusError("there are no passages: wanted one or more keys")
    found = Given(**sums, digest=digest.hexdigest(), parts=tuple(parts))
    if source.keys is not None:
        _require_single(corpus, found)
    corpus.work.write(_WRITTEN, found.to_json())
    digests.unlink()
    return found


def is_begun(corpus: CorpusFolder) -> bool:
    """Has a writer begun to write passages here?"""
    return any(corpus.work.file(name).is_file() for name in (_WRITTEN, _DIGESTS))


def forget(corpus: CorpusFolder) -> None:
    """Remove what `write` left in `work/`."""
    for name in (_WRITTEN, _DIGESTS):
        corpus.work.file(name).unlink(missing_ok=True)


def _batch(first: int, group: Sequence[tuple[str, str]]) -> pa.RecordBatch:
    columns = {
        "passage_id": range(first, first + len(group)),
        "passage_key": [ids.passage_key(key, (), 0, text=text, splitter=RULE) for key, text in group],
        "page_id": [key for key, _ in group],
        "title": [""] * len(group),
        "section": [[] for _ in group],
        "ordinal": [0] * len(group),
        "text": [text for _, text in group],
        "words": [len(text.split()) for _, text in group],
    }
    arrays = [pa.array(columns[field.name], field.type) for field in passage_table.SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=passage_table.SCHEMA)


def _digest_of(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=_DIGEST_BYTES).digest()


def _require_single(corpus: CorpusFolder, given: Given) -> None:
    """No key stands for two passages. Of however many keys, `_AT_ONCE` digests are in memory."""
    halves = np.memmap(corpus.work.file(_DIGESTS), "<u8", "r").reshape(-1, 2)
    passes = -(-given.passages // _AT_ONCE)
    for number in range(passes):
        chosen = (
            np.flatnonzero(np.asarray(halves[:, 0]) % passes == number)
            if passes > 1
            else np.arange(len(halves))
        )
        part: npt.NDArray[np.uint64] = np.asarray(halves[chosen])
        order = np.lexsort((part[:, 1], part[:, 0]))
        same = (part[order[1:]] == part[order[:-1]]).all(axis=1)
        if same.any():
            at = int(np.flatnonzero(same)[0])
            first, second = sorted(int(chosen[order[at + i]]) for i in (0, 1))
            key = PassageTable(corpus.root, given.parts).take([first]).column("page_id")[0].as_py()
            raise errors.CorpusError(
                f"key {key!r:.80} stands for passages {first} and {second}: wanted each key once"
            )
