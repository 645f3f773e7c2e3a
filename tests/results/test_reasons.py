from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer.results.reasons import (
    OTHER_REASONS,
    general_form,
    merged_reasons,
    most_frequent,
)


@pytest.mark.parametrize(
    ("reason", "general"),
    [
        ("ValueError: could not convert string to float: 'ab'", "'…'"),
        ("ValueError: input 'x' takes 3 values, got 5", "input '…' takes … values, got …"),
        (
            "OSError: it isn't there, at 0x7f3a or -1.5e+10 or 1,024",
            "it isn't there, at … or … or …",
        ),
        ("InvalidArgumentError: Could not parse example input, value: 'it's'", "value: '…'"),
        ("KeyError: b'x1' and \"y\" of model2 in float32", "'…' and '…' of model2 in float32"),
        ("ValueError: 9'9 '", "ValueError: …'…'"),
    ],
)
def test_numbers_and_quoted_texts_are_details(reason, general):
    assert general_form(reason).endswith(general)
    assert general_form(general_form(reason)) == general_form(reason)


def test_reasons_that_differ_in_details_become_one_if_there_are_many():
    few = {f"E: input 'x{i}' is gone": 1 for i in range(5)}
    assert merged_reasons(few) == few
    many = {f"E: record {i} of '{i}.gz' is bad": 2 for i in range(900)}
    assert merged_reasons(few, many) == {"E: record … of '…' is bad": 1800, **few}


PARTS = st.lists(
    st.dictionaries(
        st.sampled_from([*(f"E: {i}" for i in range(9)), "E: 'a'", "F", "F: '…'"]),
        st.integers(1, 3),
    ),
    max_size=4,
)


@settings(max_examples=50)
@given(PARTS)
def test_reasons_are_the_same_however_they_are_grouped(parts):
    one_by_one = functools.reduce(merged_reasons, parts, {})
    assert merged_reasons(*parts) == merged_reasons(*map(merged_reasons, parts)) == one_by_one
    assert list(one_by_one.values()) == sorted(one_by_one.values(), reverse=True)


def test_most_frequent_reasons_are_kept_and_the_others_still_count():
    names = [f"{a}{b}{c}" for a in "abcdefghijk" for b in "abcdefghijk" for c in "abcdefghijk"]
    many = merged_reasons({name: i + 1 for i, name in enumerate(names)})
    assert len(many) == 1000
    assert sum(many.values()) == sum(range(len(names) + 1))
    assert next(iter(many.items())) == ("kkk", 1331)
    assert list(many)[-1] == OTHER_REASONS
    again = merged_reasons(many, {"kkk": 1, OTHER_REASONS: 5})
    assert sum(again.values()) == sum(many.values()) + 6
    assert most_frequent(again, 1) == {"kkk": 1332, OTHER_REASONS: sum(again.values()) - 1332}
    assert most_frequent({"a": 1, "b": 2}) == {"b": 2, "a": 1}
