"""What a corpus is made of, read from its manifest, cards and statistics; no array is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.accounts import statistics as spent
from pipeline.components.memory.encode import STAGE as SHARDS
from pipeline.jobs import versions
from storage import errors, file_list, files, manifest


def summary(root: Path) -> dict[str, Any]:
    """A corpus in figures, as JSON.

    Keys: corpus, format, passages, words, counts (reconciled, see docs/format.md), sources, vectors,
    index, memory (by version), aliases, bytes (by part); of the build, and absent where its statistics are
    damaged: worker_seconds, stage_seconds, worker_waited, bottleneck, computed_tokens and
    events.
    """
    found = manifest.Manifest.read(root)
    passages = manifest.read_passages(root, found)
    parts_bytes = sum(part.file.bytes for part in passages.parts) + passages.quarantine.bytes
    result: dict[str, Any] = {
        "corpus": str(root),
        "format": manifest.FORMAT,
        "passages": passages.passages,
        "words": passages.words,
        "counts": dict(passages.counts),
        "sources": list(found.sources),
        "vectors": {},
        "index": {},
        "memory": {},
        "aliases": dict(found.aliases),
        "bytes": {"passages": parts_bytes, "vectors": 0, "index": 0, "memory": 0},
    }
    for name in found.vectors:
        vectors = manifest.read_vectors(root, found, name)
        size = sum(entry.bytes for entry in file_list.read(root, vectors.files))
        result["bytes"]["vectors"] += size
        result["vectors"][name[:16]] = {
            "dim": vectors.layout.dim,
            "dtype": vectors.layout.dtype,
            "shard_passages": vectors.layout.grid.shard_passages,
            "bytes": size,
        }
    for name in found.indexes:
        index = manifest.read_index(root, found, name)
        result["bytes"]["index"] += index.file.bytes
        result["index"][name[:16]] = {
            "kind": index.kind,
            "parameters": dict(index.parameters),
            "recall_at_10": index.recall_at_10,
            "recall_queries": index.recall_queries,
            "bytes": index.file.bytes,
        }
    for name in found.memory:
        memory = manifest.read_memory(root, found, name)
        size = versions.version_bytes(root, memory)
        result["bytes"]["memory"] += size
        result["memory"][name] = {
            "codec": memory.layout.codec.name,
            "width": memory.layout.width,
            "layers": memory.encoder.get("layers"),
            "compute_dtype": memory.encoder.get("compute_dtype"),
            "max_tokens": memory.layout.max_tokens,
            "shards": memory.layout.grid.shards,
            "shard_passages": memory.layout.grid.shard_passages,
            "encoder_fingerprint": memory.encoder_fingerprint,
            "counts": dict(memory.counts),
            "quality": dict(memory.quality),
            "bytes": size,
        }
    try:
        statistics = files.read_json(root / manifest.statistics_path(manifest.BUILD))
    except (errors.CorpusError, OSError):
        return result
    result["worker_seconds"] = statistics["worker_seconds"]
    result["stage_seconds"] = statistics["stage_seconds"]
    # Those of an earlier release have none of these.
    result["worker_waited"] = statistics.get("worker_waited", {})
    result["bottleneck"] = spent.bottleneck(statistics, SHARDS)
    result["computed_tokens"] = statistics.get("computed_tokens", {})
    result["events"] = statistics.get("events", {})
    return result


def seconds_by_step(report: Mapping[str, Any]) -> dict[str, float]:
    """Workers' seconds of a build by what they were spent on, over all stages."""
    steps: dict[str, float] = {}
    for stage in report.get("worker_seconds", {}).values():
        for step, seconds in stage.items():
            steps[step] = steps.get(step, 0.0) + seconds
    return steps
