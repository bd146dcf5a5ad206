"""Memory versions of a corpus: which is current, how far two are apart, what may go."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from pipeline.components.base import built_with
from pipeline.components.memory import encode
from pipeline.components.memory.version import model_of
from pipeline.jobs import job, reencode
from retrieval.corpus import Corpus
from storage import canaries, components, errors, locks, manifest, work_folder
from storage.aliases import Json
from storage.components.memory import version_name
from storage.folder import CorpusFolder

if TYPE_CHECKING:
    from encoders.memory_encoder import MemoryEncoder

SAMPLE: Final = 64


def load_encoder(corpus: CorpusFolder, name: str | None, version: str | None) -> MemoryEncoder:
    """The memory encoder of a version, as it wrote it.

    Args:
        corpus: which has the version.
        name: folder or hub name; None is where it was when the version was written.
        version: which; None is the current one.
    """
    card = corpus.memory(corpus.manifest.version(version))
    return encode.load_encoder(model_of(card, name or built_with(corpus, "memory_encoder", card.version)))


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
    ids = np.unique(np.linspace(0, len(corpus) - 1, min(sample, len(corpus))).astype(np.int64))
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
    begun = None if under_way is None else under_way[0].folder(under_way[1])
    if begun is not None and not unfinished:
        # What is being recoded is read until that is finished.
        origin = (corpus.work.read_plan() or {}).get("origin")
        named |= set() if origin is None else {version_name(str(origin))}
    unnamed = [name for name in found.versions if name not in named]
    result = [_garbage(corpus, "version", memory.folder(name)) for name in unnamed]
    for component in components.TABLE:
        if component.single:
            continue
        kept = {component.folder(name) for name in found.of(component)}
        others = (name for name in corpus.below(component.noun) if name not in kept and name != begun)
        result += [_garbage(corpus, "stray", name) for name in others]
    taken = tuple(f"{name}/" for name in (*(item.path for item in result), begun, work_folder.NAME))
    leftovers = (name for name in corpus.leftovers() if not name.startswith(taken))
    result += [_garbage(corpus, "stray", name) for name in leftovers]
    if begun is None and (corpus.work.has_plan() or corpus.work.is_empty()):
        result.append(_garbage(corpus, "stray", work_folder.NAME))
    if unfinished and begun is not None:
        result += [
            _garbage(corpus, "unfinished", name)
            for name in (begun, work_folder.NAME)
            if name == work_folder.NAME or name in corpus.below(begun.rpartition("/")[0])
        ]
    return result


def collect(corpus: CorpusFolder, *, unfinished: bool = False) -> list[Garbage]:
    """Remove what `garbage` lists, but for what is held. Returns what is gone.

    The manifest is written first: a version is there whole or not at all, also for a reader who comes
    in between, and a `gc` that is killed leaves strays for the next.
    """
    with corpus.alone(), contextlib.ExitStack() as stack:
        corpus.refresh()
        going: list[Garbage] = []
        for item in garbage(corpus, unfinished=unfinished):
            path = corpus.path(item.path)
            try:
                if path.is_dir():
                    stack.enter_context(locks.alone(path, "held"))
            except errors.CorpusError:
                continue
            going.append(item)
        gone = {item.path for item in going if item.kind == "version"}
        if gone:
            memory, found = components.MEMORY, corpus.manifest
            left = {name: e for name, e in found.of(memory).items() if memory.folder(name) not in gone}
            corpus.write_manifest(found.with_cards(memory, left))
        for item in going:
            _remove(corpus, item)
        return going


def _garbage(corpus: CorpusFolder, kind: str, name: str) -> Garbage:
    path = corpus.path(name)
    held = path.is_dir() and locks.is_held(path)
    return Garbage(kind=kind, path=name, bytes=corpus.bytes_of(name), held=held)


def _remove(corpus: CorpusFolder, item: Garbage) -> None:
    if item.path == work_folder.NAME:
        corpus.work.remove()
        return
    corpus.remove(item.path)
