"""Questions of a task file, and the passages that were retrieved for them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from pipeline.readers.kilt import tasks
from pipeline.readers.kilt.tasks import Example, KiltError
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
        passage_ids: int64 [examples, k], best first; k is 0 before anything was retrieved.
        digest: SHA-256 of the file.
    """

    name: str
    examples: tuple[Example, ...]
    passage_ids: npt.NDArray[np.int64]
    digest: str

    def __len__(self) -> int:
        return len(self.examples)

    def first(self, count: int) -> Task:
        """At most that many examples from the beginning."""
        return self.only(range(min(count, len(self))))

    def only(self, rows: Sequence[int]) -> Task:
        """Some of the examples."""
        return Task(
            name=self.name,
            examples=tuple(self.examples[row] for row in rows),
            passage_ids=self.passage_ids[list(rows)],
            digest=self.digest,
        )


def read_task(name: str, path: Path) -> Task:
    """Read a task file; nothing is retrieved yet.

    Args:
        name: of the task.
        path: its file, as `pipeline.readers.kilt` reads it.

    Raises:
        KiltError: the file cannot be used, is empty, or has examples without an answer.
    """
    if not path.is_file():
        raise KiltError(f"{path} is not there; give a task file of KILT's format")
    examples = tuple(tasks.read_examples(path))
    if not examples:
        raise KiltError(f"{path} holds no examples")
    if unanswered := [example.id for example in examples if not example.answers]:
        raise KiltError(
            f"{len(unanswered):,} examples of {path} have no answer, the first is {unanswered[0]!r}; "
            "is it a test file?"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Task(
        name=name, examples=examples, passage_ids=np.empty((len(examples), 0), np.int64), digest=digest
    )


def retrieve(
    task: Task,
    corpus: Corpus,
    *,
    retrieved: int,
    keep_in: Path,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Task:
    """The task with the passages that a search finds for its questions.

    Args:
        task: of `read_task`, whole.
        corpus: what is searched.
        retrieved: k.
        keep_in: a folder where the ids found are kept for the next time.
        on_batch: called with the questions searched for so far, and with how many there are.
    """
    found = _kept(keep_in, task, corpus, retrieved)
    if found is None:
        found = np.empty((len(task), retrieved), np.int64)
        for start in range(0, len(task), SEARCH_BATCH):
            batch = [example.input for example in task.examples[start : start + SEARCH_BATCH]]
            found[start : start + len(batch)] = corpus.search(batch, retrieved).passage_ids
            on_batch(start + len(batch), len(task))
        keep_in.mkdir(parents=True, exist_ok=True)
        data = found.tobytes()
        path = path_of(keep_in, task, corpus, retrieved)
        files.write_atomic(path, data + crc32c(data).to_bytes(4, "little"))
    return dataclasses.replace(task, passage_ids=found)


def load_task(name: str, path: Path, corpus: Corpus, *, retrieved: int, keep_in: Path) -> Task:
    """A task file's examples with the passages retrieved for them: `read_task`, then `retrieve`."""
    return retrieve(read_task(name, path), corpus, retrieved=retrieved, keep_in=keep_in)


def relevant(task: Task, corpus: Corpus) -> Task:
    """The examples of a task for which something relevant was retrieved: a page of their provenance, or,
    of an example that names no page, a passage with an answer in its text.

    Where pages are named the text is not looked at: "supports" stands in many a passage.

    Source: Hofstätter et al. 2022, section 3 (training pairs are filtered by relevance); PAPERS: Training.
    """
    rows: list[int] = []
    for start in range(0, len(task), SEARCH_BATCH):
        ids = task.passage_ids[start : start + SEARCH_BATCH]
        unique = np.unique(ids[ids >= 0])
        table = corpus.passages(unique, columns=["page_id", "text"]).to_pydict()
        page = dict(zip(unique.tolist(), map(str, table["page_id"]), strict=True))
        text = dict(zip(unique.tolist(), (t.lower() for t in table["text"]), strict=True))
        for row, found in enumerate(ids.tolist(), start):
            example, there = task.examples[row], [i for i in found if i >= 0]
            wanted = {p.wikipedia_id for output in example.outputs for p in output.provenance or ()}
            answers = [answer.lower() for answer in example.answers]
            if (
                any(page[i] in wanted for i in there)
                if wanted
                else any(answer in text[i] for i in there for answer in answers)
            ):
                rows.append(row)
    return task.only(rows)


def with_gold(task: Task, corpus: Corpus) -> Task:
    """The task with a passage that tells the answer first, for every example that names a page.

    It is the first retrieved of a page of the provenance, and where the answer stands in a text (not for a
    verdict such as SUPPORTS), of those that hold it. Where none was retrieved the last one gives way to the
    page's first such passage.
    """
    wanted = [
        {page.wikipedia_id for output in example.outputs for page in output.provenance or ()}
        for example in task.examples
    ]
    pages = set().union(*wanted)
    of_page: dict[str, list[tuple[int, str]]] = {}
    every = corpus.passage_ids
    for start in range(0, len(every), SCAN):
        some = every[start : start + SCAN]
        columns = corpus.passages(some, columns=["page_id", "text"]).to_pydict()
        for passage, page, text in zip(some.tolist(), columns["page_id"], columns["text"], strict=True):
            if str(page) in pages:
                of_page.setdefault(str(page), []).append((passage, text))
    ids = task.passage_ids.copy()
    for row, (example, named) in enumerate(zip(task.examples, wanted, strict=True)):
        told = [passage for page in sorted(filter(None, named)) for passage in of_page.get(page, [])]
        holding = [i for i, text in told if any(answer in text for answer in example.answers)]
        right = holding or [i for i, _ in told]
        if right:
            before = ids[row].tolist()
            gold = next((i for i in before if i in set(right)), right[0])
            ids[row] = [gold, *(i for i in before if i != gold)][: len(before)]
    return Task(name=task.name, examples=task.examples, passage_ids=ids, digest=task.digest)


def path_of(folder: Path, task: Task, corpus: Corpus, retrieved: int) -> Path:
    """Where what was retrieved for a task is kept: of the same vectors of the same passages."""
    vectors = corpus.vectors_card.fingerprint
    # Another generation has other passages, maybe as many.
    passages = f"{len(corpus)}" + (f".{corpus.generation}" if corpus.generation else "")
    return folder / f"{task.name}-{task.digest[:16]}-{vectors[:16]}-{passages}-{retrieved}.ids"


def _kept(folder: Path, task: Task, corpus: Corpus, retrieved: int) -> npt.NDArray[np.int64] | None:
    """What an earlier search found, if it looked for as many passages, or for more, and is whole."""
    pattern = path_of(folder, task, corpus, 0).name.replace("-0.ids", "-*.ids")
    for path in sorted(folder.glob(pattern)):
        there = int(path.stem.rpartition("-")[2])
        data = files.read_bytes(path) if there >= retrieved else b""
        if len(data) != 8 * len(task) * there + 4:
            continue
        if crc32c(data[:-4]) == int.from_bytes(data[-4:], "little"):
            found = np.frombuffer(data[:-4], np.int64).reshape(len(task), there)
            return found[:, :retrieved].copy()
    return None
