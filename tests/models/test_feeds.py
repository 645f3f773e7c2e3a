from __future__ import annotations

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf

from bulk_inferencer._formats.first_records import FirstRecords
from bulk_inferencer._formats.record_format import (
    FORMAT_PROTO,
    FORMAT_TF_EXAMPLE,
    FORMAT_TF_SEQUENCE_EXAMPLE,
    RECORD_FORMATS,
)
from bulk_inferencer._models.feeds import Feeds, rows_of
from bulk_inferencer._models.predictor import RecordError
from bulk_inferencer.errors import ModelError
from tests.helpers import exactly, example, sequence_example
from tests.models.definitions import RECORDS, definition

ADVICE = "Export a signature with one string input of shape [None] that parses the records."
STRING = tf.TensorSpec([None], tf.string)
FLOAT = tf.TensorSpec([None], tf.float32)
TEXT = [example(text="a"), example(text="b")]


def fed(feeds, batch):
    """Returns what the calls of the only signature take, as lists by input."""
    (calls,) = feeds(batch)
    return [{name: t.numpy().tolist() for name, t in call.inputs.items()} for call in calls]


def first(*records):
    return FirstRecords(lambda: iter([list(records)]))


# What strings take


@pytest.mark.parametrize("record_format", RECORD_FORMATS)
@pytest.mark.parametrize("shape", [[None], None], ids=["vector", "unknown rank"])
def test_records_of_any_format_go_to_the_only_input_if_it_takes_strings(shape, record_format):
    spec = {"data": tf.TensorSpec(shape, tf.string)}
    feeds = Feeds({"s": definition(spec)}, record_format)
    batch = [b"", b"\0\0", b"\xff" * 300]
    assert fed(feeds, batch) == [{"data": batch}]
    assert feeds.input_name == "data"


@pytest.mark.parametrize("shape", [[None], None], ids=["vector", "unknown rank"])
@pytest.mark.parametrize("record_format", RECORD_FORMATS)
def test_only_input_takes_the_feature_of_its_name_if_the_records_have_it(shape, record_format):
    make = sequence_example if record_format == FORMAT_TF_SEQUENCE_EXAMPLE else example
    batch = [make(other=1.0, text="a"), make(text="b")]
    feeds = Feeds({"s": definition({"text": tf.TensorSpec(shape, tf.string)})}, record_format)
    is_feature = record_format != FORMAT_PROTO
    assert fed(feeds, batch) == [{"text": [b"a", b"b"] if is_feature else batch}]
    assert feeds.input_name == ("examples" if is_feature else "text")


USUAL_NAMES = (
    *("examples", "example", "input_example_tensor", "input_example_placeholder", "tf_examples"),
    *("serialized", "serialized_example", "serialized_examples", "serialized_tf_examples"),
    *("Serialized_Proto", "example_proto", "sequence_example"),
)


@pytest.mark.parametrize("name", USUAL_NAMES)
def test_usual_name_for_records_takes_them_even_if_it_is_a_feature(name):
    batch = [example(**{name: "a"})]
    assert fed(Feeds({"s": definition({name: STRING})}), batch) == [{name: batch}]


@pytest.mark.parametrize("method", ["classify", "regress"])
def test_signature_of_a_method_that_takes_examples_gets_them_under_any_name(method):
    feeds = Feeds({"s": definition({"inputs": STRING}, method=method)})
    assert fed(feeds, [example(inputs="a")]) == [{"inputs": [example(inputs="a")]}]


def test_setting_decides_against_names():
    def of(name, takes):
        return fed(Feeds({"s": definition({name: STRING})}, takes_records=takes), TEXT_AND_EXAMPLES)

    TEXT_AND_EXAMPLES = [example(text="a", examples="b")]
    for takes, text, examples in (
        (True, TEXT_AND_EXAMPLES, TEXT_AND_EXAMPLES),
        (False, [b"a"], [b"b"]),
        (("text",), TEXT_AND_EXAMPLES, [b"b"]),
    ):
        assert of("text", takes) == [{"text": text}]
        assert of("examples", takes) == [{"examples": examples}]


def test_records_may_go_to_one_of_several_inputs():
    inputs = {"examples": STRING, "text": STRING, "x": FLOAT}
    record = example(examples="e", text="t", x=2.0)
    for takes, examples, text in (
        (None, b"e", b"t"),
        (True, record, b"t"),
        (("text",), b"e", record),
    ):
        feeds = Feeds({"s": definition(inputs)}, takes_records=takes)
        assert fed(feeds, [record]) == [{"examples": [examples], "text": [text], "x": [2.0]}]
    message = (
        "takes_records names x, but signature 's' takes examples string[None], text string[None], "
        "x float32[None]. Only a vector of strings can take records."
    )
    with pytest.raises(ModelError, match=exactly(message)):
        Feeds({"s": definition(inputs)}, takes_records=("x", "another signature's"))


def test_first_records_decide_for_all_batches():
    inputs = {"a": {"text": STRING}, "b": {"data": STRING}, "c": {"examples": STRING}}
    feeds = Feeds({name: definition(own) for name, own in inputs.items()})
    assert (feeds.is_decided, feeds.takes_records) == (False, None)
    feeds.fit(first())  # none, which cannot tell
    assert not feeds.is_decided
    feeds.fit(first(b"bad", *TEXT))
    assert (feeds.is_decided, feeds.takes_records) == (True, ("data", "examples"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Feature: text"):
        feeds([example(other="a")])
    known = Feeds({"a": definition(inputs["a"])})
    known.fit(first().with_features(["text"], lambda records: records))
    assert known.takes_records == ()


def test_first_batch_decides_if_nothing_has_before_and_its_bad_records_do_not_mislead():
    feeds = Feeds({"s": definition({"text": STRING})})
    with pytest.raises(tf.errors.InvalidArgumentError, match="Feature: text"):
        feeds([example(other=1)] * 300 + TEXT)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda batch: fed(feeds, batch), [TEXT] * 8))
    assert found == [[{"text": [b"a", b"b"]}]] * 8


# Features


def test_features_are_parsed_once_for_all_signatures_that_take_them():
    inputs = {
        "scalar": FLOAT,
        "matrix": tf.TensorSpec([None, 2, 2], tf.float32),
        "text": tf.TensorSpec([None, 1], tf.string),
    }
    some = {name: inputs[name] for name in ("scalar", "text")}
    feeds = Feeds({"a": definition(inputs), "b": definition(), "c": definition(some)})
    record = example(scalar=1.5, matrix=[1.0, 2.0, 3.0, 4.0], text="ä", other=7)
    a, b, c = ({n: t.numpy()[0] for n, t in call.inputs.items()} for (call,) in feeds([record]))
    assert feeds.input_name == "examples"
    assert (a["scalar"], a["matrix"].tolist()) == (1.5, [[1, 2], [3, 4]])
    assert b == {"records": record}
    assert c == {"scalar": 1.5, "text": ["ä".encode()]}


def test_features_are_cast_to_the_dtype_of_the_input():
    floats = ("float16", "bfloat16", "float32", "float64")
    integers = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
    feeds = Feeds({"s": definition({n: tf.TensorSpec([None], n) for n in (*floats, *integers)})})
    record = example(**dict.fromkeys(floats, 1.0), **dict.fromkeys(integers, 1))
    ((call,),) = feeds([record])
    assert {n: t.dtype.name for n, t in call.inputs.items()} == {n: n for n in (*floats, *integers)}
    assert {float(tensor[0]) for tensor in call.inputs.values()} == {1.0}


def test_whole_numbers_are_cast_for_inputs_of_floats():
    inputs = {"x": tf.TensorSpec([None, 2], tf.float32), "y": tf.TensorSpec([None], tf.float64)}
    feeds = Feeds({"s": definition(inputs)})
    whole, mixed = example(x=[1, 2], y=2**53 + 2), example(x=[4, 5], y=0.5)
    floats = example(x=[0.5, 0.25], y=0.75)
    for batch in ([whole, whole], [floats], [whole, mixed, floats, whole], [floats, whole]):
        values = {
            whole: ([1.0, 2.0], 2.0**53 + 2),
            mixed: ([4.0, 5.0], 0.5),
            floats: ([0.5, 0.25], 0.75),
        }
        x, y = zip(*(values[record] for record in batch), strict=True)
        assert fed(feeds, batch) == [{"x": list(x), "y": list(y)}]
    for bad, reason in ((example(x=[1, 2]), "Feature: y"), (example(x=["a", "b"], y=1), "string")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
            feeds([whole, bad, floats])


def test_records_of_whole_numbers_are_not_looked_at_one_by_one(monkeypatch):
    feeds = Feeds({"s": definition({"x": FLOAT})})
    feeds([example(x=1)])
    monkeypatch.setattr("bulk_inferencer._models.example_feeds.whole_features", None)
    assert fed(feeds, [example(x=1), example(x=2)]) == [{"x": [1.0, 2.0]}]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64"])
def test_integer_that_its_input_cannot_hold_is_refused(dtype):
    feeds = Feeds({"s": definition({"n": tf.TensorSpec([None, 2], dtype), **RECORDS})})
    lowest, highest = int(np.iinfo(dtype).min), min(int(np.iinfo(dtype).max), 2**63 - 1)
    batch = [example(n=[lowest, highest], records="")]
    assert fed(feeds, batch) == [{"n": [[lowest, highest]], "records": [b""]}]
    for bad in [lowest - 1, highest + 1][: 1 if dtype == "uint64" else 2]:
        message = f"OverflowError: input 'n' takes {dtype}, got {bad}"
        with pytest.raises(RecordError, match=exactly(message)):
            feeds([example(n=[0, 1], records=""), example(n=[0, bad], records="")])


def test_input_that_the_model_has_a_default_for_may_be_left_out():
    inputs = {"x": FLOAT, "limit": tf.TensorSpec([2], tf.float32), "bias": FLOAT}
    own = definition(inputs, defaults={"limit": [1.0, 2.0], "bias": [7.0]})
    feeds = Feeds({"s": own})
    feeds.check_features(first(example(x=0.5)), "The model")
    batch = [example(x=0.5, limit=[3.0]), example(x=1.0, bias=8), example(x=2.0)]
    assert fed(feeds, batch) == [
        {"x": [0.5, 1.0, 2.0], "limit": [1.0, 2.0], "bias": [7.0, 8.0, 7.0]}
    ]


def test_features_that_no_record_has_are_named():
    heads = {"a": definition({"x": FLOAT}), "b": definition({"x": FLOAT, "z": FLOAT})}
    feeds = Feeds(heads)
    feeds.check_features(first(), "The model")  # no records, no comparison
    feeds.check_features(first(b"bad", example(x=1.0), example(z=1.0)), "The model")
    with pytest.raises(
        ModelError, match=r"^The model wants x, z, but the records have x, and no z"
    ):
        feeds.check_features(first(b"bad", example(x=1.0)), "The model")
    undecided = Feeds({"s": definition({"text": STRING})})
    undecided.check_features(first(example(x=1.0)), "The model")


# Batches of one size


@pytest.mark.parametrize(("size", "count"), [(1, 3), (2, 3), (3, 3), (4, 3), (32, 100)])
def test_calls_have_the_only_batch_size_that_a_signature_takes(size, count):
    inputs = {"x": tf.TensorSpec([size, 1], tf.float32), "text": STRING}
    batch = [example(x=float(i), text=str(i)) for i in range(count)]
    ((*calls,),) = Feeds({"s": definition(inputs)})(batch)
    assert {tuple(t.shape[0] for t in call.inputs.values()) for call in calls} == {(size, size)}
    assert {call.rows for call in calls} == {size}
    x = np.concatenate([call.inputs["x"] for call in calls])[:, 0].tolist()
    text = np.concatenate([call.inputs["text"] for call in calls]).tolist()
    padding = -count % size
    expected = [*range(count), *[count - 1] * padding]
    assert (x, text) == (expected, [str(i).encode() for i in expected])
    rows = [{"y": call.inputs["x"].numpy()} for call in calls]
    assert rows_of(rows, count)["y"][:, 0].tolist() == list(range(count))


def test_records_themselves_come_in_batches_of_one_size_too():
    calls = fed(Feeds({"s": definition({"examples": tf.TensorSpec([2], tf.string)})}), TEXT[:1])
    assert calls == [{"examples": TEXT[:1] * 2}]


# What cannot be fed


@pytest.mark.parametrize(
    ("inputs", "record_format", "message"),
    [
        ({"s": tf.TensorSpec(None, tf.string), "n": tf.TensorSpec([None, 3], tf.int64)},
         FORMAT_PROTO,
         ("Signature 'a' takes (n int64[None, 3], s string[...]), but nobody knows how to make "
          "that of whole files or FORMAT_PROTO records. Write a preprocess function that returns "
          "one serialized tf.Example for each of them, with a feature for each input. Or export a "
          "signature with one string input of shape [None], which gets the bytes.")),
        *(({"x": tf.TensorSpec(shape, dtype)}, FORMAT_TF_EXAMPLE,
           (f"Input 'x' of signature 'a' is {shown}. To take a feature or a column, it needs "
            f"a dtype that these can have, and a known shape after the batch dimension. Export it "
            f"with such a shape. Or e{ADVICE[1:]}"))
          for shape, dtype, shown in [
              ([None, None], tf.float32, "float32[None, None]"),
              ([], tf.float32, "float32[]"),
              (None, tf.float32, "float32[...]"),
              ([None, 2], tf.complex64, "complex64[None, 2]"),
          ]),
        ({"x": tf.TensorSpec([2], tf.float32), "y": tf.TensorSpec([3], tf.float32)},
         FORMAT_TF_EXAMPLE,
         ("The inputs of signature 'a' have different batch sizes: x float32[2], y float32[3]. "
          "Export it with one, or better with None.")),
    ],
)  # fmt: skip
def test_input_that_cannot_be_fed_is_named(inputs, record_format, message):
    with pytest.raises(ModelError, match=exactly(message)):
        Feeds({"a": definition(inputs)}, record_format)


def test_inputs_on_which_signatures_disagree_are_named():
    message = (
        r"^Signatures disagree on input 'x': it is FixedLenFeature\(.*float32.*\) in one, but "
        r"FixedLenFeature\(.*int64.*\) in 'b'\. Score them in separate runs\.$"
    )
    a, b = (definition({"x": tf.TensorSpec([None], dtype)}) for dtype in (tf.float32, tf.int64))
    with pytest.raises(ModelError, match=message):
        Feeds({"a": a, "b": b})
