"""Task files: JSON lines of `id`, `input`, and `output`, the answers with the pages that tell them.

    {"id": "5", "input": "...", "output": [{"answer": "...", "provenance": [{"wikipedia_id": "12",
     "title": "..."}]}], "meta": {}}

Read are the files that KILT publishes: ids and page ids as strings or whole numbers, outputs without
answer or without provenance, test files without outputs, and keys that nothing here uses
(facebookresearch/KILT, README, "KILT data format").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from storage import errors, files, texts
from storage.aliases import Json


class KiltError(errors.CorpusError):
    """A task or prediction file, or two of them together, that cannot be used; it says where and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """A page that tells an answer.

    Args:
        wikipedia_id: the page's id in the knowledge source, which is the `page_id` of a corpus built
            from it; None where a file gives none.
        title: the page's title.
        meta: anything else, such as the passage's id.
    """

    wikipedia_id: str | None
    title: str = ""
    meta: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> Json:
        """As KILT has it."""
        plain: Json = {"wikipedia_id": self.wikipedia_id, "title": self.title}
        return plain | ({"meta": dict(self.meta)} if self.meta else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """One answer that counts as right, and one set of pages that together tell it.

    Either may be missing. `provenance` is None where it is: to KILT's scorer, no set of pages is
    something else than an empty one.
    """

    answer: str | None = None
    provenance: tuple[Provenance, ...] | None = None

    def to_json(self) -> Json:
        """As KILT has it; what is None is left out."""
        found: Json = {} if self.answer is None else {"answer": self.answer}
        if self.provenance is not None:
            found["provenance"] = [page.to_json() for page in self.provenance]
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One line of a task file.

    Args:
        id: unique in its file.
        input: the question, the claim, or "subject [SEP] relation".
        outputs: all that count as right; empty in the test files, whose answers KILT keeps.
        meta: anything else.
    """

    id: str
    input: str = ""
    outputs: tuple[Output, ...] = ()
    meta: Mapping[str, object] = field(default_factory=dict)

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers, each once, in the file's order."""
        found = (output.answer.strip() for output in self.outputs if output.answer is not None)
        return tuple(dict.fromkeys(answer for answer in found if answer))

    def to_json(self) -> Json:
        """As KILT has it."""
        outputs = [output.to_json() for output in self.outputs]
        return {"id": self.id, "input": self.input, "output": outputs, "meta": dict(self.meta)}


def read_examples(path: Path | str) -> Iterator[Example]:
    """The examples of a task file, one line at a time.

    Raises:
        KiltError: a line is no example, or its id came before.
        OSError: the file cannot be read.
    """
    for where, record in read_records(path):
        yield Example(
            id=identifier(record, where),
            input=_text(record, "input", where) or "",
            outputs=outputs(record, where),
            meta=_object(record, "meta", where),
        )


def write_examples(path: Path | str, examples: Iterable[Example]) -> int:
    """Write a task file, whole or not at all; returns the number of lines."""
    return write_records(path, (example.to_json() for example in examples))


def read_records(path: Path | str) -> Iterator[tuple[str, Json]]:
    """("FILE, line N", object) of each line of a JSON lines file whose ids are unique; blank lines are none.

    Raises:
        KiltError: a line is no JSON object, or its id came before.
        OSError: the file cannot be read.
    """
    seen: dict[str, int] = {}
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number:,}"
            try:
                record = json.loads(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
            except (ValueError, RecursionError) as error:
                raise KiltError(
                    f"{where} is no JSON ({error}); KILT's files hold one object a line"
                ) from error
            if not isinstance(record, dict):
                raise KiltError(f"{where} is {_kind(record)}, wanted an object with id, input and output")
            name = identifier(record, where)
            if name in seen:
                raise KiltError(f"{where} has the id {name!r} of line {seen[name]:,}; ids must be unique")
            seen[name] = number
            yield where, record


def write_records(path: Path | str, records: Iterable[Mapping[str, object]]) -> int:
    """Write JSON lines, whole or not at all; returns their number."""
    path = Path(path)
    partial = files.partial_path(path)
    count = 0
    try:
        with partial.open("w", encoding="ascii", newline="\n") as file:
            for record in records:
                file.write(json.dumps(record) + "\n")
                count += 1
        files.finish_partial(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return count


def identifier(record: Mapping[str, object], where: str, key: str = "id") -> str:
    """An id as a string without blanks around it; it may be written as a whole number."""
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise KiltError(f"{where} has {_said(record, key)}, wanted a string or a whole number")


def outputs(record: Mapping[str, object], where: str) -> tuple[Output, ...]:
    """The outputs of a task's or prediction's line; none where it has no `output`."""
    found = []
    for output in _objects(record, "output", where) or ():
        pages = _objects(output, "provenance", where)
        found.append(
            Output(
                answer=_text(output, "answer", where),
                provenance=None if pages is None else tuple(_page(page, where) for page in pages),
            )
        )
    return tuple(found)


def _page(page: Mapping[str, object], where: str) -> Provenance:
    return Provenance(
        wikipedia_id=None if page.get("wikipedia_id") is None else identifier(page, where, "wikipedia_id"),
        title=_text(page, "title", where) or "",
        meta=_object(page, "meta", where),
    )


def _text(record: Mapping[str, object], key: str, where: str) -> str | None:
    value = record.get(key)
    if value is not None and not isinstance(value, str):
        raise KiltError(f"{where} has {_said(record, key)}, wanted a string")
    # JSON may hold half a pair of UTF-16, which no tokenizer takes.
    return None if value is None else texts.valid(value)


def _object(record: Mapping[str, object], key: str, where: str) -> Json:
    value = record.get(key)
    if value is not None and not isinstance(value, dict):
        raise KiltError(f"{where} has {_said(record, key)}, wanted an object")
    return value or {}


def _objects(record: Mapping[str, object], key: str, where: str) -> list[Json] | None:
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise KiltError(f"{where} has {_said(record, key)}, wanted a list of objects")
    return value


def _said(record: Mapping[str, object], key: str) -> str:
    return f"{key!r} {json.dumps(record[key])[:60]}" if key in record else f"no {key!r}"


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
