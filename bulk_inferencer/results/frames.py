"""Tables as pandas DataFrames, whatever their times."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pyarrow as pa

from bulk_inferencer.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def frame_of(table: pa.Table) -> pd.DataFrame:
    """Returns a table as a DataFrame; see `Results.to_pandas`.

    Raises:
      InputError: a date is none that Python can hold.
    """
    try:
        return table.to_pandas()
    except ValueError:
        import pandas as pd

        return pd.DataFrame({own.name: _series(table[own.name], own) for own in table.schema})


def _series(column: pa.ChunkedArray, own: pa.Field) -> pd.Series:
    with contextlib.suppress(ValueError):
        return column.to_pandas()
    try:
        return column.to_pandas(timestamp_as_object=True)
    except ValueError as error:
        raise InputError(
            f"Column '{own.name}' holds a date that pandas cannot hold: {error}. Use to_arrow."
        ) from error
