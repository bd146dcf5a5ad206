"""The report of a built corpus as one JSON object; docs/report.schema.json holds its form.

Terminal tables and the HTML page show this object and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from encoders.memory_spec import MemorySpec
from encoders.t5_config import PUBLISHED_SIZES, T5Config
from pipeline.accounts import contents, facts, figures, flops, prices, reading, retrievers
from pipeline.accounts import statistics as spent
from pipeline.accounts.form import Update
from pipeline.accounts.plan import estimate, inputs
from pipeline.accounts.report import form, serving
from pipeline.components.shards import STAGE as SHARDS
from storage import components, errors
from storage.components import IndexCard, MemoryCard, VectorsCard
from storage.folder import CorpusFolder
from storage.run_statistics import RunStatistics
from storage.writer.plan import WRITER

SCHEMA: Final = 1
# Of an encoder that is no T5, in place of its architecture.
_TOKEN_WEIGHTS: Final = "token_weights"
# Versions that the price of keeping more than one is told for.
KEPT_VERSIONS: Final = (1, 2, 3, 5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a report is told beyond the corpus.

    Attributes:
        prices: the list to compute with.
        device, storage: rows of it, where readers run and memory lies.
        build_device: the row of what the corpus was built on, to tell its utilisation.
        utilisation: share of the device's peak that readers reach.
        retrieved, selected: k, and m of GLIMMER.
        months: for how long the memory is kept.
        live_proportion: α, where the corpus does not tell how many layers its encoder had.
    """

    prices: prices.Prices
    device: str = "h100"
    build_device: str | None = None
    storage: str = "s3-standard"
    utilisation: float = 0.4
    retrieved: int = 25
    selected: int = 5
    months: float = 12.0
    live_proportion: Fraction | None = None


def corpus_report(corpus: CorpusFolder, options: Options) -> form.Report:
    """Everything that is known of a corpus's cost.

    Raises:
        CorpusError: no corpus, a damaged card or list, an unknown device or storage class.
    """
    device = options.prices.device(options.device)
    storage = options.prices.storage_class(options.storage)
    builder = options.prices.device(options.build_device) if options.build_device else None
    known = facts.read(corpus)
    total = sum(size.bytes for size in known.sizes)
    versions = [_version(version) for version in known.versions]
    current = next((v for v in versions if v["current"]), versions[0] if versions else None)
    served: form.CorpusServing | None = None
    coded: list[form.Codec] = []
    if current is not None:
        site = serving.Site(
            device=device, utilisation=options.utilisation, storage=storage, months=options.months
        )
        # What a reader costs is known of those that run the upper layers of a T5.
        if options.live_proportion is not None or not (known.current and known.current.other_encoder):
            served = _serving(corpus, current, site, options)
        coded = _codecs(current, known.passages.passages, storage)
    found: form.Report = {
        "kind": "report",
        "schema": SCHEMA,
        "corpus": str(corpus),
        "passages": known.passages.passages,
        "words": known.passages.words,
        "counts": dict(known.passages.counts),
        "files": sum(size.files for size in known.sizes),
        "bytes": total,
        "bytes_by_part": {part: known.bytes_of(part) for part in dict.fromkeys(s.part for s in known.sizes)},
        "parts": [_size(size) for size in known.sizes],
        "versions": versions,
        "vectors": [_vectors(card) for card in known.vectors],
        "indexes": [_index(card) for card in known.indexes],
        "planned": _against_plan(known),
        "time": [_time(name, run, versions, builder) for name, run in known.runs.items()],
        "storage_classes": [_storage(row, total, current) for row in options.prices.storage.values()],
        "keeping": _keeping(known, storage),
        "history": _history(versions),
        "updates": [_updated(update, builder) for update in known.updates],
        "serving": served,
        "codecs": coded,
        "warnings": figures.warnings(known),
        "prices": prices.listed(
            options.prices.origin,
            [row for row in dict.fromkeys((device, builder)) if row],
            options.prices.storage.values(),
        ),
    }
    if known.tokens is not None:
        found["tokens"] = figures.tokens(known, known.tokens)
    if known.tables:
        found["neighbours"] = figures.tables(known)
    return found


def _updated(update: Update, builder: prices.Device | None) -> form.Updated:
    """What an update saved: in dollars, where the device that encodes is named."""
    seconds = update["rebuild_worker_seconds"]
    saved = None if seconds is None else round(max(0.0, seconds - update["worker_seconds"]), 3)
    dollars = None
    if saved is not None and builder is not None:
        dollars = saved / 3600 * builder.price_per_hour
    counts = update["counts"]
    return {
        "generation": update["generation"],
        "kept": counts["kept"],
        "vanished": counts["vanished"],
        "added": counts["added"],
        "recall_at_10": update["recall_at_10"],
        "bytes": update["bytes"],
        "saved_bytes": max(0, update["rebuild_bytes"] - update["bytes"]),
        "worker_seconds": update["worker_seconds"],
        "saved_worker_seconds": saved,
        "saved_dollars": dollars,
    }


def _size(size: contents.Size) -> form.Size:
    return {
        "part": size.part,
        "version": size.version,
        "codec": size.codec,
        "content": size.content,
        "files": size.files,
        "bytes": size.bytes,
    }


def _version(version: facts.Version) -> form.Version:
    """A version's figures: sizes a passage and token, padding avoided, truncation, compression."""
    card, run, total = version.card, version.run, version.bytes
    layout, counts = card.layout, card.counts
    passages, tokens = layout.grid.passages, counts.tokens
    architecture: Any = card.encoder.get("architecture", {})  # an object, as its card was read
    return {
        "version": version.name,
        "codec": layout.codec.name,
        "width": layout.width,
        "memory_layers": version.layers,
        "encoder_fingerprint": card.encoder_fingerprint,
        "max_tokens": layout.max_tokens,
        "passages": passages,
        "tokens": tokens,
        "tokens_min": counts.tokens_min,
        "tokens_max": counts.tokens_max,
        "passages_cut": counts.passages_cut,
        "tokens_cut": counts.tokens_cut,
        "read": reading.to_json(counts.read),
        "bytes": total,
        "bytes_by_content": dict(version.bytes_by_content),
        "bytes_per_passage": total / passages,
        "bytes_per_token": total / tokens,
        "token_bytes": layout.row_bytes,
        "padding_avoided_bytes": (passages * layout.max_tokens - tokens) * layout.row_bytes,
        "compression_against_bfloat16": version.bytes_uncoded / total,
        "shards": layout.grid.shards,
        "shard_passages": layout.grid.shard_passages,
        "shard_bytes": run.shard_memory_bytes.to_json() if run and run.shard_memory_bytes else {},
        "tokens_histogram": [list(bar) for bar in run.tokens_histogram] if run else [],
        "architecture": dict(architecture) or _other_architecture(card),
        "aliases": sorted(version.aliases),
        "current": version.current,
        "finished": run.finished if run else None,
        "encode_seconds": version.encode_seconds,
    }


def _vectors(card: VectorsCard) -> form.Vectors:
    return {
        "fingerprint": card.fingerprint[:16],
        "dim": card.layout.dim,
        "dtype": card.layout.dtype,
        "similarity": card.similarity,
        "max_tokens": figures.retriever_limit(card),
        "read": reading.to_json(card.counts),
    }


def _index(card: IndexCard) -> form.Index:
    return {
        "fingerprint": card.fingerprint[:16],
        "kind": card.kind,
        "parameters": dict(card.parameters),
        "bytes": card.file.bytes,
        "recall_at_10": card.recall_at_10,
        "recall_queries": card.recall_queries,
    }


def _against_plan(known: facts.Facts) -> list[form.Planned]:
    """Planned bytes by part beside the true ones, of the build."""
    build = known.build
    if build is None or not build.planned_bytes:
        return []
    planned = build.planned_bytes
    # The build planned one version, and no table of neighbours; others came later.
    memory, table = components.MEMORY.noun, components.NEIGHBOURS.noun
    rows = [
        size
        for size in known.sizes
        if size.part != table and (size.part != memory or size.version == build.version)
    ]
    compared: list[form.Planned] = []
    for component in components.TABLE:
        part = component.noun
        if component.optional and not planned.get(part, 0):
            continue  # this build had no such part, or was of a release that knew none
        true = sum(row.bytes for row in rows if row.part == part and row.content != contents.LISTS)
        compared.append({"part": part, "planned": planned[part], "bytes": true})
    true = sum(row.bytes for row in rows)
    overhead = true - sum(row["bytes"] for row in compared)
    compared.append({"part": "overhead", "planned": planned["overhead"], "bytes": overhead})
    compared.append({"part": "total", "planned": planned["total"], "bytes": true})
    return compared


def _time(
    name: str,
    run: RunStatistics,
    versions: Sequence[form.Version],
    builder: prices.Device | None,
) -> form.Time:
    """Where a run's time went; throughput and FLOP/s of the version that it wrote."""
    written = [v for v in versions if v["finished"] and v["finished"] == run.finished]
    encoded: form.Encoded = {}
    wall = run.stage_seconds.get(SHARDS.name)
    if written:
        version = written[0]
        work = version["tokens"] * _token_flops(version)
        encoding = run.worker_seconds.get(SHARDS.name, {}).get("encoding")
        encoded = {
            "version": version["version"],
            "tokens_per_second": version["tokens"] / wall if wall else None,
            "passages_per_second": version["passages"] / wall if wall else None,
            "memory_bytes_per_second": version["bytes"] / wall if wall else None,
            "memory_flops": work,
            "flops_per_second": work / encoding if encoding else None,
            "device": builder.name if builder else None,
            "utilisation": work / encoding / (builder.tflops * flops.TERA) if builder and encoding else None,
        }
    return {
        "run": name,
        "finished": run.finished,
        "machine": run.machine,
        "cpus": run.cpus,
        "peak_rss_bytes": run.peak_rss_bytes,
        "stage_seconds": dict(run.stage_seconds),
        "worker_seconds": {stage: dict(steps) for stage, steps in run.worker_seconds.items()},
        "worker_waited": {stage: dict(who) for stage, who in run.worker_waited.items()},
        "bottleneck": spent.bottleneck(run, SHARDS.name),
        "computed_tokens": dict(run.computed_tokens),
        "events": dict(run.events),
        "workers": {name: worker.to_json() for name, worker in run.workers.items()},
        "encoded": encoded,
    }


def _other_architecture(card: MemoryCard) -> dict[str, int]:
    """Of an encoder that is no T5: weights that a token goes through, where its architecture is known."""
    config = card.encoder.get("config")
    each = retrievers.token_weights(config) if isinstance(config, Mapping) else None
    return {} if each is None else {_TOKEN_WEIGHTS: each}


def _token_flops(version: form.Version) -> int:
    """Hardware FLOPs of a token; 0 where an encoder wrote the version of which nothing is known here."""
    shape = version["architecture"]
    if _TOKEN_WEIGHTS in shape:
        return flops.HARDWARE * int(shape[_TOKEN_WEIGHTS])
    return flops.encoder_flops(_config(version), version["memory_layers"] or 0) if shape else 0


def _config(version: form.Version) -> T5Config:
    """The shape of a version's encoder; how many layers it has altogether does not matter here."""
    shape = version["architecture"]
    return T5Config(
        vocab_size=1,
        d_model=version["width"],
        d_kv=shape.get("d_kv", 64),
        d_ff=shape.get("d_ff", 1),
        layers=max(1, version["memory_layers"] or 1),
        heads=shape.get("heads", 1),
        feed_forward=shape.get("feed_forward", "gated-gelu"),
    )


def _storage(row: prices.Storage, total: int, current: form.Version | None) -> form.StorageClass:
    """What a class of storage costs: a month, and a million passages fetched, a request each."""
    fetched = None
    if current is not None:
        mean = current["tokens"] / current["passages"] * current["token_bytes"]
        fetched = row.reads(serving.MILLION, serving.MILLION * mean)
    return {"storage": row.name, "month": row.month(total), "million_fetches": fetched}


def _keeping(known: facts.Facts, storage: prices.Storage) -> form.Keeping:
    """Bytes and price of one and of more versions as large as the current; what `gc` would free.

    `gc` frees the versions that no alias points to.
    """
    memory = components.MEMORY.noun
    shared = sum(size.bytes for size in known.sizes if size.part != memory)
    each = next((version.bytes for version in known.versions if version.current), 0)
    unused = [version for version in known.versions if not version.aliases]
    return {
        "shared_bytes": shared,
        "version_bytes": each,
        "versions": [
            {"versions": n, "bytes": shared + n * each, "month": storage.month(shared + n * each)}
            for n in KEPT_VERSIONS
        ],
        "storage": storage.name,
        "gc_versions": [version.name for version in unused],
        "gc_bytes": sum(version.bytes for version in unused),
    }


def _history(versions: Sequence[form.Version]) -> list[form.Past]:
    """Versions in the order they were finished in, those of which that is not known last."""
    ordered = sorted(versions, key=lambda v: (v["finished"] is None, v["finished"] or "", v["version"]))
    return [
        {
            "version": version["version"],
            "finished": version["finished"],
            "codec": version["codec"],
            "bytes": version["bytes"],
            "bytes_per_token": version["bytes_per_token"],
            "encode_seconds": version["encode_seconds"],
            "aliases": version["aliases"],
        }
        for version in ordered
    ]


def _serving(
    corpus: CorpusFolder, current: form.Version, site: serving.Site, options: Options
) -> form.CorpusServing:
    alpha = options.live_proportion
    if alpha is None:
        if WRITER in corpus.manifest.built:
            raise errors.CorpusError(
                f"{corpus} is a writer's, which knows no reader: say by --live-proportion what share of the "
                "layers is run live"
            )
        alpha = MemorySpec.from_json(corpus.manifest.built).live_proportion
    if alpha is None:  # built by an encoder that is no T5, and encoded again by one
        alpha = MemorySpec.from_json(corpus.memory(current["version"]).settings).live_proportion
    assert alpha is not None  # a T5 wrote the version
    stored = current["memory_layers"] or 0
    # With α = 1 nothing is stored; `Beforehand` refuses it below.
    layers = max(1, round(stored / (1 - alpha))) if alpha < 1 else 1
    readers = [
        flops.Reader(
            name=name,
            layers=layers,
            width=current["width"],
            retrieved=options.retrieved,
            selected=min(options.selected, options.retrieved),
            live_proportion=alpha,
            input_tokens=flops.QUESTION_TOKENS + current["max_tokens"],
        )
        for name in flops.READERS
    ]
    work = current["tokens"] * _token_flops(current)
    before = serving.Beforehand(
        tokens=current["tokens"],
        tokens_per_passage=current["tokens"] / current["passages"],
        token_bytes=current["token_bytes"],
        memory_bytes=current["bytes"],
        # On the site's device, so that both sides of the break-even are of one kind of machine.
        hours=work / (site.device.tflops * flops.TERA * site.utilisation) / serving.HOUR,
        live_proportion=alpha,
        files=3 * current["shards"],
    )
    return {**serving.serving(readers, before, site), "layers": layers}


def _codecs(current: form.Version, passages: int, storage: prices.Storage) -> list[form.Codec]:
    """This corpus's passages at every codec and published size: bytes of the memory, dollars a month."""
    counts = inputs.Counts(passages=passages, tokens=current["tokens"], text_bytes=0)
    own = T5Config(vocab_size=1, d_model=current["width"], d_kv=1, d_ff=1, layers=1, heads=1)
    # Bytes are the same whatever α is.
    memory = MemorySpec(max_tokens=current["max_tokens"])
    rows: list[form.Codec] = []
    for name, config in {f"this (d = {current['width']})": own, **PUBLISHED_SIZES}.items():
        for codec in estimate.codec_names():
            model = inputs.Model(name=name, config=config, memory=memory)
            try:
                size = estimate.corpus_bytes(counts, model, codec)
            except errors.CorpusError:
                continue  # a codec that does not take this width
            rows.append(
                {
                    "size": name,
                    "width": config.d_model,
                    "codec": codec,
                    "bytes": size.memory,
                    "month": storage.month(size.memory),
                }
            )
    return rows
