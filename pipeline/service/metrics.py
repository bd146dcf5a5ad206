"""What a service counts, in Prometheus' form: requests, seconds by stage, batches, bytes."""

from __future__ import annotations

import os
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector

# Where the workers of one service add up what they count.
FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_COUNTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        if FOLDER not in os.environ:
            ProcessCollector(registry=registry)
        self.requests = Counter(
            "memcorpus_requests", "Requests answered.", ("route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "memcorpus_request_seconds",
            "From a request's head to the last byte of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.stages = Histogram(
            "memcorpus_stage_seconds",
            "Of a batch: embed, search. Of a request: wait, fetch, passages.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.searches = Histogram(
            "memcorpus_batch_searches", "Searches in a batch.", buckets=_COUNTS, registry=registry
        )
        self.queries = Histogram(
            "memcorpus_batch_queries", "Queries in a batch.", buckets=_COUNTS, registry=registry
        )
        self.bytes = Counter("memcorpus_answer_bytes", "Bytes of answers.", ("route",), registry=registry)
        self.switches = Counter(
            "memcorpus_switches", "Switches and updates of the corpus taken up.", registry=registry
        )
        self.waiting = Gauge(
            "memcorpus_waiting_searches",
            "Searches that wait.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.held = Gauge(
            "memcorpus_held_bytes",
            "Bytes of memory on their way.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def batch(self, searches: int, queries: int, embedding: float, searching: float) -> None:
        """Count a batch of searches; see `batching.Told`."""
        self.searches.observe(searches)
        self.queries.observe(queries)
        self.stages.labels("embed").observe(embedding)
        self.stages.labels("search").observe(searching)

    def page(self) -> bytes:
        """All of them as text, those of the service's other workers too."""
        if FOLDER in os.environ:
            together = CollectorRegistry()
            MultiProcessCollector(together)  # type: ignore[no-untyped-call]
            return generate_latest(together)
        return generate_latest(self._registry)
