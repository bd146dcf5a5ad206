"""Prices: rows with date and source, replaced as a whole, refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.accounts import prices
from storage import errors


def test_every_default_has_its_date_and_source() -> None:
    listed = prices.read()
    rows = [*listed.devices.values(), *listed.storage.values()]
    assert len(listed.devices) >= 5
    assert len(listed.storage) >= 5
    for row in rows:
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", row.date)
        assert row.source.startswith(("https://", "measured"))


def test_prices_by_hand() -> None:
    row = prices.read().storage_class("s3-infrequent")
    gib = 1 << 30
    assert row.month(1000 * gib) == pytest.approx(12.5)
    assert row.writes(1_000_000) == pytest.approx(10)
    assert row.reads(1_000_000, 100 * gib) == pytest.approx(1 + 1)


def test_many_workers_share_a_disk_and_not_a_bucket() -> None:
    listed = prices.read()
    assert listed.storage_class("local-disk").write_bytes_per_second(8) == 550e6
    assert listed.storage_class("s3-standard").write_bytes_per_second(8) == 8e9


def test_unknown_names_list_the_known() -> None:
    listed = prices.read()
    with pytest.raises(errors.CorpusError, match=r"unknown device 'abacus'; known are h100, a100-80"):
        listed.device("abacus")
    with pytest.raises(errors.CorpusError, match=r"unknown storage class 'floppy'; known are s3-standard"):
        listed.storage_class("floppy")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("tflops = 989", "tflops = -1", ["h100", "tflops", "-1", "0 or more"]),
        ("tflops = 989", "tflops = 0", ["h100", "tflops", "wanted more"]),
        ("tflops = 989", 'tflops = "many"', ["h100", "'many'", "number"]),
        ("tflops = 989\n", "", ["h100", "lacks 'tflops'"]),
        ("tflops = 989", "tflops = 989\nspeed = 3", ["h100", "unknown 'speed'"]),
        ("tflops = 989", "tflops = nan", ["h100", "nan"]),
        ("[device.h100]", "[gadget.h100]", ["gadget", "device, storage"]),
        ("tflops = 989", "tflops = ", ["cannot be read"]),
    ],
)
def test_a_bad_list_is_refused(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    text = prices.DEFAULTS.read_text()
    assert old in text
    path = tmp_path / "prices.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(errors.CorpusError) as caught:
        prices.read(path)
    for word in (*words, str(path)):
        assert word in str(caught.value)
