"""Workers of the local runner say nothing themselves: what went wrong is told once, by the launcher."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from encoders import EncoderError
from pipeline.units import engines, failures, work
from pipeline.units.engines import local
from storage import errors
from storage.folder import CorpusFolder
from tests.test_failures import ROOT, Failing

TWO_WORKERS = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (EncoderError("no such device"), errors.CorpusError),
        (RuntimeError("this cannot be"), failures.UnitBroke),
    ],
)
def test_a_worker_prints_no_traceback(
    error: Exception,
    raised: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    corpus = CorpusFolder(tmp_path / "c")
    corpus.work.make()
    corpus.work.open_stage("failing")
    engine = engines.chosen(beam_options=TWO_WORKERS)
    with pytest.raises(raised, match=str(error)):
        engine.run(Failing(corpus=corpus, error=error), range(4), lambda: None)
    assert capfd.readouterr().err == ""


def test_a_failure_is_told_though_beam_ends_the_workers_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a worker is seen to be gone before Beam's pipeline has come to its end."""
    corpus = CorpusFolder(tmp_path / "c")
    corpus.work.make()
    corpus.work.open_stage("failing")
    job = Failing(corpus=corpus, error=EncoderError("no such device"))

    class FailsAndHangs:
        def __init__(self, **_: object) -> None: ...

        def __enter__(self) -> None:
            for unit in range(3):
                try:
                    work.run_unit(job, unit)
                except EncoderError:
                    monkeypatch.setattr(local._DeathWatch, "reason", lambda _: "a worker process died")
                    time.sleep(5)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(local.beam, "Pipeline", FailsAndHangs)
    with pytest.raises(errors.CorpusError, match="no such device"):
        engines.chosen().run(job, range(4), lambda: None)
