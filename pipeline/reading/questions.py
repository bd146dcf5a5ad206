"""Questions of a task file, and the passages that were retrieved for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.kilt import tasks
from pipeline.kilt.tasks import Example, KiltError
from retrieval.corpus import Corpus
from storage import files

# Questions embedded and searched for at a time.
SEARCH_BATCH = 256
# Passages looked through at a time.
SCAN = 65_536


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task's examples, with the passages retrieved for each.

    Args:
        name: such as "nq".
        examples: of the file, in its order.
        passage_ids: int64 [examples, k], best first.
        digest: SHA-256 of the file.
    """

    name: str
    examples: tuple[Example, ...]
    passage_ids: npt.NDArray[np.int64]
    digest: str

    def __len__(self) -> int:
        return len(self.examples)

    def only(self, rows: Sequence[int]) -> Task:
        """Some of the examples."""
        return Task(
            name=self.name,
            examples=tuple(self.examples[row] for row in rows),
            passage_ids=self.passage_ids[list(rows)],
            digest=self.digest,
        )


def load_task(
    name: str,
    path: Path,
    corpus: Corpus,
    *,
    retrieved: int,
    keep_in: Path | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> Task:
    """Read a task file, and search the corpus for its questions.

    Args:
        name: of the task.
        path: its file, as `pipeline.kilt` reads it.
        corpus: what is searched.
        retrieved: k.
        keep_in: a folder where the ids found are kept for the next time.
        on_batch: called with the questions searched for so far, and with how many there are.

    Raises:
        KiltError: the file cannot be used, or is empty.
    """
    if not path.is_file():
        raise KiltError(f"{path} is not there; give a task file of KILT's format")
    examples = tuple(tasks.read_examples(path))
    if not examples:
        raise KiltError(f"{path} holds no examples")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    found = _kept(keep_in, name, digest, corpus, (len(examples), retrieved))
    if found is None:
        found = np.empty((len(examples), retrieved), np.int64)
        for start in range(0, len(examples), SEARCH_BATCH):
            batch = [example.input for example in examples[start : start + SEARCH_BATCH]]
            found[start : start + len(batch)] = corpus.search(batch, retrieved).passage_ids
            if on_batch is not None:
                on_batch(start + len(batch), len(examples))
        if keep_in is not None:
            keep_in.mkdir(parents=True, exist_ok=True)
            files.write_atomic(_path(keep_in, name, digest, corpus, retrieved), found.tobytes())
    return Task(name=name, examples=examples, passage_ids=found, digest=digest)


def relevant(task: Task, corpus: Corpus) -> Task:
    """The examples of a task for which a page of their provenance, or an answer's text, was retrieved.

    Source: Hofstätter et al. 2022, section 3 (training pairs are filtered by relevance); PAPERS: Training.
    """
    unique, back = np.unique(task.passage_ids, return_inverse=True)
    table = corpus.passages(unique).select(["page_id", "text"]).to_pydict()
    pages = [str(page) for page in table["page_id"]]
    rows = []
    for row, (example, places) in enumerate(
        zip(task.examples, back.reshape(task.passage_ids.shape), strict=True)
    ):
        wanted = {page.wikipedia_id for output in example.outputs for page in output.provenance or ()}
        answers = [answer.lower() for answer in example.answers]
        if any(
            pages[place] in wanted or any(answer in table["text"][place].lower() for answer in answers)
            for place in places
        ):
            rows.append(row)
    return task.only(rows)


def with_gold(task: Task, corpus: Corpus) -> Task:
    """The task with a passage of its provenance among those of every example that names a page.

    Where none was retrieved the last one gives way to the page's first passage that holds an answer, or
    else to the page's first passage. Of those retrieved for an answer that stands in a text (not for a
    verdict such as SUPPORTS), one that holds it counts alone.
    """
    wanted = [
        {page.wikipedia_id for output in example.outputs for page in output.provenance or ()}
        for example in task.examples
    ]
    pages = set().union(*wanted)
    of_page: dict[str, list[tuple[int, str]]] = {}
    for start in range(0, len(corpus), SCAN):
        table = corpus.passages(np.arange(start, min(start + SCAN, len(corpus))))
        columns = table.select(["page_id", "text"]).to_pydict()
        for place, (page, text) in enumerate(zip(columns["page_id"], columns["text"], strict=True)):
            if str(page) in pages:
                of_page.setdefault(str(page), []).append((start + place, text))
    ids = task.passage_ids.copy()
    for row, (example, named) in enumerate(zip(task.examples, wanted, strict=True)):
        told = [passage for page in sorted(filter(None, named)) for passage in of_page.get(page, [])]
        holding = [i for i, text in told if any(answer in text for answer in example.answers)]
        right = set(holding or [i for i, _ in told])
        if right and not right & set(ids[row].tolist()):
            ids[row, -1] = holding[0] if holding else told[0][0]
    return Task(name=task.name, examples=task.examples, passage_ids=ids, digest=task.digest)


def _path(folder: Path, name: str, digest: str, corpus: Corpus, retrieved: int) -> Path:
    vectors = corpus.vectors_card.fingerprint
    return folder / f"{name}-{digest[:16]}-{vectors[:16]}-{len(corpus)}-{retrieved}.ids"


def _kept(
    folder: Path | None, name: str, digest: str, corpus: Corpus, shape: tuple[int, int]
) -> npt.NDArray[np.int64] | None:
    """What an earlier search found, if it looked for as many passages, or for more."""
    if folder is None:
        return None
    pattern = _path(folder, name, digest, corpus, 0).name.replace("-0.ids", "-*.ids")
    for path in sorted(folder.glob(pattern)):
        retrieved = int(path.stem.rpartition("-")[2])
        if retrieved >= shape[1] and path.stat().st_size == 8 * shape[0] * retrieved:
            found = np.frombuffer(path.read_bytes(), np.int64).reshape(shape[0], retrieved)
            return found[:, : shape[1]].copy()
    return None
