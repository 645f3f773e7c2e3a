"""Which columns of tables a run reads: those that models see, and those that results keep."""

from __future__ import annotations

import contextlib
import datetime
import decimal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa

from bulk_inferencer._checks import did_you_mean, doubled
from bulk_inferencer._formats.column_values import check_features, check_unique
from bulk_inferencer._formats.columns import ColumnView
from bulk_inferencer._formats.damage import DamagedError
from bulk_inferencer._formats.input_format import Kept
from bulk_inferencer._formats.partitions import partition_columns, partition_values
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._formats.rows import Rows
from bulk_inferencer.errors import InputError

_SMALL = {
    pa.large_string(): pa.string(),
    pa.large_binary(): pa.binary(),
}


@dataclass(frozen=True)
class TableColumns:
    """The columns that a run reads.

    Attributes:
      own: those that are in the files.
      folders: those that only the names of folders stand for.
      checked: those that both do, as text.
      view: what models see of them.
    """

    own: pa.Schema
    folders: pa.Schema
    checked: pa.Schema
    view: ColumnView

    @cached_property
    def schema(self) -> pa.Schema:
        """All of them."""
        return pa.schema([*self.own, *self.folders])

    @cached_property
    def features(self) -> pa.Schema:
        """What models see."""
        return self.view.schema(self.schema)

    def with_own(self, own: pa.Schema) -> TableColumns:
        """Returns the same columns, of which those of files have other types."""
        return replace(self, own=own)

    def rows(self, path: str, table: pa.Table) -> Rows:
        """Returns the rows of a table with the columns of the file, in any order.

        Raises:
          DamagedError: a column holds something else than the name of the folder says.
        """
        for name, value in partition_values(path, self.checked).items():
            _check_agrees(name, value.as_py(), table[name])
        columns = [table[name] for name in self.own.names]
        for value in partition_values(path, self.folders).values():
            columns.append(pa.chunked_array([_repeated(value, table.num_rows)]))
        return Rows(pa.table(columns, schema=self.schema), self.view)


class TableReader:
    """What all readers of tables have; see `Reader`.

    Attributes:
      columns: what to read of the files.
    """

    columns: TableColumns
    record_format = FORMAT_TF_EXAMPLE  # what rows become where somebody asks for bytes

    @property
    def schema(self) -> pa.Schema:
        """See `Reader`."""
        return self.columns.schema

    @property
    def features(self) -> pa.Schema:
        """See `Reader`."""
        return self.columns.features


def table_columns(
    own: pa.Schema,
    paths: Iterable[str],
    view: ColumnView,
    kept: Kept,
    *,
    any_type: bool = False,
    partitions: bool = True,
) -> TableColumns:
    """Returns the columns that a run reads.

    Args:
      own: all columns of its files.
      paths: the files.
      view: what models see.
      kept: what results keep.
      any_type: whether models may be given columns of types that no input takes, and that no
        tf.Example has a place for. They matter to those alone that ask for them.
      partitions: whether folders stand for columns.

    Raises:
      InputError: a column is not there, or of a type that no model takes.
    """
    paths = list(paths)
    if not paths:
        return TableColumns(own, pa.schema([]), pa.schema([]), ColumnView())
    folders = partition_columns(paths if partitions else ())
    available = list(dict.fromkeys([*own.names, *folders.names]))
    view.columns_of(available)
    known = set(available)
    for name in kept or ():
        if name not in known:
            raise InputError(
                f"The inputs have no column '{name}' to keep; they have {', '.join(available)}."
                f"{did_you_mean(name, available)} Correct the setting that names it."
            )
    asked = view.sources | set(kept or ())
    if kept is None:
        asked |= {field.name for field in [*own, *folders] if _is_scalar(field)}

    def is_read(field: pa.Field) -> bool:
        return view.is_whole or field.name in asked

    columns = TableColumns(
        own=pa.schema([field for field in own if is_read(field)]),
        folders=pa.schema(
            [field for field in folders if is_read(field) and field.name not in own.names]
        ),
        checked=pa.schema(
            [
                (field.name, pa.string())
                for field in folders
                if is_read(field) and field.name in own.names
            ]
        ),
        view=view,
    )
    if any_type:
        check_unique(columns.features.names)
    else:
        check_features(columns.features)
    return columns


def check_names(path: str, names: Sequence[str]) -> None:
    """Raises InputError if two columns of a file have one name."""
    if twice := doubled(names):
        raise InputError(
            f"{path} has several columns named {twice}. Each column needs a name of its own."
        )


def plain(kind: pa.DataType) -> pa.DataType:
    """Returns the type of decoded values, with offsets of 32 bits."""
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(plain(kind.value_type))
    return _SMALL.get(kind, kind)


def wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Returns the one of two types that holds all values of both; None if neither does."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    for is_kind in (
        pa.types.is_signed_integer,
        pa.types.is_unsigned_integer,
        pa.types.is_floating,
    ):
        if is_kind(one) and is_kind(other):
            return max(one, other, key=lambda kind: kind.bit_width)
    if pa.types.is_list(one) and pa.types.is_list(other):
        value = wider(one.value_type, other.value_type)
        return None if value is None else pa.list_(value)
    return None


def _is_scalar(field: pa.Field) -> bool:
    return not pa.types.is_nested(field.type)


def _repeated(value: pa.Scalar, count: int) -> pa.Array:
    return pa.repeat(value, count) if value.is_valid else pa.nulls(count, value.type)


def _check_agrees(name: str, text: str | None, column: pa.ChunkedArray) -> None:
    wanted = None if text is None else _scalar(text, column.type)
    with contextlib.suppress(pa.ArrowNotImplementedError):  # of lists, for example
        column = column.unique()
    for value in column:
        if not value.is_valid:  # a bad row has no value
            continue
        found = str(value.as_py())
        if found != text and not (wanted is not None and value.equals(wanted)):
            raise DamagedError(
                f"its column '{name}' holds {found!r}, but the name of its folder says {text!r}",
                "Rename the folder, or correct the file.",
            )


def _scalar(text: str, kind: pa.DataType) -> pa.Scalar | None:
    """Returns a text as a value of a type; None if it is no such value."""
    types = pa.types
    try:
        # pyarrow 10 has no cast of text to these.
        if types.is_decimal(kind):
            return pa.scalar(decimal.Decimal(text), kind)
        if types.is_date(kind):
            return pa.scalar(datetime.date.fromisoformat(text), kind)
        if types.is_time(kind):
            return pa.scalar(datetime.time.fromisoformat(text), kind)
        return pa.array([text]).cast(kind)[0]
    except (ValueError, decimal.InvalidOperation, pa.ArrowNotImplementedError):
        return None
