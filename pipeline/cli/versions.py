"""`reencode`, `versions`, `use`, `diff` and `gc`: memory versions side by side."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from pipeline.cli import options
from storage import manifest


@click.command()
@options.CORPUS
@click.option("--memory-encoder", help="The model to encode with: a folder or a hub name.")
@click.option("--from", "origin", metavar="VERSION", help="Recode this version, without an encoder.")
@click.option(
    "--codec",
    help="How memory is stored (default: as the reader given was trained, else as the corpus was built).",
)
@click.option("--as", "name", metavar="NAME", help="A name for the new version.")
@click.option("--use", "switch", is_flag=True, help="Make it the current version when it is done.")
@options.memory(otherwise="by default as the corpus was built")
@click.option("--shard-passages", type=int, help="Passages a shard (default: sized to model and corpus).")
@options.where
@options.config
@options.JSON
@options.engine
def reencode(
    corpus: str,
    switch: bool,
    as_json: bool,
    engine: str | None,
    beam_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Add a memory version: encode again, or recode one that is there.

    \b
    After the memory encoder was trained further:
      memcorpus reencode CORPUS --memory-encoder new-t5 --as step-2000
    Sixteen times smaller, without an encoder:
      memcorpus reencode CORPUS --from current --codec pq8x8 --as small

    Passages, vectors and index stay as they are, and so do the other versions. Stopped at any
    moment, the same command goes on where it was. Readers get the new version when `use`, or --use
    here, has made it the current one, and they open the corpus again.
    """
    from pipeline.accounts import facts, figures
    from pipeline.accounts.show import tables
    from pipeline.cli import terminal
    from pipeline.jobs import reencode as module
    from pipeline.units import engines
    from retrieval.opening import writable_folder

    folder = writable_folder(corpus)
    settings = module.ReencodeSettings(memory=options.taken_memory(given), **given)
    chosen = engines.chosen(engine, beam_options)
    if settings.memory_encoder is not None:
        options.warn_of_unused()
    with terminal.observer() as observer:
        outcome, version = module.reencode(folder, settings, use=switch, engine=chosen, observer=observer)
    known = facts.read(folder)
    warnings = figures.warnings(known, version)
    if as_json:
        done = {"version": version, "already": outcome.already, "seconds": outcome.seconds}
        print(json.dumps({**done, "warnings": warnings}))
        return
    if outcome.already:
        print(f"version {version} is in {folder} already; nothing to encode")
    terminal.print_versions(figures.versions(known), options.stdout())
    tables.print_warnings(warnings, options.stdout())
    print(f"\nversion {version}, {outcome.seconds:,.1f} s")


@click.command()
@options.CORPUS
@options.JSON
def versions(corpus: str, as_json: bool) -> None:
    """List the memory versions of a corpus."""
    from pipeline.accounts import facts, figures
    from pipeline.cli import terminal
    from retrieval.opening import writable_folder

    found = figures.versions(facts.read(writable_folder(corpus)))
    if not as_json:
        terminal.print_versions(found, options.stdout())
        return
    for version in found:
        print(json.dumps(version))


@click.command()
@options.CORPUS
@click.argument("version", required=False)
@click.option("--back", is_flag=True, help="The version that was current before.")
@click.option("--alias", default=manifest.CURRENT, show_default=True, help="The name to give it.")
@click.option("--forget", is_flag=True, help="Take the name --alias away instead.")
def use(corpus: str, version: str | None, back: bool, alias: str, forget: bool) -> None:
    """Make VERSION the current one, by one rename; or give it another name.

    Readers that are open stay with the version they opened.
    """
    from pipeline.jobs import versions as module
    from retrieval.opening import writable_folder

    if sum((version is not None, back, forget)) != 1:
        raise click.UsageError("give a VERSION, or --back, or --forget")
    folder = writable_folder(corpus)
    if forget:
        module.forget(folder, alias)
        print(f"{alias} is no name of a version any more")
        return
    print(f"{alias} is version {module.use(folder, version, alias=alias)}")


@click.command()
@options.CORPUS
@click.argument("first")
@click.argument("second")
@click.option("--sample", default=64, show_default=True, help="Passages to compare.")
@options.JSON
def diff(corpus: str, first: str, second: str, sample: int, as_json: bool) -> None:
    """Measure how far version SECOND is from version FIRST."""
    from pipeline.jobs import versions as module
    from retrieval.opening import writable_folder

    found = module.diff(writable_folder(corpus), first, second, sample=sample)
    if as_json:
        print(json.dumps(found))
        return
    same = "the same encoder" if found["same_encoder"] else "another encoder"
    print(f"{found['second']} against {found['first']} ({same}):")
    print(f"  {found['passages']} passages, {found['tokens']:,} tokens compared")
    if found["differently_tokenized"]:
        print(f"  {found['differently_tokenized']} passages have another number of tokens, and were left out")
    if "relative_error" in found:
        print(f"  relative error {found['relative_error']:.3g}, mean cosine {found['cosine']:.6f}")
        print(f"  largest difference {found['largest']:.3g} of the largest value")


@click.command()
@options.CORPUS
@click.option("--yes", is_flag=True, help="Remove it; without this, only show what would go.")
@click.option("--unfinished", is_flag=True, help="Also what an unfinished job has written.")
@options.JSON
def gc(corpus: str, yes: bool, unfinished: bool, as_json: bool) -> None:
    """Remove memory versions that no name points at, and what else belongs to no corpus.

    What a reader on this machine has open stays, and so does what an alias names.
    """
    from pipeline.jobs import versions as module
    from retrieval.opening import writable_folder

    folder = writable_folder(corpus)
    items = (module.collect if yes else module.garbage)(folder, unfinished=unfinished)
    if as_json:
        print(json.dumps({"removed": yes, "items": [asdict(item) for item in items]}))
        return
    for item in items:
        state = "held by a reader, stays" if item.held and not yes else ("gone" if yes else "would go")
        print(f"{item.kind:10s} {item.path}  {item.bytes:,} bytes  {state}")
    size = sum(item.bytes for item in items if yes or not item.held)
    if yes:
        print(f"{size:,} bytes freed")
    elif items:
        print(f"{size:,} bytes would be freed by `memcorpus gc {corpus} --yes`")
    else:
        print("nothing to remove")
