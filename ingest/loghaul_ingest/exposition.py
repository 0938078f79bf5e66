"""Numbers as Prometheus wants them: read when somebody scrapes, written by its own client.

prometheus-client is imported when a `Registry` is made, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from loghaul_ingest.errors import UsageError
from loghaul_ingest.metrics import COUNTER, METRICS, Sample


class Registry:
    """What a process exposes: its samples and histograms, and what the process uses."""

    def __init__(self, samples: Callable[[], Iterable[Sample]]) -> None:
        """`samples` is called for every scrape, from a thread of its own.

        Raises UsageError where prometheus-client is not installed.
        """
        try:
            import prometheus_client
            from prometheus_client import exposition
        except ModuleNotFoundError as error:
            raise UsageError(
                "--listen needs prometheus-client: install 'loghaul[metrics]'"
            ) from error
        self._samples = samples
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(self)
        self._content_type = exposition.CONTENT_TYPE_LATEST
        self._generate = exposition.generate_latest
        prometheus_client.ProcessCollector(registry=self._registry)

    def histogram(self, name: str, bounds: Sequence[float]) -> Any:
        """Return a histogram of prometheus-client."""
        import prometheus_client

        _, text, labels = METRICS[name]
        return prometheus_client.Histogram(
            name, text, labels, buckets=bounds, registry=self._registry
        )

    def exposition(self) -> tuple[str, bytes]:
        """Return (content type, body) of a scrape."""
        return self._content_type, self._generate(self._registry)

    def describe(self) -> Iterator[Any]:
        """Nothing is collected before somebody scrapes."""
        return iter(())

    def collect(self) -> Iterator[Any]:
        """Yield the samples as prometheus-client has them."""
        from prometheus_client import core

        info = core.InfoMetricFamily("loghaul", "This process.")
        info.add_metric((), {"version": _version()})
        yield info
        for name, value in self._samples():
            kind, text, labels = METRICS[name]
            made = (
                core.CounterMetricFamily(name, text, labels=labels)
                if kind == COUNTER
                else core.GaugeMetricFamily(name, text, labels=labels)
            )
            # A copy in one step: the worker's thread goes on counting.
            found = dict(value) if isinstance(value, Mapping) else {(): value}
            for of, number in found.items():
                made.add_metric(of if isinstance(of, tuple) else (of,), number)
            yield made


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("loghaul")
    except PackageNotFoundError:
        return "unknown"


def cause(error: Exception | str) -> str:
    """Return why, as one of few words: a label must not grow with what is in a message.

    An error says it by its `kind` (the store's own word), its `status`, or its class; a text by
    what stands before its colon.
    """
    if isinstance(error, str):
        return error.partition(":")[0][:60]
    if kind := getattr(error, "kind", ""):
        return str(kind)
    status = getattr(error, "status", None)
    if status is not None:
        return f"status {status}" if status else "no answer"
    return type(error).__name__
