from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer._units.manifest import Failure, Manifest, Scores, Shard, add_up, check_shards
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._work import Work
from bulk_inferencer.errors import ReconciliationError
from bulk_inferencer.results.compare import Comparison, PairComparison
from bulk_inferencer.results.summary import Counts

UNITS = [Unit("a", 0, 2, ()), Unit("a", 1, 2, ()), Unit("b", 0, 1, ())]


def manifest(split, index, read=3, predicted=2, failed=1, sizes=(10, 20)):
    return Manifest(
        split=split,
        index=index,
        of=2,
        files=("file",),
        examples_read=read,
        scores=(Scores("", read, predicted, failed, Shard(f"{split}-{index}-0", sizes[0], 0)),),
        other_shards=(Shard(f"{split}-{index}-1", sizes[1], 0),),
        failures="failures",
        first_failures=(),
        seconds=1.5,
    )


MANIFESTS = [manifest("b", 0), manifest("a", 1, 5, 5, 0), manifest("a", 0)]


SCORES = st.builds(
    Scores,
    shard=st.builds(Shard),
    work=st.builds(Work),
    model_versions=st.lists(st.text()).map(tuple),
    stages=st.dictionaries(st.text(), st.integers(0)),
)


@given(
    st.builds(
        Manifest,
        files=st.lists(st.text()).map(tuple),
        scores=st.lists(SCORES).map(tuple),
        other_shards=st.lists(st.builds(Shard)).map(tuple),
        first_failures=st.lists(st.builds(Failure)).map(tuple),
        seconds=st.floats(0, 1e9),
        comparison=st.just(Comparison()),
        matched_outcomes=st.integers(0, 1 << 70),
    )
)
def test_manifest_is_one_line_of_json_and_back(original):
    line = original.to_json()
    assert len(line.splitlines()) == 1
    assert Manifest.from_json(line) == original


# Counts


def test_counts_add_up_per_split():
    assert add_up(UNITS, MANIFESTS) == {
        "": {
            "a": Counts(8, 7, 1, shards=2, bytes_written=20),
            "b": Counts(3, 2, 1, shards=1, bytes_written=10),
        }
    }


@pytest.mark.parametrize(
    ("manifests", "text"),
    [
        (
            MANIFESTS[1:],
            "got 2; missing: ('b', 0); not planned or doubled: none",
        ),
        (
            [*MANIFESTS, manifest("a", 1)],
            "got 4; missing: none; not planned or doubled: ('a', 1)",
        ),
        (
            [*MANIFESTS[1:], manifest("c", 7)],
            "got 3; missing: ('b', 0); not planned or doubled: ('c', 7)",
        ),
        (
            [],
            "got 0; missing: ('a', 0), ('a', 1), ('b', 0); not planned or doubled: none",
        ),
    ],
    ids=["missing", "doubled", "unplanned", "none"],
)
def test_units_without_exactly_one_manifest_are_named(manifests, text):
    message = (
        f"Expected one manifest for each of 3 units, {text}. Nothing was committed; run again."
    )
    with pytest.raises(ReconciliationError, match=f"^{re.escape(message)}$"):
        add_up(UNITS, manifests)


def test_unit_whose_counts_do_not_add_up_is_named():
    manifests = [*MANIFESTS[1:], manifest("b", 0, 10, 7, 2)]
    message = (
        "Expected records read = predicted + failed in unit 0 of split 'b', got 10 = 7 + 2. "
        "Nothing was committed; run again."
    )
    with pytest.raises(ReconciliationError, match=f"^{re.escape(message)}$"):
        add_up(UNITS, manifests)


def scores(model, read, predicted, failed, size=7):
    return Scores(model, read, predicted, failed, Shard(f"{model}-shard", size, 0))


def several(*of_models, read, unrouted=0, split="b"):
    """Returns the manifest of the one unit of `split` with several models."""
    return dataclasses.replace(
        manifest(split, 0, read=read), scores=tuple(of_models), unrouted=unrouted
    )


def test_counts_add_up_per_model_and_split():
    units = [Unit("a", 0, 1, ()), Unit("b", 0, 1, ())]
    manifests = [
        several(scores("m", 3, 2, 1), scores("n", 3, 3, 0), read=3, split="a"),
        several(scores("m", 5, 5, 0, 9), scores("n", 5, 1, 4, 8), read=5),
    ]
    assert add_up(units, manifests) == {
        "m": {"a": Counts(3, 2, 1, 1, 7), "b": Counts(5, 5, 0, 1, 9)},
        "n": {"a": Counts(3, 3, 0, 1, 7), "b": Counts(5, 1, 4, 1, 8)},
    }
    assert (manifests[1].predictions_written, manifests[1].examples_failed) == (6, 4)


def test_counts_of_a_split_are_those_of_the_records_that_went_to_the_model():
    made = several(scores("m", 3, 2, 1), scores("n", 4, 4, 0), read=9, unrouted=2)
    assert add_up([Unit("b", 0, 1, ())], [made], is_split=True) == {
        "m": {"b": Counts(3, 2, 1, 1, 7)},
        "n": {"b": Counts(4, 4, 0, 1, 7)},
    }
    assert made.examples_failed == 3


@pytest.mark.parametrize(
    ("made", "is_split", "text"),
    [
        (
            several(scores("m", 3, 3, 0), scores("n", 3, 1, 1), read=3),
            False,
            "predicted + failed in unit 0 of split 'b' for model 'n', got 3 = 1 + 1",
        ),
        (
            several(scores("m", 3, 1, 1), read=3),
            True,
            "predicted + failed in unit 0 of split 'b' for model 'm', got 3 = 1 + 1",
        ),
        (
            several(scores("m", 3, 3, 0), scores("n", 4, 4, 0), read=9, unrouted=1),
            True,
            "routed + unrouted in unit 0 of split 'b', got 9 = 7 + 1",
        ),
    ],
    ids=["all", "split", "unrouted"],
)
def test_model_or_routing_whose_counts_do_not_add_up_is_named(made, is_split, text):
    message = f"Expected records read = {text}. Nothing was committed; run again."
    with pytest.raises(ReconciliationError, match=f"^{re.escape(message)}$"):
        add_up([Unit("b", 0, 1, ())], [made], is_split)


@pytest.mark.parametrize(
    ("model", "of_model"), [("n", " for model 'n'"), ("", "")], ids=["several", "one"]
)
def test_model_that_did_not_get_every_record_is_named(model, of_model):
    message = (
        f"Expected all 3 records read in unit 0 of split 'b'{of_model}, got 2. Nothing was "
        f"committed; run again."
    )
    made = several(scores("m", 3, 3, 0), scores(model, 2, 2, 0), read=3)
    with pytest.raises(ReconciliationError, match=f"^{re.escape(message)}$"):
        add_up([Unit("b", 0, 1, ())], [made])
    assert add_up([Unit("b", 0, 1, ())], [dataclasses.replace(made, examples_read=5)], True)


def test_comparison_is_part_of_the_line_of_json():
    comparison = Comparison((PairComparison(("m", "n"), {}, {"y": "only 'm' has it"}),))
    original = dataclasses.replace(manifest("a", 0), comparison=comparison)
    line = original.to_json()
    assert len(line.splitlines()) == 1
    assert Manifest.from_json(line) == original


# Shards

SIZES = {shard.path: shard.bytes for m in MANIFESTS for shard in m.shards}


def test_shards_of_the_right_sizes_are_accepted():
    assert len(SIZES) == 6
    check_shards(MANIFESTS, SIZES)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"a-0-1": None}, "a file of 20 bytes, got no file at a-0-1"),
        ({"a-0-1": 19}, "a file of 20 bytes, got a file of 19 bytes at a-0-1"),
        ({"a-0-9": 5}, "no file, got a file of 5 bytes at a-0-9"),
    ],
    ids=["missing", "another size", "surplus"],
)
def test_shard_that_is_not_as_its_manifest_says_is_named(change, text):
    sizes = {path: size for path, size in {**SIZES, **change}.items() if size is not None}
    message = f"Expected {text}. Nothing was committed; run again."
    with pytest.raises(ReconciliationError, match=f"^{re.escape(message)}$"):
        check_shards(MANIFESTS, sizes)
