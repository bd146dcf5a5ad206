"""A second memory version of a built corpus, in another codec, through storage's own functions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from retrieval import open_corpus
from storage import codecs, file_list, files, manifest, memory_store


def add_version(root: Path, codec_name: str, *, name: str | None = None, alias: str | None = None) -> str:
    """Add a version to a corpus and return its name; without an alias nothing points to it."""
    found = manifest.Manifest.read(root)
    (first,) = found.memory
    card = manifest.read_memory(root, found, first)
    version = name or f"{codec_name:0<16}"[:16]
    layout = dataclasses.replace(card.layout, codec=codecs.by_name(codec_name))
    folder = root / manifest.memory_folder(version)
    paths = memory_store.create(folder, layout)
    corpus = open_corpus(root)
    for shard in layout.grid:
        memory = corpus.memory(first).fetch(np.arange(*layout.grid.bounds(shard)))
        buffer = memory_store.allocate(layout, int(memory.offsets[-1]))
        buffer[: len(memory.values)] = memory.values.astype(buffer.dtype)
        paths += memory_store.write_shard(folder, layout, shard, offsets=memory.offsets, buffer=buffer)
    listed = folder / file_list.NAME
    file_list.write(listed, [files.entry_of(root, path) for path in paths])
    new = dataclasses.replace(card, version=version, layout=layout, files=files.entry_of(root, listed))
    files.write_json(folder / "memory.json", new.to_json())
    dataclasses.replace(
        found,
        memory={**found.memory, version: files.entry_of(root, folder / "memory.json")},
        aliases={**found.aliases, **({alias: version} if alias else {})},
    ).write(root)
    return version
