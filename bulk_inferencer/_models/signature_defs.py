"""A model's SignatureDefs: which ones to call, whether that is possible, and what to feed them.

SavedModels and model servers describe themselves in the same protos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.predictor import RecordError
from bulk_inferencer._signatures import (
    CLASSES_OUTPUT,
    CLASSIFY,
    PREDICT,
    REGRESS,
    REGRESS_OUTPUT,
    SCORES_OUTPUT,
    Signature,
)
from bulk_inferencer.errors import ModelError

DEFAULT_SIGNATURE = "serving_default"

_METHODS = {"tensorflow/serving/classify": CLASSIFY, "tensorflow/serving/regress": REGRESS}
_EXPECTED_OUTPUTS = {CLASSIFY: (CLASSES_OUTPUT, SCORES_OUTPUT), REGRESS: (REGRESS_OUTPUT,)}
# Features of a tf.Example are float32, int64 or bytes; other inputs are cast from the nearest.
_PARSED_DTYPES = {
    **dict.fromkeys(("float16", "bfloat16", "float32", "float64"), "float32"),
    **dict.fromkeys(("bool", "int8", "int16", "int32", "int64"), "int64"),
    **dict.fromkeys(("uint8", "uint16", "uint32", "uint64"), "int64"),
    "string": "string",
}


def select(
    available: Mapping[str, Any],
    names: Sequence[str],
    record_format: str,
    where: str,
    setting: str,
) -> dict[str, Any]:
    """Returns the SignatureDefs to call, checked, in the order in which they were named.

    Without `names`, that is `serving_default`. Messages name the model, `where`, and the `setting`
    that holds the names.

    Raises:
      ModelError: a signature does not exist, or cannot take records of this format.
    """
    names = names or (DEFAULT_SIGNATURE,)
    for name in names:
        if name not in available:
            has = ", ".join(sorted(n for n in available if not n.startswith("__"))) or "none"
            raise ModelError(
                f"Signature '{name}' not found in {where}; it has: {has}. Correct {setting}."
            )
        _check_inputs(name, available[name], record_format, setting)
        _check_outputs(name, available[name])
    definitions = {name: available[name] for name in names}
    Feeds(definitions)  # raises if the signatures disagree on an input
    return definitions


def signatures(definitions: Mapping[str, Any]) -> tuple[Signature, ...]:
    """Returns what results need to know about SignatureDefs."""
    return tuple(
        Signature(name, _method(definition), tuple(sorted(definition.outputs)))
        for name, definition in definitions.items()
    )


def check_rows(name: str, output: np.ndarray, count: int) -> None:
    """Raises ModelError if an output does not have a row for each of `count` records."""
    if output.shape[:1] != (count,):
        raise ModelError(
            f"Output '{name}' has shape {output.shape} for a batch of {count}. Return one row for "
            f"each record from the signature."
        )


def composite_output_error(name: str, kind: str) -> ModelError:
    """Returns the error for an output that is not one dense tensor."""
    return ModelError(
        f"Output '{name}' must be a dense tensor, not {kind}. Return .to_tensor() of a ragged or "
        f"tf.sparse.to_dense() of a sparse tensor from the serving signature."
    )


class Feeds:
    """Turns a batch of records into the inputs of each signature.

    A signature whose only input is a vector of strings gets the records themselves. Any other
    signature gets the features that its inputs are named after. They are parsed from tf.Examples,
    once for all signatures.
    """

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        """Plans the inputs.

        Args:
          definitions: what `select` returned.

        Raises:
          ModelError: two signatures take a feature of one name in different forms.
        """
        self._record_inputs = {name: _record_input(d) for name, d in definitions.items()}
        self._parsed_inputs = {
            name: {} if self._record_inputs[name] else dict(definition.inputs)
            for name, definition in definitions.items()
        }
        self._features = _features_of(self._parsed_inputs)

    @property
    def input_name(self) -> str:
        """The name of the first signature's input, or `examples` if features are parsed."""
        return next(iter(self._record_inputs.values())) or "examples"

    def __call__(self, batch: Sequence[bytes]) -> list[dict[str, Any]]:
        """Returns tensors of shape [len(batch), ...] by input name, for each signature.

        Raises:
          tf.errors.OpError: a record is not a tf.Example or lacks a feature.
          RecordError: a number does not fit into its input's integers.
        """
        import tensorflow as tf

        records = tf.constant(batch, tf.string)
        parsed = tf.io.parse_example(records, self._features) if self._features else {}
        return [
            {record_input: records}
            if record_input
            else {
                input_name: _cast(input_name, parsed[input_name], info.dtype)
                for input_name, info in self._parsed_inputs[name].items()
            }
            for name, record_input in self._record_inputs.items()
        ]


def _cast(name: str, feature: Any, enum: int) -> Any:
    """Returns a feature in its input's dtype; integers that do not fit would wrap around."""
    import tensorflow as tf

    dtype = tf.as_dtype(enum)
    if feature.dtype == dtype:
        return feature
    if dtype.is_integer:
        is_outside = (feature > min(dtype.max, tf.int64.max)) | (feature < dtype.min)
        if tf.reduce_any(is_outside):
            value = tf.boolean_mask(feature, is_outside)[0].numpy()
            raise RecordError("OverflowError", f"input '{name}' takes {dtype.name}, got {value}")
    return tf.cast(feature, dtype)


def _features_of(inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    import tensorflow as tf

    features: dict[str, Any] = {}
    for signature, infos in inputs.items():
        for name, info in infos.items():
            shape = [dim.size for dim in info.tensor_shape.dim][1:]
            dtype = _PARSED_DTYPES[tf.as_dtype(info.dtype).name]
            feature = tf.io.FixedLenFeature(shape, dtype)
            if features.setdefault(name, feature) != feature:
                raise ModelError(
                    f"Signatures disagree on input '{name}': it is {features[name]} in one, but "
                    f"{feature} in '{signature}'. Score them in separate runs."
                )
    return features


def _method(definition: Any) -> str:
    return _METHODS.get(definition.method_name, PREDICT)


def _record_input(definition: Any) -> str | None:
    """Returns the name of the input if it is the only one and a vector of strings."""
    import tensorflow as tf

    if len(definition.inputs) != 1:
        return None
    ((name, info),) = definition.inputs.items()
    is_vector = info.tensor_shape.unknown_rank or len(info.tensor_shape.dim) == 1
    return name if info.dtype == tf.string.as_datatype_enum and is_vector else None


def _check_inputs(signature: str, definition: Any, record_format: str, setting: str) -> None:
    import tensorflow as tf

    if _method(definition) != PREDICT and record_format != FORMAT_TF_EXAMPLE:
        raise ModelError(
            f"The {_method(definition)} signature '{signature}' takes {FORMAT_TF_EXAMPLE} records "
            f"only, not {record_format}, since its log holds a tf.Example. Name a predict "
            f"signature in {setting}."
        )
    if _record_input(definition):
        return
    types = {
        name: f"{tf.as_dtype(info.dtype).name}{_shape(info)}"
        for name, info in sorted(definition.inputs.items())
    }
    advice = "Export a signature with one string input of shape [None] that parses the records."
    if record_format != FORMAT_TF_EXAMPLE:
        raise ModelError(
            f"Signature '{signature}' takes ({', '.join(map(' '.join, types.items()))}), which can "
            f"only be parsed from {FORMAT_TF_EXAMPLE} records, not from {record_format}. {advice}"
        )
    for name, type_ in types.items():
        info = definition.inputs[name]
        sizes = [dim.size for dim in info.tensor_shape.dim]
        is_fixed = sizes and not info.tensor_shape.unknown_rank and -1 not in sizes[1:]
        if not is_fixed or tf.as_dtype(info.dtype).name not in _PARSED_DTYPES:
            raise ModelError(
                f"Input '{name}' of signature '{signature}' is {type_}. To be parsed from "
                f"tf.Examples, it needs a dtype that they can hold, and a known shape after the "
                f"batch dimension. {advice}"
            )


def _check_outputs(signature: str, definition: Any) -> None:
    method = _method(definition)
    expected = _EXPECTED_OUTPUTS.get(method, ())
    if expected and not any(name in definition.outputs for name in expected):
        raise ModelError(
            f"The {method} signature '{signature}' needs an output named "
            f"{' or '.join(map(repr, expected))}, but has {', '.join(sorted(definition.outputs))}. "
            f"Rename the output, or export a predict signature."
        )
    for name, info in sorted(definition.outputs.items()):
        encoding = info.WhichOneof("encoding")
        if encoding not in (None, "name"):
            raise composite_output_error(name, encoding)
        if not info.tensor_shape.unknown_rank and not info.tensor_shape.dim:
            raise ModelError(
                f"Output '{name}' of signature '{signature}' is a scalar. Return one row for each "
                f"record."
            )


def _shape(info: Any) -> str:
    if info.tensor_shape.unknown_rank:
        return "[...]"
    sizes = ("None" if dim.size == -1 else str(dim.size) for dim in info.tensor_shape.dim)
    return f"[{', '.join(sizes)}]"
