"""The scores of KILT's own evaluation, number for number.

Answers: accuracy (the text as it stands), exact match and F1 (after `normalized`), ROUGE-L; each is the
best over the answers that count as right. Pages: R-precision and recall@k. A KILT score counts an
answer only where the R-precision is 1: right, and for the right reason.

Source: facebookresearch/KILT, kilt/eval_downstream.py and kilt/eval_retrieval.py; SQuAD's normalization
(Rajpurkar et al. 2016); ROUGE-L as the package `rouge` 1.0.1 has it, which KILT uses.
"""

from __future__ import annotations

import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.readers.kilt.predictions import Prediction
from pipeline.readers.kilt.tasks import Example, KiltError, Provenance

DEFAULT_KS: Final = (1, 5)
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Keeps ROUGE-L's denominator from 0; part of the score as it is published.
_ROUGE_EPSILON: Final = 1e-8


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """The means over a file's examples, under the names that KILT's own evaluation gives them.

    Args:
        examples: how many there are.
        downstream: accuracy, em, f1, rougel; empty where no prediction has an answer.
        kilt: KILT-accuracy and so on; empty where one of the other two is.
        retrieval: Rprec, recall@k; empty where no example names a page (then there is nothing to find).
    """

    examples: int
    downstream: Mapping[str, float]
    kilt: Mapping[str, float]
    retrieval: Mapping[str, float]

    def as_dict(self) -> dict[str, int | dict[str, float]]:
        """Plain values, ready for JSON."""
        return {
            "examples": self.examples,
            "downstream": dict(self.downstream),
            "kilt": dict(self.kilt),
            "retrieval": dict(self.retrieval),
        }


def evaluate(
    examples: Iterable[Example], predictions: Iterable[Prediction], *, ks: Sequence[int] = DEFAULT_KS
) -> Scores:
    """Score predictions, in any order, against the examples of the same ids.

    Args:
        examples: with answers, or with pages alone where the predictions have no answers either.
        predictions: one for each example.
        ks: at which ranks recall is taken, in pages.

    Raises:
        KiltError: an example has no prediction or a prediction no example, some predictions have
            an answer and others have none, or an example has no answer to compare with.
    """
    if not ks or min(ks) < 1:
        raise KiltError(f"recall is asked at {list(ks)}, wanted ranks of at least 1")
    by_id = {prediction.id: prediction for prediction in predictions}
    gold = list(examples)
    _check_ids(gold, by_id)
    answered = _all_or_none(by_id)
    with_pages = any(output.provenance for example in gold for output in example.outputs)
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for example in gold:
        prediction = by_id[example.id]
        precision = r_precision(prediction.provenance, example)
        sums["retrieval"]["Rprec"] += precision
        for k in ks:
            sums["retrieval"][f"recall@{k}"] += recall_at(k, prediction.provenance, example)
        if not answered:
            continue
        if not example.answers:
            raise KiltError(f"example {example.id!r} has no answer to compare with; is it of a test file?")
        for name, value in _answer_scores(prediction.answer or "", example.answers).items():
            sums["downstream"][name] += value
            sums["kilt"][f"KILT-{name}"] += value * (precision == 1)
    means = {
        part: {name: total / len(gold) for name, total in totals.items()} for part, totals in sums.items()
    }
    return Scores(
        examples=len(gold),
        downstream=means["downstream"] if answered else {},
        kilt=means["kilt"] if answered and with_pages else {},
        retrieval=means["retrieval"] if with_pages else {},
    )


def _check_ids(gold: Sequence[Example], by_id: Mapping[str, Prediction]) -> None:
    ids = {example.id for example in gold}
    missing = [example.id for example in gold if example.id not in by_id]
    unknown = [name for name in by_id if name not in ids]
    if not gold:
        raise KiltError("there are no examples to score; is the task file empty?")
    if missing:
        raise KiltError(
            f"{len(missing):,} of {len(gold):,} examples have no prediction, the first is {missing[0]!r}; "
            f"{len(unknown):,} predictions are for other ids. Is it the prediction file of another task?"
        )
    if unknown:
        raise KiltError(
            f"{len(unknown):,} of {len(by_id):,} predictions are for ids that the task file has not, the "
            f"first is {unknown[0]!r}; is a part of the task file missing?"
        )


def _all_or_none(by_id: Mapping[str, Prediction]) -> bool:
    without = [name for name, prediction in by_id.items() if prediction.answer is None]
    if without and len(without) < len(by_id):
        raise KiltError(
            f"{len(without):,} of {len(by_id):,} predictions have no answer, the first is {without[0]!r}; "
            "give each one (it may be empty), or none, to score pages alone"
        )
    return not without


def _answer_scores(answer: str, right: Sequence[str]) -> dict[str, float]:
    answer = answer.strip()
    if not answer:  # 0, even where a right answer normalizes to nothing ("The")
        return dict.fromkeys(("accuracy", *_BEST_OF), 0.0)
    best = {name: max(score(answer, one) for one in right) for name, score in _BEST_OF.items()}
    return {"accuracy": float(answer in right), **best}


def normalized(text: str) -> str:
    """`text` in lower case, without punctuation, English articles and superfluous blanks."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, right: str) -> float:
    """1 if both are the same once `normalized`."""
    return float(normalized(answer) == normalized(right))


def f1(answer: str, right: str) -> float:
    """Harmonic mean of precision and recall over the words of both, `normalized`."""
    found, wanted = normalized(answer).split(), normalized(right).split()
    common = (Counter(found) & Counter(wanted)).total()
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def rouge_l(answer: str, right: str) -> float:
    """ROUGE-L of whole texts, over distinct words and not normalized.

    The words of the longest common subsequences of every pair of sentences (what stands between full
    stops) are gathered in one set; precision and recall are its size over the distinct words of each.
    """
    found, wanted = _sentences(answer), _sentences(right)
    if not found or not wanted:
        return 0.0
    common = {word for one in wanted for other in found for word in _longest_common(one, other)}
    precision = len(common) / len({word for sentence in found for word in sentence})
    recall = len(common) / len({word for sentence in wanted for word in sentence})
    return 2 * precision * recall / (precision + recall + _ROUGE_EPSILON)


def _sentences(text: str) -> list[list[str]]:
    # Between ". ." stands a sentence of one empty word: part of the score as it is published.
    return [part.split() or [""] for part in text.split(".") if part]


def _longest_common(a: Sequence[str], b: Sequence[str]) -> list[str]:
    """A longest common subsequence; of several, the one that goes furthest in `a`."""
    length = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, word in enumerate(a, 1):
        for j, other in enumerate(b, 1):
            same = word == other
            length[i][j] = length[i - 1][j - 1] + 1 if same else max(length[i - 1][j], length[i][j - 1])
    found, i, j = [], len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            found.append(a[i - 1])
            i, j = i - 1, j - 1
        elif length[i - 1][j] > length[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found


_BEST_OF: Final[dict[str, Callable[[str, str], float]]] = {"em": exact_match, "f1": f1, "rougel": rouge_l}


def pages(provenance: Iterable[Provenance]) -> list[str]:
    """The pages' ids, each once, in the order of their rank."""
    return list(dict.fromkeys(page.wikipedia_id for page in provenance if page.wikipedia_id is not None))


def r_precision(found: Iterable[Provenance], example: Example) -> float:
    """Share of the first R pages found that are among the R pages of an output; of the best output."""
    ranked = pages(found)
    best = 0.0
    for output in example.outputs:
        wanted = pages(output.provenance or ())
        if wanted:
            best = max(best, len(set(ranked[: len(wanted)]) & set(wanted)) / len(wanted))
    return best


def recall_at(k: int, found: Iterable[Provenance], example: Example) -> float:
    """Share of the distinct sets of pages that are complete within the first k ranks.

    The pages found of one set share a rank, that of the last of them: each time another page of a set is
    found, those before it give up theirs, and what is below moves up.
    """
    ranked = pages(found)
    sets: list[set[str | None]] = []
    for output in example.outputs:
        wanted = None if output.provenance is None else {page.wikipedia_id for page in output.provenance}
        if wanted is not None and wanted not in sets:
            sets.append(wanted)
    if not ranked or not sets:
        return 0.0
    # At each rank: the number of a set that still lacks pages, a set that is whole, or a page of none.
    whole, of_none = -1, -2
    rank: list[int] = []
    left = [set(wanted) for wanted in sets]
    for page in ranked:
        holders = [number for number, wanted in enumerate(left) if page in wanted]
        for number in holders:
            left[number].discard(page)
            if number in rank:
                rank.remove(number)
            rank.append(number if left[number] else whole)
        if not holders:
            rank.append(of_none)
    return rank[:k].count(whole) / len(sets)
