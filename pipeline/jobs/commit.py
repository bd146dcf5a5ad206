"""The commit: compares every receipt with the plan, writes the cards, and last of all `corpus.json`."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.accounts import statistics
from pipeline.components import index as index_vectors
from pipeline.components.memory import encode as encode_shards
from pipeline.components.memory import train_codec
from pipeline.components.memory import version as memory_version
from pipeline.components.memory.version import MemoryPlan
from pipeline.components.passages import number as number_passages
from pipeline.components.passages import read as read_passages
from pipeline.text import passages
from pipeline.units import work
from storage import errors, files, manifest, vector_array, zarr_arrays
from storage.receipts import Receipt

QUARANTINE: Final = "passages/quarantine.jsonl"
STAGES: Final = (
    read_passages.STAGE,
    number_passages.STAGE,
    train_codec.STAGE,
    encode_shards.STAGE,
    index_vectors.STAGE,
)


@dataclass(frozen=True, kw_only=True)
class Committed:
    """Names and fingerprints of what is to be committed, as the plan laid them down."""

    identity: Mapping[str, Any]
    passage_words: int
    vectors_fingerprint: str
    retriever_fingerprint: str
    vectors: vector_array.VectorLayout
    memory: MemoryPlan


def commit(root: Path, plan: Committed, *, run: Mapping[str, Any]) -> None:
    """Make the corpus visible. Everything before the last line can be repeated.

    Args:
        root: the corpus folder, all units done.
        plan: what was to be built.
        run: where models and sources were found and how long stages took, for `statistics/`.

    Raises:
        CorpusError: a receipt is missing, a file is not as its receipt says, sums do not match.
    """
    splits = list(work.read_receipts(root, read_passages.STAGE, len(read_passages.read_splits(root))))
    counts: Counter[str] = Counter()
    for receipt in splits:
        counts.update(receipt.counts)
    parts = number_passages.parts(root)
    shards = list(work.read_receipts(root, encode_shards.STAGE, plan.memory.layout.grid.shards))
    _check_sums(counts, sum(part.rows for part in parts), shards, plan)
    _check_files(root, [entry for r in shards for entry in r.files] + [part.file for part in parts])

    quarantine = "".join(json.dumps(note) + "\n" for receipt in splits for note in receipt.notes)
    files.write_atomic(root / QUARANTINE, quarantine.encode())
    passages_entry = memory_version.write_card(
        root,
        manifest.PASSAGES_CARD,
        manifest.PassagesCard(
            passages=counts["passages"],
            words=counts["words"],
            splitter=passages.splitter(plan.passage_words),
            counts=counts,
            parts=tuple(parts),
            quarantine=files.entry_of(root, root / QUARANTINE),
        ),
    )
    vectors_entry = _commit_vectors(root, plan, shards)
    memory_entry = memory_version.commit(root, plan.memory, shards)
    index_entry = memory_version.write_card(
        root,
        f"{manifest.index_folder(plan.vectors_fingerprint)}/index.json",
        index_vectors.card(root, plan.vectors_fingerprint),
    )
    statistics.write(root, manifest.BUILD, STAGES, {"version": plan.memory.version, **run})
    remove_leftovers(root)
    identity = dict(plan.identity)
    manifest.Manifest(
        sources=tuple(identity.pop("sources")),
        settings=identity,
        passages=passages_entry,
        vectors={plan.vectors_fingerprint: vectors_entry},
        indexes={plan.vectors_fingerprint: index_entry},
        memory={plan.memory.version: memory_entry},
        aliases={manifest.CURRENT: plan.memory.version},
    ).write(root)
    remove_work(root)


def remove_leftovers(root: Path) -> None:
    """Whatever writers that were killed left half written."""
    for path in list(files.leftovers(root)):
        path.unlink()


def remove_work(root: Path) -> None:
    """The corpus stands: what led to it may go, the plan last, by which the folder is known as ours."""
    folder = work.folder(root)
    for path in folder.iterdir():
        if path.name != work.PLAN:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / work.PLAN).unlink()
    folder.rmdir()


def _check_sums(counts: Mapping[str, int], numbered: int, shards: Sequence[Receipt], plan: Committed) -> None:
    """Passages read, numbered and encoded must be the same passages."""
    read_passages.reconcile(counts)
    encoded = sum(receipt.counts["passages"] for receipt in shards)
    for name, found in (
        ("numbered", numbered),
        ("encoded", encoded),
        ("planned", plan.memory.layout.grid.passages),
    ):
        if found != counts["passages"]:
            raise errors.CorpusError(
                f"{found} passages were {name}, {counts['passages']} read; the corpus is not committed"
            )


def _check_files(root: Path, entries: Iterable[files.FileEntry]) -> None:
    """Every file is there with its size; its bytes were checked when its receipt was made or found."""
    for entry in entries:
        if wrong := files.damage(root, entry, full=False):
            raise errors.CorpusError(f"{wrong}; run the same command again")


def _commit_vectors(root: Path, plan: Committed, shards: Sequence[Receipt]) -> files.FileEntry:
    folder = manifest.vectors_folder(plan.vectors_fingerprint)
    listed = memory_version.write_list(root, folder, [root / folder / zarr_arrays.METADATA], shards)
    card = manifest.VectorsCard(
        fingerprint=plan.vectors_fingerprint,
        encoder_fingerprint=plan.retriever_fingerprint,
        encoder=plan.identity["retriever"],
        layout=plan.vectors,
        files=listed,
    )
    return memory_version.write_card(root, f"{folder}/vectors.json", card)
