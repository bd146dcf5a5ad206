"""`update` and `compact`: a new dump encoded where it changed, and what has gone dropped."""

from __future__ import annotations

from typing import Any

import click

from pipeline.cli import options


@click.command()
@options.CORPUS
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="FORMAT:PATH",
    help='A whole new dump, as for `build`; or jsonl:FILE with changes by page, an "op" in each line.',
)
@click.option(
    "--versions",
    default="named",
    show_default=True,
    help="Memory versions to bring forward: named, all that have a name, or current.",
)
@click.option("--memory-encoder", help="The current version's, where it is not where it was.")
@click.option("--retriever", help="Where it is not at the place that the build found it.")
@click.option("--tokenizer", help="Where it is not at the place that the build found it.")
@options.TEMPLATES
@click.option(
    "--max-vanished",
    type=float,
    default=0.5,
    show_default=True,
    help="Share of the passages that may be missing from a dump; one that lacks more is refused.",
)
@click.option("--split-bytes", type=int, help="Bytes of a source that one worker reads at a time.")
@click.option("--max-quarantined", type=float, help="Share of pages that may be unreadable (default 0.01).")
@options.where
@options.JSON
@options.engine
def update(
    corpus: str,
    as_json: bool,
    engine: str | None,
    beam_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Bring a corpus up to a new dump; only what is new is embedded and encoded.

    \b
    A new dump:
      memcorpus update CORPUS --source mediawiki:enwiki-20270101-pages-articles-multistream.xml.bz2
    Single pages ({"op": "upsert", "id": ..., "title": ..., "text": ...} or {"op": "delete", "id": ...}):
      memcorpus update CORPUS --source jsonl:changes.jsonl

    Unchanged passages keep their ids, memory, vectors and index rows. New ones get new ids at the end.
    What is not in the dump any more is searched and fetched no more. Readers that are open stay with what
    they opened. Stopped at any moment, the same command goes on where it was.
    """
    from pipeline.cli import terminal
    from pipeline.jobs import update as module
    from pipeline.units import engines
    from retrieval.opening import local_folder

    folder = local_folder(corpus)
    settings = module.UpdateSettings(**{k: v for k, v in given.items() if v is not None})
    chosen = engines.chosen(engine, beam_options)
    with terminal.observer() as observer:
        done = module.update(folder, settings, engine=chosen, observer=observer)
    if as_json:
        options.print_json(
            {
                "generation": done.generation,
                "already": done.already,
                "seconds": round(done.seconds, 3),
                "counts": dict(done.counts),
                "versions": list(done.brought),
                "left_behind": dict(done.left),
                "recall_at_10": done.recall_at_10,
                "retrained": done.retrained,
            }
        )
        return
    if done.already:
        print(f"nothing has changed: {folder} stays at generation {done.generation}")
        return
    counts = done.counts
    print(f"generation {done.generation} of {folder}, {done.seconds:,.1f} s")
    print(f"  {counts['old']:,} passages before = {counts['kept']:,} kept + {counts['vanished']:,} vanished")
    print(f"  {counts['new']:,} passages after  = {counts['kept']:,} kept + {counts['added']:,} added")
    if counts["unread"] and not any(name.startswith("changes: ") for name in counts):
        print(f"  {counts['unread']:,} of those kept are of pages that could not be read")
    for version in done.brought:
        print(f"  memory version {version} brought forward")
    for version, why in done.left.items():
        print(f"  memory version {version} left behind: {why}")
    if done.recall_at_10 is not None:
        trained = ", trained again" if done.retrained else ""
        print(f"  recall@10 of the index {done.recall_at_10:.4f}{trained}")


@click.command()
@options.CORPUS
@click.option("--dry-run", is_flag=True, help="Only say how many bytes it would free.")
@options.JSON
@options.engine
def compact(
    corpus: str, dry_run: bool, as_json: bool, engine: str | None, beam_options: tuple[str, ...]
) -> None:
    """Drop the bytes of passages that updates took out; ids stay.

    Shards and parts that lose something are written anew, all else is linked. Generations before this can be
    opened no more. What readers on this machine have open stays until `gc`.
    """
    from dataclasses import asdict

    from pipeline.cli import terminal
    from pipeline.jobs import compact as module
    from pipeline.units import engines
    from retrieval.opening import local_folder

    folder = local_folder(corpus)
    chosen = engines.chosen(engine, beam_options)
    with terminal.observer() as observer:
        done = module.compact(folder, dry_run=dry_run, engine=chosen, observer=observer)
    if as_json:
        options.print_json({"dry_run": dry_run, **asdict(done)})
        return
    if not done.passages:
        print("nothing to drop")
        return
    print(
        f"{done.passages:,} passages that are gone: {done.memory_bytes:,} bytes of memory, about "
        f"{done.text_bytes:,} of text"
    )
    if dry_run:
        print(f"they would be freed by `memcorpus compact {corpus}`")
        return
    print(f"{done.freed:,} bytes freed")
    if done.held:
        print(f"{done.held:,} more are held by readers; `memcorpus gc` frees them when those are gone")
