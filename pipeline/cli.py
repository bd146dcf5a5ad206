"""The command `memcorpus`. Heavy libraries are imported by the subcommands that need them."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final

import click

from pipeline import quiet, work
from storage import errors

BAD_INPUT: Final = 2
FAILED: Final = 1


def main() -> None:
    """Run a command; plain errors on one line, status 2 for bad input and 1 for what failed."""
    quiet.quieten()
    status = run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Beam's threads outlive a job whose worker was killed, and would keep the process for ever.
    os._exit(status)


def run() -> int:
    """Run a command and return its exit status; errors are told on stderr."""
    try:
        # Click's own errors (unknown options, missing arguments) end with status 2 as well.
        cli(standalone_mode=False)
    except click.ClickException as e:
        e.show()
        return BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted; what is done is kept: run the same command again")
        return 130
    except SystemExit as e:
        return int(e.code or 0)
    except errors.DamagedError as e:
        _say(str(e))
        return FAILED
    except BrokenPipeError:
        return FAILED
    except Exception as e:
        if work.is_refusal(e) and not work.is_disk_full(e):
            _say(str(e))
            return BAD_INPUT
        if isinstance(e, RuntimeError | OSError):
            _say(work.message(e))
            if os.environ.get("MEMCORPUS_DEBUG"):
                traceback.print_exc()
            return FAILED
        traceback.print_exception(e)
        _say(f"unexpected {type(e).__name__}; please report it with the lines above")
        return FAILED
    return 0


def _say(text: str) -> None:
    print(f"memcorpus: {' '.join(text.split())}", file=sys.stderr)


_CORPUS = click.argument("corpus", metavar="CORPUS")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
    """


@cli.command(context_settings={"ignore_unknown_options": False})
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="FORMAT:PATH",
    help="What to read; again for more. FORMAT is mediawiki (XML dumps, plain or bz2), kilt (KILT knowledge "
    "source), dpr (psgs_w100.tsv), wikipedia (Hugging Face Parquet) or jsonl (id, title, text). PATH is a "
    "file, a folder or a glob.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The corpus folder to write.")
@click.option("--retriever", help="GTR-like SentenceTransformer: a folder or a hub name.")
@click.option("--memory-encoder", help="T5.1.1 with safetensors weights: a folder or a hub name.")
@click.option(
    "--live-proportion",
    metavar="FRACTION",
    help="Share of the encoder's layers that readers run live, such as 1/3; the rest make the memory.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="TOML file with any of these settings, named with underscores; options given here win.",
)
@click.option("--codec", help="How memory is stored: bfloat16 (default), float16 or float32.")
@click.option("--compute-dtype", help="The memory encoder computes in bfloat16 (default) or float32.")
@click.option("--token-budget", type=int, help="Tokens computed at a time (default 1216, for CPUs).")
@click.option("--max-tokens", type=int, help="Tokens kept of a passage (default 304).")
@click.option("--passage-words", type=int, help="Words of a passage, at most (default 200).")
@click.option("--memory-template", help='Text for the encoder (default "title: {title} context: {text}").')
@click.option("--retriever-template", help='Text for the retriever (default "{title} {text}").')
@click.option("--vector-dtype", help="Stored vectors: float32 (default) or float16.")
@click.option("--shard-passages", type=int, help="Passages a shard (default: sized to model and corpus).")
@click.option("--split-bytes", type=int, help="Bytes of a source that one worker reads at a time.")
@click.option("--max-quarantined", type=float, help="Share of pages that may be unreadable (default 0.01).")
@_JSON
@click.argument("beam_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- BEAM OPTIONS]")
def build(out: Path, config: Path | None, as_json: bool, beam_options: tuple[str, ...], **given: Any) -> None:
    """Build a corpus, or go on with one that was interrupted.

    \b
    Reads the sources, cuts their articles into passages, embeds and encodes them, and
    writes a corpus to OUT. The corpus appears whole at the end, or not at all. Stopped
    at any moment, the same command goes on where it was; with other settings it refuses.

    \b
    More processes on this machine:
      memcorpus build ... -- --direct_running_mode=multi_processing --direct_num_workers=4
    """
    from pipeline import build as build_module
    from pipeline import report, terminal
    from pipeline.settings import BuildSettings

    settings = BuildSettings.load(config, {k: v for k, v in given.items() if v not in (None, ())})
    if sys.stderr.isatty():
        with terminal.LiveBars() as bars:
            outcome = build_module.build(settings, out, beam_options=beam_options, observer=bars)
    else:
        lines = terminal.LogLines()
        outcome = build_module.build(settings, out, beam_options=beam_options, observer=lines)
    summary = report.summary(out)
    if as_json:
        print(json.dumps({**summary, "already": outcome.already, "seconds": round(outcome.seconds, 3)}))
        return
    if outcome.already:
        print(f"{out} was built with these settings already; nothing to do")
    terminal.print_summary(summary, _stdout())
    print(f"\n{out.resolve()}: {summary['passages']:,} passages, {outcome.seconds:,.1f} s")


@cli.command()
@_CORPUS
@_JSON
def info(corpus: str, as_json: bool) -> None:
    """Show what a corpus is made of: counts, versions, bytes, and the seconds of its build."""
    from pipeline import report, terminal
    from retrieval.corpus import corpus_folder

    summary = report.summary(corpus_folder(corpus))
    if as_json:
        print(json.dumps(summary))
        return
    terminal.print_summary(summary, _stdout())


@cli.command()
@_CORPUS
@click.argument("queries", nargs=-1, required=True, metavar="QUERY...")
@click.option("-k", default=5, show_default=True, help="Passages for each query.")
@click.option("--retriever", help="The retriever, where it is not at the place that the build found it.")
@_JSON
def search(corpus: str, queries: tuple[str, ...], k: int, retriever: str | None, as_json: bool) -> None:
    """Find the passages nearest to each QUERY, a text."""
    from retrieval import open_corpus

    opened = open_corpus(corpus, retriever=retriever)
    start = time.perf_counter()
    result = opened.search(list(queries), min(k, len(opened)) if k > 0 else k)
    seconds = time.perf_counter() - start
    for query, found, scores in zip(queries, result.passage_ids, result.scores, strict=True):
        rows = opened.passages(found).to_pylist()
        if as_json:
            passages = [_as_json(row) | {"score": float(s)} for row, s in zip(rows, scores, strict=True)]
            print(json.dumps({"query": query, "passages": passages}, ensure_ascii=False))
            continue
        print(query)
        for row, score in zip(rows, scores, strict=True):
            print(f"  {score:.4f}  {_head(row)}")
            print(f"          {_shortened(row['text'])}")
    if not as_json:
        print(
            f"\n{len(queries)} quer{'y' if len(queries) == 1 else 'ies'}, {seconds:.2f} s with the retriever"
        )


@cli.command()
@_CORPUS
@click.argument("passage_ids", nargs=-1, required=True, type=int, metavar="ID...")
@click.option("--memory", "with_memory", is_flag=True, help="Fetch the passages' memory too.")
@click.option("--version", help="Memory version or alias (default: current).")
@click.option("--save", type=click.Path(path_type=Path), help="Write the memory to this .npz (float32).")
@_JSON
def get(
    corpus: str,
    passage_ids: tuple[int, ...],
    with_memory: bool,
    version: str | None,
    save: Path | None,
    as_json: bool,
) -> None:
    """Print passages by ID, and the shape of their memory."""
    import numpy as np

    from retrieval import open_corpus

    if save and not save.parent.is_dir():
        raise errors.CorpusError(f"{save} cannot be written: there is no folder {save.parent}")
    opened = open_corpus(corpus)
    rows = [_as_json(row) for row in opened.passages(list(passage_ids)).to_pylist()]
    if with_memory or save:
        reader = opened.memory(version)
        start = time.perf_counter()
        memory = reader.fetch(list(passage_ids))
        milliseconds = (time.perf_counter() - start) * 1000
        for row, values in zip(rows, memory, strict=True):
            row["memory"] = {
                "version": reader.version,
                "tokens": values.shape[0],
                "width": values.shape[1],
                "dtype": values.dtype.name,
            }
        if save:
            with save.open("wb") as file:
                np.savez(
                    file,
                    passage_ids=memory.passage_ids,
                    offsets=memory.offsets,
                    values=np.asarray(memory.values, np.float32),
                )
    for row in rows:
        if as_json:
            print(json.dumps(row, ensure_ascii=False))
            continue
        print(_head(row))
        print(row["text"])
        if "memory" in row:
            print("memory: {tokens} tokens x {width} {dtype}, version {version}".format(**row["memory"]))
        print()
    if (with_memory or save) and not as_json:
        print(f"memory of {len(rows)} passages fetched in {milliseconds:.2f} ms")


@cli.command()
@_CORPUS
@click.option("--full", is_flag=True, help="Read every byte and check it, not only sizes.")
@_JSON
def verify(corpus: str, full: bool, as_json: bool) -> None:
    """Check that a corpus is as it was written. Status 1 if it is not."""
    from dataclasses import asdict

    from retrieval.corpus import corpus_folder
    from storage import verify as verification

    start = time.perf_counter()
    result = verification(corpus_folder(corpus), full=full)
    seconds = time.perf_counter() - start
    if as_json:
        print(json.dumps(asdict(result) | {"ok": result.ok, "full": full}))
    else:
        for line in result.damaged:
            print(f"damaged: {line}")
        for name in result.strays:
            print(f"not part of the corpus: {name}")
        what = "checksums" if full else "sizes"
        verdict = "as written" if result.ok else f"{len(result.damaged)} damaged"
        print(f"{result.files:,} files, {result.bytes:,} bytes, {what} checked in {seconds:.2f} s: {verdict}")
    if not result.ok:
        raise SystemExit(FAILED)


def _stdout() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "passage_key": row["passage_key"].hex()}


def _head(row: dict[str, Any]) -> str:
    return f"[{row['passage_id']}] " + " > ".join([row["title"], *row["section"]])


def _shortened(text: str, length: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[: length - 3]}..."
