"""A model's SignatureDefs: which ones to call, and whether that is possible.

SavedModels and model servers describe themselves in the same protos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._signatures import (
    CLASSES_OUTPUT,
    CLASSIFY,
    PREDICT,
    REGRESS,
    REGRESS_OUTPUT,
    SCORES_OUTPUT,
    OutputType,
    Signature,
)
from bulk_inferencer.errors import ModelError

DEFAULT_SIGNATURE = "serving_default"

_METHODS = {"tensorflow/serving/classify": CLASSIFY, "tensorflow/serving/regress": REGRESS}
_EXPECTED_OUTPUTS = {CLASSIFY: (CLASSES_OUTPUT, SCORES_OUTPUT), REGRESS: (REGRESS_OUTPUT,)}


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
        _check_method(name, available[name], record_format, setting)
        _check_outputs(name, available[name])
    return {name: available[name] for name in names}


def signatures(definitions: Mapping[str, Any]) -> tuple[Signature, ...]:
    """Returns what results need to know about SignatureDefs."""
    return tuple(_signature(name, definition) for name, definition in definitions.items())


def _signature(name: str, definition: Any) -> Signature:
    outputs = sorted(definition.outputs.items())
    types = tuple(_output_type(info) for _, info in outputs)
    return Signature(name, method_of(definition), tuple(n for n, _ in outputs), types=types)


def _output_type(info: Any) -> OutputType:
    shape = tensor_shape(info)
    return OutputType(tensor_dtype(info), None if shape is None else shape[1:])


def tensor_dtype(info: Any) -> str:
    """Returns the dtype of a TensorInfo, as TensorFlow names it."""
    import tensorflow as tf

    return str(tf.as_dtype(info.dtype).name)


def tensor_shape(info: Any) -> tuple[int | None, ...] | None:
    """Returns the shape of a TensorInfo, None for unknown sizes; None if the rank is unknown."""
    if info.tensor_shape.unknown_rank:
        return None
    return tuple(None if dim.size == -1 else dim.size for dim in info.tensor_shape.dim)


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


def method_of(definition: Any) -> str:
    """Returns `PREDICT`, `CLASSIFY` or `REGRESS`."""
    return _METHODS.get(definition.method_name, PREDICT)


def _check_method(signature: str, definition: Any, record_format: str, setting: str) -> None:
    method = method_of(definition)
    if method != PREDICT and record_format != FORMAT_TF_EXAMPLE:
        raise ModelError(
            f"The {method} signature '{signature}' takes {FORMAT_TF_EXAMPLE} records only, not "
            f"{record_format}, since its log holds a tf.Example. Name a predict signature in "
            f"{setting}."
        )


def _check_outputs(signature: str, definition: Any) -> None:
    method = method_of(definition)
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
