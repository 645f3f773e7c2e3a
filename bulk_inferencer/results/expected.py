"""What predictions must be like for their model to be blessed: bounds, checked as they are set."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from numbers import Real
from typing import Any

from bulk_inferencer._checks import check_kind, check_number
from bulk_inferencer.errors import SettingsError

_SHARES = ("max_not_finite_fraction", "max_drift", "min_agreement")
_DIFFERENCES = ("max_mean_absolute_difference", "max_absolute_difference")
_OF_PAIRS = ("min_agreement", *_DIFFERENCES)
_AS_SHARE = "Write five percent as 0.05."
_LEAVE_OUT = "Leave it out to expect nothing."


@dataclass(frozen=True, kw_only=True)
class OutputExpectations:
    """Bounds on one output of a model. What is not named may be anything.

    ```python
    OutputExpectations(minimum=0, max_mean=100, quantiles={0.5: (10, 20)}, max_drift=0.1)
    ```

    A bound on something that cannot be told, such as the mean of texts, is not met.

    Attributes:
      max_not_finite_fraction: most of its numbers that may be NaN or an infinity, from 0 to 1.
      minimum: no finite number may be less.
      maximum: nor greater.
      min_mean: bounds of the mean of the finite numbers.
      max_mean: see there.
      quantiles: the lowest and highest value of quantiles, by quantile, from 0 to 1. None stands
        for no bound, here and below.
      class_shares: the smallest and largest share of records by class, from 0 to 1. The class of a
        record is defined in `OutputComparison`.
      max_drift: the largest distance from the baseline's distribution, from 0 to 1; see
        `drift.drift`.
      min_agreement: smallest share of records of the same class as the baseline model's; see
        `OutputComparison.agreement`.
      max_mean_absolute_difference: from the baseline model's output.
      max_absolute_difference: from the baseline model's output, of any number.

    Raises:
      SettingsError: a bound is no number or out of its range, or two contradict each other.
    """

    max_not_finite_fraction: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    min_mean: float | None = None
    max_mean: float | None = None
    quantiles: Mapping[float, tuple[float, float]] = field(default_factory=dict)
    class_shares: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    max_drift: float | None = None
    min_agreement: float | None = None
    max_mean_absolute_difference: float | None = None
    max_absolute_difference: float | None = None

    def __post_init__(self) -> None:
        for name in _SHARES:
            self._set(name, 0, 1, _AS_SHARE)
        for name in _DIFFERENCES:
            self._set(name, 0)
        for name in ("minimum", "maximum", "min_mean", "max_mean"):
            self._set(name)
        quantiles = {
            _number(_of("quantiles", "key"), q, 0, 1, "The median is 0.5."): _pair(
                _of(f"quantiles[{q}]"), bounds
            )
            for q, bounds in _mapping("quantiles", self.quantiles, "{0.5: (10, 20)}").items()
        }
        object.__setattr__(self, "quantiles", dict(sorted(quantiles.items())))
        shares = {
            str(name): _pair(_of(f"class_shares['{name}']"), bounds, 0, 1)
            for name, bounds in _mapping(
                "class_shares", self.class_shares, "{'cat': (0.1, 0.5)}"
            ).items()
        }
        object.__setattr__(self, "class_shares", shares)
        self._check_order()

    @property
    def compares_models(self) -> bool:
        """Whether anything is expected of the differences from another model."""
        return any(getattr(self, name) is not None for name in _OF_PAIRS)

    def _set(self, name: str, low: float = -inf, high: float = inf, advice: str = "") -> None:
        value = getattr(self, name)
        if value is not None:
            checked = _number(_of(name), value, low, high, advice or _LEAVE_OUT)
            object.__setattr__(self, name, checked)

    def _check_order(self) -> None:
        """Checks that values exist that are within all bounds."""
        low, high = _or(self.minimum, -inf), _or(self.maximum, inf)
        at_most = [("minimum", low, "maximum", high)]
        mean = _or(self.min_mean, -inf), _or(self.max_mean, inf)
        at_most += [("min_mean", mean[0], "max_mean", mean[1])]
        at_most += [("min_mean", mean[0], "maximum", high), ("minimum", low, "max_mean", mean[1])]
        for q, (q_low, q_high) in self.quantiles.items():
            name = f"quantiles[{q:g}]"
            at_most += [(name, q_low, "maximum", high), ("minimum", low, name, q_high)]
        for (p, (p_low, _)), (q, (_, q_high)) in itertools.combinations(self.quantiles.items(), 2):
            at_most += [(f"quantiles[{p:g}]", p_low, f"quantiles[{q:g}]", q_high)]
        for lower, value, upper, limit in at_most:
            if value > limit:
                raise SettingsError(
                    f"{_of(lower)} is at least {value:g}, but {_of(upper)} is at most {limit:g}, "
                    f"so no predictions can meet both. Change one of them."
                )
        if (total := sum(low for low, _ in self.class_shares.values())) > 1 + 1e-9:
            raise SettingsError(
                f"The smallest shares in {_of('class_shares')} add up to {total:g}, but all shares "
                f"together are 1. Lower some of them."
            )


@dataclass(frozen=True, kw_only=True)
class Expectations:
    """What the predictions of a model must be like for it to be blessed.

    ```python
    Expectations(outputs={"y": OutputExpectations(minimum=0)}, max_failed_fraction=0.01)
    ```

    Attributes:
      outputs: bounds by output. Each output that is named must be there.
      max_failed_fraction: most of the records that may fail, from 0 to 1.
      min_records: fewest records that must have been predicted, at least 1.
      baseline_model: of several models side by side, the one to compare with.

    Raises:
      SettingsError: a bound is no number or out of its range, or a baseline model is named but
        nothing is expected of the differences, or the other way round.
    """

    outputs: Mapping[str, OutputExpectations] = field(default_factory=dict)
    max_failed_fraction: float | None = None
    min_records: int = 1
    baseline_model: str = ""

    def __post_init__(self) -> None:
        example = '{"y": OutputExpectations(minimum=0)}'
        check_kind("Expectations.outputs", self.outputs, Mapping, example)
        for name, own in self.outputs.items():
            check_kind("A key of Expectations.outputs", name, str, "'y'")
            what = f"Expectations.outputs[{name!r}]"
            check_kind(what, own, OutputExpectations, "OutputExpectations(minimum=0)")
        object.__setattr__(self, "outputs", dict(self.outputs))
        if self.max_failed_fraction is not None:
            what = "Expectations.max_failed_fraction"
            fraction = _number(what, self.max_failed_fraction, 0, 1, _AS_SHARE)
            object.__setattr__(self, "max_failed_fraction", fraction)
        advice = "A model that has predicted nothing cannot be blessed."
        if isinstance(self.min_records, bool):
            raise SettingsError(
                f"Expectations.min_records must be a whole number, not {self.min_records}."
            )
        check_number("Expectations.min_records", self.min_records, advice, 1, whole=True)
        check_kind("Expectations.baseline_model", self.baseline_model, str, "'five'")
        comparing = [name for name, own in self.outputs.items() if own.compares_models]
        if comparing and not self.baseline_model:
            raise SettingsError(
                f"Output '{comparing[0]}' is expected to be like another model's, but "
                f"Expectations.baseline_model does not say which. Name it."
            )
        if self.baseline_model and not comparing:
            raise SettingsError(
                f"Expectations.baseline_model is '{self.baseline_model}', but nothing is expected "
                f"of the differences from it. Set {' or '.join(map(_of, _OF_PAIRS))}, or leave it "
                f"out."
            )

    @property
    def needs_baseline(self) -> bool:
        """Whether anything is expected of the distance from earlier results."""
        return any(own.max_drift is not None for own in self.outputs.values())


def _of(name: str, what: str = "") -> str:
    return f"A {what} of OutputExpectations.{name}" if what else f"OutputExpectations.{name}"


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _mapping(name: str, value: Any, example: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise SettingsError(f"{_of(name)} must be a dict, not {value!r}. Write {example}.")
    return value


def _number(field_: str, value: Any, low: float, high: float, advice: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise SettingsError(f"{field_} must be a number, not {value!r}. {advice}")
    check_number(field_, value, advice, low, high)
    return float(value)


def _pair(field_: str, value: Any, low: float = -inf, high: float = inf) -> tuple[float, float]:
    """Returns the lowest and the highest value, which may be without bound."""
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise SettingsError(
            f"{field_} must be the lowest and the highest value, such as (0.1, 0.5), not {value!r}."
        )
    advice = "Use None for no bound." if high == inf else _AS_SHARE
    lowest, highest = (
        otherwise if bound is None else _number(field_, bound, low, high, advice)
        for bound, otherwise in zip(value, (low, high), strict=True)
    )
    if lowest > highest:
        raise SettingsError(
            f"{field_} is from {lowest:g} to {highest:g}, so nothing can be between. Exchange them."
        )
    return lowest, highest
