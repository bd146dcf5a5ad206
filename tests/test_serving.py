"""Break-even by hand, and that cost curves meet where they are said to."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.accounts import flops, prices
from pipeline.accounts.report import serving
from storage import errors

DEVICE = prices.Device(
    name="d", description="", tflops=100, memory_gb=1, price_per_hour=3.6, date="2026-01-01", source="s"
)
BUCKET = prices.Storage(
    name="b",
    description="",
    price_per_gb_month=0.02,
    price_per_1000_writes=0.005,
    price_per_1000_reads=0.0004,
    price_per_gb_read=0.01,
    write_mb_per_second=100,
    write_mb_per_second_total=250,
    gb_bytes=1e9,
    date="2026-01-01",
    source="s",
)
SITE = serving.Site(device=DEVICE, utilisation=0.5, storage=BUCKET, months=10)
BEFORE = serving.Beforehand(
    tokens=1e9,
    tokens_per_passage=250,
    token_bytes=2000,
    memory_bytes=2e12,
    hours=100,
    live_proportion=Fraction(1, 2),
    files=30_000,
)


def reader(name: str, **more: object) -> flops.Reader:
    values = {
        "layers": 10,
        "width": 1000,
        "retrieved": 20,
        "selected": 4,
        "live_proportion": Fraction(1, 2),
        "input_tokens": 300,
        "answer_tokens": 0,
    } | more
    return flops.Reader(name=name, **values)  # type: ignore[arg-type]


def test_a_question_by_hand() -> None:
    asked = serving.ask(reader("LUMEN"), BEFORE, SITE)
    # 20 * 300 tokens, 10 layers of d² = 1e6: 12/2 + 2 = 8 of them.
    assert asked.flops == 6000 * 10 * 1e6 * 8 == 4.8e11
    assert asked.samples_per_tflop == 1e12 / 4.8e11
    # Twice that in hardware FLOPs at 50 TFLOP/s.
    assert asked.seconds == pytest.approx(9.6e11 / 5e13)
    # 20 passages of 250 tokens of 2,000 bytes are 10 MB: 20 reads and a hundredth of a GB.
    assert asked.fetched_bytes == 1e7
    assert asked.price == pytest.approx(0.0192 * 0.001 + 20 * 0.0004 / 1000 + 0.01 * 0.01)


def test_break_even_by_hand() -> None:
    free = dataclasses.replace(BUCKET, price_per_gb_read=0.0, price_per_1000_reads=0.0)
    site = dataclasses.replace(SITE, storage=free)
    even = serving.break_even(reader("LUMEN"), reader("FiD"), BEFORE, site)
    # FiD is 14 of the 6e10, LUMEN 8: 3.6e11 saved. Memory of 1e9 tokens: 10 layers, half of 12d², 6e16.
    assert even.flops == pytest.approx(6e16 / 3.6e11)
    # 100 hours against 7.2e11 hardware FLOPs at 50 TFLOP/s.
    saved = 7.2e11 / 5e13
    assert even.hours == pytest.approx(360_000 / saved)
    # 100 hours at $3.60, 30,000 writes at $0.005 a thousand, ten months of 2 TB at $0.02.
    spent = 360 + 0.15 + 10 * 2000 * 0.02
    assert even.money == pytest.approx(spent / (saved * 0.001))
    assert even.monthly == pytest.approx(2000 * 0.02 / (saved * 0.001))


def test_a_reader_of_another_alpha_pays_for_its_own_layers() -> None:
    """MemoryFiD finds all layers done, twice as many as were asked for with α = 1/2."""
    assert BEFORE.hours_for(reader("MemoryFiD")) == 2 * BEFORE.hours_for(reader("LUMEN")) == 200
    assert serving.up_front(reader("FiD"), BEFORE, SITE) == 0


def test_where_reading_costs_more_than_computing_memory_never_pays() -> None:
    dear = dataclasses.replace(BUCKET, price_per_gb_read=1.0)
    even = serving.break_even(reader("LUMEN"), reader("FiD"), BEFORE, dataclasses.replace(SITE, storage=dear))
    assert even.money is None
    assert even.monthly is None
    assert even.hours is not None


@given(
    width=st.integers(64, 8192),
    k=st.integers(1, 50),
    utilisation=st.floats(0.01, 1),
    months=st.floats(0, 60),
    tflops=st.floats(1, 2000),
)
def test_the_curves_meet_at_break_even(
    width: int, k: int, utilisation: float, months: float, tflops: float
) -> None:
    site = serving.Site(
        device=dataclasses.replace(DEVICE, tflops=tflops),
        utilisation=utilisation,
        storage=BUCKET,
        months=months,
    )
    lumen = reader("LUMEN", width=width, retrieved=k, selected=1)
    fid = reader("FiD", width=width, retrieved=k, selected=1)
    even = serving.break_even(lumen, fid, BEFORE, site).money
    mine, other = serving.ask(lumen, BEFORE, site), serving.ask(fid, BEFORE, site)
    if even is None:
        assert mine.price >= other.price
    else:
        assert serving.up_front(lumen, BEFORE, site) + even * mine.price == pytest.approx(even * other.price)


def test_nothing_stored_is_refused() -> None:
    with pytest.raises(errors.CorpusError, match="live proportion is 1, wanted 0 or more and less than 1"):
        dataclasses.replace(BEFORE, live_proportion=Fraction(1))
