from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tfx.components.bulk_inferrer.prediction_to_example_utils import convert
from tfx.proto import bulk_inferrer_pb2

from bulk_inferencer._formats.example import (
    Column,
    append_columns,
    check_columns,
    feature_values,
    feature_values_of_batch,
)
from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.errors import ModelError, SettingsError
from tests.helpers import (
    FLOAT,
    context_of,
    exactly,
    example,
    features_of,
    parsed_log,
    sequence_example,
)

Y_AS_X = Column("y", "x")
VALUES = st.one_of(
    st.lists(st.binary(), max_size=3),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    st.lists(st.floats(width=32, allow_nan=False), max_size=3),
)


def append(records, replace_features=False, **outputs):
    """Appends each output as a column of its own name."""
    columns = [Column(name, name) for name in outputs]
    return append_columns(records, outputs, columns, replace_features)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([1.5, -2.5], np.float32), [[1.5], [-2.5]]),
        (np.array([0.1, -2.5], np.float64), [[np.float32(0.1)], [-2.5]]),
        (np.array([1.5, -2.5], np.float16), [[1.5], [-2.5]]),
        (np.array([1.5, -2.5], ml_dtypes.bfloat16), [[1.5], [-2.5]]),
        (np.array([7, -(2**63)], np.int64), [[7], [-(2**63)]]),
        (np.array([7, -7], np.int8), [[7], [-7]]),
        (np.array([7, 2**63 - 1], np.uint64), [[7], [2**63 - 1]]),
        (np.array([True, False]), [[1], [0]]),
        (np.array([b"text", b"\xff\0"], object), [[b"text"], [b"\xff\0"]]),
        (np.array([[1, 2, 3], [4, 5, 6]]), [[1, 2, 3], [4, 5, 6]]),
        (np.array([[b"a", b"b"], [b"c", b"d"]], object), [[b"a", b"b"], [b"c", b"d"]]),
        (np.arange(8).reshape(2, 2, 2), [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (np.empty((2, 0), np.float32), [[], []]),
        (np.empty((2, 0), object), [[], []]),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else "",
)
def test_output_becomes_a_feature_flattened_in_row_order(values, expected):
    records = append([example(), example()], y=values)
    assert [features_of(record)["y"] for record in records] == expected


def test_columns_get_their_own_names():
    columns = [Column("a", "first"), Column("b", "second"), Column("a", "third")]
    outputs = {"a": np.array([1]), "b": np.array([b"text"], object)}
    (record,) = append_columns([example(x=1.0)], outputs, columns, replace_features=False)
    expected = {"x": [1.0], "first": [1], "second": [b"text"], "third": [1]}
    assert features_of(record) == expected


@settings(max_examples=50)
@given(st.data())
def test_features_and_columns_are_kept_whatever_they_hold(data):
    features = data.draw(st.dictionaries(st.text(max_size=20), VALUES, max_size=5))
    outputs = {
        "number ü": data.draw(hnp.arrays("float32", (1, 3), elements={"allow_nan": False})),
        "text": data.draw(hnp.arrays(object, (1, 2), elements=st.binary())),
        "count": data.draw(hnp.arrays("int64", 1)),
    }
    features = {name: value for name, value in features.items() if name not in outputs}
    (record,) = append([example(**features)], **outputs)
    expected = {name: value.flatten().tolist() for name, value in outputs.items()}
    assert features_of(record) == {**features, **expected}


@pytest.mark.parametrize("record", [example(x=1.0) + b"\xfa\x01\x04text", b"\n\x01y\xff"])
def test_record_is_kept_byte_by_byte_before_its_columns_even_if_it_is_no_example(record):
    (longer,) = append([record], y=np.array([5.0]))
    assert longer.startswith(record)
    assert len(longer) > len(record)


def test_sequence_example_gets_columns_in_its_context():
    record = sequence_example(user="u1")
    (longer,) = append([record], y=np.array([5.0]), label=np.array([b"big"], object))
    assert context_of(longer) == {"user": [b"u1"], "y": [5.0], "label": [b"big"]}
    before, after = map(tf.train.SequenceExample.FromString, (record, longer))
    assert before.feature_lists == after.feature_lists


def test_tensorflow_parses_features_and_columns():
    records = append([example(x=1.0), example(x=2.0)], y=np.array([5.0, 10.0]))
    parsed = tf.io.parse_example(records, {"x": FLOAT, "y": FLOAT})
    assert (parsed["x"].numpy().tolist(), parsed["y"].numpy().tolist()) == ([1, 2], [5, 10])
    (record,) = append([sequence_example(user=3.0)], y=np.array([5.0]))
    steps = {"steps": tf.io.FixedLenSequenceFeature([], tf.int64)}
    context, steps = tf.io.parse_single_sequence_example(record, {"user": FLOAT, "y": FLOAT}, steps)
    assert (context["user"], context["y"]) == (3.0, 5.0)
    assert steps["steps"].numpy().tolist() == [1, 2, 3]


def test_records_are_left_as_they_are_without_columns():
    records = [b"", b"\xff\0", b"no tf.Example"]
    copied = append_columns(records, {"y": np.ones(3, np.complex64)}, [], replace_features=False)
    assert copied == records
    assert copied is not records


@pytest.mark.parametrize("make", [example, sequence_example])
def test_feature_of_the_same_name_is_an_error(make):
    message = (
        "Output 'y' cannot become column 'y': the record already has a feature 'y'. Choose another "
        "name, or set replace_features."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        append([make(x=1.0), make(x=1.0, y=2.0)], y=np.array([5.0, 5.0]))


def test_feature_of_the_same_name_is_replaced_on_request():
    (record,) = append([example(x=1.0, y=b"text")], replace_features=True, y=np.array([5.0]))
    assert features_of(record) == {"x": [1.0], "y": [5.0]}
    assert tf.io.parse_single_example(record, {"y": FLOAT})["y"] == 5
    assert feature_values(record, "y") == [5.0]


def test_value_that_looks_like_a_feature_of_the_same_name_is_no_error():
    key = b"\n\x01y"
    (record,) = append([example(x=key)], y=np.array([5.0]))
    assert features_of(record) == {"x": [key], "y": [5.0]}


def test_record_gains_the_columns_of_the_outputs_that_it_has():
    y = np.ma.array([[1, 2], [3, 4], [5, 6]], mask=[[False] * 2, [True] * 2, [False] * 2])
    text = np.ma.masked_all(3, object)
    text[1] = b"text"
    longer = append([example()] * 3, y=y, text=text, z=np.arange(3))
    assert list(map(features_of, longer)) == [
        {"y": [1, 2], "z": [0]}, {"text": [b"text"], "z": [1]}, {"y": [5, 6], "z": [2]}
    ]  # fmt: skip


def test_record_without_any_of_the_outputs_is_left_as_it_is():
    records = [example(x=1.0), b"no tf.Example", b""]
    longer = append(records, y=np.ma.array([1, 2, 3], mask=[False, True, True]))
    assert features_of(longer[0])["y"] == [1]
    assert longer[1:] == records[1:]
    # Then its dtype means nothing.
    assert append(records, y=np.ma.masked_all((3, 3), np.complex64)) == records


@pytest.mark.parametrize(
    ("output", "values", "message"),
    [
        ("z", np.ones(1),
         ("Column 'score' needs the output 'z', but the model returned a, y. Name one of these "
          "outputs.")),
        ("y", np.ones(1, np.complex64),
         ("Output 'y' of dtype complex64 cannot become the feature 'score': tf.Example holds "
          "integers, floats and bytes. Cast it in the serving signature.")),
        ("y", np.array([2**63], np.uint64),
         (f"Output 'y' holds {2**63}, which is too large for the int64 feature 'score'. Cast it in "
          f"the serving signature.")),
    ],
    ids=["missing", "dtype", "too large"],
)  # fmt: skip
def test_output_that_cannot_become_a_column_is_named(output, values, message):
    outputs = {"y": values, "a": np.ones(1)}
    with pytest.raises(ModelError, match=exactly(message)):
        append_columns([b""], outputs, [Column(output, "score")], replace_features=False)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Y_AS_X, f"O.columns must be a tuple of Column, not {Y_AS_X}. Write ({Y_AS_X},)."),
        (["y"], "O.columns must be a tuple of Column, not ['y']. Write (Column(...),)."),
        ([Y_AS_X, Column("", "z")],
         "Column(output='', name='z') in O.columns needs both an output and a name."),
        ([Y_AS_X, Column("z", "")],
         "Column(output='z', name='') in O.columns needs both an output and a name."),
        ([Y_AS_X, Column("z", "w"), Y_AS_X],
         "Several columns in O.columns are named x. Rename all but one."),
    ],
)  # fmt: skip
def test_each_column_has_an_output_and_a_name_of_its_own(columns, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        check_columns("O.columns", columns)
    check_columns("O.columns", [Y_AS_X, Column("y", "z")])


@pytest.mark.parametrize("make", [example, sequence_example])
@pytest.mark.parametrize("values", [[b"a", b"\xff\0"], [1, -(2**63)], [0.5], [b""]], ids=repr)
def test_values_of_a_feature_are_read(make, values):
    assert feature_values(make(k=values, other=1.0), "k") == values


def test_feature_that_is_not_there_has_no_values():
    kindless = tf.train.Example()
    kindless.features.feature["k"].SetInParent()
    for record in (example(x=1.0), example(k=[]), b"", kindless.SerializeToString()):
        assert feature_values(record, "k") == []
    assert feature_values(sequence_example(user="u1"), "steps") == []
    with pytest.raises(DecodeError):  # no tf.Example at all
        feature_values(b"\xff", "k")


@settings(max_examples=50)
@given(st.lists(st.fixed_dictionaries({}, optional={"k": VALUES, "other": VALUES}), max_size=5))
def test_values_of_a_batch_are_those_of_its_records(features):
    records = [example(**of_record) for of_record in features]
    one_by_one = [feature_values(record, "k") for record in records]
    assert feature_values_of_batch(records, "k") == one_by_one
    assert feature_values_of_batch(50 * records, "k") == 50 * one_by_one


def test_record_of_a_batch_that_is_no_example_has_no_values():
    records = [example(k=i) for i in range(200)]
    records[77] = b"\xff\xff"
    expected = [[i] if i != 77 else [] for i in range(200)]
    assert feature_values_of_batch(records, "k") == expected
    assert feature_values_of_batch(records[70:80], "k") == expected[70:80]


PREDICT = {"predict_output": {"output_columns": [
    {"output_key": output, "output_column": f"a_{output}"} for output in ("y", "scores", "classes")
]}}  # fmt: skip
CLASSIFY = {"classify_output": {"label_column": "c", "score_column": "s"}}
REGRESS = {"regress_output": {"value_column": "v"}}


@pytest.mark.parametrize(
    ("specs", "columns"),
    [
        ({"predict": PREDICT}, [("y", "a_y"), ("scores", "a_scores"), ("classes", "a_classes")]),
        ({"serving_default": CLASSIFY}, [("classes", "c"), ("scores", "s")]),
        ({"regress": REGRESS}, [("outputs", "v")]),
        ({"serving_default": CLASSIFY, "regress": REGRESS},
         [("serving_default/classes", "c"), ("serving_default/scores", "s"),
          ("regress/outputs", "v")]),
    ],
    ids=["predict", "classify", "regress", "multi-inference"],
)  # fmt: skip
def test_examples_equal_those_of_tfx(tf1_model, specs, columns):
    records = [example(x=x, other=["text"]) for x in (0.0, 1.0, 2.5)]
    predictor = SavedModel(tf1_model, tuple(specs)).load(FORMAT_TF_EXAMPLE)
    outputs = predictor.predict(records).outputs
    logs = PredictionLogEncoder(predictor.signatures, predictor.input_name).encode(records, outputs)
    columns = [Column(*names) for names in columns]
    ours = append_columns(records, outputs, columns, replace_features=False)
    columns_specs = [{"signature_name": name, **spec} for name, spec in specs.items()]
    spec = bulk_inferrer_pb2.OutputExampleSpec(output_columns_spec=columns_specs)
    theirs = [convert(parsed_log(log), spec) for log in logs]
    assert [tf.train.Example.FromString(record) for record in ours] == theirs
