"""What subcommands share: exit statuses, arguments, the console."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from encoders import memory_spec
from pipeline.units import settings_file
from storage import errors, files, texts
from storage.aliases import Json

if TYPE_CHECKING:
    from rich.console import Console

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


_ENGINE: Final = (
    click.option(
        "--engine",
        metavar="NAME",
        help="What deals the work out: beam (default; this machine, or what BEAM OPTIONS say), or "
        "dask:SCHEDULER, the address or the file of a Dask scheduler.",
    ),
    click.argument("beam_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- BEAM OPTIONS]"),
)


def engine(command: Callable[..., object]) -> Callable[..., object]:
    """--engine and what follows `--`: arguments of `engines.chosen`, by the same names."""
    for option in reversed(_ENGINE):
        command = option(command)
    return command


def warn_of_unused() -> None:
    """Say on stderr if an accelerator is there that jax cannot use: a build would take days for hours."""
    from pipeline.units import accelerators

    if line := accelerators.unused():
        print(f"memcorpus: {line}", file=sys.stderr)


KEEP_SECTIONS: Final = click.option(
    "--keep-sections",
    is_flag=True,
    default=None,
    help='Make passages of "See also", "References", "External links" and their kind too.',
)


TEMPLATES: Final = click.option(
    "--templates",
    metavar="FILE",
    help="TOML file of templates of the wiki's own, to be read or dropped; see docs/operations.md.",
)


def where(command: Callable[..., object]) -> Callable[..., object]:
    """--shard-timeout, --device and --model-parallel: how to run, and no setting of what is made."""
    for option in reversed(_WHERE):
        command = option(command)
    return command


def memory(*, otherwise: str = "") -> Callable[[Callable[..., object]], Callable[..., object]]:
    """The options of `memory_spec.SETTINGS`; `taken_memory` takes them out again.

    Args:
        otherwise: what holds where one is not given, in place of the built-in defaults.
    """
    default = memory_spec.MemorySpec()

    def told(what: str, value: object) -> str:
        return f"{what} ({otherwise or f'default {value}'})."

    made = (
        click.option(
            "--live-proportion",
            metavar="FRACTION",
            help="Share of a T5's layers that readers run live, such as 1/3; the rest make the memory"
            + (f" ({otherwise})." if otherwise else "."),
        ),
        click.option(
            "--compute-dtype",
            help=told("The memory encoder computes in bfloat16 or float32", default.compute_dtype),
        ),
        click.option(
            "--token-budget",
            type=int,
            help=told("Tokens computed at a time", f"{default.token_budget}, for CPUs"),
        ),
        click.option("--max-tokens", type=int, help=told("Tokens kept of a passage", default.max_tokens)),
        click.option("--memory-template", help=told("Text for the encoder", f'"{default.template}"')),
        click.option(
            "--memory-layers",
            metavar="N,...",
            help="Of an encoder that is no T5: the layers whose states make the memory, such as 12 or 4,8,-1 "
            "(default: the last).",
        ),
    )

    def add(command: Callable[..., object]) -> Callable[..., object]:
        for option in reversed(made):
            command = option(command)
        return command

    return add


def taken_memory(given: Json) -> Json:
    """What was given of the options of `memory`, taken out of all that was given."""
    taken = {name: given.pop(name) for name in memory_spec.SETTINGS}
    return {name: value for name, value in taken.items() if value is not None}


def config(command: Callable[..., object]) -> Callable[..., object]:
    """--config: a TOML file with any of the command's options, which count as if they had been typed."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_take_config,
        help="TOML file with any of these options, named with underscores; options given here win.",
    )(command)


def _take_config(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Make a file's values the options' defaults, so that they are read as typed ones are."""
    if path is None:
        return
    names: dict[str, click.Option] = {}
    for option in context.command.params:
        if isinstance(option, click.Option) and option.name not in ("config", "as_json"):
            names |= {text[2:].replace("-", "_"): option for text in option.opts if text.startswith("--")}
    values = settings_file.read(path, names)
    for name, value in values.items():
        option = names[name]
        # Click would take true for 1, a number for a string, and one string for a list of letters.
        wanted: tuple[type, ...] = {"integer": (int,), "float": (int, float)}.get(option.type.name, (str,))
        wanted = (bool,) if option.is_flag else wanted
        items = value if option.multiple and isinstance(value, list) else [value]
        for item in items:
            if not isinstance(item, wanted) or (isinstance(item, bool) and not option.is_flag):
                kinds = " or ".join(kind.__name__ for kind in wanted)
                raise errors.CorpusError(f"settings file {path}: {name} is {value!r}, wanted {kinds}")
    context.default_map = {
        str(names[name].name): [value] if names[name].multiple and isinstance(value, str) else value
        for name, value in values.items()
    }


def text(argument: str) -> str:
    """A text out of the command line, whatever the locale that Python took it for.

    Bytes that the locale does not know come as lone surrogates. They are UTF-8 nearly always, and what is
    none is U+FFFD, as in sources.
    """
    try:
        return os.fsencode(argument).decode("utf-8", "replace")
    except UnicodeEncodeError:  # of a caller of ours, who has halves of UTF-16
        return texts.valid(argument)


def print_json(value: object) -> None:
    """A line of JSON, with its letters as they are where stdout can hold all of them."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower()
    print(json.dumps(value, ensure_ascii=not encoding.startswith("utf")))


def stdout() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def say(text: str) -> None:
    """A line on stderr, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def require_output(path: Path) -> None:
    """Refuse a file that could not be written at the end, before the work for it begins.

    Raises:
        CorpusError: there is no such folder, or something that is no file has the name.
    """
    if not path.absolute().parent.is_dir():
        raise errors.CorpusError(f"{path} cannot be written: there is no folder {path.parent}")
    files.require_replaceable(path)
