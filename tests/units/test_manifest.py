from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer._units.manifest import Account, BranchAccount, Manifest, Shard
from bulk_inferencer._work import Work

TEXTS = st.lists(st.text()).map(tuple)
BRANCHES = st.builds(
    BranchAccount,
    work=st.just(Work(batches=3)),
    model_versions=TEXTS,
    stages=st.dictionaries(st.text(), st.integers(0)),
)
NOTES = st.recursive(st.none() | st.text(), lambda notes: st.lists(notes))
SINKS = st.builds(Account, st.lists(st.builds(Shard)).map(tuple), NOTES)
MANIFESTS = st.builds(
    Manifest,
    files=TEXTS,
    branches=st.dictionaries(st.text(), BRANCHES),
    sinks=st.dictionaries(st.text(), SINKS),
    seconds=st.floats(0, 1e9),
)


@settings(max_examples=20)
@given(MANIFESTS)
def test_manifest_is_one_line_of_json_and_back(original):
    line = original.to_json()
    assert len(line.splitlines()) == 1
    assert Manifest.from_json(line) == original


def test_accounts_of_units_are_merged_into_one():
    total = BranchAccount(stages={"small": 0, "full": 0})
    total.merge(BranchAccount(3, 2, 1, Work(batches=1), ("2",), {"small": 2, "full": 1}))
    total.merge(BranchAccount(4, 4, 0, Work(batches=2), ("1", "2"), {"small": 4}))
    assert total == BranchAccount(7, 6, 1, Work(batches=3), ("1", "2"), {"small": 6, "full": 1})
