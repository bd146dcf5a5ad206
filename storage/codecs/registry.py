"""Codecs by name, and from the JSON of a card, which somebody else may have written."""

from __future__ import annotations

import json
import re
from typing import Final

from storage import errors
from storage.codecs import floats, int8, pq, rq, turbo
from storage.codecs.base import Codec

_FIXED: Final[dict[str, Codec]] = {
    codec.name: codec
    for codec in (
        floats.FLOAT32,
        floats.BFLOAT16,
        floats.FLOAT16,
        int8.INT8,
        turbo.TURBO4,
        turbo.TURBO2,
    )
}
# What is offered by name; pq<dims>x<bits> and rq<dims>x<steps> may be had in other sizes too.
NAMES: Final = (*_FIXED, "pq8x8", "pq16x16")
# No more digits than the largest configuration has, so that absurd ones are never parsed.
_PQ: Final = re.compile(r"pq([1-9][0-9]{0,2})x([1-9][0-9]?)")
_RQ: Final = re.compile(r"rq([1-9][0-9]{0,3})x([1-9][0-9]{0,2})")


def by_name(name: str) -> Codec:
    """The codec of that name.

    Raises:
        CorpusError: no such codec; lists those that are known.
    """
    if (codec := _FIXED.get(name)) is not None:
        return codec
    if found := _PQ.fullmatch(name):
        dims, bits = int(found[1]), int(found[2])
        if dims <= pq.MAX_DIMS and bits <= pq.MAX_BITS:
            return pq.PQ(name=name, dims=dims, bits=bits)
    if found := _RQ.fullmatch(name):
        dims, steps = int(found[1]), int(found[2])
        if dims <= rq.MAX_DIMS and steps <= rq.MAX_STEPS:
            return rq.RQ(name=name, dims=dims, steps=steps)
    raise errors.CorpusError(
        f"unknown memory codec {name[:40]!r}; known are {', '.join(NAMES)}, pq<dims>x<bits> of up to "
        f"{pq.MAX_DIMS} dimensions and {pq.MAX_BITS} bits, and rq<dims>x<steps> of up to {rq.MAX_DIMS} "
        f"dimensions and {rq.MAX_STEPS} steps"
    )


def untrained() -> tuple[Codec, ...]:
    """Those without parameters, which any memory can be coded with."""
    return tuple(codec for codec in _FIXED.values() if not codec.trained)


def from_json(value: object) -> Codec:
    """Parse {name, configuration} as a card holds it; anything but what `to_json` gives is refused."""
    if not isinstance(value, dict) or set(value) != {"name", "configuration"}:
        raise errors.CorpusError(f"memory codec {_short(value)} is not of the form name, configuration")
    if not isinstance(value["name"], str):
        raise errors.CorpusError(f"memory codec has name {_short(value['name'])}, wanted a string")
    codec = by_name(value["name"])
    # As text, since 8.0 and True would pass for 8 and 1.
    if _canonical(value["configuration"]) != _canonical(codec.configuration):
        raise errors.CorpusError(
            f"memory codec {codec.name} has configuration {_short(value['configuration'])}, "
            f"this version knows {codec.configuration!r}; a newer memcorpus may read it"
        )
    return codec


def _canonical(value: object) -> str:
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
