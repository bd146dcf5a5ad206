"""What went wrong, told apart: each kind has its status, its words, and its traceback where there is one.

Faults are raised from code that claims to be a module of ours, since it is there that a bug once passed for
bad input.
"""

from __future__ import annotations

import errno
import itertools
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from encoders import EncoderError, ModelFolderError
from encoders.errors import DeviceMemoryError, DivergedError, UnstorableError
from pipeline.readers.kilt.tasks import KiltError
from pipeline.text.sources.base import SourceError
from pipeline.units import engines, failures, work
from pipeline.units.failures import BUG, DAMAGED, FAILED, REFUSED
from pipeline.units.meter import Meter
from pipeline.units.stage import Stage
from storage import errors
from storage.folder import CorpusFolder
from storage.receipts import Counts, Receipt
from tests.commands import Command, refused

ROOT = Path(__file__).parent.parent
# A fault that nobody meant to raise, and what Python or NumPy says of it.
FAULTS = {
    "list(zip([1], [1, 2], strict=True))": "ValueError: zip() argument 2 is longer",
    "first, second = [1]": "ValueError: not enough values to unpack",
    "np.zeros(3) + np.zeros(4)": "ValueError: operands could not be broadcast together",
    "np.zeros(6).reshape(4, 2)": "ValueError: cannot reshape array of size 6",
    "{}['passages']": "KeyError: 'passages'",
    "int('many')": "ValueError: invalid literal for int()",
    "None.shape": "AttributeError: 'NoneType' object has no attribute 'shape'",
    "raise RuntimeError('this cannot be')": "RuntimeError: this cannot be",
}
PLAN = ["plan", "--passages", "9", "--tokens-per-passage", "9", "--device", "h100"]
# Where it happens: a function that a command calls, a command that calls it.
PLACES = {
    "storage": ("storage.ids.as_ids", ["get", "CORPUS", "1"]),
    "encoders": ("encoders.model_folder.resolve", [*PLAN, "--memory-encoder", "t5"]),
    "retrieval": ("retrieval.open_corpus", ["search", "CORPUS", "x"]),
    "pipeline": ("pipeline.accounts.prices.read", ["report", "CORPUS"]),
}


def faulty(package: str, fault: str) -> Callable[..., Any]:
    """A function of a module `package`.somewhere that has a bug."""
    there: dict[str, Any] = {"__name__": f"{package}.somewhere"}
    body = f"import numpy as np\ndef broken(*arguments, **options):\n    {fault}\n"
    exec(compile(body, f"{package}/somewhere.py", "exec"), there)
    function: Callable[..., Any] = there["broken"]
    return function


@dataclass(frozen=True, kw_only=True)
class NoCounts(Counts):
    """Nothing is counted."""


@dataclass(frozen=True, kw_only=True)
class Failing:
    """A job whose unit 2 does not come to its end."""

    corpus: CorpusFolder
    error: Exception | None = None
    fault: tuple[str, str] | None = None
    stage: Stage[NoCounts] = field(
        default_factory=lambda: Stage(name="failing", title="Fail", counts=NoCounts, measure="units")
    )

    def run(self, unit: int, meter: Meter) -> Receipt[NoCounts]:
        if unit == 2 and self.error is not None:
            raise self.error
        if unit == 2 and self.fault is not None:
            faulty(*self.fault)()
        return Receipt(unit=unit, files=(), counts=NoCounts(), seconds={}, worker="w")


@pytest.fixture
def folder(tmp_path: Path) -> CorpusFolder:
    corpus = CorpusFolder(tmp_path / "c")
    corpus.work.make()
    corpus.work.open_stage("failing")
    return corpus


def left_by(job: Failing) -> Exception:
    """What the process that started the job is told of it."""
    for unit in (0, 1):
        work.run_unit(job, unit)
    kind = None
    try:
        work.run_unit(job, 2)
    except Exception as error:
        kind = failures.kind(error)
    found = work.first_error(job.corpus.work, job.stage.name)
    assert found is not None
    assert failures.kind(found) == kind
    return found


KINDS: list[tuple[Exception, str, str]] = [
    (errors.CorpusError("no such codec"), REFUSED, "no such codec"),
    (errors.MismatchError("another encoder"), REFUSED, "another encoder"),
    (errors.UnknownPassageError([7], 3), REFUSED, "unknown passage id 7: the corpus holds 0 to 2"),
    (SourceError("a PDF"), REFUSED, "a PDF"),
    (KiltError("no id"), REFUSED, "no id"),
    (EncoderError("max tokens is 0"), REFUSED, "max tokens is 0"),
    (ModelFolderError("no weights"), REFUSED, "no weights"),
    (UnstorableError("70000 is more than float16 holds"), REFUSED, "70000 is more than float16 holds"),
    (errors.DamagedError("a flipped bit"), DAMAGED, "a flipped bit"),
    (OSError("the disk is gone"), FAILED, "the disk is gone"),
    (OSError(errno.ENOSPC, "No space left"), FAILED, "no space left on the disk; what is done is kept"),
    (ValueError("RESOURCE: No space left on device"), FAILED, "no space left on the disk"),
    (DeviceMemoryError("too little for one row"), FAILED, "too little for one row"),
    (MemoryError(), FAILED, "MemoryError"),
    (RuntimeError("RESOURCE_EXHAUSTED: out of memory"), FAILED, "RESOURCE_EXHAUSTED"),
    (DivergedError("the loss is nan"), FAILED, "the loss is nan"),
    (engines.WorkerDied("killed"), FAILED, "killed"),
    (ValueError("wrong"), BUG, "ValueError: wrong"),
    (TypeError("wrong"), BUG, "TypeError: wrong"),
    (KeyError("passages"), BUG, "KeyError: 'passages'"),
    (RuntimeError("wrong"), BUG, "RuntimeError: wrong"),
    (AssertionError(), BUG, "AssertionError"),
    (OverflowError("wrong"), BUG, "OverflowError: wrong"),
]


@pytest.mark.parametrize(("error", "kind", "words"), KINDS, ids=lambda value: str(value)[:30])
def test_kinds_here_and_from_a_worker(folder: CorpusFolder, error: Exception, kind: str, words: str) -> None:
    assert failures.kind(error) == kind
    assert words in failures.message(error)
    found = left_by(Failing(corpus=folder, error=error))
    assert words in str(found)
    # What is of the whole job's input is said as it is, what befell a unit with its name.
    assert ("failing 2: " in str(found)) == (kind in (FAILED, BUG))
    assert "in run\n    raise self.error" in "".join(traceback.format_exception(found))


@pytest.mark.parametrize(("package", "fault"), list(itertools.product(PLACES, FAULTS)))
def test_a_fault_in_a_worker_is_a_bug_with_its_traceback(
    folder: CorpusFolder, package: str, fault: str
) -> None:
    found = left_by(Failing(corpus=folder, fault=(package, fault)))
    assert failures.kind(found) == BUG
    assert f"failing 2: {FAULTS[fault]}" in str(found)
    assert f'File "{package}/somewhere.py", line 3, in broken' in "".join(traceback.format_exception(found))


@pytest.mark.parametrize(
    "options", [[], ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]]
)
def test_a_fault_crosses_the_runner(
    folder: CorpusFolder, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beam turns what its workers raise into text of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    job = Failing(corpus=folder, fault=("storage", "list(zip([1], [1, 2], strict=True))"))
    with pytest.raises(failures.UnitBroke, match="failing 2: ValueError: zip") as raised:
        engines.chosen(beam_options=options).run(job, range(4), lambda: None)
    assert 'File "storage/somewhere.py", line 3' in "".join(traceback.format_exception(raised.value))
    job = Failing(corpus=folder, error=EncoderError("no such device"))
    folder.work.open_stage("failing")
    with pytest.raises(errors.CorpusError) as refusal:
        engines.chosen(beam_options=options).run(job, range(4), lambda: None)
    assert str(refusal.value) == "no such device"


@pytest.mark.parametrize(("package", "fault"), list(itertools.product(PLACES, FAULTS)))
def test_a_fault_in_a_command_is_a_bug_with_its_traceback(
    command: Command, corpus: Path, monkeypatch: pytest.MonkeyPatch, package: str, fault: str
) -> None:
    place, arguments = PLACES[package]
    monkeypatch.setattr(place, faulty(package, fault))
    status, _, err = command(*(str(corpus) if word == "CORPUS" else word for word in arguments))
    assert status == 1
    lines = err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert f'  File "{package}/somewhere.py", line 3, in broken' in lines
    assert lines[-1].startswith(f"memcorpus: unexpected {FAULTS[fault]}")
    assert lines[-1].endswith("please report it with the lines above")


def of_kinds() -> Iterator[tuple[Exception, int]]:
    for error, kind, _ in KINDS:
        if kind != BUG:
            yield error, 2 if kind == REFUSED else 1


@pytest.mark.parametrize(("error", "status"), list(of_kinds()), ids=lambda value: str(value)[:30])
def test_one_line_and_a_traceback_for_who_asks(
    command: Command, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("retrieval.open_corpus", fail)
    found, out, err = command("search", "c", "x")
    assert (found, out) == (status, "")
    assert err == f"memcorpus: {failures.message(error)}\n"
    monkeypatch.setenv("MEMCORPUS_DEBUG", "1")
    found, out, err = command("search", "c", "x")
    assert (found, out) == (status, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith(f"\nmemcorpus: {failures.message(error)}\n")


def test_usage_errors_have_their_traceback_too(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, err = command("use", "c")
    assert (status, "Traceback" in err) == (2, False)
    monkeypatch.setenv("MEMCORPUS_DEBUG", "1")
    status, _, err = command("use", "c")
    assert (status, "Traceback" in err) == (2, True)


def test_a_refusal_in_a_command_is_one_line(command: Command, corpus: Path, tmp_path: Path) -> None:
    """Each of the packages refuses something."""
    refused(command, ["get", corpus, "9999999"], "unknown passage id")
    refused(command, [*PLAN, "--memory-encoder", tmp_path], "config.json")
    refused(command, ["search", corpus, "x", "-k", "0"], "k is 0")
    refused(command, ["report", corpus, "--device", "abacus"], "abacus")
    refused(command, ["report", corpus, "--live-proportion", "one"], "one")
    refused(command, ["report", corpus, "--live-proportion", ""], "live proportion ''")
    for value in ("0", "nan", "2"):
        refused(command, ["report", corpus, "--utilisation", value], f"utilisation is {float(value)}")
    for value in ("-1", "nan", "inf"):
        refused(command, ["report", corpus, "--months", value], f"months is {float(value)}")
    for value in ("0", "-5"):
        refused(command, [*PLAN, "--size", "base", "--shard-passages", value], f"in shards of {value}")
    refused(command, ["build", "--out", tmp_path / "o", "--source", "pdf:x"], "no retriever given")
