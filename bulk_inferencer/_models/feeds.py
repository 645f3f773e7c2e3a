"""From a batch of records to what each signature takes: the records, or their features."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from bulk_inferencer._formats import first_records
from bulk_inferencer._formats.column_values import check_features, list_with_gap
from bulk_inferencer._formats.first_records import FirstRecords
from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_EXAMPLE
from bulk_inferencer._formats.rows import Rows, as_list
from bulk_inferencer._models import missing_features
from bulk_inferencer._models.column_feeds import (
    FEATURE_DTYPES,
    check_columns,
    features_of_columns,
)
from bulk_inferencer._models.example_feeds import FeatureParser
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

RECORD = "record"
FEATURE = "feature"
EITHER = "record or feature"
CONSTANT = "constant"

TakesRecords: TypeAlias = bool | tuple[str, ...] | None

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
    are named after: the columns of rows, or what is parsed from tf.Examples, once for all
    signatures.

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
        self._parser = _parser_of(self._plans)
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

    @property
    def roles(self) -> dict[str, dict[str, str]]:
        """What each input takes, by signature and name: `RECORD`, `FEATURE`, `EITHER`, `CONSTANT`.

        `EITHER` is a record if records have no feature of the input's name.
        """
        return {
            plan.signature: {
                name: RECORD
                if name in plan.takes_records
                else EITHER
                if name in plan.undecided
                else CONSTANT
                if name in plan.constants
                else FEATURE
                for name in plan.inputs
            }
            for plan in self._plans
        }

    def fit(self, first: FirstRecords, where: str = "The model") -> None:
        """Decides by the features of the records, if there are records and they have to tell.

        Raises:
          ModelError: the model, `where`, may want a column of text, but none has the input's name.
        """
        undecided = {name for plan in self._plans for name in plan.undecided}
        by_feature = first.having(undecided)
        if not undecided or not (by_feature or first.count or first.columns):
            return
        if first.columns and undecided - by_feature:
            missing_features.check_text(where, undecided - by_feature, first.columns)
        plans = tuple(
            plan._replace(
                takes_records=plan.takes_records | (plan.undecided - by_feature),
                undecided=frozenset(),
            )
            for plan in self._plans
        )
        # In this order: another thread takes decided plans as a sign that all is ready.
        self._parser = _parser_of(plans)
        self._plans = plans

    def fitted(self, model: _Model, first: FirstRecords, where: str) -> _Model:
        """Returns the model that these are the feeds of, with `takes_records` as records tell.

        Raises:
          ModelError: no record has a feature for an input.
        """
        is_told = self.is_decided
        self.fit(first, where)
        self.check_features(first, where)
        return model if is_told else replace(model, takes_records=self.takes_records)

    def check_features(self, first: FirstRecords, where: str) -> None:
        """Compares the inputs with the features of the records.

        Raises:
          ModelError: none of the records has a feature that the model, `where`, cannot do without,
            or the column of its name has a type that no value of the input has.
          InputError: the model takes records, but a column cannot become a part of one.
        """
        columns = first.columns
        for plan in self._plans:
            wanted = {name: own for name, own in plan.parsed.items() if own.default is None}
            missing = wanted.keys() - first.having(wanted)
            if missing and columns:
                raise ModelError(missing_features.of_columns(where, wanted, missing, columns))
            if missing and first.count:
                raise ModelError(missing_features.message(where, wanted, missing, first.seen))
            if columns:
                check_columns(where, plan.parsed, columns)
                if plan.takes_records:
                    check_features(columns)

    def __call__(self, batch: Sequence[bytes]) -> list[list[Call]]:
        """Returns the calls that each signature needs.

        Raises:
          tf.errors.OpError: a record is not a tf.Example or lacks a feature. If the message quotes
            a record that is not UTF-8, TensorFlow raises a UnicodeDecodeError instead.
          RecordError: a number does not fit into its input's integers; or a row of a table does
            not fit.
        """
        import tensorflow as tf

        if not self.is_decided:
            with self._lock:  # The first batch decides for all.
                try:
                    self.fit(first_records.of_batch(batch))
                except ModelError as error:  # but the rows of another batch may have the column
                    raise RecordError(type(error).__name__, str(error)) from error
        take: Callable[[Mapping[str, Input]], dict[str, Any]]
        if isinstance(batch, Rows):
            take = functools.partial(features_of_columns, batch.columns)
        else:
            take = self._parser(batch)
        records: Any = None
        if any(plan.takes_records for plan in self._plans):
            if isinstance(batch, Rows):
                _check_no_gaps(batch.columns)
            records = tf.constant(as_list(batch), tf.string)
        calls = []
        for plan in self._plans:
            features = take(plan.parsed) | dict.fromkeys(plan.takes_records, records)
            calls.append(list(_calls(plan, features, len(batch))))
        return calls


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
            f"Signature '{plan.signature}' takes ({_listed(plan.inputs)}), but nobody knows how to "
            f"make that of whole files or {record_format} records. Write a preprocess function "
            f"that returns one serialized tf.Example for each of them, with a feature for each "
            f"input. Or export a signature with one string input of shape [None], which gets the "
            f"bytes."
        )
    for name, own in plan.parsed.items():
        start = f"Input '{name}' of signature '{plan.signature}' is {own}."
        if own.kind not in (DENSE, RAGGED, SPARSE):
            raise ModelError(f"{start} That cannot be made from features. {_ADVICE}")
        is_known = own.kind != DENSE or own.row_shape is not None
        if not is_known or own.dtype not in FEATURE_DTYPES:
            raise ModelError(
                f"{start} To take a feature or a column, it needs a dtype that these can have, and "
                f"a known shape after the batch dimension. Export it with such a shape. Or e"
                f"{_ADVICE[1:]}"
            )
    sizes = {n: own.batch_size for n, own in plan.inputs.items() if n not in plan.constants}
    if len(set(sizes.values()) - {None}) > 1:
        raise ModelError(
            f"The inputs of signature '{plan.signature}' have different batch sizes: "
            f"{_listed(plan.inputs)}. Export it with one, or better with None."
        )


def _parser_of(plans: Iterable[_Plan]) -> FeatureParser:
    return FeatureParser({plan.signature: plan.parsed for plan in plans})


def _check_no_gaps(columns: pa.Table) -> None:
    """Raises RecordError for a row that would lose a part of a list as a tf.Example."""
    if name := list_with_gap(columns):
        raise RecordError("ValueError", f"column '{name}' has a list with a null inside")


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
