"""Dask as the engine: a scheduler and workers of their own processes, which may come and go."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.units import engines, failures, progress
from pipeline.units.engines import dask
from pipeline.units.stage import Stage
from pipeline.units.stages import Stages
from storage import errors
from storage.folder import CorpusFolder
from tests.dask_cluster import Cluster
from tests.jobs import build
from tests.test_build import content
from tests.test_engines import STAGE, Marking
from tests.test_failures import Failing

pytest.importorskip("distributed", reason="the extra `dask` is not installed")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    with Cluster(folder) as made:
        yield made


def engine(cluster: Cluster) -> engines.Engine:
    return engines.chosen(f"dask:{cluster.file}")


@pytest.fixture
def folder(tmp_path: Path) -> CorpusFolder:
    corpus = CorpusFolder(tmp_path / "marks")
    corpus.work.make()
    corpus.work.write_plan({})
    return corpus


class Killer(progress.Silent):
    """Does something, once, as soon as shards are encoded."""

    def __init__(self, kill: Callable[[], Any]) -> None:
        self._kill = kill
        self.killed = False

    def stage_polled(self, stage: Stage[Any], snapshot: progress.Snapshot) -> None:
        if stage.name == "shards" and not self.killed and snapshot.counts.get("tokens"):
            self.killed = True
            self._kill()


def test_a_cluster_builds_the_same_bytes_though_its_workers_are_killed(
    corpus: Path, settings: Any, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.schedule()
    cluster.work()
    cluster.work()

    def kill_both() -> None:
        for process in cluster.worker_processes():
            process.send_signal(signal.SIGKILL)

    killer = Killer(kill_both)
    build(settings, tmp_path / "made", engine=engine(cluster), observer=killer)
    assert killer.killed
    assert content(tmp_path / "made") == content(corpus)
    assert CorpusFolder(tmp_path / "made").run().engine == f"dask:{cluster.file}"


def test_workers_may_come_late(folder: CorpusFolder, cluster: Cluster) -> None:
    cluster.schedule()
    threading.Timer(1.0, cluster.work).start()
    Stages(folder, engine(cluster)).run(STAGE, Marking(folder, 40), 40, total=40)


def test_a_scheduler_that_dies_ends_the_job_in_a_line(folder: CorpusFolder, cluster: Cluster) -> None:
    scheduler = cluster.schedule()
    cluster.work()
    job = Marking(folder, 3, waits=True)  # for ever: unit 0 has the only slot
    threading.Timer(3.0, scheduler.kill).start()
    with pytest.raises(engines.WorkerDied, match="the scheduler is gone; what is done is kept"):
        Stages(folder, engine(cluster)).run(STAGE, job, 3, total=3)


@pytest.mark.parametrize("asked", ["_look", "_submit"])
def test_a_scheduler_that_dies_while_it_is_asked(
    asked: str, folder: CorpusFolder, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """Between two stages, say; and nothing is told of it but the line."""
    scheduler = cluster.schedule()
    real = getattr(dask._Run, asked)

    def dying(*arguments: Any) -> Any:
        scheduler.kill()
        scheduler.wait()
        return real(*arguments)

    monkeypatch.setattr(dask._Run, asked, dying)
    with pytest.raises(engines.WorkerDied, match="the scheduler is gone; what is done is kept"):
        Stages(folder, engine(cluster)).run(STAGE, Marking(folder, 3), 3, total=3)
    assert "Traceback" not in capfd.readouterr().err


def test_no_worker_comes(folder: CorpusFolder, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "NO_WORKER_SECONDS", 1.0)
    cluster.schedule()
    with pytest.raises(failures.Failed, match=r"no worker for 1 s; start some with `dask worker tcp://127"):
        Stages(folder, engine(cluster)).run(STAGE, Marking(folder, 3), 3, total=3)


def test_nobody_answers(folder: CorpusFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 1.0)
    with pytest.raises(failures.Failed, match="no scheduler answers there"):
        engines.chosen("dask:tcp://127.0.0.1:9").run(Marking(folder, 1), range(1), lambda: None)


def test_a_refusal_of_a_unit_is_the_jobs(folder: CorpusFolder, cluster: Cluster) -> None:
    cluster.schedule()
    cluster.work()
    job = Failing(corpus=folder, error=errors.CorpusError("no such thing"))
    folder.work.open_stage("failing")
    with pytest.raises(errors.CorpusError, match="no such thing"):
        engine(cluster).run(job, range(4), lambda: None)


def test_a_worker_looks_where_it_is(folder: CorpusFolder) -> None:
    job, versions = Marking(folder, 1), dask._versions()
    folder.work.open_stage(STAGE.name)
    dask.run_group(job, (0,), versions)
    assert list(folder.work.missing(STAGE.name, range(2))) == [1]
    with pytest.raises(failures.Failed, match=r"has Python 3\.1\d, and the launcher 2\.7; install the same"):
        dask.run_group(job, (0,), versions | {"Python": "2.7"})
    shutil.rmtree(folder.root)
    with pytest.raises(failures.Failed, match=r"does not see the plan of .*marks; the folder must be one"):
        dask.run_group(job, (0,), versions)
