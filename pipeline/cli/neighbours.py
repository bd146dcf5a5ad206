"""`neighbours`: tables of the nearest passages of each passage."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pipeline.cli import options
from storage.aliases import Json

if TYPE_CHECKING:
    from storage.folder import CorpusFolder


@click.command()
@options.CORPUS
@click.option("-k", type=int, help="Neighbours of each passage (default 2).")
@click.option(
    "--of",
    metavar="OTHER",
    help="Search the passages of this corpus in CORPUS; OTHER holds the table, and nothing is left out.",
)
@click.option("--exact", is_flag=True, help="Compare with every vector, whatever index CORPUS has.")
@click.option("--probes", type=int, help="Lists of the index to look into (default: as it was built).")
@click.option("--score-dtype", help="Stored scores: float32 (default) or float16.")
@click.option("--as", "title", metavar="NAME", help="A name for the table.")
@click.option("--check", type=float, metavar="SHARE", help="Search this share of a table again, and compare.")
@click.option("--forget", is_flag=True, help="Take a table away; `gc` frees its bytes.")
@click.option("--table", metavar="NAME", help="Which table to check or forget (default: the only one).")
@options.JSON
@options.engine
def neighbours(
    corpus: str,
    k: int | None,
    of: str | None,
    exact: bool,
    probes: int | None,
    score_dtype: str | None,
    title: str | None,
    check: float | None,
    forget: bool,
    table: str | None,
    as_json: bool,
    engine: str | None,
    beam_options: tuple[str, ...],
) -> None:
    """Add a table of the K nearest passages of each passage, from stored vectors.

    \b
    Two neighbours of each chunk, its own document left out, as RETRO reads them:
      memcorpus neighbours CORPUS -k 2
    Held-out text searched in a corpus, to evaluate, or to find what leaked:
      memcorpus neighbours CORPUS --of HELD-OUT -k 10
    A hundredth of it searched again, and compared bit by bit (status 1 if it differs):
      memcorpus neighbours CORPUS --check 0.01

    A corpus may have several tables. Stopped at any moment, the same command goes on where it
    was. With --of, --check and --forget are of OTHER's tables.
    """
    from pipeline.cli import terminal
    from pipeline.jobs import neighbours as module
    from pipeline.units import engines
    from retrieval.opening import writable_folder
    from storage import remote

    making = {
        "-k": k, "--exact": exact or None, "--probes": probes, "--score-dtype": score_dtype, "--as": title,
    }  # fmt: skip
    given = [name for name, value in making.items() if value is not None]
    if check is not None and forget:
        raise click.UsageError("give --check or --forget")
    if check is None and not forget:
        if table is not None:
            raise click.UsageError("--table is of --check and --forget; a new table is named by --as")
    elif given:
        raise click.UsageError(f"{given[0]} makes a table; leave it out with --check and --forget")
    holder = writable_folder(corpus if of is None else of)
    if forget:
        print(f"table {module.forget(holder, _one(table))} is gone; `memcorpus gc` frees its bytes")
        return
    chosen = engines.chosen(engine, beam_options)
    if check is not None:
        with terminal.observer() as observer:
            found = module.check(
                holder,
                check,
                table=table,
                database=None if of is None else corpus,
                engine=chosen,
                observer=observer,
            )
        if as_json:
            print(json.dumps(asdict(found) | {"ok": not found.different}))
        else:
            for path in found.different:
                print(f"different: {path}")
            verdict = f"{len(found.different)} differ" if found.different else "the same, bit by bit"
            print(f"table {found.table}, {found.rows:,} rows searched again: {verdict}")
        if found.different:
            raise SystemExit(options.FAILED)
        return
    wanted: Json = {"k": k, "probes": probes, "score_dtype": score_dtype, "title": title}
    settings = module.NeighboursSettings(
        exact=exact, **{name: value for name, value in wanted.items() if value is not None}
    )
    with terminal.observer() as observer:
        outcome, name = module.make(
            holder if of is None else remote.open_folder(corpus),
            settings,
            of=None if of is None else holder,
            engine=chosen,
            observer=observer,
        )
    _print(outcome.corpus, name, already=outcome.already, seconds=outcome.seconds, as_json=as_json)


def _one(table: str | None) -> str:
    """The table to forget is named: nothing goes by default."""
    if table is None:
        raise click.UsageError("--forget wants --table NAME")
    return table


def _print(folder: CorpusFolder, name: str, *, already: bool, seconds: float, as_json: bool) -> None:
    from pipeline.accounts import facts, figures

    found = figures.table(facts.read(folder), name)
    if as_json:
        print(json.dumps({"table": name, "already": already, "seconds": round(seconds, 3), **found}))
        return
    if already:
        print(f"table {name} is in {folder} already; nothing to search")
    print(
        f"{found['searched']:,} passages searched in {found['database']}: {found['found']:,} neighbours, "
        f"{found['short']:,} passages with fewer than {found['k']}"
    )
    print(f"recall {found['recall']:.4f} on {found['recall_queries']} of them; {found['bytes']:,} bytes")
    print(f"\ntable {name}, {seconds:,.1f} s")
