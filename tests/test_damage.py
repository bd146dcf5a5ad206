"""Damage anywhere: `verify --full` finds it, and reads raise or give right numbers, never wrong ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrieval import open_corpus
from storage import errors
from tests.jobs import verify as verification


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One byte of a file changed by XOR with `flip`, or, where that is 0, the file cut off before it."""

    path: Path
    at: int
    flip: int

    def __str__(self) -> str:
        what = f"cut off at {self.at}" if not self.flip else f"byte {self.at} flipped by {self.flip:#04x}"
        return f"{self.path.name} in {self.path.parent}: {what}"

    @contextmanager
    def done(self) -> Iterator[None]:
        """In place, so that nothing but this byte changes, and put back afterwards."""
        whole = self.path.read_bytes()
        with self.path.open("r+b") as file:
            if self.flip:
                file.seek(self.at)
                file.write(bytes([whole[self.at] ^ self.flip]))
            else:
                file.truncate(self.at)
        try:
            yield
        finally:
            with self.path.open("r+b") as file:
                file.seek(self.at)
                file.write(whole[self.at :])


def damages(root: Path, count: int, seed: int) -> Iterator[Damage]:
    """Half of them fall on files of any size alike, half on bytes alike; one in five cuts a file off."""
    rng = random.Random(seed)
    paths = sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size)
    sizes = [path.stat().st_size for path in paths]
    for number in range(count):
        weights = sizes if number % 2 else None
        (k,) = rng.choices(range(len(paths)), weights)
        flip = 0 if number % 5 == 0 else rng.randrange(1, 256)
        yield Damage(path=paths[k], at=rng.randrange(sizes[k]), flip=flip)


Read = Callable[[Path], Any]


def read_passages(root: Path) -> pa.Table:
    opened = open_corpus(root)
    return opened.passages(np.arange(len(opened)))


def read_memory(root: Path) -> tuple[bytes, bytes]:
    opened = open_corpus(root)
    memory = opened.memory().fetch(np.arange(len(opened)))
    return memory.offsets.tobytes(), memory.values.tobytes()


def read_vectors(root: Path) -> bytes:
    opened = open_corpus(root)
    return opened.vectors().read(0, len(opened)).tobytes()


def search(root: Path) -> tuple[bytes, bytes]:
    opened = open_corpus(root)
    queries = np.random.default_rng(0).normal(size=(5, opened.vectors_card.layout.dim))
    found = opened.search(queries, 7)
    return found.passage_ids.tobytes(), found.scores.tobytes()


READS: dict[str, Read] = {
    "passages": read_passages,
    "memory": read_memory,
    "vectors": read_vectors,
    "search": search,
}


def damage_again_and_again(root: Path, count: int, seed: int) -> Counter[str]:
    """Do it; returns how often each component was damaged and how often each read raised."""
    assert verification(root, full=True).ok
    right = {name: read(root) for name, read in READS.items()}
    seen: Counter[str] = Counter()
    for damage in damages(root, count, seed):
        with damage.done():
            found = verification(root, full=True)
            name = damage.path.relative_to(root).as_posix()
            assert any(name in line for line in found.damaged), f"{damage}: {found.damaged}"
            seen[name.split("/")[0]] += 1
            for what, read in READS.items():
                try:
                    result = read(root)
                except errors.CorpusError:
                    seen[f"{what} raised"] += 1
                else:
                    assert result == right[what], f"{what} are wrong: {damage}"
    assert verification(root, full=True).ok  # every byte was put back
    return seen


def test_damage_is_found_and_never_served(corpus_copy: Path) -> None:
    seen = damage_again_and_again(corpus_copy, 200, seed=0)
    for component in ("corpus.json", "passages", "vectors", "index", "memory", "statistics"):
        assert seen[component] > 0, seen
    for read in READS:
        # Each read uses some of the files: it sees some of the damage, and the rest does not matter to it.
        assert 0 < seen[f"{read} raised"] < 200, seen


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_ten_thousand_damages(corpus_copy: Path, seed: int) -> None:
    seen = damage_again_and_again(corpus_copy, 1000, seed)
    assert seen["memory raised"] > 300, seen


def test_wrong_numbers_would_be_noticed(corpus_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop above fails where a read trusts what it finds."""
    (part, *_) = sorted(corpus_copy.glob("memory/*/values/c/*/*/*"))
    monkeypatch.setitem(READS, "unchecked", lambda _: part.read_bytes())
    with pytest.raises(AssertionError, match="unchecked are wrong"):
        damage_again_and_again(corpus_copy, 200, seed=0)
