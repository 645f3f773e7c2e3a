"""Beam metrics, for display: some runners report attempts, so results never rest on them."""

from __future__ import annotations

from apache_beam.metrics import Metrics

from bulk_inferencer._work import Work

NAMESPACE = "bulk_inferencer"


def count(examples_read: int, predictions_written: int, examples_failed: int) -> None:
    """Adds records to the counters."""
    Metrics.counter(NAMESPACE, "examples_read").inc(examples_read)
    Metrics.counter(NAMESPACE, "predictions_written").inc(predictions_written)
    Metrics.counter(NAMESPACE, "examples_failed").inc(examples_failed)


class MeteredWork(Work):
    """Work that is counted in Beam metrics too. Only for a thread on which Beam runs a step."""

    def count(self, name: str) -> None:
        """See `Work.count`."""
        super().count(name)
        Metrics.counter(NAMESPACE, name).inc()

    def observe(self, name: str, value: int) -> None:
        """See `Work.observe`."""
        super().observe(name, value)
        Metrics.distribution(NAMESPACE, name).update(value)
