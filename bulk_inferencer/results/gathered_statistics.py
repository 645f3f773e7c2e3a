"""Statistics of results whose run wrote none, gathered by reading them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import pyarrow as pa

from bulk_inferencer._formats.table_schema import MODEL, REASON
from bulk_inferencer.results.describe import ModelCounter
from bulk_inferencer.results.log_arrays import LogDecoder
from bulk_inferencer.results.reader import serialized_logs
from bulk_inferencer.results.reasons import merged_reasons
from bulk_inferencer.results.selection import Selection
from bulk_inferencer.results.shards import Shard
from bulk_inferencer.results.statistics import OutputStatistics, Statistics

_ROWS = 1 << 14


def gathered(selection: Selection) -> Statistics:
    """Returns statistics of results with PredictionLogs."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for split in selection.splits:
        tables = selection.failure_tables(_ROWS, split)
        for model, reasons in _failures_by_reason(tables, selection.models[0]).items():
            found.setdefault(model, {})[split] = reasons
    return Statistics(_statistics_of_logs(selection.log_rows().units), found)


def _statistics_of_logs(
    units: Iterable[tuple[str, Mapping[str, Shard | None]]],
) -> dict[str, dict[str, dict[str, OutputStatistics]]]:
    """Returns statistics by model, split and output of units of PredictionLogs; see `LogRows`."""
    counters: defaultdict[str, defaultdict[str, ModelCounter]]
    counters = defaultdict(lambda: defaultdict(ModelCounter))
    decoder = LogDecoder()
    for split, unit in units:
        for model, shard in unit.items():
            for logs in serialized_logs([shard] if shard else []):
                parts = decoder.decode(logs).outputs
                arrays = ((name, values) for name, own in parts.items() for _, values in own)
                counters[model][split].add(len(logs), arrays)
    return {
        model: {split: counter.statistics() for split, counter in own.items()}
        for model, own in counters.items()
    }


def _failures_by_reason(tables: Iterable[pa.Table], model: str) -> dict[str, dict[str, int]]:
    """Returns failures by model and reason.

    Where tables name no models, there is only `model`. Records that reached none have the model "".
    """
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for table in tables:
        reasons = table[REASON].to_pylist()
        models = table[MODEL].to_pylist() if MODEL in table.column_names else [model] * len(reasons)
        for own, reason in zip(models, reasons, strict=True):
            found[own or ""][reason] += 1
    return {own: merged_reasons(reasons) for own, reasons in found.items()}
