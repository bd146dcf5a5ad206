"""What a request asks for, read strictly: its body and parameters as plain values, or a plain refusal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from starlette.requests import ClientDisconnect, Request

from pipeline.service import problems
from pipeline.service.settings import Limits
from retrieval import queries as asked
from retrieval import wire
from retrieval.corpus import Corpus
from storage import ids, passage_table, texts

# JSON of more is read on another thread, so that others are answered meanwhile.
_SMALL: Final = 1 << 16
_TYPES: Final = {
    "true or false": bool,
    "a whole number": int,
    "text": str,
    "a list": list,
}


async def body(request: Request, limits: Limits) -> bytes:
    """The request's body, given up as soon as it is too long.

    Raises:
        Problem: it is.
    """
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told[:20]) > limits.body_bytes:
        raise _too_long(limits)
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limits.body_bytes:
                raise _too_long(limits)
            parts.append(part)
    except ClientDisconnect:
        raise problems.Problem(400, problems.REFUSED, "the client left") from None
    return b"".join(parts)


def _too_long(limits: Limits) -> problems.Problem:
    return problems.Problem(
        413,
        problems.LIMIT,
        f"the body is longer than {limits.body_bytes:,} bytes; ask in several requests",
        headers={"connection": "close"},
        limit=limits.body_bytes,
        name="body_bytes",
    )


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def fields(request: Request, limits: Limits, known: tuple[str, ...]) -> dict[str, Any]:
    """A body that is one JSON object of known fields.

    Raises:
        Problem: it is not.
    """
    if media_type(request) != wire.JSON:
        raise problems.refused(
            f"a body of type {media_type(request)[:60] or 'none'}, wanted {wire.JSON}", status=415
        )
    data = await body(request, limits)
    try:
        value = json.loads(data) if len(data) <= _SMALL else await asyncio.to_thread(json.loads, data)
    except (ValueError, RecursionError):
        raise problems.refused("the body is no JSON", status=400) from None
    if not isinstance(value, dict):
        raise problems.refused("the body is no JSON object", status=400)
    for name in value:
        if name not in known:
            raise problems.refused(f"field {name[:40]!r} is not known; known are {', '.join(known)}")
    return value


def taken(given: Mapping[str, Any], name: str, kind: str, otherwise: Any = None) -> Any:
    """A field of one kind.

    Raises:
        Problem: it is of another.
    """
    value = given.get(name, otherwise)
    wanted = _TYPES[kind]
    if value is otherwise:
        return value
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise problems.refused(f"{name} is {json.dumps(value)[:60]}, wanted {kind}")
    return value


def number(request: Request, name: str, otherwise: int) -> int:
    """A whole number out of the query string."""
    text = request.query_params.get(name)
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise problems.refused(f"{name} is {text[:40]!r}, wanted a whole number")
    return int(text)


def truth(request: Request, name: str) -> bool | None:
    """true or false out of the query string; None where it is not there."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if text not in ("true", "false"):
        raise problems.refused(f"{name} is {text[:40]!r}, wanted true or false")
    return text == "true"


def passage_ids(given: Mapping[str, Any], corpus: Corpus, limits: Limits) -> npt.NDArray[np.int64]:
    """The field `ids`.

    Raises:
        Problem: it is missing, too long, or names passages that are not there.
    """
    found = given.get("ids")
    if not isinstance(found, list):
        raise problems.refused("ids are missing, wanted a list of whole numbers")
    if len(found) > limits.ids:
        raise problems.over_limit("ids", len(found), limits.ids, "ids")
    # NumPy would take true for 1 beside other numbers.
    if not all(type(one) is int for one in found):
        raise problems.refused("ids are not all whole numbers")
    with problems.of_request():
        wanted = ids.as_ids(found, corpus.ids_given)
        corpus.tombstones.require_live(wanted)
        return wanted


def columns(given: Mapping[str, Any]) -> list[str]:
    """The field `columns`: names of the passage table's; all by default."""
    found = taken(given, "columns", "a list")
    known = passage_table.SCHEMA.names
    if found is None:
        return list(known)
    for name in found:
        if name not in known:
            raise problems.refused(f"column {json.dumps(name)[:40]}, known are {', '.join(known)}")
    if not found or len(set(found)) != len(found):
        raise problems.refused("columns is empty or names one twice")
    return list(found)


def _whole(k: int, passages: int, limits: Limits) -> int:
    if k > limits.k:
        raise problems.over_limit("k", k, limits.k, "passages for a query")
    with problems.of_request():
        return asked.count(k, passages)


def memory_tokens(given: Mapping[str, Any]) -> slice | None:
    """The field `tokens`, [from, to], either of them null, as Python slices a list."""
    found = taken(given, "tokens", "a list")
    if found is None:
        return None
    if len(found) != 2 or not all(one is None or type(one) is int for one in found):
        raise problems.refused("tokens is no [from, to] of two whole numbers or null")
    first, stop = (None if one is None else max(-(1 << 62), min(1 << 62, one)) for one in found)
    return slice(first, stop)


@dataclass(frozen=True, kw_only=True, slots=True)
class Searching:
    """What `POST /v1/search` asks for.

    Attributes:
        queries: texts, or vectors float32 [q, dim].
        k: passages for each.
        passages: with their texts?
        refine: rank by the stored vectors; None: as the service does for all.
    """

    queries: list[str] | npt.NDArray[np.float32]
    k: int
    passages: bool
    refine: bool | None = None


DEFAULT_K: Final = 10


async def searching(request: Request, limits: Limits, *, passages: int, dim: int) -> Searching:
    """A search as JSON, or of vectors as safetensors with k and refine in the query string.

    Raises:
        Problem: it is none.
    """
    refine: bool | None
    if request.method in ("GET", "HEAD"):
        found: Any = request.query_params.getlist("q")
        if not found:
            raise problems.refused("q is missing, wanted the text to search for")
        k, with_passages = number(request, "k", min(DEFAULT_K, passages)), True
        refine = truth(request, "refine")
    elif media_type(request) == wire.SAFETENSORS:
        data = await body(request, limits)
        with problems.of_request():
            tensors = wire.unpack(data)
        if set(tensors) != {"queries"} or tensors["queries"].ndim != 2:
            raise problems.refused(f"wanted one array, queries [q, {dim}]")
        found = tensors["queries"]
        k, with_passages = number(request, "k", min(DEFAULT_K, passages)), False
        refine = truth(request, "refine")
    else:
        given = await fields(request, limits, ("queries", "k", "passages", "refine"))
        found = taken(given, "queries", "a list")
        if found is None:
            raise problems.refused("queries are missing, wanted a list of texts or of vectors")
        k = taken(given, "k", "a whole number", min(DEFAULT_K, passages))
        with_passages = taken(given, "passages", "true or false", True)
        refine = taken(given, "refine", "true or false")
    if len(found) > limits.queries:
        raise problems.over_limit("queries", len(found), limits.queries, "queries")
    k = _whole(k, passages, limits)
    with problems.of_request():
        read = asked.read(found, dim)
    if isinstance(read, list):
        longest = max(len(text.encode()) for text in read)
        if longest > limits.text_bytes:
            raise problems.over_limit("text_bytes", longest, limits.text_bytes, "bytes of a query")
    return Searching(queries=read, k=k, passages=with_passages, refine=refine)


def questions(given: Mapping[str, Any], limits: Limits) -> list[str]:
    """The field `questions`: texts."""
    found = taken(given, "questions", "a list")
    if found is None or not all(isinstance(one, str) for one in found):
        raise problems.refused("questions are missing, wanted a list of texts")
    if len(found) > limits.queries:
        raise problems.over_limit("queries", len(found), limits.queries, "questions")
    longest = max((len(one.encode("utf-8", "replace")) for one in found), default=0)
    if longest > limits.text_bytes:
        raise problems.over_limit("text_bytes", longest, limits.text_bytes, "bytes of a question")
    return [texts.valid(one) for one in found]


def accepted(request: Request, *known: str) -> str:
    """The first of the known media types that the client takes best; the first, if it does not say.

    Raises:
        Problem: it takes none of them.
    """
    text = request.headers.get("accept", "*/*")[:1000]
    best, weight = "", 0.0
    wanted = [_accept(part) for part in text.split(",") if part.strip()] or [("*/*", 1.0)]
    for kind in known:
        mine = [
            (len(pattern) if "*" not in pattern else pattern.count("/") - pattern.count("*"), quality)
            for pattern, quality in wanted
            if pattern in (kind, "*/*", f"{kind.partition('/')[0]}/*")
        ]
        quality = max(mine)[1] if mine else 0.0
        if quality > weight:
            best, weight = kind, quality
    if not best:
        raise problems.refused(f"accept names none of {', '.join(known)}", status=406)
    return best


def _accept(part: str) -> tuple[str, float]:
    pattern, *parameters = (one.strip().lower() for one in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return pattern, min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                return pattern, 0.0
    return pattern, 1.0


def version(given: Mapping[str, Any]) -> str | None:
    """The field `version`: a memory version's name or alias."""
    found: str | None = taken(given, "version", "text")
    if found is not None and len(found) > 200:
        raise problems.refused("version is longer than any name")
    return found
