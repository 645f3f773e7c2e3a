"""The first rows of the results."""

from __future__ import annotations

import pyarrow as pa

from bulk_inferencer.reports import words
from bulk_inferencer.reports.parts import Cell, Column, Section, Table
from bulk_inferencer.results.amounts import counted
from bulk_inferencer.results.arrow_tables import values_of
from bulk_inferencer.results.run_results import Results

_MOST_ROWS = 10
_END_COLUMNS = 15  # from either end, since the outputs are at the right


def section(results: Results) -> Section | None:
    """Returns the section of the first rows; None if there are none."""
    first = results.head(_MOST_ROWS)
    if not first.num_rows:
        return None
    names = first.column_names
    shown = names
    if len(names) > 2 * _END_COLUMNS:
        shown = [*names[:_END_COLUMNS], *names[-_END_COLUMNS:]]
    columns = [first.column(names.index(name)) for name in shown]
    cells = [[Cell(words.value(own)) for own in values_of(column)] for column in columns]
    left_out = len(names) - len(shown)
    table = Table(
        tuple(
            Column(words.clean(name), _is_number(column.type))
            for name, column in zip(shown, columns, strict=True)
        ),
        tuple(zip(*cells, strict=True)),
        is_dense=True,
        left_out=(f"{counted(left_out, 'column')} in the middle left out." if left_out else ""),
    )
    rows = "row" if first.num_rows == 1 else f"{first.num_rows} rows"
    lead = f"The first {rows}, with {counted(len(names), 'column')}."
    return Section("rows", "First rows", (table,), lead=lead)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
