from __future__ import annotations

import itertools
import re

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from bulk_inferencer import BatchBounds, Column, HookedModel, SavedModel
from bulk_inferencer._formats.record_format import FORMAT_PROTO, FORMAT_TF_EXAMPLE
from bulk_inferencer._formats.rows import Rows
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.predictor import OutOfMemory, RecordError
from bulk_inferencer._models.python_model import PythonModel
from bulk_inferencer._models.scoring import LogScorer
from bulk_inferencer._signatures import PREDICT, OutputType, Signature
from bulk_inferencer._work import Work
from bulk_inferencer.errors import HookError, ModelError, SettingsError
from tests.helpers import exactly, example, features_of, parsed_log
from tests.models.fakes import Model, length, raising, twice

X_OF_Y = (Column("y", "x"),)


def at_most(bound, output="y"):
    return (ExitWhen(output, at_most=bound),)


def predict(stages, batch, record_format=FORMAT_PROTO):
    return CascadeModel(stages).load(record_format).predict(batch)


def outputs_of(stages, batch, record_format=FORMAT_PROTO):
    """Returns the values of each output as a list, None for a record that does not have it."""
    outputs = predict(stages, batch, record_format).outputs
    return {name: np.ma.asarray(values).tolist() for name, values in outputs.items()}


def logged(model, batch, record_format=FORMAT_PROTO):
    """Returns the PredictLog of each record, and its outputs."""
    logs = LogScorer.load(model, record_format, BatchBounds()).logs(batch, Work())
    logs = [parsed_log(log).predict_log for log in logs]
    arrays = [{n: tf.make_ndarray(t) for n, t in log.response.outputs.items()} for log in logs]
    return logs, [{n: a.tolist() for n, a in outputs.items()} for outputs in arrays]


@pytest.fixture(scope="module")
def five(linear_model):
    """The settings of a real model, y = 5 x, of shape [n, 1]."""
    return SavedModel(linear_model)


def test_output_of_one_stage_is_a_feature_of_the_next_and_the_records_stay_as_they_are(five):
    model = CascadeModel([*(Stage(name, five, list(X_OF_Y)) for name in "abc"), Stage("d", five)])
    batch = [example(x=0.0), example(x=-2.5)]
    logs, outputs = logged(model, batch, FORMAT_TF_EXAMPLE)
    assert {y: [o[y] for o in outputs] for y in outputs[0]} == {
        "y": [[[0.0]], [[-1562.5]]],
        "a/y": [[[0.0]], [[-12.5]]],
        "b/y": [[[0.0]], [[-62.5]]],
        "c/y": [[[0.0]], [[-312.5]]],
        "d/y": [[[0.0]], [[-1562.5]]],
    }
    assert [log.request.inputs["examples"].string_val[0] for log in logs] == batch
    assert batch == [example(x=0.0), example(x=-2.5)]
    assert {log.request.model_spec.signature_name for log in logs} == {
        ",".join(f"{name}/serving_default" for name in "abcd")
    }


def test_next_stage_gets_the_columns_under_their_names_and_keeps_everything_else():
    second = Model(length)
    columns = (Column("y", "n"), Column("y", "length"))
    record = example(x=1.0, n=b"text")
    predict((Stage("a", Model(length), columns), Stage("b", second)), [record], FORMAT_TF_EXAMPLE)
    ((got,),) = second.batches
    assert features_of(got) == {"x": [1.0], "n": [len(record)], "length": [len(record)]}
    batch = [b"", b"\0\xff", b"no tf.Example"]
    predict((Stage("a", Model(length)), Stage("b", second)), batch)
    assert second.batches[1] == batch
    assert outputs_of((Stage("only", second),), batch) == {"y": [0, 2, 13], "only/y": [0, 2, 13]}


@pytest.mark.parametrize(
    ("exits", "settled"),
    [
        ([ExitWhen("y", at_least=3)], [3, 4, 5]),
        ([ExitWhen("y", at_most=3)], [1, 2, 3]),
        ([ExitWhen("y", at_least=2, at_most=4)], [2, 3, 4]),
        ([ExitWhen("y", at_least=3, at_most=3)], [3]),
        ([ExitWhen("y", at_most=1), ExitWhen("y", at_least=5)], [1, 5]),
        ([ExitWhen("y", at_least=6)], []),
        ([], []),
    ],
    ids=["at least", "at most", "both", "one value", "two exits", "nobody", "no exit"],
)
def test_records_within_the_bounds_do_not_reach_the_next_stage(exits, settled):
    full = Model(twice)
    batch = [b"x" * n for n in range(1, 6)]
    outputs = outputs_of((Stage("small", Model(length), (), exits), Stage("full", full)), batch)
    assert full.batches == [[b"x" * n for n in range(1, 6) if n not in settled]]
    assert outputs["y"] == [n if n in settled else 2 * n for n in range(1, 6)]
    assert outputs["small/y"] == [1, 2, 3, 4, 5]
    assert outputs["full/y"] == [None if n in settled else 2 * n for n in range(1, 6)]


def test_stage_that_all_records_exit_before_is_not_called_and_its_outputs_are_absent():
    full = Model(twice, "y")
    stages = (Stage("small", Model(length, "y"), (), at_most(9)), Stage("full", full))
    batch = [b"a", b"bb"]
    assert outputs_of(stages, batch) == {"y": [1, 2], "small/y": [1, 2], "full/y": [None, None]}
    assert predict(stages, batch).stages == {"small": 2, "full": 0}
    assert full.batches == []


def test_each_stage_settles_some_of_what_the_one_before_left():
    b, c = Model(length), Model(twice)
    stages = (Stage("a", Model(length), (), at_most(1)), Stage("b", b, (), at_most(2)))
    stages = (*stages, Stage("c", c))
    batch = [b"333", b"1", b"22", b"4444"]
    outputs = outputs_of(stages, batch)
    assert (b.batches, c.batches) == ([[b"333", b"22", b"4444"]], [[b"333", b"4444"]])
    assert outputs["y"] == [6, 1, 2, 8]
    assert outputs["b/y"] == [3, None, 2, 4]
    assert outputs["c/y"] == [6, None, None, 8]
    assert predict(stages, batch).stages == {"a": 4, "b": 3, "c": 2}


NAN = [[0.5, 0.5], [np.nan, 0.5], [0.5, np.nan]]


@pytest.mark.parametrize(
    ("values", "dtype", "bounds", "settled"),
    [
        ([[0.1, 0.95], [0.6, 0.4], [0.9, 0.1]], "float32", {"at_least": 0.875}, [1, 0, 1]),
        ([[0.1, 0.95], [0.6, 0.4], [0.9, 0.1]], "float32", {"at_most": 0.625}, [0, 1, 0]),
        ([[[0, 9], [1, 1]], [[0, 1], [1, 0]]], "int64", {"at_least": 9}, [1, 0]),
        (NAN, "float32", {"at_least": -1}, [1, 0, 0]),
        (NAN, "float32", {"at_most": 1}, [1, 0, 0]),
        ([0.9], "float32", {"at_least": 0.9, "at_most": 0.9}, [1]),
        *(
            ([[0], [1], [1]], dtype, {"at_least": 1}, [0, 1, 1])
            for dtype in ("float16", "float64", "int8", "uint64", "bool", ml_dtypes.bfloat16)
        ),
    ],
)
def test_largest_value_is_compared_in_the_precision_of_the_output(values, dtype, bounds, settled):
    assert ExitWhen("y", **bounds).settles({"y": np.array(values, dtype)}).tolist() == settled


@pytest.mark.parametrize("dtype", ["object", "complex64"])
def test_output_that_cannot_be_compared_is_named(dtype):
    message = (
        f"Stage.exit_when needs numbers to compare, but output 'y' is {dtype} of shape (2, 1). "
        f"Name an output of numbers."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        ExitWhen("y", at_least=1).settles({"y": np.zeros((2, 1), dtype)})


def test_output_without_a_value_settles_nothing_and_belongs_to_all_records_or_none():
    """Such as boxes, padded to as many as the record with the most has: here none."""

    def nothing(batch):
        return {"boxes": np.zeros((len(batch), 0)), **length(batch)}

    exits = (ExitWhen("boxes", at_least=0), ExitWhen("y", at_most=1))
    small = Stage("small", Model(nothing), (), exits)
    prediction = predict((small, Stage("full", Model(nothing))), [b"a", b"bb", b"ccc"])
    assert prediction.stages == {"small": 3, "full": 2}
    assert prediction.outputs["small/boxes"].shape == (3, 0)
    assert prediction.outputs["full/boxes"].mask.all()


def test_exit_or_column_of_an_output_that_did_not_come_is_an_error():
    model = Model(lambda batch: {"y": np.zeros(1), "a": np.zeros(1)})
    exits = "Stage.exit_when names output 'z', but the model returned only a, y. Correct the name."
    column = "Column 'x' needs the output 'z', but the model returned a, y. Name one of these "
    for settings, message in ((((), at_most(1, "z")), exits), (((Column("z", "x"),),), column)):
        with pytest.raises(ModelError, match=f"^Stage 'small': {re.escape(message)}"):
            predict((Stage("small", model, *settings), Stage("full", model)), [b"a"])


def test_log_holds_the_outputs_of_the_stages_that_ran_for_its_record_alone():
    def full(batch):
        labels = np.array([[record, b"\0"] for record in batch], object)
        return {"label": labels, "ones": np.ones((len(batch), 2), ml_dtypes.bfloat16)}

    stages = (Stage("small", Model(length), (), at_most(1)), Stage("full", Model(full)))
    batch = [b"a", b"bb", b"c"]
    logs, (first, second, third) = logged(CascadeModel(stages), batch)
    assert [log.request.inputs["records"].string_val[0] for log in logs] == batch
    assert first == third == {"y": [1], "small/y": [1]}
    by_full = {"label": [[b"bb", b"\0"]], "ones": [[1, 1]]}
    assert second == {"small/y": [2], **by_full, **{f"full/{n}": v for n, v in by_full.items()}}


def test_output_of_another_kind_in_another_stage_that_settles_is_named():
    for kind, other in (((np.int64, (3,)), "int64 of shape [3]"), (object, "object of shape []")):
        full = Stage("full", Model(lambda batch, kind=kind: {"y": np.zeros(len(batch), kind)}))
        message = (
            f"Output 'y' differs between the stages that settle records: it is int64 of shape [] "
            f"and {other}. Rename or cast it in one of the serving signatures."
        )
        with pytest.raises(ModelError, match=exactly(message)):
            predict((Stage("small", Model(length), (), at_most(1)), full), [b"a", b"bb"])
        assert predict((Stage("small", Model(length)), full), [b"a"])  # which settles nothing


def test_classification_can_stand_first(tf1_model, five):
    classify = SavedModel(tf1_model)  # scores -5 x and 5 x
    exits = (ExitWhen("scores", at_least=10),)
    stages = (Stage("classify", classify, (Column("scores", "s"),), exits), Stage("five", five))
    by_stage = ("classify/classes", "classify/scores", "five/y")
    types = (OutputType("string", (2,)), OutputType("float32", (2,)), OutputType("float32", (1,)))
    assert CascadeModel(stages).check(FORMAT_TF_EXAMPLE) == (
        Signature(
            "classify/serving_default,five/serving_default",
            PREDICT,
            ("classes", "scores", "y", *by_stage),
            ("classify", "five"),
            types * 2,
        ),
    )
    classes = [[b"small", b"big"]]
    batch = [example(x=x) for x in (2.0, 1.0)]
    assert outputs_of(stages, batch, FORMAT_TF_EXAMPLE) == {
        "classes": [*classes, [None, None]],
        "scores": [[-10.0, 10.0], [None, None]],
        "y": [[None], [5.0]],
        "classify/classes": classes * 2,
        "classify/scores": [[-10.0, 10.0], [-5.0, 5.0]],
        "five/y": [[None], [5.0]],
    }
    stages = (Stage("classify", classify), Stage("five", five))  # which settles all of them
    assert CascadeModel(stages).check(FORMAT_TF_EXAMPLE)[0].outputs == ("y", *by_stage)


def test_stage_may_have_several_signatures(tf1_model, five):
    both = SavedModel(tf1_model, ("regress", "predict"))
    stages = (Stage("both", both, (Column("regress/outputs", "x"),)), Stage("five", five))
    outputs = outputs_of(stages, [example(x=1.0)], FORMAT_TF_EXAMPLE)
    assert outputs["y"] == [[25.0]]
    assert outputs["both/predict/y"] == outputs["both/regress/outputs"] == [5.0]


def test_postprocess_keeps_apart_what_a_record_does_not_have():
    def as_text(records, outputs):
        return {"text": [str(value) for value in outputs["y"].tolist()]}

    full = HookedModel(Model(twice), postprocess=as_text)
    model = CascadeModel((Stage("small", Model(length), (), at_most(1)), Stage("full", full)))
    _, outputs = logged(HookedModel(model, postprocess=lambda r, outputs: outputs), [b"a", b"bb"])
    assert outputs == [
        {"y": [1], "small/y": [1]},
        {"text": [b"4"], "small/y": [2], "full/text": [b"4"]},
    ]


def inner(bound=2, small="small", full="full"):
    first = Stage(small, Model(length, "y"), (), at_most(bound))
    return CascadeModel((first, Stage(full, Model(twice, "y"))))


def nested(**names):
    cheap = Stage("cheap", Model(length, "y"), (), at_most(1))
    return (cheap, Stage("rest", inner(**names)))


BATCH = [b"a", b"bb", b"ccc", b"dddd"]


def test_cascade_can_be_a_stage():
    outputs = outputs_of(nested(), BATCH)
    assert outputs == {
        "y": [1, 2, 6, 8],
        "small/y": [None, 2, 3, 4],
        "full/y": [None, None, 6, 8],
        "cheap/y": [1, 2, 3, 4],
        "rest/y": [None, 2, 6, 8],
        "rest/small/y": [None, 2, 3, 4],
        "rest/full/y": [None, None, 6, 8],
    }
    stages = {"cheap": 4, "rest": 3, "rest/small": 3, "rest/full": 2}
    assert predict(nested(), BATCH).stages == stages
    (signature,) = CascadeModel(nested()).check(FORMAT_PROTO)
    assert signature.outputs == tuple(outputs)
    assert CascadeModel(nested()).load(FORMAT_PROTO).signatures == (signature,)


@pytest.mark.parametrize("batch", [BATCH, BATCH[:2]], ids=["some", "none"])
def test_records_can_exit_by_an_output_that_only_some_of_them_have(batch):
    last = Model(length, "y")
    exits = (ExitWhen("full/y", at_least=7),)
    outputs = outputs_of((Stage("inner", inner(), (), exits), Stage("z", last)), batch)
    assert last.batches == [batch[:3]]
    assert outputs["z/y"] == [1, 2, 3, None][: len(batch)]
    assert outputs["full/y"] == [None, None, None, 8][: len(batch)]
    assert outputs["inner/full/y"] == [None, None, 6, 8][: len(batch)]


@pytest.mark.parametrize("hooked", [False, True], ids=["alone", "hooked"])
def test_record_has_the_same_outputs_whichever_records_share_its_batch(hooked):
    """Although models whose signatures name no outputs tell them only when they run."""

    def of_python(name, factor):
        return PythonModel(
            lambda path: lambda records: {name: np.array([factor * len(r) for r in records])},
            takes_records=True,
        )

    rest = CascadeModel(
        [
            Stage("small", of_python("few", 1), (), at_most(2, "few")),
            Stage("full", of_python("many", 2)),
        ]
    )
    exits = at_most(6, "many")
    model: object = CascadeModel(
        [
            Stage("cheap", of_python("score", 1), (), at_most(1, "score")),
            Stage("rest", rest, (), exits),
            Stage("last", of_python("y", 3)),
        ]
    )
    if hooked:
        model = HookedModel(model, postprocess=lambda records, outputs: outputs)
    predictor = model.load(FORMAT_PROTO)
    whole = predictor.predict(BATCH)
    for count in range(1, len(BATCH) + 1):
        for rows in itertools.combinations(range(len(BATCH)), count):
            found = predictor.predict([BATCH[i] for i in rows])
            if all(found.stages.values()):  # else, outputs may be missing
                assert found.outputs.keys() == whole.outputs.keys()
            for name, values in whole.outputs.items():
                own = np.ma.asarray(found.outputs.get(name, np.ma.masked_all(count)))
                assert own.tolist() == np.ma.asarray(values)[list(rows)].tolist()


def test_output_that_a_stage_has_for_no_record_may_come_from_another():
    stages = (Stage("first", inner(2), (), at_most(1)), Stage("second", inner(1)))
    outputs = outputs_of(stages, [b"a", b"bb"])
    assert outputs["y"] == [1, 4]
    assert outputs["full/y"] == [None, 4]
    assert outputs["first/full/y"] == [None, None]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("why"), RecordError, "ValueError: Stage 'full': why"),
        (RecordError("Odd", "why"), RecordError, "Odd: Stage 'full': why"),
        (OutOfMemory("why"), OutOfMemory, "Stage 'full': why"),
        (ModelError("why"), ModelError, "Stage 'full': why"),
        (HookError("why"), HookError, "Stage 'full': why"),
    ],
    ids=repr,
)
def test_error_keeps_its_kind_and_names_the_stage(error, kind, message):
    stages = (Stage("small", Model(length)), Stage("full", raising(error)))
    with pytest.raises(kind, match=exactly(message)):
        predict(stages, [b"a"])
    message = message.replace("Stage", "Stage 'outer': Stage")
    with pytest.raises(kind, match=exactly(message)):
        predict((Stage("outer", CascadeModel(stages)),), [b"a"])


def check(first, record_format=FORMAT_TF_EXAMPLE):
    return CascadeModel((first, Stage("last", Model(length, "y")))).check(record_format)


TWO_HEADS = Model(length)
TWO_HEADS.signatures = (Signature("last", PREDICT, ("y",)), Signature("b", PREDICT, ("y",)))
FIVE = Model(length, "y")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExitWhen("y"),
         ("ExitWhen has neither at_least nor at_most for output 'y'. Say which values settle a "
          "record.")),
        (lambda: ExitWhen("y", 2, 1),
         ("No value of output 'y' is at least 2 and at most 1, as ExitWhen asks. For two separate "
          "ranges, use two of them.")),
        (lambda: CascadeModel(()), "The cascade has no stage. List its models."),
        (lambda: CascadeModel((FIVE,)),
         f"{FIVE!r} in CascadeModel.stages is not a Stage. Use Stage(name, model)."),
        (lambda: CascadeModel([Stage(name, FIVE) for name in "bacab"]),
         "Several stages are named a, b. Give each a name of its own."),
        (lambda: CascadeModel((Stage("five", FIVE, X_OF_Y),)),
         ("The last stage, 'five', has Stage.columns or Stage.exit_when, but no stage follows it. "
          "Remove them, or add a stage.")),
        (lambda: check(Stage("five", FIVE, (Column("z", "x"),), at_most(1, "score"))),
         ("Stage 'five': Stage.columns or Stage.exit_when names 'z', 'score', but the outputs of "
          "memory://length are y. Use one of these.")),
        (lambda: check(Stage("two", TWO_HEADS)),
         ("Stage 'two' has a signature with the name of a stage, last, so that their outputs would "
          "be mixed up. Rename that stage.")),
        *((lambda names=names: CascadeModel(nested(**names)).check(FORMAT_PROTO),
           (f"{taken} is the name of an output, and also <stage>/<output> of another stage. Rename "
            f"that stage."))
          for names, taken in (({"small": "cheap"}, "cheap/y"), ({"full": "rest"}, "rest/y"))),
    ],
)  # fmt: skip
def test_stages_that_make_no_cascade_are_refused(make, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        make()


def test_settings_of_each_stage_are_checked():
    for make, message in [
        (lambda: CascadeModel((Stage("a b", FIVE),)), "'a b' cannot be the name of a stage"),
        (lambda: CascadeModel((Stage("a", "/a"),)), "Stage 'a': The string '/a' is not a model"),
        (lambda: Stage("a", FIVE, exit_when=ExitWhen("y", 1)), "Stage 'a': Stage.exit_when must"),
        (lambda: Stage("a", FIVE, Column("y", "z")), "Stage 'a': Stage.columns must be"),
        (lambda: check(Stage("a", FIVE, X_OF_Y), FORMAT_PROTO), "Stage 'a': Stage.columns needs"),
    ]:
        with pytest.raises(SettingsError, match=f"^{re.escape(message)}"):
            make()
    # Where only an answer tells the outputs.
    assert check(Stage("a", Model(length), X_OF_Y, at_most(1)))[0].outputs == ()


def test_missing_model_of_a_stage_is_named(five, tmp_path):
    model = CascadeModel((Stage("five", five), Stage("ten", SavedModel(f"{tmp_path}/none"))))
    for call in (model.check, model.load):
        with pytest.raises(ModelError, match=r"^Stage 'ten': There is no folder /"):
            call(FORMAT_TF_EXAMPLE)


def test_uri_input_name_and_versions_are_those_of_the_stages(five):
    server = Model(length, versions={"7", "8"})
    model = CascadeModel((Stage("small", server), Stage("five", five)))
    assert model.uri == f"memory://length > {five.path}"
    predictor = model.load(FORMAT_TF_EXAMPLE)
    assert predictor.input_name == "records"
    assert predictor.predict([example(x=1.0)]).versions == {"small/7", "small/8"}


def test_fingerprint_covers_everything_that_makes_the_stages():
    a, b = Model(length, fingerprint="aa"), Model(length, fingerprint="bb")

    def fingerprint(first, *others, columns=(), exit_when=()):
        first = Stage(*first, columns, exit_when)
        return CascadeModel((first, *(Stage(*other) for other in others))).fingerprint()

    small, full = ("small", a), ("full", b)
    found = [
        fingerprint(small, full),
        fingerprint(full, small),
        fingerprint(("small", b), ("full", a)),
        fingerprint(small),
        fingerprint(small, full, columns=X_OF_Y),
        fingerprint(small, full, exit_when=at_most(1)),
        fingerprint(small, full, exit_when=at_most(2)),
    ]
    assert len(set(found)) == len(found)
    assert fingerprint(small, full) == found[0]
    assert fingerprint(small, ("full", Model(length, fingerprint=""))) == ""


def test_rows_of_a_table_become_records_only_where_a_column_is_appended():
    double = PythonModel(lambda path: lambda features: {"y": features["x"] * 2})
    rows = Rows(pa.table({"x": [0.1, 5.0, 7.0], "never": [b"read"] * 3}))

    def stages(columns=()):
        return (Stage("a", double, columns, at_most(1)), Stage("b", double))

    outputs = predict(stages(), rows, FORMAT_TF_EXAMPLE).outputs
    assert outputs["y"].tolist() == [0.2, 10.0, 14.0]  # in the precision of the table
    assert np.ma.asarray(outputs["b/y"]).tolist() == [None, 10.0, 14.0]
    assert rows._examples is None

    outputs = predict(stages(X_OF_Y), rows[1:], FORMAT_TF_EXAMPLE).outputs
    assert outputs["b/y"].tolist() == [20.0, 28.0]
