"""The reader's ways to fetch: parts of passages, into given buffers, ahead of time, checked or not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval import memory
from storage import errors, memory_store
from storage.memory_store import MemoryLayout
from tests.test_memory_store import any_layout, layout_of, reader, write


@pytest.fixture
def layout() -> MemoryLayout:
    return layout_of(64)


@pytest.fixture
def truth(tmp_path: Path, layout: MemoryLayout) -> list[npt.NDArray[Any]]:
    return write(tmp_path, layout, np.random.default_rng(5).integers(1, 41, 64))


def flip(folder: Path) -> None:
    """Flip a bit of the first passage."""
    path = folder / memory_store.VALUES / "c/0/0/0"
    data = bytearray(path.read_bytes())
    data[1] ^= 8
    path.write_bytes(data)


@pytest.mark.parametrize("check", memory.CHECKS)
def test_part_of_each_passage(tmp_path: Path, layout: MemoryLayout, truth: Any, check: str) -> None:
    opened = reader(tmp_path, layout, check=check)
    for tokens in (slice(0, 5), slice(3, None), slice(-2, None), slice(7, 7), slice(30, 10), slice(None)):
        for ids in ([4, 60, 4, 5, 6], range(64), []):
            fetched = opened.fetch(ids, tokens=tokens)
            for j, i in enumerate(ids):
                np.testing.assert_array_equal(fetched[j], truth[i][tokens])
    with pytest.raises(errors.CorpusError, match="step 1"):
        opened.fetch([0], tokens=slice(0, 4, 2))


def test_a_part_is_checked_with_its_passage(tmp_path: Path, layout: MemoryLayout, truth: Any) -> None:
    """The flipped bit is in the first token; the last ones are not given out either."""
    flip(tmp_path)
    for check in ("once", "always"):
        with pytest.raises(errors.DamagedError, match="passage 0"):
            reader(tmp_path, layout, check=check).fetch([0], tokens=slice(-1, None))


def test_what_was_checked_once_is_not_checked_again(tmp_path: Path, layout: MemoryLayout, truth: Any) -> None:
    once, always, never = (reader(tmp_path, layout, check=check) for check in memory.CHECKS)
    for opened in (once, always, never):
        np.testing.assert_array_equal(opened.fetch([0])[0], truth[0])
    # In place: the readers go on with the file they opened.
    with (tmp_path / memory_store.VALUES / "c/0/0/0").open("r+b") as file:
        file.seek(1)
        byte = file.read(1)[0]
        file.seek(1)
        file.write(bytes([byte ^ 8]))
    assert not np.array_equal(once.fetch([0])[0], truth[0])
    assert not np.array_equal(never.fetch([0])[0], truth[0])
    with pytest.raises(errors.DamagedError, match="passage 0"):
        always.fetch([0])
    with pytest.raises(errors.CorpusError, match="once, always, never"):
        reader(tmp_path, layout, check="sometimes")


def test_a_given_buffer_is_filled(tmp_path: Path, layout: MemoryLayout, truth: Any) -> None:
    opened = reader(tmp_path, layout)
    out = np.zeros((64 * 40, 6), opened.dtype)
    fetched = opened.fetch([9, 3], out=out)
    np.testing.assert_array_equal(out[: len(truth[9]) + len(truth[3])], np.concatenate([truth[9], truth[3]]))
    assert np.shares_memory(fetched.values, out)
    for bad in (out[:1], out[:, :5], out.astype(np.float32), out.T, out[::2]):
        with pytest.raises(errors.CorpusError, match="wanted writable, contiguous bfloat16"):
            opened.fetch([9, 3], out=bad)
    out.flags.writeable = False
    with pytest.raises(errors.CorpusError, match="wanted writable"):
        opened.fetch([9, 3], out=out)


def test_buffers_are_used_again_only_when_nothing_is_left_of_them(
    tmp_path: Path, layout: MemoryLayout, truth: Any
) -> None:
    opened = reader(tmp_path, layout)
    fetched = opened.fetch(range(20))
    address = fetched.values.ctypes.data
    view = fetched[19]
    del fetched
    # A view keeps the whole buffer; what is fetched now must not run over it.
    others = [opened.fetch(range(20, 40)) for _ in range(3)]
    np.testing.assert_array_equal(view, truth[19])
    assert all(other.values.ctypes.data != address for other in others)
    given_back = {address, *(other.values.ctypes.data for other in others)}
    del view, others
    assert opened.fetch(range(20)).values.ctypes.data in given_back


def test_ahead_of_time(tmp_path: Path, layout: MemoryLayout, truth: Any) -> None:
    opened = reader(tmp_path, layout)
    np.testing.assert_array_equal(opened.prefetch([5, 1]).result()[1], truth[1])
    with pytest.raises(errors.UnknownPassageError):
        opened.prefetch([64]).result()
    batches = [[i, 63 - i] for i in range(20)]
    for wanted, fetched in zip(batches, opened.batches(batches, ahead=3), strict=True):
        assert fetched.passage_ids.tolist() == wanted
        for j, i in enumerate(wanted):
            np.testing.assert_array_equal(fetched[j], truth[i])
    partial = opened.batches(iter(batches), tokens=slice(2))
    np.testing.assert_array_equal(next(partial)[0], truth[0][:2])
    partial.close()  # type: ignore[attr-defined]
    failing = opened.batches([[1], [64], [2]])
    next(failing)
    with pytest.raises(errors.UnknownPassageError):
        list(failing)
    with pytest.raises(errors.CorpusError, match="ahead is 0"):
        next(opened.batches(batches, ahead=0))


def test_from_the_disk_and_without_nowait(
    tmp_path: Path, layout: MemoryLayout, truth: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = reader(tmp_path, layout, check="always")
    real = os.preadv
    cold = {"reads": 0}

    def nothing_cached(descriptor: int, pieces: Any, position: int, flags: int = 0) -> int:
        if flags:
            cold["reads"] += 1
            raise BlockingIOError
        # The kernel may give less than was asked for.
        return real(descriptor, [pieces[0][: max(1, len(pieces[0]) // 2)]], position)

    def unknown_flag(descriptor: int, pieces: Any, position: int, flags: int = 0) -> int:
        if flags:
            raise OSError(95, "Operation not supported")
        return real(descriptor, pieces, position)

    for preadv in (nothing_cached, unknown_flag):
        monkeypatch.setattr(os, "preadv", preadv)
        wanted = [3, 60, 4, 5, 31]
        for i, values in zip(wanted, opened.fetch(wanted), strict=True):
            np.testing.assert_array_equal(values, truth[i])
    assert cold["reads"] > 0
    flip(tmp_path)
    monkeypatch.setattr(os, "preadv", nothing_cached)
    with pytest.raises(errors.DamagedError, match="passage 0"):
        reader(tmp_path, layout).fetch(range(64))


def test_after_a_fork(tmp_path: Path, layout: MemoryLayout, truth: Any) -> None:
    """As PyTorch's data loaders do; the parent's threads are not there in the child."""
    import multiprocessing
    import warnings

    opened = reader(tmp_path, layout)
    opened.prefetch(range(64)).result()
    with warnings.catch_warnings():
        # Libraries that an earlier test has loaded (JAX, Lance) warn of it; the child uses none of them.
        warnings.simplefilter("ignore")
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(
            target=lambda: queue.put(np.asarray(opened.prefetch([7]).result()[0], np.float32))
        )
        child.start()
    np.testing.assert_array_equal(queue.get(timeout=30), truth[7].astype(np.float32))
    child.join()


def test_after_a_fork_while_other_threads_fetch(tmp_path: Path, layout: MemoryLayout, truth: Any) -> None:
    """Whatever locks they hold at that moment, nobody will release them in the child."""
    import os
    import signal
    import time
    import warnings

    opened = reader(tmp_path, layout)
    with (
        opened._buffers._lock,
        opened._files._rows._lock,
        opened._pools._lock,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # also JAX's, where another test loaded it
        child = os.fork()
        if child == 0:
            found = np.asarray(opened.prefetch([7]).result()[0], np.float32)
            os._exit(0 if np.array_equal(found, truth[7].astype(np.float32)) else 1)
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_fetch_is_the_arrays_themselves(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Ids in any order and as often as one likes, any slice, into any buffer, packed and padded."""
    layout, lengths = any_layout(data)
    passages = len(lengths)
    folder = tmp_path_factory.mktemp("any")
    truth = write(folder, layout, lengths)
    opened = reader(folder, layout, check=data.draw(st.sampled_from(memory.CHECKS)))
    bound = st.one_of(st.none(), st.integers(-45, 45))
    for _ in range(data.draw(st.integers(1, 3))):
        wanted = data.draw(st.lists(st.integers(0, passages - 1), max_size=12))
        tokens = data.draw(st.one_of(st.none(), st.builds(slice, bound, bound)))
        right = [truth[i][slice(None) if tokens is None else tokens] for i in wanted]
        rows = sum(map(len, right))
        out = data.draw(st.sampled_from([None, np.ones((rows + 3, 6), opened.dtype)]))
        found = opened.fetch(wanted, tokens=tokens, out=out)
        assert found.offsets.tolist() == np.cumsum([0, *map(len, right)]).tolist()
        for got, one in zip(found, right, strict=True):
            np.testing.assert_array_equal(got.view(np.uint8), one.view(np.uint8))
        if out is not None:
            assert np.shares_memory(found.values, out) or rows == 0
            assert (out[rows:] == 1).all()
        most = data.draw(st.integers(1, 50))
        given_out = data.draw(st.sampled_from([None, np.ones((len(wanted), most, 6), opened.dtype)]))
        padded = opened.padded(wanted, most, out=given_out)
        values, mask = opened.fetch(wanted).padded(most)
        np.testing.assert_array_equal(padded.values.view(np.uint8), values.view(np.uint8))
        np.testing.assert_array_equal(padded.mask, mask)
        assert padded.lengths.tolist() == [min(len(truth[i]), most) for i in wanted]
        assert padded.passage_ids.tolist() == wanted


def test_a_rectangle_is_checked_like_a_fetch(tmp_path: Path, layout: MemoryLayout, truth: Any) -> None:
    flip(tmp_path)
    for most in (1, 60):
        with pytest.raises(errors.DamagedError, match="passage 0"):
            reader(tmp_path, layout).padded([3, 0], most)
    opened = reader(tmp_path, layout)
    assert opened.padded([], 5).values.shape == (0, 5, 6)
    for wrong in (0, -1, True):
        with pytest.raises(errors.CorpusError, match="max_tokens is"):
            opened.padded([3], wrong)
    out = np.ones((2, 7, 6), opened.dtype)
    for bad in (out[:1], out[:, :6], out.astype(np.float32), out[:, ::-1]):
        with pytest.raises(errors.CorpusError, match=r"wanted writable, contiguous bfloat16 \[2, 7, 6\]"):
            opened.padded([3, 4], 7, out=bad)
    batches = [[i, 63 - i] for i in range(1, 9)]
    for wanted, got in zip(batches, opened.padded_batches(batches, 7, ahead=3), strict=True):
        values, mask = opened.fetch(wanted).padded(7)
        np.testing.assert_array_equal(got.values, values)
        np.testing.assert_array_equal(got.mask, mask)


def test_readers_beside_each_other_share_what_was_read(
    tmp_path: Path, layout: MemoryLayout, truth: Any
) -> None:
    opened = reader(tmp_path, layout)
    opened.read_ahead()
    other = opened.beside()
    assert other is not None
    assert other._files is opened._files
    assert other._buffers is not opened._buffers
    np.testing.assert_array_equal(other.fetch([9])[0], truth[9])
