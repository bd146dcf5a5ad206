"""A worker process of Beam's portable runners, by their environment PROCESS: Beam's boot, with our worker.

The runner starts the command `memcorpus-worker` on the machines that compute, with the worker's id and the
address where it learns the rest. Beam's own boot is a Go program that its Docker images hold alone, and it
installs what was staged; here memcorpus is installed already. As on one machine, workers get their own
devices, are quiet, and end with the process that started them.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pipeline.units import launcher, worker
from storage import processes

# How long a runner may take to answer the worker that it has just started.
PROVISION_SECONDS: Final = 60.0
# Workers of a user on a machine, at most.
MOST_WORKERS: Final = 1024
_HELD: Final[list[int]] = []


def number(folder: Path) -> int:
    """The smallest number that no other living worker of this folder has; kept until this process ends.

    Runners give ids, but none that are consecutive on a machine, by which its devices could be dealt out.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    for found in range(MOST_WORKERS):
        descriptor = os.open(folder / str(found), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        _HELD.append(descriptor)
        return found
    raise RuntimeError(f"{MOST_WORKERS} workers have numbers in {folder}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What a runner tells: `id` and `provision_endpoint`; what else there is comes from there."""
    parser = argparse.ArgumentParser(prog="memcorpus-worker", description=__doc__, allow_abbrev=False)
    parser.add_argument("--id", required=True)
    parser.add_argument("--provision_endpoint", required=True)
    # Older runners tell these as well, and the service that is asked may leave them out.
    parser.add_argument("--logging_endpoint", default="")
    parser.add_argument("--control_endpoint", default="")
    told = parser.parse_known_args(list(arguments))[0]
    # Prism quotes it as for a shell, and there is none: by the quoted name it knows no worker.
    told.id = told.id.strip("'")
    return told


def environment(told: argparse.Namespace, info: Any) -> dict[str, str]:
    """What Beam's worker reads, as Beam's boot would set it.

    Args:
        told: see `parse`.
        info: a `ProvisionInfo`, which goes before it.
    """
    from google.protobuf import json_format

    logging = info.logging_endpoint.url or told.logging_endpoint
    control = info.control_endpoint.url or told.control_endpoint
    found = {
        "WORKER_ID": told.id,
        "PIPELINE_OPTIONS": json.dumps(json_format.MessageToDict(info.pipeline_options)),
        "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(control),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    if logging:
        found["LOGGING_API_SERVICE_DESCRIPTOR"] = _descriptor(logging)
    if info.status_endpoint.url:
        found["STATUS_API_SERVICE_DESCRIPTOR"] = _descriptor(info.status_endpoint.url)
    return found


def _descriptor(url: str) -> str:
    from apache_beam.portability.api import endpoints_pb2
    from google.protobuf import text_format

    return str(text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url), as_one_line=True))


def _asked(told: argparse.Namespace) -> Mapping[str, str]:
    """The environment, asked of the runner."""
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc

    with grpc.insecure_channel(told.provision_endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        answer = service.GetProvisionInfo(
            beam_provision_api_pb2.GetProvisionInfoRequest(),
            metadata=(("worker_id", told.id),),
            timeout=PROVISION_SECONDS,
            wait_for_ready=True,
        )
    return environment(told, answer.info)


def main() -> None:
    """The command `memcorpus-worker`: run Beam's worker until the runner is done with it."""
    started_by = processes.named(os.getppid())
    threading.Thread(target=launcher.end_with, args=(started_by,), daemon=True).start()
    from pipeline.units import library_output

    told = parse(sys.argv[1:])
    library_output.silence()
    os.environ.update(_asked(told))
    own = number(Path(tempfile.gettempdir()) / f"memcorpus-workers-{os.getuid()}")
    worker.serve(own, started_by)


if __name__ == "__main__":
    main()
