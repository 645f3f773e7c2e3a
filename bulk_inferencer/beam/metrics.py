"""Beam counters, for display: some runners report attempts, so results never rest on them."""

from __future__ import annotations

from apache_beam.metrics import Metrics

from bulk_inferencer.units.manifest import Manifest

NAMESPACE = "bulk_inferencer"


def count(manifest: Manifest) -> None:
    """Adds a finished unit to the counters."""
    for name in ("examples_read", "predictions_written", "examples_failed"):
        Metrics.counter(NAMESPACE, name).inc(getattr(manifest, name))
