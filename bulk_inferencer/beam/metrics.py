"""Beam metrics, for display only: some runners count failed attempts too."""

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
    """Work that Beam metrics count too. Beam must be running a step on the calling thread."""

    def count(self, name: str) -> None:
        super().count(name)
        Metrics.counter(NAMESPACE, name).inc()

    def observe(self, name: str, value: int) -> None:
        super().observe(name, value)
        Metrics.distribution(NAMESPACE, name).update(value)
