"""What subcommands share: exit statuses, arguments, the console."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final

import click

BAD_INPUT: Final = 2
FAILED: Final = 1

CORPUS: Final = click.argument("corpus", metavar="CORPUS")
JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

_WHERE: Final = (
    click.option(
        "--shard-timeout",
        type=float,
        metavar="SECONDS",
        help="Give up when reading, encoding or writing one shard takes longer (default: never).",
    ),
    click.option("--device", help="Where to compute: all (default), cpu, gpu, or one, such as gpu:1."),
    click.option(
        "--model-parallel",
        type=int,
        metavar="N",
        help="Devices that share one copy of the memory encoder (default: as few as hold it).",
    ),
)


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """--shard-timeout, --device and --model-parallel: how to run, and no setting of what is made."""
    for option in reversed(_WHERE):
        command = option(command)
    return command


def stdout() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def say(text: str) -> None:
    """A line on stderr, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
