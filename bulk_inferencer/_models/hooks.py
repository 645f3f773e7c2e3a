"""Users' own functions around a model: batches in, arrays out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from bulk_inferencer._formats.first_records import FirstRecords
from bulk_inferencer._models import importing
from bulk_inferencer._models.predictor import (
    Model,
    Prediction,
    Predictor,
    check_is_model,
    fitted,
    reason_of,
    shown,
    stamp,
)
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
        instead. Either a function, or the name to import it by, as `package.module:function`.
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
        return _signatures(self.model.check(record_format), self.postprocess)

    def load(self, record_format: str) -> Predictor:
        return _HookedPredictor(self.model.load(record_format), *self._hooks())

    def fingerprint(self) -> str:
        """Returns the fingerprint of the model alone."""
        return self.model.fingerprint()

    def stamp(self) -> str:
        """Returns the stamp of the model's files."""
        return stamp(self.model)

    def fitted(self, record_format: str, first: FirstRecords) -> HookedModel:
        """Returns the same hooks around the model as it is called for what `preprocess` returns."""
        preprocess, _ = self._hooks()
        records = first.mapped(preprocess) if preprocess else first
        return replace(self, model=fitted(self.model, record_format, records))

    def _hooks(self) -> list[Any]:
        hooks = (("preprocess", self.preprocess), ("postprocess", self.postprocess))
        return [h if h is None else importing.function(setting, h) for setting, h in hooks]


class _HookedPredictor:
    def __init__(
        self, predictor: Predictor, preprocess: Preprocess | None, postprocess: Postprocess | None
    ) -> None:
        self._predictor = predictor
        self._preprocess = preprocess
        self._postprocess = postprocess
        self.signatures = _signatures(predictor.signatures, postprocess)

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
        returned = self._postprocess(list(batch), dict(prediction.outputs))
        outputs = _arrays(self._postprocess, returned, len(batch))
        # Without stages: these outputs no longer belong to any.
        return Prediction(outputs, versions=prediction.versions)


def _signatures(
    signatures: Sequence[Signature], postprocess: Postprocess | str | None
) -> tuple[Signature, ...]:
    if postprocess is None:
        return tuple(signatures)
    # Only a `predict_log` holds outputs of any name, and they no longer belong to any stage.
    return tuple(s._replace(method=PREDICT, outputs=(), stages=()) for s in signatures)


def _check_records(hook: Preprocess, records: Any, count: int) -> None:
    """Checks what `preprocess` returned, so that no record is scored in another one's place."""
    returned = f"preprocess ({_name(hook)}) returned"
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


def _arrays(hook: Postprocess, outputs: Any, count: int) -> dict[str, np.ndarray]:
    """Returns what `postprocess` returned, checked and as arrays."""
    returned = f"postprocess ({_name(hook)}) returned"
    if not isinstance(outputs, Mapping):
        raise HookError(
            f"{returned} an object of type {type(outputs).__name__}, not a dict of outputs. Return "
            f"{{name: array}}, with one row for each record."
        )
    arrays = {}
    for name, values in outputs.items():
        if not isinstance(name, str):
            raise HookError(
                f"{returned} an output whose name is {shown(name)}, not a string. Give every "
                f"output a name."
            )
        try:
            arrays[name] = _array(values)
        except (TypeError, ValueError) as error:
            raise HookError(
                f"{returned} an output '{name}' that is not an array of numbers or strings: "
                f"{reason_of(error).message}. Pad rows to one length."
            ) from error
        if arrays[name].shape[:1] != (count,):
            raise HookError(
                f"{returned} an output '{name}' of shape {arrays[name].shape} for a batch of "
                f"{count}. Return one row for each record."
            )
    return arrays


def _array(values: Any) -> np.ndarray:
    if isinstance(values, np.ma.MaskedArray):
        return values  # from a cascade: the masked rows belong to records without the output
    array = np.asarray(values)
    if array.dtype.kind not in "SUO":
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    # From the values as they came: NumPy's own strings lose zero bytes at their ends.
    strings = np.array(values, dtype=object)
    for index, value in np.ndenumerate(strings):
        if isinstance(value, str):
            strings[index] = value.encode()
        elif not isinstance(value, bytes):
            raise TypeError(f"one value is of type {type(value).__name__}")
    return strings


def _name(hook: Callable) -> str:
    module, name = getattr(hook, "__module__", ""), getattr(hook, "__qualname__", repr(hook))
    return f"{module}.{name}" if module else name
