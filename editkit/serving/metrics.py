"""Numbers of the server for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The numbers of one server; each has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "editkit_requests", "Requests answered.", ("path", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "editkit_request_seconds",
            "Seconds from a request's first byte to its answer.",
            ("path",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.held = Gauge("editkit_edits_held", "Edits waiting and running.", registry=self.registry)
        self.batches = Histogram(
            "editkit_batch_edits", "Edits in a batch.", buckets=SIZES, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "editkit_batch_seconds", "Seconds of a batch.", buckets=SECONDS, registry=self.registry
        )
        self.edits = Counter("editkit_edits", "Edits by outcome.", ("outcome",), registry=self.registry)

    def text(self) -> bytes:
        """Return all numbers in Prometheus' text format."""
        return generate_latest(self.registry)
