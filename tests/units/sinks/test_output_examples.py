from __future__ import annotations

import numpy as np
import pytest

from bulk_inferencer._formats.example import Column
from bulk_inferencer._models.predictor import Prediction
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.sinks.output_examples import check_no_variant
from bulk_inferencer.errors import SettingsError
from tests.helpers import Lengths, exactly, example, write_tfrecord
from tests.units.helpers import (
    Function,
    examples_of,
    records_of,
    score,
    score_records,
    sinks_in,
    unit_of,
    x_of,
)  # fmt: skip

ONE = {"inference_result": Lengths()}
LENGTH = [Column("length", "n")]


def examples(*values):
    return [example(x=float(x)) for x in values]


def test_scored_records_get_columns(tmp_path):
    records = [example(x=1.0), b"bad", example(x=2.0, z="text")]
    assert examples_of(score_records(tmp_path, ONE, records, LENGTH)) == [
        {"x": [1.0], "n": [len(records[0])]},
        {"x": [2.0], "z": [b"text"], "n": [len(records[2])]},
    ]


def test_feature_is_replaced_on_request(tmp_path):
    path = write_tfrecord(tmp_path / "in/1.gz", [example(n=1)])
    sinks = sinks_in(f"{tmp_path}/out", ONE, LENGTH, replace_features=True)
    assert examples_of(score(unit_of(path), ONE, sinks)) == [{"n": [len(example(n=1))]}]


def test_columns_of_all_models_are_side_by_side_under_their_names(tmp_path):
    models = {
        "a": Function(lambda batch: {"n": np.arange(len(batch))}),
        "b": Function(lambda batch: {"n": np.array([b"text"] * len(batch), object)}),
    }
    records, columns = examples(0, 1, 2), [Column("n", "m")]
    assert examples_of(score_records(tmp_path, models, records, columns)) == [
        {"x": [float(x)], "a/m": [x], "b/m": [b"text"]} for x in range(3)
    ]


def refusing(*refused):
    def x(batch):
        if any(x_of(record) in refused for record in batch):
            raise ValueError("refused")
        return {"x": np.array([x_of(record) for record in batch])}

    return Function(x)


@pytest.mark.parametrize(("refused_by_b", "kept"), [((3, 4), (1, 2, 5)), (range(6), ())])
def test_only_records_that_every_model_scored_are_written(tmp_path, refused_by_b, kept):
    models = {"a": refusing(0, 3), "b": refusing(*refused_by_b), "c": refusing()}
    manifest = score_records(tmp_path, models, examples(*range(6)), [Column("x", "x")])
    expected = [{"x": [x], "a/x": [x], "b/x": [x], "c/x": [x]} for x in kept]
    assert examples_of(manifest) == expected
    failed = [x_of(record) for record in records_of(manifest, "failed_examples")]
    assert sorted([*failed, *kept]) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def codes(batch):
    """Returns an output whose shape depends on the longest record of the batch."""
    width = max(map(len, batch))
    return {"y": np.array([list(r.ljust(width, b"\0")) for r in batch], np.int32)}


def whole_or_half(batch):
    """Returns an output whose dtype depends on the records of the batch."""
    values = [x_of(record) for record in batch]
    return {"y": np.array([int(x) if x.is_integer() else x for x in values])}


def test_columns_are_right_when_shape_or_dtype_change_between_calls(tmp_path):
    def columns_of(function, records):
        models, columns = {"a": Function(function), "b": Function(function)}, [Column("y", "y")]
        first = {"a": 1, "b": 64}
        found = examples_of(score_records(tmp_path, models, records, columns, first_records=first))
        assert models["b"].sizes == [len(records)] != models["a"].sizes
        return [[features[f"{name}/y"] for features in found] for name in models]

    records = [example(x=1.0, t="t" * n) for n in (1, 1, 1, 5, 5, 5)]
    a, b = columns_of(codes, records)
    assert [bytes(values).rstrip(b"\0") for values in a] == records
    longest = max(map(len, records))
    assert list(map(bytes, b)) == [record.ljust(longest, b"\0") for record in records]
    assert columns_of(whole_or_half, examples(1, 2.5, 3)) == [[[1.0], [2.5], [3.0]]] * 2


def test_output_of_a_stage_that_did_not_run_may_be_missing(tmp_path):
    def cascade(batch):
        outputs = {"x": np.array([x_of(record) for record in batch])}
        escalated = int((outputs["x"] > 3).sum())
        if escalated:
            outputs["full/x"] = np.ma.masked_less_equal(outputs["x"], 3)
        return Prediction(outputs, {"small": len(batch), "full": escalated})

    always = Function(lambda batch: {"full/x": np.full(len(batch), 7)})
    models, columns = {"a": always, "b": Function(cascade)}, [Column("full/x", "full")]
    records, first = examples(1, 2, 3, 4, 2), {"b": 1}
    found = examples_of(score_records(tmp_path, models, records, columns, first_records=first))
    assert [features["a/full"] for features in found] == [[7]] * 5
    assert [features.get("b/full") for features in found] == [None, None, None, [4.0], None]


# A/B tests; that a record has the columns of its model: see test_run.py


def test_feature_named_variant_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"^Output 'variant' cannot become column 'variant'"):
        score_records(
            tmp_path, {"a": Lengths()}, [example(variant=1)], LENGTH,
            routing=SplitRouting({"a": 1}),
        )  # fmt: skip


def test_column_named_variant_is_refused():
    message = (
        "A column cannot be named 'variant' in an A/B test: that feature holds the name of the "
        "model. Choose another name in Outputs.columns."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        check_no_variant([Column("y", "y"), Column("y", "variant")])
    check_no_variant([Column("variant", "y")])
