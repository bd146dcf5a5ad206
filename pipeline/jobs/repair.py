"""`repair`: damaged files are made again from what is whole, and put in place if they come out the same.

Bytes depend on the plan alone, so a shard that is encoded again on the same kind of machine is the shard
that was there. What comes out different is not put in place: then a library or the machine has changed,
and the version is to be encoded again as a whole.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from encoders import batching, memory_spec
from encoders.retriever import SENTENCE_TRANSFORMERS
from pipeline.components import vectors as embed_shards
from pipeline.components.memory import encode as encode_shards
from pipeline.components.memory import recode as recode_shards
from pipeline.jobs import commit, versions
from pipeline.units import progress, runner, work
from pipeline.units import stages as jobs
from retrieval import index
from storage import codec_parameters, errors, files, manifest, memory_store, vector_array, zarr_arrays
from storage import verify as verification

# Where things are made again before they are put in place.
STAGED: Final = "work/repair"
_MEMORY: Final = re.compile(r"memory/([^/]+)/values/c/(\d+)/0/0")
_ROWS: Final = re.compile(r"memory/([^/]+)/(?:offsets|checksums)/c/0/0")
_VECTORS: Final = re.compile(r"vectors/([^/]+)/c/(\d+)/0")
_METADATA: Final = re.compile(r"(memory|vectors)/([^/]+)/.*zarr\.json")
_INDEX: Final = re.compile(r"index/([^/]+)/[^/]+\.faiss")


@dataclass(kw_only=True)
class Repaired:
    """`repaired` are paths of files that are as they were again; `left` says of each other why not."""

    repaired: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class _Repair:
    """One run over what a verification has found."""

    def __init__(
        self,
        root: Path,
        damaged: Sequence[files.FileEntry],
        stages: jobs.Stages,
        *,
        memory_encoder: str | None,
        retriever: str | None,
    ) -> None:
        self.root = root
        self.outcome = Repaired()
        self._wanted = {entry.path: entry for entry in damaged}
        self._stages = stages
        self._memory_encoder = memory_encoder
        self._retriever = retriever
        self._manifest = manifest.Manifest.read(root)
        self._staged = root / STAGED

    def run(self) -> None:
        self._metadata()
        memory: dict[str, set[int]] = defaultdict(set)
        rows: set[str] = set()
        vectors: dict[str, set[int]] = defaultdict(set)
        indexes: dict[str, str] = {}
        for path in self._wanted:
            if found := _MEMORY.fullmatch(path):
                memory[found[1]].add(int(found[2]))
            elif found := _ROWS.fullmatch(path):
                rows.add(found[1])
            elif found := _VECTORS.fullmatch(path):
                vectors[found[1]].add(int(found[2]))
            elif found := _INDEX.fullmatch(path):
                indexes[path] = found[1]
        # Vectors first: the index is made from them.
        for folder, shards in vectors.items():
            paths = {f"vectors/{folder}/c/{shard}/0" for shard in shards}
            self._attempt(paths, partial(self._vectors, folder, shards))
        # And versions before those that were recoded from them.
        for version in sorted(set(memory) | rows, key=self._recodings):
            prefix = f"memory/{version}/"
            paths = {p for p in self._wanted if p.startswith(prefix) and (_MEMORY.match(p) or _ROWS.match(p))}
            # Offsets and checksums are those of all shards.
            self._attempt(paths, partial(self._memory, version, memory[version], whole=version in rows))
        for path, folder in indexes.items():
            self._attempt({path}, partial(self._index, path, folder))
        for path in self._wanted:
            self.outcome.left.append(f"{path}: cannot be made again from the rest; restore it from a copy")

    def _recodings(self, version: str) -> int:
        """How often what an encoder gave was recoded until it was this version."""
        count = 0
        while version in self._manifest.memory and count < len(self._manifest.memory):
            try:
                card = manifest.read_memory(self.root, self._manifest, version)
            except errors.CorpusError:  # its damage is told elsewhere
                break
            if card.origin is None:
                break
            version = manifest.version_name(card.origin)
            count += 1
        return count

    def _attempt(self, paths: set[str], action: Callable[[], None]) -> None:
        """One kind of damage that cannot be repaired must not keep others from being."""
        try:
            action()
        except (ValueError, OSError, RuntimeError) as e:
            left = sorted(paths & set(self._wanted))
            self.outcome.left += [f"{path}: {work.message(e)}" for path in left]
            for path in left:
                del self._wanted[path]

    def _take(self, entry_path: str, made: Path) -> None:
        """Put a file in place if it is the one that was there."""
        entry = self._wanted.get(entry_path)
        if entry is None:
            return
        found = files.measure(made)
        if (found.bytes, found.crc32) != (entry.bytes, entry.crc32):
            self.outcome.left.append(
                f"{entry_path}: made again it is another file; a library, driver or the kind of machine has "
                "changed since it was written: repair it where it was written, or re-encode the corpus"
            )
            del self._wanted[entry_path]
            return
        target = files.inside(self.root, entry_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        made.replace(target)
        files.sync_folder(target.parent)
        del self._wanted[entry_path]
        self.outcome.repaired.append(entry_path)

    def _metadata(self) -> None:
        """`zarr.json` files, from the layouts in the cards."""
        folders = {found.group(1, 2) for path in self._wanted if (found := _METADATA.fullmatch(path))}
        for kind, name in sorted(folders):
            staged = self._staged / kind / name
            if kind == "memory":
                card = manifest.read_memory(self.root, self._manifest, name)
                made = memory_store.create(staged, card.layout)
            else:
                made = [vector_array.create(staged, self._vectors_card(name).layout)]
            for path in made:
                self._take(path.relative_to(self._staged).as_posix(), path)

    def _vectors_card(self, folder: str) -> manifest.VectorsCard:
        names = {manifest.vectors_folder(name): name for name in self._manifest.vectors}
        return manifest.read_vectors(self.root, self._manifest, names[f"vectors/{folder}"])

    def _vectors(self, folder: str, shards: set[int]) -> None:
        card = self._vectors_card(folder)
        built = self._manifest.settings["settings"]
        _require_batching(built)
        job = embed_shards.EmbedShards(
            root=self.root,
            parts=manifest.read_passages(self.root, self._manifest).parts,
            retriever=embed_shards.RetrieverModel(
                name=self._retriever or versions.built_with(self.root, "retriever"),
                fingerprint=card.encoder_fingerprint,
                template=str(built["retriever_template"]),
                # Corpora of before there was a choice were built with this one.
                backend=str(built.get("retriever_backend", SENTENCE_TRANSFORMERS)),
            ),
            folder=f"{STAGED}/vectors/{folder}",
            layout=card.layout,
        )
        (self.root / job.folder).mkdir(parents=True, exist_ok=True)
        self._run(job, shards, card.layout.grid.shards)
        for shard in shards:
            made = zarr_arrays.shard_path(self.root / job.folder, shard, 2)
            self._take(f"vectors/{folder}/c/{shard}/0", made)

    def _memory(self, version: str, shards: set[int], *, whole: bool) -> None:
        card = manifest.read_memory(self.root, self._manifest, version)
        layout = card.layout
        values = f"memory/{version}/{memory_store.VALUES}/c"
        folder = f"{STAGED}/memory/{version}"
        if card.codec_parameters:
            trained = codec_parameters.FOLDER
            source = self.root / manifest.memory_folder(version) / trained
            shutil.copytree(source, self.root / folder / trained, dirs_exist_ok=True)
        job: runner.AnyJob
        if card.origin is not None:
            origin = next(
                (name for name in self._manifest.memory if card.origin.startswith(name)),
                None,
            )
            if origin is None:
                raise errors.CorpusError("the version it was recoded from is gone; recode it again")
            job = recode_shards.RecodeShards(
                root=self.root, origin=origin, memory_folder=folder, memory=layout
            )
        else:
            _require_batching(card.settings)
            job = encode_shards.EncodeShards(
                root=self.root,
                parts=manifest.read_passages(self.root, self._manifest).parts,
                encoder=versions.encoder_model(self.root, card, self._memory_encoder),
                memory_folder=folder,
                memory=layout,
            )
        wanted = set(layout.grid) if whole else shards
        self._run(job, wanted, layout.grid.shards)
        for shard in sorted(shards):
            made = zarr_arrays.shard_path(self.root / folder / memory_store.VALUES, shard, 3)
            self._take(f"{values}/{shard}/0/0", made)
        if whole:
            rows = [
                memory_store.ShardRows.from_bytes(encode_shards.rows_path(self.root, s).read_bytes(), layout)
                for s in layout.grid
            ]
            for path in memory_store.join(self.root / folder, layout, lambda: rows):
                self._take(path.relative_to(self._staged).as_posix(), path)

    def _index(self, path: str, folder: str) -> None:
        card = self._vectors_card(folder)
        names = {manifest.index_folder(name): name for name in self._manifest.indexes}
        kept = manifest.read_index(self.root, self._manifest, names[f"index/{folder}"])
        plan = index.IndexPlan(
            kind=kept.kind, lists=kept.parameters["lists"], probes=kept.parameters["probes"]
        )
        made = self._staged / "index.faiss"
        made.parent.mkdir(parents=True, exist_ok=True)
        opened = vector_array.VectorArray(self.root / f"vectors/{folder}", card.layout)
        index.build(opened, plan, made)
        self._take(path, made)

    def _run(self, job: runner.AnyJob, shards: set[int], units: int) -> None:
        # Receipts of another version's shards must not be taken for these.
        shutil.rmtree(work.folder(self.root) / job.stage, ignore_errors=True)
        self._stages.run(job, units, measure="passages", total=len(shards), only=sorted(shards))


def _require_batching(settings: Mapping[str, Any]) -> None:
    """Refuse what other batches would round differently, before it is computed for nothing.

    Of what was written before they were numbered it is tried: its bytes will tell.
    """
    written = settings.get(memory_spec.BATCHING, batching.VERSION)
    if written != batching.VERSION:
        raise errors.CorpusError(
            f"it was computed in batches of version {written}, this memcorpus makes version "
            f"{batching.VERSION}, which round differently: repair it with the memcorpus that wrote it, or "
            "encode the corpus again"
        )


def repair(
    root: Path,
    *,
    memory_encoder: str | None = None,
    retriever: str | None = None,
    beam_options: Sequence[str] = (),
    observer: progress.Observer | None = None,
) -> Repaired:
    """Find what is damaged, and make it again.

    Args:
        root: the corpus.
        memory_encoder, retriever: where the models are, if not where the build found them.
        beam_options: Beam's own options.
        observer: shown the progress.

    Raises:
        CorpusError: the manifest itself is damaged, or another job is at work or unfinished.
    """
    jobs.check_names()
    stages = jobs.Stages(root, beam_options, observer)
    with jobs.lock(root):
        planned = work.folder(root) / work.PLAN
        if jobs.unfinished(root) is not None:
            raise errors.CorpusError(
                f"a re-encoding is unfinished in {root}; finish it, or drop it by `memcorpus gc --unfinished`"
            )
        found = verification(root, full=True)
        if found.ok:
            return Repaired()
        work.folder(root).mkdir(exist_ok=True)
        files.write_json(planned, {"repair": True})
        run = _Repair(root, found.entries, stages, memory_encoder=memory_encoder, retriever=retriever)
        run.run()
        known = {entry.path for entry in found.entries}
        run.outcome.left += [line for line in found.damaged if line.split(" ")[0] not in known]
        commit.remove_work(root)
        return run.outcome
