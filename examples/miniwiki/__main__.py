"""The command line: `python -m examples.miniwiki` with `dump OUT`, `tasks`, `models` or `demo OUT_DIR`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from examples.miniwiki import export
from examples.miniwiki import tasks as task_files


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and print what it made as JSON; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.miniwiki", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    dump = commands.add_parser("dump", help="write a dump in MediaWiki's export format")
    dump.add_argument("out", type=Path, help="the file, or an existing folder to put it in")
    dump.add_argument("--articles", type=int, help="how many articles (default: the tables')")
    dump.add_argument("--form", choices=export.FORMS, default="multistream")
    dump.add_argument("--encoding", default="utf-8", help="of the XML (default: utf-8)")
    dump.add_argument("--pages-per-stream", type=int, default=100)
    dump.add_argument("--no-broken", action="store_true", help="leave out the malformed page")
    dump.add_argument("--invented", type=int, default=0, help="how many articles about invented entities")
    dump.add_argument("--seed", type=int, default=0)
    tasks = commands.add_parser("tasks", help="write questions about the articles as KILT's task files")
    tasks.add_argument("out_dir", type=Path)
    tasks.add_argument("--invented", type=int, default=0, help="as in the dump that they are asked about")
    tasks.add_argument("--seed", type=int, default=0)
    models = commands.add_parser("models", help="train the demo's retriever and reader, for minutes")
    models.add_argument("out_dir", type=Path)
    models.add_argument("--seed", type=int, default=0)
    models.add_argument("--width", type=int, default=64, help="of the readers; hours where it is more")
    demo = commands.add_parser("demo", help="build a memory corpus from scratch, and read from it")
    demo.add_argument("out_dir", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "demo":
            _demo(options)
            return 0
        made = {"dump": _dump, "tasks": _tasks, "models": _models}[options.command](options)
    except (ValueError, LookupError, OSError) as error:
        print(f"miniwiki: {error}", file=sys.stderr)
        return 2
    print(json.dumps(made, indent=2))
    return 0


def _dump(options: argparse.Namespace) -> dict[str, object]:
    return export.write_dump(
        options.out,
        articles=options.articles,
        seed=options.seed,
        form=options.form,
        pages_per_stream=options.pages_per_stream,
        encoding=options.encoding,
        broken=not options.no_broken,
        invented=options.invented,
    ).as_dict()


def _tasks(options: argparse.Namespace) -> dict[str, object]:
    written = task_files.write_tasks(options.out_dir, invented=options.invented, seed=options.seed)
    return {name: str(path) for name, path in written.items()}


def _models(options: argparse.Namespace) -> dict[str, object]:
    # Imported here: a dump needs neither torch nor jax.
    from examples.miniwiki import readers, retriever

    folder = options.out_dir / retriever.GTR_NAME
    made: dict[str, object] = {}
    if not folder.exists():
        made = retriever.make_retriever(options.out_dir, seed=options.seed).as_dict()
    return made | readers.make_readers(
        options.out_dir, folder, readers.Recipe(width=options.width), seed=options.seed
    )


def _demo(options: argparse.Namespace) -> None:
    from examples.miniwiki import demo

    demo.demo(options.out_dir)


if __name__ == "__main__":
    sys.exit(main())
