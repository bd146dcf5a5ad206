"""Ways to run a build: each engine with the servers and workers that it needs, started here on this machine.

A way is skipped with its reason where it is not to be had. Programs are looked for on PATH: `prism`, and
Slurm's. Dask, its jobqueue and Beam's job service come with the extra `dev`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.units import boot, worker
from tests.dask_cluster import ROOT, Cluster, end

POOL = "apache_beam.runners.worker.worker_pool_main"
SERVICE = "apache_beam.runners.portability.local_job_service_main"
# A server that has not come up by then, on a busy machine.
UP_SECONDS = 120
DASK = "distributed is not installed: the extra `dask`"
PRISM = "prism is not on PATH: `go install github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0`"
SLURM = "Slurm is not installed: slurm-wlm and munge of Debian, and dask-jobqueue"


@dataclass
class Running:
    """A way that is up.

    Attributes:
        arguments: of `build`.
        server: the process that deals the units out, where that is not the launcher.
        find_workers: processes that do units, given the launcher; none where the launcher itself does them.
        kill_worker: how one is made to go, where that is no signal.
    """

    arguments: tuple[str, ...]
    server: subprocess.Popen[Any] | None = None
    find_workers: Callable[[int], list[psutil.Process]] = lambda launcher: []
    kill_worker: Callable[[], bool] | None = None


@dataclass
class Started:
    """Processes of a way, which end with it."""

    folder: Path
    stack: ExitStack
    environment: dict[str, str] = field(default_factory=dict)

    def process(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment},
                stdout=log,
                stderr=log,
            )
        self.stack.callback(end, process)
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def wait_for(self, name: str, process: subprocess.Popen[bytes], is_up: Callable[[], bool]) -> None:
        until = time.monotonic() + UP_SECONDS
        while not is_up():
            assert process.poll() is None, (name, self.log(name))
            assert time.monotonic() < until, (name, self.log(name))
            time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def listens(port: int) -> Callable[[], bool]:
    def look() -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", port)) == 0

    return look


def running(word: str, above: Callable[[int], int]) -> Callable[[int], list[psutil.Process]]:
    """Processes with a word in their command, below the process that `above` names for a launcher."""

    def find(launcher: int) -> list[psutil.Process]:
        found = []
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(above(launcher)).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    command = child.cmdline()
                    # Not the shell that starts it.
                    if any(word in part for part in command) and "python" in command[0]:
                        found.append(child)
        return found

    return find


# --- one function a way


def local(started: Started) -> Running:
    return Running(
        arguments=("--", "--direct_running_mode=multi_processing", "--direct_num_workers=2"),
        find_workers=running(worker.MODULE, lambda launcher: launcher),
    )


def dask(workers: int) -> Callable[[Started], Running]:
    def start(started: Started) -> Running:
        if importlib.util.find_spec("distributed") is None:
            pytest.skip(DASK)
        cluster = started.stack.enter_context(Cluster(started.folder))
        scheduler = cluster.schedule()
        for _ in range(workers):
            cluster.work("--memory-limit", "0")
        return Running(
            arguments=("--engine", f"dask:{cluster.file}"),
            server=scheduler,
            find_workers=lambda launcher: cluster.worker_processes(),
        )

    return start


def _portable(job_endpoint: int, kind: str, config: str = "") -> tuple[str, ...]:
    more = (f"--environment_config={config}",) if config else ()
    return (
        *("--", "--runner=PortableRunner", f"--job_endpoint=localhost:{job_endpoint}"),
        *(f"--environment_type={kind}", *more),
    )


def _prism(started: Started) -> tuple[int, subprocess.Popen[bytes]]:
    if (program := shutil.which("prism")) is None:
        pytest.skip(PRISM)
    port = free_port()
    process = started.process("prism", program, "-job_port", str(port), "-serve_http=false")
    started.wait_for("prism", process, listens(port))
    return port, process


def _service(started: Started) -> tuple[int, subprocess.Popen[bytes]]:
    port = free_port()
    process = started.process("service", sys.executable, "-m", SERVICE, "--port", str(port))
    started.wait_for("service", process, listens(port))
    return port, process


def _pool(started: Started) -> tuple[int, subprocess.Popen[bytes]]:
    """A pool starts `python` by name: its PATH must begin with the environment's."""
    port = free_port()
    started.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = started.process("pool", sys.executable, "-m", POOL, f"--service_port={port}")
    started.wait_for("pool", process, listens(port))
    return port, process


Server = Callable[[Started], tuple[int, subprocess.Popen[bytes]]]


def loopback(server: Server) -> Callable[[Started], Running]:
    def start(started: Started) -> Running:
        port, process = server(started)
        return Running(arguments=_portable(port, "LOOPBACK"), server=process)

    return start


def external(server: Server) -> Callable[[Started], Running]:
    def start(started: Started) -> Running:
        port, process = server(started)
        pool, pooled = _pool(started)
        return Running(
            arguments=_portable(port, "EXTERNAL", f"localhost:{pool}"),
            server=process,
            find_workers=running("sdk_worker", lambda launcher: pooled.pid),
        )

    return start


def process(server: Server) -> Callable[[Started], Running]:
    """By our own boot. The command is a program's path: runners give it arguments, and no shell."""

    def start(started: Started) -> Running:
        port, serving = server(started)
        command = started.folder / "memcorpus-worker"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m {boot.__name__} "$@"\n')
        command.chmod(0o755)
        config = {"command": str(command), "env": {"PYTHONPATH": str(ROOT)}}
        return Running(
            arguments=_portable(port, "PROCESS", json.dumps(config)),
            server=serving,
            find_workers=running(boot.__name__, lambda launcher: serving.pid),
        )

    return start


SLURM_CONF = """
ClusterName=memcorpus
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.txt
SlurmdLogFile={folder}/slurmd.txt
ReturnToService=2
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 Sockets=4 CoresPerSocket=1 ThreadsPerCore=1 RealMemory=8000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
# The script of docs/clusters.md, with jobs as small as this machine.
JOBQUEUE = """
import sys, time
from pathlib import Path
from dask_jobqueue import SLURMCluster

cluster = SLURMCluster(
    cores=1,
    processes=1,
    memory="4GB",
    interface="lo",
    walltime="04:00:00",
    python=sys.executable,
    log_directory=sys.argv[2],
    scheduler_options={"dashboard": False},
    worker_extra_args=["--memory-limit", "0", "--no-dashboard"],
)
cluster.scale(jobs=2)
Path(sys.argv[1]).write_text(cluster.scheduler_address)
while True:
    time.sleep(1)
"""


def _no_jobs(told: Callable[..., str]) -> None:
    """The steps of jobs are no children of the daemon: it ends them, and is waited for."""
    told("scancel", "--user=root")
    until = time.monotonic() + 30
    while told("squeue", "-h", "-o", "%i") and time.monotonic() < until:
        time.sleep(0.2)


def slurm(started: Started) -> Running:
    """Two jobs of one worker each; a worker that goes is one whose job is cancelled."""
    programs = ("munged", "slurmctld", "slurmd", "sbatch", "scancel")
    if not all(map(shutil.which, programs)) or importlib.util.find_spec("dask_jobqueue") is None:
        pytest.skip(SLURM)
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons want root")
    folder = started.folder
    for name in ("munge", "state", "spool", "logs"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    munge = {
        name: f"--{name}={folder}/munge/{name.removesuffix('-file')}" for name in ("pid-file", "seed-file")
    }
    munged = started.process(
        *("munged", "munged", "--foreground", "--force", f"--key-file={key}"),
        *(f"--socket={folder}/munge/socket", f"--log-file={folder}/munge/log", *munge.values()),
    )
    started.wait_for("munged", munged, (folder / "munge" / "socket").exists)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        SLURM_CONF.format(
            host=socket.gethostname().partition(".")[0],
            controller=free_port(),
            daemon=free_port(),
            folder=folder,
        )
    )
    started.environment["SLURM_CONF"] = str(configuration)
    asked = {**os.environ, **started.environment}

    def told(*command: str) -> str:
        done = subprocess.run(command, env=asked, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""

    started.process("slurmctld", "slurmctld", "-D", "-c")
    daemon = started.process("slurmd", "slurmd", "-D")
    started.wait_for("slurmd", daemon, lambda: "idle" in told("sinfo", "-h", "-o", "%t"))
    address = folder / "address"
    script = folder / "jobqueue.py"
    script.write_text(JOBQUEUE)
    queue = started.process("jobqueue", sys.executable, str(script), str(address), str(folder / "logs"))
    started.stack.callback(_no_jobs, told)
    started.wait_for("jobqueue", queue, address.exists)
    started.wait_for("jobqueue", queue, lambda: told("squeue", "-h", "-t", "RUNNING", "-o", "%i") != "")

    def cancel() -> bool:
        jobs = told("squeue", "-h", "-t", "RUNNING", "-o", "%i").split()
        if len(jobs) < 2:
            return False
        subprocess.run(["scancel", jobs[0]], env=asked, check=True)
        return True

    return Running(arguments=("--engine", f"dask:{address.read_text()}"), server=queue, kill_worker=cancel)


WAYS: dict[str, Callable[[Started], Running]] = {
    "local": local,
    "dask-2": dask(2),
    "dask-4": dask(4),
    "slurm": slurm,
    "prism-loopback": loopback(_prism),
    "prism-external": external(_prism),
    "prism-process": process(_prism),
    "service-loopback": loopback(_service),
    "service-external": external(_service),
    "service-process": process(_service),
}


@contextlib.contextmanager
def up(way: str, folder: Path) -> Iterator[Running]:
    """A way, started; all that it started ends with the block."""
    with ExitStack() as stack:
        yield WAYS[way](Started(folder, stack))
