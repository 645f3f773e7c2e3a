"""Models one after the other."""

from __future__ import annotations

import dataclasses
import math

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from bulk_inferencer._formats.example import Column
from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._models.batching import Failed, Scored, Scorer
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage, count_stages
from bulk_inferencer._models.hooks import Hooked
from bulk_inferencer._models.predictor import (
    FORMAT_PROTO,
    FORMAT_TF_EXAMPLE,
    FORMAT_TF_SEQUENCE_EXAMPLE,
    OutOfMemory,
    RecordError,
)
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.errors import HookError, ModelError, SettingsError
from bulk_inferencer.job import run
from tests.cascade_helpers import (
    X_OF_Y,
    Model,
    job_of,
    length,
    logged,
    predict,
    predictions,
    refuse_negative,
    save_times,
    twice,
    values_of,
    xs,
)
from tests.helpers import (
    context_of,
    exactly,
    example,
    features_of,
    parsed_log,
    sequence_example,
)


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """The settings of a real model, y = 5 x."""
    return SavedModel(save_times(tmp_path_factory.mktemp("five") / "model", 5))


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """The settings of a real model, y = 10 x."""
    return SavedModel(save_times(tmp_path_factory.mktemp("ten") / "model", 10))


# Stages in a row


def test_output_of_one_stage_is_a_feature_of_the_next(five, ten):
    outputs = predict((Stage("five", five, X_OF_Y), Stage("ten", ten)), xs(0, 1, -2.5))
    assert outputs == {
        "y": [0.0, 50.0, -125.0],
        "five/y": [0.0, 5.0, -12.5],
        "ten/y": [0.0, 50.0, -125.0],
    }


def test_results_carry_the_records_as_they_were_read(five, ten):
    batch = xs(1, 2)
    outputs, records = logged(CascadeModel((Stage("five", five, X_OF_Y), Stage("ten", ten))), batch)
    assert records == batch
    assert [o["y"] for o in outputs] == [[50.0], [100.0]]


def test_feature_goes_through_any_number_of_stages(five):
    stages = [Stage(name, five, X_OF_Y) for name in ("a", "b", "c")]
    outputs = predict((*stages, Stage("d", five)), xs(1))
    assert outputs["y"] == [625.0]
    assert [outputs[f"{name}/y"] for name in "abcd"] == [[5.0], [25.0], [125.0], [625.0]]


def test_next_stage_gets_the_columns_under_their_names_and_keeps_other_features():
    second = Model(length)
    columns = (Column("y", "n"), Column("y", "length"))
    record = example(x=1.0, n=b"text")
    predict((Stage("a", Model(length), columns), Stage("b", second)), [record])
    ((got,),) = second.batches
    assert features_of(got) == {"x": [1.0], "n": [len(record)], "length": [len(record)]}


def test_next_stage_gets_columns_in_the_context_of_a_sequence_example():
    second = Model(length)
    record = sequence_example(user="u1")
    stages = (Stage("a", Model(length), (Column("y", "n"),)), Stage("b", second))
    predict(stages, [record], FORMAT_TF_SEQUENCE_EXAMPLE)
    ((got,),) = second.batches
    assert context_of(got) == {"user": [b"u1"], "n": [len(record)]}


def test_next_stage_gets_the_very_record_where_there_are_no_columns():
    second = Model(length)
    batch = [b"", b"\0\xff", b"no tf.Example"]
    predict((Stage("a", Model(length)), Stage("b", second)), batch, FORMAT_PROTO)
    assert second.batches == [batch]


def test_cascade_of_one_stage_is_that_model_beside_its_name(five):
    assert predict((Stage("five", five),), xs(1, 2)) == {"y": [5.0, 10.0], "five/y": [5.0, 10.0]}


def test_batch_is_left_as_it_is(five, ten):
    batch = xs(0, 1, 2)
    before = list(batch)
    predict((Stage("five", five, X_OF_Y), Stage("ten", ten)), batch)
    assert batch == before


def test_stages_may_be_given_as_a_list(five, ten):
    model = CascadeModel([Stage("five", five, X_OF_Y), Stage("ten", ten)])
    assert isinstance(model.stages, tuple)
    assert model.load(FORMAT_TF_EXAMPLE).predict(xs(1))["y"].tolist() == [50.0]


# Exits


@pytest.mark.parametrize(
    ("exits", "settled"),
    [
        ((ExitWhen("y", at_least=3),), [3, 4, 5]),
        ((ExitWhen("y", at_most=3),), [1, 2, 3]),
        ((ExitWhen("y", at_least=2, at_most=4),), [2, 3, 4]),
        ((ExitWhen("y", at_least=3, at_most=3),), [3]),
        ((ExitWhen("y", at_most=1), ExitWhen("y", at_least=5)), [1, 5]),
        ((ExitWhen("y", at_least=6),), []),
        ((), []),
    ],
    ids=["at least", "at most", "both", "one value", "two exits", "nobody", "no exit"],
)
def test_records_within_the_bounds_do_not_reach_the_next_stage(exits, settled):
    full = Model(twice)
    batch = [b"x" * n for n in range(1, 6)]
    stages = (Stage("small", Model(length), exit_when=exits), Stage("full", full))
    outputs = predict(stages, batch, FORMAT_PROTO)
    escalated = [n for n in range(1, 6) if n not in settled]
    assert full.batches == [[b"x" * n for n in escalated]]
    assert outputs["y"] == [n if n in settled else 2 * n for n in range(1, 6)]
    assert outputs["small/y"] == [1, 2, 3, 4, 5]
    assert outputs["full/y"] == [None if n in settled else 2 * n for n in range(1, 6)]


def test_stage_that_all_records_exit_before_is_not_called():
    full = Model(twice, "y")
    exits = (ExitWhen("y", at_least=0),)
    stages = (Stage("small", Model(length, "y"), exit_when=exits), Stage("full", full))
    outputs = predict(stages, [b"a", b"bb"], FORMAT_PROTO)
    assert full.batches == []
    assert outputs == {"y": [1, 2], "small/y": [1, 2], "full/y": [None, None]}


def test_each_stage_settles_some_of_what_the_one_before_left():
    a, b, c = Model(length), Model(length), Model(twice)
    stages = (
        Stage("a", a, exit_when=(ExitWhen("y", at_most=1),)),
        Stage("b", b, exit_when=(ExitWhen("y", at_most=2),)),
        Stage("c", c),
    )
    outputs = predict(stages, [b"333", b"1", b"22", b"4444"], FORMAT_PROTO)
    assert a.batches == [[b"333", b"1", b"22", b"4444"]]
    assert b.batches == [[b"333", b"22", b"4444"]]
    assert c.batches == [[b"333", b"4444"]]
    assert outputs["y"] == [6, 1, 2, 8]
    assert outputs["b/y"] == [3, None, 2, 4]
    assert outputs["c/y"] == [6, None, None, 8]


def scores(*rows, dtype=np.float32):
    """Returns a model whose output for the record `i` is row i."""

    def scores(batch):
        return {"scores": np.array([rows[int(record)] for record in batch], dtype)}

    return Model(scores)


def exits_of(model, **bounds):
    """Returns which of the records `0`, `1` and `2` exit."""
    outputs = model.predict([b"0", b"1", b"2"])
    return ExitWhen("scores", **bounds).settles(outputs).tolist()


def test_largest_of_several_values_is_compared():
    model = scores([0.1, 0.95], [0.6, 0.4], [0.9, 0.1])
    assert exits_of(model, at_least=0.875) == [True, False, True]
    assert exits_of(model, at_most=0.625) == [False, True, False]
    assert exits_of(scores([[0, 9], [1, 1]], [[0, 1], [1, 0]], [[9, 9], [9, 9]]), at_least=9) == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("bounds", [{"at_least": -1}, {"at_most": 1}, {"at_least": -1e9}])
def test_record_with_nan_goes_on(bounds):
    assert exits_of(scores([0.5, 0.5], [np.nan, 0.5], [0.5, np.nan]), **bounds) == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "dtype",
    [np.float16, np.float64, np.int8, np.uint64, np.bool_, ml_dtypes.bfloat16],
    ids=lambda dtype: np.dtype(dtype).name,
)
def test_numbers_of_any_kind_can_be_compared(dtype):
    assert exits_of(scores([0], [1], [1], dtype=dtype), at_least=1) == [False, True, True]


@pytest.mark.parametrize(
    ("values", "got"),
    [
        (np.array([b"a", b"b"], object), "object of shape (2,)"),
        (np.zeros((2, 1), np.complex64), "complex64 of shape (2, 1)"),
    ],
    ids=["text", "complex"],
)
def test_output_that_cannot_be_compared_is_named(values, got):
    message = (
        f"Stage 'small': Expected output 'y' to hold numbers to exit by, got {got}. Name an output "
        f"of numbers in exit_when."
    )
    small = Model(lambda batch: {"y": values})
    stages = (Stage("small", small, exit_when=(ExitWhen("y", 1),)), Stage("full", Model(length)))
    with pytest.raises(ModelError, match=exactly(message)):
        predict(stages, [b"a", b"b"], FORMAT_PROTO)


def test_output_without_a_value_settles_nothing_and_is_of_those_that_ran_alone():
    """Such as boxes, padded to the most that a record of the batch has: here none."""

    def nothing(batch):
        return {"boxes": np.zeros((len(batch), 0)), **length(batch)}

    exits = (ExitWhen("boxes", at_least=0), ExitWhen("y", at_most=1))
    small = Stage("small", Model(nothing), exit_when=exits)
    predictor = CascadeModel((small, Stage("full", Model(nothing)))).load(FORMAT_PROTO)
    outputs = predictor.predict([b"a", b"bb", b"ccc"])
    assert count_stages(predictor.stages, outputs) == {"small": 3, "full": 2}
    assert "full/boxes" not in outputs


def test_exit_on_an_output_that_did_not_come_is_an_error():
    message = "Stage 'small': Expected output 'z' to exit by, got a, y. Correct exit_when."
    small = Model(lambda batch: {"y": np.zeros(1), "a": np.zeros(1)})
    stages = (Stage("small", small, exit_when=(ExitWhen("z", 1),)), Stage("full", Model(length)))
    with pytest.raises(ModelError, match=exactly(message)):
        predict(stages, [b"a"], FORMAT_PROTO)


def test_column_of_an_output_that_did_not_come_is_an_error():
    stages = (Stage("small", Model(length), (Column("z", "x"),)), Stage("full", Model(length)))
    with pytest.raises(ModelError, match=r"^Stage 'small': Expected output 'z' for column 'x'"):
        predict(stages, [b"a"])


# Outputs


def label(batch):
    """Another output than `length` has, and text."""
    return {"label": np.array([[record, b"\0"] for record in batch], object)}


def test_log_holds_the_outputs_of_the_stages_that_ran_for_its_record_alone():
    exits = (ExitWhen("y", at_most=1),)
    model = CascadeModel(
        (Stage("small", Model(length), exit_when=exits), Stage("full", Model(label)))
    )
    predictor = model.load(FORMAT_PROTO)
    batch = [b"a", b"bb", b"c"]
    encoder = PredictionLogEncoder(predictor.signatures, predictor.input_name)
    logs = [parsed_log(log) for log in encoder.encode(batch, predictor.predict(batch))]
    responses = [log.predict_log.response.outputs for log in logs]
    assert [{n: tf.make_ndarray(t).tolist() for n, t in r.items()} for r in responses] == [
        {"y": [1], "small/y": [1]},
        {"label": [[b"bb", b"\0"]], "small/y": [2], "full/label": [[b"bb", b"\0"]]},
        {"y": [1], "small/y": [1]},
    ]
    requests = [log.predict_log.request for log in logs]
    assert [r.inputs["records"].string_val[0] for r in requests] == batch
    assert {r.model_spec.signature_name for r in requests} == {
        "small/serving_default,full/serving_default"
    }


def test_values_keep_dtype_and_shape_where_only_some_records_have_them():
    dtypes = (np.float32, np.float16, np.int64, np.bool_, ml_dtypes.bfloat16, np.uint8)

    def full(batch):
        return {np.dtype(d).name: np.ones((len(batch), 2, 3), d) for d in dtypes}

    exits = (ExitWhen("y", at_most=1),)
    model = CascadeModel(
        (Stage("small", Model(length), exit_when=exits), Stage("full", Model(full)))
    )
    outputs = model.load(FORMAT_PROTO).predict([b"a", b"bb"])
    for name in (np.dtype(dtype).name for dtype in dtypes):
        for values in (outputs[name], outputs[f"full/{name}"]):
            assert (values.dtype.name, values.shape) == (name, (2, 2, 3))
            assert values.mask.all(axis=(1, 2)).tolist() == [True, False]
            assert values.data[1].astype(float).tolist() == np.ones((2, 3)).tolist()


def test_bfloat16_is_read_back(tmp_path):
    def halves(batch):
        return {"h": np.array([[len(r), 0.5] for r in batch], ml_dtypes.bfloat16)}

    exits = (ExitWhen("h", at_most=1),)
    job = job_of(
        tmp_path,
        CascadeModel(
            (Stage("small", Model(halves, "h"), exit_when=exits), Stage("full", Model(halves, "h")))
        ),
        [b"a", b"bb"],
        record_format=FORMAT_PROTO,
    )
    run(job)
    found = {
        p.record: {n: v.astype(float).tolist() for n, v in p.outputs.items()}
        for p in predictions(tmp_path)
    }
    assert found == {
        b"a": {"h": [1.0, 0.5], "small/h": [1.0, 0.5]},
        b"bb": {"h": [2.0, 0.5], "small/h": [2.0, 0.5], "full/h": [2.0, 0.5]},
    }


@pytest.mark.parametrize(
    ("of_full", "got"),
    [
        (np.float64, "float64 of shape [] and int64 of shape []"),
        ((np.int64, (3,)), "int64 of shape [] and int64 of shape [3]"),
        (object, "int64 of shape [] and object of shape []"),
    ],
    ids=["dtype", "shape", "text"],
)
def test_output_of_another_kind_in_another_stage_that_settles_is_named(of_full, got):
    def full(batch):
        return {"y": np.zeros(len(batch), of_full), "z": np.zeros(len(batch))}

    exits = (ExitWhen("y", at_most=1),)
    model = CascadeModel(
        (Stage("small", Model(length), exit_when=exits), Stage("full", Model(full)))
    )
    message = (
        f"Expected output 'y' to have one dtype and shape in all stages that settle records, got "
        f"{got}. Rename or cast it in one of the serving signatures."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        model.load(FORMAT_PROTO).predict([b"a", b"bb"])


def test_stage_that_settles_nothing_may_have_outputs_of_another_kind():
    def full(batch):
        return {"y": np.full((len(batch), 2), b"text", object)}

    outputs = predict((Stage("small", Model(length)), Stage("full", Model(full))), [b"a", b"bb"])
    assert outputs["y"] == outputs["full/y"] == [[b"text", b"text"]] * 2
    assert outputs["small/y"] == [1, 2]


def test_classification_can_stand_first(tf1_model, ten):
    classify = SavedModel(tf1_model)  # scores -5 x and 5 x
    stages = (
        Stage("classify", classify, (Column("scores", "s"),), (ExitWhen("scores", at_least=10),)),
        Stage("ten", ten),
    )
    model = CascadeModel(stages)
    (signature,) = model.check(FORMAT_TF_EXAMPLE)
    assert (signature.name, signature.method) == (
        "classify/serving_default,ten/serving_default",
        PREDICT,
    )
    outputs = predict(stages, xs(2, 1, -3))
    classes = [[b"small", b"big"]]
    assert outputs == {
        "classes": [*classes, [None, None], *classes],
        "scores": [[-10.0, 10.0], [None, None], [15.0, -15.0]],
        "y": [None, 10.0, None],
        "classify/classes": classes * 3,
        "classify/scores": [[-10.0, 10.0], [-5.0, 5.0], [15.0, -15.0]],
        "ten/y": [None, 10.0, None],
    }


def test_cascade_with_several_signatures_in_a_stage(tf1_model, five):
    both = SavedModel(tf1_model, ("regress", "predict"))
    outputs = predict(
        (Stage("both", both, (Column("regress/outputs", "x"),)), Stage("five", five)), xs(1, 2)
    )
    assert outputs["y"] == [25.0, 50.0]
    assert outputs["both/predict/y"] == outputs["both/regress/outputs"] == [5.0, 10.0]


# A cascade as a stage


def nested(first=(), *, small="small", full="full"):
    inner = CascadeModel(
        (
            Stage(small, Model(length, "y"), exit_when=(ExitWhen("y", at_most=2),)),
            Stage(full, Model(twice, "y")),
        )
    )
    cheap = Stage("cheap", Model(length, "y"), exit_when=(ExitWhen("y", at_most=1),))
    return CascadeModel((*first, cheap, Stage("rest", inner)))


NESTED_BATCH = [b"a", b"bb", b"ccc", b"dddd"]


def test_cascade_can_be_a_stage():
    predictor = nested().load(FORMAT_PROTO)
    outputs = predictor.predict(NESTED_BATCH)
    assert {name: values_of(values) for name, values in outputs.items()} == {
        "y": [1, 2, 6, 8],
        "small/y": [None, 2, 3, 4],
        "full/y": [None, None, 6, 8],
        "cheap/y": [1, 2, 3, 4],
        "rest/y": [None, 2, 6, 8],
        "rest/small/y": [None, 2, 3, 4],
        "rest/full/y": [None, None, 6, 8],
    }
    assert predictor.signatures == nested().check(FORMAT_PROTO)
    assert predictor.signatures[0].outputs == tuple(outputs)


def test_records_of_a_stage_that_is_a_cascade_are_those_of_its_first_stage():
    predictor = nested().load(FORMAT_PROTO)
    assert count_stages(predictor.stages, predictor.predict(NESTED_BATCH)) == {
        "cheap": 4,
        "rest": 3,
    }


@pytest.mark.parametrize("batch", [NESTED_BATCH, NESTED_BATCH[:2]], ids=["some", "none"])
def test_records_can_exit_by_an_output_that_only_some_of_them_have(batch):
    inner = CascadeModel(
        (
            Stage("small", Model(length, "y"), exit_when=(ExitWhen("y", at_most=2),)),
            Stage("full", Model(twice, "y")),
        )
    )
    last = Model(length, "y")
    stages = (Stage("inner", inner, exit_when=(ExitWhen("full/y", at_least=7),)), Stage("z", last))
    outputs = predict(stages, batch, FORMAT_PROTO)
    assert last.batches == [batch[:3]]
    assert outputs["z/y"] == [1, 2, 3, None][: len(batch)]
    assert outputs["full/y"] == [None, None, None, 8][: len(batch)]
    assert outputs["inner/full/y"] == [None, None, 6, 8][: len(batch)]


def test_output_that_a_stage_has_for_no_record_may_come_from_another():
    def inner(at_most):
        exits = (ExitWhen("y", at_most=at_most),)
        return CascadeModel(
            (Stage("small", Model(length, "y"), exit_when=exits), Stage("full", Model(twice, "y")))
        )

    first = Stage("first", inner(2), exit_when=(ExitWhen("y", at_most=1),))
    outputs = predict((first, Stage("second", inner(1))), [b"a", b"bb"], FORMAT_PROTO)
    assert outputs["y"] == [1, 4]
    assert outputs["full/y"] == [None, 4]
    assert outputs["first/full/y"] == [None, None]


@pytest.mark.parametrize(
    ("names", "taken"), [({"small": "cheap"}, "cheap/y"), ({"full": "rest"}, "rest/y")]
)
def test_output_of_two_meanings_is_refused_before_the_run(names, taken):
    message = (
        f"Expected every output to have a name of its own, got {taken} both as an output of a "
        f"stage and under the name of another. Rename that stage."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        nested(**names).check(FORMAT_PROTO)


# Failures


def test_record_that_one_stage_cannot_score_fails_alone_and_names_the_stage(five, ten):
    records = xs(0, 1, 2, -3, 4, 5, 6)
    stages = (Stage("five", five, X_OF_Y), Stage("ten", Hooked(ten, refuse_negative)))
    results = list(Scorer(CascadeModel(stages).load(FORMAT_TF_EXAMPLE)).score(records))
    failed = [r for r in results if isinstance(r, Failed)]
    assert failed == [Failed(3, "ValueError", "Stage 'ten': x is negative")]
    assert failed[0].reason == "ValueError: Stage 'ten': x is negative"
    scored = [r for r in results if isinstance(r, Scored)]
    assert [y for r in scored for y in r.outputs["y"]] == [0, 50, 100, 200, 250, 300]


def test_record_that_a_saved_model_refuses_names_the_stage(five, ten):
    stages = (Stage("five", five, (Column("y", "z"),)), Stage("ten", ten))
    bad = b"no tf.Example"
    results = Scorer(CascadeModel(stages).load(FORMAT_TF_EXAMPLE)).score([*xs(1), bad])
    (failed,) = [r for r in results if isinstance(r, Failed)]
    assert (failed.index, failed.error_type) == (1, "InvalidArgumentError")
    assert failed.message.startswith("Stage 'five': ")


def test_record_that_exits_before_the_stage_that_cannot_score_it_is_scored(five, ten):
    exits = (ExitWhen("y", at_most=-1),)
    stages = (Stage("five", five, X_OF_Y, exits), Stage("ten", Hooked(ten, refuse_negative)))
    assert predict(stages, xs(1, -1))["y"] == [50.0, -5.0]


def raising(error):
    def fail(batch):
        raise error

    return Model(fail)


def test_record_error_keeps_its_type_and_names_the_stage():
    stages = (Stage("five", Model(length)), Stage("ten", raising(RecordError("Odd", "it is odd"))))
    with pytest.raises(RecordError) as raised:
        predict(stages, [b"a"])
    assert (raised.value.error_type, raised.value.message) == ("Odd", "Stage 'ten': it is odd")


@pytest.mark.parametrize(
    "error", [ModelError("it is wrong"), HookError("it is wrong")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("name", ["five", "ten"])
def test_error_of_the_model_itself_keeps_its_class_and_names_the_stage(error, name):
    models = {"five": Model(length), "ten": Model(length), name: raising(error)}
    stages = tuple(Stage(n, model) for n, model in models.items())
    with pytest.raises(type(error), match=rf"^Stage '{name}': it is wrong$"):
        list(Scorer(CascadeModel(stages).load(FORMAT_TF_EXAMPLE)).score([b"a", b"b"]))


def test_batch_that_does_not_fit_a_stage_is_halved():
    def limited(batch):
        if len(batch) > 2:
            raise OutOfMemory("no memory for 3")
        return twice(batch)

    full = Model(limited)
    model = CascadeModel((Stage("small", Model(length)), Stage("full", full)))
    scorer = Scorer(model.load(FORMAT_PROTO))
    results = list(scorer.score([b"x"] * 8))
    assert [(r.start, r.stop) for r in results] == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert scorer.safe_records == 2
    with pytest.raises(OutOfMemory, match=r"^Stage 'full': no memory for 3$"):
        scorer.predictor.predict([b"x"] * 3)


def test_stage_that_is_a_cascade_is_named_with_its_own_stage():
    inner = CascadeModel((Stage("a", Model(length)), Stage("b", raising(ModelError("wrong")))))
    with pytest.raises(ModelError, match=r"^Stage 'inner': Stage 'b': wrong$"):
        predict((Stage("inner", inner),), [b"x"])


# Settings


def test_bound_is_compared_in_the_precision_of_the_output():
    def certain(batch):
        return {"y": np.full(len(batch), 0.9, np.float32)}

    exit_when = ExitWhen("y", at_least=0.9, at_most=0.9)
    assert exit_when.settles(certain([b""])).all()


def test_path_instead_of_a_model_is_refused():
    message = "Expected a model, got the string '/five'. Give SavedModel('/five')."
    with pytest.raises(SettingsError, match=exactly(message)):
        Stage("five", "/five")


def test_exit_without_bounds_is_refused():
    message = (
        "Expected at_least, at_most or both for the exit on output 'y', got neither. Say which "
        "values settle a record."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        ExitWhen("y")


@pytest.mark.parametrize("bounds", [(2, 1), (math.nan, 1.0)], ids=["swapped", "nan"])
def test_exit_that_no_value_can_take_is_refused(bounds):
    message = (
        f"Expected at_least to be no larger than at_most for the exit on output 'y', got "
        f"{bounds[0]} and {bounds[1]}. For two ranges, give two exits."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        ExitWhen("y", *bounds)


def test_cascade_without_stages_is_refused():
    message = "Expected at least one stage, got none. Name the models in order."
    with pytest.raises(SettingsError, match=exactly(message)):
        CascadeModel(())


def test_model_in_place_of_a_stage_is_refused(five):
    message = "Expected stages of a cascade, got a SavedModel. Give Stage(name, model)."
    with pytest.raises(SettingsError, match=exactly(message)):
        CascadeModel((five,))


@pytest.mark.parametrize(
    ("settings", "wanted", "got"),
    [
        ({"columns": Column("y", "x")}, "Column as columns", "Column(output='y', name='x')"),
        ({"columns": [("y", "x")]}, "Column as columns", "[('y', 'x')]"),
        ({"columns": ["y"]}, "Column as columns", "['y']"),
        (
            {"exit_when": ExitWhen("y", 1)},
            "ExitWhen as exit_when",
            "ExitWhen(output='y', at_least=1, at_most=None)",
        ),
        ({"exit_when": ["y"]}, "ExitWhen as exit_when", "['y']"),
    ],
    ids=["column", "tuples", "text", "exit", "no exits"],
)
def test_columns_and_exits_that_are_something_else_are_refused(five, settings, wanted, got):
    message = f"Expected a list of {wanted} of stage 'small', got {got}. Put it into a list."
    with pytest.raises(SettingsError, match=exactly(message)):
        Stage("small", five, **settings)


def test_columns_and_exits_may_be_given_as_lists(five):
    exits = [ExitWhen("y", 1)]
    stage = Stage("small", five, list(X_OF_Y), exits)
    assert (stage.columns, stage.exit_when) == (X_OF_Y, tuple(exits))


@pytest.mark.parametrize("name", ["", "Small", "1st", "a/b", "a b", "ä", "a\n", None])
def test_stage_whose_name_is_none_is_refused(five, name):
    message = (
        f"Expected the name of a stage to be lower-case letters, digits and underscores, and to "
        f"begin with a letter, got {name!r}. Rename it."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        CascadeModel((Stage(name, five),))


def test_stages_of_one_name_are_refused(five):
    message = "Expected every stage to have a name of its own, got a, b more than once. Rename one."
    stages = [Stage(name, five) for name in "bacab"]
    with pytest.raises(SettingsError, match=exactly(message)):
        CascadeModel(stages)


@pytest.mark.parametrize(
    "settings", [{"columns": X_OF_Y}, {"exit_when": (ExitWhen("y", 1),)}], ids=["columns", "exits"]
)
def test_last_stage_with_columns_or_exits_is_refused(five, settings):
    message = (
        "Expected the last stage, 'ten', without columns and exits, since no stage follows it. "
        "Leave them out, or add a stage."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        CascadeModel((Stage("five", five), Stage("ten", five, **settings)))


def test_unknown_outputs_are_named_before_the_run(five, ten):
    stage = Stage(
        "five", five, (Column("y", "x"), Column("z", "x")), (ExitWhen("score", at_least=1),)
    )
    message = (
        f"Stage 'five': Expected columns and exits to name outputs of {five.path}, got 'z', "
        f"'score'; it has: y. Correct the names."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        CascadeModel((stage, Stage("ten", ten))).check(FORMAT_TF_EXAMPLE)


def test_outputs_that_are_not_known_in_advance_are_not_checked(five):
    stage = Stage("any", Model(length), (Column("z", "x"),), (ExitWhen("score", at_least=1),))
    (signature,) = CascadeModel((stage, Stage("five", five))).check(FORMAT_TF_EXAMPLE)
    assert signature.outputs == ()


def test_outputs_are_those_of_the_stages_that_settle_and_of_each_stage(tf1_model, five):
    classify = SavedModel(tf1_model)
    exits = (ExitWhen("scores", at_least=1),)

    def outputs(exit_when):
        stages = (Stage("classify", classify, exit_when=exit_when), Stage("five", five))
        (signature,) = CascadeModel(stages).check(FORMAT_TF_EXAMPLE)
        return signature.outputs

    of_stages = ("classify/classes", "classify/scores", "five/y")
    assert outputs(()) == ("y", *of_stages)
    assert outputs(exits) == ("classes", "scores", "y", *of_stages)


def test_columns_need_examples(five, ten):
    message = (
        "Stage 'a': Expected FORMAT_TF_EXAMPLE or FORMAT_TF_SEQUENCE_EXAMPLE records to add "
        "columns to, got FORMAT_PROTO. Leave out the columns: the next stage then gets the record "
        "as it is."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        CascadeModel((Stage("a", Model(length), X_OF_Y), Stage("b", Model(length)))).check(
            FORMAT_PROTO
        )


def test_missing_model_of_a_stage_is_named(five, tmp_path):
    model = CascadeModel((Stage("five", five), Stage("ten", SavedModel(f"{tmp_path}/none"))))
    for call in (model.check, model.load):
        with pytest.raises(ModelError, match=r"^Stage 'ten': Expected a SavedModel, found no"):
            call(FORMAT_TF_EXAMPLE)


def test_stage_that_is_named_like_a_signature_of_another_is_refused():
    both = Model(length, "y")
    both.signatures = (Signature("full", PREDICT, ("y",)), Signature("b", PREDICT, ("y",)))
    message = (
        "Expected stages with other names than those of several signatures of a stage, got full "
        "for both. Rename the stage."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        CascadeModel((Stage("small", both), Stage("full", Model(length, "y")))).check(FORMAT_PROTO)


@pytest.mark.parametrize("setting", ["columns", "exit_when"])
def test_columns_and_exits_have_to_be_lists(setting):
    value = {"columns": Column("y", "x"), "exit_when": ExitWhen("y", 1)}[setting]
    message = (
        f"Expected a list of {type(value).__name__} as {setting} of stage 'small', got {value!r}. "
        f"Put it into a list."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        Stage("small", Model(length), **{setting: value})


# What a cascade says of itself


def test_uri_input_name_and_versions_are_those_of_the_stages(five):
    server = Model(length, versions={"7", "8"})
    model = CascadeModel((Stage("small", server), Stage("five", five)))
    assert model.uri == f"memory://length > {five.path}"
    predictor = model.load(FORMAT_TF_EXAMPLE)
    assert predictor.input_name == "records"
    assert predictor.versions == {"small/7", "small/8"}
    assert predictor.stages == ("small", "five")


def test_fingerprint_is_of_all_that_makes_the_stages():
    a, b = Model(length, fingerprint="aa"), Model(length, fingerprint="bb")

    def fingerprint(columns=(), exit_when=(), **models):
        first, *others = [Stage(name, model) for name, model in models.items()]
        first = dataclasses.replace(first, columns=columns, exit_when=exit_when)
        return CascadeModel((first, *others)).fingerprint()

    found = [
        fingerprint(small=a, full=b),
        fingerprint(small=b, full=a),
        fingerprint(full=a, small=b),
        fingerprint(small=a),
        fingerprint(small=a, full=b, columns=X_OF_Y),
        fingerprint(small=a, full=b, exit_when=[ExitWhen("y", at_least=1)]),
        fingerprint(small=a, full=b, exit_when=[ExitWhen("y", at_least=2)]),
    ]
    assert len(set(found)) == len(found)
    assert fingerprint(small=a, full=b) == found[0]


def test_fingerprint_is_empty_where_a_stage_has_none(five):
    model = CascadeModel((Stage("five", five), Stage("full", Model(length, fingerprint=""))))
    assert model.fingerprint() == ""
