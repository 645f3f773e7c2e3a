"""Users' own functions around a model: batches in, arrays out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from bulk_inferencer._formats.column_values import check_features
from bulk_inferencer._formats.first_records import FirstRecords
from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_EXAMPLE
from bulk_inferencer._models import importing
from bulk_inferencer._models.predictor import (
    Model,
    Prediction,
    Predictor,
    check_is_model,
    fitted,
    stamp,
)
from bulk_inferencer._models.returned import arrays
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.errors import HookError

_logger = logging.getLogger(__name__)

Preprocess: TypeAlias = Callable[[list[bytes]], list[bytes]]
Postprocess: TypeAlias = Callable[[list[bytes], dict[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class HookedModel:
    """A model with a function before it, after it, or both.

    ```python
    HookedModel(SavedModel("models/five_times"), postprocess="my_project.hooks:add_label")
    ```

    Results carry the records as they were read, so that they can be found again.

    Attributes:
      model: the model.
      preprocess: takes a batch of n serialized records and returns n records, which the model gets
        instead. Either a function, or the name to import it by, as `package.module:function`. Of
        `FORMAT_PROTO` records and whole files, it may make tf.Examples, whose features a model then
        gets by name.
      postprocess: takes the n records as they were read and the outputs, arrays of shape [n, ...]
        by name, and returns the outputs for the results, with n rows each. Either a function or
        its name. The results are then a `predict_log`, whatever the signature's method is.

    Raises:
      SettingsError: the model is something else.
    """

    model: Model
    preprocess: Preprocess | str | None = None
    postprocess: Postprocess | str | None = None

    def __post_init__(self) -> None:
        check_is_model(self.model)

    @property
    def uri(self) -> str:
        return self.model.uri

    def check(self, record_format: str) -> tuple[Signature, ...]:
        """Returns the model's signatures, without outputs if `postprocess` decides about those.

        Raises:
          SettingsError: a hook cannot be imported.
        """
        for hook in filter(None, self._hooks()):
            _logger.info("Hook: %s.", importing.origin(hook))
        return self._signatures(self.model.check(self._inner_format(record_format)), record_format)

    def load(self, record_format: str) -> Predictor:
        predictor = self.model.load(self._inner_format(record_format))
        signatures = self._signatures(predictor.signatures, record_format)
        return _HookedPredictor(predictor, signatures, *self._hooks())

    def fingerprint(self) -> str:
        """Returns the fingerprint of the model alone."""
        return self.model.fingerprint()

    def stamp(self) -> str:
        """Returns the stamp of the model's files."""
        return stamp(self.model)

    def fitted(self, record_format: str, first: FirstRecords) -> HookedModel:
        """Returns the same hooks around the model as it is called for what `preprocess` returns."""
        preprocess, _ = self._hooks()
        if first.columns:  # Hooks get records.
            check_features(first.columns)
        records = first.mapped(preprocess) if preprocess else first
        inner_format = self._inner_format(record_format)
        return replace(self, model=fitted(self.model, inner_format, records))

    def _inner_format(self, record_format: str) -> str:
        """Returns the format of what the model gets."""
        is_changed = record_format == FORMAT_PROTO and self.preprocess is not None
        return FORMAT_TF_EXAMPLE if is_changed else record_format

    def _signatures(self, inner: Sequence[Signature], record_format: str) -> tuple[Signature, ...]:
        if self.postprocess is not None:
            # Only a `predict_log` holds outputs of any name, and they belong to no stage any more.
            return tuple(Signature(signature.name, PREDICT) for signature in inner)
        if self._inner_format(record_format) != record_format:
            # The logs of other methods hold a tf.Example, but this one is not what was read.
            return tuple(signature._replace(method=PREDICT) for signature in inner)
        return tuple(inner)

    def _hooks(self) -> list[Any]:
        hooks = (("preprocess", self.preprocess), ("postprocess", self.postprocess))
        return [h if h is None else importing.function(setting, h) for setting, h in hooks]


class _HookedPredictor:
    def __init__(
        self,
        predictor: Predictor,
        signatures: tuple[Signature, ...],
        preprocess: Preprocess | None,
        postprocess: Postprocess | None,
    ) -> None:
        self.signatures = signatures
        self._predictor = predictor
        self._preprocess = preprocess
        self._postprocess = postprocess

    @property
    def input_name(self) -> str:
        return self._predictor.input_name

    def predict(self, batch: Sequence[bytes]) -> Prediction:
        records = batch
        if self._preprocess:
            records = self._preprocess(list(batch))
            _check_records(self._preprocess, records, len(batch))
        prediction = self._predictor.predict(records)
        if not self._postprocess:
            return prediction
        given = self._postprocess(list(batch), dict(prediction.outputs))
        start = f"postprocess ({importing.name_of(self._postprocess)}) returned"
        outputs = arrays(given, len(batch), start, HookError)
        return replace(prediction, outputs=outputs)


def _check_records(hook: Preprocess, records: Any, count: int) -> None:
    """Checks what `preprocess` returned, so that no record is scored in another one's place."""
    returned = f"preprocess ({importing.name_of(hook)}) returned"
    got = len(records) if isinstance(records, list) else f"{type(records).__name__} instead of"
    if got != count:
        raise HookError(
            f"{returned} {got} records for a batch of {count}. Return a list with one for each "
            f"record; raise an exception if one cannot be scored."
        )
    kinds = {type(record).__name__ for record in records if not isinstance(record, bytes)}
    if kinds:
        raise HookError(
            f"{returned} records of type {', '.join(sorted(kinds))}, not bytes. Serialize them: "
            f"example.SerializeToString()."
        )
