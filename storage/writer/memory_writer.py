"""`MemoryWriter`: shards that are missing, states that go in, the version that is published at the end."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from storage import codec_parameters, codecs, errors, locks
from storage.folder import CorpusFolder
from storage.memory_store import MemoryLayout
from storage.passage_table import PassageTable
from storage.thread_locks import ThreadLock
from storage.writer import publishing, repairing, shards
from storage.writer.plan import WriterPlan
from storage.writer.shards import WrittenCounts

# States of passages that wait for the rest of their shard, in one process.
WAITING_BYTES: Final = 2 << 30


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Passages whose states are stored together, in one file: the unit that is written, or is not.

    Attributes:
        number: from 0.
        ids: of its passages, in order.
    """

    number: int
    ids: range
    _table: PassageTable

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def keys(self) -> list[str]:
        """The keys of its passages, in the order of `ids`; of a corpus of articles, the pages' ids."""
        found: list[str] = self._table.take(self.ids, columns=["page_id"]).column("page_id").to_pylist()
        return found

    @functools.cached_property
    def texts(self) -> list[str]:
        """Their texts; empty ones where none were given."""
        found: list[str] = self._table.take(self.ids, columns=["text"]).column("text").to_pylist()
        return found


class MemoryWriter:
    """Writes one memory version of a corpus, shard by shard; made by `memcorpus.open_writer`.

        writer = memcorpus.open_writer("states", keys=keys, width=768, max_tokens=512, encoder="my-model")
        for shard in writer.missing():
            writer.write(shard, [states_of(key) for key in shard.keys])  # each [tokens, 768]
        writer.publish()

    Until `publish` returns nobody sees the version. Killed at any moment, the same program goes on: `missing`
    gives what lacks a receipt. Several processes open the same writer and take a part each, by
    `missing(part, parts)`. Thread-safe, but for `missing` itself.

    Attributes:
        version: the version's name, 16 hexadecimal digits of what describes encoder and codec.
        layout: its shapes: `layout.grid.passages`, `layout.width`, `layout.max_tokens`, `layout.codec`.
        published: is it there already? Then what `missing` gives are damaged shards, to be repaired.
    """

    def __init__(
        self,
        corpus: CorpusFolder,
        plan: WriterPlan,
        table: PassageTable,
        *,
        digests: Mapping[str, str],
        published: bool,
        lock: locks.Shared,
    ) -> None:
        self.version = plan.version
        self.layout: MemoryLayout = plan.layout
        self.published = published
        self._corpus, self._plan, self._table = corpus, plan, table
        self._digests, self._lock = dict(digests), lock
        self._waiting: dict[int, dict[int, Any]] = {}
        self._waiting_bytes = 0
        self._done: set[int] = set()
        self._changing = ThreadLock()

    def __enter__(self) -> MemoryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other jobs at the corpus. What is written stays; what waits for its shard is dropped."""
        self._waiting.clear()
        self._waiting_bytes = 0
        self._lock.release()

    @functools.cached_property
    def _coder(self) -> codecs.Coder:
        folder = self._corpus.path(self._plan.folder)
        return codec_parameters.read(folder, self.layout.codec, self.layout.width, self._digests)

    def __len__(self) -> int:
        """Passages, written or not."""
        return self.layout.grid.passages

    def shard(self, number: int) -> Shard:
        """A shard by its number."""
        return Shard(number=number, ids=range(*self.layout.grid.bounds(number)), _table=self._table)

    def missing(self, part: int = 0, parts: int = 1) -> Iterator[Shard]:
        """Shards that are to be written, in order; each file of one that is done is read and checked first.

        Args:
            part, parts: this process's share, 0 to parts - 1: shards whose number is `part` modulo `parts`.

        Raises:
            CorpusError: part is out of range.
            UnreadableError: nobody can say whether a shard is whole.
        """
        if not (isinstance(parts, int) and isinstance(part, int) and 0 <= part < parts):
            raise errors.CorpusError(f"part is {part!r} of {parts!r}, wanted 0 to parts - 1")
        damaged = repairing.damaged(self._corpus, self.version) if self.published else None
        for number in range(part, self.layout.grid.shards, parts):
            if not self._is_whole(number) if damaged is None else number in damaged:
                yield self.shard(number)

    def _is_whole(self, number: int) -> bool:
        return self._corpus.work.read_if_whole(shards.STAGE, number, WrittenCounts) is not None

    def write(self, shard: Shard | int, states: Iterable[Any]) -> None:
        """Write a shard. Of two that write the same one, each leaves the same file.

        Args:
            shard: from `missing`, or its number.
            states: of each of its passages, in order of their ids: [tokens, width], 1 to max_tokens tokens;
                or [tokens, layers, ...] whose last dimensions make the width together. float32, bfloat16 or
                float16; arrays of NumPy or JAX, tensors of PyTorch.

        Raises:
            CorpusError: a state that is not finite, another width or type, no tokens or too many, fewer or
                more passages than the shard has; nothing of the shard is written.
            DamagedError: what repairs a published version is not what was there.
        """
        number = shard.number if isinstance(shard, Shard) else self._number(shard)
        self._require_open()
        if self.published:
            repairing.rewrite(self._corpus, self._plan, number, states, coder=self._coder)
            return
        notes = (self._digests,) if self._digests else ()
        shards.write(self._corpus, self._plan, number, states, coder=self._coder, notes=notes)

    def _number(self, shard: int) -> int:
        if isinstance(shard, bool) or not isinstance(shard, int) or not 0 <= shard < self.layout.grid.shards:
            raise errors.CorpusError(f"shard {shard!r} does not exist; there are {self.layout.grid.shards}")
        return shard

    def _require_open(self) -> None:
        if not self._lock.held:
            raise errors.CorpusError(f"this writer of {self._corpus} is closed; open it again")

    def add(self, passage_id: int, states: Any) -> bool:
        """Give the states of one passage, in any order; its shard is written when it has all.

        They wait in memory until then, so a shard's passages should come near each other. What waits when the
        program ends is lost; `missing` tells it.

        Returns:
            False where an earlier run has written the passage, and nothing was done.

        Raises:
            CorpusError: no such passage, one that was given before, states as `write` refuses them, or more
                shards begun than `WAITING_BYTES` hold.
        """
        self._require_open()
        if isinstance(passage_id, bool) or not hasattr(passage_id, "__index__"):
            raise errors.CorpusError(f"passage id is {passage_id!r:.60}, wanted a whole number")
        passage = int(passage_id)
        if not 0 <= passage < len(self):
            raise errors.UnknownPassageError([passage], len(self))
        if self.published:
            raise errors.CorpusError(f"version {self.version} is published; `missing` and `write` repair it")
        layout = self.layout
        number = passage // layout.grid.shard_passages
        found = shards.states(states, layout.width, layout.max_tokens, f"passage {passage}").copy()
        with self._changing:
            if number in self._done:
                raise errors.CorpusError(f"passage {passage} was given before, and is written")
            if number not in self._waiting and self._is_whole(number):
                return False
            waiting = self._waiting.get(number, {})
            if passage in waiting:
                raise errors.CorpusError(f"passage {passage} was given before")
            # Of one shard alone all must wait, however large it is.
            others = len(self._waiting.keys() - {number})
            if others and self._waiting_bytes + found.nbytes > WAITING_BYTES:
                raise errors.CorpusError(
                    f"{len(self._waiting)} shards of {layout.grid.shard_passages} passages are begun, and "
                    f"wait with {self._waiting_bytes:,} bytes for the rest: give passages shard by shard, as "
                    "`missing` lists them, or take fewer by `shard_passages`"
                )
            self._waiting[number] = waiting
            waiting[passage] = found
            self._waiting_bytes += found.nbytes
            ids = self.shard(number).ids
            if len(waiting) < len(ids):
                return True
            del self._waiting[number]
            self._waiting_bytes -= sum(value.nbytes for value in waiting.values())
            self._done.add(number)
        self.write(number, (waiting[i] for i in ids))
        return True

    def publish(self, *, use: bool = False) -> str:
        """Commit the version: every receipt is compared with the plan, then cards and manifest are written.

        The writer is closed. Repeated, or after a kill, it goes on where it was.

        Args:
            use: make it the version that readers of an existing corpus open; the first one is that anyway.

        Returns:
            The version's name.

        Raises:
            CorpusError: passages are missing, or another writer or job is at work.
            DamagedError: something on the disk is not what was written.
        """
        self._require_open()
        if self._waiting:
            given = sum(map(len, self._waiting.values()))
            begun = (i for number in sorted(self._waiting) for i in self.shard(number).ids)
            lacking = [i for i in begun if i not in self._waiting[i // self.layout.grid.shard_passages]]
            shown = ", ".join(map(str, lacking[:10])) + (", ..." if len(lacking) > 10 else "")
            raise errors.CorpusError(
                f"{given:,} passages wait for the rest of their shards; not given were {shown}"
            )
        if not self.published:
            absent = self._corpus.work.missing(shards.STAGE, range(self.layout.grid.shards))
            if (number := next(absent, None)) is not None:
                ids = self.shard(number).ids
                count = 1 + sum(1 for _ in absent)
                raise errors.CorpusError(
                    f"{count:,} of {self.layout.grid.shards:,} shards are not written, shard {number} the "
                    f"first, passages {ids[0]} to {ids[-1]}; `missing` lists them"
                )
        self.close()
        with locks.one_job(self._corpus.root):
            if self._corpus.is_finished():
                self._corpus.refresh()
            published = self._corpus.is_finished() and self.version in self._corpus.manifest.versions
            if not published:
                publishing.publish(self._corpus, self._plan, self._digests, use=use)
            elif use and (new := self._corpus.manifest.switched(self.version)) != self._corpus.manifest:
                self._corpus.write_manifest(new)
            clear(self._corpus, self.version)
        self.published = True
        return self.version


def clear(corpus: CorpusFolder, version: str) -> None:
    """Remove what led to a version that is published; the work of any other job stays."""
    work = corpus.work
    if work.is_empty() or (work.read_plan() or {}).get("version") == version:
        work.remove()
