"""Beam metrics, for display only: some runners count failed attempts too."""

from __future__ import annotations

from apache_beam.metrics import Metrics

from bulk_inferencer._work import Work

NAMESPACE = "bulk_inferencer"


def count(examples_read: int, predictions_written: int, examples_failed: int) -> None:
    """Adds records to the counters."""
    _inc("examples_read", examples_read)
    _inc("predictions_written", predictions_written)
    _inc("examples_failed", examples_failed)


class MeteredWork(Work):
    """Work that Beam metrics count too, also by the names of Beam's own `RunInference`.

    Beam must be running a step on the calling thread.
    """

    def called(self, records: int, record_bytes: int, seconds: float) -> None:
        super().called(records, record_bytes, seconds)
        _inc("num_inferences", records)
        _update("inference_request_batch_size", records)
        _update("inference_request_batch_byte_size", record_bytes)
        _update("inference_batch_latency_micro_secs", round(1_000_000 * seconds))

    def loaded(self, seconds: float, bytes_gained: int) -> None:
        super().loaded(seconds, bytes_gained)
        _update("load_model_latency_milli_secs", round(1000 * seconds))
        _update("model_byte_size", bytes_gained)

    def count(self, name: str) -> None:
        super().count(name)
        _inc(name, 1)

    def observe(self, name: str, value: int) -> None:
        super().observe(name, value)
        _update(name, value)


class NotedWork(Work):
    """Work that is metered later, since it may be done in another process than the step."""

    def __init__(self) -> None:
        super().__init__()
        self._counted: list[str] = []
        self._observed: list[tuple[str, int]] = []

    def count(self, name: str) -> None:
        self._counted.append(name)

    def observe(self, name: str, value: int) -> None:
        self._observed.append((name, value))

    def meter(self) -> None:
        """Counts all in Beam metrics. Beam must be running a step on the calling thread."""
        for name in self._counted:
            _inc(name, 1)
        for name, value in self._observed:
            _update(name, value)


def _inc(name: str, value: int) -> None:
    Metrics.counter(NAMESPACE, name).inc(value)


def _update(name: str, value: int) -> None:
    Metrics.distribution(NAMESPACE, name).update(value)
