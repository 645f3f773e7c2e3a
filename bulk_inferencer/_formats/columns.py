"""Which columns of a table a model sees, and under which names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from bulk_inferencer._checks import did_you_mean, doubled
from bulk_inferencer._formats.column_values import check_unique, values_of
from bulk_inferencer.errors import InputError, SettingsError


@dataclass(frozen=True)
class ColumnView:
    """What a model sees of a table.

    Attributes:
      inputs: for each feature that the model sees, the column that it is, or the columns whose
        values of a row become one vector.
      is_whole: whether all columns that no input names are seen too, under their own names.
    """

    inputs: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    is_whole: bool = True

    @property
    def sources(self) -> frozenset[str]:
        """The columns that inputs name."""
        return frozenset(name for own in self.inputs.values() for name in _names(own))

    def columns_of(self, available: Sequence[str]) -> dict[str, str | tuple[str, ...]]:
        """Returns, for each feature, the column or columns that it is made of.

        Raises:
          InputError: a column is not there, or two columns or features have one name.
        """
        check_unique(available)
        sources, known = self.sources, set(available)
        for name in sorted(sources):
            if name not in known:
                hint = did_you_mean(name, available)
                raise InputError(
                    f"The inputs have no column '{name}'; they have {', '.join(available)}.{hint} "
                    f"Correct the setting that names it."
                )
        rest = [name for name in available if name not in sources] if self.is_whole else []
        if taken := sorted(set(rest) & self.inputs.keys()):
            raise InputError(
                f"Two columns would be named '{taken[0]}' for the model. Rename one of them, or "
                f"leave it out by naming the others in columns."
            )
        return {**dict(self.inputs), **{name: name for name in rest}}

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """Returns the names and types of the features of tables with a schema.

        Raises:
          InputError: see `apply`.
        """
        return self.apply(schema.empty_table()).schema

    def apply(self, table: pa.Table) -> pa.Table:
        """Returns the features as columns.

        Raises:
          InputError: see `columns_of`; or columns that become one vector are not numbers.
        """
        if self.is_whole and not self.inputs:
            return table
        chosen = self.columns_of(table.column_names)
        return pa.table(
            {
                name: table[own] if isinstance(own, str) else _matrix(name, own, table)
                for name, own in chosen.items()
            }
        )


def column_view(columns: Any = (), rename: Any = ()) -> ColumnView:
    """Returns the view that the settings of a job say.

    Args:
      columns: names of the columns that the model sees; or for each input of the model a column, or
        a list of columns that become one vector.
      rename: for each column, the name under which the model sees it.

    Raises:
      SettingsError: they are something else, or contradict each other.
    """
    if not isinstance(rename, Mapping) and rename not in (None, (), []):
        raise SettingsError(
            f"rename must hold the new name of each column, not {rename!r}. Write "
            f"{{'old name': 'new name'}}."
        )
    rename = dict(rename or {})
    for old, new in rename.items():
        if not isinstance(old, str) or not isinstance(new, str) or not old or not new:
            raise SettingsError(
                f"rename must hold the new name of each column, as text, not {old!r}: {new!r}."
            )
    if names := doubled(rename.values()):
        raise SettingsError(f"rename gives several columns the name {names}. Rename all but one.")
    if isinstance(columns, str):
        raise SettingsError(f"columns must be a list, not {columns!r}. Write [{columns!r}].")
    if not isinstance(columns, Collection) or isinstance(columns, bytes):
        raise SettingsError(
            f"columns must be a list of names, or a dict, not {columns!r}. Write ['a column']."
        )
    if not isinstance(columns, Mapping):
        columns = tuple(columns)
    elif columns:
        inputs = {name: _checked_source(name, own) for name, own in columns.items()}
        if rename:
            raise SettingsError(
                "columns names the inputs of the model already, so rename has nothing to do. Leave "
                "out rename."
            )
        return ColumnView(inputs, is_whole=False)
    for name in columns:
        if not isinstance(name, str) or not name:
            raise SettingsError(f"columns must hold names of columns, not {name!r}.")
    if names := doubled(columns):
        raise SettingsError(f"columns names {names} twice. Name it once.")
    if not columns:
        return ColumnView({new: old for old, new in rename.items()})
    if unknown := sorted(rename.keys() - set(columns)):
        raise SettingsError(
            f"rename names the column '{unknown[0]}', which columns leaves out. Add it to columns."
        )
    if names := doubled(rename.get(name, name) for name in columns):
        raise SettingsError(
            f"Two of the columns would be named '{names}' for the model. Rename one of them."
        )
    return ColumnView({rename.get(name, name): name for name in columns}, is_whole=False)


def _checked_source(name: Any, own: Any) -> str | tuple[str, ...]:
    is_list = isinstance(own, Sequence) and not isinstance(own, str)
    names = list(own) if is_list else [own]
    if not isinstance(name, str) or not names or not all(isinstance(n, str) for n in names):
        raise SettingsError(
            f"columns must hold a column, or a list of columns, for each input of the model, not "
            f"{name!r}: {own!r}."
        )
    return tuple(names) if is_list else str(own)


def _names(own: str | tuple[str, ...]) -> tuple[str, ...]:
    return (own,) if isinstance(own, str) else own


def _matrix(name: str, columns: Sequence[str], table: pa.Table) -> pa.FixedSizeListArray:
    """Returns the vectors of the values that several columns have in a row.

    A null becomes a null inside the vector.
    """
    parts = []
    for column in columns:
        kind = table.schema.field(column).type
        if not _is_number(kind):
            raise InputError(
                f"Column '{column}' holds {kind}, so it cannot become a part of the vector "
                f"'{name}', which takes numbers. Leave it out of columns."
            )
        parts.append(values_of(column, table[column]))
    dtypes = [part.flat.dtype for part in parts]
    dtype = np.result_type(np.uint8 if set(dtypes) == {np.dtype(bool)} else dtypes[0], *dtypes)
    matrix = np.empty((len(table), len(columns)), dtype)
    is_null = np.zeros(matrix.shape, bool)
    for i, part in enumerate(parts):
        if part.size == 1:
            matrix[:, i] = part.flat
        else:
            is_null[:, i] = part.counts == 0
            matrix[~is_null[:, i], i] = part.flat
    values = pa.array(matrix.ravel(), mask=is_null.ravel() if is_null.any() else None)
    return pa.FixedSizeListArray.from_arrays(values, len(columns))


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    is_plain = types.is_integer(kind) or types.is_floating(kind)
    return is_plain or types.is_boolean(kind) or types.is_decimal(kind)
