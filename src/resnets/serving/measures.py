"""What the service counts and times, as Prometheus reads it."""

from collections.abc import Callable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)
_MODEL = "model"


class Measures:
    """The measures of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # its memory and its processor time
        self.requests = self._counter("requests", "Requests by status, 499: client gone", "status")
        self.refusals = self._counter("refusals", "Requests that were refused, by reason", "reason")
        self.dropped = self._counter(
            "dropped",
            "Images given up before or in this stage: client gone or deadline over",
            "stage",
        )
        decoding, inference = "Time to decode and prepare an image", "Time to compute a batch"
        self.decoding = self._histogram("decode_seconds", decoding, _SECONDS)
        self.inference = self._histogram("inference_seconds", inference, _SECONDS)
        self.batches = self._histogram("batch_size", "Images computed at once", _IMAGES)
        self.in_flight = self._gauge("requests_in_flight", "Requests not yet answered")
        self._queue = self._gauge("queue_length", "Images accepted and not yet answered", _MODEL)
        self._working = self._gauge("working", "Images being decoded or computed", _MODEL)

    def _counter(self, name: str, what: str, label: str) -> Counter:
        return Counter(f"resnets_{name}", what, [label], registry=self.registry)

    def _histogram(self, name: str, what: str, buckets: Sequence[float]) -> Histogram:
        labels, registry = [_MODEL], self.registry
        return Histogram(f"resnets_{name}", what, labels, buckets=buckets, registry=registry)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"resnets_{name}", what, labels, registry=self.registry)

    def watch(self, model: str, queued: Callable[[], int], working: Callable[[], int]) -> None:
        """Let two functions say how many images of a model wait and are worked on."""
        self._queue.labels(model).set_function(queued)
        self._working.labels(model).set_function(working)

    def text(self) -> bytes:
        """Return all of them in Prometheus's text format."""
        return generate_latest(self.registry)
