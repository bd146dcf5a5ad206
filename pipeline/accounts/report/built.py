"""A built corpus in figures: what lies on the disk, what it cost, and what it would cost elsewhere.

Everything comes from the manifest, the cards, the lists of files and `statistics/`: no array and no
part is opened, and lists of a million files are summed up by column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage import codecs, errors, files, manifest, memory_store

# What a part's files are: arrays by name, and cards and lists.
LISTS: Final = "cards and lists"
STATISTICS_FOLDER: Final = "statistics"


def sizes(root: Path, found: manifest.Manifest) -> list[dict[str, Any]]:
    """Every file of the corpus, summed up by part: part, version, codec, content, files, bytes.

    The bytes add up to those of the corpus's files, without folders and without files that are no
    part of it.
    """
    passages = manifest.read_passages(root, found)
    rows = [
        _row("passages", "Parquet parts", [part.file.bytes for part in passages.parts]),
        _row("passages", LISTS, [found.passages.bytes, passages.quarantine.bytes]),
    ]
    for name, entry in found.vectors.items():
        vectors = manifest.read_vectors(root, found, name)
        rows += _listed(root, "vectors", name[:16], vectors.layout.dtype, entry, vectors.files, ())
    for name, entry in found.indexes.items():
        index = manifest.read_index(root, found, name)
        rows.append(_row("index", "FAISS file", [index.file.bytes], version=name[:16], codec=index.kind))
        rows.append(_row("index", LISTS, [entry.bytes], version=name[:16], codec=index.kind))
    for name, entry in found.memory.items():
        memory = manifest.read_memory(root, found, name)
        codec = memory.layout.codec.name
        rows += _listed(root, "memory", name, codec, entry, memory.files, (memory_store.VALUES,))
        kept = [entry.bytes for entry in memory.rows]
        rows.append(_row("memory", "offsets and checksums", kept, version=name, codec=codec))
        kept = [memory.canaries.file.bytes]
        rows.append(_row("memory", "canaries", kept, version=name, codec=codec))
    rows.append(_row("manifest", manifest.NAME, [(root / manifest.NAME).stat().st_size]))
    statistics = [size for _, value in read_statistics(root) for size in value["bytes_on_disk"]]
    if statistics:
        rows.append(_row("statistics", "times of units", statistics))
    return rows


def _row(part: str, content: str, sizes: list[int], *, version: str = "", codec: str = "") -> dict[str, Any]:
    return {
        "part": part,
        "version": version,
        "codec": codec,
        "content": content,
        "files": len(sizes),
        "bytes": sum(sizes),
    }


def _listed(
    root: Path,
    part: str,
    version: str,
    codec: str,
    card: files.FileEntry,
    listed: files.FileEntry,
    arrays: tuple[str, ...],
) -> list[dict[str, Any]]:
    """The rows of a component whose files are in a `files.parquet`: one an array, one for the rest."""
    if wrong := files.damage(root, listed):
        raise errors.DamagedError(f"{wrong}; run `memcorpus verify`")
    table = pq.read_table(files.inside(root, listed.path), columns=["path", "bytes"])
    folder = card.path.rpartition("/")[0]
    paths, all_sizes = table.column("path"), table.column("bytes")
    # An array's own folder; vectors are an array alone, with its data in `c/`.
    prefixes = {array: f"{folder}/{array}/c/" for array in arrays} or {part: f"{folder}/c/"}
    rows = []
    counted = total = 0
    for content, prefix in prefixes.items():
        inside = pc.filter(all_sizes, pc.starts_with(paths, prefix))
        row = _row(part, content, [], version=version, codec=codec)
        row |= {"files": len(inside), "bytes": pc.sum(inside).as_py() or 0}
        counted, total = counted + row["files"], total + row["bytes"]
        rows.append(row)
    rest = (pc.sum(all_sizes).as_py() or 0) - total
    lists = _row(part, LISTS, [card.bytes, listed.bytes, rest], version=version, codec=codec)
    return [*rows, lists | {"files": table.num_rows - counted + 2}]


def read_statistics(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, statistics) of the build ("build") and of every later version; damaged ones are left out.

    `bytes_on_disk` is added: of the JSON, and of the units beside it.
    """
    folder = root / STATISTICS_FOLDER
    for path in sorted(folder.glob("*.json"), key=lambda path: (path.stem != manifest.BUILD, path.stem)):
        try:
            value = files.read_json(path)
            units = files.FileEntry.from_json(value["units"])
            yield path.stem, {**value, "bytes_on_disk": [path.stat().st_size, units.bytes]}
        except (errors.CorpusError, OSError, KeyError):
            continue


def memory_version(
    name: str, card: manifest.MemoryCard, stored: Mapping[str, int], statistics: Mapping[str, Any]
) -> dict[str, Any]:
    """A version's figures: sizes a passage and token, padding avoided, truncation, compression.

    Args:
        name: of the version.
        card: its card.
        stored: bytes of its files by content, as `sizes` has them.
        statistics: of the run that wrote it.
    """
    layout = card.layout
    tokens, passages = card.counts["tokens"], layout.grid.passages
    total = sum(stored.values())
    plain = codecs.by_name("bfloat16").token_bytes(layout.width)
    shards = statistics.get("shard_memory_bytes") or {}
    return {
        "version": name,
        "codec": layout.codec.name,
        "width": layout.width,
        "memory_layers": card.encoder.get("layers"),
        "encoder_fingerprint": card.encoder_fingerprint,
        "max_tokens": layout.max_tokens,
        "passages": passages,
        "tokens": tokens,
        "tokens_min": card.counts["tokens_min"],
        "tokens_max": card.counts["tokens_max"],
        "passages_cut": card.counts["passages_cut"],
        "tokens_cut": card.counts["tokens_cut"],
        "bytes": total,
        "bytes_by_content": dict(stored),
        "bytes_per_passage": total / passages,
        "bytes_per_token": total / tokens,
        "token_bytes": layout.row_bytes,
        "padding_avoided_bytes": (passages * layout.max_tokens - tokens) * layout.row_bytes,
        "compression_against_bfloat16": tokens * plain / total,
        "shards": layout.grid.shards,
        "shard_passages": layout.grid.shard_passages,
        "shard_bytes": dict(shards),
        "tokens_histogram": statistics.get("tokens_histogram") or [],
    }
