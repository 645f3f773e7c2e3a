"""PredictionLog wire bytes for whole batches, without a proto per record.

A log holds the request, whose last field is the record, and the response:

    PredictionLog
      request  = headers, which depend on lengths alone and are cached | the record
      response = header | one row of the batch's matrix | string outputs

The messages parse to what `tfx_bsl`'s RunInference writes for the same model.
Sources: tensorflow_serving/apis/prediction_log.proto and tensorflow/core/framework/tensor.proto.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bulk_inferencer._formats import wire
from bulk_inferencer._formats.framing import JoinedRecords
from bulk_inferencer._formats.partial import encode_groups
from bulk_inferencer._signatures import (
    CLASSES_OUTPUT,
    CLASSIFY,
    PREDICT,
    REGRESS,
    REGRESS_OUTPUT,
    SCORES_OUTPUT,
    Signature,
    multi_inference,
    output_prefix,
)
from bulk_inferencer.errors import ModelError

Outputs = Mapping[str, np.ndarray]

_MULTI_INFERENCE = "multi_inference"
_LOG_FIELD = {CLASSIFY: 2, REGRESS: 3, _MULTI_INFERENCE: 4, PREDICT: 6}
_EXAMPLE_LEVELS = ((b"", 1), (b"", 1), (b"", 2), (b"", 1))  # examples, list, input, request
_RESPONSE_FIELD = 2  # in logs of every kind; the request is field 1
_STRING_TENSOR_OF_ONE = b"\x08\x07" + wire.field(2, wire.field(2, b"\x08\x01"))


class PredictionLogEncoder:
    """Turns records and their outputs into serialized PredictionLogs."""

    def __init__(self, signatures: Sequence[Signature], input_name: str) -> None:
        """Chooses the kind of log.

        Args:
          signatures: the signatures that were called, at least one. One classify or regress
            signature gives a `classify_log` or `regress_log`, several of them a
            `multi_inference_log`, anything else a `predict_log`.
          input_name: the name under which a `predict_log` carries the record.
        """
        self._encode_responses: Callable[[Outputs, int], list[bytes]]
        bare_request = b""
        if any(signature.method == PREDICT for signature in signatures):
            kind = PREDICT
            names = ",".join(signature.name for signature in signatures)
            model_spec = wire.field(3, names.encode())
            bare_request = wire.field(1, model_spec)
            levels = (
                (_STRING_TENSOR_OF_ONE, 8),  # string_val of the tensor
                (wire.field(1, input_name.encode()), 2),  # value of the map entry
                (wire.field(1, model_spec), 2),  # inputs of the request
                (b"", 1),  # request of the log
            )
            self._encode_responses = functools.partial(_predict_responses, model_spec)
        elif multi_inference(signatures):
            kind, levels = _MULTI_INFERENCE, _EXAMPLE_LEVELS
            self._encode_responses = functools.partial(_multi_inference_responses, signatures)
        else:
            kind, levels = signatures[0].method, _EXAMPLE_LEVELS
            self._encode_responses = functools.partial(_single_responses, _RESULTS[kind])
        self._header = functools.lru_cache(maxsize=1 << 16)(
            functools.partial(_log_header, levels, _LOG_FIELD[kind])
        )
        self._bare_header = functools.lru_cache(maxsize=1 << 12)(
            functools.partial(_bare_log_header, wire.field(1, bare_request), _LOG_FIELD[kind])
        )

    def encode(self, records: Sequence[bytes] | None, outputs: Outputs) -> Sequence[bytes]:
        """Returns one serialized PredictionLog per record.

        Args:
          records: n serialized records; None for logs whose requests hold none.
          outputs: arrays of shape [n, ...] by name; strings as object arrays of `bytes`. Records
            whose rows are masked do not have the output, and their logs leave it out.

        Raises:
          ModelError: this kind of log cannot carry an output of that dtype or shape.
        """
        if records is None:
            count = max(map(len, outputs.values()), default=0)
            return encode_groups(self._encode_without, [b""] * count, outputs)
        return encode_groups(self._encode, records, outputs)

    def _encode_without(self, records: Sequence[bytes], outputs: Outputs) -> list[bytes]:
        responses = self._encode_responses(outputs, len(records))
        return [self._bare_header(len(response)) + response for response in responses]

    def _encode(self, records: Sequence[bytes], outputs: Outputs) -> Sequence[bytes]:
        responses = self._encode_responses(outputs, len(records))
        headers = map(self._header, map(len, records), map(len, responses))
        return JoinedRecords(list(headers), records, responses)


def _log_header(
    levels: Sequence[tuple[bytes, int]], log_field: int, record_bytes: int, response_bytes: int
) -> bytes:
    """Returns what precedes a record that `response_bytes` follow.

    The record is the last field of nested messages. For each of them, from the inside out, `levels`
    has the fields that precede the record and the number of the field that holds it.
    """
    request = b""
    for before, number in levels:
        request = before + wire.header(number, len(request) + record_bytes) + request
    return wire.header(log_field, len(request) + record_bytes + response_bytes) + request


def _bare_log_header(request: bytes, log_field: int, response_bytes: int) -> bytes:
    """Returns what precedes a response, where the request has no record."""
    return wire.header(log_field, len(request) + response_bytes) + request


def _predict_responses(model_spec: bytes, outputs: Outputs, count: int) -> list[bytes]:
    """Returns, as fields of their logs, PredictResponses: maps from name to TensorProto."""
    parts: list[bytes | np.ndarray] = []
    string_entries = []
    for name, values in outputs.items():
        key = wire.field(1, name.encode())
        if values.dtype == object:
            string_entries.append(list(_string_output_entries(key, values)))
        else:
            parts += _numeric_output_entry(key, name, values)
    parts.append(wire.field(2, model_spec))
    if not string_entries:
        width = sum(part.shape[1] if isinstance(part, np.ndarray) else len(part) for part in parts)
        return wire.rows([wire.header(_RESPONSE_FIELD, width), *parts], count)
    entries = zip(*string_entries, wire.rows(parts, count), strict=True)
    return _response_fields(map(b"".join, entries))


def _response_fields(responses: Iterable[bytes]) -> list[bytes]:
    return [_response_header(len(response)) + response for response in responses]


@functools.lru_cache(maxsize=1 << 12)
def _response_header(length: int) -> bytes:
    return wire.header(_RESPONSE_FIELD, length)


def _numeric_output_entry(key: bytes, name: str, values: np.ndarray) -> list[bytes | np.ndarray]:
    """Returns the parts of an `outputs` entry: a constant and the columns of values."""
    layout = _TENSOR_LAYOUTS.get(values.dtype.name)
    if layout is None:
        raise ModelError(
            f"Output '{name}' has dtype {values.dtype}; a PredictionLog can carry "
            f"{', '.join(sorted(_TENSOR_LAYOUTS))} and strings. Cast it in the serving signature."
        )
    size = math.prod(values.shape[1:])
    if size > 1 and layout.as_content:
        field_number, columns = 4, wire.raw_bytes(values)
    else:
        field_number = layout.field
        columns = layout.encode(values.reshape(len(values), size))
    width = columns.shape[1]
    tensor = _tensor_head(layout.data_type, values.shape[1:])
    if size:
        tensor += wire.header(field_number, width)
    value = wire.header(2, len(tensor) + width) + tensor
    return [wire.header(1, len(key) + len(value) + width) + key + value, columns]


def _string_output_entries(key: bytes, values: np.ndarray) -> Iterator[bytes]:
    head = _tensor_head(_DT_STRING, values.shape[1:])
    for row in values.reshape(len(values), -1).tolist():
        tensor = head + b"".join(wire.field(8, value) for value in row)
        yield wire.field(1, key + wire.field(2, tensor))


def _tensor_head(data_type: int, shape: Sequence[int]) -> bytes:
    """Returns dtype and shape [1, *shape] of a TensorProto."""
    sizes = b"".join(
        wire.field(2, wire.tag(1, 0) + wire.varint(size) if size else b"") for size in (1, *shape)
    )
    return wire.tag(1, 0) + wire.varint(data_type) + wire.field(2, sizes)


def _single_responses(
    results: Callable[[Outputs, int], list[bytes]], outputs: Outputs, count: int
) -> list[bytes]:
    """Returns ClassificationResponses or RegressionResponses."""
    return _response_fields(wire.field(1, result) for result in results(outputs, count))


def _multi_inference_responses(
    signatures: Sequence[Signature], outputs: Outputs, count: int
) -> list[bytes]:
    """Returns MultiInferenceResponses: a result for each signature."""
    by_signature = []
    for signature in signatures:
        prefix = output_prefix(signature, signatures)
        own = {n.removeprefix(prefix): v for n, v in outputs.items() if n.startswith(prefix)}
        model_spec = wire.field(1, wire.field(3, signature.name.encode()))
        number = 2 if signature.method == CLASSIFY else 3
        results = _RESULTS[signature.method](own, count)
        by_signature.append([wire.field(1, model_spec + wire.field(number, r)) for r in results])
    return _response_fields(map(b"".join, zip(*by_signature, strict=True)))


def _classification_results(outputs: Outputs, count: int) -> list[bytes]:
    """Returns ClassificationResults, from `classes`, `scores` or both."""
    classes, scores = outputs.get(CLASSES_OUTPUT), outputs.get(SCORES_OUTPUT)
    if classes is not None and (classes.dtype != object or classes.ndim != 2):
        raise _unexpected(CLASSES_OUTPUT, "strings of shape [batch, classes]", classes)
    if scores is not None and (scores.dtype != np.float32 or scores.ndim != 2):
        raise _unexpected(SCORES_OUTPUT, "float32 of shape [batch, classes]", scores)
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise ModelError(
            f"Outputs 'classes' and 'scores' of a classify signature must have the same shape, "
            f"but have {classes.shape} and {scores.shape}. Correct the signature."
        )
    parts: list[list[list[bytes]]] = []  # for each output and class, a field per record
    if classes is not None:
        parts.append([list(map(_label_field, column)) for column in classes.T.tolist()])
    if scores is not None:
        tag = b"\x15"  # field 2, 32 bits
        columns = [wire.raw_bytes(column[:, np.newaxis]) for column in scores.T]
        parts.append([wire.rows([tag, column], count) for column in columns])
    members = [
        [wire.field(1, b"".join(fields)) for fields in zip(*of_class, strict=True)]
        for of_class in zip(*parts, strict=True)
    ]
    by_record = zip(*members, strict=True) if members else [()] * count
    return [wire.field(1, b"".join(record_members)) for record_members in by_record]


@functools.lru_cache(maxsize=1 << 12)
def _label_field(label: bytes) -> bytes:
    try:
        label.decode()
    except UnicodeDecodeError as error:
        raise ModelError(
            f"Output 'classes' of a classify signature must be UTF-8 text, not {label!r}. Return "
            f"text labels, or use a predict signature."
        ) from error
    return wire.field(1, label)


def _regression_results(outputs: Outputs, count: int) -> list[bytes]:
    """Returns RegressionResults, from `outputs` of shape [batch] or [batch, 1]."""
    values = outputs[REGRESS_OUTPUT]
    if values.dtype != np.float32 or values.shape not in ((count,), (count, 1)):
        raise _unexpected(REGRESS_OUTPUT, "float32 of shape [batch] or [batch, 1]", values)
    value_tag = b"\x0d"  # field 1, 32 bits
    return wire.rows([wire.header(1, 5) + value_tag, wire.raw_bytes(values)], count)


_RESULTS = {CLASSIFY: _classification_results, REGRESS: _regression_results}


def _unexpected(name: str, expected: str, values: np.ndarray) -> ModelError:
    dtype = "strings" if values.dtype == object else values.dtype
    return ModelError(
        f"Output '{name}' must be {expected}, not {dtype} of shape {values.shape}. Correct the "
        f"signature, or export it as a predict signature."
    )


class _TensorLayout(NamedTuple):
    """How a TensorProto carries one dtype."""

    data_type: int  # its DataType
    field: int  # number of the field for values of this type
    encode: Callable[[np.ndarray], np.ndarray]  # makes uint8 columns of that field from [n, k]
    as_content: bool = True  # whether several values per record go to `tensor_content` instead


def _half_bits(values: np.ndarray) -> np.ndarray:
    return wire.padded_varints(values.view(np.uint16), width=3)


_DT_STRING = 7
_TENSOR_LAYOUTS = {
    "float32": _TensorLayout(1, 5, wire.raw_bytes),
    "float64": _TensorLayout(2, 6, wire.raw_bytes),
    "int32": _TensorLayout(3, 7, wire.padded_varints),
    "uint8": _TensorLayout(4, 7, wire.padded_varints),
    "int16": _TensorLayout(5, 7, wire.padded_varints),
    "int8": _TensorLayout(6, 7, wire.padded_varints),
    "complex64": _TensorLayout(8, 9, wire.raw_bytes, as_content=False),
    "int64": _TensorLayout(9, 10, wire.padded_varints),
    "bool": _TensorLayout(10, 11, wire.raw_bytes, as_content=False),
    "bfloat16": _TensorLayout(14, 13, _half_bits),
    "uint16": _TensorLayout(17, 7, wire.padded_varints, as_content=False),
    "complex128": _TensorLayout(18, 12, wire.raw_bytes, as_content=False),
    "float16": _TensorLayout(19, 13, _half_bits),
    "uint32": _TensorLayout(22, 16, wire.padded_varints),
    "uint64": _TensorLayout(23, 17, wire.padded_varints),
}
