"""Task files in KILT's format about the miniwiki: questions, slots to fill, and claims to check.

The splits are by entity (`tables.split_of`), so that what is asked in dev and test is in no training
example; invented entities are all in train. Train has every wording of a question, dev and test the
first. The claims are balanced: each true one has a false one beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

from examples.miniwiki import markup
from examples.miniwiki.articles import article_of
from examples.miniwiki.export import page_ids
from examples.miniwiki.invented import invented_entities
from examples.miniwiki.questions import asked_of, subject_of
from examples.miniwiki.relations import RELATIONS, Others, claim
from examples.miniwiki.tables import Entity, entities, split_of

TASKS = ("qa", "slots", "facts")
SPLITS = ("train", "dev", "test")
SUPPORTS, REFUTES = "SUPPORTS", "REFUTES"
ANSWER_WORDS = 5
# A dump's reader groups the digits of a {{convert}}, and `markup.plain` leaves them as they are.
_CONVERTED = re.compile(r"(?<=\{\{convert\|)\d+(?=\|)")
_WORD = re.compile(r"\w+")


def write_tasks(folder: Path | str, *, invented: int = 0, seed: int = 0) -> dict[str, Path]:
    """Write `<task>-<split>.jsonl` for the tasks `qa`, `slots` and `facts`.

    They are about the articles of `write_dump(..., invented=invented, seed=seed)`, whose page ids are the
    provenance's `wikipedia_id`. The same arguments give the same bytes, and an example's id hangs on its
    entity, attribute and wording alone.

    Args:
      folder: is made if it is not there.
      invented: how many invented entities there are beside those of the tables.
      seed: that of the dump.

    Returns:
      The paths by name, such as `qa-train`.
    """
    folder = Path(folder)
    ids = page_ids(seed=seed, invented=invented)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {f"{task}-{split}": folder / f"{task}-{split}.jsonl" for task in TASKS for split in SPLITS}
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
            for name, path in paths.items()
        }
        for made_up, rows in ((False, entities()), (True, invented_entities(invented, seed))):
            for name, example in _examples(list(rows), ids, seed, made_up):
                files[name].write(json.dumps(example, ensure_ascii=False) + "\n")
    return paths


def _examples(
    rows: Sequence[Entity], ids: dict[str, int], seed: int, made_up: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file's name, example) of all entities, in their order."""
    others = Others(rows)
    for entity in rows:
        split = "train" if made_up else split_of(entity.title)
        provenance = [{"wikipedia_id": str(ids[entity.title]), "title": entity.title}]
        text = _text(entity, seed)
        for attribute, (values, phrasings) in asked_of(entity).items():
            answers = _answers(values, text)
            if not answers:
                continue
            meta = {"entity": entity.title, "attribute": attribute, "invented": made_up}
            asked = [(place, t) for place, t in enumerate(phrasings) if not _given_away(answers, t)]
            found = [("qa", str(n), t, answers) for n, t in (asked if split == "train" else asked[:1])]
            if attribute in RELATIONS:
                found += _slot(entity, attribute, answers)
                found += _claims(entity, attribute, answers[0], others, seed)
            for task, wording, text_in, out in found:
                yield (
                    f"{task}-{split}",
                    {
                        "id": "/".join((task, entity.title, attribute, wording)),
                        "input": text_in,
                        "output": [{"answer": answer, "provenance": provenance} for answer in out],
                        "meta": meta,
                    },
                )


_Found = Iterable[tuple[str, str, str, Sequence[str]]]


def _slot(entity: Entity, attribute: str, answers: Sequence[str]) -> _Found:
    # The capital is the subject of its country, which the article is about.
    inverse = attribute == "country of capital"
    subject = asked_of(entity)["capital"][0][0] if inverse else entity.title
    yield "slots", "0", f"{subject} [SEP] {RELATIONS[attribute].label}", answers


def _claims(entity: Entity, attribute: str, value: str, others: Others, seed: int) -> _Found:
    relation = RELATIONS[attribute]
    if relation.claim is None:
        return
    wrong = others.false_value(entity, attribute, Random(f"{seed}/claims/{entity.title}/{attribute}"))
    if wrong is not None:
        subject = subject_of(entity)
        yield "facts", "true", claim(relation, subject, value), (SUPPORTS,)
        yield "facts", "false", claim(relation, subject, wrong), (REFUTES,)


def _text(entity: Entity, seed: int) -> str:
    """The article's plain text as the readers of a dump have it."""
    prose = "\n".join(
        paragraph for section in article_of(entity, seed).sections for paragraph in section.prose
    )
    return markup.plain(_CONVERTED.sub(lambda digits: f"{int(digits[0]):,}", prose))


def _answers(values: Sequence[str], text: str) -> list[str]:
    """The values that stand in the text and are short enough to be an answer."""
    return [value for value in values if value in text and len(value.split()) <= ANSWER_WORDS]


def _given_away(answers: Sequence[str], question: str) -> bool:
    """Whether the question holds its answer, as "Mexico City is the capital of which country?" does."""
    words = _WORD.findall(question)
    return any(set(_WORD.findall(answer)) <= set(words) for answer in answers)
