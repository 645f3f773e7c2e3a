"""Features of the records in PredictionLogs as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from google.protobuf.message import DecodeError

from bulk_inferencer._formats.example import features_of_record
from bulk_inferencer._formats.example_columns import columns_of_records, kinds_of_records

# The types of features, by name; None for those that are no columns, since some records have
# several values of them, or values of another type.
Types = Mapping[str, "pa.DataType | None"]


def types_of(records: Sequence[bytes | None]) -> Types:
    """Returns the types of the features of some records; none if one is no tf.Example."""
    present = [record for record in records if record is not None]
    try:
        for record in present:
            features_of_record(record)
    except DecodeError:
        return {}
    return {
        own.name: None if pa.types.is_list(own.type) else own.type
        for own in kinds_of_records(present)
    }


def joined(known: Types, found: Types) -> Types:
    """Returns the types of features that have both."""
    both = {name: _joined(known[name], kind) for name, kind in found.items() if name in known}
    return {**known, **found, **both}


def _joined(one: pa.DataType | None, other: pa.DataType | None) -> pa.DataType | None:
    if one == other:
        return one
    return pa.binary() if {one, other} == {pa.string(), pa.binary()} else None


def columns_of(records: Sequence[bytes | None], types: Types) -> tuple[dict[str, pa.Array], Types]:
    """Returns features as columns, and their types as they must be for all records to fit.

    What does not fit is null.
    """
    schema = pa.schema([(name, kind) for name, kind in types.items() if kind is not None])
    plain = [record or b"" for record in records]
    table, reasons = columns_of_records(plain, schema)
    columns = {name: table[name] for name in schema.names}
    if not reasons:
        return columns, types
    found = types_of([plain[index] for index in reasons])
    return columns, joined(types, {name: kind for name, kind in found.items() if name in types})
