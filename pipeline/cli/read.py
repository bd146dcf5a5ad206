"""`info`, `search` and `get`: what a corpus holds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

import click

from pipeline.cli import options
from storage import files
from storage.aliases import Json

# Queries of a command up to which jax is not worth its loading.
FEW: Final = 32


@click.command()
@options.CORPUS
@options.JSON
def info(corpus: str, as_json: bool) -> None:
    """Show what a corpus is made of: counts, versions, bytes, and the seconds of its build."""
    from pipeline.accounts import facts, figures
    from pipeline.cli import terminal
    from retrieval.opening import writable_folder

    summary = figures.summary(facts.read(writable_folder(corpus)))
    if as_json:
        print(json.dumps(summary))
        return
    terminal.print_summary(summary, options.stdout())


@click.command()
@options.CORPUS
@click.argument("queries", nargs=-1, required=True, metavar="QUERY...")
@click.option("-k", default=5, show_default=True, help="Passages for each query.")
@click.option("--retriever", help="The retriever, where it is not at the place that the build found it.")
@click.option(
    "--rerank", metavar="VERSION", help="Rank them by MaxSim, from this version's memory (a ColBERT's)."
)
@click.option("--candidates", type=int, help="Passages that are found to be reranked (default: K).")
@click.option("--reranker", help="The model of --rerank, where it is not where it was.")
@click.option(
    "--refine/--no-refine",
    default=None,
    help="Rank the index's candidates by their stored vectors, or by its codes (default: by their vectors, "
    "where the index was built for it and the corpus is on a disk).",
)
@options.JSON
def search(
    corpus: str,
    queries: tuple[str, ...],
    k: int,
    retriever: str | None,
    rerank: str | None,
    candidates: int | None,
    reranker: str | None,
    refine: bool | None,
    as_json: bool,
) -> None:
    """Find the passages nearest to each QUERY, a text."""
    from retrieval import open_corpus

    opened = open_corpus(corpus, retriever=retriever)
    opened.few_queries = len(queries) <= FEW
    asked = [options.text(query) for query in queries]
    start = time.perf_counter()
    if rerank is None and reranker is not None:
        raise click.UsageError("--reranker is the model of a version; add --rerank VERSION")
    if reranker is not None:
        opened.reranker(rerank, encoder=reranker)
    if candidates is not None and candidates > 0:
        candidates = min(candidates, len(opened))
    wanted = min(k, len(opened)) if k > 0 else k
    result = opened.search(asked, wanted, rerank=rerank, candidates=candidates, refine=refine)
    seconds = time.perf_counter() - start
    for query, found, scores in zip(asked, result.passage_ids, result.scores, strict=True):
        rows = opened.passages(found).to_pylist()
        if as_json:
            passages = [_as_json(row) | {"score": float(s)} for row, s in zip(rows, scores, strict=True)]
            options.print_json({"query": query, "passages": passages})
            continue
        print(query)
        for row, score in zip(rows, scores, strict=True):
            print(f"  {score:.4f}  {_head(row)}")
            print(f"          {_shortened(row['text'])}")
    if not as_json:
        print(
            f"\n{len(queries)} quer{'y' if len(queries) == 1 else 'ies'}, {seconds:.2f} s with the retriever"
        )


@click.command()
@options.CORPUS
@click.argument("passage_ids", nargs=-1, required=True, type=int, metavar="ID...")
@click.option("--memory", "with_memory", is_flag=True, help="Fetch the passages' memory too.")
@click.option("--version", help="Memory version or alias (default: current).")
@click.option("--save", type=click.Path(path_type=Path), help="Write the memory to this .npz (float32).")
@options.JSON
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

    if version is not None and not (with_memory or save):
        raise click.UsageError("--version is of memory; add --memory or --save")
    if save:
        options.require_output(save)
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
            # Whole or not at all: what lay there before stays where this one finds no room.
            with files.aside(save) as partial, partial.open("xb") as file:
                np.savez(
                    file,
                    passage_ids=memory.passage_ids,
                    offsets=memory.offsets,
                    values=np.asarray(memory.values, np.float32),
                )
    for row in rows:
        if as_json:
            options.print_json(row)
            continue
        print(_head(row))
        print(row["text"])
        if "memory" in row:
            print("memory: {tokens} tokens x {width} {dtype}, version {version}".format(**row["memory"]))
        print()
    if (with_memory or save) and not as_json:
        print(f"memory of {len(rows)} passages fetched in {milliseconds:.2f} ms")


def _as_json(row: Json) -> Json:
    return {**row, "passage_key": row["passage_key"].hex()}


def _head(row: Json) -> str:
    return f"[{row['passage_id']}] " + " > ".join([row["title"], *row["section"]])


def _shortened(text: str, length: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[: length - 3]}..."
