"""`verify`: is a corpus as it was written?"""

from __future__ import annotations

import json
import time

import click

from pipeline.commands import options


@click.command()
@options.CORPUS
@click.option("--full", is_flag=True, help="Read every byte and check it, not only sizes.")
@options.JSON
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
        raise SystemExit(options.FAILED)
