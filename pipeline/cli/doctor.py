"""`doctor`: is this machine fit, and are its accelerators used?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipeline.cli import options


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default="here",
    help="Where corpora are to lie: its room is looked at, and the self-test writes there and removes it.",
)
@options.JSON
def doctor(folder: Path, as_json: bool) -> None:
    """Look at this installation and this machine, and try both. Status 1 if something does not work.

    Versions, the devices that jax and torch see, accelerators that are there and unused, free disk,
    and a self-test of a few seconds.
    """
    from pipeline.accounts import doctor as module

    found = module.examine(folder)
    if as_json:
        print(json.dumps(found))
    else:
        print(f"Python {found['python']}, {found['platform']}")
        print(
            f"{found['cpus']} CPUs, {found['memory_bytes'] / 1e9:.1f} GB of memory, "
            f"{found['open_files']:,} open files, {found['free_bytes'] / 1e9:,.1f} GB free in "
            f"{folder.resolve()}"
        )
        print(", ".join(f"{name} {version or '-'}" for name, version in found["versions"].items()))
        there = ", ".join(f"{count} {kind}" for kind, count in found["accelerators"].items()) or "none"
        print(f"accelerators of this machine: {there}")
        for name, devices in found["devices"].items():
            print(f"devices that {name} sees: {', '.join(devices) or 'not installed'}")
        print(f"memory is decoded by {found['decoding']}")
        for test in found["tests"]:
            print(f"{test['name']}: {test['error'] or 'well'} ({test['seconds']:.2f} s)")
        for line in found["warnings"]:
            print(f"warning: {line}")
    if not found["ok"]:
        raise SystemExit(options.FAILED)
