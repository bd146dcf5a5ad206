"""The facts of a corpus as JSON: what `info` and `versions` print, and a service tells."""

from __future__ import annotations

from pipeline.accounts import form, reading, statistics
from pipeline.accounts.facts import Facts, Version
from pipeline.components.shards import STAGE as SHARDS
from storage import components
from storage.components import TokensCard, VectorsCard
from storage.components.base import SHORT
from storage.fields import Fields


def summary(facts: Facts) -> form.Summary:
    """A corpus in figures, as JSON."""
    found = facts.corpus.manifest
    result: form.Summary = {
        "corpus": str(facts.corpus),
        "format": found.format,
        "passages": facts.passages.passages,
        "words": facts.passages.words,
        "counts": dict(facts.passages.counts),
        "sources": list(found.sources),
        "vectors": {
            card.fingerprint[:SHORT]: {
                "dim": card.layout.dim,
                "dtype": card.layout.dtype,
                "shard_passages": card.layout.grid.shard_passages,
                "bytes": facts.bytes_of(components.VECTORS.noun, card.fingerprint[:SHORT]),
                "similarity": card.similarity,
                "max_tokens": retriever_limit(card),
                "read": reading.to_json(card.counts),
            }
            for card in facts.vectors
        },
        "index": {
            card.fingerprint[:SHORT]: {
                "kind": card.kind,
                "parameters": dict(card.parameters),
                "recall_at_10": card.recall_at_10,
                "recall_queries": card.recall_queries,
                "bytes": facts.bytes_of(components.INDEX.noun, card.fingerprint[:SHORT]),
            }
            for card in facts.indexes
        },
        "memory": {version.name: _version_summary(version, facts) for version in facts.versions},
        "aliases": dict(found.aliases),
        "bytes": {
            component.noun: facts.bytes_of(component.noun)
            for component in components.TABLE
            if found.of(component) or not component.optional
        },
        "warnings": warnings(facts),
    }
    if facts.tokens is not None:
        result["tokens"] = tokens(facts, facts.tokens)
    if facts.tables:
        result["neighbours"] = tables(facts)
    if facts.updates:
        result["updates"] = list(facts.updates)
    run = facts.build
    if run is not None:
        result["worker_seconds"] = run.worker_seconds
        result["stage_seconds"] = run.stage_seconds
        result["worker_waited"] = run.worker_waited
        result["bottleneck"] = statistics.bottleneck(run, SHARDS.name)
        result["computed_tokens"] = run.computed_tokens
        result["events"] = run.events
    return result


def retriever_limit(card: VectorsCard) -> int | None:
    """The retriever's limit on tokens; None where an encoder of another kind made the vectors."""
    found = card.encoder.get("max_tokens")
    return found if isinstance(found, int) else None


def warnings(facts: Facts, version: str | None = None) -> list[str]:
    """What the models could not read of the passages, where it is much: a line of it each.

    Args:
        version: of this memory version alone; None: of the current one, and of the retriever.
    """
    current = facts.current.name if facts.current else None
    wanted = current if version is None else version
    lines: list[str] = []
    for found in facts.versions:
        if found.name == wanted:
            counts = reading.to_json(found.card.counts.read)
            lines += reading.of_memory(counts, limit=found.card.layout.max_tokens, version=found.name)
    if version is None:
        for card in facts.vectors:
            lines += reading.of_retriever(reading.to_json(card.counts), limit=retriever_limit(card))
    return lines


def tokens(facts: Facts, card: TokensCard) -> form.Tokens:
    return {
        "tokenizer": card.tokenizer,
        "vocabulary": card.vocabulary,
        "passage_tokens": card.passage_tokens,
        "dtype": card.layout.dtype,
        "documents": card.counts.documents,
        "tokens": card.counts.tokens,
        "unknown": card.counts.unknown,
        "special": card.counts.special,
        "short": card.counts.short,
        "bytes": facts.bytes_of(components.TOKENS.noun),
    }


def tables(facts: Facts) -> dict[str, form.Table]:
    """All tables of neighbours, by name."""
    return {card.name: table(facts, card.name) for card in facts.tables}


def table(facts: Facts, name: str) -> form.Table:
    """A table of neighbours as JSON."""
    card = next(card for card in facts.tables if card.name == name)
    search = Fields(card.search, f"the search of table {name}")
    return {
        "title": card.title,
        "k": card.layout.k,
        "database": card.database.name,
        "rule": search.text("rule"),
        "method": search.text("method"),
        "probes": None if card.search.get("probes") is None else search.integer("probes"),
        "searched": card.counts.searched,
        "found": card.counts.found,
        "missing": card.counts.missing,
        "short": card.counts.short,
        "excluded": card.counts.excluded,
        "recall": card.recall,
        "recall_queries": card.recall_queries,
        "bytes": facts.bytes_of(components.NEIGHBOURS.noun, name),
        "left_behind": facts.corpus.manifest.generation > 0,
    }


def _version_summary(version: Version, facts: Facts) -> form.Memory:
    layout = version.card.layout
    return {
        "passages": None if facts.removed else layout.grid.passages,
        "codec": layout.codec.name,
        "width": layout.width,
        "layers": version.layers,
        "compute_dtype": version.compute_dtype,
        "max_tokens": layout.max_tokens,
        "shards": layout.grid.shards,
        "shard_passages": layout.grid.shard_passages,
        "encoder_fingerprint": version.card.encoder_fingerprint,
        "counts": version.card.counts.to_json(),
        "read": reading.to_json(version.card.counts.read),
        "quality": dict(version.card.quality),
        "bytes": version.bytes,
    }


def versions(facts: Facts) -> list[form.Version]:
    """Every version as JSON, in the order they were added."""
    return [
        {
            "version": version.name,
            "aliases": list(version.aliases),
            "codec": version.card.layout.codec.name,
            "origin": version.card.origin and version.card.origin[:SHORT],
            "encoder": version.card.encoder_fingerprint,
            "layers": version.layers,
            "compute_dtype": version.compute_dtype,
            "tokens": version.card.counts.tokens,
            "bytes": version.bytes,
            "quality": dict(version.card.quality),
            "seconds": version.run.stage_seconds.get(SHARDS.name) if version.run else None,
        }
        for version in facts.versions
    ]
