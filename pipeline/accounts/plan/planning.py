"""A plan: what building would cost in every way that is asked for, side by side, as one JSON object.

docs/costs.md describes it, docs/plan.schema.json holds it. Terminal tables show this object and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from encoders.t5_config import T5Config
from pipeline.accounts import flops, prices, reading
from pipeline.accounts.plan import estimate, form
from pipeline.accounts.plan.inputs import Chunks, Counts, Machines, Model, Neighbours
from pipeline.accounts.report import serving
from pipeline.accounts.report.form import Serving
from storage import codecs

SCHEMA: Final = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What is to be planned.

    Attributes:
        counts: what there is to encode; `basis` says in words where they come from.
        models: sizes and live proportions, `codecs` their memory's forms: each with each. The counts were
            made with the token limit that they share.
        machines: on what and into which storage.
        retrieved, selected: passages a question retrieves, and GLIMMER keeps.
        months: for how long the memory is kept.
        serving_device: where questions are answered, if not on the build's device.
    """

    counts: Counts
    basis: form.Basis
    models: Sequence[Model]
    codecs: Sequence[str]
    machines: Machines
    prices: prices.Prices
    shard_passages: int | None = None
    chunks: Chunks | None = None
    neighbours: Neighbours | None = None
    retrieved: int = 25
    selected: int = 5
    months: float = 12.0
    serving_device: str = "h100"


def check_codec(name: str) -> None:
    """Refuse an unknown codec, with those that are known."""
    codecs.by_name(name)


def plan_report(asked: Asked) -> form.Plan:
    """The plan as JSON.

    Raises:
        CorpusError: an unknown codec or device, numbers that fit no corpus.
        ValueError: α gives no whole number of layers.
    """
    device = asked.machines.device or asked.prices.device(asked.serving_device)
    rows: list[form.Way] = []
    for model in asked.models:
        for codec in asked.codecs:
            row = estimate.estimate(
                asked.counts,
                model,
                codec,
                asked.machines,
                shard_passages=asked.shard_passages,
                chunks=asked.chunks,
                neighbours=asked.neighbours,
            )
            months = {name: row_.month(row.bytes.total) for name, row_ in asked.prices.storage.items()}
            served = _serving(row, model, asked, device)
            rows.append({**row.to_json(), "month": months, "serving": served})
    return {
        "kind": "plan",
        "schema": SCHEMA,
        "basis": asked.basis,
        "counts": asked.counts.to_json(),
        "max_tokens": asked.models[0].memory.max_tokens,
        "read": {
            "memory": reading.to_json(asked.counts.memory_read),
            "retriever": reading.to_json(asked.counts.retriever_read),
        },
        "machines": asked.machines.to_json(),
        "ways": rows,
        "prices_by_name": list(asked.prices.storage),
        "prices": prices.listed(asked.prices.origin, [device], asked.prices.storage.values()),
        "warnings": list(_warnings(asked)),
        "refused": [f"{_named(row)}, {row['codec']}: {reason}" for row in rows for reason in row["refused"]],
    }


def _named(row: form.Way) -> str:
    alpha = row["live_proportion"]
    return row["model"] if alpha is None else f"{row['model']}, α = {alpha}"


def _warnings(asked: Asked) -> Iterator[str]:
    """What the models could not read of much, and what is left out of the figures."""
    memory, retriever = asked.counts.memory_read, asked.counts.retriever_read
    model = asked.models[0]
    yield from reading.of_memory(reading.to_json(memory), limit=model.memory.max_tokens)
    yield from reading.of_retriever(reading.to_json(retriever), limit=model.retriever.max_tokens)
    if model.retriever.token_weights is None:
        yield (
            f"retriever: its FLOPs are not counted, since its architecture ({model.retriever.kind}) "
            "is not known here"
            + ("; hours and prices are of the memory encoder alone" if asked.machines.rates is None else "")
        )


def _serving(row: estimate.Estimate, model: Model, asked: Asked, device: prices.Device) -> Serving | None:
    """Questions and break-even of a way; None with α = 1, which leaves nothing to read, and for encoders of
    which the cost of a reader is not known here."""
    alpha = model.memory.live_proportion
    if alpha is None or alpha >= 1 or not isinstance(model.config, T5Config):
        return None
    readers = [
        flops.Reader(
            name=name,
            layers=model.config.layers,
            width=model.config.d_model,
            retrieved=asked.retrieved,
            selected=min(asked.selected, asked.retrieved),
            live_proportion=alpha,
            input_tokens=flops.QUESTION_TOKENS + model.memory.max_tokens,
        )
        for name in flops.READERS
    ]
    utilisation = asked.machines.utilisation
    hours = row.accelerator_hours
    if hours is None:
        hours = row.memory_flops / (device.tflops * flops.TERA * utilisation) / serving.HOUR
    before = serving.Beforehand(
        tokens=asked.counts.tokens,
        tokens_per_passage=asked.counts.tokens / asked.counts.passages,
        token_bytes=row.token_bytes,
        memory_bytes=row.bytes.memory,
        hours=hours,
        live_proportion=alpha,
        files=row.bytes.files,
    )
    site = serving.Site(
        device=device, utilisation=utilisation, storage=asked.machines.storage, months=asked.months
    )
    return serving.serving(readers, before, site)
