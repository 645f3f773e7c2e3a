"""What tables of predictions are like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bulk_inferencer._checks import check_tuple, doubled
from bulk_inferencer._layout import PARQUET, TABLE_FORMATS
from bulk_inferencer.errors import SettingsError


@dataclass(frozen=True)
class TableSettings:
    """What tables of predictions, and of failures, are like.

    ```python
    TableSettings(format="csv", keep=["id", "country"])
    ```

    Attributes:
      format: `parquet`, `csv` or `json_lines`.
      keep: the features of the inputs, or columns of input tables, that become columns of the table
        under their own names; `()` for none. Default: all that hold a single value per record.
      binary: outputs and kept features that stay bytes. All others that a model or a tf.Example
        holds as bytes become text, and a value that is not UTF-8 does not fit. In CSV and JSON
        Lines, bytes are base64.

    Raises:
      SettingsError: the format is unknown, or a name is doubled or no name.
    """

    format: str = PARQUET
    keep: tuple[str, ...] | None = None
    binary: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.format not in TABLE_FORMATS:
            raise SettingsError(
                f"TableSettings.format must be one of {', '.join(TABLE_FORMATS)}, not "
                f"{self.format!r}. Leave it out for {PARQUET}."
            )
        if self.keep is not None:
            object.__setattr__(self, "keep", _names("TableSettings.keep", self.keep))
        object.__setattr__(self, "binary", _names("TableSettings.binary", self.binary))


def _names(field: str, names: Any) -> tuple[str, ...]:
    check_tuple(field, names, str)
    if twice := doubled(names):
        raise SettingsError(f"{field} names {twice} more than once. Name it once.")
    return tuple(names)
