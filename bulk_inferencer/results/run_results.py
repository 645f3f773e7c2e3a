"""The results of a finished run: what it says of itself, and its predictions as rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from bulk_inferencer import _files
from bulk_inferencer._access import check_access
from bulk_inferencer._gate import NO_BLESSING, Decision, of_all
from bulk_inferencer._layout import CSV, JSON_LINES, PARQUET, STATISTICS_FILE
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results import display, display_summary
from bulk_inferencer.results.arrow_tables import first_rows, frame_of, in_tables_of
from bulk_inferencer.results.comparison import Comparison
from bulk_inferencer.results.export import write_file
from bulk_inferencer.results.gathered_statistics import gathered
from bulk_inferencer.results.joined_logs import prediction_of_row
from bulk_inferencer.results.log_kinds import WiderError
from bulk_inferencer.results.log_rows import LogRows
from bulk_inferencer.results.places import Place, find_place, folder_of
from bulk_inferencer.results.reader import RecordPrediction
from bulk_inferencer.results.selection import Selection, select
from bulk_inferencer.results.statistics import Statistics
from bulk_inferencer.results.summary import Counts, Summary
from bulk_inferencer.results.table_rows import ParquetRows

if TYPE_CHECKING:
    import pandas as pd

_T = TypeVar("_T")

_BATCH_ROWS = 1 << 16
_BATCH_BYTES = 64 << 20
_UNKNOWN = Decision(NO_BLESSING, "The results do not say whether the model was blessed.")


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
      selection: which files are read.
    """

    def __init__(self, selection: Selection) -> None:
        """Takes what is read; call `read` instead."""
        self.name = selection.place.name
        self.summary: Summary | None = selection.place.summary
        self.models = selection.models
        self.splits = selection.splits
        self.selection = selection
        self._rows = selection.rows()

    # What the run says

    @property
    def has_run(self) -> bool:
        """Whether at least one of the models was allowed to run."""
        return self._rows is not None

    @property
    def gate(self) -> Decision:
        """Whether models were allowed to run, and why; of several, the least blessed decides."""
        if self.summary is None:
            return _UNKNOWN
        return of_all({model: self.summary.branches[model].gate for model in self.models})

    @cached_property
    def counts(self) -> Counts:
        """Records and files of the models and splits that were read.

        A record that two models score counts twice; one that failed before it reached a model, in
        an A/B test, counts in `summary.unrouted` alone. What TFX's BulkInferrer wrote is counted by
        reading it; it knows no failures.
        """
        if self.summary:
            return self.selection.total
        files = self.selection.files
        return Counts(len(self), len(self), 0, len(files), sum(file.bytes for file in files))

    @cached_property
    def statistics(self) -> Statistics:
        """What the outputs and failures of the models and splits that were read are like.

        Where the run has written no `statistics.json`, as TFX's BulkInferrer, they are gathered by
        reading the predictions. Files without a split have the split "".

        Raises:
          InputError: there is neither that file nor PredictionLogs: a table does not say which of
            its columns are outputs.
        """
        selection, folder = self.selection, self.selection.place.summary_folder
        if folder and (found := Statistics.read_if_any(folder)) is not None:
            # Records that reached no model are among the failures of each.
            return found.selected([*self.models, ""], selection.split)
        if not selection.files:
            return Statistics()
        if not selection.has_logs:
            raise InputError(
                f"There is no {STATISTICS_FILE} beside the summary of {self.name}, and its table "
                f"does not say which columns are outputs. Restore the file, or run again into "
                f"another folder."
            )
        return gathered(selection)

    @cached_property
    def comparison(self) -> Comparison | None:
        """How the models that were read differ; None where the run compared nothing.

        It is that of all splits. With one model, it has the pairs of this model with others.
        """
        folder = self.selection.place.comparison
        whole = Comparison.read_if_any(folder) if folder else None
        return whole and Comparison(
            tuple(pair for pair in whole.pairs if set(pair.models) & set(self.models)),
            {model: own for model, own in whole.outcomes.items() if model in self.models},
        )

    def failures(self) -> pa.Table:
        """Returns the records that could not be scored.

        The columns are `file`, the `record`'s number within the file, from 0, and the `reason`;
        `split` before them, where there are several, and `model` behind, where models have names.

        Raises:
          InputError: the list of a split is missing or damaged.
        """
        return pa.concat_tables([self.failure_schema.empty_table(), *self.failure_tables()])

    def failure_tables(self, rows: int = _BATCH_ROWS) -> Iterator[pa.Table]:
        """Yields the rows of `failures` in tables of at most so many, with bounded memory."""
        return self.selection.failure_tables(rows)

    @property
    def failure_schema(self) -> pa.Schema:
        """The columns of `failures`."""
        return self.selection.failure_schema

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
          SettingsError: rows is not a whole number of at least 1.
        """
        _check_rows(rows, 1)
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
        return frame_of(self.to_arrow())

    def to_parquet(self, path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> int:
        """Writes all rows into one file, with bounded memory, and replaces it if it exists.

        Nothing is under its name before all of it is there.

        Args:
          path: a file on any filesystem that Beam can open.
          columns: those to write; default: all.

        Returns:
          The number of rows.

        Raises:
          InputError: a file is damaged.
          OutputError: the disk is full, or may not be written to.
          SettingsError: the path is no path or a folder, or there is no such column.
        """
        return self._write("to_parquet", PARQUET, path, columns)

    def to_csv(self, path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> int:
        """Writes all rows as CSV in UTF-8; see `to_parquet`.

        The first line names the columns. Text is in quotes, a null is nothing at all, lists are
        JSON, and bytes are base64.

        Raises:
          SettingsError: see `to_parquet`; or CSV cannot hold a column.
        """
        return self._write("to_csv", CSV, path, columns)

    def to_json_lines(
        self, path: str | os.PathLike[str], columns: Sequence[str] | None = None
    ) -> int:
        """Writes all rows as JSON objects, one a line, in UTF-8; see `to_parquet`.

        NaN and infinities are the texts "NaN", "Infinity" and "-Infinity", and bytes are base64.

        Raises:
          SettingsError: see `to_parquet`; or JSON cannot hold a column.
        """
        return self._write("to_json_lines", JSON_LINES, path, columns)

    def _write(
        self,
        method: str,
        table_format: str,
        path: str | os.PathLike[str],
        columns: Sequence[str] | None,
    ) -> int:
        target = _files.as_path(f"The path of {method}", path)
        return self._with_columns_that_fit(
            lambda: write_file(
                target, table_format, lambda: (self.schema, self._tables(_BATCH_ROWS)), columns
            )
        )

    def head(self, rows: int = display.ROWS) -> pa.Table:
        """Returns the first rows, without reading more than it takes.

        Args:
          rows: the most to return; 0 for the columns alone.

        Raises:
          InputError: see `batches`.
          SettingsError: rows is not a whole number of at least 0.
        """
        _check_rows(rows, 0)
        return self._with_columns_that_fit(
            lambda: first_rows(rows, self.schema, self._tables(max(1, rows)))
        )

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
        rows = self._rows if isinstance(self._rows, LogRows) else self.selection.log_rows()
        return (prediction_of_row(row, rows.prefixes) for row in rows.rows())

    def __len__(self) -> int:
        return self._length

    @cached_property
    def _length(self) -> int:
        known = self.selection.count
        return known if known is not None else self._rows.count() if self._rows else 0

    def __repr__(self) -> str:
        return f"<Results of {self.name}: {self._heading()}>"

    def _repr_html_(self) -> str:
        title = f"Results of {self.name}: {self._heading()}"
        reason = "" if self._rows else self.gate.reason
        return display.html(title, self.head(), self.known_length, reason)

    @property
    def known_length(self) -> int | None:
        """The number of rows, unless it takes reading them to tell."""
        return self.__dict__.get("_length", self.selection.count)

    def _heading(self) -> str:
        counts = self.selection.total, self.selection.unrouted
        return display_summary.heading(self.summary, *counts, self.models)

    def _tables(self, rows: int) -> Iterator[pa.Table]:
        """Yields the rows in tables of so many; of fewer if they are large, and at the end."""
        return in_tables_of(rows, _BATCH_BYTES, self._rows.tables(rows) if self._rows else ())

    def _with_columns_that_fit(self, act: Callable[[], _T]) -> _T:
        while True:
            try:
                return act()
            except WiderError as error:
                assert isinstance(self._rows, LogRows)
                self._rows.kinds = error.kinds


def _check_rows(rows: int, least: int) -> None:
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < least:
        raise SettingsError(f"rows must be a whole number of at least {least}, not {rows!r}.")
