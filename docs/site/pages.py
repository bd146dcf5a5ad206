"""Pages that mkdocs makes beside those in docs/: the README as the first, the reference."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
REPOSITORY = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")
# What of the public face has a page of its own description; docs/api.md has the table of all names.
REFERENCE = {
    "Functions": [
        *("memcorpus.open", "memcorpus.open_writer", "memcorpus.build", "memcorpus.plan"),
        *("memcorpus.answer", "memcorpus.open_reader"),
    ],
    "Reading": [
        *("retrieval.corpus.Corpus", "retrieval.searching.SearchResult", "retrieval.memory.MemoryReader"),
        "storage.ragged.RaggedMemory",
    ],
    "Writing": ["storage.writer.memory_writer.MemoryWriter", "storage.writer.memory_writer.Shard"],
    "In PyTorch": [
        *("retrieval.torch_loading.MemoryDataset", "retrieval.torch_loading.MemoryStream"),
        *(
            f"retrieval.torch_batches.{name}"
            for name in ("Collate", "PackedMemory", "PaddedMemory", "OnDevice")
        ),
        "retrieval.torch_decoding.Decoder",
    ],
    "In JAX": [f"retrieval.jax_loading.{name}" for name in ("batches_on_device", "DeviceMemory", "decoder")],
    "Errors": [
        f"storage.errors.{name}"
        for name in (
            *("CorpusError", "DamagedError", "UnreadableError", "MismatchError", "UnknownPassageError"),
        )
    ],
}


def moved(text: str) -> str:
    """Links of a page that lies beside docs/, as they are from within."""
    text = re.sub(r"\]\(docs/", "](", text)
    return text.replace("](LICENSE)", "](index.md)")


def on_files(files: Files, config: Any) -> Files:
    """Called by mkdocs."""
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        page = "index.md" if name == "README.md" else name
        files.append(File.generated(config, page, content=moved((ROOT / name).read_text("utf-8"))))
    lines = [
        "# Functions and classes",
        "",
        "The names of [api.md](api.md), with arguments, shapes and errors.",
        "",
    ]
    for title, names in REFERENCE.items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += [f"::: {name}", "    options:", "      heading_level: 3", ""]
    files.append(File.generated(config, "reference.md", content="\n".join(lines)))
    return files
