"""`plan` and `report`: what a corpus will cost, and what it did cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from encoders import memory_spec
from pipeline.cli import options
from storage import errors

if TYPE_CHECKING:
    from pipeline.accounts.plan.inputs import Counts, Machines, Model, Rates
    from pipeline.components.settings import BuildSettings

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
@click.option("--memory-encoder", help="T5.1.1: a folder or a hub name; its tokenizer counts the tokens.")
@click.option("--size", "sizes", multiple=True, help="Published size in place of it; again for more.")
@click.option("--retriever", help="GTR-like SentenceTransformer (default: counted as GTR-Base).")
@click.option(
    "--live-proportion",
    "alphas",
    multiple=True,
    metavar="FRACTION",
    default=(str(memory_spec.LIVE_PROPORTION),),
    show_default=True,
    help="α; again for more.",
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
@click.option("--shard-passages", type=int, help="Passages a shard (default: as a build sizes them).")
@click.option("--device", help="Accelerator of the build, by its name in the price list.")
@click.option("--workers", type=int, default=1, show_default=True, help="Processes, an accelerator each.")
@UTILISATION
@click.option("--storage", default="local-disk", show_default=True, help="Storage class it is written to.")
@click.option("--out", type=click.Path(path_type=Path), help="Corpus folder; its disk must have the room.")
@click.option(
    "--calibrate/--no-calibrate",
    default=None,
    help="Measure this machine's speed on the sample (default: when both models are given, and no device).",
)
@RETRIEVED
@SELECTED
@MONTHS
@PRICES
@options.JSON
def plan(
    sources: tuple[str, ...],
    sample: float | None,
    passages: float | None,
    tokens_per_passage: float | None,
    text_bytes: float | None,
    out: Path | None,
    calibrate: bool | None,
    as_json: bool,
    price_file: Path | None,
    **given: Any,
) -> None:
    """Say what a corpus would take, before anything is built.

    \b
    From a source, of which a sample is read, or from given counts. Bytes of every part,
    FLOPs, hours, bandwidth, price; side by side for every codec, size and α named.

    \b
      memcorpus plan --source mediawiki:DUMP --memory-encoder MODEL --retriever GTR --out corpus
      memcorpus plan --passages 36e6 --tokens-per-passage 265 --size xxl --codec all \\
          --device h100 --workers 64 --storage s3-standard
    """
    from pipeline.accounts import prices
    from pipeline.accounts.plan import estimate, inputs, planning
    from pipeline.accounts.plan import from_source as plan_module
    from pipeline.accounts.show import tables

    listed = prices.read(price_file)
    models = _models(given)
    names = estimate.codec_names()
    wanted = [
        name for one in given["codecs"] or ("bfloat16",) for name in (names if one == "all" else (one,))
    ]
    for name in wanted:  # before a long sample is read
        planning.check_codec(name)
    device = listed.device(given["device"]) if given["device"] else None
    storage = listed.storage_class(given["storage"])
    free = plan_module.free_bytes(out)[1] if out is not None else None
    if bool(sources) == (passages is not None):
        raise errors.CorpusError("give either --source FORMAT:PATH, or --passages and --tokens-per-passage")

    def machines(rates: Rates | None) -> Machines:
        return inputs.Machines(
            workers=given["workers"],
            storage=storage,
            device=device,
            utilisation=given["utilisation"],
            rates=rates,
            free_bytes=free,
        )

    rates = None
    if sources:
        measure = calibrate if calibrate is not None else device is None and bool(given["retriever"])
        if device is None and not measure:
            machines(None)  # says what is missing
        counts, basis, rates = _from_source(_settings(sources, wanted[0], given), sample, measure)
    else:
        counts, basis = _given(passages, tokens_per_passage, text_bytes)
    asked = planning.Asked(
        counts=counts,
        basis=basis,
        models=models,
        codecs=list(dict.fromkeys(wanted)),
        machines=machines(rates),
        prices=listed,
        shard_passages=given["shard_passages"],
        retrieved=given["retrieved"],
        selected=given["selected"],
        months=given["months"],
    )
    result = planning.plan_report(asked)
    if as_json:
        print(json.dumps(result))
        return
    tables.print_plan(result, _wide())


def _models(given: dict[str, Any]) -> Sequence[Model]:
    """Every size or folder with every live proportion."""
    from pipeline.accounts import flops
    from pipeline.accounts.plan import from_source as plan_module
    from pipeline.accounts.plan import inputs

    memories = _memories(given)
    folder, sizes = given["memory_encoder"], given["sizes"]
    if not folder and not sizes:
        raise errors.CorpusError(f"no model given; add --memory-encoder FOLDER, or --size {flops.SIZES}")
    retriever = {}
    if given["retriever"]:
        retriever = plan_module.retriever_shape(given["retriever"])
    shapes = {name: flops.size(name) for name in sizes}
    if folder:
        shapes = {Path(folder).name or folder: plan_module.encoder_shape(folder)} | shapes
    made = [
        inputs.Model(name=name, config=config, memory=memory, **retriever)
        for name, config in shapes.items()
        for memory in memories
    ]
    for model in made:
        _ = model.layers  # α must give whole layers; said before a long sample is read
    return made


def _memories(given: dict[str, Any]) -> list[memory_spec.MemorySpec]:
    """One for every live proportion."""
    default = memory_spec.MemorySpec()
    return [
        default.changed({"live_proportion": alpha, "max_tokens": given["max_tokens"]})
        for alpha in given["alphas"]
    ]


def _settings(sources: tuple[str, ...], codec: str, given: dict[str, Any]) -> BuildSettings:
    from pipeline.components.settings import BuildSettings

    if not given["memory_encoder"]:
        raise errors.CorpusError(
            "tokens of a source are counted by the memory encoder's tokenizer; add --memory-encoder"
        )
    return BuildSettings(
        sources=sources,
        retriever=given["retriever"] or "",
        memory_encoder=given["memory_encoder"],
        memory=_memories(given)[0],
        codec=codec,
        passage_words=given["passage_words"],
        shard_passages=given["shard_passages"],
    )


def _from_source(
    settings: BuildSettings, share: float | None, measure: bool
) -> tuple[Counts, dict[str, Any], Rates | None]:
    """Counts of the sources from a sample, where they come from in words, and rates if wanted."""
    from pipeline.accounts.plan import calibrate as calibration
    from pipeline.accounts.plan import from_source as plan_module
    from pipeline.accounts.plan import sample as sampling
    from pipeline.text import sources as sources_module

    if share is not None and not 0 < share <= 1:
        raise errors.CorpusError(f"sample is {share}, wanted a share above 0 and up to 1")
    splits = [
        split
        for spec in settings.sources
        for split in sources_module.open_source(spec).splits(settings.split_bytes)
    ]
    # A share that was asked for is kept to, however few pages it is.
    bounds = sampling.Bounds() if share is None else sampling.Bounds(share=share, least=1, most=None)
    taken = sampling.sample_source(splits, settings.passage_words, bounds)
    counts = plan_module.count_source(taken, len(splits), settings)
    rates = calibration.calibrate(taken, settings, passages=counts.passages) if measure else None
    return counts, plan_module.basis(taken, settings), rates


def _given(
    passages: float | None, tokens_per_passage: float | None, text_bytes: float | None
) -> tuple[Counts, dict[str, Any]]:
    from pipeline.accounts.plan import inputs

    if passages is None or tokens_per_passage is None:
        raise errors.CorpusError("--passages goes with --tokens-per-passage; give both")
    tokens = passages * tokens_per_passage
    text = inputs.BYTES_PER_TOKEN * tokens if text_bytes is None else text_bytes
    counts = inputs.Counts(passages=passages, tokens=tokens, text_bytes=text)
    return counts, {"kind": "counts", "words": "counts as given"}


def _wide() -> Any:
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
    from pipeline.accounts.show import tables
    from retrieval.corpus import local_folder

    if html is not None and not html.absolute().parent.is_dir():
        raise errors.CorpusError(f"{html} cannot be written: there is no folder {html.parent}")
    chosen = corpus_report.Options(
        prices=prices.read(price_file),
        live_proportion=parse_live_proportion(live_proportion) if live_proportion else None,
        **given,
    )
    result = corpus_report.corpus_report(local_folder(corpus), chosen)
    if html is not None:
        from pipeline.accounts.show import page
        from storage import files

        files.write_atomic(html, page.render(result).encode())
    if as_json:
        print(json.dumps(result))
    elif html is None:
        tables.print_report(result, _wide())
    else:
        print(f"{html}: {html.stat().st_size:,} bytes, one page without network")
