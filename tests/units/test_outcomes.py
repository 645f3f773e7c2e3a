"""The outcomes of an A/B test."""

from __future__ import annotations

import math

import pytest

from bulk_inferencer._units.outcomes import check_outcomes, outcomes_by_branch, read_outcomes_again
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results.comparison import Outcome
from bulk_inferencer.results.outcomes import Outcomes, outcome_of, read_outcomes
from tests.helpers import exactly


def test_table_that_is_read_again_must_not_have_changed(tmp_path):
    path = str(tmp_path / "outcomes.csv")
    (tmp_path / "outcomes.csv").write_text("key,value\nu1,1\nu2,2\n")
    first = read_outcomes(path)
    again = read_outcomes_again(path, first.digest)
    assert (again, again.path, again.digest) == (first, path, first.digest)
    (tmp_path / "outcomes.csv").write_text("key,value\nu0,0\nu1,1\nu2,2\n")
    message = (
        f"The content of {path} has changed since the run began. Run again, and leave the file "
        f"alone until the run is over."
    )
    with pytest.raises(InputError, match=exactly(message)):
        read_outcomes_again(path, first.digest)


@pytest.mark.parametrize("routing", [None, SplitRouting({"a": 1})], ids=["none", "no split_key"])
def test_outcomes_need_a_key_to_be_found_by(routing):
    message = (
        "The outcomes in o.csv need a SplitRouting with a split_key, by which their keys are "
        "found. Set SplitRouting.split_key to the feature that holds the key."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        check_outcomes("o.csv", routing)
    check_outcomes("o.csv", SplitRouting({"a": 1}, "k"))


def test_each_model_has_the_matched_outcomes_of_its_keys():
    routing = SplitRouting({"b": 1, "a": 1, "c": 1, "d": 1e-9}, "k", kept_out=frozenset("c"))
    keys = [f"user-{i}" for i in range(60)]
    table = Outcomes(tuple(keys), tuple(map(float, range(60))))
    matched = [i for i in range(60) if i % 5 not in (0, 3)]
    values = {"b": [], "a": [], "d": []}
    for i in matched:
        values[routing.model_of(keys[i].encode())].append(float(i))
    found = outcomes_by_branch(table, sum(1 << i for i in matched), routing)
    assert list(found.items()) == [(name, outcome_of(own)) for name, own in values.items()]
    assert min(found["a"].count, found["b"].count) > 5
    assert found["d"] == Outcome(0, math.nan, math.nan, math.nan)
    nothing = {name: outcome_of([]) for name in values}
    assert outcomes_by_branch(table, 0, routing) == nothing
