from __future__ import annotations

import pytest

from bulk_inferencer._units.failure_limit import FailureLimit, check_failure_limit
from bulk_inferencer._units.manifest import Account, BranchAccount, Manifest
from bulk_inferencer._units.sinks.failure_list import Failure, FailureList
from bulk_inferencer.errors import FailureLimitError
from bulk_inferencer.results import codec
from tests.helpers import exactly

LIST = FailureList("", names_models=False)
ONE = {"one": ""}
SEVERAL = {"m": "Model 'm'", "n": "Model 'n'"}


def manifest(split="s", index=0, read=10, unrouted=0, **failed):
    """Returns the manifest of a unit in which so many of the records failed in each model."""
    branches = {n: BranchAccount(read, read - count, count) for n, count in failed.items()}
    first = [Failure(f"file-{index}", i, "E: no", None) for i in range(unrouted)]
    first += [Failure(f"file-{index}", i, "E: no", n) for n in failed for i in range(failed[n])]
    sinks = {FailureList.name: Account(notes=codec.to_json(first[:5]))}
    return Manifest(split, index, (), read, unrouted, branches, sinks, 1.0)


TWO_UNITS = [manifest(one=1), manifest(index=1, one=3)]
TWO_SPLITS = [manifest("large", read=1000, one=0), manifest("small", read=2, one=1)]
TWO_MODELS = [manifest(m=1, n=2)]
WITHOUT_KEYS = [manifest(unrouted=2, m=0, n=1)]
FOUR = "4 of 20 records failed in split 's'"
UNROUTED = "2 of 10 records failed in split 's' before they reached a model"
FIRST = ("file-0, record 0", "file-1, record 0", "file-1, record 1")
SECOND = ("file-0, record 0", "file-0, record 1")


@pytest.mark.parametrize(
    ("limit", "units", "labels", "what", "allowed", "first"),
    [
        (FailureLimit(), TWO_UNITS, ONE, FOUR, "1.00%", FIRST),
        (FailureLimit(1, 1), TWO_UNITS, ONE, FOUR, "100.00% and at most 1", FIRST),
        (FailureLimit(5, 0.09), TWO_UNITS, ONE, FOUR, "9.00% and at most 5", FIRST),
        (FailureLimit(max_fraction=0.2), TWO_SPLITS, ONE, "1 of 2 records failed in split 'small'",
         "20.00%", FIRST[:1]),
        (FailureLimit(max_fraction=0.1), TWO_MODELS, SEVERAL,
         "Model 'n': 2 of 10 records failed in split 's'", "10.00%", SECOND),
        (FailureLimit(1, 1), WITHOUT_KEYS, SEVERAL, UNROUTED, "100.00% and at most 1", SECOND),
    ],
    ids=["default", "count", "fraction", "split", "model", "unrouted"],
)  # fmt: skip
def test_more_failures_than_a_limit_allows_are_an_error_with_the_first_of_them(
    limit, units, labels, what, allowed, first
):
    """It holds for each split alone, each model and its records, and records that reach none."""
    lines = "".join(f"  {place}: E: no\n" for place in first)
    message = (
        f"{what}. FailureLimit allows at most {allowed}. The first failures:\n{lines}Fix the "
        f"records or the model, or raise the limit to keep the failures in failed_examples."
    )
    with pytest.raises(FailureLimitError, match=exactly(message)):
        check_failure_limit(limit, units, labels, LIST.merged(None, units))


@pytest.mark.parametrize(
    ("limit", "units", "labels"),
    [
        (FailureLimit(), [manifest(read=100, one=1)], ONE),
        (FailureLimit(max_fraction=0.29), [manifest(read=100, one=29)], ONE),  # times 100: less
        (FailureLimit(29, 1), [manifest(read=29, one=29)], ONE),
        (FailureLimit(0, 0), [manifest(read=0, one=0)], ONE),
        (FailureLimit(max_fraction=0.2), TWO_MODELS, SEVERAL),
        (FailureLimit(2, 1), WITHOUT_KEYS, SEVERAL),
    ],
    ids=["default", "fraction", "count", "no records", "model", "unrouted"],
)
def test_failures_up_to_the_limit_itself_are_allowed(limit, units, labels):
    check_failure_limit(limit, units, labels, first={})
