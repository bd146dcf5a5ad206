"""What type checkers are told of reports and plans is what their JSON schemas tell everybody else."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.accounts.plan.form import Plan
from pipeline.accounts.report.form import Report

ROOT = Path(__file__).parents[1]


def forms(hint: Any) -> Iterator[Any]:
    """The TypedDicts of a type: itself, of a list's items, or of what is there where None may be."""
    if typing.is_typeddict(hint):
        yield hint
    elif typing.get_origin(hint) in (list, typing.Union, types.UnionType, typing.NotRequired):
        for inner in typing.get_args(hint):
            yield from forms(inner)


def differences(form: Any, schema: Mapping[str, Any], where: str) -> list[str]:
    """Keys of a form, and of the forms in it, that its schema does not have, or the other way round."""
    found = []
    hints = typing.get_type_hints(form, include_extras=True)
    if other := set(hints) ^ set(schema["properties"]):
        found.append(f"{where} has {sorted(other)}")
    # Not `__required_keys__`: Python 3.11 sees no NotRequired in annotations that are strings.
    required = {key for key, hint in hints.items() if typing.get_origin(hint) is not typing.NotRequired}
    if other := (required if form.__total__ else set()) ^ set(schema.get("required", [])):
        found.append(f"{where} requires {sorted(other)}")
    for key, hint in hints.items():
        inner = schema["properties"].get(key, {})
        inner = inner.get("items", inner)
        for one in forms(hint):
            # An object that the schema leaves open has no properties to compare.
            if "properties" in inner:
                found += differences(one, inner, f"{where}.{key}")
    return found


@pytest.mark.parametrize(("form", "name"), [(Report, "report"), (Plan, "plan")])
def test_forms_and_schemas_have_the_same_keys(form: Any, name: str) -> None:
    schema = json.loads((ROOT / f"docs/{name}.schema.json").read_text())
    assert differences(form, schema, name) == []
    # A key too few is seen, however deep.
    inner = schema["properties"]["prices"]["properties"]["devices"]["items"]
    del inner["properties"]["tflops"]
    assert differences(form, schema, name) == [f"{name}.prices.devices has ['tflops']"]


def test_every_step_that_workers_time_is_in_the_schema() -> None:
    """A report of any stage keeps to it, of a table of neighbours too."""
    steps = {
        step
        for path in (ROOT / "pipeline").rglob("*.py")
        for step in re.findall(r'meter\.time\("([a-z ]+)"\)', path.read_text())
    }
    schema = json.loads((ROOT / "docs/report.schema.json").read_text())
    seconds = schema["properties"]["time"]["items"]["properties"]["worker_seconds"]
    assert steps == set(seconds["additionalProperties"]["properties"])
    assert "searching" in steps
