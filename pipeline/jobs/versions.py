"""Memory versions of a corpus: which there are, which is current, how far two are apart, what may go."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from encoders.memory_spec import MemorySpec
from pipeline.components.memory import encode as encode_shards
from pipeline.jobs import commit, reencode
from pipeline.units import stages as jobs
from pipeline.units import work
from retrieval.corpus import Corpus
from storage import canaries, errors, file_list, files, locks, manifest

if TYPE_CHECKING:
    from encoders.memory_encoder import MemoryEncoder

SAMPLE: Final = 64


def listed(root: Path) -> list[dict[str, Any]]:
    """Every version as JSON, in the order they were added.

    Keys: version, aliases, codec, origin, encoder (fingerprint), layers, compute_dtype, tokens, bytes,
    quality (of the codec, see `canaries.Difference`), seconds (of the shards' work, where known).
    """
    found = manifest.Manifest.read(root)
    result = []
    for name in found.memory:
        card = manifest.read_memory(root, found, name)
        seconds: float | None = None
        for run in (manifest.BUILD, name):
            with contextlib.suppress(OSError, errors.CorpusError, KeyError):
                statistics = files.read_json(root / manifest.statistics_path(run))
                if statistics["version"] == name:
                    seconds = statistics["stage_seconds"]["shards"]
        result.append(
            {
                "version": name,
                "aliases": [alias for alias, target in found.aliases.items() if target == name],
                "codec": card.layout.codec.name,
                "origin": card.origin and card.origin[:16],
                "encoder": card.encoder_fingerprint,
                "layers": card.encoder.get("layers"),
                "compute_dtype": card.encoder.get("compute_dtype"),
                "tokens": card.counts["tokens"],
                "bytes": version_bytes(root, card),
                "quality": dict(card.quality),
                "seconds": seconds,
            }
        )
    return result


def version_bytes(root: Path, card: manifest.MemoryCard) -> int:
    """Bytes of a version's files."""
    listed_bytes = sum(entry.bytes for entry in file_list.read(root, card.files))
    return listed_bytes + sum(entry.bytes for entry in (*card.rows, card.canaries.file, card.files))


def load_encoder(root: Path, name: str | None, version: str | None) -> MemoryEncoder:
    """The memory encoder of a version, as it wrote it.

    Args:
        root: the corpus.
        name: folder or hub name; None is where it was when the version was written.
        version: which; None is the current one.
    """
    found = manifest.Manifest.read(root)
    card = manifest.read_memory(root, found, found.version(version))
    return encode_shards.load_encoder(encoder_model(root, card, name))


def encoder_model(root: Path, card: manifest.MemoryCard, name: str | None) -> encode_shards.MemoryModel:
    """How to load the encoder of a version."""
    if name is None:
        name = built_with(root, "memory_encoder", card.version)
    return encode_shards.MemoryModel(
        name=name, fingerprint=card.encoder_fingerprint, memory=MemorySpec.from_json(card.settings)
    )


def built_with(root: Path, what: str, version: str = manifest.BUILD) -> str:
    """Where the "memory_encoder" or "retriever" was found, when a version or the corpus was written."""
    for name in (version, manifest.BUILD):
        with contextlib.suppress(FileNotFoundError, KeyError):
            return str(files.read_json(root / manifest.statistics_path(name))[what])
    raise errors.CorpusError(f"it is not known where the {what} of {root} lies; name it")


def use(root: Path, version: str | None, *, alias: str = manifest.CURRENT) -> str:
    """Point an alias at a version, by one rename; readers follow when they open the corpus next.

    Args:
        root: the corpus.
        version: a version or an alias; None is the one that was current before.
        alias: which name to give it; `current` by default.

    Returns:
        The version's own name.
    """
    if alias != manifest.CURRENT:
        reencode.check_alias(alias)
    with jobs.lock(root):
        found = manifest.Manifest.read(root)
        if version is None and manifest.PREVIOUS not in found.aliases:
            raise errors.CorpusError(f"no version of {root} was current before this one")
        name = found.version(version if version is not None else manifest.PREVIOUS)
        aliases = (
            manifest.switched(found.aliases, name)
            if alias == manifest.CURRENT
            else {**found.aliases, alias: name}
        )
        if aliases != found.aliases:
            replace(found, aliases=aliases).write(root)
        return name


def forget(root: Path, alias: str) -> None:
    """Take an alias away; the version stays until `gc`."""
    with jobs.lock(root):
        found = manifest.Manifest.read(root)
        if alias == manifest.CURRENT or alias not in found.aliases:
            known = ", ".join(sorted(set(found.aliases) - {manifest.CURRENT})) or "none"
            raise errors.CorpusError(f"alias {alias!r} cannot be taken away; those that can: {known}")
        replace(found, aliases={k: v for k, v in found.aliases.items() if k != alias}).write(root)


def diff(root: Path, first: str, second: str, *, sample: int = SAMPLE) -> dict[str, Any]:
    """How far two versions are apart, on evenly spaced passages.

    Returns:
        JSON: the two names, passages and tokens compared, passages whose tokens are not the same in
        number (and so are left out), and `canaries.Difference` of the second from the first.
    """
    if sample < 1:
        raise errors.CorpusError(f"sample is {sample}, wanted 1 or more passages")
    corpus = Corpus(root)
    one, two = corpus.memory(first), corpus.memory(second)
    if one.width != two.width:
        raise errors.CorpusError(
            f"versions {one.version} and {two.version} have {one.width} and {two.width} dimensions: "
            "memory of different models cannot be compared"
        )
    ids = np.unique(np.linspace(0, len(corpus) - 1, min(sample, len(corpus))).astype(np.int64))
    same = one.tokens(ids) == two.tokens(ids)
    result: dict[str, Any] = {
        "first": one.version,
        "second": two.version,
        "passages": int(same.sum()),
        "tokens": int(one.tokens(ids[same]).sum()),
        "differently_tokenized": int((~same).sum()),
        "same_encoder": one.card.encoder_fingerprint == two.card.encoder_fingerprint,
    }
    if same.any():
        found = canaries.difference(one.fetch(ids[same]).values, two.fetch(ids[same]).values)
        result |= found.to_json()
    return result


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """Something that `gc` removes, or would if nobody held it.

    Attributes:
        kind: "version", "stray" (files that no manifest speaks of) or "unfinished" (a job's work).
        path: below the corpus folder.
        bytes: of its files.
        held: a reader on this machine has it open.
    """

    kind: str
    path: str
    bytes: int
    held: bool


def garbage(root: Path, *, unfinished: bool = False) -> list[Garbage]:
    """What may go: versions without an alias, folders that no manifest speaks of, what killed jobs left in
    `work/`, with `unfinished` a begun version that was not finished."""
    found = manifest.Manifest.read(root)
    named = set(found.aliases.values())
    unfinished_version = jobs.unfinished(root)
    begun = None if unfinished_version is None else manifest.memory_folder(unfinished_version)
    if begun is not None and not unfinished:
        # What is being recoded is read until that is finished.
        origin = files.read_json(work.folder(root) / work.PLAN).get("origin")
        named |= set() if origin is None else {manifest.version_name(str(origin))}
    result = [
        _garbage(root, "version", manifest.memory_folder(name)) for name in found.memory if name not in named
    ]
    known = {
        "memory": {manifest.memory_folder(name) for name in found.memory},
        "vectors": {manifest.vectors_folder(name) for name in found.vectors},
        "index": {manifest.index_folder(name) for name in found.indexes},
    }
    for kind, kept in known.items():
        for path in sorted((root / kind).glob("*")):
            name = f"{kind}/{path.name}"
            if name in kept or name == begun:
                continue
            result.append(_garbage(root, "stray", name))
    taken = tuple(f"{name}/" for name in (*(item.path for item in result), begun, manifest.WORK))
    leftovers = (path.relative_to(root).as_posix() for path in files.leftovers(root))
    result += [_garbage(root, "stray", name) for name in leftovers if not name.startswith(taken)]
    if begun is None and (work.folder(root) / work.PLAN).exists():
        result.append(_garbage(root, "stray", manifest.WORK))
    if unfinished and begun is not None:
        result += [
            _garbage(root, "unfinished", name) for name in (begun, manifest.WORK) if (root / name).exists()
        ]
    return result


def collect(root: Path, *, unfinished: bool = False) -> list[Garbage]:
    """Remove what `garbage` lists, but for what is held. Returns what is gone.

    The manifest is written first: a version is there whole or not at all, also for a reader who comes
    in between, and a `gc` that is killed leaves strays for the next.
    """
    with jobs.lock(root), contextlib.ExitStack() as stack:
        going: list[Garbage] = []
        for item in garbage(root, unfinished=unfinished):
            path = root / item.path
            try:
                if path.is_dir():
                    stack.enter_context(locks.alone(path, "held"))
            except errors.CorpusError:
                continue
            going.append(item)
        found = manifest.Manifest.read(root)
        gone = {item.path for item in going if item.kind == "version"}
        if gone:
            left = {k: v for k, v in found.memory.items() if manifest.memory_folder(k) not in gone}
            replace(found, memory=left).write(root)
        for item in going:
            _remove(root, item)
        return going


def _garbage(root: Path, kind: str, name: str) -> Garbage:
    path = files.inside(root, name)
    size = (
        sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        if path.is_dir()
        else path.stat().st_size
    )
    return Garbage(kind=kind, path=name, bytes=size, held=path.is_dir() and locks.is_held(path))


def _remove(root: Path, item: Garbage) -> None:
    if item.path == manifest.WORK:
        commit.remove_work(root)
        return
    path = files.inside(root, item.path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
