"""`build`: from sources to a corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pipeline.cli import options


@click.command(context_settings={"ignore_unknown_options": False})
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="FORMAT:PATH",
    help="What to read; again for more. FORMAT is mediawiki (XML dumps, plain or bz2), kilt (KILT knowledge "
    "source), dpr (psgs_w100.tsv), wikipedia (Hugging Face Parquet) or jsonl (id, title, text). PATH is a "
    "file, a folder or a glob, here or in s3://bucket.",
)
@click.option("--out", required=True, help="The corpus to write: a folder, or s3://bucket/path.")
@click.option("--retriever", help="A SentenceTransformer, such as a GTR: a folder or a hub name.")
@click.option(
    "--memory-encoder",
    help="A T5, another encoder of transformers', or a multi-vector retriever: a folder or a hub name.",
)
@options.memory()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="TOML file with any of these settings, named with underscores; options given here win.",
)
@click.option(
    "--codec",
    help="How memory is stored: bfloat16 (default), float16, float32; int8 (2x smaller), turbo4 (4x), turbo2 "
    "(7x), pq8x8 or pq16x16 (16x); see docs/format.md.",
)
@click.option("--passage-words", type=int, help="Words of a passage, at most (default 200).")
@options.KEEP_SECTIONS
@options.TEMPLATES
@click.option(
    "--passage-tokens",
    type=int,
    help="Cut passages by tokens instead: chunks of so many, through an article's sections (RETRO: 64).",
)
@click.option("--tokenizer", help="What cuts them: a folder or a hub name with a tokenizer.")
@click.option("--retriever-template", help='Text for the retriever (default "{title} {text}").')
@click.option("--vector-dtype", help="Stored vectors: float32 (default) or float16.")
@click.option(
    "--retriever-backend",
    help="What runs the retriever: jax or sentence-transformers (default: jax, if it can run the model).",
)
@click.option(
    "--index-recall",
    type=float,
    help="Recall@10 that searches of an index of lists are to have (default 0.97), above 200,000 passages.",
)
@click.option("--shard-passages", type=int, help="Passages a shard (default: sized to model and corpus).")
@options.where
@click.option("--split-bytes", type=int, help="Bytes of a source that one worker reads at a time.")
@click.option("--max-quarantined", type=float, help="Share of pages that may be unreadable (default 0.01).")
@options.JSON
@options.engine
def build(
    out: str,
    config: Path | None,
    as_json: bool,
    engine: str | None,
    beam_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Build a corpus, or go on with one that was interrupted.

    \b
    Reads the sources, cuts their articles into passages, embeds and encodes them, and
    writes a corpus to OUT. The corpus appears whole at the end, or not at all. Stopped
    at any moment, the same command goes on where it was; with other settings it refuses.

    \b
    More processes on this machine:
      memcorpus build ... -- --direct_running_mode=multi_processing --direct_num_workers=4
    Many machines, that share the folder or the bucket:
      memcorpus build ... --engine dask:tcp://scheduler:8786
    """
    from pipeline.accounts import facts, figures
    from pipeline.cli import terminal
    from pipeline.components.settings import BuildSettings
    from pipeline.jobs import build as build_module
    from pipeline.units import engines
    from retrieval.opening import writable_folder

    settings = BuildSettings.load(config, {k: v for k, v in given.items() if v not in (None, ())})
    corpus = writable_folder(out)
    chosen = engines.chosen(engine, beam_options)
    options.warn_of_unused()
    with terminal.observer() as observer:
        outcome = build_module.build(settings, corpus, engine=chosen, observer=observer)
    summary = figures.summary(facts.read(corpus))
    if as_json:
        print(json.dumps({**summary, "already": outcome.already, "seconds": round(outcome.seconds, 3)}))
        return
    if outcome.already:
        print(f"{corpus} was built with these settings already; nothing to do")
    terminal.print_summary(summary, options.stdout())
    print(f"\n{corpus.place}: {summary['passages']:,} passages, {outcome.seconds:,.1f} s")
