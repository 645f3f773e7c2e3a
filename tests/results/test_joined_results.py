"""Two results of real runs, and of tables, side by side."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulk_inferencer import (
    Branch,
    Decision,
    FailureLimit,
    InferenceJob,
    Outputs,
    PythonModel,
    SplitRouting,
    run,
)
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results import compare_results, read, row_store
from bulk_inferencer.results.comparison import Outcome
from bulk_inferencer.results.outcomes import outcome_of
from tests.helpers import exactly, example, write_tfrecord

NOT_BLESSED = Decision("not_blessed", "It is worse than the last one.")


def table(folder, *parts, **columns):
    """Writes a table of which no summary tells, and returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = parts or [pa.table(columns)]
    for i, part in enumerate(parts):
        name = f"predictions-s-{i:05d}-of-{len(parts):05d}.parquet"
        pq.write_table(part, folder / name)
    return folder


def five(_):
    return _model(5)


def ten(_):
    return _model(10)


def _model(factor):
    def score(batch):
        x = np.asarray(batch["x"], np.float32)
        if (x == 3).any():
            raise ValueError("three")
        return {"y": factor * x, "vector": np.stack([x, factor * x], 1)}

    return score


def record(i, **more):
    return example(id=i, x=float(i), **more)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs a job, and returns the folder of its results."""

    def make(records, models=("five",), routing=None, gates=None, **outputs):
        folder = tmp_path_factory.mktemp("run")
        splits = records if isinstance(records, dict) else {"s": records}
        inputs = {s: [write_tfrecord(folder / f"in/{s}", own)] for s, own in splits.items()}
        own = [PythonModel(f"{__name__}:{name}") for name in models]
        job = {"model": own[0]}
        if len(models) > 1 or gates:
            named = zip(models, own, strict=True)
            job = {
                "branches": [
                    Branch(name, model, str(folder / name), **(gates or {}).get(name, {}))
                    for name, model in named
                ]
            }
        run(
            InferenceJob(
                splits=inputs,
                outputs=Outputs.under(folder, **outputs),
                failure_limit=FailureLimit(max_fraction=0.5),
                routing=routing,
                **job,
            )
        )
        return folder

    return make


@pytest.fixture(scope="module")
def of_five(made):
    return made([record(i) for i in range(8)], table=True)


@pytest.fixture(scope="module")
def of_ten(made):
    return made([record(i) for i in (9, 8, 6, 4, 3, 2)], ["ten"], table=True)


def found(joined):
    return joined.both, *joined.only.values(), *joined.failed.values()


def output(joined, name="y"):
    (pair,) = joined.comparison.pairs
    return pair.outputs[name]


# What is compared


@settings(max_examples=30)
@given(
    st.lists(
        st.dictionaries(st.integers(-3, 3), st.floats(-9, 9), max_size=7), min_size=2, max_size=2
    ),
    st.booleans(),
)
def test_records_of_equal_keys_are_compared_in_any_order(tmp_path_factory, values, in_parts):
    folder = tmp_path_factory.mktemp("any")
    for name, own in zip("ab", values, strict=True):
        rows = pa.table(
            {"id": pa.array(own, pa.int32()), "y": pa.array(own.values(), pa.float64())}
        )
        table(folder / name, *([rows.slice(0, 2), rows.slice(2)] if in_parts else [rows]))
    joined = compare_results(folder / "a", folder / "b", key="id")
    a, b = values
    both = a.keys() & b.keys()
    assert found(joined) == (len(both), len(a.keys() - both), len(b.keys() - both), 0, 0)
    if both:
        assert output(joined).records == len(both)
        assert output(joined).agreeing == sum(a[key] == b[key] for key in both)
        difference = sum(abs(a[key] - b[key]) for key in both)
        assert output(joined).sum_absolute_difference == pytest.approx(difference)


@pytest.mark.parametrize("has_table", [True, False], ids=["table", "logs"])
@pytest.mark.parametrize("key", ["id", None])
def test_counts_of_runs_add_up_to_the_records_that_were_read(
    of_five, of_ten, tmp_path, key, has_table
):
    folders = [of_five, of_ten]
    if not has_table:
        folders = [shutil.copytree(own, tmp_path / own.name) for own in folders]
        for own in folders:
            shutil.rmtree(own / "prediction_table")
    joined = compare_results(*folders, key=key, names=("five", "ten"))
    assert (joined.both, joined.only) == (3, {"five": 4, "ten": 2})  # records 2, 4 and 6
    assert joined.failed == {"five": 1, "ten": 1}
    for name, folder in zip(joined.names, folders, strict=True):
        read_by_run = joined.both + joined.only[name] + joined.failed[name]
        assert read_by_run == read(folder).counts.examples_read
    assert joined.joined_by == (("id",) if key else ())
    assert output(joined).max_absolute_difference == 30
    worst = output(joined).most_different[0]
    assert (worst.file, worst.record, worst.keys["id"]) == (str(folders[0]), 5, [6])
    assert worst.values == {"five": [30.0], "ten": [60.0]}
    assert output(joined, "vector").agreement == 1


def test_equal_records_go_together_one_by_one(made):
    a = made([record(1), record(2), record(1), record(1)])
    b = made([record(1), record(4), record(1)], ["ten"])
    joined = compare_results(a, b)
    assert found(joined) == (2, 2, 1, 0, 0)
    assert output(joined).sum_absolute_difference == 10


def test_without_records_the_features_that_both_have_tell_which_are_the_same(of_five, made):
    records = [record(i, more=b"only here") for i in (7, 5)]
    b = made(records, ["ten"], table=True, prediction_logs=False)
    joined = compare_results(of_five, b)
    assert joined.joined_by == ("id", "x")
    assert found(joined) == (2, 5, 0, 1, 0)
    assert output(joined).sum_absolute_difference == 60


def test_outputs_that_cannot_be_compared_say_why(tmp_path):
    ids = [1, 2, 3]
    a = table(
        tmp_path / "a",
        id=ids,
        y=[1, 2, 3],
        only=[1, 1, 1],
        v=[[1.0, 2.0], [1.0], None],
        t=["ä", None, "c"],
    )
    b = table(
        tmp_path / "b",
        id=ids,
        y=["1", "2", "3"],
        v=[[1.0, 0.0], [1.0, 2.0], [5.0]],
        t=["ä", "b", "d"],
    )
    (pair,) = compare_results(a, b, key="id").comparison.pairs
    assert pair.not_compared == {
        "y": "numbers of 'a', text of 'b'",
        "only": "only 'a' has it",
        "v": "1 values per record of 'a', 2 of 'b'",
    }
    assert (pair.outputs["v"].records, pair.outputs["v"].max_absolute_difference) == (1, 2.0)
    assert (pair.outputs["t"].records, pair.outputs["t"].agreeing) == (2, 1)


def test_matrices_numbers_of_other_widths_and_truth_values_are_compared(tmp_path):
    m = [[[1.0, 2.0], [3.0, 4.0]]]
    columns = {"m": m, "n": pa.array([5], pa.uint8()), "t": [True]}
    a = table(tmp_path / "a", id=["k"], **columns)
    columns = {"m": [[[1.0, 2.0], [3.0, 9.0]]], "n": pa.array([7], pa.int64()), "t": [True]}
    (pair,) = compare_results(
        a, table(tmp_path / "b", id=[b"k"], **columns), key="id"
    ).comparison.pairs
    largest = {name: own.max_absolute_difference for name, own in pair.outputs.items()}
    assert largest == {"m": 5.0, "n": 2.0, "t": 0.0}


# Several models, splits


def test_one_of_several_models_is_compared_by_its_plain_outputs(made, of_five):
    side_by_side = made([record(i) for i in range(5)], ["five", "ten"], table=True)
    same = compare_results(of_five, read(side_by_side, model="five"), key="id")
    assert (found(same), output(same).agreement) == ((4, 3, 0, 1, 1), 1)
    (pair,) = compare_results(of_five, side_by_side, key="id").comparison.pairs
    assert pair.not_compared["y"] == "only 'a' has it"
    assert pair.not_compared["ten/y"] == "only 'b' has it"
    both = compare_results(side_by_side, side_by_side)
    assert found(both) == (4, 0, 0, 1, 1)
    assert output(both, "ten/y").agreement == 1


def test_models_of_an_ab_test_have_outcomes_each(made, tmp_path):
    routing = SplitRouting({"five": 1, "ten": 1}, split_key="id")
    ab_test = made([record(i) for i in range(12) if i != 3], ["five", "ten"], routing, table=True)
    rows = [f"{i},{i}" for i in range(9)]
    (tmp_path / "outcomes.csv").write_text("\n".join(["key,value", *rows]))
    results = [read(ab_test, model=model) for model in ("five", "ten")]
    joined = compare_results(
        *results, key="id", outcomes=tmp_path / "outcomes.csv", names=("five", "ten")
    )
    assert joined.both == 0
    assert sum(joined.only.values()) == 11
    for name, own in zip(joined.names, results, strict=True):
        expected = outcome_of([float(row["id"]) for row in own if row["id"] < 9])
        assert joined.comparison.outcomes[name] == expected
        assert expected.count > 1


def test_splits_are_compared_together_or_one_by_one(made):
    records = {"a": [record(1), record(2)], "b": [record(4)]}
    folder = made(records)
    other = made({"b": [record(2), record(4)]})
    assert found(compare_results(folder, other, key="id")) == (2, 1, 0, 0, 0)
    assert found(compare_results(read(folder, split="b"), other, key="id")) == (1, 0, 1, 0, 0)


# Nothing to compare


def test_results_without_rows_have_nothing_in_common(tmp_path, of_five):
    empty = table(tmp_path / "empty", id=pa.array([], pa.int64()), y=pa.array([], pa.float32()))
    joined = compare_results(of_five, empty, key="id")
    assert found(joined) == (0, 7, 0, 1, 0)
    assert joined.comparison.pairs == ()


def test_model_that_did_not_run_leaves_nothing_to_compare(made, of_five):
    closed = made([record(1)], gates={"five": {"gate": NOT_BLESSED}})
    message = (
        f"There is nothing to compare: no model of 'b' ({closed}) ran. It is worse than the "
        f"last one."
    )
    with pytest.raises(InputError, match=exactly(message)):
        compare_results(of_five, closed)


def test_records_without_a_key_are_in_one_of_the_results_only(tmp_path):
    a = table(tmp_path / "a", id=[None, 1, None], y=[1, 2, 3])
    b = table(tmp_path / "b", id=[1, None], y=[2, 2])
    assert found(compare_results(a, b, key="id")) == (1, 2, 1, 0, 0)


# Keys that tell nothing


@pytest.mark.parametrize(
    ("a", "b", "key", "message"),
    [
        (
            {"id": [1, 2, 1]}, {"id": [1]}, "id",
            ("The key 'id' of 'a' ({a}) is not unique: 1 occurs more than once. Name a column that "
            "tells records apart, or read one split or model."),
        ),
        (
            {"id": [1]}, {"id": ["x", "x"]}, "id",
            ("'id' is whole numbers in 'a' ({a}) but text in 'b' ({b}), so no values are the same. "
            "Write it with the same type in the inputs of both, or join by another column with "
            "key."),
        ),
        (
            {"id": [1]}, {"ids": [1]}, "id",
            ("The key 'id' is no column of 'b' ({b}), which has ids. Did you mean 'ids'? Name one "
            "that both have. A table has the features that its run kept; of PredictionLogs, those "
            "that have a single value."),
        ),
        (
            {"id": [[1]]}, {"id": [1]}, "id",
            ("The key 'id' of 'a' ({a}) holds lists. Name a column with one value per "
            "record."),
        ),
        (
            {"id": [1]}, {"id": [1]}, None,
            ("Nothing tells which columns of 'a' ({a}) are features: it is a table without the "
            "summary of its run. Set key to a column that tells records apart."),
        ),
    ],
    ids=["twice", "types", "no column", "lists", "no key"],
)  # fmt: skip
def test_key_that_tells_no_records_apart_is_an_error(tmp_path, a, b, key, message):
    folders = {name: table(tmp_path / name, **own) for name, own in (("a", a), ("b", b))}
    with pytest.raises(InputError, match=exactly(message.format(**folders))):
        compare_results(*folders.values(), key=key)


def test_results_without_common_features_need_a_key(made):
    bare = made([record(1)], records_in_logs=False)
    message = (
        f"Nothing tells which records of 'a' ({bare}) and 'b' ({bare}) are the same: they hold no "
        f"records, and have no feature in common. Keep a column that tells records apart, in both "
        f"runs, and set key to it."
    )
    with pytest.raises(InputError, match=exactly(message)):
        compare_results(bare, bare)


def test_settings_that_make_no_sense_are_refused(of_five):
    for wrong, message in (
        ({"names": ("a", "a")}, "names must be two different names, not ('a', 'a')."),
        (
            {"outcomes": "o.csv"},
            "The outcomes in o.csv are found by a key. Set key to the column that holds it.",
        ),
    ):
        with pytest.raises(SettingsError, match=exactly(message)):
            compare_results(of_five, of_five, **wrong)


# Outcomes


@pytest.mark.parametrize(
    "ids",
    [["u1", "u2"], [b"u1", b"u2"], [1, 2], [0.5, 2.0]],
    ids=["text", "bytes", "whole", "floats"],
)
def test_outcomes_are_found_by_keys_of_any_type(tmp_path, ids, caplog):
    texts = [own.decode() if isinstance(own, bytes) else str(own) for own in ids]
    (tmp_path / "o.csv").write_text(f"key,value\n{texts[0]},1\n{texts[1]},3\nother,9\n")
    a = table(tmp_path / "a", id=ids, y=[1, 2])
    b = table(tmp_path / "b", id=ids[:1], y=[1])
    joined = compare_results(a, b, key="id", outcomes=str(tmp_path / "o.csv"))
    assert joined.comparison.outcomes == {"a": outcome_of([1.0, 3.0]), "b": outcome_of([1.0])}
    (tmp_path / "o.csv").write_text("key,value\nother,9\n")
    joined = compare_results(a, b, key="id", outcomes=tmp_path / "o.csv")
    nothing = Outcome(0, math.nan, math.nan, math.nan)
    assert joined.comparison.outcomes == {"a": nothing, "b": nothing}
    assert caplog.messages == [
        (
            f"No key in {tmp_path}/o.csv is a value of id in the results, so there are no outcomes "
            f"to report."
        )
    ]


# Amounts


def test_rows_that_do_not_fit_into_memory_go_through_files(tmp_path, monkeypatch):
    ids = np.random.default_rng(0).permutation(20_000)
    a = table(tmp_path / "a", id=ids, y=ids * 1.0, v=[[float(i)] * (i % 3) for i in ids])
    b = table(tmp_path / "b", id=np.arange(10_000, 30_000), y=np.arange(20_000) * 1.0)
    expected = compare_results(a, b, key="id")
    assert found(expected) == (10_000, 10_000, 10_000, 0, 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "files"))
    monkeypatch.setattr(row_store, "_MOST_BYTES", 1 << 17)
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "files").mkdir()
    assert compare_results(a, b, key="id") == expected
    assert list((tmp_path / "files").iterdir()) == []
    table(tmp_path / "a", id=[*ids, 7], y=np.zeros(20_001))
    with pytest.raises(InputError, match=r"is not unique: 7 occurs more than once"):
        compare_results(a, b, key="id")
