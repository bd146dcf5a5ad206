"""`python -m examples.miniwiki dump|models|demo`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from examples.miniwiki.export import FORMS, write_dump


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.miniwiki", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    dump = commands.add_parser("dump", help="write a MediaWiki export, and print what it holds")
    dump.add_argument("out", type=Path, help="a file, or a folder that is there")
    dump.add_argument("--articles", type=int, help="how many (default: those of the tables)")
    dump.add_argument("--seed", type=int, default=0)
    dump.add_argument("--form", choices=FORMS, default="multistream")
    dump.add_argument("--encoding", default="utf-8", help="utf-8 or utf-16")
    models = commands.add_parser("models", help="train the small retriever, make the small T5")
    models.add_argument("out", type=Path)
    models.add_argument("--seed", type=int, default=0)
    demo = commands.add_parser("demo", help="build a memory corpus from scratch, and read from it")
    demo.add_argument("out", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "dump":
        truth = write_dump(
            arguments.out,
            articles=arguments.articles,
            seed=arguments.seed,
            form=arguments.form,
            encoding=arguments.encoding,
        )
        print(json.dumps(truth.as_dict()))
    elif arguments.command == "models":
        from examples.miniwiki.models import make_models

        print(json.dumps(make_models(arguments.out, seed=arguments.seed).as_dict()))
    else:
        from examples.miniwiki.demo import demo as run_demo

        run_demo(arguments.out)


if __name__ == "__main__":
    main()
