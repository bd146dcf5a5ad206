"""`import`: states that others keep a file a sample become a corpus."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from pipeline.cli import options


@click.command(name="import")
@click.argument("source", type=click.Path(path_type=Path), metavar="FOLDER")
@click.argument("corpus", metavar="CORPUS")
@click.option("--codec", help="How states are stored (default: in the files' type; float32 as bfloat16).")
@click.option("--tensor", help="The states' name in a file (default: hidden_states, caption_feature, ...).")
@click.option("--mask", help="The name of what says which rows are tokens (default: attention_mask, mask).")
@click.option("--encoder", metavar="TEXT", help="What made the states (default: the folder's name).")
@click.option("--max-tokens", type=int, help="Refuse samples with more (default: the longest's).")
@click.option("--no-measure", is_flag=True, help="Do not read at random before and after.")
@options.JSON
def import_states(
    source: Path,
    corpus: str,
    codec: str | None,
    tensor: str | None,
    mask: str | None,
    encoder: str | None,
    max_tokens: int | None,
    no_measure: bool,
    as_json: bool,
) -> None:
    """Make CORPUS of the token states in FOLDER, a file a sample.

    \b
    .safetensors  hidden_states [tokens, layers, d], as vLLM's connector and speculators write them
    .npz          caption_feature [1, T, d] with attention_mask, as PixArt's extraction writes them
    .npy          one array [tokens, d]

    Keys are the files' names, ids their places in natural order (hs_2 before hs_10). Stopped at any
    moment, the same command goes on where it was. The files stay as they are.
    """
    from pipeline.jobs import importing
    from pipeline.jobs.states_folder import StatesFolder
    from retrieval.opening import local_folder

    said = [time.monotonic()]

    def observer(stage: str, done: int, total: int) -> None:
        if time.monotonic() - said[0] > 2:
            said[0] = time.monotonic()
            print(f"{stage}: {done:,} of {total:,}", file=sys.stderr)

    found = importing.import_states(
        StatesFolder.open(source, tensor=tensor, mask=mask),
        local_folder(corpus),
        codec=codec,
        encoder=encoder,
        max_tokens=max_tokens,
        measure=not no_measure,
        observer=observer,
    )
    if as_json:
        print(json.dumps(found.to_json()))
        return
    print(
        f"{found.samples:,} samples, {found.tokens:,} tokens of {found.width:,} {found.dtype}, stored as "
        f"{found.codec}: version {found.version}, in {found.seconds:,.1f} s"
    )
    print(f"relative error {found.relative_error:.2g}, mean cosine {found.cosine:.6f} (16 samples)")
    if found.left_out:
        print(f"no states, and left out: {', '.join(found.left_out)}")
    for name, lying in (("before", found.before), ("after", found.after)):
        if lying is not None:
            cold = "" if lying.cold_reads is None else f", {lying.cold_reads:,.0f} cold"
            print(
                f"{name:>6}: {lying.files:,} files, {lying.bytes:,} bytes, "
                f"{lying.reads:,.0f} random reads a second{cold}"
            )
