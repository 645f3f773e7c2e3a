from __future__ import annotations

from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._units.manifest import Account, BranchAccount, Manifest, Shard
from bulk_inferencer._work import Work


def test_manifest_is_one_line_of_json_and_back():
    account = BranchAccount(3, 2, 1, Work(batches=3), ("7", "8"), {"small": 3, "full": 1})
    notes = [{"reason": "two\nlines\u2028of text", "record": 7}, None]
    sinks = {"logs/five": Account((Shard("/out/1", 2, 40, 1 << 31),)), "list": Account((), notes)}
    files = (InputFile("/in/1", 5, 1.5), InputFile("/in/2", 6))
    original = Manifest("ä b", 4, files, 4, 1, {"five": account}, sinks, 0.25, key="0f")
    line = original.to_json()
    assert len(line.splitlines()) == 1
    assert Manifest.from_json(line) == original
    assert original.examples_failed == 2
    assert original.shards == sinks["logs/five"].shards


def test_accounts_of_units_are_merged_into_one():
    total = BranchAccount(stages={"small": 0, "full": 0})
    total.merge(BranchAccount(3, 2, 1, Work(batches=1), ("2",), {"small": 2, "full": 1}))
    total.merge(BranchAccount(4, 4, 0, Work(batches=2), ("1", "2"), {"small": 4}))
    assert total == BranchAccount(7, 6, 1, Work(batches=3), ("1", "2"), {"small": 6, "full": 1})
