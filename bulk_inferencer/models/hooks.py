"""Functions of the user's own around the model: batches in, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from bulk_inferencer.errors import HookError
from bulk_inferencer.models import importing
from bulk_inferencer.models.predictor import Model, Predictor
from bulk_inferencer.signatures import Signature

Preprocess: TypeAlias = Callable[[list[bytes]], list[bytes]]
Postprocess: TypeAlias = Callable[[list[bytes], dict[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Hooked:
    """A model with a function before it, after it, or both.

    Results carry the records as they were read, so that they can be found again by them.

    Attributes:
      model: the model.
      preprocess: takes a batch of n serialized records and returns n records, which the model gets
        instead; or where to import that function from, as `package.module:function`.
      postprocess: takes the n records as they were read and the outputs, arrays of shape [n, ...]
        by name, and returns the outputs that results hold; or where to import it from.
    """

    model: Model
    preprocess: Preprocess | str | None = None
    postprocess: Postprocess | str | None = None

    @property
    def uri(self) -> str:
        """See `Model.uri`."""
        return self.model.uri

    def check(self, record_format: str) -> tuple[Signature, ...]:
        """See `Model.check`; outputs are not known before a `postprocess` returns them.

        Raises:
          SettingsError: a hook cannot be imported.
        """
        _hook("preprocess", self.preprocess)
        _hook("postprocess", self.postprocess)
        signatures = self.model.check(record_format)
        if self.postprocess is None:
            return signatures
        return tuple(signature._replace(outputs=()) for signature in signatures)

    def load(self, record_format: str) -> Predictor:
        """See `Model.load`.

        Raises:
          SettingsError: a hook cannot be imported.
        """
        return _HookedPredictor(
            self.model.load(record_format),
            _hook("preprocess", self.preprocess),
            _hook("postprocess", self.postprocess),
        )

    def fingerprint(self) -> str:
        """See `Model.fingerprint`: that of the model alone."""
        return self.model.fingerprint()


class _HookedPredictor:
    def __init__(
        self,
        predictor: Predictor,
        preprocess: Preprocess | None,
        postprocess: Postprocess | None,
    ) -> None:
        self._predictor = predictor
        self._preprocess = preprocess
        self._postprocess = postprocess

    @property
    def signatures(self) -> Sequence[Signature]:
        return self._predictor.signatures

    @property
    def input_name(self) -> str:
        return self._predictor.input_name

    @property
    def versions(self) -> Collection[str]:
        return self._predictor.versions

    def predict(self, batch: Sequence[bytes]) -> dict[str, np.ndarray]:
        records = batch
        if self._preprocess:
            records = self._preprocess(list(batch))
            if len(records) != len(batch):
                raise HookError(
                    f"Expected preprocess to return {len(batch)} records for {len(batch)}, got "
                    f"{len(records)} from {_name(self._preprocess)}. Return one for each; raise "
                    f"an exception where a record cannot be scored."
                )
        outputs = self._predictor.predict(records)
        if self._postprocess:
            outputs = {
                name: _array(values)
                for name, values in self._postprocess(list(batch), outputs).items()
            }
            for name, values in outputs.items():
                if not values.shape or len(values) != len(batch):
                    raise HookError(
                        f"Expected postprocess to return {len(batch)} rows for {len(batch)} "
                        f"records, got output '{name}' of shape {values.shape} from "
                        f"{_name(self._postprocess)}. Return one row for each record."
                    )
        return outputs


def _hook(setting: str, hook: Callable[..., Any] | str | None) -> Callable[..., Any] | None:
    return None if hook is None else importing.function(setting, hook)


def _array(values: object) -> np.ndarray:
    """Returns values as an array; strings as objects of `bytes`, which is how outputs hold them."""
    array = np.asarray(values)
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
    return array.astype(object) if array.dtype.kind == "S" else array


def _name(hook: Callable) -> str:
    module, name = getattr(hook, "__module__", ""), getattr(hook, "__qualname__", repr(hook))
    return f"{module}.{name}" if module else name
