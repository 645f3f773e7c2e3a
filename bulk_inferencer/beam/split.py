"""ABTest: each element goes to one of several models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import apache_beam as beam

from bulk_inferencer._models.predictor import check_name, model_label
from bulk_inferencer._units.routing import SplitRouting, key_bytes
from bulk_inferencer.beam.elements import is_keyed, records_of, scored_form, shown_record
from bulk_inferencer.beam.gathered import example_of
from bulk_inferencer.beam.run_inference import Results, RunInference
from bulk_inferencer.errors import FailedRecordError, SettingsError, prefix_errors


class ABTest(beam.PTransform):
    """Scores each element with one of several models, chosen by a stable hash of a key.

    ```python
    models = {"five": SavedModel("models/five_times"), "ten": SavedModel("models/ten_times")}
    results = records | ABTest(models, weights={"five": 9, "ten": 1})
    predictions_of_five = results["five"]
    ```

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
        """Takes the models and how to split the elements among them.

        Args:
          models: models of any kind that `RunInference` takes, by name. A `RunInference` with its
            own settings, such as resource hints or `with_failures()`, also works.
          weights: shares of the keys by the models' names, in any unit.
          key: the feature or column that holds the key, one value; or a function from an element to
            its key. Default: the key of `(key, ...)`, or the record itself if elements have no key.
          salt: text that goes into the hash; a different salt makes a different test.

        Raises:
          SettingsError: names or weights are not consistent.
        """
        super().__init__()
        for name in models:
            check_name(name, "model")
        split_key = key if isinstance(key, str) else ""
        self._routing = SplitRouting(dict(weights), split_key, salt)
        self._routing.check_names(models)
        self._key = key
        self._transforms: dict[str, beam.PTransform] = {}
        for name, model in models.items():
            with prefix_errors(model_label(name)):
                is_transform = isinstance(model, beam.PTransform)
                self._transforms[name] = model if is_transform else RunInference(model)

    def expand(self, elements: beam.PCollection) -> dict[str, beam.PCollection | Results]:
        route = beam.ParDo(_Route(self._routing, self._key)).with_outputs(*self._transforms)
        routed = elements | "Route" >> route
        results = {}
        for name, transform in self._transforms.items():
            routed[name].element_type = elements.element_type
            with prefix_errors(model_label(name)):
                results[name] = routed[name] | f"RunInference {name}" >> transform
        return results


class _Route(beam.DoFn):
    def __init__(self, routing: SplitRouting, key: str | Callable[[Any], Any] | None) -> None:
        self._routing = routing
        self._key = key

    def process(self, element: Any) -> Iterator[beam.pvalue.TaggedOutput]:
        yield beam.pvalue.TaggedOutput(self._routing.model_of(self._key_of(element)), element)

    def _key_of(self, element: Any) -> bytes:
        if callable(self._key):
            return _checked_key(self._key(element))
        record = records_of(element)
        if self._key is None and is_keyed(element):
            return _checked_key(element[0])
        if isinstance(record, list):
            raise SettingsError(
                f"ABTest cannot read feature '{self._key}' of a list: it has {len(record)} "
                f"records. Leave out key= to split by the key of the element."
            )
        try:
            return self._routing.key_of(_serialized(record, self._key))
        except ValueError as error:  # also a NoKeyError
            if self._key is None:
                return b""  # A row that is no tf.Example: its model will say so.
            raise FailedRecordError(
                f"ABTest found no key in the record {shown_record(record)}: {error}. Fix the "
                f"record, or use a function as key=."
            ) from error


def _serialized(record: Any, key: str | None) -> bytes:
    """Returns a record serialized: of a row, no more than the column that holds the key."""
    if isinstance(record, bytes):
        return record
    row: Any = scored_form(record)
    return example_of(row if key is None else {name: row[name] for name in (key,) if name in row})


def _checked_key(value: Any) -> bytes:
    if not isinstance(value, (bytes, str, int, float)):
        raise SettingsError(
            f"ABTest splits by a key of bytes, text or a number, not by {value!r}. Use a function "
            f"as key= that returns one of them."
        )
    return key_bytes(value)
