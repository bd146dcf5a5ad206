"""A worker process of the local runner: Beam's, kept quiet, and gone when its launcher is."""

from __future__ import annotations

import os
import re
import shlex
import sys
import threading
import time
from typing import Final

from pipeline.units import accelerators

MODULE: Final = "pipeline.units.worker"
# The number of a worker, as Beam tells it.
_NAMED: Final = re.compile(r"worker_(\d+)")
# exec: no shell stays between, so that a killed worker is seen as killed. -P: the current
# directory stays off the path, where a folder of the user's could bear one of our packages' names.
_COMMAND: Final = f"exec {shlex.quote(sys.executable)} -P -m {MODULE}"
POLL_SECONDS: Final = 0.5


def command(workers: int) -> str:
    """The shell's command for each of so many workers."""
    return f"{accelerators.WORKERS}={workers} {_COMMAND}"


def end_with(launcher: int) -> None:
    """End this process when its parent is no longer `launcher`; it would work on for nobody."""
    while os.getppid() == launcher:
        time.sleep(POLL_SECONDS)
    os._exit(1)


def main() -> None:
    """Run Beam's worker until the launcher is done with it."""
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    from pipeline.units import cores, quiet

    quiet.quieten()
    cores.share()
    if named := _NAMED.fullmatch(os.environ.get("WORKER_ID", "")):
        accelerators.share(int(named[1]))
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
