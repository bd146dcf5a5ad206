"""Open files: one budget a process, the least recently used closed first, and running out is no damage."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import descriptors, errors
from tests.test_memory_store import layout_of, reader, write

ROOT = Path(__file__).parents[1]

# Passages by several tables, memory by several readers, from several threads, of a process that may open 64.
MANY_READERS = """
import os, resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from retrieval import open_corpus

corpora = [open_corpus(sys.argv[1]) for _ in range(6)]
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
readers = [corpus.memory(check="always") for corpus in corpora for _ in range(8)]
one = np.arange(len(corpora[0]))
right, text = np.array(readers[0].fetch(one).values), corpora[0].passages(one)
starts = readers[0].fetch(one).offsets
most = 0

def read(seed):
    global most
    rng = np.random.default_rng(seed)
    for _ in range(12):
        ids = rng.integers(0, len(one), 9)
        memory = readers[rng.integers(len(readers))].fetch(ids)
        wanted = np.concatenate([right[starts[i]:starts[i + 1]] for i in ids])
        assert np.array_equal(memory.values, wanted)
        assert corpora[rng.integers(len(corpora))].passages(ids).equals(text.take(ids))
        most = max(most, len(os.listdir("/proc/self/fd")))

with ThreadPoolExecutor(4) as pool:
    list(pool.map(read, range(24)))
print("right, with at most", most)
"""


@pytest.mark.parametrize("limit", [48, 64, 1024])
def test_many_readers_in_a_process_that_may_open_few_files(corpus: Path, limit: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY_READERS, corpus, str(limit)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    most = int(done.stdout.split()[-1])
    # Not trivially so: the readers have some 480 shards to open.
    assert limit / 3 < most < limit


def test_the_limit_is_half_of_what_the_process_may_open(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, limit in ((1024, 512), (64, 32), (1, 1), (1 << 20, descriptors.MOST), (-1, descriptors.MOST)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, -1))
        assert descriptors.OpenFiles.limit() == limit


class _File(descriptors.Kept):
    opened = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).opened += 1

    def __del__(self) -> None:
        type(self).opened -= 1


def test_the_least_recently_used_is_closed_first_whoever_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "MOST", 6)
    budget = descriptors.OpenFiles()
    a, b = descriptors.Home(), descriptors.Home()
    for i in range(3):
        budget.open(a, i, _File)
        budget.open(b, i, _File)
    assert _File.opened == len(budget) == 6
    a[0].used = descriptors.tick()
    held = b[0]
    budget.open(a, 3, _File)  # b's 0 goes, a's 1 is next
    assert (sorted(a), sorted(b)) == ([0, 1, 2, 3], [1, 2])
    # Who has it may still use it; then it is closed.
    assert _File.opened == 7
    del held
    assert _File.opened == 6
    budget.open(b, 4, _File)
    assert (sorted(a), sorted(b)) == ([0, 2, 3], [1, 2, 4])
    # A reader that is gone takes its files along.
    del a
    assert _File.opened == len(budget) == 3


def test_of_two_that_open_the_same_one_is_kept() -> None:
    budget, home = descriptors.OpenFiles(), descriptors.Home()
    first = budget.open(home, 1, _File)
    assert budget.open(home, 1, _File) is first
    assert len(budget) == _File.opened == 1


def test_where_others_have_taken_all_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept open is given up; and if that is not enough, it is told as what it is."""
    layout = layout_of(64)
    truth = write(tmp_path, layout, np.full(64, 3))
    opened = reader(tmp_path, layout)
    opened.fetch(range(0, 64, 8))
    assert len(opened._files._values) == 8
    real, refusals = os.open, [errno.EMFILE]

    def refusing(path: Any, *arguments: Any, **more: Any) -> int:
        if str(tmp_path) in str(path) and refusals:
            raise OSError(refusals.pop(), "Too many open files", str(path))
        return real(path, *arguments, **more)

    monkeypatch.setattr(os, "open", refusing)
    del opened._files._values[0]
    np.testing.assert_array_equal(opened.fetch([5])[0], truth[5])
    assert list(opened._files._values) == [0]
    refusals += [errno.EMFILE, errno.ENFILE] * 4
    opened._files._values.clear()
    with pytest.raises(errors.UnreadableError, match=r"raise (`ulimit -n`|fs\.file-max)") as raised:
        opened.fetch([5])
    assert raised.value.errno in (errno.EMFILE, errno.ENFILE)
    assert not isinstance(raised.value, errors.CorpusError)
    refusals.clear()
    np.testing.assert_array_equal(opened.fetch([5])[0], truth[5])


def test_rows_that_were_replaced_while_they_were_closed_are_refused(tmp_path: Path) -> None:
    layout = layout_of(64)
    truth = write(tmp_path, layout, np.full(64, 3))
    opened = reader(tmp_path, layout)
    np.testing.assert_array_equal(opened.fetch([5])[0], truth[5])
    opened._files._rows._files.clear()
    # The same file may be opened again.
    np.testing.assert_array_equal(opened.fetch([13])[0], truth[13])
    opened._files._rows._files.clear()
    write(tmp_path, layout, np.full(64, 3), seed=1)
    np.testing.assert_array_equal(opened.fetch([5])[0], truth[5])  # its file is open, as it was
    with pytest.raises(errors.CorpusError, match="was replaced while it was read"):
        opened.fetch([40])
