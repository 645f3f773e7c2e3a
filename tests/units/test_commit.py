"""Whether a run adds up, and that its folders hold all of its results or nothing."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import logging

import pytest

from bulk_inferencer import _files
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._units.commit import (
    Books,
    add_up,
    all_or_nothing,
    check_shards,
    close_books,
)
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.manifest import Account, BranchAccount, Manifest, Shard
from bulk_inferencer._units.plan import InputFile, Unit
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.sinks.prediction_logs import name_of
from bulk_inferencer.errors import FailureLimitError, ReconciliationError, SettingsError
from bulk_inferencer.results.summary import Counts
from tests.helpers import Lengths, exactly, in_bucket, tree, write_tfrecord
from tests.units.helpers import score, sinks_in

# Folders

ALL = ["a", "b", "failed_examples", "summary"]


@pytest.fixture
def root(tmp_path):
    """A folder whose name is a pattern elsewhere."""
    return tmp_path / "run[1]*"


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def write_and_raise(error, root, place=str):
    with all_or_nothing([place(f"{root}/{name}") for name in ALL]):
        write(root, *[f"{name}/deep/file" for name in ALL])
        raise error


def test_folder_that_is_not_empty_is_refused_and_left_as_it_is(root):
    write(root, "summary/b", "summary/a/1")
    message = (
        f"The folder {root}/summary is not empty: it holds 2 files, such as {root}/summary/a/1. "
        f"Choose another folder: results are never overwritten. If there is no summary.json, they "
        f"are from a run that is still going on or was killed. When no run is going on, you can "
        f"empty the folder."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        write_and_raise(ValueError("It went on."), root)
    assert tree(root) == ["summary/a/1", "summary/b"]


@pytest.mark.parametrize(("place", "left"), [(str, ALL), (in_bucket, [])], ids=["disk", "bucket"])
def test_folders_are_left_empty_after_an_error(root, place, left):
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(KeyboardInterrupt(), root, place)
    assert tree(root) == []
    assert not left or sorted(path.name for path in root.rglob("*")) == left


def test_folder_that_cannot_be_emptied_is_logged_and_the_others_are(root, monkeypatch, caplog):
    delete_folder = _files.delete_folder

    def delete(folder):
        if folder.endswith("/a"):
            raise OSError("read-only")
        delete_folder(folder)

    monkeypatch.setattr(_files, "delete_folder", delete)
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match=r"^the first error$"):
        write_and_raise(ValueError("the first error"), root)
    assert tree(root) == ["a/deep/file"]
    assert caplog.messages == [f"Could not empty {root}/a. Delete its content."]


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


ONE = {"one": ""}
SEVERAL = {"m": "Model 'm'", "n": "Model 'n'"}
UNITS = [Unit("a", 0, 2, ()), Unit("a", 1, 2, ()), Unit("b", 0, 1, ())]
B0 = manifest("b", 0, read=3, size=9, one=account(3, 2, 1))
A0 = manifest("a", 0, read=3, one=account(3, 2, 1))
A1 = manifest("a", 1, read=5, one=account(5, 5, 0))


def test_books_of_each_model_and_split_are_the_sums_of_its_units():
    worked = dataclasses.replace(A1.branches["one"], model_versions=("7",), stages={"small": 5})
    a1 = dataclasses.replace(A1, branches={"one": worked})
    assert add_up(UNITS, [B0, a1, A0], ONE) == Books(
        counts={"one": {"a": Counts(8, 7, 1, 2, 14), "b": Counts(3, 2, 1, 1, 9)}},
        accounts={"one": BranchAccount(11, 9, 2, model_versions=("7",), stages={"small": 5})},
        unrouted={"a": 0, "b": 0},
    )
    both = manifest("b", 0, read=5, m=account(5, 5, 0), n=account(5, 1, 4))
    assert add_up(UNITS[2:], [both], SEVERAL).counts == {
        "m": {"b": Counts(5, 5, 0, 1, 7)},
        "n": {"b": Counts(5, 1, 4, 1, 7)},
    }
    assert (both.predictions_made, both.examples_failed) == (6, 4)
    split = manifest("b", 0, read=9, unrouted=2, m=account(3, 2, 1), n=account(4, 4, 0))
    books = add_up(UNITS[2:], [split], SEVERAL, is_split=True)
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
        add_up(UNITS, manifests, ONE)


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
         "Model 'm': ", "3 predictions were made, but 2 were written"),
    ],
    ids=["predictions", "predictions of a split", "routed", "not to every model", "written"],
)  # fmt: skip
def test_unit_whose_counts_do_not_add_up_is_named(made, is_split, label, text):
    message = (
        f"{label}The counts of unit 0 of split 'b' do not add up: {text}. Nothing was committed. "
        f"Run again."
    )
    with pytest.raises(ReconciliationError, match=exactly(message)):
        add_up(UNITS[2:], [made], SEVERAL, is_split)


# Shards


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a/1", None, "a file of 3 bytes at {}, but there is no file"),
        ("a/1", "12", "a file of 3 bytes at {}, but there is a file of 2 bytes"),
        ("b/2", "12345", "no file at {}, but there is a file of 5 bytes"),
        ("summary/.work/f", None, "a file of 15 bytes at {}, but there is no file"),
    ],
    ids=["missing", "another size", "surplus", "missing in .work"],
)
def test_shard_that_is_not_as_its_manifest_says_is_named(root, name, content, what):
    names = ["a/1", "summary/.work/f", "failed_examples/Split-s/1"]
    write(root, *names, "b/.work/attempt")  # which was given up
    shards = tuple(Shard(f"{root}/{name}", 1, len(name), 0) for name in names)
    manifests = [dataclasses.replace(A0, sinks={"x": Account(shards)})]
    folders = [f"{root}/{name}" for name in ALL]
    check_shards(manifests, folders)
    path = root / name
    path.write_text(content) if content else path.unlink()
    message = f"There should be {what.format(path)}. Nothing was committed. Run again."
    with pytest.raises(ReconciliationError, match=exactly(message)):
        check_shards(manifests, folders)


# The end of a run


@pytest.fixture
def close(tmp_path):
    """Runs two units of three records each, one of them bad, and closes the books under a limit."""
    models = {"inference_result": Lengths()}
    sinks = sinks_in(f"{tmp_path}/out", models)
    records = [b"good", b"bad", b"good"]
    paths = [write_tfrecord(tmp_path / f"in/{i}.gz", records) for i in range(2)]
    units = [Unit("s", i, 2, (InputFile(path, 1),)) for i, path in enumerate(paths)]
    made = [score(unit, models, sinks) for unit in units[::-1]]
    labels = {"inference_result": ""}
    task = UnitTask({}, labels, FORMAT_TF_EXAMPLE, BatchBounds(), None, tuple(sinks))
    return functools.partial(close_books, task, units, made, [sink.folder for sink in sinks])


def test_closed_books_leave_results_and_nothing_of_the_work(tmp_path, close):
    counts = close(FailureLimit(max_count=2, max_fraction=1)).counts["inference_result"]["s"]
    assert counts == Counts(6, 4, 2, 2, counts.bytes_written)
    assert tree(tmp_path / "out") == [
        *(f"failed_examples/Split-s/failed_examples-0000{i}-of-00002.gz" for i in range(2)),
        *(f"inference_result/prediction_logs-s-0000{i}-of-00002.gz" for i in range(2)),
        "summary/failures-s.jsonl.gz",
    ]
    assert list((tmp_path / "out").rglob(".work")) == []
    with gzip.open(tmp_path / "out/summary/failures-s.jsonl.gz") as lines:
        found = [json.loads(line)["file"] for line in lines]
    assert found == [f"{tmp_path}/in/{i}.gz" for i in range(2)]


def test_books_stay_open_where_too_many_records_failed_or_a_file_is_gone(tmp_path, close):
    with pytest.raises(FailureLimitError):
        close(FailureLimit())
    (tmp_path / "out/inference_result/prediction_logs-s-00000-of-00002.gz").unlink()
    with pytest.raises(ReconciliationError):
        close(FailureLimit(max_fraction=1))
    assert "summary/failures-s.jsonl.gz" not in tree(tmp_path / "out")
