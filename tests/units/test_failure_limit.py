from __future__ import annotations

import pytest

from bulk_inferencer._units.failure_limit import FailureLimit, check_failure_limit
from bulk_inferencer._units.manifest import Account, BranchAccount, Manifest
from bulk_inferencer._units.sinks.failure_list import Failure, FailureList
from bulk_inferencer.errors import FailureLimitError, SettingsError
from bulk_inferencer.results import codec
from tests.helpers import exactly

ONE = {"one": ""}
SEVERAL = {"m": "Model 'm'", "n": "Model 'n'"}


def manifest(split="s", index=0, read=10, unrouted=0, **failed):
    """Returns the manifest of a unit in which so many of the records failed in each model."""
    branches = {n: BranchAccount(read, read - count, count) for n, count in failed.items()}
    first = [Failure(f"file-{index}", i, "E: no", None) for i in range(unrouted)]
    first += [Failure(f"file-{index}", i, "E: no", n) for n in failed for i in range(failed[n])]
    sinks = {FailureList.name: Account(notes=codec.to_json(first[:5]))}
    return Manifest(split, index, (), read, unrouted, branches, sinks, 1.0)


def text(got, where, allowed, *failures):
    lines = "".join(f"  {file}, record {record}: E: no\n" for file, record in failures)
    return (
        f"{got} records failed in {where}, but at most {allowed} may. The first ones:\n{lines}Fix "
        f"the records or the model. Or raise the FailureLimit, to keep the failures in "
        f"failed_examples."
    )


@pytest.mark.parametrize(
    ("limit", "allowed"),
    [
        (FailureLimit(), "1.00%"),
        (FailureLimit(max_count=1, max_fraction=1), "100.00% and 1 records"),
        (FailureLimit(max_count=5, max_fraction=0.09), "9.00% and 5 records"),
    ],
    ids=["default", "count", "fraction"],
)
def test_more_failures_than_a_limit_allows_are_an_error_with_the_first_of_them(limit, allowed):
    units = [manifest(one=1), manifest(index=1, one=3)]
    first = [("file-0", 0), ("file-1", 0), ("file-1", 1)]
    message = text("4 of 20", "split 's'", allowed, *first)
    with pytest.raises(FailureLimitError, match=exactly(message)):
        check_failure_limit(limit, units, ONE)


@pytest.mark.parametrize(
    ("limit", "unit"),
    [
        (FailureLimit(), manifest(read=100, one=1)),
        (FailureLimit(max_fraction=0.29), manifest(read=100, one=29)),  # times 100 it is less
        (FailureLimit(max_count=29, max_fraction=1), manifest(read=29, one=29)),
        (FailureLimit(0, 0), manifest(read=0, one=0)),
    ],
    ids=["default", "fraction", "count", "no records"],
)
def test_failures_up_to_the_limit_itself_are_allowed(limit, unit):
    check_failure_limit(limit, [unit], ONE)


def test_limit_holds_for_each_split_alone():
    units = [manifest("large", read=1000, one=0), manifest("small", read=2, one=1)]
    message = text("1 of 2", "split 'small'", "20.00%", ("file-0", 0))
    with pytest.raises(FailureLimitError, match=exactly(message)):
        check_failure_limit(FailureLimit(max_fraction=0.2), units, ONE)


def test_limit_holds_for_each_model_and_the_records_that_went_to_it():
    unit = manifest(m=1, n=2)
    message = "Model 'n': " + text("2 of 10", "split 's'", "10.00%", ("file-0", 0), ("file-0", 1))
    with pytest.raises(FailureLimitError, match=exactly(message)):
        check_failure_limit(FailureLimit(max_fraction=0.1), [unit], SEVERAL)
    unit.branches["n"].examples_read = 20
    check_failure_limit(FailureLimit(max_fraction=0.1), [unit], SEVERAL)


def test_limit_holds_for_records_that_reach_no_model():
    unit = manifest(unrouted=2, m=0, n=1)
    where = "split 's' before they reached a model"
    message = text("2 of 10", where, "100.00% and 1 records", ("file-0", 0), ("file-0", 1))
    with pytest.raises(FailureLimitError, match=exactly(message)):
        check_failure_limit(FailureLimit(max_count=1, max_fraction=1), [unit], SEVERAL)
    check_failure_limit(FailureLimit(max_count=2, max_fraction=1), [unit], SEVERAL)


def test_negative_count_is_refused():
    message = "FailureLimit.max_count must be at least 0, not -1. Leave it out for no limit."
    with pytest.raises(SettingsError, match=exactly(message)):
        FailureLimit(max_count=-1)


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan")])
def test_fraction_out_of_its_range_is_refused(fraction):
    message = f"FailureLimit.max_fraction must be from 0 to 1, not {fraction}. One percent is 0.01."
    with pytest.raises(SettingsError, match=exactly(message)):
        FailureLimit(max_fraction=fraction)
