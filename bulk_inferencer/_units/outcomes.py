"""Business outcomes of an A/B test: one value for each key, and the mean for each model."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bulk_inferencer import _files
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer.errors import InputError, SettingsError
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


def read_outcomes_again(path: str, digest: str) -> Outcomes:
    """Reads the table of outcomes that another process has read; units know its rows by number.

    Raises:
      InputError: the content of the file has changed since then.
    """
    outcomes = read_outcomes(path)
    if outcomes.digest != digest:
        raise InputError(
            f"The content of {path} has changed since the run began. Run again, and leave the file "
            f"alone until the run is over."
        )
    return outcomes


def check_outcomes(path: str, routing: SplitRouting | None) -> None:
    """Checks that the routing tells which model the outcome of a key belongs to.

    Raises:
      SettingsError: it does not.
    """
    if not (routing and routing.split_key):
        raise SettingsError(
            f"The outcomes in {path} need a SplitRouting with a split_key, by which their keys are "
            f"found. Set SplitRouting.split_key to the feature that holds the key."
        )


def outcome_of(values: Sequence[float]) -> Outcome:
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


def outcomes_by_branch(
    outcomes: Outcomes, matched: int, routing: SplitRouting
) -> dict[str, Outcome]:
    """Returns the outcome of each model, in the order of the routing's weights.

    Args:
      outcomes: the table.
      matched: the rows whose keys were scored, as bits: bit i stands for row i. The union of
        several units is `|` of theirs.
      routing: which model each key belongs to.
    """
    values: dict[str, list[float]] = {branch: [] for branch in routing.running}
    # As text: shifting a large integer once per row would take quadratic time.
    is_matched = (bit == "1" for bit in reversed(f"{matched:b}"))
    rows = zip(outcomes.keys, outcomes.values, strict=True)
    for key, value in itertools.compress(rows, is_matched):
        values[routing.model_of(key.encode())].append(value)
    return {branch: outcome_of(found) for branch, found in values.items()}


def _students_t(degrees: int) -> float:
    """Returns how many standard errors the confidence interval extends to either side.

    |T| <= t has the probability I(t**2 / (degrees + t**2); 1/2, degrees/2), where I is the
    regularized incomplete beta function (NIST Handbook of Mathematical Functions, 8.17.19 ff.).
    """
    import tensorflow as tf

    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        probability = tf.math.betainc(np.float64(0.5), np.float64(degrees / 2), np.float64(middle))
        low, high = (middle, high) if probability < _CONFIDENCE else (low, middle)
    return math.sqrt(degrees * low / (1 - low))


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
