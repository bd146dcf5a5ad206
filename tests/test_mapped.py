"""Rows served out of mappings are those that are read, and what goes wrong under a mapping is an error."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.memory import MemoryReader
from storage import codecs, descriptors, errors, memory_store, native
from storage.joined_memory import JoinedMemoryFiles, Piece
from storage.memory_files import MemoryFiles
from storage.native import mapped
from tests.test_memory_store import CODECS, any_layout, coder_of, layout_of, reader, write
from tests.test_native import at_odd_address, untouched

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def library(native_library: Path) -> Path:
    return native_library


@pytest.fixture(scope="session")
def best(library: Path) -> native.Library:
    return native.Library(library)


class Served:
    """Counts passages that come out of mappings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passages = 0
        serve = mapped.Plan.serve

        def counted(plan: mapped.Plan, *arguments: Any) -> int:
            done = serve(plan, *arguments)
            self.passages += done
            return done

        monkeypatch.setattr(mapped.Plan, "serve", counted)

    def since(self) -> int:
        count, self.passages = self.passages, 0
        return count


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served(monkeypatch)


def values_file(folder: Path, shard: int = 0) -> Path:
    return folder / memory_store.VALUES / f"c/{shard}/0/0"


def bits(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(array).view(np.uint8)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_what_is_served_is_what_was_written(
    decoders: native.Library,
    served: Served,
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    """The oracle is what the codec makes of the rows in NumPy; every kind of fetch, one generation or two."""
    layout, lengths = any_layout(data)
    passages = len(lengths)
    folder = tmp_path_factory.mktemp("any")
    with native.using(None):
        truth = write(folder, layout, lengths)
    opened = reader(folder, layout, check=data.draw(st.sampled_from(["once", "never"])))
    if data.draw(st.booleans()):
        second = MemoryFiles(folder, layout, first=passages)
        pieces = [
            Piece(first=0, passages=passages, files=opened._files),
            Piece(first=passages, passages=passages, files=second),
        ]
        opened = MemoryReader(JoinedMemoryFiles(pieces), opened.card, passages=2 * passages)
        truth = truth + truth
    bound = st.one_of(st.none(), st.integers(-45, 45))
    with native.using(decoders):
        opened.fetch(range(len(truth)))
        served.since()
        for _ in range(3):
            wanted = data.draw(st.lists(st.integers(0, len(truth) - 1), min_size=1, max_size=12))
            tokens = data.draw(st.one_of(st.none(), st.builds(slice, bound, bound)))
            cut = slice(None) if tokens is None else tokens
            for ids in (wanted, np.array(wanted)):
                found = opened.fetch(ids, tokens=tokens)
                assert served.since() == len(wanted)
                assert found.passage_ids.tolist() == wanted
                for got, i in zip(found, wanted, strict=True):
                    np.testing.assert_array_equal(bits(got), bits(truth[i][cut]))
            most = data.draw(st.integers(1, 50))
            rectangle = opened.padded(wanted, most)
            assert served.since() == len(wanted)
            expected = np.zeros((len(wanted), most, 6), truth[0].dtype)
            for place, i in enumerate(wanted):
                expected[place, : len(truth[i])] = truth[i][:most]
            np.testing.assert_array_equal(bits(rectangle.values), bits(expected))
            assert rectangle.lengths.tolist() == [min(len(truth[i]), most) for i in wanted]
            raw = opened.fetch(wanted, decode=False)
            assert served.since() == len(wanted)
            with native.using(None):
                again = opened.fetch(wanted, decode=False)
            assert served.since() == 0
            np.testing.assert_array_equal(bits(raw.values), bits(again.values))


@pytest.mark.parametrize(("name", "width"), [("int8", 1024), ("turbo4", 768)])
def test_rows_of_models_in_several_blocks(
    name: str, width: int, decoders: native.Library, served: Served, tmp_path: Path
) -> None:
    layout = replace(layout_of(12, codec=codecs.by_name(name), shard=5), width=width, max_tokens=300)
    truth = write(tmp_path, layout, np.random.default_rng(1).integers(100, 301, 12))
    opened = reader(tmp_path, layout)
    with native.using(decoders):
        opened.fetch(range(12))
        for i, got in enumerate(opened.fetch(range(12))):
            np.testing.assert_array_equal(bits(got), bits(truth[i]))
        assert served.since() == 12


def test_threads_share_the_work(
    best: native.Library, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrieval import pools

    layout = layout_of(64)
    truth = write(tmp_path, layout, np.random.default_rng(5).integers(1, 41, 64))
    opened = reader(tmp_path, layout)
    monkeypatch.setattr(pools, "CACHE_THREAD_BYTES", 64)
    monkeypatch.setattr(pools, "CACHE_THREADS", 4)
    with native.using(best):
        opened.fetch(range(64))
        for _ in range(50):
            for i, got in enumerate(opened.fetch(range(64))):
                np.testing.assert_array_equal(bits(got), bits(truth[i]))
        assert served.since() == 64 * 50


def test_the_first_time_is_read_and_checked(best: native.Library, served: Served, tmp_path: Path) -> None:
    layout = layout_of(64)
    write(tmp_path, layout, np.full(64, 20))
    with native.using(best):
        opened = reader(tmp_path, layout)
        opened.fetch([1, 2])
        opened.fetch([3, 1])
        # 1 was read before, 3 was not; and 40 lies in a file that nobody has opened.
        assert served.since() == 1
        opened.tokens([40])
        opened.fetch([40, 1])
        assert served.since() == 1
        always = reader(tmp_path, layout, check="always")
        always.fetch([1])
        always.fetch([1])
        assert served.since() == 0


@pytest.mark.parametrize("check", ["once", "never"])
@pytest.mark.parametrize("cut", [1, 300, 5000, None])
def test_a_file_that_was_cut_off_is_an_error(
    check: str, cut: int | None, best: native.Library, tmp_path: Path
) -> None:
    """Of the last page that is left the rest would read as zeros."""
    layout = layout_of(64, shard=64, chunk_rows=128)
    truth = write(tmp_path, layout, np.full(64, 40))
    path = values_file(tmp_path)
    with native.using(best):
        opened = reader(tmp_path, layout, check=check)
        for _ in range(3):
            np.testing.assert_array_equal(opened.fetch([63])[0], truth[63])
        size = path.stat().st_size
        # Behind the rows lies the index.
        rows = 64 * 40 * layout.row_bytes + 19 * 4
        os.truncate(path, 0 if cut is None else rows - cut)
        assert cut is None or rows < size
        with pytest.raises(errors.DamagedError, match="ends before its chunks do"):
            opened.fetch([63])
        with pytest.raises(errors.DamagedError, match="ends before its chunks do"):
            opened.fetch([63, 62])


def test_a_bit_flipped_in_place_is_seen_by_who_always_looks(best: native.Library, tmp_path: Path) -> None:
    layout = layout_of(64)
    truth = write(tmp_path, layout, np.full(64, 20))
    with native.using(best):
        always, once = (reader(tmp_path, layout, check=check) for check in ("always", "once"))
        for opened in (always, once, always, once):
            np.testing.assert_array_equal(opened.fetch([0, 1])[0], truth[0])
        with values_file(tmp_path).open("r+b") as file:
            byte = file.read(1)[0]
            file.seek(0)
            file.write(bytes([byte ^ 8]))
        with pytest.raises(errors.DamagedError, match="passage 0"):
            always.fetch([0, 1])


def test_a_file_put_in_its_place_is_checked_anew(
    best: native.Library, served: Served, tmp_path: Path
) -> None:
    layout = layout_of(8)
    truth = write(tmp_path, layout, np.full(8, 20))
    path = values_file(tmp_path)
    with native.using(best):
        opened = reader(tmp_path, layout)
        for _ in range(3):
            np.testing.assert_array_equal(opened.fetch([0, 5])[0], truth[0])
        assert served.since() == 4
        data = bytearray(path.read_bytes())
        data[1] ^= 8
        path.with_name("new").write_bytes(data)
        path.with_name("new").rename(path)
        # The old one is still open, and right.
        np.testing.assert_array_equal(opened.fetch([0, 5])[0], truth[0])
        assert served.since() == 2
        opened._files._values[0].forget()
        with pytest.raises(errors.DamagedError, match="passage 0"):
            opened.fetch([0, 5])
        assert served.since() == 0


def maps_of(folder: Path) -> int:
    return sum(str(folder) in line for line in Path("/proc/self/maps").read_text().splitlines())


def fetch_at_random(opened: MemoryReader, truth: list[npt.NDArray[Any]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(60):
        wanted = rng.integers(0, len(truth), rng.integers(1, 9))
        for i, got in zip(wanted, opened.fetch(wanted), strict=True):
            np.testing.assert_array_equal(bits(got), bits(truth[i]))


def test_mappings_go_with_their_files(
    best: native.Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many threads, and many more files than may be open: each mapping lives as long as it is used."""
    layout = layout_of(160, shard=4)
    truth = write(tmp_path, layout, np.random.default_rng(5).integers(1, 41, 160))
    monkeypatch.setattr(descriptors, "MOST", 6)
    with native.using(best):
        opened = reader(tmp_path, layout)
        opened.fetch(range(160))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(partial(fetch_at_random, opened, truth), range(4)))
        assert maps_of(tmp_path) <= 6
        del opened
    assert maps_of(tmp_path) == 0


def test_what_is_not_in_the_page_cache_is_read(best: native.Library, served: Served, tmp_path: Path) -> None:
    """A mapping would wait for the disk page by page."""
    layout = replace(layout_of(400, shard=400, chunk_rows=128), width=1024)
    truth = write(tmp_path, layout, np.full(400, 40))
    path = values_file(tmp_path)
    with native.using(best):
        opened = reader(tmp_path, layout)
        opened.fetch(range(400))
        opened.fetch([0])
        assert served.since() == 1
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                os.preadv(file.fileno(), [bytearray(1)], path.stat().st_size // 2, os.RWF_NOWAIT)
                pytest.skip("this file system keeps all in the page cache")
            except BlockingIOError:
                pass
        np.testing.assert_array_equal(opened.fetch([210])[0], truth[210])
        assert served.since() == 0
        np.testing.assert_array_equal(opened.fetch([210])[0], truth[210])
        assert served.since() == 1


def test_codes_that_no_coder_writes_are_named(best: native.Library, served: Served, tmp_path: Path) -> None:
    layout = layout_of(8, codec=codecs.by_name("pq3x3"))
    truth = write(tmp_path, layout, np.full(8, 20))
    with native.using(best):
        opened = reader(tmp_path, layout, check="never")
        for _ in range(2):
            np.testing.assert_array_equal(bits(opened.fetch([1, 3])[0]), bits(truth[1]))
        assert served.since() == 2
        with values_file(tmp_path).open("r+b") as file:
            file.write(b"\xff")
        with pytest.raises(errors.DamagedError, match="a code of 255 is stored"):
            opened.fetch([0, 3])


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's, where other tests loaded it
def test_somebody_elses_file_is_not_mapped(best: native.Library) -> None:
    """The system says of all its bytes that they are in the page cache."""
    file = os.open("/proc/self/exe", os.O_RDONLY)
    size = os.fstat(file).st_size
    try:
        owner = os.fstat(file).st_uid
        if owner == os.geteuid() == 0:
            child = os.fork()
            if child == 0:
                os.seteuid(65534)
                os._exit(int(mapped.Mapping.of(best, file, size, 128) is not None))
            assert os.waitpid(child, 0) == (child, 0)
            made = mapped.Mapping.of(best, file, size, 128)
            assert made is not None
        elif owner != os.geteuid() and not os.access("/proc/self/exe", os.W_OK):
            assert mapped.Mapping.of(best, file, size, 128) is None
        assert mapped.Mapping.of(best, file, size + 1, 128) is None
    finally:
        os.close(file)


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's, where other tests loaded it
def test_after_a_fork(best: native.Library, tmp_path: Path) -> None:
    layout = layout_of(8)
    truth = write(tmp_path, layout, np.full(8, 20))
    with native.using(best):
        opened = reader(tmp_path, layout)
        for _ in range(2):
            opened.fetch([1, 2])
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(opened.fetch([1, 2])[0], truth[1]) else 1)
        assert os.waitpid(child, 0) == (child, 0)


@pytest.mark.parametrize("length", [0, 1, 63, 255, 256, 257, 1023, 4096, 5001, 20000])
def test_a_copy_touches_nothing_else(length: int, decoders: native.Library) -> None:
    source = at_odd_address(np.random.default_rng(length).integers(0, 256, length).astype(np.uint8))
    out = at_odd_address(np.zeros(length, np.uint8))
    assert mapped.copied(decoders, out, source.ctypes.data)
    np.testing.assert_array_equal(out, source)
    assert untouched(out)


KILLED = """
import ctypes, faulthandler, mmap, os, signal, sys, threading
from pathlib import Path
import numpy as np
from storage import native
from storage.native import mapped

library, how, path = native.Library(Path(sys.argv[1]), sys.argv[2]), sys.argv[3], sys.argv[4]
size = 64 * mmap.PAGESIZE
Path(path).write_bytes(b"x" * size)
file = os.open(path, os.O_RDWR)
if how == "before":
    faulthandler.enable()
address = library.map(file, size)
out = np.zeros(size, np.uint8)
assert mapped.copied(library, out, address) and (out == ord("x")).all()
if how == "after":
    faulthandler.enable()
os.ftruncate(file, 3 * mmap.PAGESIZE)

def torn():
    for _ in range(20):
        assert not mapped.copied(library, out, address)
        assert mapped.copied(library, out[: 2 * mmap.PAGESIZE], address)

threads = [threading.Thread(target=torn) for _ in range(4)]
[thread.start() for thread in threads]
torn()
[thread.join() for thread in threads]
print("alive", flush=True)
if how == "ignored":
    signal.signal(signal.SIGBUS, signal.SIG_IGN)
    assert not mapped.copied(library, out, address)
    os.kill(os.getpid(), signal.SIGBUS)
    print("ignored", flush=True)
if how == "caught":
    signal.signal(signal.SIGBUS, lambda *_: print("caught", flush=True))
    assert not mapped.copied(library, out, address)
    os.kill(os.getpid(), signal.SIGBUS)
# Nobody guards this one.
ctypes.string_at(address + 10 * mmap.PAGESIZE, 1) if how != "caught" else os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["plainly", "before", "after", "ignored", "caught"])
def test_a_bus_error_of_ours_is_an_error_and_of_others_is_theirs(
    how: str, best: native.Library, library: Path, tmp_path: Path
) -> None:
    """A copy comes back from it, in every thread; other faults end the process, and who watches is told."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(library), best.instructions, how, str(tmp_path / "file")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=120,
    )
    said = done.stdout.split()
    assert said == {"ignored": ["alive", "ignored"], "caught": ["alive", "caught"]}.get(how, ["alive"]), done
    assert done.returncode == (-signal.SIGKILL if how == "caught" else -signal.SIGBUS), done
    assert ("Fatal Python error: Bus error" in done.stderr) == (how in ("before", "after")), done.stderr


def test_a_file_cut_off_again_and_again_kills_nobody(best: native.Library, tmp_path: Path) -> None:
    layout = replace(layout_of(64, shard=64, chunk_rows=128), width=512)
    write(tmp_path, layout, np.full(64, 40))
    path = values_file(tmp_path)
    data = path.read_bytes()
    failed: list[str] = []
    with native.using(best):
        opened = reader(tmp_path, layout)
        opened.fetch(range(64))

        def cut_off() -> None:
            for _ in range(150):
                os.truncate(path, len(data) // 3)
                with path.open("r+b", buffering=0) as file:
                    file.write(data)

        with ThreadPoolExecutor(1) as pool:
            cutting = pool.submit(cut_off)
            while not cutting.done():
                try:
                    opened.fetch(range(30, 64))
                except errors.DamagedError as e:
                    failed.append(str(e))
            cutting.result()
        assert opened.fetch(range(64)).values.shape == (64 * 40, 512)
    assert failed
    assert all("ends before its chunks do" in message for message in failed)


def test_numbers_are_laid_out_as_in_c(best: native.Library) -> None:
    """A recipe made in Python decodes; so its fields lie where C looks for them, of every kind."""
    assert ctypes.sizeof(mapped._Numbers) == 12 * 8 + ctypes.sizeof(mapped._Turn)
    for codec in CODECS:
        layout = layout_of(8, codec=codec)
        coder = coder_of(layout)
        recipe = coder.recipe(best)
        assert (recipe is None) == coder.view_only
        if recipe is not None:
            assert recipe._numbers.row_bytes == layout.row_bytes
            assert recipe.value_bytes == 6 * codec.dtype.itemsize
