"""The command `memcorpus`. Heavy libraries are imported inside the subcommands that need them."""

from __future__ import annotations

import os
import sys
import traceback

import click

from encoders import compiling
from pipeline.cli import (
    answer,
    build,
    check,
    costs,
    doctor,
    evaluate,
    importing,
    neighbours,
    options,
    read,
    retro,
    serve,
    streams,
    train,
    update,
    versions,
)
from pipeline.units import cores, failures, library_output


def main() -> None:
    """Run a command; plain errors on one line, status 2 for bad input and 1 for what failed; a bug, status 1,
    with its traceback."""
    streams.settle()
    library_output.silence()
    cores.share()
    status = run()
    if not streams.flush():  # what a command that failed had printed; `run` has told of any other
        status = status or options.FAILED
    compiling.remove_own()
    # Beam's threads outlive a job whose worker was killed, and would keep the process for ever.
    os._exit(status)


def run() -> int:
    """Run a command and return its exit status; errors are told on stderr."""
    try:
        # Click's own errors (unknown options, missing arguments) end with status 2 as well.
        cli(standalone_mode=False)
        # Here, where it is told if what was printed last finds no room.
        sys.stdout.flush()
    except click.ClickException as e:
        _trace(e)
        e.show()
        return options.BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted; what is done is kept: run the same command again")
        return 130
    except SystemExit as e:
        return int(e.code or 0)
    except BrokenPipeError:
        return options.FAILED
    except Exception as e:
        kind = failures.kind(e)
        if kind == failures.BUG:
            traceback.print_exception(e)
            _say(f"unexpected {failures.message(e)}; please report it with the lines above")
            return options.FAILED
        _trace(e)
        _say(failures.message(e))
        return options.BAD_INPUT if kind == failures.REFUSED else options.FAILED
    return 0


def _trace(error: Exception) -> None:
    """Show where an error of any kind was raised, to who asks for it."""
    if os.environ.get("MEMCORPUS_DEBUG"):
        traceback.print_exception(error)


def _say(text: str) -> None:
    print(f"memcorpus: {' '.join(text.split())}", file=sys.stderr)


class Commands(click.Group):
    """The commands. What a RETRO has of its own is `memcorpus retro`, and goes by the readers' names too:
    `train --system retro` and `evaluate --bits-per-byte`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, of_retro(args))


def of_retro(args: list[str]) -> list[str]:
    """A command line for a RETRO by its own name; others as they are."""
    name, rest = args[0], args[1:]
    # Behind `--` are arguments for somebody else.
    end = rest.index("--") if "--" in rest else len(rest)
    own, others = rest[:end], rest[end:]
    if name == "evaluate" and "--bits-per-byte" in own:
        return ["retro", "evaluate", *(one for one in own if one != "--bits-per-byte"), *others]
    if name == "train":
        for place, one in enumerate(own):
            words = 2 if own[place : place + 2] == ["--system", "retro"] else int(one == "--system=retro")
            if words:
                return ["retro", "train", *own[:place], *own[place + words :], *others]
    return args


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="memcorpus")
def cli() -> None:
    """Builds memory corpora for retrieval-augmented readers, and reads them.

    \b
    A corpus is a folder: passages of Wikipedia, their retrieval vectors and index, and
    the per-token output of the lower layers of a T5 encoder, all by passage id.

    \b
      memcorpus build --source mediawiki:enwiki-pages-articles-multistream.xml.bz2 \\
          --out corpus --retriever sentence-transformers/gtr-t5-base \\
          --memory-encoder google/t5-v1_1-base --live-proportion 1/3
      memcorpus search corpus "Where does the Danube end?"
      memcorpus get corpus 17 42 --memory
      memcorpus verify corpus --full
      memcorpus evaluate nq-dev-kilt.jsonl predictions.jsonl
    """


for command in (
    costs.plan,
    build.build,
    costs.report,
    importing.import_states,
    read.info,
    read.search,
    read.get,
    train.train,
    answer.answer,
    evaluate.evaluate,
    retro.retro,
    serve.serve,
    versions.reencode,
    update.update,
    update.compact,
    versions.versions,
    versions.use,
    versions.diff,
    versions.gc,
    neighbours.neighbours,
    check.verify,
    check.repair,
    doctor.doctor,
):
    cli.add_command(command)
