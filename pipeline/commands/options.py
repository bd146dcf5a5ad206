"""What subcommands share: exit statuses, arguments, the console."""

from __future__ import annotations

from typing import Any, Final

import click

BAD_INPUT: Final = 2
FAILED: Final = 1

CORPUS: Final = click.argument("corpus", metavar="CORPUS")
JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def stdout() -> Any:
    from rich.console import Console

    return Console(highlight=False)
