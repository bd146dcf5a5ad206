"""`verify` and `repair`: is a corpus as it was written, and how it becomes so again."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from pipeline.cli import options

if TYPE_CHECKING:
    from storage.folder import CorpusFolder


_SHARD: Final = click.option(
    "--shard",
    "shards",
    multiple=True,
    metavar="N[-M]",
    help="These shards alone, as in the names of their files; G:N of those that update G added. May be "
    "given again.",
)


@click.command()
@options.CORPUS
@click.option("--full", is_flag=True, help="Read every byte and check it, not only sizes.")
@_SHARD
@click.option("--encoder", help="The memory encoder: encode the canaries again, and compare.")
@click.option("--version", help="With --encoder: memory version or alias (default: current).")
@options.JSON
@options.engine
def verify(
    corpus: str,
    full: bool,
    shards: tuple[str, ...],
    encoder: str | None,
    version: str | None,
    as_json: bool,
    engine: str | None,
    beam_options: tuple[str, ...],
) -> None:
    """Check that a corpus is as it was written. Status 1 if it is not.

    With an engine, or options of Beam, the files are dealt out to its workers, and a run that was
    interrupted is gone on with. Without, this process reads all, and writes nothing.
    """
    from dataclasses import asdict

    from pipeline.cli import terminal
    from retrieval.opening import writable_folder

    if version is not None and encoder is None:
        raise click.UsageError("--version is of what --encoder checks; add --encoder")
    folder = writable_folder(corpus)
    start = time.perf_counter()
    if engine is None and not beam_options:
        from storage.shard_numbers import ShardNumbers
        from storage.verify import verify_corpus

        wanted = ShardNumbers.parse(shards) if shards else None
        with terminal.BytesBar(full and sys.stderr.isatty(), folder) as bar:
            result = verify_corpus(
                folder, full=full, shards=wanted, on_file=lambda entry: bar.advance(entry.bytes)
            )
    else:
        from pipeline.jobs import verify as module
        from pipeline.units import engines

        with terminal.observer() as observer:
            result = module.verify(
                folder,
                full=full,
                shards=shards,
                engine=engines.chosen(engine, beam_options),
                observer=observer,
            )
    seconds = time.perf_counter() - start
    again = None if encoder is None else _check_encoder(folder, encoder, version)
    if as_json:
        report = asdict(result) | {"ok": result.ok, "full": full}
        print(json.dumps(report if again is None else report | {"encoder": again}))
    else:
        for line in result.damaged:
            print(f"damaged: {line}")
        for line in result.unreadable:
            print(f"unreadable: {line}")
        for name in result.strays:
            print(f"not part of the corpus: {name}")
        what = "checksums" if full else "sizes"
        verdicts = []
        if result.damaged:
            verdicts.append(f"{len(result.damaged)} damaged; see `memcorpus repair`")
        if result.unreadable:
            verdicts.append(f"{len(result.unreadable)} cannot be read, and may be whole")
        verdict = "; ".join(verdicts) or "as written"
        print(f"{result.files:,} files, {result.bytes:,} bytes, {what} checked in {seconds:.2f} s: {verdict}")
        if again is not None:
            print(
                f"canaries encoded again: relative error {again['relative_error']:.2g}, "
                f"mean cosine {again['cosine']:.6f}"
            )
    if not result.ok:
        raise SystemExit(options.FAILED)


def _check_encoder(folder: CorpusFolder, name: str, version: str | None) -> dict[str, float]:
    from pipeline.jobs import versions
    from retrieval.corpus import Corpus

    found = Corpus(folder).check_encoder(versions.load_encoder(folder, name, version), version)
    return found.to_json()


@click.command()
@options.CORPUS
@click.option("--memory-encoder", help="Where it is not at the place that the build found it.")
@click.option("--retriever", help="Where it is not at the place that the build found it.")
@click.option("--tokenizer", help="Where it is not at the place that the build found it.")
@click.option(
    "--database", help="Of tables of neighbours: the corpus searched in, where it is elsewhere now."
)
@_SHARD
@options.JSON
@options.engine
def repair(
    corpus: str,
    memory_encoder: str | None,
    retriever: str | None,
    tokenizer: str | None,
    database: str | None,
    shards: tuple[str, ...],
    as_json: bool,
    engine: str | None,
    beam_options: tuple[str, ...],
) -> None:
    """Make damaged shards again, and nothing else. Status 1 if something cannot be repaired.

    Every byte is read and checked first, of all shards or of those that are named. What is made again is
    put in place only if it is, to the byte, what was there; until then the damaged file stays.
    """
    from pipeline.cli import terminal
    from pipeline.jobs import repair as module
    from pipeline.units import engines
    from retrieval.opening import writable_folder

    outcome = module.repair(
        writable_folder(corpus),
        memory_encoder=memory_encoder,
        retriever=retriever,
        tokenizer=tokenizer,
        database=database,
        shards=shards,
        engine=engines.chosen(engine, beam_options),
        observer=terminal.LogLines(),
    )
    if as_json:
        print(json.dumps({"repaired": outcome.repaired, "left": outcome.left}))
    else:
        for path in outcome.repaired:
            print(f"repaired: {path}")
        for line in outcome.left:
            print(f"not repaired: {line}")
        if not outcome.repaired and not outcome.left:
            print("nothing is damaged")
    if outcome.left:
        raise SystemExit(options.FAILED)
