"""`memcorpus retro`: a language model that reads neighbours: trained, judged, and writing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import options
from storage import errors

if TYPE_CHECKING:
    from pipeline.readers.retro.bits import Sums

_PATH = click.Path(path_type=Path)
_MODES = click.Choice(("on", "off", "stale", "stale-as-found", "shuffled"))
_MODEL = click.option("--model", required=True, help="A RETRO's folder: what `memcorpus retro train` wrote.")
_DATABASE = click.option("--database", help="The corpus that neighbours lie in.  [default: CORPUS]")
_TABLE = click.option("--neighbours", "table", help="Neighbour table of CORPUS.  [default: the only one]")
_MEMORY = click.option(
    "--memory",
    metavar="VERSION",
    help="Memory version to read. An unconditioned RETRO reads its own encoder's, and without one runs it.  "
    "[default: of a RETRO of stored memory the current one]",
)


@click.group()
def retro() -> None:
    """Language models that read the neighbours of what they write (RETRO).

    \b
    CORPUS is built of chunks and has a table of neighbours:
      memcorpus build --passage-tokens 64 --tokenizer MODEL ... --out corpus
      memcorpus neighbours corpus -k 2
      memcorpus retro train corpus --model MODEL --out run
      memcorpus retro evaluate heldout --database corpus --model run/retro --overlap 0.125
      memcorpus retro generate corpus "The Danube" --model run/retro
    """


def _layers(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise errors.CorpusError(f"--cca-layers {text}: wanted numbers, such as 6,9,12") from error


@retro.command(context_settings={"show_default": True})
@options.CORPUS
@click.option("--out", required=True, type=_PATH, help="The run's folder; its `retro` is the result.")
@click.option("--model", help="Language model to begin with: a Llama's folder, or a RETRO's.")
@click.option("--tokenizer", help="Without --model: folder of the tokenizer that CORPUS was built with.")
@click.option("--width", default=896, help="Without --model: width of the decoder; so with the next three.")
@click.option("--layers", default=12)
@click.option("--heads", default=16)
@click.option("--head-width", default=64)
@click.option(
    "--learns",
    type=click.Choice(("all", "retrieval", "language")),
    help="Everything, all but a frozen language model, or the language model alone.  "
    "[default: retrieval with --model, all without]",
)
@click.option(
    "--encoding",
    type=click.Choice(("conditioned", "unconditioned", "stored", "vectors")),
    default="conditioned",
    help="Neighbours by an encoder that sees the chunk, one that does not, from a memory version, or as the "
    "retriever's vectors.",
)
@_MEMORY
@click.option(
    "--encoder-width",
    type=int,
    help="Of the neighbours' encoder; so with the next four.  [default: 896; with --shared-embedding the "
    "language model's]",
)
@click.option("--encoder-layers", default=2)
@click.option("--encoder-heads", default=16)
@click.option("--encoder-head-width", default=64)
@click.option("--shared-embedding", is_flag=True, help="The encoder has the language model's embedding.")
@click.option("--cca-layers", metavar="N,N,...", help="Layers that read.  [default: the paper's by depth]")
@click.option("--retrieval", type=_MODES, help="What is read while it trains.  [default: on]")
@_TABLE
@click.option("-k", "--read", "count", default=2, help="Neighbours that a chunk reads.")
@click.option("--window", default=32, help="Chunks of a row.")
@click.option("--steps", default=10_000)
@click.option("--every", default=500, help="Steps between two checkpoints.")
@click.option("--batch", default=256, help="Rows of a step.")
@click.option("--micro-batch", type=int, help="Rows computed at a time.  [default: the batch]")
@click.option("--learning-rate", default=2e-4, help="The highest; falls to a tenth.")
@click.option("--warmup", default=750)
@click.option("--dropout", default=0.0)
@click.option("--weight-decay", default=0.1)
@click.option("--seed", default=0)
@click.option("--dev", help="Held-out corpus to tell bits per byte of, with a table of neighbours in CORPUS.")
@click.option(
    "--dev-neighbours",
    "dev_table",
    metavar="TABLE",
    help="Neighbour table of the held-out corpus.  [default: the only one]",
)
@click.option("--compute-dtype", type=click.Choice(("bfloat16", "float32")), default="bfloat16")
@options.config
@options.JSON
def train(corpus: str, as_json: bool, **given: Any) -> None:
    """Train a RETRO on CORPUS, or go on with a run that was interrupted.

    With --model the language model is kept as it is and learns to read (RETRO-fitting): with
    retrieval off it stays the same to the bit. Without, everything is trained from drawn weights.
    """
    from pipeline.readers.retro import beginning, run
    from retrieval import open_corpus

    out = given.pop("out")
    layers = _layers(given.pop("cca_layers"))
    asked = beginning.Asked(**given, cca_layers=layers)
    dev = None if asked.dev is None else open_corpus(asked.dev)
    trained = run.train(beginning.prepare(asked, open_corpus(corpus), dev), out, say=options.say)
    if as_json:
        print(
            json.dumps(
                {
                    "retro": str(trained.folder.resolve()),
                    "loss": round(trained.loss, 6),
                    "seconds": round(trained.seconds, 3),
                    "resumed": trained.resumed,
                }
            )
        )
        return
    print(f"{trained.folder.resolve()}: loss {trained.loss:.4f} nats a token")


@retro.command(context_settings={"show_default": True})
@options.CORPUS
@_MODEL
@_DATABASE
@click.option(
    "--retrieval", "modes", type=_MODES, multiple=True, help="Again for more.  [default: on and off]"
)
@_TABLE
@_MEMORY
@click.option("-k", "--read", "count", type=int, help="Neighbours that a chunk reads.  [default: as trained]")
@click.option(
    "--overlap",
    "overlaps",
    type=float,
    multiple=True,
    metavar="SHARE",
    help="Also over the chunks that share no longer run of tokens with their nearest; again for more.",
)
@click.option("--window", type=int, help="Chunks of a row.  [default: as trained]")
@click.option("--stride", type=int, help="Chunks from one row to the next.  [default: half of the window]")
@click.option("--batch", default=8, help="Rows at a time.")
@click.option("--seed", default=0, help="Of --retrieval shuffled.")
@click.option(
    "--own-documents", is_flag=True, help="Let neighbours out of a chunk's own document through: a leak."
)
@options.JSON
def evaluate(
    corpus: str,
    model: str,
    database: str | None,
    modes: tuple[str, ...],
    table: str | None,
    memory: str | None,
    count: int | None,
    overlaps: tuple[float, ...],
    window: int | None,
    stride: int | None,
    batch: int,
    seed: int,
    own_documents: bool,
    as_json: bool,
) -> None:
    """Bits per byte of CORPUS, which a RETRO predicts token by token.

    Bytes are those that the tokens decode to. The first token of a document is given, not predicted.
    """
    from encoders import token_bytes
    from encoders.retro import folder
    from encoders.retro.model import Retro
    from pipeline.readers.retro import bits, opening
    from retrieval import open_corpus

    for share in overlaps:
        if not 0 <= share <= 2:
            raise errors.CorpusError(f"--overlap {share}: wanted a share of a chunk, such as 0.125")
    modes = modes or ("on", "off")
    _require_read(
        modes,
        {"--memory": memory, "-k": count},
        {} if overlaps else {"--database": database, "--neighbours": table, "--own-documents": own_documents},
    )
    opened = folder.open_retro(model)
    settings = opened.settings
    text = open_corpus(corpus)
    source = text if database is None else open_corpus(database)
    for one in (text, source):
        opening.require_chunks(one, opened)
    counts = token_bytes.read(opened.path)
    network = Retro(settings.config, opened.tensor, compute_dtype=settings.compute_dtype)
    nearest = None
    if overlaps:
        nearest = opening.nearest(text, database=source, table=table, own_documents=own_documents)
    length = settings.window if window is None else window
    # All are opened before one is judged: what cannot be is said at once.
    given = {
        mode: opening.text(
            text,
            settings,
            mode=mode,
            database=source,
            table=table,
            memory=memory,
            neighbours=count,
            own_documents=own_documents,
            seed=seed,
            model=opened,
        )
        for mode in modes
    }
    losses_of = bits.compiled(network)
    for mode in modes:
        found = bits.measure(
            network,
            given[mode].chunks,
            counts,
            retrieval=given[mode].retrieval,
            window=length,
            stride=max(1, length // 2) if stride is None else stride,
            rows=batch,
            overlaps=overlaps,
            nearest=nearest,
            losses_of=losses_of,
        )
        _show(mode, found.all, None, as_json)
        for share, sums in found.within.items():
            _show(mode, sums, share, as_json)
    if overlaps and nearest is not None and nearest.neighbours < bits.COMPARED and not as_json:
        print(f"overlap is with the {nearest.neighbours} nearest chunks that the table has; the paper has 10")


def _require_read(modes: Sequence[str], *given: Mapping[str, object]) -> None:
    """Refuse options of what is retrieved, where nothing is."""
    if any(mode != "off" for mode in modes):
        return
    for name, value in (pair for some in given for pair in some.items()):
        if value is not None and value is not False:
            told = name if value is True else f"{name} {value}"
            raise errors.CorpusError(f"{told}: with --retrieval off nothing is read; leave it out")


def _show(mode: str, sums: Sums, share: float | None, as_json: bool) -> None:
    """A row of bits per byte."""
    if as_json:
        row = {
            "retrieval": mode,
            "overlap": share,
            "bits_per_byte": sums.bits_per_byte if sums.bytes else None,
            "chunks": sums.chunks,
            "tokens": sums.tokens,
            "bytes": sums.bytes,
            "unknown_tokens": sums.unknown,
        }
        print(json.dumps(row))
        return
    which = "" if share is None else f", overlap up to {share:g}"
    bits = f"{sums.bits_per_byte:.4f}" if sums.bytes else "no"
    print(
        f"{mode}{which}: {bits} bits per byte, {sums.chunks:,} chunks, "
        f"{sums.bytes:,} bytes, {100 * sums.unknown_share:.2f} % of {sums.tokens:,} tokens unknown"
    )


@retro.command(context_settings={"show_default": True})
@options.CORPUS
@click.argument("prompt")
@_MODEL
@click.option("--tokens", default=128, help="At most.")
@click.option(
    "--retrieval",
    "mode",
    type=click.Choice(("on", "off", "stale")),
    default="on",
    help="Search at each chunk's end, never, or behind the writing of the next chunk.",
)
@_MEMORY
@click.option("--temperature", default=0.0, help="0 takes the likeliest token.")
@click.option("--seed", default=0)
@click.option("--retriever", help="The retriever, where it is not at the place that the build found it.")
@options.JSON
def generate(
    corpus: str,
    prompt: str,
    model: str,
    tokens: int,
    mode: str,
    memory: str | None,
    temperature: float,
    seed: int,
    retriever: str | None,
    as_json: bool,
) -> None:
    """Write on from PROMPT, reading what CORPUS has near each chunk that was written."""
    import numpy as np

    from encoders.retro import folder
    from encoders.retro.model import Retro
    from pipeline.readers.retro import generating, opening
    from pipeline.readers.retro.words import Words
    from retrieval import open_corpus

    _require_read((mode,), {"--memory": memory, "--retriever": retriever})
    opened = folder.open_retro(model)
    settings = opened.settings
    source = open_corpus(corpus, retriever=retriever)
    opening.require_chunks(source, opened)
    words = Words(opened.path)
    network = Retro(settings.config, opened.tensor, compute_dtype=settings.compute_dtype)

    given = words.encode(options.text(prompt))
    asked = given.ids.astype(np.int32)
    lost = {"unknown": words.unknown(asked), "special": given.special}
    if lost["unknown"]:
        options.say(
            f"{lost['unknown']} of the prompt's {len(asked)} tokens stand for what the vocabulary lacks"
        )
    if lost["special"]:
        options.say(f"{lost['special']} special tokens that the prompt spells are left out, as of a document")
    writer = generating.Writer(
        network,
        opening.CorpusChunks(source),
        opening.searching(source, words, settings.config.neighbours),
        mode=mode,
        encodings=opening.memory_of(source, settings, memory, model=opened) if mode != "off" else None,
        end=words.end,
    )
    found = writer.write(asked, tokens=tokens, temperature=temperature, seed=seed)
    said = words.decode(np.concatenate([asked, found.tokens]))
    if as_json:
        row = {
            "text": said,
            "tokens": len(found.tokens),
            "prompt": {"tokens": len(asked), **lost},
            "log_probability": found.log_probability,
            "neighbours": found.neighbours,
            "waited_seconds": round(found.waited, 3),
        }
        options.print_json(row)
        return
    print(said)
