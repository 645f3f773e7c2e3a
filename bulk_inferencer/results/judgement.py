"""Whether the predictions of a model are as expected: a `Check` for each bound.

Expectations, Statistics, ... --judge--> (Check("mean of 'y'", "at most 5", "7.2", False), ...)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bulk_inferencer.results.checks import Check, missing, number, unknown, within
from bulk_inferencer.results.comparison import Comparison, OutputComparison
from bulk_inferencer.results.drift import drift
from bulk_inferencer.results.expected import Expectations, OutputExpectations
from bulk_inferencer.results.statistics import OutputStatistics, Statistics
from bulk_inferencer.results.summary import Counts


def judge(
    expectations: Expectations,
    *,
    model: str,
    statistics: Statistics,
    comparison: Comparison | None,
    counts: Counts,
    baseline: Statistics | None,
) -> tuple[Check, ...]:
    """Returns whether the predictions of a model are as expected: a check for each expectation.

    Args:
      expectations: what is expected.
      model: the model's name.
      statistics: those of the run.
      comparison: of the models of the run; None if they were not compared.
      counts: the model's records, over all splits.
      baseline: the statistics of earlier results of this model alone, whatever name it had then;
        None if there are none yet.
    """
    predicted, read = counts.predictions_written, counts.examples_read
    least = expectations.min_records
    checks = [within("number of predicted records", predicted, least, None)]
    if (most := expectations.max_failed_fraction) is not None:
        what = "share of records that failed"
        if read:
            more = f" ({counts.examples_failed:,} of {read:,})"
            checks.append(within(what, counts.examples_failed / read, None, most, more))
        else:
            checks.append(unknown(what, None, most, "there are no records"))
    outputs = statistics.of(model)
    earlier = None if baseline is None else baseline.of(next(iter(baseline.outputs), ""))
    for name, expected in expectations.outputs.items():
        if name not in outputs or not outputs[name].records:
            known = ", ".join(other for other, own in outputs.items() if own.records)
            reason = f"the model has {known}" if known else "no record was predicted"
            checks.append(missing(name, reason))
            continue
        pair = None
        if expected.compares_models:
            pair = _pair_of(comparison, model, expectations.baseline_model, name)
        found = list(_checks_of_output(name, expected, outputs[name], pair, earlier))
        checks += found or [Check(f"output '{name}'", "there", "there", True)]
    return tuple(checks)


def _checks_of_output(
    output: str,
    expected: OutputExpectations,
    found: OutputStatistics,
    pair: _Pair | None,
    baseline: Mapping[str, OutputStatistics] | None,
) -> Iterator[Check]:
    """Yields the checks of one output that some records have.

    Args:
      output: its name.
      expected: what is expected of it.
      found: its statistics.
      pair: how it differs from the baseline model's; None if nothing is expected of that.
      baseline: the outputs of earlier results; None if there are none yet.
    """
    if (most := expected.max_not_finite_fraction) is not None:
        what = f"share of NaN and infinities among the numbers of '{output}'"
        if found.numbers:
            yield within(what, found.not_finite_fraction, None, most)
        else:
            yield unknown(what, None, most, "it holds no numbers")
    for name, value, low, high in _bounds_of_numbers(expected, found):
        what = f"{name} of '{output}'"
        if found.values:
            yield within(what, value, low, high)
        else:
            reason = (
                "all of its numbers are NaN or infinite" if found.numbers else "it holds no numbers"
            )
            yield unknown(what, low, high, reason)
    for name, (least, largest) in expected.class_shares.items():
        what = f"share of class {name!r} of '{output}'"  # which may hold line breaks
        if found.classes:
            share = _count_of(found.classes, name) / found.records
            yield within(what, share, least, largest)
        elif found.classes is None:
            yield unknown(what, least, largest, "there are more classes than can be counted")
        else:
            yield unknown(what, least, largest, "the output has no classes")
    if expected.max_drift is not None:
        yield _drift_check(output, expected.max_drift, found, baseline)
    if pair is not None:
        yield from _checks_of_pair(output, expected, pair)


def _bounds_of_numbers(
    expected: OutputExpectations, found: OutputStatistics
) -> Iterator[tuple[str, float, float | None, float | None]]:
    """Yields name, value and bounds of what only numbers have."""
    if expected.minimum is not None:
        yield "smallest number", found.minimum, expected.minimum, None
    if expected.maximum is not None:
        yield "largest number", found.maximum, None, expected.maximum
    if expected.min_mean is not None or expected.max_mean is not None:
        yield "mean", found.mean, expected.min_mean, expected.max_mean
    for q, (low, high) in expected.quantiles.items():
        name = "median" if q == 0.5 else f"{number(q)} quantile"
        yield name, found.quantile(q) if found.values else math.nan, low, high


def _drift_check(
    output: str,
    most: float,
    found: OutputStatistics,
    baseline: Mapping[str, OutputStatistics] | None,
) -> Check:
    what = f"drift of '{output}' from the baseline"
    if baseline is None:
        return unknown(what, None, most, "there is no baseline yet", is_met=True)
    if output not in baseline or not baseline[output].records:
        return unknown(what, None, most, "the baseline has no such output")
    if math.isnan(distance := drift(found, baseline[output])):
        return unknown(what, None, most, "the two cannot be compared")
    return within(what, distance, None, most)


@dataclass(frozen=True)
class _Pair:
    """How an output of a model differs from the baseline model's.

    Attributes:
      baseline_model: the name of the other model.
      found: the comparison; None if there is none.
      reason: why there is none, or why it is not one of all records; empty if it is.
    """

    baseline_model: str
    found: OutputComparison | None
    reason: str = ""


def _pair_of(comparison: Comparison | None, model: str, baseline_model: str, output: str) -> _Pair:
    """Returns how an output of a model differs from that of another one."""
    pairs = comparison.pairs if comparison else ()
    for pair in pairs:
        if set(pair.models) == {model, baseline_model}:
            found = pair.outputs.get(output)
            reason = pair.not_compared.get(output, "")
            if reason:
                reason = f"it could not be compared: {reason}"
            elif not found or not found.records:
                reason = "no record has the output of both models"
            return _Pair(baseline_model, found, reason)
    return _Pair(baseline_model, None, f"no record was scored by '{baseline_model}' as well")


def _checks_of_pair(output: str, expected: OutputExpectations, pair: _Pair) -> Iterator[Check]:
    found, others = pair.found, f"'{output}' of '{pair.baseline_model}'"
    what = f"share of records that agree with {others}"
    if (least := expected.min_agreement) is not None:
        if pair.reason or found is None:
            yield unknown(what, least, None, pair.reason)
        else:
            yield within(what, found.agreement, least, None)
    differences = [
        ("mean absolute", expected.max_mean_absolute_difference, "mean_absolute_difference"),
        ("largest absolute", expected.max_absolute_difference, "max_absolute_difference"),
    ]
    for name, most, attribute in differences:
        if most is None:
            continue
        what = f"{name} difference from {others}"
        if pair.reason or found is None:
            yield unknown(what, None, most, pair.reason)
        elif found.not_finite:
            # They are no part of the mean, but differ more than any bound allows.
            count = f"{found.not_finite:,}"
            yield unknown(what, None, most, f"NaN or an infinity leaves {count} without one")
        elif not found.values:
            yield unknown(what, None, most, "it holds no numbers")
        else:
            yield within(what, getattr(found, attribute), None, most)


def _count_of(classes: Mapping[str, int], name: str) -> int:
    # Booleans are named as Python writes them, but YAML and JSON write them in lower case.
    other = name.capitalize() if name in ("true", "false") else name
    return classes.get(name, classes.get(other, 0))
