"""What a question costs with each reader, and when memory computed beforehand has paid for itself. No I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from pipeline.accounts import flops
from pipeline.accounts.flops import Reader
from pipeline.accounts.prices import Device, Storage
from pipeline.accounts.report import form
from storage import errors

HOUR: Final = 3600.0
MILLION: Final = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """Where readers run and memory lies.

    Attributes:
        device, utilisation: the accelerator that answers, and the share of its peak it reaches.
        storage: the class that memory is read from, a request a passage.
        months: for how long the memory is kept, which is paid for.
    """

    device: Device
    utilisation: float
    storage: Storage
    months: float = 12.0

    def __post_init__(self) -> None:
        # Written so that NaN fails too.
        if not 0 < self.utilisation <= 1:
            raise errors.CorpusError(f"utilisation is {self.utilisation}, wanted a share above 0 and up to 1")
        if not 0 <= self.months < math.inf:
            raise errors.CorpusError(f"months is {self.months}, wanted 0 or more, and no end")

    def seconds(self, papers_flops: float) -> float:
        """Accelerator seconds of so many of the papers' FLOPs."""
        return papers_flops * flops.HARDWARE / (self.device.tflops * flops.TERA * self.utilisation)

    def price(self, seconds: float) -> float:
        """Dollars of so many accelerator seconds."""
        return seconds / HOUR * self.device.price_per_hour


@dataclass(frozen=True, kw_only=True, slots=True)
class Beforehand:
    """What was spent, or is to be spent, before the first question.

    Attributes:
        tokens: of all passages.
        tokens_per_passage, token_bytes: what a passage's memory takes to fetch.
        memory_bytes: kept for the months of the site.
        hours: accelerator hours of encoding them with `live_proportion` α left to the readers; a reader
            of another α needs them in proportion to the layers that it finds done.
        files: written once.
    """

    tokens: float
    tokens_per_passage: float
    token_bytes: float
    memory_bytes: float
    hours: float
    live_proportion: Fraction
    files: float = 0

    def __post_init__(self) -> None:
        if not 0 <= self.live_proportion < 1:
            raise errors.CorpusError(
                f"live proportion is {self.live_proportion}, wanted 0 or more and less than 1: "
                "with 1 nothing is computed beforehand"
            )

    def hours_for(self, reader: Reader) -> float:
        return self.hours * float((1 - reader.alpha) / (1 - self.live_proportion))


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question to one reader: live FLOPs in the papers' unit, and what they come to."""

    reader: str
    retrieved: int
    selected: int
    live_proportion: str
    flops: float
    samples_per_tflop: float
    fetched_bytes: float
    seconds: float
    price: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakEven:
    """Questions after which a reader of memory has cost no more than FiD over the same passages.

    Attributes:
        flops: of the papers' FLOPs alone: memory against what is saved live.
        hours: of accelerator hours, the build's as they were (writing included).
        money: of dollars: build, storage for the site's months, and reads, against hours saved.
        monthly: questions a month that pay for the storage alone; below it memory never pays.

    None where it never does.
    """

    reader: str
    flops: float | None
    hours: float | None
    money: float | None
    monthly: float | None


def ask(reader: Reader, before: Beforehand, site: Site) -> Question:
    """What one question takes, the search for passages and the retriever aside: all readers need those."""
    fetched = 0.0
    price = site.price(site.seconds(reader.flops))
    if reader.reads_memory:
        fetched = reader.retrieved * before.tokens_per_passage * before.token_bytes
        price += site.storage.reads(reader.retrieved, fetched)
    return Question(
        reader=reader.name,
        retrieved=reader.retrieved,
        selected=reader.selected if reader.name == flops.GLIMMER else reader.retrieved,
        live_proportion=str(reader.alpha),
        flops=reader.flops,
        samples_per_tflop=reader.samples_per_tflop,
        fetched_bytes=fetched,
        seconds=site.seconds(reader.flops),
        price=price,
    )


def up_front(reader: Reader, before: Beforehand, site: Site) -> float:
    """Dollars before the first question, and for keeping the memory for the site's months."""
    if not reader.reads_memory:
        return 0.0
    building = site.price(before.hours_for(reader) * HOUR) + site.storage.writes(before.files)
    return building + site.months * site.storage.month(before.memory_bytes)


def break_even(reader: Reader, fid: Reader, before: Beforehand, site: Site) -> BreakEven:
    """When `reader` has cost no more than `fid`, which needs nothing beforehand."""
    mine, other = ask(reader, before, site), ask(fid, before, site)
    saved = other.price - mine.price
    return BreakEven(
        reader=reader.name,
        flops=_repaid(reader.memory_flops(before.tokens), other.flops - mine.flops),
        hours=_repaid(before.hours_for(reader) * HOUR, other.seconds - mine.seconds),
        money=_repaid(up_front(reader, before, site), saved),
        monthly=_repaid(site.storage.month(before.memory_bytes), saved),
    )


def _repaid(spent: float, saved_each: float) -> float | None:
    return spent / saved_each if saved_each > 0 else None


def serving(readers: Sequence[Reader], before: Beforehand, site: Site) -> form.Serving:
    """Questions and break-evens as JSON; `readers` hold FiD, that the others are compared with."""
    fid = next(reader for reader in readers if reader.name == flops.FID)
    return {
        "questions": [
            _question(ask(reader, before, site), up_front(reader, before, site)) for reader in readers
        ],
        "break_even": [
            _break_even(break_even(reader, fid, before, site)) for reader in readers if reader.reads_memory
        ],
        "hours": before.hours,
        "months": site.months,
        "device": site.device.name,
        "utilisation": site.utilisation,
        "storage": site.storage.name,
    }


def _question(asked: Question, up_front_price: float) -> form.Question:
    return {
        "reader": asked.reader,
        "retrieved": asked.retrieved,
        "selected": asked.selected,
        "live_proportion": asked.live_proportion,
        "flops": asked.flops,
        "samples_per_tflop": asked.samples_per_tflop,
        "fetched_bytes": asked.fetched_bytes,
        "seconds": asked.seconds,
        "price": asked.price,
        "up_front_price": up_front_price,
    }


def _break_even(even: BreakEven) -> form.BreakEven:
    return {
        "reader": even.reader,
        "flops": even.flops,
        "hours": even.hours,
        "money": even.money,
        "monthly": even.monthly,
    }
