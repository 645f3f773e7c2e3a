"""The result of comparing several models side by side.

Each batch becomes a small `Comparison` (see `compare.py`). Those of all batches and units are
merged into one, which is written to `comparison.json`.
"""

from __future__ import annotations

import heapq
import itertools
import math
import operator
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import TypeAlias, TypeVar

from bulk_inferencer import _files
from bulk_inferencer._layout import COMPARISON_FILE
from bulk_inferencer.results import codec, display_comparison
from bulk_inferencer.results.blocks import Block, Shown

_MOST_CLASS_PAIRS = 1000
LONGEST_CLASS_BYTES = 256

# A value as JSON can hold it: NaN and infinities are text, and so are bytes, with escapes for
# those that are not UTF-8.
Readable: TypeAlias = bool | int | float | str


@dataclass(frozen=True)
class DifferentRecord:
    """A record for which two models differ.

    Attributes:
      difference: the largest absolute difference of its values; infinity if NaN or an infinity
        leaves a value without a difference; 1 if texts differ.
      file: its input file.
      record: its number within the file, from 0.
      keys: the values of its key features by name; empty if it is not a tf.Example.
      values: the first 16 values of the output by model, flattened in row order.
    """

    difference: float
    file: str
    record: int
    keys: Mapping[str, Sequence[Readable]]
    values: Mapping[str, Sequence[Readable]]

    @property
    def rank(self) -> tuple[float, str, int]:
        """The sort key of records: largest difference first, then by file and number."""
        return -self.difference, self.file, self.record


@dataclass(frozen=True)
class ClassPair:
    """How many records two models put into one pair of classes.

    Attributes:
      classes: the class by model, as text.
      records: the number of records.
    """

    classes: Mapping[str, str]
    records: int


@dataclass(frozen=True)
class OutputComparison:
    """One output of two models, a and b, for the records that both have it for.

    The class of a record is its value, if the output is one text, integer or boolean per record. It
    is the index of the largest value, if the output is several floats per record; NaN counts as
    the largest. Other outputs have no classes.

    Attributes:
      records: records compared.
      agreeing: records of the same class for both. Without classes, records whose values are all
        equal; NaN equals NaN.
      values: numbers compared; 0 for text.
      not_finite: further numbers, which have no difference because of NaN or an infinity. Equal
        infinities, and NaN for both, have the difference 0.
      sum_absolute_difference: sum of |a - b| over `values`.
      max_absolute_difference: the largest |a - b| of `values`; 0 if there are none.
      confusion: records by the classes of a and b, the most frequent pair first. Empty without
        classes. None if there are more than 1,000 pairs, or a class has more than 256 bytes.
      most_different: the records that differ most, in the order of `DifferentRecord.rank`.
      keeps: the most records that `most_different` may hold.
    """

    JSON_NAMES = (
        *("records", "agreeing", "agreement", "values", "not_finite"),
        *("sum_absolute_difference", "mean_absolute_difference", "max_absolute_difference"),
        *("confusion", "most_different", "keeps"),
    )

    records: int
    agreeing: int
    values: int
    not_finite: int
    sum_absolute_difference: float
    max_absolute_difference: float
    confusion: tuple[ClassPair, ...] | None
    most_different: tuple[DifferentRecord, ...]
    keeps: int

    @property
    def agreement(self) -> float:
        """The share of records that agree, from 0 to 1; NaN if there are no records."""
        return self.agreeing / self.records if self.records else math.nan

    @property
    def mean_absolute_difference(self) -> float:
        """The mean of |a - b| over `values`; NaN if there are none."""
        return self.sum_absolute_difference / self.values if self.values else math.nan

    def merge(self, other: OutputComparison) -> OutputComparison:
        """Returns the comparison of the records of both."""
        largest = max(self.max_absolute_difference, other.max_absolute_difference)
        keeps = min(self.keeps, other.keeps)
        by_rank = operator.attrgetter("rank")
        different = heapq.merge(self.most_different, other.most_different, key=by_rank)
        return OutputComparison(
            records=self.records + other.records,
            agreeing=self.agreeing + other.agreeing,
            values=self.values + other.values,
            not_finite=self.not_finite + other.not_finite,
            sum_absolute_difference=self.sum_absolute_difference + other.sum_absolute_difference,
            max_absolute_difference=largest,
            confusion=_merged_confusion(self.confusion, other.confusion),
            most_different=tuple(itertools.islice(different, keeps)),
            keeps=keeps,
        )


@dataclass(frozen=True)
class PairComparison:
    """Two models side by side.

    Attributes:
      models: their names.
      outputs: the outputs that both have for at least one common record, by name.
      not_compared: the outputs that could not be compared, with the reason. An output that could
        be compared in some batches only is in both.
    """

    models: tuple[str, str]
    outputs: Mapping[str, OutputComparison]
    not_compared: Mapping[str, str]

    def merge(self, other: PairComparison) -> PairComparison:
        """Returns the comparison of the records of both, which are for the same models."""
        return PairComparison(
            models=self.models,
            outputs=_merged(self.outputs, other.outputs),
            not_compared={**self.not_compared, **other.not_compared},
        )


@dataclass(frozen=True)
class Outcome:
    """The mean of one model's business outcomes, and how far to trust it.

    Attributes:
      count: the number of outcomes.
      mean: their mean; NaN if there are none.
      low: lower end of the two-sided 95 % confidence interval of the mean, by Student's t
        distribution; NaN for fewer than 2 outcomes.
      high: the upper end.
    """

    count: int
    mean: float
    low: float
    high: float

    def __eq__(self, other: object) -> bool:
        # In tuples, `math.nan` equals itself; in dataclasses, only before Python 3.13.
        return isinstance(other, Outcome) and astuple(self) == astuple(other)


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """The content of `comparison.json`.

    ```python
    comparison = Comparison.read("results/comparison")
    comparison.pairs[0].outputs["y"].mean_absolute_difference
    ```

    Merging is associative, up to the rounding of sums, and `Comparison()` is neutral: batches and
    units can be merged in any grouping. The size of a comparison is bounded, however many records
    there are.

    Attributes:
      pairs: every two models.
      outcomes: business outcomes by model.
    """

    pairs: tuple[PairComparison, ...] = ()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)

    def merge(self, other: Comparison) -> Comparison:
        """Returns the comparison of the records of both."""
        pairs = _merged({p.models: p for p in self.pairs}, {p.models: p for p in other.pairs})
        return Comparison(tuple(pairs.values()), {**self.outcomes, **other.outcomes})

    def _title(self) -> str:
        return display_comparison.title(self)

    def _blocks(self) -> Iterator[Block]:
        return display_comparison.blocks(self)

    def write(self, folder: str) -> None:
        """Writes `comparison.json` into `folder`, with NaN and infinities as text."""
        codec.write_file(posixpath.join(folder, COMPARISON_FILE), self, indent=2)

    @classmethod
    def read(cls, folder: str) -> Comparison:
        """Returns the comparison in `folder`."""
        return codec.read_file(posixpath.join(folder, COMPARISON_FILE), cls)

    @classmethod
    def read_if_any(cls, folder: str) -> Comparison | None:
        """Returns the comparison in `folder`; None if there is none."""
        return cls.read(folder) if _files.exists(posixpath.join(folder, COMPARISON_FILE)) else None


def confusion_table(
    models: Sequence[str], records: Mapping[tuple[str, ...], int]
) -> tuple[ClassPair, ...] | None:
    """Returns a table of confusion, or None if it would be too large.

    Tables only grow. One that is too large would be too large in every grouping of a merge, and
    None stays None: so merging stays associative.

    Args:
      models: the names of the models.
      records: the number of records by the classes of the models, in their order.
    """
    texts = itertools.chain.from_iterable(records)
    if len(records) > _MOST_CLASS_PAIRS or any(
        len(t.encode()) > LONGEST_CLASS_BYTES for t in texts
    ):
        return None
    ranked = sorted(records.items(), key=lambda entry: (-entry[1], entry[0]))
    return tuple(ClassPair(dict(zip(models, c, strict=True)), count) for c, count in ranked)


def _merged_confusion(
    a: tuple[ClassPair, ...] | None, b: tuple[ClassPair, ...] | None
) -> tuple[ClassPair, ...] | None:
    if a is None or b is None:
        return None
    records: Counter[tuple[str, ...]] = Counter()
    models: tuple[str, ...] = ()
    for pair in (*a, *b):
        models = tuple(pair.classes)
        records[tuple(pair.classes.values())] += pair.records
    return confusion_table(models, records)


_Key = TypeVar("_Key")
_Part = TypeVar("_Part", OutputComparison, PairComparison)


def _merged(a: Mapping[_Key, _Part], b: Mapping[_Key, _Part]) -> dict[_Key, _Part]:
    """Returns the parts of `a` and then those of `b`; those with a common key are merged."""
    return {**a, **b, **{name: a[name].merge(b[name]) for name in a if name in b}}
