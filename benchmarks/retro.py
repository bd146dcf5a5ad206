"""RETRO on a text for two cores: bits per byte with retrieval on, off, stale and shuffled, and by overlap.

    python -m benchmarks.retro --out RUNS             # the miniwiki; goes on where it was stopped
    python -m benchmarks.retro --out RUNS --source mediawiki:dump.xml.bz2
    python -m benchmarks.retro --out RUNS --careless  # fitted with the own document let through
    python -m benchmarks.retro --out RUNS --report    # the table of what there is

For each seed a small language model is trained on nine tenths of the documents, then frozen, and a RETRO is
fitted to it (encoder and cross-attention alone). Both are judged on the last tenth. Neighbours are found by
the inner product of tf-idf vectors of tokens, exactly: no retriever has to be trained, and the tables are the
same for all seeds. Neighbours of a training chunk leave its document out. `leak` has the judged documents in
the database and lets them through; `excluded` has them there and leaves a chunk's own document out. With
`--careless` the own document is let through while the RETRO is fitted, as by a pipeline that does not know of
documents: it learns to copy the continuation, and its `leak` is the collapse that a leak looks like.

The miniwiki is made of templates: what is gained there is copied, which the rows by overlap are to show.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from encoders import token_bytes
from encoders.retro import folder as retro_folder
from encoders.retro.config import EncoderConfig, LanguageConfig, RetroConfig
from encoders.retro.folder import RetroSettings
from encoders.retro.model import Retro
from encoders.retro.training import LANGUAGE, RETRIEVAL, RetroTraining
from encoders.token_bytes import TokenBytes
from examples.miniwiki.export import write_dump
from pipeline.accounts import flops
from pipeline.readers.retro import bits, run
from pipeline.readers.retro.chunks import ArrayChunks, ArrayTable, Ids, from_tokens
from pipeline.readers.retro.retrieval import Retrieval
from pipeline.readers.retro.run import Run, Text
from pipeline.text import articles, chunks, sources
from retrieval import exact

M, WINDOW, READ, COMPARED = 32, 4, 2, 10
ALPHAS = (0.125, 0.25, 0.5)
# Learning rates, by what is learned.
RATES: Final = {LANGUAGE: 3e-3, RETRIEVAL: 6e-3}
# Queries of the search at a time.
BLOCK = 512


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retro", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--source", help="FORMAT:PATH, as of `memcorpus build`; the miniwiki if not given")
    parser.add_argument("--documents", type=int, default=900, help="at most")
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=200, help="of the language model")
    parser.add_argument("--fit-steps", type=int, default=300, help="of RETRO-fitting")
    parser.add_argument("--batch", type=int, default=8, help="rows of a step")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--encoding", choices=("conditioned", "unconditioned"), default="conditioned")
    parser.add_argument("--stale", action="store_true", help="fit with neighbours one chunk late")
    parser.add_argument("--careless", action="store_true", help="fit without leaving out the own document")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.report:
        data = Data.made(options)
        print(data.described(), flush=True)
        for seed in options.seeds:
            result = options.out / f"{options.encoding}-{fitted(options)}-{seed}.json"
            if not result.exists():
                result.write_text(json.dumps(measure(options, data, seed), indent=1) + "\n")
    print(table(options.out))


def fitted(options: argparse.Namespace) -> str:
    """How the RETRO is fitted: what it reads of the table meanwhile."""
    return "stale" if options.stale else "careless" if options.careless else "on"


@dataclass(frozen=True, kw_only=True)
class Data:
    """The text in memory, and its neighbour tables.

    Attributes:
        train, heldout, whole: the documents trained on, those judged, and both together.
        tables: of train against itself without the own document and, "careless", with it; of heldout against
            train; and of heldout against whole, with ("leak") and without ("excluded") the own document.
    """

    tokenizer: Path
    counts: TokenBytes
    train: ArrayChunks
    heldout: ArrayChunks
    whole: ArrayChunks
    tables: dict[str, ArrayTable]
    search_seconds: float

    @classmethod
    def made(cls, options: argparse.Namespace) -> Data:
        """Read, tokenize, cut, search."""
        tokenizer = options.out / "tokenizer"
        texts = list(documents(options.source))
        # Of a whole source, not of its beginning, whose articles are of one kind.
        keep = np.random.default_rng(0).permutation(len(texts))[: options.documents]
        texts = [texts[i] for i in keep]
        words = train_tokenizer(tokenizer, texts, options.vocabulary)
        ids = [np.array(words.encode(text).ids, np.int32) for text in texts]
        ids = [one for one in ids if len(one)]
        cut = len(ids) * 9 // 10
        train, heldout, whole = (from_tokens(some, M) for some in (ids[:cut], ids[cut:], ids))
        began = time.process_time()
        tables = {
            "train": search(train, train, options.vocabulary, own=False),
            "heldout": search(heldout, train, options.vocabulary, own=True),
            # The held-out documents are the last of the whole.
            "leak": search(whole, whole, options.vocabulary, own=True, begin=len(train)),
            "excluded": search(whole, whole, options.vocabulary, own=False, begin=len(train)),
        }
        if options.careless:
            tables["careless"] = search(train, train, options.vocabulary, own=True)
        return cls(
            tokenizer=tokenizer,
            counts=token_bytes.read(tokenizer),
            train=train,
            heldout=heldout,
            whole=whole,
            tables=tables,
            search_seconds=time.process_time() - began,
        )

    def described(self) -> str:
        queries = sum(len(one.values) for one in self.tables.values())
        return (
            f"{len(self.train):,} chunks of {M} tokens to learn from and to read, {len(self.heldout):,} held "
            f"out; {1000 * self.search_seconds / queries:.2f} CPU-ms a query of exact search"
        )


def documents(source: str | None) -> Iterator[str]:
    """The text of each article, as chunks are cut of it."""
    with tempfile.TemporaryDirectory() as place:
        spec = source or f"mediawiki:{write_dump(Path(place), form='xml').path}"
        opened = sources.open_source(spec)
        for split in opened.splits(32 << 20):
            for page in sources.read_split(split):
                if isinstance(page, articles.Article):
                    yield chunks.document(page)


def train_tokenizer(place: Path, texts: list[str], vocabulary: int) -> Any:
    """A byte-level BPE: it loses nothing and knows no unknown token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if not (place / "tokenizer.json").exists():
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=["</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        made.train_from_iterator(texts, trainer)
        PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>").save_pretrained(place)
    return Tokenizer.from_file(str(place / "tokenizer.json"))


def search(
    asked: ArrayChunks, database: ArrayChunks, vocabulary: int, *, own: bool, begin: int = 0
) -> ArrayTable:
    """The nearest chunks by tf-idf, exactly, of the chunks from `begin` on; without the own document where
    `own` is false."""
    known = bags(database, vocabulary)
    weights = np.log(len(known) / np.maximum((known > 0).sum(0), 1)).astype(np.float32)
    keys = unit(known * weights)
    queries = unit(bags(asked, vocabulary) * weights)
    return table_of(queries[begin:], keys, leave_out=None if own else (asked.first[begin:], database.first))


def table_of(
    queries: npt.NDArray[np.float32],
    keys: npt.NDArray[np.float32],
    *,
    leave_out: tuple[Ids, Ids] | None = None,
) -> ArrayTable:
    """The `COMPARED` nearest by inner product, exactly; of `leave_out`, the documents of queries and keys
    (by their first chunks, which rise), none of the own."""
    firsts = stops = np.zeros(len(queries), np.int64)
    if leave_out is not None:
        asked, held = leave_out
        firsts, stops = np.searchsorted(held, asked), np.searchsorted(held, asked, side="right")
    found = np.empty((len(queries), COMPARED), np.int64)
    for begin in range(0, len(queries), BLOCK):
        end = begin + BLOCK
        own = firsts[begin:end], stops[begin:end]
        some = exact.search_outside([(0, keys)], queries[begin:end], COMPARED, *own)
        found[begin:end] = some.ids
    return ArrayTable(values=found)


def bags(text: ArrayChunks, vocabulary: int) -> npt.NDArray[np.float32]:
    """How often each token is in each chunk."""
    counts = np.zeros((len(text), vocabulary), np.float32)
    real = np.arange(M) < text.lengths[:, None]
    rows = np.broadcast_to(np.arange(len(text))[:, None], real.shape)
    np.add.at(counts, (rows[real], text.values[real]), 1)
    return counts


def unit(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    return found


def small_language(vocabulary: int, *, width: int, layers: int) -> LanguageConfig:
    """A language model for two cores."""
    return LanguageConfig(
        vocab_size=vocabulary, d_model=width, d_head=16, d_ff=4 * width, layers=layers, heads=width // 16
    )


def small_encoder(width: int, *, shared: bool = False) -> EncoderConfig:
    """An encoder of neighbours as wide as the language model, whose embedding it may share."""
    return EncoderConfig(
        d_model=width, d_head=16, d_ff=4 * width, layers=2, heads=width // 16, shared_embedding=shared
    )


def training(options: argparse.Namespace, learns: str, steps: int, seed: int) -> RetroTraining:
    """How a small model learns; `options` has the rows of a step."""
    return RetroTraining(
        learns=learns,
        steps=steps,
        learning_rate=RATES[learns],
        warmup=max(1, steps // 20),
        batch=options.batch,
        micro_batch=options.batch,
        seed=seed,
    )


def settings_of(options: argparse.Namespace) -> RetroSettings:
    config = RetroConfig(
        language=small_language(options.vocabulary, width=64, layers=3),
        encoding=options.encoding,
        encoder=small_encoder(64),
        chunk_tokens=M,
        neighbours=READ,
        neighbour_tokens=2 * M,
        cca_layers=(2,),
    )
    return RetroSettings(config=config, window=WINDOW)


def measure(options: argparse.Namespace, data: Data, seed: int) -> dict[str, Any]:
    """Train with one seed, and judge in every mode."""
    settings = settings_of(options)
    place = options.out / f"seed-{seed}"
    began = time.process_time()

    def say(line: str) -> None:
        print(f"seed {seed}: {line}", flush=True)

    language = run.train(
        Run(
            opened=retro_folder.from_nothing(data.tokenizer, settings, seed=seed),
            training=training(options, LANGUAGE, options.steps, seed),
            text=Text(chunks=data.train, retrieval=None),
            plan={"steps": options.steps, "seed": seed, "source": options.source},
            every=options.steps,
        ),
        place / "language",
        say=say,
    )
    kind = fitted(options)
    retro = run.train(
        Run(
            opened=retro_folder.from_language(language.folder, settings, seed=seed),
            training=training(options, RETRIEVAL, options.fit_steps, seed),
            text=Text(
                chunks=data.train,
                retrieval=Retrieval(
                    chunks=data.train,
                    database=data.train,
                    table=data.tables["careless" if options.careless else "train"],
                    neighbours=READ,
                    mode="stale" if options.stale else "on",
                    own_documents=options.careless,
                ),
            ),
            plan={"steps": options.fit_steps, "seed": seed, "mode": kind, "encoding": options.encoding},
            every=options.fit_steps,
        ),
        place / f"{options.encoding}-{kind}",
        say=say,
    )
    train_seconds = time.process_time() - began
    opened = retro_folder.open_retro(retro.folder)
    return {
        "seed": seed,
        "encoding": options.encoding,
        "trained": kind,
        "bits": judged(Retro(opened.settings.config, opened.tensor), data),
        "train_cpu_s": train_seconds,
        "flop_a_chunk": flops.retro_chunk(settings.config).total,
        "flop_a_chunk_off": flops.retro_chunk(settings.config).language,
    }


def judged(model: Retro, data: Data) -> dict[str, float]:
    """Bits per byte of the held-out documents in every mode."""

    def retrieval(mode: str, count: int = READ) -> Retrieval:
        return Retrieval(
            chunks=data.heldout,
            database=data.train,
            table=data.tables["heldout"],
            neighbours=count,
            mode=mode,
        )

    found: dict[str, float] = {}
    losses_of = bits.compiled(model)
    for mode in ("off", "on", "stale", "stale-as-found", "shuffled"):
        sums = bits.measure(
            model,
            data.heldout,
            data.counts,
            retrieval=None if mode == "off" else retrieval(mode),
            window=WINDOW,
            stride=WINDOW // 2,
            rows=16,
            overlaps=ALPHAS,
            nearest=retrieval("on", COMPARED),
            losses_of=losses_of,
        )
        found[mode] = sums.all.bits_per_byte
        for alpha, held in sums.within.items():
            found[f"{mode}, overlap up to {alpha:g}"] = held.bits_per_byte
            found[f"chunks, overlap up to {alpha:g}"] = held.chunks
    for name in ("leak", "excluded"):
        sums = bits.measure(
            model,
            data.heldout,
            data.counts,
            retrieval=Retrieval(
                chunks=data.heldout,
                database=data.whole,
                table=data.tables[name],
                neighbours=READ,
            ),
            window=WINDOW,
            stride=WINDOW // 2,
            rows=16,
            losses_of=losses_of,
        )
        found[name] = sums.all.bits_per_byte
    return found


def table(out: Path) -> str:
    """Markdown: means over the seeds, their standard deviation, and the gain over off of the same seed."""
    runs = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    lines = [
        "| encoder | fitted | judged | bits per byte | less than off | chunks | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for key in sorted({(one["encoding"], one["trained"]) for one in runs}):
        some = [one["bits"] for one in runs if (one["encoding"], one["trained"]) == key]
        for name in some[0]:
            if name.startswith("chunks"):
                continue
            mode, _, overlap = name.partition(", ")
            off = f"off, {overlap}" if overlap else "off"
            values = [one[name] for one in some]
            gains = [one[off] - one[name] for one in some]
            count = f"{some[0]['chunks, ' + overlap]:,}" if overlap else "all"
            lines.append(
                f"| {key[0]} | {key[1]} | {name} | {spread(values)} | "
                f"{'' if mode == 'off' else spread(gains)} | {count} | {len(some)} |"
            )
    return "\n".join(lines)


def spread(values: list[float], *, digits: int = 4) -> str:
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
