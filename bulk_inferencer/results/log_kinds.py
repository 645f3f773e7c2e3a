"""What the columns of PredictionLogs are like, as far as some of them tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from bulk_inferencer._formats.table_schema import SPLIT, VARIANT, column_type
from bulk_inferencer._signatures import OutputType, common_type
from bulk_inferencer.errors import InputError, ModelError
from bulk_inferencer.results import log_features


class WiderError(Exception):
    """Rows that need wider columns than those before them."""

    def __init__(self, kinds: Kinds, column: str) -> None:
        super().__init__(column)
        self.kinds, self.column = kinds, column


@dataclass(frozen=True)
class Kinds:
    """What outputs and features are like.

    Attributes:
      outputs: dtype and row shape of each output, by column.
      features: the type of each feature; None if it is no column.
      binary: the outputs with bytes that are not UTF-8.
    """

    outputs: Mapping[str, OutputType] = field(default_factory=dict)
    features: log_features.Types = field(default_factory=dict)
    binary: frozenset[str] = frozenset()

    def with_outputs(self, found: Mapping[str, Iterable[OutputType]]) -> Kinds:
        """Returns what outputs are like that have these types, too."""
        outputs = dict(self.outputs)
        for column, types in found.items():
            known = [outputs[column]] if column in outputs else []
            common = common_type([*known, *types])
            if common is None or common.row_shape is None:
                several = " and ".join(sorted({_text(own) for own in [*known, *types]}))
                raise InputError(
                    f"The predictions hold '{column}' as {several}, which one column cannot hold. "
                    f"Read each with predictions(), or one model at a time, with model."
                )
            outputs[column] = common
        return dataclasses.replace(self, outputs=outputs)

    @property
    def columns_of_features(self) -> dict[str, str]:
        """The names of the features that are columns, and of their columns."""
        return {
            name: f"input/{name}" if name in self.outputs or name in (SPLIT, VARIANT) else name
            for name, kind in self.features.items()
            if kind is not None
        }

    def schema(self, has_split: bool, has_variant: bool) -> pa.Schema:
        """Returns the schema of the rows, in the order of prediction tables."""
        fields = [(SPLIT, pa.string())] if has_split else []
        fields += [(own, self.features[name]) for name, own in self.columns_of_features.items()]
        if has_variant:
            fields.append((VARIANT, pa.string()))
        for column, kind in self.outputs.items():
            fields.append((column, _type_of(column, kind, column in self.binary)))
        return pa.schema(fields)


def _type_of(column: str, kind: OutputType, is_binary: bool) -> pa.DataType:
    try:
        return column_type(column, kind, is_binary)
    except ModelError as error:
        raise InputError(
            f"The predictions hold '{column}' as {kind.dtype}, which a table cannot hold. Read it "
            f"with predictions()."
        ) from error


def _text(kind: OutputType) -> str:
    return f"{kind.dtype} of shape {list(kind.row_shape or ())}"
