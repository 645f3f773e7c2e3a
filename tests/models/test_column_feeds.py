"""What signatures take of rows is compared with what they take of the same rows as tf.Examples."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulk_inferencer._formats import first_records
from bulk_inferencer._formats.columns import column_view
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._formats.rows import Rows
from bulk_inferencer._models.column_feeds import about_other_type
from bulk_inferencer._models.feeds import Feeds
from bulk_inferencer._models.predictor import RecordError
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.scorer import Failed, Scorer
from bulk_inferencer.errors import InputError, ModelError
from tests.formats.tables import columns
from tests.helpers import exactly, save_functions
from tests.models.definitions import RECORDS, definition

FLOAT = tf.TensorSpec([None], tf.float32)
STRING = tf.TensorSpec([None], tf.string)


def fed(inputs, batch, defaults=()):
    """Returns the tensors that the only signature takes of a table, as arrays by input."""
    ((call,),) = Feeds({"s": definition(inputs, defaults=defaults)})(Rows(batch))
    return {name: tensor.numpy() for name, tensor in call.inputs.items()}


# The same answers as from tf.Examples

INPUTS = {
    "x": tf.TensorSpec([None, 2], tf.float32),
    "n": tf.TensorSpec([None], tf.int16),
    "d": tf.TensorSpec([None, 1], tf.float64),
    "b": tf.TensorSpec([None], tf.bool),
    "t": STRING,
    "words": tf.RaggedTensorSpec([None, None], tf.string),
    "sparse": tf.SparseTensorSpec([None, None], tf.float32),
}
NUMBERS = [pa.float32(), pa.float16(), pa.int8(), pa.int64(), pa.uint16(), pa.bool_(), pa.null()]
KINDS = {
    "x": NUMBERS,
    "n": [pa.int8(), pa.int16(), pa.int32(), pa.uint64(), pa.bool_(), pa.float32()],
    "d": [*NUMBERS, pa.string()],
    "b": [pa.bool_(), pa.int32()],
    "t": [pa.string(), pa.large_string(), pa.binary(), pa.binary(3)],
    "words": [pa.string(), pa.large_binary(), pa.null()],
    "sparse": [pa.float32(), pa.int32()],
}


GOOD = {
    "x": [[0.5, 1.5]],
    "n": [3],
    "d": [0.25],
    "b": [True],
    "t": ["ä"],
    "words": [["a", "b"]],
    "sparse": [[1.0, 0.0, 2.0]],
}


@st.composite
def tables(draw):
    """Returns tables whose rows fit but for one column."""
    count = draw(st.integers(1, 5))
    made = {name: pa.array(value * count) for name, value in GOOD.items()}
    for name in draw(st.lists(st.sampled_from([*KINDS]), max_size=1)):
        made[name] = draw(columns(draw(st.sampled_from(KINDS[name])), count, gaps=False))
    made.pop(draw(st.sampled_from([*KINDS, *[None] * 20])), None)
    return pa.table({**made, "other": pa.nulls(count, pa.date32())})


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    def echo(x, n, d, b, t, words, sparse):
        return {
            "x": x,
            "n": n,
            "d": d,
            "b": b,
            "t": t,
            "words": tf.strings.reduce_join(words, 1, separator="|"),
            "sparse": tf.ensure_shape(tf.sparse.reduce_sum(sparse, 1), [None]),
        }

    path = save_functions(tmp_path_factory.mktemp("m"), serving_default=(echo, INPUTS))
    return Scorer(SavedModel(path).load(FORMAT_TF_EXAMPLE))


def answers(scorer, batch):
    """Returns what the model answers for each record, by output; None if it fails."""
    found = []
    for result in scorer.score(batch):
        if isinstance(result, Failed):
            found.append(None)
            continue
        outputs = result.prediction.outputs
        rows = range(result.stop - result.start)
        lists = {name: values.tolist() for name, values in outputs.items()}
        found += [{name: values[i] for name, values in lists.items()} for i in rows]
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables())
def test_rows_are_answered_as_their_examples_are(scorer, table):
    rows = Rows(table)
    np.testing.assert_equal(answers(scorer, rows), answers(scorer, rows.examples()))


# What only columns can do


def test_tensors_never_go_through_examples(monkeypatch):
    monkeypatch.setattr("bulk_inferencer._formats.rows.examples_of", None)
    table = pa.table({"x": [0.5, 1.5], "other": [{"a": 1}, {"a": 2}]})
    assert fed({"x": FLOAT}, table)["x"].tolist() == [0.5, 1.5]


def test_floats_of_64_bits_keep_their_precision():
    found = fed({"x": tf.TensorSpec([None], tf.float64)}, pa.table({"x": [0.1, 1e300]}))
    assert found["x"].tolist() == [0.1, 1e300]


def test_unsigned_integers_of_64_bits_keep_their_size():
    largest = pa.table({"x": pa.array([2**64 - 1], pa.uint64())})
    assert fed({"x": tf.TensorSpec([None], tf.uint64)}, largest)["x"].tolist() == [2**64 - 1]
    with pytest.raises(RecordError, match=exactly(
        f"OverflowError: input 'x' takes int64, got {2**64 - 1}"
    )):  # fmt: skip
        fed({"x": tf.TensorSpec([None], tf.int64)}, largest)


def test_times_are_microseconds():
    noon = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc)
    table = pa.table({"t": pa.array([noon], pa.timestamp("ms", "Asia/Tokyo"))})
    found = fed({"t": tf.TensorSpec([None], tf.int64)}, table)
    assert found["t"].tolist() == [1_709_208_000_000_000]


def test_columns_become_a_matrix():
    view = column_view({"x": ["b", "a"]})
    rows = Rows(pa.table({"a": [1.0, 2.0], "b": [3, 4]}), view)
    ((call,),) = Feeds({"s": definition({"x": tf.TensorSpec([None, 2], tf.float32)})})(rows)
    assert call.inputs["x"].numpy().tolist() == [[3, 1], [4, 2]]


@pytest.mark.parametrize("shape", [[None], [None, 1]])
def test_null_is_the_default_of_the_input_if_it_has_one(shape):
    defaults = {"x": [7.0]}
    table = pa.table({"x": pa.array([1, None, 3])})
    found = fed({"x": tf.TensorSpec(shape, tf.float32)}, table, defaults)
    assert found["x"].ravel().tolist() == [1, 7, 3]
    found = fed({"x": tf.TensorSpec(shape, tf.float32)}, pa.table({"y": [1, 2]}), defaults)
    assert found["x"].ravel().tolist() == [7, 7]
    text = pa.table({"x": pa.array(["a", None])})
    assert fed({"x": STRING}, text, {"x": [b"?"]})["x"].tolist() == [b"a", b"?"]


PAIR = tf.TensorSpec([None, 2], tf.float32)
NO_VALUE = "ValueError: input 'x' has no value, and the model no default"


@pytest.mark.parametrize(
    ("spec", "column", "reason"),
    [
        (FLOAT, pa.array([1.0, None]), NO_VALUE),
        (FLOAT, pa.nulls(2), NO_VALUE),
        (FLOAT, pa.array([[1.0], [2.0, 3.0]]), "ValueError: input 'x' takes 1 value, got 2"),
        (PAIR, pa.array([[1.0, 2.0], [3.0]]), "ValueError: input 'x' takes 2 values, got 1"),
        (PAIR, pa.array([[1.0, None]]), "ValueError: input 'x' has a list with a null inside"),
        (STRING, pa.array([1, 2]), "TypeError: input 'x' takes string, but its column holds int64"),
        (tf.TensorSpec([None], tf.int64), pa.array([1.0]),
         "TypeError: input 'x' takes int64, but its column holds double"),
    ],
)  # fmt: skip
def test_row_that_does_not_fit_is_told_why(spec, column, reason):
    with pytest.raises(RecordError, match=exactly(reason)):
        fed({"x": spec, **RECORDS}, pa.table({"x": column, "records": ["r"] * len(column)}))


def test_record_does_not_lose_a_part_of_a_list():
    feeds = Feeds({"s": definition({"examples": STRING})})
    rows = Rows(pa.table({"words": [["a", "b"], ["c", None]]}))
    ((call,),) = feeds(rows[:1])
    assert call.inputs["examples"].numpy().tolist() == rows.examples()[:1]
    message = "ValueError: column 'words' has a list with a null inside"
    with pytest.raises(RecordError, match=exactly(message)):
        feeds(rows)


# What is wrong with every row is said before the run


def of_table(**columns):
    return first_records.of_batch(Rows(pa.table(columns)))


OTHER = "Name another column for it with rename= or columns=, "
WRONG = f"{OTHER}or cast the column in the files."


def typed(kind):
    return (
        f"{OTHER}cast the column in the files, or give its type in input_format where they are "
        f"text, as in CSV(types={{'x': '{kind}'}})."
    )


@pytest.mark.parametrize(
    ("spec", "column", "found", "advice"),
    [
        (FLOAT, pa.array(["1"]), "holds string", typed("float32")),
        (STRING, pa.array([1.5]), "holds double", typed("text")),
        (tf.TensorSpec([None], tf.int32), pa.array([1.5]), "holds double", typed("int64")),
        (PAIR, pa.array([1.5]), "holds double",
         "Several columns become one input with columns={'x': ['a', 'b', ...]}."),
        (PAIR, pa.array([[1, 2, 3]], pa.list_(pa.int64(), 3)),
         "holds fixed_size_list<item: int64>[3]", WRONG),
    ],
)  # fmt: skip
def test_column_that_no_row_of_fits_is_named_with_both_types(spec, column, found, advice):
    feeds = Feeds({"s": definition({"x": spec, "y": FLOAT})})
    message = f"The model takes {feeds._plans[0].inputs['x']} for its input 'x', but the column "
    with pytest.raises(ModelError, match=exactly(f"{message}'x' {found}. {advice}")):
        feeds.check_features(of_table(x=column, y=[1.0]), "The model")


def test_columns_that_rows_may_fit_pass():
    inputs = {"x": FLOAT, "pair": PAIR, "words": tf.TensorSpec([None, 3], tf.string)}
    own = {"x": [1], "pair": pa.array([[1.0]]), "words": pa.nulls(1)}
    Feeds({"s": definition(inputs)}).check_features(of_table(**own), "The model")


def test_column_that_no_record_can_hold_is_refused_if_the_model_takes_records():
    first = of_table(s=[{"a": 1}], x=[1.0])
    Feeds({"s": definition({"x": FLOAT})}).check_features(first, "The model")
    with pytest.raises(InputError, match=r"^Column 's' holds struct<a: int64>"):
        Feeds({"s": definition({"examples": STRING})}).check_features(first, "The model")


def test_missing_columns_are_named_with_those_that_may_be_meant():
    feeds = Feeds({"s": definition({"x": FLOAT, "y": FLOAT})})
    message = (
        "The model wants the columns x, y, but the inputs have the columns X, id, y. There is no "
        "x. Perhaps x is X. Say which column it is, for example with rename={'X': 'x'}."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        feeds.check_features(of_table(X=[1.0], id=["a"], y=[1.0]), "The model")
    feeds = Feeds({"s": definition({"x": tf.TensorSpec([None, 3], tf.float32)})})
    message = (
        "The model wants the column x, but the inputs have the columns id, a, b, c. 'x' takes 3 "
        "values: say which columns these are, with columns={'x': ['a', 'b', ...]}."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        feeds.check_features(of_table(id=[7], a=[1.0], b=[1.0], c=[1.0]), "The model")


def test_text_column_that_may_be_meant_is_not_replaced_by_whole_rows():
    message = (
        "The model takes text for its input 'sentence', but no column has that name; there are id, "
        "review. If it wants a column, say which, for example with rename={'review': 'sentence'}. "
        "If it parses tf.Examples, set takes_records=True, and it gets each row as one."
    )
    feeds = Feeds({"s": definition({"sentence": STRING})})
    first = of_table(id=[1], review=["good"])
    with pytest.raises(ModelError, match=exactly(message)):
        feeds.fitted(None, first, "The model")
    told = Feeds({"s": definition({"sentence": STRING})}, takes_records=True)
    told.fitted(None, first, "The model")
    with pytest.raises(RecordError, match=exactly(f"ModelError: {message}")):
        feeds(Rows(pa.table({"id": [1], "review": ["good"]})))  # Other rows may have the column.
    rows = Rows(pa.table({"id": [1]}))
    ((call,),) = feeds(rows)  # which can only mean the rows
    assert call.inputs["sentence"].numpy().tolist() == rows.examples()


def parsing(dtype, path):
    def parsed(examples):
        features = {
            "x": tf.io.FixedLenFeature([], dtype),
            "w": tf.io.FixedLenFeature([2], dtype),
            "n": tf.io.FixedLenFeature([], tf.int64),
        }
        found = tf.io.parse_example(examples, features)
        return {"y": 2 * found["x"] + tf.reduce_sum(found["w"], 1) + tf.cast(found["n"], dtype)}

    inputs = {"examples": tf.TensorSpec([None], tf.string, name="examples")}
    return SavedModel(save_functions(path, serving_default=(parsed, inputs))).load(
        FORMAT_TF_EXAMPLE
    )


def test_whole_numbers_are_floats_for_a_model_that_parses_floats(tmp_path):
    predictor = parsing(tf.float32, tmp_path / "model")
    rows = Rows(pa.table({"x": [1, 2, None, 4], "w": [[1, 1]] * 3 + [[1]], "n": [1, 2, 3, 4]}))
    found = list(Scorer(predictor).score(rows))
    assert [(own.start, own.prediction.outputs["y"].tolist()) for own in found[:1]] == [(0, [5, 8])]
    assert [own.index for own in found[1:]] == [2, 3]
    # Those of records stay what somebody has made them.
    (failed,) = Scorer(parsing(tf.float32, tmp_path / "other")).score(rows[:1].examples())
    assert "Data types don't match" in failed.message


def test_row_that_a_model_parses_in_another_type_says_how_to_cast_its_column(tmp_path):
    predictor = parsing(tf.int64, tmp_path / "model")
    (failed,) = Scorer(predictor).score(Rows(pa.table({"x": [1.5], "w": [[1, 1]], "n": [1]})))
    assert failed.reason == (
        "InvalidArgumentError: Key: x, Index: 0.  Data types don't match. Data type: float but "
        "expected type: int64. Cast the column 'x' to int64 in the inputs, or give its type in "
        "input_format where they are text, as in CSV(types={'x': 'int64'})"
    )
    assert about_other_type("Key: x.  Can't parse serialized Example.") == ""
    cure = about_other_type(
        "Key: w.  Data types don't match. Expected type: string, Actual type: float"
    )
    assert "CSV(types={'w': 'text'})" in cure
