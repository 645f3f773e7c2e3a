"""PredictionsToExamples: what one model returned becomes the records of the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.typehints import typehints
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from bulk_inferencer._formats.example import Column, append_columns, check_columns
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results.reader import prediction_of


class PredictionsToExamples(beam.PTransform):
    """Turns each PredictionLog into its record, with outputs as further features.

        PredictionLog                     bytes
        (key, PredictionLog)           -> (key, bytes)
        (key, list of PredictionLogs)     (key, list of bytes)

    ```python
    records = predictions | PredictionsToExamples([Column(output="y", name="x")])
    ```

    Records are serialized tf.Examples, or tf.SequenceExamples, whose context gets the features.
    """

    def __init__(self, columns: Sequence[Column], replace_features: bool = False) -> None:
        """Says which outputs become which features.

        Args:
          columns: outputs and the names of their features.
          replace_features: whether a column may replace a feature of the same name.

        Raises:
          SettingsError: there is no column, or one lacks an output or a name of its own.
        """
        super().__init__()
        check_columns("PredictionsToExamples", columns)
        self._columns = tuple(columns)
        self._replace_features = replace_features
        if not self._columns:
            raise SettingsError(
                "PredictionsToExamples has no column. Name an output and its feature: "
                "Column('y', 'x')."
            )

    def expand(self, predictions: beam.PCollection) -> beam.PCollection:
        output_type = _type_of(predictions.element_type)
        return predictions | beam.Map(self._convert).with_output_types(output_type)

    def _convert(self, element: Any) -> Any:
        if not isinstance(element, tuple):
            return self._convert_value(element)
        if len(element) != 2 or isinstance(element[0], PredictionLog):
            raise _several_models_error(len(element))
        return element[0], self._convert_value(element[1])

    def _convert_value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._example_of(log) for log in value]
        return self._example_of(value)

    def _example_of(self, log: Any) -> bytes:
        if not isinstance(log, PredictionLog):
            raise _element_error(type(log).__name__)
        record, outputs = prediction_of(log)
        if record is None:
            raise SettingsError(
                "A PredictionLog does not carry its record, so there is nothing to add the columns "
                "to. Write the predictions with their records (records_in_logs)."
            )
        batch = {name: values[None] for name, values in outputs.items()}
        (example,) = append_columns([record], batch, self._columns, self._replace_features)
        return example


def _element_error(got: str) -> SettingsError:
    return SettingsError(
        f"PredictionsToExamples takes PredictionLogs, alone, as (key, log) or as "
        f"(key, [log, ...]), not {got}. Put it directly after RunInference."
    )


def _several_models_error(models: int) -> SettingsError:
    return _element_error(f"a tuple of {models} from several models")


def _type_of(element_type: Any) -> Any:
    types = {PredictionLog: bytes, typehints.List[PredictionLog]: typehints.List[bytes]}
    if isinstance(element_type, typehints.TupleConstraint):
        key_type, *value_types = element_type.tuple_types
        if key_type is PredictionLog or len(value_types) != 1:
            raise _several_models_error(1 + len(value_types))
        (value_type,) = value_types
        if isinstance(value_type, typehints.TupleConstraint):
            raise _several_models_error(len(value_type.tuple_types))
        return typehints.Tuple[key_type, types.get(value_type, typehints.Any)]
    return types.get(element_type, typehints.Any)
