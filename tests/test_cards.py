"""Cards and manifest are read strictly: a field of another type, or out of range, is a plain error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage import components, errors
from storage.folder import CorpusFolder
from storage.manifest import Manifest
from storage.run_statistics import RunStatistics

# Fields that may be any string, or any object: what they hold is compared, or read strictly by who knows it.
FREE = {
    "splitter", "encoder", "settings", "sources", "counts.kept", "kind", "codec", "machine", "finished",
    "retriever", "memory_encoder", "origin", "beam_options", "configuration",
}  # fmt: skip
# By the type that is there: what must not be taken for it.
WRONG: dict[type, tuple[Any, ...]] = {
    int: (10.9, True, "10", None, -1, [10], float("inf")),
    float: ("nan", True, None, [0.5], "0.5", {}),
    str: (None, 7, True, ["x"], {}),
    bool: (1, "true", None),
    list: (None, 7, {}, "[]"),
    dict: (None, 7, [], "{}"),
}


def documents(corpus: CorpusFolder) -> Iterator[tuple[str, Any, Any]]:
    """(name, JSON, how it is read) of the manifest, of a card of each component, and of the statistics."""
    yield "corpus.json", corpus.manifest.to_json(), Manifest.from_json
    for component in components.TABLE:
        for name in corpus.manifest.of(component):
            yield component.noun, corpus.card(component, name).to_json(), component.card.from_json
    run = corpus.run()
    assert run is not None
    yield "statistics", run.to_json(), RunStatistics.from_json


def leaves(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every place in a document, and what stands there."""
    if way:
        yield way, value
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in FREE:
                yield from leaves(item, (*way, key))
    elif isinstance(value, list):
        for i, item in enumerate(value[:1]):
            yield from leaves(item, (*way, i))


def with_value(document: Any, way: tuple[Any, ...], value: Any) -> Any:
    changed = json.loads(json.dumps(document))
    inner = changed
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = value
    return changed


def test_what_is_written_is_read(corpus: Path) -> None:
    for name, document, read in documents(CorpusFolder(corpus)):
        plain = json.loads(json.dumps(document))
        assert json.loads(json.dumps(read(plain, name).to_json())) == plain


def test_a_field_of_another_type_is_refused(corpus: Path) -> None:
    tried = 0
    for name, document, read in documents(CorpusFolder(corpus)):
        plain = json.loads(json.dumps(document))
        for way, value in leaves(plain):
            for wrong in WRONG[type(value)]:
                # A float may be whole, and what may be null or anything is not in the list.
                with pytest.raises(errors.CorpusError) as caught:
                    read(with_value(plain, way, wrong), name)
                assert len(str(caught.value)) < 500, (name, way, wrong)
                tried += 1
    assert tried > 500


@pytest.mark.parametrize(
    ("noun", "way", "wrong", "words"),
    [
        ("passages", ("passages",), 10.9, "'passages' is 10.9, wanted a whole number, 0 or more"),
        ("passages", ("words",), True, "'words' is True, wanted a whole number"),
        ("vectors", ("fingerprint",), None, "'fingerprint' is None, wanted 64 hexadecimal digits"),
        ("vectors", ("layout", "dim"), 0, "'dim' is 0, wanted a whole number, 1 or more"),
        ("index", ("recall_at_10",), 1.5, "'recall_at_10' is 1.5, wanted a number, from 0 to 1"),
        ("index", ("recall_at_10",), "nan", "'recall_at_10' is 'nan', wanted a number"),
        ("memory", ("quality", "cosine"), "nan", "'cosine' is 'nan', wanted a number"),
        ("memory", ("version",), "f" * 16, "is not how fingerprint"),
        ("memory", ("encoder", "architecture"), ["d_kv"], "'architecture' is ['d_kv'], wanted an object"),
        ("memory", ("encoder", "architecture", "d_kv"), None, "wanted an object of numbers or strings"),
        ("memory", ("encoder", "layers"), "2", "'layers' is '2', wanted a whole number"),
        ("memory", ("encoder", "compute_dtype"), 16, "'compute_dtype' is 16, wanted a string"),
        ("memory", ("files", "crc32"), "0x12", "'crc32' is '0x12', wanted 8 hexadecimal digits"),
    ],
)
def test_the_error_says_what_is_wrong(
    corpus: Path, noun: str, way: tuple[str, ...], wrong: Any, words: str
) -> None:
    folder = CorpusFolder(corpus)
    (component,) = (c for c in components.TABLE if c.noun == noun)
    (name,) = folder.manifest.of(component)
    document = with_value(folder.card(component, name).to_json(), way, wrong)
    with pytest.raises(errors.CorpusError) as caught:
        component.card.from_json(document, "the card")
    assert str(caught.value).startswith("the card") or noun == "memory"
    assert words in str(caught.value)
