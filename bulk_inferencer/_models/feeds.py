"""From a batch of records to what each signature takes: the records, or their features."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from bulk_inferencer._formats import first_records
from bulk_inferencer._formats.example import whole_features
from bulk_inferencer._formats.first_records import FirstRecords
from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_EXAMPLE
from bulk_inferencer._models import missing_features
from bulk_inferencer._models.inputs import (
    DENSE,
    RAGGED,
    SPARSE,
    Input,
    Parts,
    inputs_of,
    looks_like_records,
)
from bulk_inferencer._models.predictor import RecordError
from bulk_inferencer._models.signature_defs import method_of
from bulk_inferencer._signatures import PREDICT
from bulk_inferencer.errors import ModelError

TakesRecords: TypeAlias = bool | tuple[str, ...] | None

# Features of a tf.Example are float32, int64 or bytes; other inputs are cast from the nearest.
_PARSED_DTYPES = {
    **dict.fromkeys(("float16", "bfloat16", "float32", "float64"), "float32"),
    **dict.fromkeys(("bool", "int8", "int16", "int32", "int64"), "int64"),
    **dict.fromkeys(("uint8", "uint16", "uint32", "uint64"), "int64"),
    "string": "string",
}
_ADVICE = "Export a signature with one string input of shape [None] that parses the records."

_Model = TypeVar("_Model", bound=Any)  # a dataclass with `takes_records`


class Call(NamedTuple):
    """One call of a signature.

    Attributes:
      inputs: tensors by the names under which the signature takes them.
      rows: how many rows it has. Those beyond the batch repeat the last record.
    """

    inputs: dict[str, Any]
    rows: int


def rows_of(results: Sequence[Mapping[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """Returns the outputs of all calls in one, without the rows that are padding."""
    if len(results) == 1:
        return {name: values[:count] for name, values in results[0].items()}
    return {n: np.concatenate([own[n] for own in results])[:count] for n in results[0]}


class _Plan(NamedTuple):
    """How a signature gets its inputs."""

    signature: str
    inputs: Mapping[str, Input]
    takes_records: frozenset[str]  # the names of the inputs that do
    undecided: frozenset[str]  # those that do if the records have no feature of their name

    @property
    def batch_size(self) -> int | None:
        sizes = {own.batch_size for n, own in self.inputs.items() if n not in self.constants}
        return max(sizes - {None}, default=None)  # type: ignore[type-var]

    @property
    def constants(self) -> dict[str, Any]:
        """What the model brings itself, such as a threshold, by input."""
        return {
            name: own.default
            for name, own in self.inputs.items()
            if own.default is not None and (own.batch_size is not None or own.shape == ())
        }

    @property
    def parsed(self) -> dict[str, Input]:
        """The inputs that take the features of their names."""
        rest = self.inputs.keys() - self.takes_records - self.undecided - self.constants.keys()
        return {name: self.inputs[name] for name in sorted(rest)}


class Feeds:
    """Turns a batch of records into the inputs of each signature.

    A signature whose only input is a vector of strings gets the records themselves, unless the
    input is named like a feature of theirs. Any other signature gets the features that its inputs
    are named after. They are parsed from tf.Examples, once for all signatures.

    All threads of a process share it.
    """

    def __init__(
        self,
        definitions: Mapping[str, Any],
        record_format: str = FORMAT_TF_EXAMPLE,
        takes_records: TakesRecords = None,
        parts: Mapping[str, Parts] | None = None,
    ) -> None:
        """Plans the inputs.

        Args:
          definitions: what `select` returned.
          record_format: one of `RECORD_FORMATS`.
          takes_records: see `SavedModel`.
          parts: what `parts_of` found, by signature.

        Raises:
          ModelError: an input cannot be fed, or two signatures take a feature of one name in
            different forms.
        """
        self._plans = tuple(
            _plan(name, definition, (parts or {}).get(name, {}), record_format, takes_records)
            for name, definition in definitions.items()
        )
        self._features = _features_of(self._plans)
        self._whole: frozenset[str] = frozenset()  # features of integers, for inputs of floats
        self._lock = threading.Lock()

    @property
    def input_name(self) -> str:
        """The name under which the first signature takes the records; `examples` if by features."""
        first = self._plans[0]
        return min(first.takes_records or first.undecided, default="examples")

    @property
    def is_decided(self) -> bool:
        """Whether it is known what each input takes, so that no record has to tell."""
        return not any(plan.undecided for plan in self._plans)

    @property
    def takes_records(self) -> TakesRecords:
        """The inputs that take the records; None if that is not decided."""
        if not self.is_decided:
            return None
        return tuple(sorted({name for plan in self._plans for name in plan.takes_records}))

    def fit(self, first: FirstRecords) -> None:
        """Decides by the features of the records, if there are records and they have to tell."""
        undecided = {name for plan in self._plans for name in plan.undecided}
        by_feature = first.having(undecided)
        if not undecided or not (by_feature or first.count):
            return
        plans = tuple(
            plan._replace(
                takes_records=plan.takes_records | (plan.undecided - by_feature),
                undecided=frozenset(),
            )
            for plan in self._plans
        )
        # In this order: another thread takes decided plans as a sign that all is ready.
        self._features = _features_of(plans)
        self._plans = plans

    def fitted(self, model: _Model, first: FirstRecords, where: str) -> _Model:
        """Returns the model that these are the feeds of, with `takes_records` as records tell.

        Raises:
          ModelError: no record has a feature for an input.
        """
        is_told = self.is_decided
        self.fit(first)
        self.check_features(first, where)
        return model if is_told else replace(model, takes_records=self.takes_records)

    def check_features(self, first: FirstRecords, where: str) -> None:
        """Compares the inputs with the features of the records.

        Raises:
          ModelError: none of the records has a feature that the model, `where`, cannot do without.
        """
        for plan in self._plans:
            wanted = {name: own for name, own in plan.parsed.items() if own.default is None}
            missing = wanted.keys() - first.having(wanted)
            if missing and first.count:
                raise ModelError(missing_features.message(where, wanted, missing, first.seen))

    def __call__(self, batch: Sequence[bytes]) -> list[list[Call]]:
        """Returns the calls that each signature needs.

        Raises:
          tf.errors.OpError: a record is not a tf.Example or lacks a feature. If the message quotes
            a record that is not UTF-8, TensorFlow raises a UnicodeDecodeError instead.
          RecordError: a number does not fit into its input's integers.
        """
        import tensorflow as tf

        if not self.is_decided:
            with self._lock:  # The first batch decides for all.
                self.fit(first_records.of_batch(batch))
        records = tf.constant(batch, tf.string)
        parsed = self._parse(batch, records) if self._features else {}
        calls = []
        for plan in self._plans:
            features = {name: _cast(name, parsed[name], own) for name, own in plan.parsed.items()}
            features |= dict.fromkeys(plan.takes_records, records)
            calls.append(list(_calls(plan, features, len(batch))))
        return calls

    def _parse(self, batch: Sequence[bytes], records: Any) -> dict[str, Any]:
        """Returns the features. Integers may stay integers where the input takes floats."""
        import tensorflow as tf

        tried = self._whole  # which another thread may change
        try:
            return _parsed(records, self._features, tried)
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
            floats = {name for name, own in self._features.items() if own.dtype == tf.float32}
            held = [whole_features(record, floats) for record in batch]
            whole = floats.intersection(*held)
            mixed = floats.intersection(set().union(*held)) - whole
            if whole == tried and not mixed:
                raise
        self._whole = frozenset(whole)
        rest = {name: own for name, own in self._features.items() if name not in mixed}
        parsed = _parsed(records, rest, whole) if rest else {}
        for name in mixed:
            # TensorFlow parses one dtype at a time.
            is_whole = np.array([name in own for own in held])
            rows = np.flatnonzero(is_whole), np.flatnonzero(~is_whole)
            feature = {name: self._features[name]}
            values = [
                _parsed(tf.gather(records, own_rows), feature, own_whole)[name]
                for own_rows, own_whole in zip(rows, ([name], []), strict=True)
            ]
            # Exact for all floats of a tf.Example, and for integers up to 2**53.
            joined = tf.concat([tf.cast(own, tf.float64) for own in values], 0)
            parsed[name] = tf.gather(joined, np.argsort(np.concatenate(rows)))
        return parsed


def _parsed(records: Any, features: Mapping[str, Any], whole: Iterable[str]) -> dict[str, Any]:
    """Returns features by name; the `whole` ones as integers."""
    import tensorflow as tf

    integers = {name: features[name]._replace(dtype=tf.int64) for name in whole}
    for name, own in integers.items():
        if isinstance(own, tf.io.FixedLenFeature):  # whose default is a float
            integers[name] = own._replace(default_value=None)
    parsed: dict[str, Any] = tf.io.parse_example(records, {**features, **integers})
    return parsed


def _plan(
    signature: str, definition: Any, parts: Parts, record_format: str, takes: TakesRecords
) -> _Plan:
    inputs = inputs_of(definition, parts)
    plan = _Plan(signature, inputs, frozenset(), frozenset())
    vectors = [name for name, own in inputs.items() if own.is_vector_of_strings]
    is_alone = len(inputs) - len(plan.constants) == len(vectors) == 1
    if isinstance(takes, tuple):
        taking = inputs.keys() & set(takes)
        if others := sorted(taking - set(vectors)):
            raise ModelError(
                f"takes_records names {', '.join(others)}, but signature '{signature}' takes "
                f"{_listed(inputs)}. Only a vector of strings can take records."
            )
        plan = plan._replace(takes_records=frozenset(taking))
    elif takes:
        told = vectors if is_alone else filter(looks_like_records, vectors)
        plan = plan._replace(takes_records=frozenset(told))
    elif takes is None and is_alone:
        is_told = method_of(definition) != PREDICT or record_format == FORMAT_PROTO
        is_told = is_told or looks_like_records(vectors[0])
        own = frozenset(vectors)
        plan = plan._replace(takes_records=own) if is_told else plan._replace(undecided=own)
    _check(plan, record_format)
    return plan


def _check(plan: _Plan, record_format: str) -> None:
    if plan.parsed and record_format == FORMAT_PROTO:
        raise ModelError(
            f"Signature '{plan.signature}' takes ({_listed(plan.inputs)}), which can only be "
            f"parsed from {FORMAT_TF_EXAMPLE} records, not from {record_format}. {_ADVICE}"
        )
    for name, own in plan.parsed.items():
        start = f"Input '{name}' of signature '{plan.signature}' is {own}."
        if own.kind not in (DENSE, RAGGED, SPARSE):
            raise ModelError(f"{start} That cannot be made from features. {_ADVICE}")
        is_known = own.kind != DENSE or own.row_shape is not None
        if not is_known or own.dtype not in _PARSED_DTYPES:
            raise ModelError(
                f"{start} To be parsed from tf.Examples, it needs a dtype that they can hold, and "
                f"a known shape after the batch dimension. {_ADVICE}"
            )
    sizes = {n: own.batch_size for n, own in plan.inputs.items() if n not in plan.constants}
    if len(set(sizes.values()) - {None}) > 1:
        raise ModelError(
            f"The inputs of signature '{plan.signature}' have different batch sizes: "
            f"{_listed(plan.inputs)}. Export it with one, or better with None."
        )


def _features_of(plans: Iterable[_Plan]) -> dict[str, Any]:
    """Returns what `tf.io.parse_example` is to parse, by feature."""
    features: dict[str, Any] = {}
    for plan in plans:
        for name, own in plan.parsed.items():
            feature = _feature_of(own)
            if features.setdefault(name, feature) != feature:
                raise ModelError(
                    f"Signatures disagree on input '{name}': it is {features[name]} in one, but "
                    f"{feature} in '{plan.signature}'. Score them in separate runs."
                )
    return features


def _feature_of(own: Input) -> Any:
    import tensorflow as tf

    dtype = _PARSED_DTYPES[own.dtype]
    if own.kind == DENSE or own.row_shape is not None:
        row_shape = own.row_shape or ()
        default = None if own.default is None else np.reshape(own.default, row_shape).tolist()
        return tf.io.FixedLenFeature(row_shape, dtype, default)
    return tf.io.RaggedFeature(tf.as_dtype(dtype), row_splits_dtype=tf.int64)


def _cast(name: str, feature: Any, own: Input) -> Any:
    """Returns a feature in its input's dtype; integers that do not fit would wrap around."""
    import tensorflow as tf

    if isinstance(feature, tf.RaggedTensor):
        return feature.with_flat_values(_cast(name, feature.flat_values, own))
    dtype = tf.as_dtype(own.dtype)
    if feature.dtype == dtype:
        return feature
    if dtype.is_integer:
        is_outside = (feature > min(dtype.max, tf.int64.max)) | (feature < dtype.min)
        if tf.reduce_any(is_outside):
            value = tf.boolean_mask(feature, is_outside)[0].numpy()
            raise RecordError("OverflowError", f"input '{name}' takes {dtype.name}, got {value}")
    return tf.cast(feature, dtype)


def _calls(plan: _Plan, features: Mapping[str, Any], count: int) -> Iterator[Call]:
    import tensorflow as tf

    size = plan.batch_size or count
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        inputs = {}
        for name, values in features.items():
            own = values if size == count else tf.gather(values, rows)
            inputs.update(_tensors(plan.inputs[name], own))
        inputs |= {name: tf.constant(value) for name, value in plan.constants.items()}
        yield Call(inputs, size)


def _tensors(own: Input, values: Any) -> dict[str, Any]:
    """Returns the tensors that make up an input."""
    import tensorflow as tf

    made: Sequence[Any] = (values,)
    if own.kind == RAGGED:
        made = (values.flat_values, values.row_splits)
    elif own.kind == SPARSE:
        is_ragged = isinstance(values, tf.RaggedTensor)
        sparse = values.to_sparse() if is_ragged else tf.sparse.from_dense(values)
        made = (sparse.indices, sparse.values, sparse.dense_shape)
    return dict(zip(own.tensors, made, strict=True))


def _listed(inputs: Mapping[str, Input]) -> str:
    return ", ".join(f"{name} {own}" for name, own in inputs.items())
