"""Compares what several models return for the same records.

{"five": {"y": [n, ...]}, "ten": {"y": [n, ...]}} --compare_batch--> Comparison --merge--> ...
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError

from bulk_inferencer._checks import check_number, check_tuple
from bulk_inferencer._formats import dtypes, example
from bulk_inferencer._formats.partial import rows_with
from bulk_inferencer.results.classes import classes_of, flat, readable
from bulk_inferencer.results.comparison import (
    ClassPair,
    Comparison,
    DifferentRecord,
    OutputComparison,
    PairComparison,
    Readable,
    confusion_table,
)

_MOST_VALUES_SHOWN = 16


@dataclass(frozen=True)
class Comparing:
    """What to keep of the records that differ most.

    ```python
    Comparing(key_features=("id",), most_different=20)
    ```

    Attributes:
      key_features: features that identify a record.
      most_different: how many records to keep for each pair of models and each output.

    Raises:
      SettingsError: the features are not a tuple of names, or `most_different` is negative.
    """

    key_features: tuple[str, ...] = ()
    most_different: int = 10

    def __post_init__(self) -> None:
        check_tuple("Comparing.key_features", self.key_features, str)
        advice = "Use 0 to keep none."
        check_number("Comparing.most_different", self.most_different, advice, 0, whole=True)


def compare_batch(
    records: Sequence[bytes],
    outputs: Mapping[str, Mapping[str, np.ndarray]],
    locate: Callable[[int], tuple[str, int]],
    comparing: Comparing,
) -> Comparison:
    """Compares every two models for one batch, in the order of `outputs`.

    Numbers are compared as float64, and integers beyond 2**53 as the nearest float64.

    Args:
      records: n serialized records.
      outputs: by model and output, arrays of shape [n, ...]: booleans, integers, floats (float16
        and bfloat16 too), or objects that are `bytes`. Records whose rows are masked do not have
        the output.
      locate: returns the file of the record at an index of the batch, and its number within the
        file, from 0.
      comparing: what to keep of the records that differ most.
    """

    def keys_of(index: int) -> dict[str, list[Readable]]:
        return _keys(records[index], comparing.key_features)

    return compare_rows(outputs, locate, keys_of, comparing.most_different)


def compare_rows(
    outputs: Mapping[str, Mapping[str, np.ndarray]],
    locate: Callable[[int], tuple[str, int]],
    keys_of: Callable[[int], Mapping[str, Sequence[Readable]]],
    most_different: int,
) -> Comparison:
    """Compares every two models for n records, of which only those that differ most are looked up.

    Args:
      outputs: see `compare_batch`.
      locate: see there.
      keys_of: returns what identifies the record at an index, by name.
      most_different: how many records to keep for each pair of models and each output.
    """
    batch = _Batch(locate, keys_of, most_different)
    pairs = itertools.combinations(outputs.items(), 2)
    return Comparison(tuple(_compare_pair(batch, dict(pair)) for pair in pairs))


@dataclass(frozen=True)
class _Batch:
    locate: Callable[[int], tuple[str, int]]
    keys_of: Callable[[int], Mapping[str, Sequence[Readable]]]
    keeps: int


def _compare_pair(batch: _Batch, outputs: Mapping[str, Mapping[str, np.ndarray]]) -> PairComparison:
    (name_a, outputs_a), (name_b, outputs_b) = outputs.items()
    compared: dict[str, OutputComparison] = {}
    not_compared: dict[str, str] = {}
    for output in {**outputs_a, **outputs_b}:
        if output not in outputs_a or output not in outputs_b:
            not_compared[output] = f"only '{name_a if output in outputs_a else name_b}' has it"
            continue
        both = {name_a: outputs_a[output], name_b: outputs_b[output]}
        rows = np.flatnonzero(rows_with(both[name_a]) & rows_with(both[name_b]))
        if not rows.size:
            continue  # An output without a record may have any dtype and shape.
        values = {model: flat(array)[rows] for model, array in both.items()}
        if reason := _why_not(values):
            not_compared[output] = reason
        else:
            compared[output] = _compare_output(batch, rows, values)
    return PairComparison((name_a, name_b), compared, not_compared)


def _why_not(values: Mapping[str, np.ndarray]) -> str:
    """Returns why two arrays of shape [n, k] cannot be compared, or an empty string."""
    (name_a, a), (name_b, b) = values.items()
    kind_a, kind_b = _kind_of(a), _kind_of(b)
    if kind_a != kind_b or kind_a not in ("text", "numbers"):
        return f"{kind_a} of '{name_a}', {kind_b} of '{name_b}'"
    if a.shape != b.shape:
        return f"{a.shape[1]} values per record of '{name_a}', {b.shape[1]} of '{name_b}'"
    return ""


def _kind_of(values: np.ndarray) -> str:
    if values.dtype == object:
        return "text"
    return "numbers" if dtypes.is_number(values.dtype) else values.dtype.name


# Sums and differences beyond float64 become infinite, and those of infinities NaN.
@np.errstate(over="ignore", invalid="ignore")
def _compare_output(
    batch: _Batch, rows: np.ndarray, values: Mapping[str, np.ndarray]
) -> OutputComparison:
    """Compares two arrays of shape [n, k], which hold the rows `rows` of the batch."""
    a, b = values.values()
    if a.dtype == object:
        difference = (a != b).astype(np.float64)
        numbers = np.empty(0)
    else:
        difference = numbers = _differences(a, b)
    finite = np.isfinite(numbers)
    per_record = np.where(np.isnan(difference), np.inf, difference).max(axis=1, initial=0)
    classes = _classes(a, b)
    agrees = np.equal(*classes) if classes else per_record == 0
    return OutputComparison(
        records=len(rows),
        agreeing=int(agrees.sum()),
        values=int(finite.sum()),
        not_finite=int((~finite).sum()),
        sum_absolute_difference=float(numbers[finite].sum()),
        max_absolute_difference=float(numbers.max(where=finite, initial=0)),
        confusion=_confusion(values, *classes) if classes else (),
        most_different=_most_different(batch, rows, per_record, values),
        keeps=batch.keeps,
    )


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns |a - b| as float64; not finite if NaN or an infinity leaves no difference."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    difference = np.abs(a - b)
    # Arithmetic gives NaN for equal infinities, and for two NaNs.
    difference[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    return difference


def _classes(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    of_a, of_b = classes_of(a), classes_of(b)
    return None if of_a is None or of_b is None else (of_a, of_b)


def _confusion(models: Iterable[str], a: np.ndarray, b: np.ndarray) -> tuple[ClassPair, ...] | None:
    table: Counter[tuple[str, ...]] = Counter()
    for pair, count in Counter(zip(a.tolist(), b.tolist(), strict=True)).items():
        table[tuple(str(readable(value)) for value in pair)] += count
    return confusion_table(tuple(models), table)


def _most_different(
    batch: _Batch, rows: np.ndarray, difference: np.ndarray, values: Mapping[str, np.ndarray]
) -> tuple[DifferentRecord, ...]:
    """Returns the records of largest difference, in order; see `_compare_output`."""
    keeps = batch.keeps
    differing = np.flatnonzero(difference)
    if len(differing) > keeps > 0:
        # All records that tie with the last one to keep: their files decide which of them stay.
        least = np.partition(difference[differing], -keeps)[-keeps]
        differing = np.flatnonzero(difference >= least)
    ranked = ((-float(difference[i]), *batch.locate(int(rows[i])), int(i)) for i in differing)
    return tuple(
        DifferentRecord(
            difference=-negative,
            file=file,
            record=record,
            keys=batch.keys_of(int(rows[i])),
            values={
                model: [readable(value) for value in array[i, :_MOST_VALUES_SHOWN].tolist()]
                for model, array in values.items()
            },
        )
        for negative, file, record, i in heapq.nsmallest(keeps, ranked)
    )


def _keys(record: bytes, names: Sequence[str]) -> dict[str, list[Readable]]:
    try:
        return {n: [readable(v) for v in example.feature_values(record, n)] for n in names}
    except DecodeError:
        return {}
