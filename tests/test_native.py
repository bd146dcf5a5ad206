"""Native decoding gives NumPy's values to the bit, touches no byte beyond its own, and is never needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import codecs, errors, native
from storage.codecs import base
from storage.native import building
from tests.test_codecs import coder_of, states

ROOT = Path(__file__).parents[1]
# Odd widths, widths of less than a vector, of whole ones and some more, with an odd part, and those of T5.
WIDTHS = {
    "int8": (1, 3, 4, 7, 15, 16, 31, 32, 33, 63, 65, 100, 768, 1024),
    "turbo4": (4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 112, 140, 512, 768, 1024, 4096),
    "turbo2": (4, 8, 12, 16, 20, 32, 36, 64, 96, 140, 512, 768, 1024, 4096),
    "pq8x8": (8, 16, 24, 40, 72, 768),
    "pq4x8": (4, 8, 20, 64),
    "pq4x3": (4, 20, 36),
    "pq3x5": (3, 27),
    "pq16x8": (16, 80),
    "pq8x9": (8, 40),
    "pq1x11": (1, 9),
    "pq16x9": (16, 48),
    "rq64x8": (64, 192, 768),
    "rq7x4": (7, 21),
    "rq40x3": (40, 120),
    "rq33x1": (33, 66),
}
CASES = [(name, width) for name, widths in WIDTHS.items() for width in widths]
SCALES = np.array(
    [0.0, -0.0, 1.0, -1.0, 1e-45, 1e-40, 3e38, np.inf, -np.inf, np.nan, -np.nan, 0.37, 1e-3, 2e4], np.float32
)


@pytest.fixture(scope="session")
def library(native_library: Path) -> Path:
    return native_library


def coder(name: str, width: int, seed: int) -> codecs.Coder:
    """With parameters that nobody trained."""
    codec, rng = codecs.by_name(name), np.random.default_rng(seed)
    parameters: dict[str, npt.NDArray[Any]] = {}
    if codec.kind == "int8":
        parameters = {"channel_scale": rng.lognormal(0, 3, width).astype(np.float32)}
        parameters["channel_scale"][0] = (1.0, 3e38, 1e-30)[seed % 3]
    elif codec.kind in ("pq", "rq"):
        ((key, (shape, dtype)),) = codec.parameter_shapes(width).items()
        parameters = {key: rng.normal(size=shape).astype(base.bfloat16).view(dtype)}
    return codec.bind(width, parameters)


def stored_rows(coder: codecs.Coder, rows: int, seed: int, *, damaged: bool = False) -> npt.NDArray[Any]:
    """Any bytes, with scales of every kind; `damaged`: with codes and places out of range too."""
    rng = np.random.default_rng(seed)
    codec, width = coder.codec, coder.width
    if codec.kind == "pq":
        most = 1 << 8 * codec.stored_dtype.itemsize if damaged else codec.codes  # type: ignore[attr-defined]
        return rng.integers(0, most, (rows, coder.stored_width)).astype(codec.stored_dtype)
    stored = rng.integers(0, 256, (rows, coder.stored_width)).astype(np.uint8)
    if codec.kind == "rq":
        return stored
    at = width if codec.kind == "int8" else width * codec.bits // 8  # type: ignore[attr-defined]
    stored[:, at : at + 4] = rng.choice(SCALES, rows)[:, None].view(np.uint8)
    if codec.kind == "turbo" and not damaged:
        places = rng.integers(0, width, (rows, 4)).astype("<u2")
        places[::3, 3] = places[::3, 0]  # twice the same place: the last one stays
        stored[:, at + 12 :] = places.view(np.uint8)
    return stored


def at_odd_address(array: npt.NDArray[Any], fill: int | None = None) -> npt.NDArray[Any]:
    """A C-contiguous copy whose bytes begin at an odd address, with 64 bytes of 0xA5 around it."""
    room = np.full(array.nbytes + 192, 0xA5, np.uint8)
    first = 64 + (65 - (room.ctypes.data + 64)) % 64
    piece = room[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    piece[...] = (
        array
        if fill is None
        else np.full(array.nbytes, fill, np.uint8).view(array.dtype).reshape(array.shape)
    )
    assert piece.ctypes.data % 64 == 1 or not array.size
    return piece


def untouched(piece: npt.NDArray[Any]) -> bool:
    """Are the bytes around an array of `at_odd_address` as they were?"""
    room = piece
    while room.base is not None:
        room = room.base  # type: ignore[assignment]
    first = piece.ctypes.data - room.ctypes.data
    rest = np.delete(room, np.s_[first : first + piece.nbytes])
    return bool((rest == 0xA5).all())


def decoded_by(
    library: native.Library | None, coder: codecs.Coder, stored: npt.NDArray[Any]
) -> npt.NDArray[np.uint16] | str:
    """Bits of the values, or what was said against the stored rows."""
    out = at_odd_address(np.empty((len(stored), coder.width), coder.codec.dtype), fill=0x5A)
    with native.using(library):
        try:
            coder.decode(at_odd_address(stored), out)
        except errors.DamagedError as e:
            return str(e)
    assert untouched(out)
    return out.view(np.uint16)


def require_same(
    library: native.Library, coder: codecs.Coder, stored: npt.NDArray[Any]
) -> npt.NDArray[np.uint16] | str:
    expected, found = decoded_by(None, coder, stored), decoded_by(library, coder, stored)
    if isinstance(expected, str) or isinstance(found, str):
        assert expected == found
    else:
        np.testing.assert_array_equal(found, expected)
    return expected


@pytest.mark.parametrize("name", WIDTHS)
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_the_bits_are_numpys(name: str, decoders: native.Library, data: st.DataObject) -> None:
    width = data.draw(st.sampled_from(WIDTHS[name]))
    seed = data.draw(st.integers(0, 1 << 30))
    made = coder(name, width, seed)
    rows = data.draw(st.sampled_from([0, 1, 2, 3, 7, 130] if width < 1024 else [0, 1, 3]))
    stored = stored_rows(made, rows, seed, damaged=data.draw(st.booleans()))
    # The kernel itself takes what is whole: that NumPy decodes for it must not be what makes this test pass.
    if not isinstance(require_same(decoders, made, stored), str) and made.codec.kind != "float":
        with native.using(decoders):
            out = np.empty((rows, width), made.codec.dtype)
            assert made._decode_natively(decoders, np.ascontiguousarray(stored), out)


@pytest.mark.parametrize(("name", "width"), CASES)
def test_every_width(name: str, width: int, decoders: native.Library) -> None:
    made = coder(name, width, seed=1)
    stored = stored_rows(made, 9, seed=width)
    expected = require_same(decoders, made, stored)
    assert not isinstance(expected, str)
    assert len(np.unique(expected)) > 1


@pytest.mark.parametrize("name", ["int8", "turbo4", "turbo2", "pq8x8", "pq4x3", "pq8x9", "rq16x3"])
def test_what_coders_write(name: str, decoders: native.Library) -> None:
    """Stored rows of real values, in several blocks of NumPy's."""
    made = coder_of(name)
    stored = made.encode(states(5000))
    require_same(decoders, made, stored)
    require_same(decoders, made, stored[3:4])


def test_rounding_of_every_kind_of_float(decoders: native.Library) -> None:
    """int8 with code 1 and channels of size 1 is the token's scale, rounded: all upper halves, and the lower
    ones at which rounding turns; infinities and NaNs among them. The oracle is ml_dtypes."""
    bits = (np.arange(1 << 16, dtype=np.uint32)[:, None] << 16) | np.array(
        [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32
    )
    scales = bits.reshape(-1).view(np.float32)
    stored = np.ones((len(scales), 32 + 1 + 4), np.uint8)  # whole vectors, and one that is left
    stored[:, 33:] = scales[:, None].view(np.uint8)
    out = np.empty((len(scales), 33), base.bfloat16)
    assert decoders.int8(stored, out, np.ones(33, np.float32))
    with np.errstate(all="ignore"):
        expected = scales.astype(ml_dtypes.bfloat16).view(np.uint16)
    assert (out.view(np.uint16) == expected[:, None]).all()


def test_threads_decode_side_by_side(decoders: native.Library) -> None:
    made = {name: coder(name, 96, 3) for name in ("int8", "turbo4", "pq8x8")}
    rows = {name: stored_rows(one, 400, 5) for name, one in made.items()}
    expected = {name: decoded_by(None, made[name], rows[name]) for name in made}
    with native.using(decoders), ThreadPoolExecutor(4) as pool:
        jobs = [(name, pool.submit(made[name].decoded, rows[name])) for _ in range(20) for name in made]
        for name, job in jobs:
            np.testing.assert_array_equal(job.result().view(np.uint16), expected[name])


def test_lengths_that_do_not_fit_are_left_to_numpy(decoders: native.Library) -> None:
    scales, books = np.ones(8, np.float32), np.zeros((2, 256, 4), base.bfloat16)
    out = np.zeros((3, 8), base.bfloat16)
    turn = coder("turbo4", 8, 0).rotation.turn  # type: ignore[attr-defined]
    levels = coder("turbo4", 8, 0).levels  # type: ignore[attr-defined]
    rows = np.zeros((3, 12), np.uint8)
    assert decoders.int8(rows, out, scales)
    assert not decoders.int8(rows[:2], out, scales)
    assert not decoders.int8(rows, out, scales[:7])
    assert not decoders.int8(np.zeros((3, 24), np.uint8)[:, ::2], out, scales)
    assert decoders.gather(rows[:, :2].copy(), out, books)
    assert not decoders.gather(rows, out, books)
    assert not decoders.gather(rows[:, :2].copy(), out[:2], books)
    sums = np.zeros((2, 3, 256, 4), base.bfloat16)
    assert decoders.add(rows[:, :6].copy(), out, sums)
    assert not decoders.add(rows, out, sums)
    assert not decoders.add(rows[:2, :6].copy(), out, sums)
    assert not decoders.add(rows[:, :6].copy(), out, sums[:1])
    assert not decoders.add(rows[:, :6].copy(), out, sums[:, :, :5].copy()[:, :, ::2])
    assert decoders.turbo(np.zeros((3, 24), np.uint8), out, levels, turn)
    assert not decoders.turbo(np.zeros((3, 24), np.uint8), out, levels[:4], turn)
    assert not decoders.turbo(np.zeros((2, 24), np.uint8), out, levels, turn)
    read_only = out.copy()
    read_only.flags.writeable = False
    with native.using(decoders), pytest.raises(ValueError, match="read-only"):
        coder("int8", 8, 0).decode(rows, read_only)


GUARDED = """
import ctypes, mmap, sys
from pathlib import Path
import numpy as np
from storage import native
from tests.test_native import CASES, coder, stored_rows

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)

def before_a_wall(array):
    # Its last byte is the last before a page that nobody may touch.
    size = -(-max(1, array.nbytes) // PAGE) * PAGE
    room = mmap.mmap(-1, size + PAGE)
    whole = np.frombuffer(room, np.uint8)
    assert libc.mprotect(ctypes.c_void_p(whole.ctypes.data + size), ctypes.c_size_t(PAGE), 0) == 0
    piece = whole[size - array.nbytes : size].view(array.dtype).reshape(array.shape)
    piece[...] = array
    return piece

library = native.Library(Path(sys.argv[1]), sys.argv[2])
for name, width in CASES:
    if width > 1024:
        continue
    made = coder(name, width, 1)
    stored = stored_rows(made, 3, 2)
    table = {"int8": "scales", "turbo": "levels"}.get(made.codec.kind, "codebooks")
    setattr(made, table, before_a_wall(getattr(made, table)))
    out = before_a_wall(np.zeros((3, width), made.codec.dtype))
    assert made._decode_natively(library, before_a_wall(stored), out)
    expected = np.empty((3, width), made.codec.dtype)
    made._decode(stored, expected)
    assert (out.view(np.uint16) == expected.view(np.uint16)).all()
print(len(CASES), "fine")
"""


def test_nothing_beyond_an_array_is_read_or_written(library: Path, decoders: native.Library) -> None:
    """Arrays that end where a page begins that may not be touched: reading it ends the process."""
    done = subprocess.run(
        [sys.executable, "-c", GUARDED, str(library), decoders.instructions],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.stdout.strip() == f"{len(CASES)} fine", (done.returncode, done.stderr)


# Whether and which


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not decoded yet."""
    monkeypatch.setattr(native, "_state", None)


def test_the_environment_decides(unloaded: None, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "path", lambda: library)
    monkeypatch.delenv(native.VARIABLE, raising=False)
    best = native.Library(library).instructions
    for value, expected in (
        ("off", "NumPy (MEMCORPUS_NATIVE is off)"),
        ("0", "NumPy (MEMCORPUS_NATIVE is 0)"),
        ("plain", "native code (plain)"),
        ("", f"native code ({best})"),
        ("avx512", f"native code ({best})"),
    ):
        monkeypatch.setenv(native.VARIABLE, value)
        monkeypatch.setattr(native, "_state", None)
        assert native.description() == expected
        assert (native.library() is None) == expected.startswith("NumPy")
    monkeypatch.setenv(native.VARIABLE, "sse9")
    monkeypatch.setattr(native, "_state", None)
    with pytest.raises(
        errors.CorpusError, match="MEMCORPUS_NATIVE is 'sse9', wanted off or one of plain, avx2"
    ):
        native.library()


def test_without_it_numpy_decodes(unloaded: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(native.VARIABLE, raising=False)
    missing = tmp_path / "none.so"
    monkeypatch.setattr(building, "path", lambda: missing)
    assert native.library() is None
    assert native.description() == "NumPy (native code was not built; `python -m storage.native` builds it)"
    made = coder_of("int8")
    values = states(20)
    assert (np.linalg.norm(made.decoded(made.encode(values)).astype(np.float64) - values, axis=1) > 0).any()
    missing.write_bytes(b"\x7fELF, or so it says")
    monkeypatch.setattr(native, "_state", None)
    assert native.library() is None
    assert "does not load" in native.description()


def test_a_library_of_other_sources_is_not_called(
    unloaded: None, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout moves on, what was built in it stays: its functions may take other arguments."""
    monkeypatch.delenv(native.VARIABLE, raising=False)
    monkeypatch.setattr(building, "path", lambda: library)
    monkeypatch.setattr(building, "source_digest", lambda: 1)
    assert native.library() is None
    assert "was built of other sources; `python -m storage.native` builds it" in native.description()


def test_building_fails_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CC", raising=False)
    old = tmp_path / building.name()
    old.write_text("old")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(building.BuildError, match="there is no C compiler: cc, gcc and clang"):
            building.build(tmp_path)
    monkeypatch.setenv("CC", shutil.which("false") or "false")
    with pytest.raises(building.BuildError, match="ended with status 1"):
        building.build(tmp_path)
    monkeypatch.setenv("CC", str(tmp_path / "no compiler"))
    with pytest.raises(building.BuildError, match="cannot be built"):
        building.build(tmp_path)
    with pytest.raises(building.BuildError, match="cannot be built"):
        building.build(tmp_path / "nowhere")
    assert os.listdir(tmp_path) == [old.name]
    assert old.read_text() == "old"
    monkeypatch.setattr(building, "build", lambda: (_ for _ in ()).throw(building.BuildError("no")))
    assert building.main() == 2
    assert capsys.readouterr().err == "memcorpus decodes in NumPy: no\n"
