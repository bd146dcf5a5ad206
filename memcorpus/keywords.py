"""The keywords of `memcorpus.build` and `memcorpus.plan`, for type checkers and editors.

What each means, and what it is when left out, stands with the settings that they become:
`pipeline.components.settings.BuildSettings` and `pipeline.accounts.plan.asking.PlanSettings`. A test holds
the names together.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypedDict


class BuildKeywords(TypedDict, total=False):
    """Settings of a build; the first four must be given, here or in its `config`."""

    sources: str | Sequence[str]
    retriever: str
    memory_encoder: str
    live_proportion: Fraction | str
    codec: str
    compute_dtype: str
    token_budget: int
    max_tokens: int
    passage_words: int
    keep_sections: bool
    templates: str | None
    passage_tokens: int | None
    tokenizer: str | None
    memory_template: str
    retriever_template: str
    vector_dtype: str
    retriever_backend: str | None
    index_recall: float | None
    shard_passages: int | None
    split_bytes: int
    max_quarantined: float
    shard_timeout: float | None
    device: str
    model_parallel: int | None


class PlanKeywords(TypedDict, total=False):
    """What is asked of a plan: a source or counts, models, machines, questions."""

    sources: str | Sequence[str]
    sample: float | None
    passages: float | None
    tokens_per_passage: float | None
    text_bytes: float | None
    memory_encoder: str | None
    sizes: str | Sequence[str]
    retriever: str | None
    live_proportions: Fraction | str | Sequence[Fraction | str]
    codecs: str | Sequence[str]
    max_tokens: int
    passage_words: int
    keep_sections: bool
    templates: str | None
    passage_tokens: int | None
    tokenizer: str | None
    neighbours: int | None
    probes: int | None
    shard_passages: int | None
    device: str | None
    workers: int
    utilisation: float
    storage: str
    out: str | Path | None
    calibrate: bool | None
    retrieved: int
    selected: int
    months: float
    price_file: str | Path | None
