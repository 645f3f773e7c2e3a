"""Whether a run adds up, and that its shards become results together or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.scorer import Scorer
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._units.commit import (
    Books,
    add_up,
    check_shards,
    close_books,
    final_names,
    placed,
    take_back,
)
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.manifest import Account, BranchAccount, Manifest, Shard
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.run import Scoring, UnitTask, run_unit
from bulk_inferencer._units.sinks.prediction_logs import PredictionLogs, name_of
from bulk_inferencer.errors import FailureLimitError, ReconciliationError
from bulk_inferencer.results.summary import Counts
from tests.helpers import Lengths, exactly, tree, write_tfrecord
from tests.units.helpers import input_file, sinks_in

# Counts


def account(read, predicted, failed):
    return BranchAccount(read, predicted, failed)


def manifest(split, index, *, read, unrouted=0, size=7, written=None, **branches):
    """Returns the manifest of a unit with a shard of `size` bytes for each of the branches."""
    sinks = {}
    for name, own in branches.items():
        records = own.predictions_made if written is None else written
        sinks[name_of(name)] = Account((Shard(name, records, size, 0),))
    return Manifest(split, index, (), read, unrouted, branches, sinks, 1.5)


def sinks_of(names):
    return [PredictionLogs(name, "results") for name in names]


ONE = {"one": ""}
SEVERAL = {"m": "Model 'm'", "n": "Model 'n'"}
UNITS = [Unit("a", 0, 2, ()), Unit("a", 1, 2, ()), Unit("b", 0, 1, ())]
B0 = manifest("b", 0, read=3, size=9, one=account(3, 2, 1))
A0 = manifest("a", 0, read=3, one=account(3, 2, 1))
A1 = manifest("a", 1, read=5, one=account(5, 5, 0))


def test_books_of_each_model_and_split_are_the_sums_of_its_units():
    worked = dataclasses.replace(A1.branches["one"], model_versions=("7",), stages={"small": 5})
    a1 = dataclasses.replace(A1, branches={"one": worked})
    assert add_up(UNITS, [B0, a1, A0], ONE, sinks_of(ONE)) == Books(
        counts={"one": {"a": Counts(8, 7, 1, 2, 14), "b": Counts(3, 2, 1, 1, 9)}},
        accounts={"one": BranchAccount(11, 9, 2, model_versions=("7",), stages={"small": 5})},
        unrouted={"a": 0, "b": 0},
    )
    both = manifest("b", 0, read=5, m=account(5, 5, 0), n=account(5, 1, 4))
    assert add_up(UNITS[2:], [both], SEVERAL, sinks_of(SEVERAL)).counts == {
        "m": {"b": Counts(5, 5, 0, 1, 7)},
        "n": {"b": Counts(5, 1, 4, 1, 7)},
    }
    assert (both.predictions_made, both.examples_failed) == (6, 4)
    split = manifest("b", 0, read=9, unrouted=2, m=account(3, 2, 1), n=account(4, 4, 0))
    books = add_up(UNITS[2:], [split], SEVERAL, sinks_of(SEVERAL), is_split=True)
    assert books.counts == {
        "m": {"b": Counts(3, 2, 1, 1, 7)},
        "n": {"b": Counts(4, 4, 0, 1, 7)},
    }
    assert (books.unrouted, split.examples_failed) == ({"b": 2}, 3)


@pytest.mark.parametrize(
    ("manifests", "count", "missing", "surplus"),
    [
        ([A1, A0], 2, "('b', 0)", "none"),
        ([B0, A1, A0, A1], 4, "none", "('a', 1)"),
        ([A1, A0, dataclasses.replace(A0, split="c", index=7)], 3, "('b', 0)", "('c', 7)"),
        ([], 0, "('a', 0), ('a', 1), ('b', 0)", "none"),
    ],
    ids=["missing", "doubled", "unplanned", "none"],
)
def test_units_without_exactly_one_manifest_are_named(manifests, count, missing, surplus):
    message = (
        f"3 units were planned, but {count} reported back. Missing: {missing}. Not planned, or "
        f"reported twice: {surplus}. Nothing was committed. Run again."
    )
    with pytest.raises(ReconciliationError, match=exactly(message)):
        add_up(UNITS, manifests, ONE, sinks_of(ONE))


@pytest.mark.parametrize(
    ("made", "is_split", "label", "text"),
    [
        (manifest("b", 0, read=10, m=account(10, 10, 0), n=account(10, 7, 2)), False,
         "Model 'n': ", "10 records were read, but 7 were predicted and 2 failed"),
        (manifest("b", 0, read=4, m=account(3, 1, 1), n=account(1, 1, 0)), True,
         "Model 'm': ", "3 records were read, but 1 were predicted and 1 failed"),
        (manifest("b", 0, read=9, unrouted=1, m=account(3, 3, 0), n=account(4, 4, 0)), True,
         "", "9 records were read, but 7 went to a model and 1 to none"),
        (manifest("b", 0, read=3, m=account(3, 3, 0), n=account(2, 2, 0)), False,
         "Model 'n': ", "3 records were read, but 2 went to the model"),
        (manifest("b", 0, read=3, written=2, m=account(3, 3, 0), n=account(3, 3, 0)), False,
         "Model 'm': ", "3 predictions were made, but 2 were written to results"),
    ],
    ids=["predictions", "predictions of a split", "routed", "not to every model", "written"],
)  # fmt: skip
def test_unit_whose_counts_do_not_add_up_is_named(made, is_split, label, text):
    message = (
        f"{label}The counts of unit 0 of split 'b' do not add up: {text}. Nothing was committed. "
        f"Run again."
    )
    with pytest.raises(ReconciliationError, match=exactly(message)):
        add_up(UNITS[2:], [made], SEVERAL, sinks_of(SEVERAL), is_split)


# Shards


@pytest.fixture
def made(tmp_path):
    """Two units of three records each, one of them bad, whose shards wait in `.work`."""
    predictor = Lengths()
    sinks = sinks_in(f"{tmp_path}/out", ["inference_result"])
    records = [b"good", b"bad", b"good"]
    paths = [write_tfrecord(tmp_path / f"in/{i}.gz", records) for i in range(2)]
    units = [Unit("s", i, 2, (input_file(path),)) for i, path in enumerate(paths)]
    scoring = Scoring({"inference_result": LogScorer(Scorer(predictor))}, BatchBounds())
    return sinks, units, [run_unit(unit, scoring, sinks) for unit in units]


SHARDS = [
    *(f"failed_examples/Split-s/failed_examples-0000{i}-of-00002.gz" for i in range(2)),
    *(f"inference_result/prediction_logs-s-0000{i}-of-00002.gz" for i in range(2)),
]


def visible(folder):
    return [path for path in tree(folder) if ".work" not in path]


def hidden(folder):
    return [path for path in tree(folder) if ".work" in path]


@pytest.mark.parametrize("keeps_shards", [False, True])
def test_shards_get_their_final_names_together_or_not_at_all(tmp_path, made, keeps_shards):
    out = tmp_path / "out"
    finals = final_names(*made)
    assert sorted(finals) == [f"{out}/{name}" for name in SHARDS]
    assert visible(out) == []
    waiting = hidden(out)

    def fail():
        with placed(finals, keeps_shards):
            assert visible(out) == SHARDS
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert hidden(out) == waiting
    assert visible(out) == (SHARDS if keeps_shards else [])  # its workspace deletes copies
    with placed(finals, keeps_shards):
        check_shards(finals, [sink.folder for sink in made[0]])
    assert visible(out) == SHARDS
    # Two lists of failures have no final name.
    assert len(hidden(out)) == (len(waiting) if keeps_shards else 2)


def test_commit_that_was_killed_is_taken_back(tmp_path, made):
    out = tmp_path / "out"
    finals, waiting = final_names(*made), hidden(out)
    path, shard = next(iter(finals.items()))
    Path(path).parent.mkdir(exist_ok=True)
    Path(shard.path).rename(path)
    take_back(finals)
    assert (visible(out), hidden(out)) == ([], waiting)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        (SHARDS[0], None, "a file of {size} bytes at {path}, but there is no file"),
        (SHARDS[3], "12", "a file of {size} bytes at {path}, but there is a file of 2 bytes"),
        (
            SHARDS[3].replace("-s-", "-t-"),
            "12",
            "no file at {path}, but there is a file of 2 bytes",
        ),
    ],
    ids=["missing", "another size", "of no unit"],
)
def test_shard_that_is_not_as_its_manifest_says_is_named(tmp_path, made, name, content, what):
    finals = final_names(*made)
    path = tmp_path / "out" / name
    size = finals[str(path)].bytes if str(path) in finals else 0
    with placed(finals, keeps_shards=False):
        path.write_text(content) if content else path.unlink()
        what = what.format(size=size, path=path)
        message = f"There should be {what}. Nothing was committed. Run again."
        with pytest.raises(ReconciliationError, match=exactly(message)):
            check_shards(finals, [sink.folder for sink in made[0]])


def test_books_stay_open_where_too_many_records_failed(made):
    sinks, units, manifests = made
    labels = {"inference_result": ""}
    task = UnitTask({}, labels, FORMAT_TF_EXAMPLE, BatchBounds(), None, tuple(sinks))
    counts = close_books(
        task, units, manifests, FailureLimit(max_count=2, max_fraction=1), {}
    ).counts
    found = counts["inference_result"]["s"]
    assert found == Counts(6, 4, 2, 2, found.bytes_written)
    with pytest.raises(FailureLimitError):
        close_books(task, units, manifests, FailureLimit(), {})
