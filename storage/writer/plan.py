"""What a writer is to write: the encoder in words, the layout, the version's name. It lies in `work/`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from storage import codecs, components, errors
from storage.aliases import Json
from storage.components.memory import version_name
from storage.fields import Fields
from storage.memory_store import MemoryLayout
from storage.shards import MAX_SHARD_PASSAGES, MIN_SHARD_PASSAGES, MIN_SHARDS, SHARD_BYTES

# Of this plan, and of what else writers lay down.
VERSION: Final = 1
# In a plan, and in the settings of a version: what wrote it.
WRITER: Final = "writer"
# Readers of a card take some fields of an encoder for their own; a user's words stand beside these.
_KIND: Final = "given"


def fingerprint(description: Mapping[str, object]) -> str:
    """SHA-256 of a description as canonical JSON: keys sorted, no spaces, ASCII; as docs/format.md has it."""
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def described(encoder: str | Mapping[str, object]) -> Json:
    """What a card keeps of an encoder that the caller describes.

    Raises:
        CorpusError: it says nothing, or what JSON cannot hold.
    """
    try:
        again = json.loads(json.dumps(encoder, allow_nan=False))
    except (TypeError, ValueError) as e:
        raise errors.CorpusError(
            f"the encoder is described by what JSON cannot hold ({e}); wanted a text, or an object of texts, "
            "numbers and lists"
        ) from None
    if not again or not isinstance(again, str | dict):
        raise errors.CorpusError(
            f"encoder is {encoder!r:.60}; wanted what decides the states, as a text or an object: the model, "
            "its revision, the layers"
        )
    return {"kind": _KIND, "encoder": again}


def choose_shard_passages(*, passages: int, max_tokens: int, token_bytes: int) -> int:
    """Passages a shard: a power of two, of at most `SHARD_BYTES` if every passage were full.

    Fewer than builds take where passages are large: four layers of 4,096 tokens have 134 MB.
    """
    by_bytes = max(1, SHARD_BYTES // (max_tokens * token_bytes))
    by_count = max(MIN_SHARD_PASSAGES, -(-passages // MIN_SHARDS))
    return 1 << (min(by_bytes, by_count, MAX_SHARD_PASSAGES).bit_length() - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterPlan:
    """A version to be written.

    Attributes:
        encoder: as the card will hold it; see `described`.
        layout: shapes and codec.
        new: is the corpus made with it, or is it there?
    """

    encoder: Mapping[str, object]
    layout: MemoryLayout
    new: bool

    @property
    def encoder_fingerprint(self) -> str:
        return fingerprint(self.encoder)

    @property
    def fingerprint(self) -> str:
        """Of encoder and codec, as for every version."""
        return fingerprint({"encoder": self.encoder_fingerprint, "codec": self.layout.codec.to_json()})

    @property
    def version(self) -> str:
        return version_name(self.fingerprint)

    @property
    def folder(self) -> str:
        """Of the version, below the corpus."""
        return components.MEMORY.folder(self.version)

    @property
    def settings(self) -> Json:
        """What decides the bytes of its shards, beside the encoder and the codec."""
        return {
            WRITER: VERSION,
            "max_tokens": self.layout.max_tokens,
            "shard_passages": self.layout.grid.shard_passages,
        }

    def to_json(self) -> Json:
        return {
            "version": self.version,  # by which other jobs know that a version is begun
            WRITER: VERSION,
            "encoder": dict(self.encoder),
            "layout": self.layout.to_json(),
            "new": self.new,
        }

    @classmethod
    def from_json(cls, value: Json, where: str) -> WriterPlan:
        found = Fields(value, where)
        return cls(
            encoder=found.object("encoder"),
            layout=MemoryLayout.from_json(found.object("layout"), f"{where}: layout"),
            new=found.boolean("new"),
        )


def is_writers(plan: Mapping[str, object]) -> bool:
    """Is it the plan of a writer, that this release knows?"""
    return plan.get(WRITER) == VERSION


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a caller says of what is to be written; None where nothing was said."""

    width: int | None
    max_tokens: int | None
    encoder: str | Mapping[str, object] | None
    codec: str | None
    shard_passages: int | None

    def __post_init__(self) -> None:
        for name in ("width", "max_tokens", "shard_passages"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise errors.CorpusError(f"{name} is {value!r:.40}, wanted a whole number, 1 or more")

    def plan(self, passages: int, where: str, *, new: bool) -> WriterPlan:
        """What is to be written, where nothing was begun.

        Raises:
            CorpusError: something is missing or out of range.
        """
        missing = [n for n in ("width", "max_tokens", "encoder") if getattr(self, n) is None]
        if missing:
            raise errors.CorpusError(
                f"{' and '.join(missing)} must be given: no writer has begun anything in {where}"
            )
        assert self.width is not None
        assert self.max_tokens is not None
        assert self.encoder is not None
        codec = codecs.by_name(self.codec or codecs.BFLOAT16.name)
        codec.stored_width(self.width)  # which refuses a width that it cannot store
        shard_passages = self.shard_passages or choose_shard_passages(
            passages=passages, max_tokens=self.max_tokens, token_bytes=codec.token_bytes(self.width)
        )
        return WriterPlan(
            encoder=described(self.encoder),
            layout=MemoryLayout.sized(
                passages=passages,
                width=self.width,
                max_tokens=self.max_tokens,
                codec=codec,
                shard_passages=shard_passages,
            ),
            new=new,
        )

    def require_same(self, begun: WriterPlan, where: str, *, published: bool = False) -> None:
        """
        Raises:
            MismatchError: something was said that is not what was begun.
        """
        layout = begun.layout
        pairs: dict[str, tuple[object, object]] = {
            "width": (self.width, layout.width),
            "max_tokens": (self.max_tokens, layout.max_tokens),
            "codec": (self.codec, layout.codec.name),
            "shard_passages": (self.shard_passages, layout.grid.shard_passages),
            "encoder": (None if self.encoder is None else described(self.encoder), begun.encoder),
        }
        for name, (said, planned) in pairs.items():
            if said is not None and said != planned:
                remedy = (
                    "leave it out, or describe another encoder"
                    if published
                    else "finish that one, or drop it: `memcorpus gc --unfinished`, or remove the folder "
                    "where it holds nothing else"
                )
                state = "is" if published else "is unfinished"
                raise errors.MismatchError(
                    f"{name} is {_shown(said)}; version {begun.version}, which {state} in {where}, was begun "
                    f"with {_shown(planned)}: {remedy}"
                )


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{value.get('encoder')!r:.80}"
    return repr(value)
