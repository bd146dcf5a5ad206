"""Memory versions of a corpus: which is current, how far two are apart, what may go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.components.base import built_with
from pipeline.components.memory import encode
from pipeline.components.memory.version import model_of
from pipeline.jobs import job, reencode
from retrieval.corpus import Corpus
from storage import (
    canaries,
    components,
    errors,
    generations,
    locks,
    manifest,
    run_statistics,
    segments,
    work_folder,
)
from storage.aliases import Json
from storage.components.memory import version_name
from storage.folder import CorpusFolder
from storage.manifest import Manifest
from storage.segments import Home

if TYPE_CHECKING:
    from encoders.token_encoder import TokenEncoder

SAMPLE: Final = 64


def load_encoder(corpus: CorpusFolder, name: str | None, version: str | None) -> TokenEncoder:
    """The memory encoder of a version, as it wrote it.

    Args:
        corpus: which has the version.
        name: folder or hub name; None is where it was when the version was written.
        version: which; None is the current one.
    """
    home = segments.of(corpus)[0]
    card = home.card(components.MEMORY, corpus.manifest.version(version))
    found = name or built_with(home.folder, "memory_encoder", card.version)
    return encode.load_encoder(model_of(card, found))


def use(corpus: CorpusFolder, version: str | None, *, alias: str = manifest.CURRENT) -> str:
    """Point an alias at a version, by one rename; readers follow when they open the corpus next.

    Args:
        corpus: a finished one.
        version: a version or an alias; None is the one that was current before.
        alias: which name to give it; `current` by default.

    Returns:
        The version's own name.
    """
    if alias != manifest.CURRENT:
        reencode.check_alias(alias)
    with corpus.alone():
        corpus.refresh()
        found = corpus.manifest
        if version is None and manifest.PREVIOUS not in found.aliases:
            raise errors.CorpusError(f"no version of {corpus} was current before this one")
        name = found.version(version if version is not None else manifest.PREVIOUS)
        new = (
            found.switched(name)
            if alias == manifest.CURRENT
            else replace(found, aliases={**found.aliases, alias: name})
        )
        if new != found:
            corpus.write_manifest(new)
        return name


def forget(corpus: CorpusFolder, alias: str) -> None:
    """Take an alias away; the version stays until `gc`."""
    with corpus.alone():
        corpus.refresh()
        found = corpus.manifest
        if alias == manifest.CURRENT or alias not in found.aliases:
            known = ", ".join(sorted(set(found.aliases) - {manifest.CURRENT})) or "none"
            raise errors.CorpusError(f"alias {alias!r} cannot be taken away; those that can: {known}")
        aliases = {k: v for k, v in found.aliases.items() if k != alias}
        corpus.write_manifest(replace(found, aliases=aliases))


def diff(folder: CorpusFolder, first: str, second: str, *, sample: int = SAMPLE) -> Json:
    """How far two versions are apart, on evenly spaced passages.

    Returns:
        JSON: the two names, passages and tokens compared, passages whose tokens are not the same in
        number (and so are left out), and `canaries.Difference` of the second from the first.
    """
    if sample < 1:
        raise errors.CorpusError(f"sample is {sample}, wanted 1 or more passages")
    corpus = Corpus(folder)
    one, two = corpus.memory(first), corpus.memory(second)
    if one.width != two.width:
        raise errors.CorpusError(
            f"versions {one.version} and {two.version} have {one.width} and {two.width} dimensions: "
            "memory of different models cannot be compared"
        )
    ids = corpus.passage_ids
    for reader in (one, two):  # of what one of them was left behind by nothing can be said
        ids = ids[reader.holds(ids)]
    ids = ids[np.unique(np.linspace(0, len(ids) - 1, min(sample, len(ids))).astype(np.int64))]
    same = one.tokens(ids) == two.tokens(ids)
    result: Json = {
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


def garbage(corpus: CorpusFolder, *, unfinished: bool = False) -> list[Garbage]:
    """What may go: versions without an alias, folders that no manifest speaks of, what killed jobs left in
    `work/`, with `unfinished` a begun version that was not finished."""
    memory = components.MEMORY
    found = corpus.manifest
    named = set(found.aliases.values())
    under_way = job.begun(corpus)
    begun = () if under_way is None else under_way.folders
    if begun and not unfinished:
        # What is being recoded is read until that is finished, and what is brought forward until that is.
        plan = corpus.work.read_plan() or {}
        origin = plan.get("origin")
        named |= set() if origin is None else {version_name(str(origin))}
        brought = plan.get("versions")
        named |= set(map(str, brought)) if isinstance(brought, list) else set()
    homes = list(segments.homes(corpus))
    result = [
        _garbage(corpus, "version", home.path(memory.folder(name)))
        for name in found.versions
        if name not in named
        for home in homes
        if name in home.manifest.of(memory)
    ]
    for home in homes:
        for component in components.TABLE:
            if component.single:
                continue
            kept = {component.folder(name) for name in home.manifest.of(component)}
            result += [
                _garbage(corpus, "stray", home.path(name))
                for name in home.folder.below(component.noun)
                if name not in kept and home.path(name) not in begun
            ]
    result += [_garbage(corpus, "stray", name) for name in _replaced(corpus, homes) if name not in begun]
    result += [_garbage(corpus, "stray", name) for name in ([] if begun else job.works(corpus))]
    taken = tuple(f"{name}/" for name in (*(item.path for item in result), *begun, work_folder.NAME))
    leftovers = (name for name in corpus.leftovers() if not name.startswith(taken))
    result += [_garbage(corpus, "stray", name) for name in leftovers]
    if not begun and (corpus.work.has_plan() or corpus.work.is_empty()):
        result.append(_garbage(corpus, "stray", work_folder.NAME))
    if unfinished and begun:
        result += [
            _garbage(corpus, "unfinished", name)
            for name in (*begun, *job.works(corpus), work_folder.NAME)
            if name == work_folder.NAME or name in corpus.below(name.rpartition("/")[0])
        ]
    return result


def _replaced(corpus: CorpusFolder, homes: list[Home]) -> Iterator[str]:
    """Folders of generations that the manifest does not speak of, and what a compaction has moved away."""
    spoken = {g.folder for g in corpus.manifest.generations} | {home.prefix for home in homes}
    for path in sorted(corpus.path(generations.FOLDER).glob("*")):
        if (name := corpus.relative(path)) not in spoken:
            yield name
    if homes[0].prefix:
        for component in components.TABLE:
            if corpus.path(component.noun).exists():
                yield component.noun
        if corpus.path(run_statistics.FOLDER).exists():
            yield run_statistics.FOLDER


def remove_replaced(corpus: CorpusFolder) -> int:
    """Remove what a compaction has moved away, as `collect` does. Returns the bytes that readers hold."""
    held = 0
    for name in list(_replaced(corpus, list(segments.homes(corpus)))):
        item = _garbage(corpus, "stray", name)
        with contextlib.ExitStack() as stack:
            try:
                for path in _holders(corpus, name):
                    stack.enter_context(locks.alone(path, "held"))
            except errors.CorpusError:
                held += item.bytes
                continue
            _remove(corpus, item)
    return held


def _holders(corpus: CorpusFolder, name: str) -> list[Path]:
    """Folders that a reader holds who may read what lies in one."""
    if name == work_folder.NAME:  # no reader reads it
        return []
    path = corpus.path(name)
    inside = [path, path / components.PASSAGES.noun, *sorted((path / components.MEMORY.noun).glob("*"))]
    if path.parent == corpus.root:  # what a compaction has moved
        inside += [corpus.path(components.PASSAGES.noun), *sorted(path.glob("*"))]
    return [folder for folder in dict.fromkeys(inside) if folder.is_dir()]


def collect(corpus: CorpusFolder, *, unfinished: bool = False) -> list[Garbage]:
    """Remove what `garbage` lists, but for what is held. Returns what is gone.

    The manifest is written first: a version is there whole or not at all, also for a reader who comes
    in between, and a `gc` that is killed leaves strays for the next.
    """
    with corpus.alone(), contextlib.ExitStack() as stack:
        corpus.refresh()
        going: list[Garbage] = []
        held: set[str] = set()
        locked: set[Path] = set()
        for item in garbage(corpus, unfinished=unfinished):
            try:
                for path in _holders(corpus, item.path):
                    if path not in locked:
                        stack.enter_context(locks.alone(path, "held"))
                        locked.add(path)
            except errors.CorpusError:
                held.add(item.path)
                continue
            going.append(item)
        # A version goes from all generations or from none.
        kept = {PurePosixPath(name).name for name in held}
        going = [i for i in going if i.kind != "version" or PurePosixPath(i.path).name not in kept]
        gone = {PurePosixPath(item.path).name for item in going if item.kind == "version"}
        if gone:
            corpus.write_manifest(_without(corpus.manifest, gone))
        # Of an unfinished job the plan goes last, by which what it left is known.
        for item in sorted(going, key=lambda item: item.path == work_folder.NAME):
            _remove(corpus, item)
        return going


def _without(found: Manifest, gone: set[str]) -> Manifest:
    """A manifest without some versions."""
    memory = components.MEMORY
    left = {name: e for name, e in found.of(memory).items() if name not in gone}
    return replace(
        found.with_cards(memory, left),
        generations=tuple(
            replace(
                g,
                cards={
                    **g.cards,
                    memory.noun: {name: e for name, e in g.of(memory).items() if name not in gone},
                },
            )
            if g.added
            else g
            for g in found.generations
        ),
    )


def _garbage(corpus: CorpusFolder, kind: str, name: str) -> Garbage:
    held = any(map(locks.is_held, _holders(corpus, name)))
    return Garbage(kind=kind, path=name, bytes=corpus.bytes_of(name), held=held)


def _remove(corpus: CorpusFolder, item: Garbage) -> None:
    if item.path == work_folder.NAME:
        corpus.work.remove()
        return
    corpus.remove(item.path)
