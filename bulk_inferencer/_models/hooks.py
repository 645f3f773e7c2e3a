"""Functions of the user's own around the model: batches in, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from bulk_inferencer._models import importing
from bulk_inferencer._models.predictor import Model, Predictor
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.errors import HookError

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
        by name, and returns the outputs that results hold, with n rows each; or where to import it
        from. Whatever the signature's method, a `predict_log` holds them.
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
        return signatures if self.postprocess is None else _of_any_outputs(signatures)

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
        signatures = self._predictor.signatures
        return signatures if self._postprocess is None else _of_any_outputs(signatures)

    @property
    def input_name(self) -> str:
        return self._predictor.input_name

    @property
    def versions(self) -> Collection[str]:
        return self._predictor.versions

    @property
    def stages(self) -> Sequence[str]:
        return () if self._postprocess else self._predictor.stages

    def predict(self, batch: Sequence[bytes]) -> dict[str, np.ndarray]:
        records = batch
        if self._preprocess:
            records = self._preprocess(list(batch))
            _check_records(self._preprocess, records, len(batch))
        outputs = self._predictor.predict(records)
        if self._postprocess:
            returned = self._postprocess(list(batch), outputs)
            outputs = _arrays(self._postprocess, returned, len(batch))
        return outputs


def _of_any_outputs(signatures: Sequence[Signature]) -> tuple[Signature, ...]:
    """Returns signatures for a `predict_log`: no other kind of log holds outputs of any name."""
    return tuple(signature._replace(method=PREDICT, outputs=()) for signature in signatures)


def _check_records(hook: Preprocess, records: Any, count: int) -> None:
    """Checks that `preprocess` kept its contract, so that no record is scored in another's place.

    Raises:
      HookError: it did not.
    """
    got = len(records) if isinstance(records, list) else f"a {type(records).__name__}"
    if got != count:
        raise HookError(
            f"Expected preprocess to return {count} records for {count}, got {got} from "
            f"{_name(hook)}. Return a list with one for each; raise an exception where a record "
            f"cannot be scored."
        )
    kinds = {type(record).__name__ for record in records if not isinstance(record, bytes)}
    if kinds:
        raise HookError(
            f"Expected preprocess to return records as bytes, got {', '.join(sorted(kinds))} from "
            f"{_name(hook)}. Serialize them: example.SerializeToString()."
        )


def _arrays(hook: Postprocess, outputs: Any, count: int) -> dict[str, np.ndarray]:
    """Returns what `postprocess` returned as arrays; strings as objects of `bytes`.

    Raises:
      HookError: it did not keep its contract.
    """
    if not isinstance(outputs, Mapping):
        raise HookError(
            f"Expected postprocess to return a dict of outputs by name, got a "
            f"{type(outputs).__name__} from {_name(hook)}. Return "
            f"{{name: array}} with one row for each record."
        )
    arrays = {}
    for name, values in outputs.items():
        if not isinstance(name, str):
            raise HookError(
                f"Expected postprocess to return outputs by name, got {name!r}, which is no "
                f"string, from {_name(hook)}. Name every output."
            )
        try:
            arrays[name] = _array(values)
        except (TypeError, ValueError) as error:
            raise HookError(
                f"Expected postprocess to return numbers or strings of one shape for each record, "
                f"got output '{name}' from {_name(hook)}: {error}. Pad rows to one length."
            ) from error
        if arrays[name].shape[:1] != (count,):
            raise HookError(
                f"Expected postprocess to return {count} rows for {count} records, got output "
                f"'{name}' of shape {arrays[name].shape} from {_name(hook)}. Return one row for "
                f"each record."
            )
    return arrays


def _hook(setting: str, hook: Callable[..., Any] | str | None) -> Callable[..., Any] | None:
    return None if hook is None else importing.function(setting, hook)


def _array(values: Any) -> np.ndarray:
    if isinstance(values, np.ma.MaskedArray):
        return values  # of a cascade: masked rows are of records that do not have the output
    array = np.asarray(values)
    if array.dtype.kind not in "SUO":
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    # From the values as they came: NumPy's own strings lose zero bytes at their ends.
    strings = np.array(values, dtype=object)
    for index, value in np.ndenumerate(strings):
        if isinstance(value, str):
            strings[index] = value.encode()
        elif not isinstance(value, bytes):
            raise TypeError(f"there is a {type(value).__name__} in it")
    return strings


def _name(hook: Callable) -> str:
    module, name = getattr(hook, "__module__", ""), getattr(hook, "__qualname__", repr(hook))
    return f"{module}.{name}" if module else name
