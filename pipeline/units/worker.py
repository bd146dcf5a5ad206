"""A worker process: Beam's, kept quiet, and gone when whoever started it is; here the local runner.

`boot` is how other runners of Beam start one.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import threading
import traceback
from typing import Final

from pipeline.units import accelerators, launcher

MODULE: Final = "pipeline.units.worker"
# The number of a worker, as Beam tells it.
_NAMED: Final = re.compile(r"worker_(\d+)")
# exec: no shell stays between, so that a killed worker is seen as killed. -P: the current
# directory stays off the path, where a folder of the user's could bear one of our packages' names.
_COMMAND: Final = f"exec {shlex.quote(sys.executable)} -P -m {MODULE}"


def command(workers: int) -> str:
    """The shell's command for each of so many workers of this process."""
    return f"{accelerators.WORKERS}={workers} {launcher.VARIABLE}={launcher.named()} {_COMMAND}"


def main() -> None:
    """Run Beam's worker until the launcher is done with it."""
    # Before anything else: what comes next takes seconds, and may wait for a launcher that is gone.
    name = os.environ[launcher.VARIABLE]
    threading.Thread(target=launcher.end_with, args=(name,), daemon=True).start()
    named = _NAMED.fullmatch(os.environ.get("WORKER_ID", ""))
    serve(int(named[1]) if named else None, name)


def serve(number: int | None, started_by: str) -> None:
    """Run Beam's worker, by the environment that Beam gives it, and end the process.

    Args:
        number: by which it gets its devices; see `accelerators.share`.
        started_by: the process that it ends with, by its `launcher.named`.
    """
    from encoders import compiling
    from pipeline.units import cores, library_output

    library_output.silence()
    cores.share()
    if number is not None:
        accelerators.share(number)
    from apache_beam.runners.worker import sdk_worker_main

    # Beam prints the traceback of whatever a unit raises. The unit leaves it for the launcher, who tells it
    # in a line: what is printed here can only be told twice.
    told, status = sys.stderr, 0
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
    try:
        sdk_worker_main.main(sys.argv)
    except BaseException:
        status = 1
        if launcher.lives(started_by):
            traceback.print_exc(file=told)
    sys.stdout.flush()
    told.flush()
    compiling.remove_own()
    # The threads of phases and of Beam need not end before the process does.
    os._exit(status)


if __name__ == "__main__":
    main()
