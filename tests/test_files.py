"""Atomic files, self-checking JSON (`checked_json`), and paths that stay inside (`file_names`)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import checked_json, errors, file_names, files

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_crc32c_known_value() -> None:
    # The check value of CRC-32C (RFC 3720, appendix B.4: 32 bytes of zeros).
    assert files.crc32c(bytes(32)) == 0x8A9136AA
    assert files.crc32c(b"789", files.crc32c(b"123456")) == files.crc32c(b"123456789") == 0xE3069283


def test_measuring_reads_more_than_one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 7)
    data = bytes(range(256)) * 3
    (tmp_path / "f").write_bytes(data)
    assert files.measure(tmp_path / "f") == files.Measured(bytes=len(data), crc32=zlib.crc32(data))


@given(value=st.dictionaries(st.text().filter(lambda key: key != "crc32c"), JSON, max_size=4))
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, value: dict[str, object]) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    checked_json.write(path, value)
    assert checked_json.read(path) == value
    assert {k: v for k, v in json.loads(path.read_bytes()).items() if k != "crc32c"} == value


def test_every_flipped_bit_of_json_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    checked_json.write(path, {"name": "väl", "rows": [1, 2]})
    whole = path.read_bytes()
    for position in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(errors.DamagedError):
                checked_json.read(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(errors.DamagedError):
            checked_json.read(path)


def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    files.write_atomic(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "finish_partial", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "", "a\\..\\x", ".."])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.CorpusError, match="corpus folder"):
        file_names.inside(tmp_path, name)


def test_links_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    root.mkdir()
    (tmp_path / "secret").write_text("s")
    (root / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(errors.CorpusError, match="link out of"):
        file_names.inside(root, "link")
    assert file_names.inside(root, "passages/part-00000.parquet") == root / "passages/part-00000.parquet"


def test_damage_names_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    entry = files.entry_of(tmp_path, tmp_path / "x")
    assert files.damage(tmp_path, entry) is None
    (tmp_path / "x").write_bytes(b"abd")
    assert files.damage(tmp_path, entry, full=False) is None
    assert "CRC-32" in (files.damage(tmp_path, entry) or "")
    (tmp_path / "x").write_bytes(b"ab")
    assert "2 bytes, wanted 3" in (files.damage(tmp_path, entry) or "")
    (tmp_path / "x").unlink()
    assert "missing" in (files.damage(tmp_path, entry) or "")


def test_the_checksum_of_a_file_tells_intact_chunks_apart(tmp_path: Path) -> None:
    """CRC-32C would not: over data followed by its own CRC-32C it is the same for all data."""
    entries = []
    for data in (b"one chunk...", b"another one."):
        chunk = data + files.crc32c(data).to_bytes(4, "little")
        (tmp_path / "c").write_bytes(chunk)
        entries.append((files.crc32c(chunk), files.entry_of(tmp_path, tmp_path / "c").crc32))
    assert entries[0][0] == entries[1][0]
    assert entries[0][1] != entries[1][1]
