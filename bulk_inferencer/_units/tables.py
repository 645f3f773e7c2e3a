"""The sinks of tables, whose columns are decided before a run for all of its shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from bulk_inferencer._formats.table_schema import (
    Types,
    kept_of,
    prediction_columns,
    schema_to_text,
)
from bulk_inferencer._formats.table_settings import TableSettings
from bulk_inferencer._formats.table_writer import check_writable
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.sinks.failure_table import FailureTable
from bulk_inferencer._units.sinks.prediction_table import PredictionTable
from bulk_inferencer._units.sinks.sink import Sink


def table_sinks(
    settings: TableSettings,
    *,
    table: str,
    summary: str,
    types: Mapping[str, Types],
    kept: pa.Schema | None,
    routing: SplitRouting | None = None,
    names_models: bool = False,
    splits: Sequence[str] = (),
    has_keys: bool = False,
) -> tuple[Sink, ...]:
    """Returns the sinks of the predictions and of the failures as tables.

    Args:
      settings: of both tables.
      table: the folder of the predictions.
      summary: the folder of the failures.
      types: what the outputs of each model are like.
      kept: the features of the inputs that can be kept; None if they have none.
      routing: which model a record goes to; None for each of them.
      names_models: whether results carry the names of the models.
      splits: all splits of the run.
      has_keys: whether each record is a file, whose path is its key.

    Raises:
      SettingsError: a feature to keep does not exist, a column cannot be written in this format, or
        two columns would have one name.
      ModelError: a table cannot hold an output.
    """
    kept = kept_of(kept, settings)
    is_routed_by_key = bool(routing and routing.split_key)
    has_split = len(splits) > 1
    columns = prediction_columns(
        kept,
        types,
        settings,
        names_models=names_models,
        is_split=routing is not None,
        has_split=has_split,
        has_key=has_keys or is_routed_by_key,
    )
    check_writable(settings.format, columns.schema)
    serialized = kept.serialize().to_pybytes()
    return (
        PredictionTable(table, columns, settings.format, is_routed_by_key),
        FailureTable(summary, serialized, settings.format, names_models, has_split),
    )


def table_schema(sinks: Sequence[Sink]) -> str:
    """Returns the columns of the prediction table as text; empty if no sink writes one."""
    columns = (sink.columns for sink in sinks if isinstance(sink, PredictionTable))
    return next((schema_to_text(own.schema) for own in columns), "")
