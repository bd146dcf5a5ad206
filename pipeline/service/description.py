"""The OpenAPI 3.1 description of the API. A test asks the service whatever it allows, and more."""

from __future__ import annotations

import importlib.metadata
from typing import Final

from pipeline.service.settings import ServiceSettings
from retrieval import wire
from storage import passage_table
from storage.aliases import Json

_STATE: Final = {
    "name": wire.STATE,
    "in": "header",
    "description": "The state that the client has opened; without it, the newest.",
    "schema": {"type": "string", "maxLength": 100},
}
_NUMBER: Final = {"type": "number"}
_TEXT: Final = {"type": "string"}
_WHOLE: Final = {"type": "integer"}
_BYTES: Final = {"schema": {"type": "string", "format": "binary"}}


def openapi(settings: ServiceSettings) -> Json:
    """The whole description, with the limits of this service."""
    limits = settings.limits
    ids = {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": limits.ids}
    version = {"type": ["string", "null"], "maxLength": 200, "description": "A name or an alias."}
    text = {"type": "string", "maxLength": limits.text_bytes // 4}
    columns = {
        "type": "array",
        "items": {"type": "string", "enum": list(passage_table.SCHEMA.names)},
        "minItems": 1,
        "uniqueItems": True,
    }
    k = {"type": "integer", "minimum": 1, "maximum": limits.k, "default": 10}
    refine = {
        "type": "boolean",
        "description": "Rank by the stored vectors; without it, as the service does for all.",
    }
    queries = {
        "oneOf": [
            {"type": "array", "items": text, "maxItems": limits.queries},
            {
                "type": "array",
                "items": {"type": "array", "items": _NUMBER},
                "minItems": 1,
                "maxItems": limits.queries,
            },
        ]
    }
    hits = _object(
        state=_TEXT, results=_array(_object(passages=_array(_object(passage_id=_WHOLE, score=_NUMBER))))
    )
    paths: Json = {
        "/v1/search": {
            "get": _operation(
                "Search for texts",
                parameters=[
                    _query("q", text, required=True),
                    _query("k", k),
                    _query("refine", refine),
                    _STATE,
                ],
                answers={wire.JSON: hits, wire.SAFETENSORS: None},
            ),
            "post": _operation(
                "Search for texts or vectors, many at once",
                parameters=[_STATE],
                body=_closed(
                    ["queries"],
                    queries=queries,
                    k=k,
                    passages={"type": "boolean", "default": True},
                    refine={**refine, "type": ["boolean", "null"]},
                ),
                answers={wire.JSON: hits, wire.SAFETENSORS: None},
            ),
        },
        "/v1/passages": {
            "post": _operation(
                "Passages by id: text, title, section, page id",
                parameters=[_STATE],
                body=_closed(["ids"], ids=ids, columns=columns),
                answers={
                    wire.JSON: _object(state=_TEXT, passages=_array(_object())),
                    wire.ARROW: None,
                },
            )
        },
        "/v1/memory": {
            "post": _operation(
                "Memory by id: ragged states, decoded or as they are stored",
                parameters=[_STATE],
                body=_closed(
                    ["ids"],
                    ids=ids,
                    version=version,
                    tokens={
                        "type": ["array", "null"],
                        "items": {"type": ["integer", "null"]},
                        "minItems": 2,
                        "maxItems": 2,
                        "description": "From and to, as Python slices.",
                    },
                    decode={"type": "boolean", "default": True},
                ),
                answers={wire.SAFETENSORS: None, wire.ARROW: None},
            )
        },
        "/v1/memory/lengths": {
            "post": _operation(
                "Tokens of passages",
                parameters=[_STATE],
                body=_closed(["ids"], ids=ids, version=version),
                answers={wire.JSON: _object(version=_TEXT, tokens=_array(_WHOLE)), wire.SAFETENSORS: None},
            )
        },
        "/v1/memory/{version}/parameters": {
            "get": _operation(
                "What a version's codec was trained to",
                parameters=[_path("version", _TEXT), _STATE],
                answers={wire.SAFETENSORS: None},
            )
        },
        "/v1/vectors": {
            "post": _operation(
                "The retriever's vectors by id",
                parameters=[_STATE],
                body=_closed(["ids"], ids=ids),
                answers={
                    wire.JSON: _object(state=_TEXT, vectors=_array(_array(_NUMBER))),
                    wire.SAFETENSORS: None,
                },
            )
        },
        "/v1/tokens": {
            "post": _operation(
                "Tokens of chunks by id, of a corpus of chunks",
                parameters=[_STATE],
                body=_closed(["ids"], ids=ids),
                answers={
                    wire.JSON: _object(state=_TEXT, tokens=_array(_array(_WHOLE))),
                    wire.SAFETENSORS: None,
                },
            )
        },
        "/v1/removed": {
            "get": _operation(
                "Ids that updates removed, and which update each",
                parameters=[_STATE],
                answers={wire.SAFETENSORS: None},
            )
        },
        "/v1/corpus": {
            "get": _operation(
                "What is served: counts, versions, limits",
                parameters=[_STATE],
                answers={wire.JSON: _object(service=_TEXT, protocol=_WHOLE, state=_TEXT, passages=_WHOLE)},
            )
        },
        "/v1/figures": {
            "get": _operation(
                "The corpus in figures",
                parameters=[_STATE],
                answers={wire.JSON: _object(state=_TEXT, passages=_WHOLE)},
            )
        },
        "/v1/look/{passage_id}": {
            "get": _operation(
                "A passage in its article, its tokens and their states' norms, its neighbours",
                parameters=[
                    _path("passage_id", {"type": "integer", "minimum": 0}),
                    _query("version", _TEXT),
                    _query("other", _TEXT),
                    _STATE,
                ],
                answers={wire.JSON: _object(state=_TEXT, passage=_object(), memory=_object())},
            )
        },
        "/healthz": {
            "get": _operation("Does the process answer?", answers={wire.JSON: _object(status=_TEXT)})
        },
        "/readyz": {"get": _operation("May it be asked?", answers={wire.JSON: _object(status=_TEXT)})},
        "/metrics": {"get": _operation("What was counted, for Prometheus", answers={"text/plain": _TEXT})},
    }
    if settings.reader is not None:
        paths["/v1/answer"] = {
            "post": _operation(
                "Answers of the service's reader",
                body=_closed(
                    ["questions"],
                    questions={"type": "array", "items": text, "maxItems": limits.queries},
                ),
                answers={wire.JSON: _object(state=_TEXT, answers=_array(_object(text=_TEXT)))},
            )
        }
    described: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "memcorpus",
            "version": importlib.metadata.version("memcorpus"),
            "description": "A memory corpus: search, passages and their memory by id.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": {"Problem": _problem()}},
    }
    if settings.token is not None:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
    return described


def _operation(
    summary: str,
    *,
    answers: dict[str, Json | None],
    parameters: list[Json] | None = None,
    body: Json | None = None,
) -> Json:
    content = {kind: _BYTES if schema is None else {"schema": schema} for kind, schema in answers.items()}
    refusal = {"description": "Refused, as RFC 9457 has it.", "content": {wire.PROBLEM: {
        "schema": {"$ref": "#/components/schemas/Problem"}}}}  # fmt: skip
    operation: Json = {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": content}, "4XX": refusal, "5XX": refusal},
    }
    if parameters:
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {wire.JSON: {"schema": body}}}
    return operation


def _problem() -> Json:
    return _object(type=_TEXT, title=_TEXT, status=_WHOLE, detail=_TEXT)


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _closed(required: list[str], **properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _array(items: Json) -> Json:
    return {"type": "array", "items": items}


def _query(name: str, schema: Json, *, required: bool = False) -> Json:
    return {"name": name, "in": "query", "required": required, "schema": schema}


def _path(name: str, schema: Json) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": schema}
