"""Business outcomes: one value for each key, and the mean of those that belong together."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bulk_inferencer import _files
from bulk_inferencer.errors import InputError
from bulk_inferencer.results.comparison import Outcome

_KEY, _VALUE = "key", "value"
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Outcomes:
    """A table with one row per key, such as a customer.

    Attributes:
      keys: what each row is about; each key once.
      values: what came of it: one finite number per key, in the unit of the table.
      path: the file.
      digest: the SHA-256 of its content.
    """

    keys: tuple[str, ...]
    values: tuple[float, ...]
    path: str = field(default="", compare=False)
    digest: str = field(default="", compare=False)

    @cached_property
    def rows(self) -> dict[bytes, int]:
        """The number of each key's row, by the key in UTF-8."""
        return {key.encode(): row for row, key in enumerate(self.keys)}


def read_outcomes(path: str) -> Outcomes:
    """Reads a table of outcomes: CSV in UTF-8 with the columns `key` and `value`.

    Args:
      path: the file, on any filesystem that Beam knows. Its first line names the columns; other
        columns are ignored.

    Raises:
      InputError: there is no such file; it is empty, not CSV in UTF-8 or lacks a column; a value is
        not a finite number; or a key occurs twice.
    """
    if not _files.exists(path):
        raise InputError(
            f"There is no file of outcomes at {path}. Correct the path; all workers must be able "
            f"to read it."
        )
    with _files.open_to_read(path) as file:
        content = file.read()
    rows: dict[str, float] = {}
    try:
        # Spreadsheets write a byte order mark, which would become part of the first name.
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        reader = csv.DictReader(text, restval="")
        names = reader.fieldnames or ()
        if not {_KEY, _VALUE} <= set(names):
            raise InputError(
                f"Outcomes need the columns {_KEY} and {_VALUE}, but {path} has "
                f"{', '.join(names) or 'no line'}. Name the columns in the first line."
            )
        for row in reader:
            key, value = row[_KEY], _finite(row[_VALUE])
            if value is None:
                raise InputError(
                    f"The value '{row[_VALUE]}' in line {reader.line_num} of {path} is not a "
                    f"finite number. Correct the line, or leave it out."
                )
            if key in rows:
                raise InputError(
                    f"The key '{key}' occurs a second time in line {reader.line_num} of {path}. "
                    f"Combine its rows into one, such as their sum or mean."
                )
            rows[key] = value
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"Could not read {path} as CSV in UTF-8: {error}. Write the file again."
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    return Outcomes(tuple(rows), tuple(rows.values()), path, digest)


def outcome_of(values: Sequence[float] | np.ndarray) -> Outcome:
    """Returns count, mean and confidence interval of finite numbers."""
    count = len(values)
    if not count:
        return Outcome(0, math.nan, math.nan, math.nan)
    numbers = np.asarray(values, np.float64)
    # Rounding can give equal values a mean beside them, and so a spread.
    mean = float(numbers[0] if np.ptp(numbers) == 0 else numbers.mean())
    if count == 1:
        return Outcome(1, mean, math.nan, math.nan)
    standard_error = math.sqrt(float(((numbers - mean) ** 2).sum()) / (count - 1) / count)
    half_width = _students_t(count - 1) * standard_error
    return Outcome(count, mean, mean - half_width, mean + half_width)


def _students_t(degrees: int) -> float:
    """Returns how many standard errors the confidence interval extends to either side.

    |T| <= t has the probability I(t**2 / (degrees + t**2); 1/2, degrees/2), where I is the
    regularized incomplete beta function (NIST Handbook of Mathematical Functions, 8.17.19 ff.).
    """
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if low < middle < high:
            is_below = _incomplete_beta(middle, 0.5, degrees / 2) < _CONFIDENCE
            low, high = (middle, high) if is_below else (low, middle)
    return math.sqrt(degrees * low / (1 - low))


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Returns I(x; a, b) for 0 < x < 1."""
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    factor = math.exp(logarithm + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return factor * _beta_fraction(x, a, b) / a
    return 1 - factor * _beta_fraction(1 - x, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Returns the continued fraction of 8.17.22 there, by the method of Lentz."""
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    value = d
    for m in range(1, 1_000_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for coefficient in (even, odd):
            d = 1 / ((1 + coefficient * d) or tiny)
            c = (1 + coefficient / c) or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class MatchedKeys:
    """Which outcomes belong to the keys of some records, gathered batch by batch."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._keys = pa.array(outcomes.keys, pa.string())
        self._is_matched = np.zeros(len(outcomes.keys), bool)

    def add(self, keys: pa.Array) -> None:
        """Adds keys: text or bytes as they are, numbers as Python writes them; nulls match none."""
        found = pc.index_in(_key_texts(keys), value_set=self._keys).drop_null()
        self._is_matched[found.to_numpy(zero_copy_only=False)] = True

    def outcome(self) -> Outcome:
        """Returns the mean of the outcomes that were matched."""
        return outcome_of(np.asarray(self._outcomes.values, np.float64)[self._is_matched])


def _key_texts(keys: pa.Array) -> pa.Array:
    types, kind = pa.types, keys.type
    if types.is_string(kind):
        return keys
    if types.is_binary(kind):
        texts = [None if own is None else own.decode(errors="replace") for own in keys.to_pylist()]
    else:
        texts = [None if own is None else str(own) for own in keys.to_pylist()]
    return pa.array(texts, pa.string())
