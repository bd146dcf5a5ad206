"""The memory store: what is written comes back by id, by us and by every other Zarr reader; damage raises."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.memory import MemoryReader
from storage import codec_parameters, codecs, errors, files, memory_store, zarr_arrays
from storage.canaries import CanaryCard
from storage.components import MemoryCard, MemoryCounts
from storage.memory_files import MemoryFiles
from storage.memory_store import MemoryLayout
from storage.shards import ShardGrid

# Codecs that store rows of six dimensions; those of whole groups have a test of their own.
CODECS = tuple(
    codecs.by_name(name) for name in ("float32", "bfloat16", "float16", "int8", "turbo4", "pq3x3", "rq3x2")
)


def write(
    folder: Path, layout: MemoryLayout, lengths: npt.NDArray[np.int64], seed: int = 0
) -> list[npt.NDArray[Any]]:
    """A store of random memory; returns each passage's, as it must come back."""
    rng = np.random.default_rng(seed)
    coder = coder_of(layout)
    codec_parameters.write(folder, layout.codec, coder.parameters)
    coded = [coder.encode(rng.normal(size=(n, layout.width)).astype(np.float32)) for n in lengths]
    memory_store.create(folder, layout)
    rows = []
    for shard in layout.grid:
        first, stop = layout.grid.bounds(shard)
        offsets = np.concatenate([[0], np.cumsum(lengths[first:stop])]).astype(np.int64)
        buffer = memory_store.allocate(layout, int(offsets[-1]))
        buffer[: offsets[-1]] = np.concatenate(coded[first:stop])
        rows.append(memory_store.write_shard(folder, layout, shard, offsets=offsets, buffer=buffer).rows)
    memory_store.join(folder, layout, lambda: rows)
    return [coder.decoded(stored) for stored in coded]


def coder_of(layout: MemoryLayout) -> codecs.Coder:
    return _trained(layout.codec, layout.width)


@functools.cache
def _trained(codec: codecs.Codec, width: int) -> codecs.Coder:
    sample = (
        np.random.default_rng(7).normal(size=(getattr(codec, "fewest_tokens", 400), width)).astype(np.float32)
    )
    return codec.bind(width, codec.train(sample))


def reader(folder: Path, layout: MemoryLayout, *, check: str = "once") -> MemoryReader:
    entry = files.FileEntry(path="files.parquet", bytes=0, crc32=0)
    card = MemoryCard(
        version="v",
        fingerprint="f",
        encoder_fingerprint="e" * 64,
        encoder={},
        layout=layout,
        codec_parameters=codec_parameters.digests(coder_of(layout).parameters),
        counts=MemoryCounts(
            tokens=1, memory_bytes=1, passages_cut=0, tokens_cut=0, tokens_min=1, tokens_max=1
        ),
        settings={},
        origin=None,
        rows=(entry, entry),
        canaries=CanaryCard(passage_ids=(0,), tokens=(1,), dtype="float32", file=entry),
        quality={},
        files=entry,
    )
    return MemoryReader(MemoryFiles(folder, layout), card, check=check)


def any_layout(data: st.DataObject) -> tuple[MemoryLayout, npt.NDArray[np.int64]]:
    """A layout in any of `CODECS`, and the lengths of its passages."""
    passages = data.draw(st.integers(1, 40))
    lengths = np.array(
        data.draw(st.lists(st.integers(1, 40), min_size=passages, max_size=passages)), np.int64
    )
    codec = data.draw(st.sampled_from(CODECS))
    layout = layout_of(
        passages,
        codec=codec,
        shard=data.draw(st.sampled_from([1, 3, 8, 64])),
        chunk_rows=data.draw(st.sampled_from([1, 3, 16, 128])),
    )
    return layout, lengths


def layout_of(
    passages: int, *, codec: codecs.Codec = codecs.BFLOAT16, shard: int = 8, chunk_rows: int = 16
) -> MemoryLayout:
    grid = ShardGrid(passages=passages, shard_passages=shard)
    return MemoryLayout(grid=grid, width=6, max_tokens=40, codec=codec, chunk_rows=chunk_rows)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fetch_gives_what_was_written_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    passages = data.draw(st.integers(1, 30))
    lengths = np.array(
        data.draw(st.lists(st.integers(1, 40), min_size=passages, max_size=passages)), np.int64
    )
    codec = data.draw(st.sampled_from(CODECS))
    layout = layout_of(passages, codec=codec, chunk_rows=data.draw(st.sampled_from([1, 3, 16, 128])))
    folder = tmp_path_factory.mktemp("store")
    memory = write(folder, layout, lengths)
    wanted = data.draw(st.lists(st.integers(0, passages - 1), max_size=20))
    fetched = reader(folder, layout).fetch(wanted)
    assert fetched.passage_ids.tolist() == wanted
    assert fetched.values.dtype == codec.dtype
    assert len(fetched) == len(wanted)
    for j, i in enumerate(wanted):
        np.testing.assert_array_equal(fetched[j].view(np.uint8), memory[i].view(np.uint8))
    raw = reader(folder, layout).fetch(wanted, decode=False)
    assert raw.values.shape == (len(fetched.values), layout.stored_width)
    assert raw.values.dtype == codec.stored_dtype
    np.testing.assert_array_equal(coder_of(layout).decoded(raw.values), fetched.values)
    np.testing.assert_array_equal(np.diff(fetched.offsets), lengths[wanted])


def test_other_zarr_readers_agree(tmp_path: Path) -> None:
    lengths = np.random.default_rng(1).integers(1, 41, 20)
    for codec in CODECS:
        layout = layout_of(20, codec=codec)
        folder = tmp_path / codec.name
        memory = write(folder, layout, lengths)
        values = zarr.open_array(folder / "values", mode="r")
        offsets: Any = zarr.open_array(folder / "offsets", mode="r")[:]
        checksums: Any = zarr.open_array(folder / "checksums", mode="r")[:]
        opened = zarr_arrays.Array(folder / "values", shape=layout.shape, dtype=codec.stored_dtype.name)
        assert values.attrs["logical_dtype"] == codec.dtype.name
        for i in range(20):
            s, j = divmod(i, 8)
            rows: Any = values[s, offsets[s, j] : offsets[s, j + 1]]
            np.testing.assert_array_equal(coder_of(layout).decoded(rows), memory[i])
            assert checksums[s, j] == files.crc32c(rows.tobytes())
            through_tensorstore = opened.read((s, slice(offsets[s, j], offsets[s, j + 1])))
            np.testing.assert_array_equal(rows, through_tensorstore)


def test_no_padding_is_stored(tmp_path: Path) -> None:
    layout = layout_of(8, chunk_rows=16)
    write(tmp_path, layout, np.full(8, 10))
    size = zarr_arrays.shard_path(tmp_path / "values", 0, 3).stat().st_size
    index = layout.chunks * 16 + 4
    assert size == 80 * layout.row_bytes + 5 * 4 + index  # 80 tokens in 5 chunks, 320 rows at most


def test_zeros_are_stored_and_a_missing_shard_is_no_zeros(tmp_path: Path) -> None:
    layout = layout_of(8)
    memory_store.create(tmp_path, layout)
    offsets = np.arange(9, dtype=np.int64) * 2
    written = memory_store.write_shard(
        tmp_path, layout, 0, offsets=offsets, buffer=memory_store.allocate(layout, 16)
    )
    memory_store.join(tmp_path, layout, lambda: [written.rows])
    assert not reader(tmp_path, layout).fetch([3]).values.any()
    written.path.unlink()
    with pytest.raises(errors.DamagedError, match="is missing"):
        reader(tmp_path, layout).fetch([3])


def test_writing_again_over_a_longer_try_leaves_nothing_of_it(tmp_path: Path) -> None:
    layout = layout_of(8)
    write(tmp_path, layout, np.full(8, 40), seed=1)
    memory = write(tmp_path, layout, np.full(8, 3), seed=2)
    again = tmp_path / "fresh"
    write(again, layout, np.full(8, 3), seed=2)
    for name in ("values/c/0/0/0", "offsets/c/0/0", "checksums/c/0/0"):
        assert (tmp_path / name).read_bytes() == (again / name).read_bytes()
    np.testing.assert_array_equal(reader(tmp_path, layout).fetch([7])[0], memory[7])


def test_every_flipped_byte_of_a_store_raises_or_changes_nothing(tmp_path: Path) -> None:
    layout = layout_of(8)
    lengths = np.array([5, 1, 17, 40, 2, 9, 16, 3])
    memory = write(tmp_path, layout, lengths)
    for name in ("values/c/0/0/0", "offsets/c/0/0", "checksums/c/0/0"):
        path = tmp_path / name
        whole = path.read_bytes()
        raised = 0
        for position in range(len(whole)):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
            try:
                fetched = reader(tmp_path, layout).fetch(range(8))
            except errors.DamagedError:
                raised += 1
                continue
            for j in range(8):
                np.testing.assert_array_equal(fetched[j], memory[j])
        # What may go unread: the chunks' own checksums, the rest of the last chunk, the shard's index.
        index = 16 * (layout.chunks if name.startswith("values") else 1) + 4
        unread = 6 * 4 + 3 * layout.row_bytes + index if name.startswith("values") else index
        assert raised == len(whole) - unread
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            with pytest.raises(errors.DamagedError):
                reader(tmp_path, layout).fetch(range(8))
        path.write_bytes(whole)


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    layout = layout_of(10)
    memory_store.create(tmp_path, layout)
    good = np.arange(9, dtype=np.int64)
    buffer = memory_store.allocate(layout, 8)
    for offsets, what in (
        (good[:-1], "7 passages"),
        (good + 1, "from row 1"),
        (np.repeat(good[:1], 9), "0 to 0 tokens"),
        (good * 41, "41 tokens"),
        (good * 5, "buffer"),
    ):
        with pytest.raises(errors.CorpusError, match=what):
            memory_store.write_shard(tmp_path, layout, 0, offsets=offsets, buffer=buffer)
    with pytest.raises(errors.MismatchError, match="another array"):
        memory_store.create(tmp_path, layout_of(30))
    with pytest.raises(errors.CorpusError, match=r"2\*\*32"):
        MemoryLayout(
            grid=ShardGrid(passages=1, shard_passages=2**26),
            width=1,
            max_tokens=64,
            codec=codecs.FLOAT32,
        )


def test_reader_keeps_a_bounded_number_of_shards_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.descriptors.MOST", 2)
    monkeypatch.setattr("storage.memory_rows.KNOWN_PASSAGES", 2 * 8)
    layout = layout_of(64)
    memory = write(tmp_path, layout, np.full(64, 3))
    opened = reader(tmp_path, layout)
    for _ in range(3):
        fetched = opened.fetch(range(64))
        for j in range(64):
            np.testing.assert_array_equal(fetched[j], memory[j])
        assert len(opened._files._values) <= 2
        assert opened._files._rows.known <= 8
        assert opened.fetch([]).values.shape == (0, 6)


def test_the_wrong_encoder_is_refused_by_name(tmp_path: Path) -> None:
    layout = layout_of(8)
    write(tmp_path, layout, np.full(8, 3))
    opened = reader(tmp_path, layout)
    opened.require_encoder("e" * 64)
    with pytest.raises(errors.MismatchError, match=r"eeeeeeeeeeeeeeee.*dddddddddddddddd"):
        opened.require_encoder("d" * 64)


def test_another_versions_parameters_are_refused(tmp_path: Path) -> None:
    layout = layout_of(8, codec=codecs.by_name("pq3x3"))
    write(tmp_path, layout, np.full(8, 3))
    (data,) = (
        path for path in (tmp_path / "codec").rglob("*") if path.is_file() and path.name != "zarr.json"
    )
    whole = data.read_bytes()
    for name in ("another", "cut", "flipped", "missing"):
        if name == "another":
            other = layout.codec.train(np.random.default_rng(8).normal(size=(400, 6)).astype(np.float32))
            codec_parameters.write(tmp_path, layout.codec, other)
        elif name == "cut":
            data.write_bytes(whole[:-1])
        elif name == "flipped":
            data.write_bytes(whole[:9] + bytes([whole[9] ^ 4]) + whole[10:])
        else:
            data.unlink()
        with pytest.raises(errors.DamagedError):
            reader(tmp_path, layout).fetch([3])
        assert len(reader(tmp_path, layout).fetch([3], decode=False)) == 1
    data.write_bytes(whole)
    assert len(reader(tmp_path, layout).fetch([3])) == 1


def test_a_card_that_claims_an_absurd_width(tmp_path: Path) -> None:
    layout = layout_of(8, codec=codecs.by_name("pq3x3"))
    write(tmp_path, layout, np.full(8, 3))
    sums = codec_parameters.digests(coder_of(layout).parameters)
    with pytest.raises(errors.DamagedError, match=r"100 bytes, wanted 48,000,000,000,004"):
        codec_parameters.read(tmp_path, layout.codec, 3 * 10**12, sums)
    with pytest.raises(errors.CorpusError, match=r"has codec parameters \[\]"):
        codec_parameters.read(tmp_path, layout.codec, 6, {})


def test_threads_fetch_at_the_same_time(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    layout = layout_of(64)
    memory = write(tmp_path, layout, np.random.default_rng(3).integers(1, 41, 64))
    opened = reader(tmp_path, layout)

    def check(seed: int) -> None:
        wanted = np.random.default_rng(seed).integers(0, 64, 10)
        for i, values in zip(wanted, opened.fetch(wanted), strict=True):
            np.testing.assert_array_equal(values, memory[i])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, range(100)))


def _decoder_of_the_docs() -> Any:
    """The function in docs/format.md, as it stands there."""
    text = (Path(__file__).parents[1] / "docs/format.md").read_text()
    (block,) = (b for b in text.split("```python\n")[1:] if "def decode(" in b)
    names: dict[str, Any] = {}
    exec(block.split("```")[0], names)
    return names["decode"]


@pytest.mark.parametrize("width", [12, 32, 96])
@pytest.mark.parametrize("name", ["int8", "turbo4", "turbo2", "pq4x3", "pq3x3", "pq4x9", "rq4x3"])
def test_the_docs_are_enough_to_decode(tmp_path: Path, name: str, width: int) -> None:
    """zarr-python, and the decoder printed in docs/format.md."""
    codec = codecs.by_name(name)
    if codec.kind in ("pq", "rq") and width % codec.dims:  # type: ignore[attr-defined]
        pytest.skip("groups do not divide this width")
    grid = ShardGrid(passages=8, shard_passages=8)
    layout = MemoryLayout(grid=grid, width=width, max_tokens=40, codec=codec)
    memory = write(tmp_path, layout, np.array([5, 1, 17, 40, 2, 9, 16, 3]))
    values: Any = zarr.open_array(tmp_path / "values", mode="r")
    offsets: Any = zarr.open_array(tmp_path / "offsets", mode="r")[:]
    parameters: Any = {
        path.name: zarr.open_array(path, mode="r")[:] for path in sorted((tmp_path / "codec").glob("*"))
    }
    decode = _decoder_of_the_docs()
    attributes = values.attrs.asdict()
    for j in range(8):
        rows = values[0, offsets[0, j] : offsets[0, j + 1]]
        got = decode(rows, attributes["codec"], attributes["logical_width"], **parameters)
        expected = memory[j].astype(np.float64)
        np.testing.assert_allclose(got.astype(np.float64), expected, rtol=2.0**-8, atol=1e-5)
