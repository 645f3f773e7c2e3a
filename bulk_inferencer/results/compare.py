"""Side-by-side comparison of what several models say of the same records.

Each batch becomes a small `Comparison`; those of all batches and units merge into one:

    {"five": {"y": [n, ...]}, "ten": {"y": [n, ...]}} --compare_batch--> Comparison --merge--> ...
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import json
import math
import posixpath
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np

from bulk_inferencer import _files
from bulk_inferencer._formats import example
from bulk_inferencer._formats.partial import rows_with
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results.outcomes import Outcome

COMPARISON_FILE = "comparison.json"

_MOST_CLASS_PAIRS = 1000
_LONGEST_CLASS_BYTES = 256
_MOST_VALUES_SHOWN = 16

# What JSON can hold: bytes decoded as UTF-8, what is not UTF-8 in it escaped; NaN and infinities
# as text.
Readable: TypeAlias = bool | int | float | str
Confusion: TypeAlias = Mapping[tuple[str, str], int]


@dataclass(frozen=True)
class Comparing:
    """What to keep of the records that differ most.

    Attributes:
      key_features: features that identify a record.
      most_different: how many records to keep per pair of models and output.

    Raises:
      SettingsError: `most_different` is negative.
    """

    key_features: tuple[str, ...] = ()
    most_different: int = 10

    def __post_init__(self) -> None:
        if self.most_different < 0:
            raise SettingsError(
                f"Expected ComparisonSpec.most_different to be at least 0, got "
                f"{self.most_different}. Set it to how many records to show; 0 shows none."
            )


@dataclass(frozen=True)
class DifferentRecord:
    """A record of which two models do not say the same.

    Attributes:
      difference: the largest absolute difference of its values; infinity where NaN or an infinity
        leaves one without a difference; 1 if texts differ.
      file: its input file.
      record: its number within the file, from 0.
      keys: the values of its key features by name; none where it is no tf.Example.
      values: the first 16 values of the output by model, flattened in row order.
    """

    difference: float
    file: str
    record: int
    keys: Mapping[str, Sequence[Readable]]
    values: Mapping[str, Sequence[Readable]]

    @property
    def rank(self) -> tuple[float, str, int]:
        """Sorts records: the largest difference first, equal ones by file and number."""
        return -self.difference, self.file, self.record


@dataclass(frozen=True)
class OutputComparison:
    """One output of two models, a and b, over the records for which both have it.

    The class of a record is its value, where an output has one text, integer or boolean per record;
    the index of the largest value, where it has several floats per record (NaN counts as the
    largest); anything else has no class.

    Attributes:
      records: records compared.
      agreeing: records of the same class for both; where there are no classes, records all of whose
        values are equal (NaN is equal to NaN).
      values: numbers compared; 0 for text.
      not_finite: further numbers, that NaN or an infinity leaves without a difference. Equal
        infinities, and NaN for both, have the difference 0.
      sum_absolute_difference: sum of |a - b| over `values`.
      max_absolute_difference: the largest |a - b| of `values`; 0 if there are none.
      confusion: records by (class of a, class of b), as text. Empty where there are no classes.
        None if there are more than 1,000 pairs of them, or a class has more than 256 bytes.
      most_different: the records that differ most, in the order of `DifferentRecord.rank`.
      keeps: how many of them at most.
    """

    records: int
    agreeing: int
    values: int
    not_finite: int
    sum_absolute_difference: float
    max_absolute_difference: float
    confusion: Confusion | None
    most_different: tuple[DifferentRecord, ...]
    keeps: int

    @property
    def agreement(self) -> float:
        """The share of records that agree, from 0 to 1; not a number if there are no records."""
        return self.agreeing / self.records if self.records else math.nan

    @property
    def mean_absolute_difference(self) -> float:
        """The mean of |a - b| over `values`; not a number if there are none."""
        return self.sum_absolute_difference / self.values if self.values else math.nan

    def merge(self, other: OutputComparison) -> OutputComparison:
        """Returns the comparison of the records of both."""
        keeps = min(self.keeps, other.keeps)
        different = heapq.merge(self.most_different, other.most_different, key=_rank)
        return OutputComparison(
            records=self.records + other.records,
            agreeing=self.agreeing + other.agreeing,
            values=self.values + other.values,
            not_finite=self.not_finite + other.not_finite,
            sum_absolute_difference=self.sum_absolute_difference + other.sum_absolute_difference,
            max_absolute_difference=max(
                self.max_absolute_difference, other.max_absolute_difference
            ),
            confusion=_merged_confusion(self.confusion, other.confusion),
            most_different=tuple(itertools.islice(different, keeps)),
            keeps=keeps,
        )


@dataclass(frozen=True)
class PairComparison:
    """Two models side by side.

    Attributes:
      models: their names.
      outputs: the outputs of which both had at least one record in common, by name.
      not_compared: for other outputs, why not. An output that could be compared in some batches
        only is in both.
    """

    models: tuple[str, str]
    outputs: Mapping[str, OutputComparison]
    not_compared: Mapping[str, str]

    def merge(self, other: PairComparison) -> PairComparison:
        """Returns the comparison of the records of both, which are of the same models."""
        return PairComparison(
            models=self.models,
            outputs=_merged(self.outputs, other.outputs),
            not_compared={**self.not_compared, **other.not_compared},
        )


@dataclass(frozen=True)
class Comparison:
    """The content of `comparison.json`.

    Merging is associative, up to the rounding of sums, and `Comparison()` changes nothing: so the
    comparisons of batches and units may be merged in any grouping. What it holds is bounded,
    however many records there are.

    Attributes:
      pairs: every two models.
      outcomes: business outcomes by model; see `outcomes_by_variant`.
    """

    pairs: tuple[PairComparison, ...] = ()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)

    def merge(self, other: Comparison) -> Comparison:
        """Returns the comparison of the records of both."""
        pairs = _merged({p.models: p for p in self.pairs}, {p.models: p for p in other.pairs})
        return Comparison(tuple(pairs.values()), {**self.outcomes, **other.outcomes})

    def to_json(self) -> str:
        """Returns the comparison as indented JSON; NaN and infinities are text in it."""
        values = {
            "pairs": [_pair_to_json(pair) for pair in self.pairs],
            "outcomes": {
                name: {key: _to_json(value) for key, value in dataclasses.asdict(outcome).items()}
                for name, outcome in self.outcomes.items()
            },
        }
        return json.dumps(values, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        """Returns the comparison that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        outcomes = {
            name: Outcome(outcome.pop("count"), **{k: _from_json(v) for k, v in outcome.items()})
            for name, outcome in values["outcomes"].items()
        }
        return cls(tuple(map(_pair_from_json, values["pairs"])), outcomes)

    def write(self, folder: str) -> None:
        """Writes `comparison.json` into `folder`."""
        with _files.open_to_write(posixpath.join(folder, COMPARISON_FILE)) as file:
            file.write(self.to_json().encode())

    @classmethod
    def read(cls, folder: str) -> Comparison:
        """Returns the comparison that was written into `folder`."""
        with _files.open_to_read(posixpath.join(folder, COMPARISON_FILE)) as file:
            return cls.from_json(file.read().decode())


def compare_batch(
    records: Sequence[bytes],
    outputs: Mapping[str, Mapping[str, np.ndarray]],
    locate: Callable[[int], tuple[str, int]],
    comparing: Comparing,
) -> Comparison:
    """Compares what models say of one batch, every two models in the order of `outputs`.

    Numbers are compared as float64, so integers beyond 2**53 by their nearest float64.

    Args:
      records: n serialized records.
      outputs: by model and output, arrays of shape [n, ...]: booleans, integers, floats (float16
        and bfloat16 too), or objects that are `bytes`. In a `np.ma.MaskedArray`, a masked row says
        that the record does not have the output.
      locate: returns file and number within it, from 0, of the record at an index of the batch.
      comparing: what to keep of the records that differ most.
    """
    batch = _Batch(records, locate, comparing)
    pairs = itertools.combinations(outputs.items(), 2)
    return Comparison(tuple(_compare_pair(batch, dict(pair)) for pair in pairs))


@dataclass(frozen=True)
class _Batch:
    """The records of one batch, and what to say of those that differ."""

    records: Sequence[bytes]
    locate: Callable[[int], tuple[str, int]]
    comparing: Comparing


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
            continue  # Where a model has no record at all, dtype and shape mean nothing.
        values = {model: _flat(array)[rows] for model, array in both.items()}
        if reason := _why_not(values):
            not_compared[output] = reason
        else:
            compared[output] = _compare_output(batch, rows, values)
    return PairComparison((name_a, name_b), compared, not_compared)


def _flat(array: np.ndarray) -> np.ndarray:
    """Returns [n, ...] as [n, k] without a mask, floats of every width as float64."""
    data = np.asarray(array)
    data = data.reshape(len(data), math.prod(data.shape[1:]))
    # bfloat16 is of numpy's kind "V": it comes from ml_dtypes.
    is_float = data.dtype.kind == "f" or data.dtype.name == "bfloat16"
    return data.astype(np.float64) if is_float else data


def _why_not(values: Mapping[str, np.ndarray]) -> str:
    """Returns why two arrays of shape [n, k] cannot be compared, or nothing."""
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
    return "numbers" if values.dtype.kind in "iubf" else values.dtype.name


# A sum or difference beyond float64 is infinite, and one that infinities do not have is NaN.
@np.errstate(over="ignore", invalid="ignore")
def _compare_output(
    batch: _Batch, rows: np.ndarray, values: Mapping[str, np.ndarray]
) -> OutputComparison:
    """Compares two arrays of shape [n, k], whose rows stand for those of the batch in `rows`."""
    a, b = values.values()
    if a.dtype == object:
        difference = (a != b).astype(np.float64)
        numbers = np.empty(0)
    else:
        difference = numbers = _differences(a, b)
    finite = np.isfinite(numbers)
    of_record = np.where(np.isnan(difference), np.inf, difference).max(axis=1, initial=0)
    classes = _classes(a, b)
    agrees = np.equal(*classes) if classes else of_record == 0
    return OutputComparison(
        records=len(rows),
        agreeing=int(agrees.sum()),
        values=int(finite.sum()),
        not_finite=int((~finite).sum()),
        sum_absolute_difference=float(numbers[finite].sum()),
        max_absolute_difference=float(numbers.max(where=finite, initial=0)),
        confusion=_confusion(*classes) if classes else {},
        most_different=_most_different(batch, rows, of_record, values),
        keeps=batch.comparing.most_different,
    )


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns |a - b| as float64, not finite where NaN or an infinity leaves none."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    difference = np.abs(a - b)
    # By arithmetic, equal infinities have no difference, nor has NaN from itself.
    difference[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    return difference


def _classes(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the classes of [n, k] as [n]; see `OutputComparison`."""
    floats = [values.dtype.kind == "f" for values in (a, b)]
    if a.shape[1] == 1 and not any(floats):
        return a[:, 0], b[:, 0]
    if a.shape[1] > 1 and all(floats):
        return a.argmax(axis=1), b.argmax(axis=1)
    return None


def _confusion(a: np.ndarray, b: np.ndarray) -> Confusion | None:
    table: Counter[tuple[str, str]] = Counter()
    for (class_a, class_b), count in Counter(zip(a.tolist(), b.tolist(), strict=True)).items():
        table[_class_text(class_a), _class_text(class_b)] += count
    return _bounded(table)


def _class_text(value: Any) -> str:
    return str(_readable(value))


def _bounded(table: Confusion) -> Confusion | None:
    """Returns the table, or None if it is too large.

    Tables only grow. One that is too large would be too large in every grouping of a merge, and
    None stays None: that keeps merging associative.
    """
    fits = len(table) <= _MOST_CLASS_PAIRS and all(
        len(text.encode()) <= _LONGEST_CLASS_BYTES for pair in table for text in pair
    )
    return dict(table) if fits else None


def _merged_confusion(a: Confusion | None, b: Confusion | None) -> Confusion | None:
    return None if a is None or b is None else _bounded(Counter(a) + Counter(b))


def _most_different(
    batch: _Batch, rows: np.ndarray, difference: np.ndarray, values: Mapping[str, np.ndarray]
) -> tuple[DifferentRecord, ...]:
    """Returns the records of largest difference, in order; those without any are left out.

    Args:
      batch: what the rows are of.
      rows: indexes in the batch, integers of shape [n].
      difference: floats of shape [n].
      values: arrays of shape [n, k] by model.
    """
    keeps = batch.comparing.most_different
    differing = np.flatnonzero(difference)
    if len(differing) > keeps > 0:
        # Every record that ties with the last one to keep: which of them stay, their files say.
        least = np.partition(difference[differing], -keeps)[-keeps]
        differing = np.flatnonzero(difference >= least)
    ranked = ((-float(difference[i]), *batch.locate(int(rows[i])), int(i)) for i in differing)
    return tuple(
        DifferentRecord(
            difference=-negative,
            file=file,
            record=record,
            keys=_keys(batch.records[rows[i]], batch.comparing.key_features),
            values={
                model: [_readable(value) for value in array[i, :_MOST_VALUES_SHOWN].tolist()]
                for model, array in values.items()
            },
        )
        for negative, file, record, i in heapq.nsmallest(keeps, ranked)
    )


def _keys(record: bytes, names: Sequence[str]) -> dict[str, list[Readable]]:
    from google.protobuf.message import DecodeError

    try:
        return {n: [_readable(v) for v in example.feature_values(record, n)] for n in names}
    except DecodeError:
        return {}


def _readable(value: Any) -> Readable:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, float):
        return _to_json(value)
    return value


def _rank(record: DifferentRecord) -> tuple[float, str, int]:
    return record.rank


_Key = TypeVar("_Key")
_Part = TypeVar("_Part", OutputComparison, PairComparison)


def _merged(a: Mapping[_Key, _Part], b: Mapping[_Key, _Part]) -> dict[_Key, _Part]:
    """Returns all parts, those of `a` first; what both have is merged."""
    return {**a, **b, **{name: a[name].merge(b[name]) for name in a if name in b}}


# JSON


def _to_json(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)


def _from_json(value: float | str) -> float:
    # `math.nan` and not any other NaN: it is equal to itself within a tuple.
    return math.nan if value == "nan" else float(value)


def _pair_to_json(pair: PairComparison) -> dict[str, Any]:
    return {
        "models": pair.models,
        "outputs": {
            name: _output_to_json(output, pair.models) for name, output in pair.outputs.items()
        },
        "not_compared": pair.not_compared,
    }


def _pair_from_json(values: Mapping[str, Any]) -> PairComparison:
    model_a, model_b = values["models"]
    outputs = {
        name: _output_from_json(output, (model_a, model_b))
        for name, output in values["outputs"].items()
    }
    return PairComparison((model_a, model_b), outputs, values["not_compared"])


def _output_to_json(output: OutputComparison, models: tuple[str, str]) -> dict[str, Any]:
    return {
        "records": output.records,
        "agreeing": output.agreeing,
        "agreement": _to_json(output.agreement),
        "values": output.values,
        "not_finite": output.not_finite,
        "sum_absolute_difference": _to_json(output.sum_absolute_difference),
        "mean_absolute_difference": _to_json(output.mean_absolute_difference),
        "max_absolute_difference": _to_json(output.max_absolute_difference),
        "confusion": None
        if output.confusion is None
        else [
            {"classes": dict(zip(models, pair, strict=True)), "records": count}
            for pair, count in sorted(output.confusion.items(), key=lambda e: (-e[1], e[0]))
        ],
        "most_different": [
            {
                "difference": _to_json(different.difference),
                "file": different.file,
                "record": different.record,
                "keys": different.keys,
                "values": different.values,
            }
            for different in output.most_different
        ],
        "keeps": output.keeps,
    }


def _output_from_json(values: Mapping[str, Any], models: tuple[str, str]) -> OutputComparison:
    model_a, model_b = models
    confusion = values["confusion"]
    if confusion is not None:
        confusion = {
            (entry["classes"][model_a], entry["classes"][model_b]): entry["records"]
            for entry in confusion
        }
    return OutputComparison(
        records=values["records"],
        agreeing=values["agreeing"],
        values=values["values"],
        not_finite=values["not_finite"],
        sum_absolute_difference=_from_json(values["sum_absolute_difference"]),
        max_absolute_difference=_from_json(values["max_absolute_difference"]),
        confusion=confusion,
        most_different=tuple(
            DifferentRecord(**{**entry, "difference": _from_json(entry["difference"])})
            for entry in values["most_different"]
        ),
        keeps=values["keeps"],
    )
