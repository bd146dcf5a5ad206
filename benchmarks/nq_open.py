"""NQ-open's questions (`{"question": ..., "answer": [...]}` a line) as a KILT task without provenance.

    python -m benchmarks.nq_open NQ-open.dev.jsonl OUT.jsonl

NQ-open says nothing about pages, so that only answers can be scored (Lee et al. 2019, arXiv 1906.00300).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator

from pipeline.readers import kilt
from pipeline.readers.kilt import Example, Output


def task(lines: Iterable[str]) -> Iterator[Example]:
    """The questions; their ids are the lines' numbers, from 1."""
    for number, line in enumerate(lines, 1):
        record = json.loads(line)
        answers = tuple(Output(answer=answer) for answer in record["answer"])
        yield Example(id=str(number), input=record["question"], outputs=answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("questions")
    parser.add_argument("out")
    arguments = parser.parse_args()
    with open(arguments.questions, encoding="utf-8") as lines:
        count = kilt.write_examples(arguments.out, task(lines))
    print(f"{arguments.out}: {count:,} questions")


if __name__ == "__main__":
    main()
