"""ABTest: each element goes to one of several models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import apache_beam as beam

from bulk_inferencer._models.names import check_name, in_words
from bulk_inferencer._models.routing import NoKeyError, SplitRouting, key_bytes
from bulk_inferencer.beam.elements import records_of
from bulk_inferencer.beam.run_inference import Results, RunInference
from bulk_inferencer.errors import FailedRecordError, SettingsError, located


class ABTest(beam.PTransform):
    """Scores each element of a collection with one of several models, by a stable hash of a key.

    The same key always goes to the same model, on every runner and machine; see `SplitRouting`.
    Elements are those of `RunInference`. The result is a dict from the models' names to what
    `RunInference` returns for the elements of each.
    """

    def __init__(
        self,
        models: Mapping[str, Any],
        weights: Mapping[str, float],
        key: str | Callable[[Any], bytes | str | int | float] | None = None,
        salt: str = "",
    ) -> None:
        """Describes the models and who gets which.

        Args:
          models: by name, models of any kind that `RunInference` takes, or a `RunInference` with
            settings of its own, such as resource hints or `with_failures()`.
          weights: shares of the keys by the models' names, in any unit.
          key: the feature that holds the key, one value; or a function from an element to its key.
            Default: the key of `(key, ...)`, and the record itself where elements have no key.
          salt: text that goes into the hash: another one makes another test.

        Raises:
          SettingsError: names or weights are not consistent.
        """
        super().__init__()
        for name in models:
            check_name(name, "model")
        if sorted(models) != sorted(weights):
            raise SettingsError(
                f"Expected weights for the models {', '.join(sorted(models)) or 'none'}, got them "
                f"for {', '.join(sorted(weights)) or 'none'}. Use the same names."
            )
        split_key = key if isinstance(key, str) else ""
        self._routing = SplitRouting(dict(weights), split_key, salt)
        self._key = key
        self._transforms: dict[str, beam.PTransform] = {}
        for name, model in models.items():
            with located(in_words(name)):
                is_transform = isinstance(model, beam.PTransform)
                self._transforms[name] = model if is_transform else RunInference(model)

    def expand(self, elements: beam.PCollection) -> dict[str, beam.PCollection | Results]:
        names = list(self._transforms)
        route = beam.ParDo(_Route(self._routing, self._key)).with_outputs(*names)
        routed = elements | "Route" >> route
        results = {}
        for name, transform in self._transforms.items():
            routed[name].element_type = elements.element_type
            with located(in_words(name)):
                results[name] = routed[name] | f"RunInference {name}" >> transform
        return results


class _Route(beam.DoFn):
    """Tags each element with the name of its model."""

    def __init__(self, routing: SplitRouting, key: str | Callable[[Any], Any] | None) -> None:
        self._routing = routing
        self._key = key

    def process(self, element: Any) -> Iterator[beam.pvalue.TaggedOutput]:
        yield beam.pvalue.TaggedOutput(self._routing.model_of(self._key_of(element)), element)

    def _key_of(self, element: Any) -> bytes:
        if callable(self._key):
            return _checked_key(self._key(element))
        if self._key is None and isinstance(element, tuple):
            return _checked_key(element[0])
        record = records_of(element)
        if not isinstance(record, bytes):
            raise SettingsError(
                f"Expected one record per element to read feature '{self._key}' from, got a list "
                f"of {len(record)}. Leave out the key of ABTest to split by that of the element."
            )
        try:
            return self._routing.key_of(record)
        except NoKeyError as error:
            raise FailedRecordError(
                f"Expected every record to have a key to be split by, but the one "
                f"{record[:80]!r} has none: {error}. Mend it, or give ABTest a function as key."
            ) from error


def _checked_key(value: Any) -> bytes:
    if not isinstance(value, (bytes, str, int, float)):
        raise SettingsError(
            f"Expected a key to split by as bytes, text or number, got {type(value).__name__}. "
            f"Give ABTest a function as key that returns one of them."
        )
    return key_bytes(value)
