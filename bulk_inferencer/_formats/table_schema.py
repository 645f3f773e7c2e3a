"""Which columns a prediction table has, decided before a run for all of its shards.

    split, key | kept features | variant | outputs

    one model              score
    models side by side    five/score, ten/score
    an A/B test            variant, score

All shards have the same columns, also those without rows.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from bulk_inferencer._checks import did_you_mean
from bulk_inferencer._formats.table_settings import TableSettings
from bulk_inferencer._signatures import OutputType
from bulk_inferencer.errors import ModelError, SettingsError

SPLIT, KEY, VARIANT = "split", "key", "variant"
# Of the failures.
FILE, RECORD, REASON, MODEL = "file", "record", "reason", "model"

# Of these dtypes, the others become the type in a table that holds all of their values.
_STRINGS = ("string", "object", "bytes", "str")
_WIDER = {"float16": "float32", "bfloat16": "float32"}
_NUMBERS = {
    name: pa.from_numpy_dtype(np.dtype(name))
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float32", "float64"),
    )
}

# The outputs of a model, by name, and of several models by theirs.
Types = Mapping[str, OutputType]


@dataclass(frozen=True)
class PredictionColumns:
    """The columns of a prediction table. Engines send it to workers.

    Attributes:
      serialized: the schema of the table, as bytes.
      kept: the columns that are features of the inputs.
      outputs: for each model, by the name of each output, the column that it becomes.
    """

    serialized: bytes
    kept: tuple[str, ...]
    outputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @cached_property
    def schema(self) -> pa.Schema:
        """All columns, in order."""
        return pa.ipc.read_schema(pa.py_buffer(self.serialized))

    @cached_property
    def kept_schema(self) -> pa.Schema:
        """Those that are features of the inputs."""
        return pa.schema([self.schema.field(name) for name in self.kept])


def prediction_columns(
    kept: pa.Schema,
    types: Mapping[str, Types],
    settings: TableSettings,
    *,
    names_models: bool = False,
    is_split: bool = False,
    has_split: bool = False,
    has_key: bool = False,
) -> PredictionColumns:
    """Returns the columns of a prediction table.

    Args:
      kept: the kept features; see `kept_of`.
      types: what the outputs of each model are like.
      settings: of the table.
      names_models: whether each output is a column for each model, `<model>/<output>`.
      is_split: whether each record goes to one model, which becomes the column `variant`.
      has_split: whether there is a column with the record's split.
      has_key: whether there is a column with the record's key.

    Raises:
      SettingsError: two columns would have one name, or a binary one does not exist.
      ModelError: a table cannot hold an output, or not that of all models in one column.
    """
    names_models = names_models and not is_split
    outputs = {
        branch: {name: f"{branch}/{name}" if names_models else name for name in own}
        for branch, own in types.items()
    }
    _check_binary(settings.binary, [*kept.names, *([KEY] if has_key else [])], types)
    columns: dict[str, tuple[str, pa.DataType]] = {}
    if has_split:
        columns[SPLIT] = ("the column that names the split", pa.string())
    if has_key:
        is_binary = KEY in settings.binary
        columns[KEY] = ("the column with the key", pa.binary() if is_binary else pa.string())
    for own in kept:
        _add(columns, own.name, "a feature of the inputs", own.type)
    if is_split:
        _add(columns, VARIANT, "the column that names the model", pa.string())
    for branch, own_types in types.items():
        for name, column in outputs[branch].items():
            is_binary = bool({name, column} & set(settings.binary))
            kind = column_type(name, own_types[name], is_binary)
            what = "an output of the model"
            if is_split and column in columns and columns[column][0] == what:
                columns[column] = (what, _common(column, columns[column][1], kind))
            else:
                _add(columns, column, what, kind)
    schema = pa.schema([pa.field(name, kind) for name, (_, kind) in columns.items()])
    return PredictionColumns(schema.serialize().to_pybytes(), tuple(kept.names), outputs)


def failure_columns(has_split: bool, names_models: bool) -> pa.Schema:
    """Returns the columns of a table of failures, but for kept features.

    Args:
      has_split: whether there is a column with the record's split.
      names_models: whether there is a column with the name of the model.
    """
    first, last = [SPLIT] * has_split, [MODEL] * names_models
    return pa.schema(
        [
            (name, pa.int64() if name == RECORD else pa.string())
            for name in (*first, FILE, RECORD, REASON, *last)
        ]
    )


def schema_to_text(schema: pa.Schema) -> str:
    """Returns a schema as text, for JSON."""
    return base64.b64encode(schema.serialize()).decode()


def schema_from_text(text: str) -> pa.Schema:
    """Returns the schema that `schema_to_text` was given."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def kept_of(available: pa.Schema | None, settings: TableSettings) -> pa.Schema:
    """Returns the features that a table keeps.

    Args:
      available: the features of the inputs; None if records have none.
      settings: of the table.

    Raises:
      SettingsError: a feature does not exist.
    """
    found = {own.name: own.remove_metadata() for own in available or ()}
    names = settings.keep
    if names is None:
        names = tuple(name for name, own in found.items() if not pa.types.is_nested(own.type))
    for name in names:
        if not found:
            raise SettingsError(
                f"TableSettings.keep names '{name}', but the records have no features to keep. "
                f"Leave out keep."
            )
        if name not in found:
            raise SettingsError(
                f"TableSettings.keep names '{name}', but the inputs have no such feature; they "
                f"have {_some(found)}.{did_you_mean(name, found)} Correct keep."
            )
    return pa.schema([_as_kept(found[name], settings.binary) for name in names])


def _as_kept(own: pa.Field, binary: Sequence[str]) -> pa.Field:
    """Returns a feature without its encoding, and with bytes for text if they are asked for."""
    kind = own.type.value_type if pa.types.is_dictionary(own.type) else own.type
    return pa.field(own.name, _as_bytes(kind) if own.name in binary else kind)


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_as_bytes(kind.value_type))
    return pa.binary() if pa.types.is_string(kind) or pa.types.is_large_string(kind) else kind


def column_type(name: str, output: OutputType, is_binary: bool = False) -> pa.DataType:
    """Returns the type of the column that holds an output.

    Raises:
      ModelError: there is none.
    """
    if output.dtype in _STRINGS:
        kind = pa.binary() if is_binary else pa.string()
    else:
        dtype = _WIDER.get(output.dtype, output.dtype)
        if dtype not in _NUMBERS:
            raise ModelError(
                f"Output '{name}' has dtype {output.dtype}; a table can hold "
                f"{', '.join((*_NUMBERS, *_WIDER))} and strings. Cast it in the model, or write no "
                f"table."
            )
        kind = _NUMBERS[dtype]
    if output.row_shape is None:
        raise ModelError(
            f"The model does not say how many dimensions output '{name}' has, so its column in the "
            f"table has no type. Give it a shape in the serving signature."
        )
    if all(size == 1 for size in output.row_shape):
        return kind
    for _ in output.row_shape:
        kind = pa.list_(kind)
    return kind


def _add(
    columns: dict[str, tuple[str, pa.DataType]], name: str, what: str, kind: pa.DataType
) -> None:
    if name in columns:
        raise SettingsError(
            f"The table would have two columns named '{name}': {columns[name][0]}, and {what}. "
            f"Name the features that it keeps in TableSettings.keep, without '{name}', or rename "
            f"the output."
        )
    columns[name] = (what, kind)


def _common(name: str, one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Returns the type that holds the values of both."""
    if one == other:
        return one
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_common(name, one.value_type, other.value_type))
    numbers = {kind: dtype for dtype, kind in _NUMBERS.items()}
    if one in numbers and other in numbers:
        wider = np.promote_types(numbers[one], numbers[other])
        are_floats = [pa.types.is_floating(kind) for kind in (one, other)]
        if wider.name in _NUMBERS and are_floats == [wider.kind == "f"] * 2:
            return _NUMBERS[wider.name]
    raise ModelError(
        f"The models return '{name}' as {one} and as {other}, which one column cannot hold. Let "
        f"all of them return the same type."
    )


def _check_binary(binary: Iterable[str], others: Sequence[str], types: Mapping[str, Types]) -> None:
    plain = {name for own in types.values() for name in own}
    prefixed = {f"{branch}/{name}" for branch, own in types.items() for name in own}
    for name in binary:
        if name not in {*plain, *prefixed, *others}:
            known = sorted({*plain, *others})
            raise SettingsError(
                f"TableSettings.binary names '{name}', but the table has {_some(known)}."
                f"{did_you_mean(name, known)} Correct binary."
            )


def _some(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    rest = f" and {len(names) - most} others" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
