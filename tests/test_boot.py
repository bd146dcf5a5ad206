"""The worker that Beam's portable runners start by their environment PROCESS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from apache_beam.portability.api import beam_provision_api_pb2, endpoints_pb2
from google.protobuf import struct_pb2, text_format

from pipeline.units import boot
from tests.dask_cluster import ROOT

NUMBER = """
import sys, time
from pathlib import Path
from pipeline.units import boot
print(boot.number(Path(sys.argv[1])), flush=True)
time.sleep(600)
"""
# Asks a port that nobody listens on, as a worker does whose runner has just died.
RUNNER = """
import subprocess, sys
command = [sys.executable, "-P", "-m", "pipeline.units.boot", "--id=1", "--provision_endpoint=localhost:9"]
print(subprocess.Popen(command).pid, flush=True)
sys.stdin.read()
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def test_workers_of_a_machine_have_numbers(tmp_path: Path) -> None:
    """Consecutive ones; a worker that was killed leaves its own to the next."""
    folder = tmp_path / "numbers"

    def started() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", NUMBER, str(folder)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    found = [started() for _ in range(3)]
    try:
        assert [number for _, number in found] == ["0", "1", "2"]
        found[1][0].kill()
        found[1][0].wait()
        found.append(started())
        assert found[3][1] == "1"
    finally:
        for process, _ in found:
            process.kill()
            process.communicate()


def test_what_beams_worker_reads() -> None:
    told = boot.parse(
        ["--id='job-1[job]_1'", "--provision_endpoint=h:1", "--control_endpoint=h:2", "--semi_persist_dir=/x"]
    )
    assert (told.id, told.provision_endpoint) == ("job-1[job]_1", "h:1")
    options = struct_pb2.Struct()
    options.update({"beam:option:job_name:v1": "it's"})
    info = beam_provision_api_pb2.ProvisionInfo(
        pipeline_options=options,
        logging_endpoint=endpoints_pb2.ApiServiceDescriptor(url="h:3"),
        runner_capabilities=["a", "b"],
    )
    found = boot.environment(told, info)
    assert found["WORKER_ID"] == "job-1[job]_1"
    assert json.loads(found["PIPELINE_OPTIONS"]) == {"beam:option:job_name:v1": "it's"}
    assert found["RUNNER_CAPABILITIES"] == "a b"
    assert "STATUS_API_SERVICE_DESCRIPTOR" not in found
    for name, url in (("CONTROL", "h:2"), ("LOGGING", "h:3")):
        read = text_format.Parse(
            found[f"{name}_API_SERVICE_DESCRIPTOR"], endpoints_pb2.ApiServiceDescriptor()
        )
        assert read.url == url


def test_no_address_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        boot.parse(["--id=1"])
    assert ended.value.code == 2
    assert "--provision_endpoint" in capsys.readouterr().err


def test_a_worker_ends_with_its_runner() -> None:
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert runner.stdout is not None
    worker = psutil.Process(int(runner.stdout.readline()))
    time.sleep(1)
    assert worker.is_running()
    runner.send_signal(signal.SIGKILL)
    runner.communicate()
    gone, _ = psutil.wait_procs([worker], timeout=60)
    assert gone
