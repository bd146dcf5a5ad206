"""Memory versions brought forward: their memory of the passages that an update adds, by their own encoders.

A version that was encoded is encoded; one that was recoded is recoded from its origin, which is encoded for
it where the corpus has it no more. Parameters of trained codecs are those that the version has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from encoders import fingerprint
from encoders.errors import EncoderError
from encoders.memory_encoder import memory_fingerprint
from encoders.memory_spec import MemorySpec
from encoders.retro import memory as retro_memory
from pipeline.components.base import built_with
from pipeline.components.memory.encode import MemoryModel
from pipeline.components.memory.version import MemoryPlan
from pipeline.components.settings import ALL_DEVICES
from pipeline.jobs import job
from storage import codecs, components, errors, manifest, memory_store
from storage.components import MemoryCard
from storage.components.memory import version_name
from storage.manifest import Manifest
from storage.segments import Segment

NAMED: Final = "named"
CURRENT: Final = manifest.CURRENT
CHOICES: Final = (NAMED, CURRENT)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A version to be brought forward.

    Attributes:
        card: of the build's segment; of an origin that is gone, of the version that was recoded from it.
        model: the encoder; None: it is recoded.
        codec: of its rows.
        fingerprint: its own.
        kept: False: it is there for what is recoded from it, and goes afterwards.
    """

    card: MemoryCard
    model: MemoryModel | None
    codec: codecs.Codec
    fingerprint: str
    kept: bool = True

    @property
    def version(self) -> str:
        return version_name(self.fingerprint)

    @property
    def memory(self) -> MemorySpec:
        """As the version was made, in the batches that are made now."""
        return MemorySpec.from_json(self.card.settings).changed({})

    def plan(self, passages: int, shard_passages: int | None, origin: MemoryCard | None) -> MemoryPlan:
        """What is to be written of so many passages; `origin` is the card of what is recoded there."""
        layout = memory_store.MemoryLayout.sized(
            passages=passages,
            width=self.card.layout.width,
            max_tokens=self.card.layout.max_tokens,
            codec=self.codec,
            shard_passages=shard_passages,
        )
        cut = {} if origin is None else origin.counts.to_json()
        return MemoryPlan(
            fingerprint=self.fingerprint,
            encoder_fingerprint=self.card.encoder_fingerprint,
            encoder=self.card.encoder,
            memory=self.memory.to_json(),
            layout=layout,
            origin=self.card.origin if self.model is None else None,
            cut={
                name: count
                for name, count in cut.items()
                if name in ("passages_cut", "tokens_cut", "tokens_unknown")
            },
        )


@dataclass(kw_only=True)
class Chosen:
    """What is brought forward, origins before what is recoded from them, and why others are not."""

    versions: list[Wanted] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def choose(
    home: Segment,
    found: Manifest,
    *,
    which: str,
    memory_encoder: str | None,
    device: str | None,
    model_parallel: int | None,
    last: Segment | None = None,
) -> Chosen:
    """The versions that an update brings forward.

    Args:
        home: the build's segment.
        found: the corpus's manifest.
        which: of `CHOICES`: those that have a name, or the current one.
        memory_encoder: where the current version's encoder is, if not where it was.
        device, model_parallel: as in `BuildSettings`.
        last: the segment before the one that is to be added.

    Raises:
        CorpusError: the current version cannot be brought forward; or it is not known where an encoder is.
        MismatchError: an encoder is not the one that wrote its version.
    """
    if which not in CHOICES:
        raise errors.CorpusError(f"versions is {which!r}, wanted {' or '.join(CHOICES)}")
    current = found.version(None)
    named = {current} if which == CURRENT else set(found.aliases.values())
    chosen = Chosen()

    def model_of(card: MemoryCard) -> MemoryModel:
        own = memory_encoder if card.encoder_fingerprint == first.encoder_fingerprint else None
        name = job.location(own or built_with(home.folder, "memory_encoder", card.version))
        memory = MemorySpec.from_json(card.settings).changed({})
        seen = memory_fingerprint(name, memory)
        if seen.hex != card.encoder_fingerprint:
            other = ", ".join(fingerprint.differences(card.encoder, seen.description)[:3])
            raise errors.MismatchError(
                f"memory encoder {name} is not the one that wrote version {card.version}: they differ in "
                f"{other}; name the folder of that one by --memory-encoder"
            )
        return MemoryModel(
            name=name,
            fingerprint=seen.hex,
            memory=memory,
            device=device or ALL_DEVICES,
            model_parallel=model_parallel,
        )

    def add(version: str, *, kept: bool = True) -> None:
        if version in {wanted.version for wanted in chosen.versions}:
            if kept:
                chosen.versions = [
                    replace(w, kept=True) if w.version == version else w for w in chosen.versions
                ]
            return
        card = home.card(components.MEMORY, version)
        if card.encoder.get("kind") == retro_memory.KIND:
            raise errors.CorpusError(
                f"version {version} is of a RETRO's encoder, which an update does not bring forward; make "
                "another version current (`memcorpus use`), and `reencode` behind the update"
            )
        if card.origin is None:
            codec = card.layout.codec
            wanted = Wanted(
                card=card, model=model_of(card), codec=codec, fingerprint=card.fingerprint, kept=kept
            )
            chosen.versions.append(wanted)
            return
        origin = version_name(card.origin)
        if origin in home.manifest.of(components.MEMORY):
            add(origin, kept=False)
        else:
            _add_gone(card)
        chosen.versions.append(
            Wanted(card=card, model=None, codec=card.layout.codec, fingerprint=card.fingerprint, kept=kept)
        )

    def _add_gone(card: MemoryCard) -> None:
        """The origin of a version, where it has been removed: whichever codec without parameters it had."""
        assert card.origin is not None
        for codec in codecs.untrained():
            described = {"encoder": card.encoder_fingerprint, "codec": codec.to_json()}
            if fingerprint.of(described).hex == card.origin:
                chosen.versions.append(
                    Wanted(card=card, model=model_of(card), codec=codec, fingerprint=card.origin, kept=False)
                )
                return
        raise errors.CorpusError(
            f"version {card.version} was recoded from one that is gone, with a codec that was trained; "
            "encode the corpus again, or use another version"
        )

    first = home.card(components.MEMORY, current)
    # The current one first: its shards embed their passages too.
    for version in [current, *(v for v in found.versions if v in named and v != current)]:
        if last is not None and version not in last.manifest.of(components.MEMORY) and version != current:
            chosen.left[version] = "it was left behind by an earlier update"
            continue
        try:
            add(version)
        except (errors.CorpusError, EncoderError) as e:
            if version == current:
                raise
            chosen.left[version] = str(e)
    for version in found.versions:
        if version not in named:
            why = "only the current version was asked for" if which == CURRENT else "no name points at it"
            chosen.left[version] = why
    for wanted in chosen.versions:
        if wanted.kept:
            chosen.left.pop(wanted.version, None)
    return chosen


def require_versions(found: Manifest, chosen: Sequence[Wanted]) -> None:
    """Refuse to commit what a job in between has removed."""
    for wanted in chosen:
        if wanted.kept and wanted.version not in found.versions:
            raise errors.CorpusError(
                f"memory version {wanted.version} was removed since the update began; drop the update by "
                "`memcorpus gc --unfinished`, and begin it again"
            )
