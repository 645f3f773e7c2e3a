"""Business outcomes of an A/B test: what followed, per key, and its mean per variant."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bulk_inferencer import _files
from bulk_inferencer.errors import InputError

_KEY, _VALUE = "key", "value"
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Outcomes:
    """A table with one row per key, say per customer.

    Attributes:
      keys: what each row is about; none is there twice.
      values: what followed, one finite number per key, in the unit of the table.
      path: the file that they were read from.
      digest: the SHA-256 of its content.
    """

    keys: tuple[str, ...]
    values: tuple[float, ...]
    path: str = field(default="", compare=False)
    digest: str = field(default="", compare=False)


@dataclass(frozen=True)
class Outcome:
    """The mean of the outcomes of one variant, and how far it can be trusted.

    Attributes:
      count: how many values there were.
      mean: their mean; not a number if there were none.
      low: lower end of the two-sided 95 % confidence interval of the mean, by Student's t
        distribution; not a number with fewer than 2 values.
      high: its upper end.
    """

    count: int
    mean: float
    low: float
    high: float

    def __eq__(self, other: object) -> bool:
        # As tuples, where `math.nan` is equal to itself: in dataclasses only before Python 3.13.
        return isinstance(other, Outcome) and _numbers(self) == _numbers(other)


def read_outcomes(path: str) -> Outcomes:
    """Reads a table of outcomes: CSV in UTF-8 with the columns `key` and `value`.

    Args:
      path: the file, on any filesystem that Beam knows. Its first line names the columns; those of
        other names are ignored.

    Raises:
      InputError: there is no file, or it is empty, is no CSV in UTF-8 or lacks a column; a value
        is no finite number; or a key is there twice.
    """
    if not _files.exists(path):
        raise InputError(
            f"Expected outcomes as a CSV file that all workers can read, found none at {path}. "
            f"Correct the path."
        )
    with _files.open_to_read(path) as file:
        content = file.read()
    rows: dict[str, float] = {}
    try:
        # Spreadsheets write a byte order mark, which would become part of the first name.
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        reader = csv.DictReader(text, restval="")
        _check_columns(reader.fieldnames or (), path)
        for row in reader:
            key, value = row[_KEY], _finite(row[_VALUE])
            if value is None:
                raise InputError(
                    f"Expected a finite number as value, got '{row[_VALUE]}' in line "
                    f"{reader.line_num} of {path}. Correct the line, or leave it out."
                )
            if key in rows:
                raise InputError(
                    f"Expected every key once, got '{key}' a second time in line "
                    f"{reader.line_num} of {path}. Sum or average its rows first."
                )
            rows[key] = value
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"Expected outcomes as CSV in UTF-8, got an error in {path}: {error}. Write the file "
            f"again."
        ) from error
    return Outcomes(tuple(rows), tuple(rows.values()), path, hashlib.sha256(content).hexdigest())


def rows_by_key(path: str, digest: str) -> dict[bytes, int]:
    """Reads a table of outcomes once more, and returns its rows by key, as UTF-8.

    Args:
      path: the file.
      digest: the SHA-256 of its content when it was first read: rows stand for their outcomes.

    Raises:
      InputError: the content has changed.
    """
    outcomes = read_outcomes(path)
    if outcomes.digest != digest:
        raise InputError(
            f"Expected {path} to stay as it was at the start of the run, but its content has "
            f"changed. Run again."
        )
    return {key.encode(): row for row, key in enumerate(outcomes.keys)}


def outcome_of(values: Sequence[float]) -> Outcome:
    """Returns count, mean and confidence interval of values.

    Args:
      values: finite numbers.
    """
    from scipy import stats

    count = len(values)
    if not count:
        return Outcome(0, math.nan, math.nan, math.nan)
    numbers = np.asarray(values, np.float64)
    # By arithmetic the mean of equal values can be off by a rounding, and so have a spread.
    mean = float(numbers[0] if np.ptp(numbers) == 0 else numbers.mean())
    if count == 1:
        return Outcome(1, mean, math.nan, math.nan)
    standard_error = math.sqrt(float(((numbers - mean) ** 2).sum()) / (count - 1) / count)
    half_width = float(stats.t.ppf((1 + _CONFIDENCE) / 2, count - 1)) * standard_error
    return Outcome(count, mean, mean - half_width, mean + half_width)


def outcomes_by_variant(
    outcomes: Outcomes,
    matched: int,
    variant_of: Callable[[str], str],
    variants: Sequence[str],
) -> dict[str, Outcome]:
    """Returns the outcome of each variant, in the order of `variants`.

    Args:
      outcomes: the table.
      matched: a set of rows, as bits: bit i says that row i of the table was scored. The rows of
        several units are the union, `|`, of theirs. Rows that nobody scored are left out.
      variant_of: returns the variant, one of `variants`, that a key was given.
      variants: all of them; one without any row has a count of 0.
    """
    values: dict[str, list[float]] = {variant: [] for variant in variants}
    # As text, since to shift a large integer once per row takes time quadratic in the rows.
    is_matched = (bit == "1" for bit in reversed(f"{matched:b}"))
    rows = zip(outcomes.keys, outcomes.values, strict=True)
    for key, value in itertools.compress(rows, is_matched):
        values[variant_of(key)].append(value)
    return {variant: outcome_of(of_variant) for variant, of_variant in values.items()}


def _numbers(outcome: Outcome) -> tuple[float, ...]:
    return outcome.count, outcome.mean, outcome.low, outcome.high


def _check_columns(names: Sequence[str], path: str) -> None:
    if not {_KEY, _VALUE} <= set(names):
        raise InputError(
            f"Expected the columns {_KEY} and {_VALUE}, got {', '.join(names) or 'an empty file'} "
            f"at {path}. Name the columns in the first line."
        )


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
