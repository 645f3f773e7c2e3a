"""Which of several models a record goes to, in an A/B test.

A key's place between 0 and 1 is the first eight bytes of

    SHA-256(salt as UTF-8 | one zero byte | key)

as a big-endian integer, divided by 2**64. The models share that range by their weights, in the
order of their names. So the same key goes to the same model on every machine and in any language.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

from bulk_inferencer._checks import did_you_mean
from bulk_inferencer._formats.example import feature_values, feature_values_of_batch
from bulk_inferencer._models.scorer import Failed
from bulk_inferencer.errors import InputError, SettingsError

_PLACE_BYTES = 8
_PLACES = 1 << 8 * _PLACE_BYTES


class NoKeyError(ValueError):
    """A record that cannot be routed: it does not have exactly one value of the key's feature."""


class Routes(NamedTuple):
    """Which records of a batch go to which model.

    Attributes:
      rows: indexes in the batch, by model.
      keys: the key of each record; empty for a record without one.
      failed: the records without one, which go to no model.
    """

    rows: Mapping[str, Sequence[int]]
    keys: Sequence[bytes]
    failed: Sequence[Failed]


def key_bytes(key: bytes | str | float) -> bytes:
    """Returns a key as it is hashed: bytes as they are, text and numbers as Python writes them."""
    return key if isinstance(key, bytes) else str(key).encode()


@dataclass(frozen=True)
class SplitRouting:
    """Sends each record to one model, by a stable hash of its key.

    ```python
    SplitRouting(weights={"five": 90, "ten": 10}, split_key="user_id")
    ```

    Attributes:
      weights: shares of the keys by model, in any unit: 9 and 1 are 90 % and 10 %.
      split_key: the feature that holds the key, one value: bytes as they are, an integer in
        decimal digits, a float as Python writes it (`0.5`). Default: the whole record is the key.
      salt: text that goes into the hash. Another salt makes another, independent test.
      kept_out: models that get no records. Their keys are routed once more, among the others and
        with the salt `<salt>/<model>`; all other keys stay where they are.

    Raises:
      SettingsError: there are no weights, a weight is not a positive number, a model that is kept
        out has none, or all models are kept out.
    """

    weights: Mapping[str, float]
    split_key: str = ""
    salt: str = ""
    kept_out: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.weights:
            raise SettingsError("SplitRouting.weights is empty. Give each model a weight.")
        for name, weight in self.weights.items():
            if not (isinstance(weight, (int, float)) and weight > 0 and math.isfinite(weight)):
                raise SettingsError(
                    f"The weight of model '{name}' in SplitRouting.weights must be a positive "
                    f"number, not {weight!r}. Leave out a model that should get no records."
                )
        if unknown := sorted(self.kept_out - self.weights.keys()):
            raise SettingsError(
                f"SplitRouting.kept_out names {', '.join(unknown)}, but the models are "
                f"{', '.join(sorted(self.weights))}. Use the names in SplitRouting.weights."
            )
        if not self.running:
            raise SettingsError(
                f"All models are kept out: {', '.join(sorted(self.weights))}. Remove at least one "
                f"of them from SplitRouting.kept_out."
            )

    def check_names(self, names: Iterable[str]) -> None:
        """Checks that each of the models has a weight, and that each weight has a model.

        Raises:
          SettingsError: the names differ.
        """
        names = set(names)
        if not set(self.running) <= names <= self.weights.keys():
            raise SettingsError(
                f"SplitRouting.weights names {', '.join(sorted(self.weights))}, but the models are "
                f"{', '.join(sorted(names)) or 'none'}. Use the same names."
            )

    def check_columns(self, columns: Sequence[str]) -> None:
        """Checks that rows of a table have the key.

        Raises:
          InputError: no column has its name.
        """
        if self.split_key and self.split_key not in columns:
            hint = did_you_mean(self.split_key, columns)
            raise InputError(
                f"SplitRouting.split_key names '{self.split_key}', but models see the columns "
                f"{', '.join(columns)}.{hint} Name one of these."
            )

    @property
    def running(self) -> list[str]:
        """The models that get records, in the order of the weights."""
        return [name for name in self.weights if name not in self.kept_out]

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.weights)

    @cached_property
    def _ends(self) -> list[int]:
        """Where the range of each model ends; exact, so that it ends there on every machine."""
        shares = [Fraction(self.weights[name]) for name in self._names]
        total = sum(shares)
        return [math.ceil(_PLACES * end / total) for end in itertools.accumulate(shares)]

    @cached_property
    def _instead_of(self) -> dict[str, SplitRouting]:
        """How the keys of each model that is kept out are routed."""
        weights = {name: self.weights[name] for name in self.running}
        return {n: SplitRouting(weights, salt=f"{self.salt}/{n}") for n in self.kept_out}

    def model_of(self, key: bytes) -> str:
        """Returns the model that a key belongs to."""
        digest = hashlib.sha256(self.salt.encode() + b"\0" + key).digest()
        place = int.from_bytes(digest[:_PLACE_BYTES], "big")
        name = self._names[bisect_right(self._ends, place)]
        return self._instead_of[name].model_of(key) if name in self.kept_out else name

    def key_of(self, record: bytes) -> bytes:
        """Returns the key of a serialized record.

        Raises:
          NoKeyError: it does not have exactly one value of the feature.
        """
        if not self.split_key:
            return record
        from google.protobuf.message import DecodeError

        try:
            values = feature_values(record, self.split_key)
        except DecodeError as error:
            raise NoKeyError(
                f"feature '{self.split_key}' cannot be read: the record is not a tf.Example"
            ) from error
        return self._only_key(values)

    def route(self, records: Sequence[bytes]) -> Routes:
        """Returns which of the records go to which model."""
        rows: dict[str, list[int]] = {name: [] for name in self.weights}
        keys: list[bytes] = []
        failed = []
        parsed = feature_values_of_batch(records, self.split_key) if self.split_key else []
        for index, record in enumerate(records):
            try:
                values = parsed[index] if parsed else []
                # A record without values is parsed once more by itself, for the reason.
                key = self._only_key(values) if values else self.key_of(record)
            except NoKeyError as error:
                keys.append(b"")
                failed.append(Failed(index, type(error).__name__, str(error)))
            else:
                keys.append(key)
                rows[self.model_of(key)].append(index)
        return Routes(rows, keys, failed)

    def _only_key(self, values: Sequence[bytes | int | float]) -> bytes:
        if len(values) != 1:
            raise NoKeyError(
                f"feature '{self.split_key}' has {len(values)} values; splitting needs exactly one"
            )
        return key_bytes(values[0])
