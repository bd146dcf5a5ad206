"""The report of a built corpus as one JSON object; docs/report.schema.json holds its form.

Terminal tables and the HTML page show this object and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from encoders.memory_spec import LIVE_PROPORTION, MemorySpec
from encoders.t5_config import PUBLISHED_SIZES, T5Config
from pipeline.accounts import flops, prices
from pipeline.accounts import statistics as spent
from pipeline.accounts.plan import estimate, inputs
from pipeline.accounts.report import built, serving
from pipeline.components.memory import encode as encode_shards
from storage import errors, manifest

SCHEMA: Final = 1
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


def corpus_report(root: Path, options: Options) -> dict[str, Any]:
    """Everything that is known of a corpus's cost.

    Raises:
        CorpusError: no corpus, a damaged card or list, an unknown device or storage class.
    """
    found = manifest.Manifest.read(root)
    device = options.prices.device(options.device)
    storage = options.prices.storage_class(options.storage)
    builder = options.prices.device(options.build_device) if options.build_device else None
    passages = manifest.read_passages(root, found)
    parts = built.sizes(root, found)
    statistics = dict(built.read_statistics(root))
    total = sum(row["bytes"] for row in parts)
    versions = [_version(root, found, name, parts, _statistics_of(name, statistics)) for name in found.memory]
    current = next((v for v in versions if v["current"]), versions[0] if versions else None)
    report: dict[str, Any] = {
        "kind": "report",
        "schema": SCHEMA,
        "corpus": str(root),
        "passages": passages.passages,
        "words": passages.words,
        "counts": dict(passages.counts),
        "files": sum(row["files"] for row in parts),
        "bytes": total,
        "bytes_by_part": _by_part(parts),
        "parts": parts,
        "versions": versions,
        "indexes": [_index(root, found, name) for name in found.indexes],
        "planned": _against_plan(statistics, parts),
        "time": [_time(name, value, versions, builder) for name, value in statistics.items()],
        "storage_classes": [_storage(row, total, current) for row in options.prices.storage.values()],
        "keeping": _keeping(parts, versions, storage),
        "history": _history(versions),
        "serving": None,
        "codecs": [],
    }
    if current is not None:
        site = serving.Site(
            device=device, utilisation=options.utilisation, storage=storage, months=options.months
        )
        report["serving"] = _serving(found, current, site, options)
        report["codecs"] = _codecs(current, passages.passages, storage)
    report["prices"] = {
        "origin": options.prices.origin,
        "devices": [prices.to_json(row) for row in dict.fromkeys((device, builder)) if row],
        "storage": [prices.to_json(row) for row in options.prices.storage.values()],
    }
    return report


def _by_part(parts: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for row in parts:
        sums[row["part"]] = sums.get(row["part"], 0) + row["bytes"]
    return sums


def _statistics_of(version: str, statistics: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The run that wrote a version: the one that bears its name, or names it."""
    if version in statistics:
        return statistics[version]
    return next((run for run in statistics.values() if run.get("version") == version), {})


def _version(
    root: Path,
    found: manifest.Manifest,
    name: str,
    parts: Sequence[Mapping[str, Any]],
    statistics: Mapping[str, Any],
) -> dict[str, Any]:
    stored = {
        row["content"]: row["bytes"] for row in parts if row["part"] == "memory" and row["version"] == name
    }
    aliases = sorted(alias for alias, version in found.aliases.items() if version == name)
    card = manifest.read_memory(root, found, name)
    return {
        **built.memory_version(name, card, stored, statistics),
        "architecture": dict(card.encoder.get("architecture") or {}),
        "aliases": aliases,
        "current": manifest.CURRENT in aliases,
        "finished": statistics.get("finished"),
        "encode_seconds": sum((statistics.get("worker_seconds") or {}).get("shards", {}).values()) or None,
    }


def _index(root: Path, found: manifest.Manifest, name: str) -> dict[str, Any]:
    card = manifest.read_index(root, found, name)
    return {
        "fingerprint": name[:16],
        "kind": card.kind,
        "parameters": dict(card.parameters),
        "bytes": card.file.bytes,
        "recall_at_10": card.recall_at_10,
        "recall_queries": card.recall_queries,
    }


def _against_plan(
    statistics: Mapping[str, Mapping[str, Any]],
    parts: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Planned bytes by part beside the true ones, of the build."""
    planned = statistics.get("build", {}).get("planned_bytes")
    if not planned:
        return []
    # The build planned one version; others came later.
    first = statistics["build"].get("version")
    contents = built.LISTS
    rows = [row for row in parts if row["part"] != "memory" or row["version"] == first]
    compared = []
    for part in ("passages", "vectors", "index", "memory"):
        true = sum(row["bytes"] for row in rows if row["part"] == part and row["content"] != contents)
        compared.append({"part": part, "planned": planned[part], "bytes": true})
    true = sum(row["bytes"] for row in rows)
    overhead = true - sum(row["bytes"] for row in compared)
    compared.append({"part": "overhead", "planned": planned["overhead"], "bytes": overhead})
    compared.append({"part": "total", "planned": planned["total"], "bytes": true})
    return compared


def _time(
    name: str,
    statistics: Mapping[str, Any],
    versions: Sequence[Mapping[str, Any]],
    builder: prices.Device | None,
) -> dict[str, Any]:
    """Where a run's time went; throughput and FLOP/s of the version that it wrote."""
    workers = statistics.get("worker_seconds") or {}
    shards = workers.get("shards", {})
    written = [v for v in versions if v["finished"] and v["finished"] == statistics.get("finished")]
    encoded: dict[str, Any] = {}
    wall = (statistics.get("stage_seconds") or {}).get("shards")
    if written:
        version = written[0]
        work = version["tokens"] * flops.encoder_flops(_config(version), version["memory_layers"] or 0)
        encoding = shards.get("encoding")
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
        "finished": statistics.get("finished"),
        "machine": statistics.get("machine"),
        "cpus": statistics.get("cpus"),
        "peak_rss_bytes": statistics.get("peak_rss_bytes"),
        "stage_seconds": dict(statistics.get("stage_seconds") or {}),
        "worker_seconds": {stage: dict(steps) for stage, steps in workers.items()},
        "worker_waited": {stage: dict(who) for stage, who in (statistics.get("worker_waited") or {}).items()},
        "bottleneck": spent.bottleneck(statistics, encode_shards.STAGE),
        "computed_tokens": dict(statistics.get("computed_tokens") or {}),
        "events": dict(statistics.get("events") or {}),
        "workers": {key: dict(value) for key, value in (statistics.get("workers") or {}).items()},
        "encoded": encoded,
    }


def _config(version: Mapping[str, Any]) -> T5Config:
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


def _storage(row: prices.Storage, total: int, current: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a class of storage costs: a month, and a million passages fetched, a request each."""
    fetched = None
    if current is not None:
        mean = current["tokens"] / current["passages"] * current["token_bytes"]
        fetched = row.reads(serving.MILLION, serving.MILLION * mean)
    return {"storage": row.name, "month": row.month(total), "million_fetches": fetched}


def _keeping(
    parts: Sequence[Mapping[str, Any]], versions: Sequence[Mapping[str, Any]], storage: prices.Storage
) -> dict[str, Any]:
    """Bytes and price of one and of more versions as large as the current; what `gc` would free.

    `gc` frees the versions that no alias points to.
    """
    shared = sum(row["bytes"] for row in parts if row["part"] != "memory")
    each = next((v["bytes"] for v in versions if v["current"]), 0)
    unused = [v for v in versions if not v["aliases"]]
    return {
        "shared_bytes": shared,
        "version_bytes": each,
        "versions": [
            {"versions": n, "bytes": shared + n * each, "month": storage.month(shared + n * each)}
            for n in KEPT_VERSIONS
        ],
        "storage": storage.name,
        "gc_versions": [v["version"] for v in unused],
        "gc_bytes": sum(v["bytes"] for v in unused),
    }


def _history(versions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Versions in the order they were finished in, those of which that is not known last."""
    keys = ("version", "finished", "codec", "bytes", "bytes_per_token", "encode_seconds", "aliases")
    ordered = sorted(versions, key=lambda v: (v["finished"] is None, v["finished"] or "", v["version"]))
    return [{key: version[key] for key in keys} for version in ordered]


def _serving(
    found: manifest.Manifest, current: Mapping[str, Any], site: serving.Site, options: Options
) -> dict[str, Any]:
    alpha = options.live_proportion
    if alpha is None:
        alpha = Fraction(str(found.settings.get("settings", {}).get("live_proportion", LIVE_PROPORTION)))
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
    work = current["tokens"] * flops.encoder_flops(_config(current), stored)
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


def _codecs(current: Mapping[str, Any], passages: int, storage: prices.Storage) -> list[dict[str, Any]]:
    """This corpus's passages at every codec and published size: bytes of the memory, dollars a month."""
    counts = inputs.Counts(passages=passages, tokens=current["tokens"], text_bytes=0)
    own = T5Config(vocab_size=1, d_model=current["width"], d_kv=1, d_ff=1, layers=1, heads=1)
    # Bytes are the same whatever α is.
    memory = MemorySpec(max_tokens=current["max_tokens"])
    rows = []
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
