"""`plan` and `report`: what a corpus will cost, and what it did cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from encoders import memory_spec
from pipeline.cli import options

if TYPE_CHECKING:
    from rich.console import Console

PRICES = click.option(
    "--prices",
    "price_file",
    type=click.Path(path_type=Path),
    help="TOML file of prices and devices in place of the built-in ones.",
)
RETRIEVED = click.option("--retrieved", type=int, default=25, show_default=True, help="Passages a question.")
SELECTED = click.option(
    "--selected", type=int, default=5, show_default=True, help="Passages that GLIMMER keeps of them."
)
MONTHS = click.option(
    "--months", type=float, default=12.0, show_default=True, help="Months that the memory is kept."
)
UTILISATION = click.option(
    "--utilisation",
    type=float,
    default=0.4,
    show_default=True,
    help="Share of the accelerator's peak that is reached.",
)


@click.command()
@click.option(
    "--source", "sources", multiple=True, metavar="FORMAT:PATH", help="What would be read, as for `build`."
)
@click.option(
    "--sample", type=float, help="Share of the pages to convert (default 0.02, 400 to 4,000 pages)."
)
@click.option("--passages", type=float, help="In place of a source: so many passages, ...")
@click.option("--tokens-per-passage", type=float, help="... of so many tokens each (after the limit), ...")
@click.option("--text-bytes", type=float, help="... of so many bytes of text (default 3.3 a token).")
@click.option("--memory-encoder", help="A folder or a hub name; its tokenizer counts the tokens.")
@click.option("--memory-layers", metavar="N,...", help="Of an encoder that is no T5, as for `build`.")
@click.option("--size", "sizes", multiple=True, help="Published size in place of it; again for more.")
@click.option("--retriever", help="GTR-like SentenceTransformer (default: counted as GTR-Base).")
@click.option(
    "--live-proportion",
    "live_proportions",
    multiple=True,
    metavar="FRACTION",
    default=(str(memory_spec.LIVE_PROPORTION),),
    show_default=True,
    help="α of a T5; again for more.",
)
@click.option("--codec", "codecs", multiple=True, help="Default bfloat16; again for more, or `all`.")
@click.option(
    "--max-tokens",
    type=int,
    default=memory_spec.MAX_TOKENS,
    show_default=True,
    help="Tokens kept of a passage.",
)
@click.option(
    "--passage-words", type=int, default=200, show_default=True, help="Words of a passage, at most."
)
@options.KEEP_SECTIONS
@options.TEMPLATES
@click.option("--passage-tokens", type=int, help="Passages are chunks of so many tokens instead.")
@click.option("--tokenizer", help="What cuts them: a folder or a hub name.")
@click.option("--neighbours", type=int, metavar="K", help="With a table of the K nearest of each passage.")
@click.option("--probes", type=int, help="Lists that its search looks into (default: as the index has it).")
@click.option("--shard-passages", type=int, help="Passages a shard (default: as a build sizes them).")
@click.option("--device", help="Accelerator of the build, by its name in the price list.")
@click.option("--workers", type=int, default=1, show_default=True, help="Processes, an accelerator each.")
@UTILISATION
@click.option("--storage", default="local-disk", show_default=True, help="Storage class it is written to.")
@click.option("--out", type=click.Path(path_type=Path), help="Corpus folder; its disk must have the room.")
@click.option("--update", metavar="CORPUS", help="What an update of this corpus to the source would take.")
@click.option(
    "--calibrate/--no-calibrate",
    default=None,
    help="Measure this machine's speed on the sample (default: when both models are given, and no device).",
)
@RETRIEVED
@SELECTED
@MONTHS
@PRICES
@options.config
@options.JSON
def plan(as_json: bool, update: str | None, **given: Any) -> None:
    """Say what a corpus would take, before anything is built.

    \b
    From a source, of which a sample is read, or from given counts. Bytes of every part,
    FLOPs, hours, bandwidth, price; side by side for every codec, size and α named.

    \b
      memcorpus plan --source mediawiki:DUMP --memory-encoder MODEL --retriever GTR --out corpus
      memcorpus plan --passages 36e6 --tokens-per-passage 265 --size xxl --codec all \\
          --device h100 --workers 64 --storage s3-standard
    """
    if update is not None:
        _plan_update(update, as_json, given)
        return
    from pipeline.accounts.plan import asking
    from pipeline.accounts.show import plan_tables

    asked = {name: value for name, value in given.items() if value not in (None, ())}
    result = asking.plan(asking.PlanSettings.load(asked))
    if as_json:
        print(json.dumps(result))
        return
    plan_tables.print_plan(result, _wide())


def _plan_update(corpus: str, as_json: bool, given: dict[str, Any]) -> None:
    """All but the source is as the corpus was built."""
    from pipeline.accounts.show import words
    from pipeline.jobs import foretell
    from pipeline.jobs.update import UpdateSettings
    from retrieval.opening import local_folder

    taken = {
        name: given[name] for name in ("sources", "memory_encoder", "retriever", "tokenizer", "templates")
    }
    settings = UpdateSettings(**{name: value for name, value in taken.items() if value is not None})
    found = foretell.foretell(local_folder(corpus), settings, share=given["sample"])
    if as_json:
        print(json.dumps(found))
        return
    print(f"update {found['generation']} of {corpus}, from {found['sampled_pages']:,} pages of the source")
    print(f"  passages: about {found['added']:,} of {found['passages']:,} are new ({found['share']:.1%}),")
    print(f"            {found['kept']:,} are kept, {found['vanished']:,} vanish")
    print(f"  bytes: {words.size(found['bytes'])}; a full build {words.size(found['rebuild_bytes'])}")
    if found["worker_seconds"] is not None:
        full = found["rebuild_worker_seconds"]
        print(f"  workers' seconds: {found['worker_seconds']:,.0f}; a full build {full:,.0f}")
    for version in found["versions"]:
        print(f"  memory version {version} is brought forward")
    for version, why in found["left"].items():
        print(f"  memory version {version} is left behind: {why}")


def _wide() -> Console:
    """Standard output; in a file or a pipe as wide as the tables are."""
    out = options.stdout()
    if not out.is_terminal:
        out.width = max(out.width, 160)
    return out


@click.command()
@options.CORPUS
@click.option("--html", type=click.Path(path_type=Path), help="Write one self-contained page to this file.")
@click.option("--device", default="h100", show_default=True, help="Accelerator that answers questions.")
@click.option("--build-device", help="Accelerator that the corpus was built on, to tell its utilisation.")
@UTILISATION
@click.option("--storage", default="s3-standard", show_default=True, help="Storage class it is kept in.")
@click.option("--live-proportion", metavar="FRACTION", help="α of the readers (default: the build's).")
@RETRIEVED
@SELECTED
@MONTHS
@PRICES
@options.JSON
def report(
    corpus: str,
    html: Path | None,
    live_proportion: str | None,
    price_file: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Say what a corpus takes and what it cost: bytes, time, prices, break-even.

    \b
      memcorpus report corpus
      memcorpus report corpus --json
      memcorpus report corpus --html report.html
    """
    from encoders.t5_config import parse_live_proportion
    from pipeline.accounts import prices
    from pipeline.accounts.report import corpus_report
    from pipeline.accounts.show import report_tables
    from retrieval.opening import writable_folder

    if html is not None:
        options.require_output(html)
    chosen = corpus_report.Options(
        prices=prices.read(price_file),
        live_proportion=None if live_proportion is None else parse_live_proportion(live_proportion),
        **given,
    )
    result = corpus_report.corpus_report(writable_folder(corpus), chosen)
    if html is not None:
        from pipeline.accounts.show import page
        from storage import files

        files.write_atomic(html, page.render(result).encode())
    if as_json:
        print(json.dumps(result))
    elif html is None:
        report_tables.print_report(result, _wide())
    else:
        print(f"{html}: {html.stat().st_size:,} bytes, one page without network")
