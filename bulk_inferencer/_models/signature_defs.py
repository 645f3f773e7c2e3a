"""A model's SignatureDefs: which of them to call, whether they can be, and what to feed them.

Loaded models and model servers describe themselves in the same protos, so this serves both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bulk_inferencer._models.predictor import FORMAT_TF_EXAMPLE, RecordError
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

_METHODS = {
    "tensorflow/serving/classify": CLASSIFY,
    "tensorflow/serving/regress": REGRESS,
}
_EXPECTED_OUTPUTS = {
    CLASSIFY: (CLASSES_OUTPUT, SCORES_OUTPUT),
    REGRESS: (REGRESS_OUTPUT,),
}
# Features of a tf.Example are float32, int64 or bytes; other inputs are cast from the nearest.
_PARSED_DTYPES = {
    "float32": "float32",
    "float64": "float32",
    "float16": "float32",
    "bfloat16": "float32",
    "int64": "int64",
    "int32": "int64",
    "int16": "int64",
    "int8": "int64",
    "uint8": "int64",
    "uint16": "int64",
    "uint32": "int64",
    "uint64": "int64",
    "bool": "int64",
    "string": "string",
}


def select(
    available: Mapping[str, Any], names: Sequence[str], record_format: str, where: str
) -> dict[str, Any]:
    """Returns the SignatureDefs to call, checked, in the order in which they were named.

    Args:
      available: all SignatureDefs of the model, by name.
      names: those to call; default: `serving_default`.
      record_format: one of `RECORD_FORMATS`.
      where: the model, for messages.

    Raises:
      ModelError: a signature does not exist, or cannot take records of this format.
    """
    names = names or (DEFAULT_SIGNATURE,)
    for name in names:
        if name not in available:
            has = ", ".join(sorted(n for n in available if not n.startswith("__"))) or "none"
            raise ModelError(
                f"Signature '{name}' not found in {where}; it has: {has}. "
                f"Set ModelSpec.model_signature_name (without TFX: signatures)."
            )
        _check_inputs(name, available[name], record_format)
        _check_outputs(name, available[name])
    definitions = {name: available[name] for name in names}
    Feeds(definitions)  # whether the signatures agree on what they parse
    return definitions


def signatures(definitions: Mapping[str, Any]) -> tuple[Signature, ...]:
    """Returns what results need to know of SignatureDefs."""
    return tuple(
        Signature(name, _method(definition), tuple(sorted(definition.outputs)))
        for name, definition in definitions.items()
    )


def check_rows(name: str, output: np.ndarray, count: int) -> None:
    """Checks that an output has a row for each of `count` records.

    Raises:
      ModelError: it has not.
    """
    if not output.shape or output.shape[0] != count:
        raise ModelError(
            f"Expected output '{name}' to have the batch size {count} as its first dimension, "
            f"got shape {output.shape}. Return one row per record from the signature."
        )


def composite_output_error(name: str, kind: str) -> ModelError:
    """Returns the error for an output that is not one dense tensor."""
    return ModelError(
        f"Expected output '{name}' to be a dense tensor, got {kind}. Return .to_tensor() of a "
        f"ragged or tf.sparse.to_dense() of a sparse tensor from the serving signature."
    )


class Feeds:
    """Turns a batch of records into the inputs of each signature.

    A signature with one vector of strings as its only input gets the records themselves; any other
    gets features of its inputs' names, parsed from tf.Examples, once for all signatures.
    """

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        """Plans the inputs of SignatureDefs that `select` returned.

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
        """The name of the first signature's input, or `examples` where features are parsed."""
        return next(iter(self._record_inputs.values())) or "examples"

    def __call__(self, batch: Sequence[bytes]) -> list[dict[str, Any]]:
        """Returns tensors of shape [len(batch), ...] by input name, for each signature.

        Raises:
          tf.errors.OpError: a record is not a tf.Example or lacks a feature.
          RecordError: a feature does not fit into its input's integers.
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
    """Returns a feature as its input takes it; what does not fit would wrap around unnoticed."""
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
    """Returns the parsing spec of all features that signatures take."""
    import tensorflow as tf

    features: dict[str, Any] = {}
    for signature, infos in inputs.items():
        for name, info in infos.items():
            shape = [dim.size for dim in info.tensor_shape.dim][1:]
            dtype = _PARSED_DTYPES[tf.as_dtype(info.dtype).name]
            feature = tf.io.FixedLenFeature(shape, dtype)
            if features.setdefault(name, feature) != feature:
                raise ModelError(
                    f"Signatures disagree on input '{name}': expected {features[name]}, got "
                    f"{feature} in '{signature}'. Score them in separate runs."
                )
    return features


def _method(definition: Any) -> str:
    return _METHODS.get(definition.method_name, PREDICT)


def _record_input(definition: Any) -> str | None:
    """Returns the input that takes serialized records: the only one, a vector of strings."""
    import tensorflow as tf

    if len(definition.inputs) != 1:
        return None
    ((name, info),) = definition.inputs.items()
    is_vector = info.tensor_shape.unknown_rank or len(info.tensor_shape.dim) == 1
    return name if info.dtype == tf.string.as_datatype_enum and is_vector else None


def _check_inputs(signature: str, definition: Any, record_format: str) -> None:
    import tensorflow as tf

    if _method(definition) != PREDICT and record_format != FORMAT_TF_EXAMPLE:
        raise ModelError(
            f"Expected {FORMAT_TF_EXAMPLE} records for the {_method(definition)} signature "
            f"'{signature}', got {record_format}. Its log holds a tf.Example; name a predict "
            f"signature in ModelSpec.model_signature_name."
        )
    if _record_input(definition):
        return
    inputs = ", ".join(
        f"{name} {tf.as_dtype(info.dtype).name}{_shape(info)}"
        for name, info in sorted(definition.inputs.items())
    )
    if record_format != FORMAT_TF_EXAMPLE:
        raise ModelError(
            f"Signature '{signature}' takes ({inputs}), which can be parsed from "
            f"{FORMAT_TF_EXAMPLE} records only, got {record_format}. Export a signature with one "
            f"string input of shape [None] that parses the records."
        )
    for name, info in sorted(definition.inputs.items()):
        sizes = [dim.size for dim in info.tensor_shape.dim]
        is_fixed = sizes and not info.tensor_shape.unknown_rank and -1 not in sizes[1:]
        if not is_fixed or tf.as_dtype(info.dtype).name not in _PARSED_DTYPES:
            raise ModelError(
                f"Input '{name}' of signature '{signature}' must have a dtype that tf.Example "
                f"can hold and a known shape after the batch dimension, got "
                f"{tf.as_dtype(info.dtype).name}{_shape(info)}. Export a signature with one "
                f"string input of shape [None] that parses the records."
            )


def _check_outputs(signature: str, definition: Any) -> None:
    method = _method(definition)
    expected = _EXPECTED_OUTPUTS.get(method, ())
    if expected and not any(name in definition.outputs for name in expected):
        raise ModelError(
            f"Expected the {method} signature '{signature}' to have an output named "
            f"{' or '.join(map(repr, expected))}, got {', '.join(sorted(definition.outputs))}. "
            f"Rename the output, or export it as a predict signature."
        )
    for name, info in sorted(definition.outputs.items()):
        encoding = info.WhichOneof("encoding")
        if encoding not in (None, "name"):
            raise composite_output_error(name, encoding)
        if not info.tensor_shape.unknown_rank and not info.tensor_shape.dim:
            raise ModelError(
                f"Expected output '{name}' of signature '{signature}' to have the batch size as "
                f"its first dimension, got a scalar. Return one row per record."
            )


def _shape(info: Any) -> str:
    if info.tensor_shape.unknown_rank:
        return "[...]"
    sizes = ("None" if dim.size == -1 else str(dim.size) for dim in info.tensor_shape.dim)
    return f"[{', '.join(sizes)}]"
