"""The results of a finished run: what it says of itself, and its predictions as rows."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from bulk_inferencer import _files
from bulk_inferencer._access import check_access
from bulk_inferencer._formats.table_writer import table_writer
from bulk_inferencer._gate import BLESSED, NO_BLESSING, NO_MODEL, NOT_BLESSED, Decision
from bulk_inferencer._layout import PARQUET, names_models
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results import display
from bulk_inferencer.results.failures import read_failures
from bulk_inferencer.results.log_kinds import WiderError
from bulk_inferencer.results.log_rows import LogRows
from bulk_inferencer.results.places import Place, find_place, folder_of
from bulk_inferencer.results.reader import RecordPrediction, prediction_of
from bulk_inferencer.results.selection import Selection, select
from bulk_inferencer.results.summary import Counts, Summary
from bulk_inferencer.results.table_rows import ParquetRows

if TYPE_CHECKING:
    import pandas as pd

_T = TypeVar("_T")

_BATCH_ROWS = 1 << 16
_BATCH_BYTES = 64 << 20
_UNKNOWN = Decision(NO_BLESSING, "The results do not say whether the model was blessed.")
_FROM_WORST = (NO_MODEL, NOT_BLESSED, NO_BLESSING, BLESSED)


def read(
    source: Any,
    *,
    split: str | None = None,
    model: str | None = None,
    allow_partial: bool = False,
) -> Results:
    """Reads the results of a finished run.

    ```python
    results = bulk_inferencer.results.read("results")
    results.counts.predictions_written
    results.to_pandas()
    ```

    Args:
      source: the folder of a run, or of one of its outputs, or the artifact of one, or a list or
        channel that holds this artifact alone; ours, and those of TFX's BulkInferrer. Of a run, a
        table in Parquet is read where there is one, and PredictionLogs otherwise; of an output,
        the output itself.
      split: the split to read; default: all of them.
      model: of several models, the one to read; default: all of them.
      allow_partial: whether to read what is there, although files may be missing.

    Returns:
      The results. They are empty if no model was allowed to run, and their `gate` says why.

    Raises:
      InputError: there are no predictions, or they are not complete.
      SettingsError: the source is neither a folder nor an artifact, or there is no such model.
    """
    folder = folder_of(source)
    check_access([folder])
    return read_place(find_place(folder), split, model, allow_partial)


def read_place(
    place: Place, split: str | None = None, model: str | None = None, allow_partial: bool = False
) -> Results:
    """Returns the results at a place; see `read`."""
    return Results(select(place, split, model, allow_partial))


class Results:
    """What a run made: counts, the gate, and predictions as rows of a table.

    ```python
    results = bulk_inferencer.results.read("results")
    for batch in results.batches():
        batch.column("y")
    ```

    A row stands for a record that at least one model has scored. Its columns are those of a
    prediction table: `split` where there are several; the features of the record that hold a
    single value; `variant`, the model's name, in an A/B test; and the outputs. An output of one
    value per record is that value, and any other a list, or a list of lists. Of several models side
    by side, it is `<model>/<output>`, and null where the model failed.

    From PredictionLogs, the columns are the same as in a table, with these limits: features are
    those that the first records of each file have, with the types of tf.Examples; a feature that is
    named like another column becomes `input/<feature>`; text is text where all of it is UTF-8, and
    bytes otherwise; there is no `key`; and the rows of an A/B test come model by model within each
    file. A table in CSV or JSON Lines without the summary of its run does not say which types it
    has: a column has the type that all of its values fit into, and in CSV, lists are JSON.

    Iterating yields the rows as dicts, whatever the run has written. `predictions` yields the
    records themselves, with outputs as arrays.

    Attributes:
      name: the folder that they were read from.
      summary: what the run says of itself; None for results of TFX's BulkInferrer.
      models: the models that were read. One without a name is `inference_result`.
      splits: the splits that were read; none if no model ran, or files do not name them.
    """

    def __init__(self, selection: Selection) -> None:
        """Takes what is read; call `read` instead."""
        self.name = selection.place.name
        self.summary: Summary | None = selection.place.summary
        self.models = selection.models
        self.splits = selection.splits
        self._selection = selection
        self._rows = selection.rows()

    # What the run says

    @property
    def gate(self) -> Decision:
        """Whether models were allowed to run, and why; of several, the least blessed decides."""
        if self.summary is None:
            return _UNKNOWN
        gates = {model: self.summary.branches[model].gate for model in self.models}
        if len(gates) == 1:
            return gates[self.models[0]]
        worst = min((gate.verdict for gate in gates.values()), key=_FROM_WORST.index)
        reason = " ".join(f"Model '{model}': {gate.reason}" for model, gate in gates.items())
        return Decision(worst, reason, any(gate.is_overruled for gate in gates.values()))

    @cached_property
    def counts(self) -> Counts:
        """Records and files of the models and splits that were read.

        A record that two models score counts twice; one that failed before it reached a model, in
        an A/B test, counts in `summary.unrouted` alone. What TFX's BulkInferrer wrote is counted by
        reading it; it knows no failures.
        """
        if self.summary is not None:
            return self._selection.total
        files = self._selection.files
        return Counts(len(self), len(self), 0, len(files), sum(file.bytes for file in files))

    def failures(self) -> pa.Table:
        """Returns the records that could not be scored.

        The columns are `file`, the `record`'s number within the file, from 0, and the `reason`;
        `split` before them, where there are several, and `model` behind, where models have names.
        """
        selection = self._selection
        has_names = self.summary is not None and names_models(self.summary.branches)
        return read_failures(
            selection.place.summary_folder,
            self.splits if self.summary else (),
            self.models,
            selection.has_split,
            has_names,
        )

    # Rows

    @property
    def schema(self) -> pa.Schema:
        """The columns of the rows."""
        return self._rows.schema if self._rows else pa.schema([])

    def batches(self, rows: int = _BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Yields the rows in batches of at most so many, with bounded memory.

        Raises:
          InputError: a file is damaged, or, in PredictionLogs, values do not fit into the columns
            that the first records of each file have.
        """
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise SettingsError(f"rows must be a whole number of at least 1, not {rows!r}.")
        return self._batches(rows)

    def _batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        try:
            for table in self._tables(rows):
                yield from table.to_batches()
        except WiderError as error:
            raise InputError(
                f"Not all values of '{error.column}' fit into the column that the first records of "
                f"each file have. Use to_arrow or to_parquet, which then begin again with another."
            ) from error

    def to_arrow(self) -> pa.Table:
        """Returns all rows as an Arrow table."""
        if isinstance(self._rows, ParquetRows):
            return self._rows.whole()
        return self._with_columns_that_fit(
            lambda: pa.concat_tables([self.schema.empty_table(), *self._tables(_BATCH_ROWS)])
        )

    def to_pandas(self) -> pd.DataFrame:
        """Returns all rows as a pandas DataFrame.

        Before version 2, pandas counts time in nanoseconds. A column with a time that does not fit,
        before 1677 or after 2262, then holds datetimes.

        Raises:
          InputError: a date is none that Python can hold: one before the year 1 or after 9999.
        """
        table = self.to_arrow()
        try:
            return table.to_pandas()
        except ValueError:
            import pandas as pd

            return pd.DataFrame({own.name: _series(table[own.name], own) for own in table.schema})

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Writes all rows into one file, with bounded memory, and replaces it if it exists.

        Args:
          path: a file on any filesystem that Beam can open.
        """
        target = _files.as_path("The path of to_parquet", path)
        check_access([target])
        attempt = f"{target}-{uuid.uuid4().hex}"

        def write() -> None:
            writer = table_writer(PARQUET, self.schema)
            with _files.open_to_write(attempt) as file:
                for table in self._tables(_BATCH_ROWS):
                    file.write(writer.add(table))
                file.write(writer.end())

        try:
            self._with_columns_that_fit(write)
            _files.rename(attempt, target)
        except BaseException:
            _files.delete(attempt)
            raise

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields the rows as dicts."""
        for batch in self.batches():
            yield from batch.to_pylist()

    def predictions(self) -> Iterator[RecordPrediction]:
        """Yields each record with its outputs, from PredictionLogs.

        Raises:
          InputError: the run has written a table alone, or the PredictionLogs are not complete.
        """
        if self._rows is None:
            return iter(())
        rows = self._rows if isinstance(self._rows, LogRows) else self._selection.log_rows()
        return (_prediction(row, rows.prefixes) for row in rows.rows())

    def __len__(self) -> int:
        return self._length

    @cached_property
    def _length(self) -> int:
        known = self._selection.count
        return known if known is not None else self._rows.count() if self._rows else 0

    def __repr__(self) -> str:
        return f"<Results of {self.name}: {self._heading()}>"

    def _repr_html_(self) -> str:
        first = next(self.batches(display.ROWS), None)
        table = pa.Table.from_batches([first]) if first else self.schema.empty_table()
        title = f"Results of {self.name}: {self._heading()}"
        reason = "" if self._rows else self.gate.reason
        return display.html(title, table, self._shown_length, reason)

    @property
    def _shown_length(self) -> int | None:
        """The number of rows, unless it takes reading them to tell."""
        return self.__dict__.get("_length", self._selection.count)

    def _heading(self) -> str:
        return display.heading(self.summary, self._selection.total, self.models)

    def _tables(self, rows: int) -> Iterator[pa.Table]:
        """Yields the rows in tables of so many; of fewer if they are large, and at the end."""
        waiting: list[pa.Table] = []
        count = size = 0
        for table in self._rows.tables(rows) if self._rows else ():
            waiting.append(table)
            count += table.num_rows
            size += table.nbytes
            while count >= rows or (count and size >= _BATCH_BYTES):
                whole = pa.concat_tables(waiting)
                yield whole.slice(0, rows).combine_chunks()
                waiting = [whole.slice(rows)]
                count, size = max(0, count - rows), waiting[0].nbytes
        if count:
            yield pa.concat_tables(waiting).combine_chunks()

    def _with_columns_that_fit(self, act: Callable[[], _T]) -> _T:
        while True:
            try:
                return act()
            except WiderError as error:
                assert isinstance(self._rows, LogRows)
                self._rows.kinds = error.kinds


def _series(column: pa.ChunkedArray, own: pa.Field) -> pd.Series:
    with contextlib.suppress(ValueError):
        return column.to_pandas()
    try:
        return column.to_pandas(timestamp_as_object=True)
    except ValueError as error:
        raise InputError(
            f"Column '{own.name}' holds a date that pandas cannot hold: {error}. Use to_arrow."
        ) from error


def _prediction(row: Mapping[str, bytes | None], prefixes: Mapping[str, str]) -> RecordPrediction:
    """Returns the outputs of all models that scored a record."""
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    record: bytes | None = None
    outputs: dict[str, np.ndarray] = {}
    for model, log in row.items():
        if log is not None:
            own = prediction_of(PredictionLog.FromString(log))
            record = own.record
            outputs |= {prefixes[model] + name: value for name, value in own.outputs.items()}
    return RecordPrediction(record, outputs)
