"""Prediction files, as KILT's scorer reads them: one output a line, its pages in the order of their rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.readers.kilt import tasks
from pipeline.readers.kilt.tasks import KiltError, Output, Provenance
from storage.aliases import Json


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What a reader answers to one example.

    Args:
        id: the example's.
        input: the example's; it is written for people, and the scorer ignores it.
        answer: the text; None where only pages were looked for.
        provenance: the pages of the passages used, best first. A page may come several times.
    """

    id: str
    input: str = ""
    answer: str | None
    provenance: tuple[Provenance, ...] = ()

    def to_json(self) -> Json:
        """As KILT has it."""
        output = Output(answer=self.answer, provenance=self.provenance)
        return {"id": self.id, "input": self.input, "output": [output.to_json()]}


def read_predictions(path: Path | str) -> Iterator[Prediction]:
    """The predictions of a file, one line at a time.

    Raises:
        KiltError: a line is no prediction, has not exactly one output, or its id came before.
        OSError: the file cannot be read.
    """
    for where, record in tasks.read_records(path):
        outputs = tasks.outputs(record, where)
        if len(outputs) != 1:
            raise KiltError(f"{where} has {len(outputs)} outputs, wanted one: its answer and its pages")
        text = record.get("input")
        yield Prediction(
            id=tasks.identifier(record, where),
            input=text if isinstance(text, str) else "",
            answer=outputs[0].answer,
            provenance=outputs[0].provenance or (),
        )


def write_predictions(path: Path | str, predictions: Iterable[Prediction]) -> int:
    """Write a prediction file, whole or not at all; returns the number of lines."""
    return tasks.write_records(path, (prediction.to_json() for prediction in predictions))
