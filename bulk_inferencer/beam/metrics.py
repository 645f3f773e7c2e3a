"""Beam counters, for display: some runners report attempts, so results never rest on them."""

from __future__ import annotations

from apache_beam.metrics import Metrics

NAMESPACE = "bulk_inferencer"


def count(examples_read: int, predictions_written: int, examples_failed: int) -> None:
    """Adds records to the counters."""
    Metrics.counter(NAMESPACE, "examples_read").inc(examples_read)
    Metrics.counter(NAMESPACE, "predictions_written").inc(predictions_written)
    Metrics.counter(NAMESPACE, "examples_failed").inc(examples_failed)
