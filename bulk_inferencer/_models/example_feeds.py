"""What inputs of a signature take of tf.Examples: the features that they are named after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bulk_inferencer._formats.example import whole_features
from bulk_inferencer._models.column_feeds import FEATURE_DTYPES, in_dtype
from bulk_inferencer._models.inputs import DENSE, Input
from bulk_inferencer.errors import ModelError


class FeatureParser:
    """Parses features of tf.Examples, once for all signatures that take them.

    All threads of a process share it.
    """

    def __init__(self, inputs: Mapping[str, Mapping[str, Input]]) -> None:
        """Plans what to parse.

        Args:
          inputs: the inputs of each signature that take the features of their names.

        Raises:
          ModelError: two signatures take a feature of one name in different forms.
        """
        self._features: dict[str, Any] = {}  # what `tf.io.parse_example` takes
        self._whole: frozenset[str] = frozenset()  # features of integers, for inputs of floats
        for signature, own_inputs in inputs.items():
            for name, own in own_inputs.items():
                feature = _feature_of(own)
                if self._features.setdefault(name, feature) != feature:
                    raise ModelError(
                        f"Signatures disagree on input '{name}': it is {self._features[name]} in "
                        f"one, but {feature} in '{signature}'. Score them in separate runs."
                    )

    def __call__(self, batch: Sequence[bytes]) -> Callable[[Mapping[str, Input]], dict[str, Any]]:
        """Returns what gives the inputs of a signature their features, as tensors by name.

        Raises:
          tf.errors.OpError, UnicodeDecodeError: see `Feeds`.
        """
        parsed = self._parse(batch)
        return lambda inputs: {name: _cast(name, parsed[name], own) for name, own in inputs.items()}

    def _parse(self, batch: Sequence[bytes]) -> dict[str, Any]:
        """Returns the features. Integers may stay integers where the input takes floats."""
        import tensorflow as tf

        if not self._features:
            return {}
        records = tf.constant(batch, tf.string)
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


def _feature_of(own: Input) -> Any:
    import tensorflow as tf

    dtype = FEATURE_DTYPES[own.dtype]
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
    if feature.dtype == tf.as_dtype(own.dtype):
        return feature
    return tf.constant(in_dtype(name, feature.numpy(), own.dtype))
