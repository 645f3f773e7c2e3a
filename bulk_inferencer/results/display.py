"""The first rows of results, as HTML for notebooks."""

from __future__ import annotations

import pyarrow as pa

from bulk_inferencer.results.amounts import counted
from bulk_inferencer.results.arrow_tables import value_of
from bulk_inferencer.results.blocks import Block, Cell, Value, as_html, grid, shortened

ROWS = 10
_END_COLUMNS = 10  # from either end, since the outputs are at the right
_MOST_VALUES = 5
_LONGEST_TEXT = 50
_LISTS = (pa.ListScalar, pa.LargeListScalar, pa.FixedSizeListScalar)


def html(title: str, first: pa.Table, count: int | None, reason: str = "") -> str:
    """Returns a title, the first rows and how many there are, and why there are none."""
    rows = f"first {first.num_rows:,} rows" if count is None else counted(count, "row")
    size = f"{rows} \N{MULTIPLICATION SIGN} {counted(first.num_columns, 'column')}"
    blocks: list[Block] = [reason] if reason else []
    if first.num_columns:
        blocks.append(_grid(first))
    return as_html(title, [*blocks, size])


def _grid(table: pa.Table) -> Block:
    names: list[str] = list(table.column_names)
    columns = [_cells(column) for column in table.columns]
    if len(names) > 2 * _END_COLUMNS:
        gap: list[Cell] = ["..."] * table.num_rows
        names = [*names[:_END_COLUMNS], "...", *names[-_END_COLUMNS:]]
        columns = [*columns[:_END_COLUMNS], gap, *columns[-_END_COLUMNS:]]
    return grid(names, zip(*columns, strict=True), ROWS)


def _cells(column: pa.ChunkedArray) -> list[Cell]:
    texts = [_text(own) for own in column]
    return list(texts) if _is_of_texts(column.type) else [Value(text) for text in texts]


def _is_of_texts(kind: pa.DataType) -> bool:
    """Returns whether a column holds anything else than numbers, truth values and times."""
    while hasattr(kind, "value_type"):  # of a list, or of a dictionary
        kind = kind.value_type
    return not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind))


def _text(value: pa.Scalar) -> str:
    if not value.is_valid:
        return "None"
    if isinstance(value, _LISTS):
        texts = [_text(own) for own in value.values[:_MOST_VALUES]]
        more = ", ..." if len(value.values) > _MOST_VALUES else ""
        return f"[{', '.join(texts)}{more}]"
    found = value_of(value)
    if isinstance(found, float):
        return f"{found:.6g}"
    if isinstance(found, bytes):
        found = found[:_LONGEST_TEXT]  # before they become text: they may be an image
    return shortened(str(found), _LONGEST_TEXT)
