"""A worker process of the local runner: Beam's, kept quiet, and gone when its launcher is."""

from __future__ import annotations

import os
import re
import shlex
import sys
import threading
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
    from pipeline.units import cores, quiet

    quiet.quieten()
    cores.share()
    if named := _NAMED.fullmatch(os.environ.get("WORKER_ID", "")):
        accelerators.share(int(named[1]))
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
