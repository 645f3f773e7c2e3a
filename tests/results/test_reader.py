from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._gate import UNASKED
from bulk_inferencer._signatures import CLASSIFY, PREDICT, REGRESS, Signature
from bulk_inferencer.errors import InputError
from bulk_inferencer.results.reader import read_prediction_logs, read_predictions
from bulk_inferencer.results.summary import BranchSummary, Counts, Summary
from tests.helpers import exactly, example, in_bucket

ONE = [Signature("serving_default", PREDICT)]
RECORDS = [example(x=1.0), example(x=2.0)]


def write_logs(folder, signatures, outputs, records=RECORDS, name="s-00000-of-00001.gz"):
    logs = PredictionLogEncoder(signatures, "examples").encode(records, outputs)
    data = tfrecord.gzip_member(tfrecord.frame(logs))
    (folder / f"prediction_logs-{name}").write_bytes(data)
    return str(folder)


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.5, np.nan], np.float32),
        np.array([[1.5], [-np.inf]], np.float64),
        np.array([[1, 2], [3, 4]], np.float16),
        np.array([[1, 2], [3, 4]], ml_dtypes.bfloat16),
        np.array([1, 2], ml_dtypes.bfloat16),
        np.array([[[1, 2]], [[3, -4]]], np.int64),
        np.array([1, 2], np.uint64),
        np.array([True, False]),
        np.array([b"text", b"\xff\0"], object),
        np.array([[b"a", b"", b"b"], [b"c", b"d", b"e"]], object),
        np.empty((2, 0), np.float32),
        np.empty((2, 3, 0), object),
        np.array([1 + 2j, 3], np.complex64),
    ],
    ids=lambda values: f"{values.dtype}{values.shape}",
)
def test_outputs_come_back_in_the_shape_of_the_record(tmp_path, values):
    found = list(read_predictions(write_logs(tmp_path, ONE, {"y": values})))
    assert [prediction.record for prediction in found] == RECORDS
    for prediction, expected in zip(found, values, strict=True):
        output = prediction.outputs["y"]
        assert output.dtype == values.dtype
        assert output.shape == values.shape[1:]
        np.testing.assert_array_equal(output, np.asarray(expected, values.dtype))


CLASSES = np.array([[b"a", "ä".encode()]] * 2, object)
SCORES = np.array([[0.25, 0.75], [1, 0]], np.float32)
VALUES = np.array([[1.5], [2.5]], np.float32)


@pytest.mark.parametrize(
    ("signatures", "outputs"),
    [
        ([Signature("s", CLASSIFY)], {"classes": CLASSES, "scores": SCORES}),
        ([Signature("s", REGRESS)], {"outputs": VALUES}),
        (
            [Signature("a", CLASSIFY), Signature("b", REGRESS)],
            {"a/classes": CLASSES, "a/scores": SCORES, "b/outputs": VALUES},
        ),
    ],
    ids=["classify", "regress", "multi-inference"],
)
def test_classifications_come_back_as_vectors_and_regressions_as_scalars(
    tmp_path, signatures, outputs
):
    _, second = read_predictions(write_logs(tmp_path, signatures, outputs))
    assert second.record == RECORDS[1]
    expected = {name: values[1].squeeze() for name, values in outputs.items()}
    assert {n: (v.dtype, v.tolist()) for n, v in second.outputs.items()} == {
        n: (v.dtype, v.tolist()) for n, v in expected.items()
    }


def test_shards_and_splits_are_read_in_the_order_of_their_names(tmp_path):
    for name, record in [
        ("b-00000-of-00001.gz", b"3"),
        ("a-00001-of-00002.gz", b"2"),
        ("a-late-00000-of-00001.gz", b"late"),
        ("a[1]-00000-of-00001", b"brackets"),
    ]:
        write_logs(tmp_path, ONE, {"y": np.ones(1)}, [record], name)
    uri = write_logs(tmp_path, ONE, {"y": np.ones(1)}, [b"1"], "a-00000-of-00002.gz")

    def records(split=None, uri=uri):
        return [prediction.record for prediction in read_predictions(uri, split)]

    assert records() == [b"1", b"2", b"late", b"brackets", b"3"]
    assert records("a") == [b"1", b"2"]
    assert records("a[1]") == [b"brackets"]
    assert records("a", in_bucket(uri)) == [b"1", b"2"]
    protos = [log.predict_log.request.inputs["examples"] for log in read_prediction_logs(uri, "a")]
    assert [proto.string_val[0] for proto in protos] == records("a")


@pytest.mark.parametrize(("split", "which"), [(None, ""), ("t", " of split 't'")])
def test_folder_without_predictions_is_an_error(tmp_path, split, which):
    if split:
        write_logs(tmp_path, ONE, {"y": np.ones(2)})
    message = (
        f"There are no predictions{which} in {tmp_path}. Check the folder and the split. A model "
        f"that was not blessed leaves no predictions; its summary.json says so."
    )
    with pytest.raises(InputError, match=exactly(message)):
        list(read_predictions(str(tmp_path), split))


def test_folder_that_is_nearly_right_is_answered_with_the_right_one(tmp_path):
    tmp_path = tmp_path / "inference_result"
    tmp_path.mkdir()
    write_logs(tmp_path, ONE, {"y": np.ones(2)})
    for folder, hint in (
        (tmp_path / "none", "There is no such folder."),
        (tmp_path.parent, f"They are in {tmp_path}."),
    ):
        message = f"There are no predictions in {folder}. {hint}"
        with pytest.raises(InputError, match=exactly(message)):
            read_predictions(folder)


# Whether results are complete

LOSS = (
    "The results are not complete. If the run did not end, run again. If files were lost, restore "
    "them or run into another folder. To read what is there, set allow_partial."
)


def write_shards(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_logs(folder, ONE, {"y": np.ones(1)}, [name.encode()], name)


MISSING = f"of 3 shards of split 's' are missing from {{}}, such as {{}}. {LOSS}"
TWO_RUNS = (
    "The shards of split 's' in {} belong to several runs: their names say that there are 1 and 2 "
    "of them. Keep the files of one run."
)
TWICE = (
    "{} has 2 files for 1 shards of split 's', some of them twice, with different endings. Keep "
    "one of each."
)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["s-00000-of-00003.gz", "s-00002-of-00003.gz"], "1 " + MISSING.format("{}", 1)),
        (["s-00001-of-00003", "t-00000-of-00001"], "2 " + MISSING.format("{}", "0, 2")),
        (["s-00000-of-00001.gz", "s-00000-of-00002.gz", "s-00001-of-00002.gz"], TWO_RUNS),
        (["s-00000-of-00001.gz", "s-00000-of-00001"], TWICE),
    ],
    ids=["one is missing", "some are missing", "two runs", "twice"],
)
def test_shards_that_are_not_complete_are_read_only_where_that_is_asked_for(
    tmp_path, names, message
):
    write_shards(tmp_path, *names)
    with pytest.raises(InputError, match=exactly(message.format(tmp_path))):
        read_predictions(tmp_path)
    found = {
        prediction.record.decode() for prediction in read_predictions(tmp_path, allow_partial=True)
    }
    assert found == set(names)


def test_results_of_a_run_that_has_not_ended_are_not_read(tmp_path):
    write_shards(tmp_path, "s-00000-of-00001.gz")
    (tmp_path / ".work").mkdir()
    assert len(list(read_predictions(tmp_path))) == 1
    (tmp_path / ".work/claim-000001.json").touch()
    message = f"A run that writes to {tmp_path} has not ended. {LOSS}"
    with pytest.raises(InputError, match=exactly(message)):
        read_predictions(tmp_path)
    assert len(list(read_predictions(tmp_path, allow_partial=True))) == 1


@pytest.mark.parametrize(
    ("folder", "beside"),
    [("inference_result", "summary"), ("inference_result/7", "summary/7"), ("five", "summary")],
    ids=["plain", "TFX", "several models"],
)
def test_summary_that_lies_beside_or_is_given_says_what_must_be_there(tmp_path, folder, beside):
    folder, beside = tmp_path / folder, tmp_path / beside
    beside.mkdir(parents=True)
    write_shards(folder, "s-00000-of-00001.gz", "t-00000-of-00001.gz")
    size = (folder / "prediction_logs-s-00000-of-00001.gz").stat().st_size
    splits = {"s": Counts(1, 1, 0, 1, size), "t": Counts(1, 1, 0, 1, size)}
    summary = BranchSummary(splits, UNASKED, "model")
    names = ["five", "ten"] if folder.name == "five" else ["inference_result"]
    Summary(dict.fromkeys(names, summary)).write(str(beside))
    assert len(list(read_predictions(folder))) == 2
    shard = folder / "prediction_logs-t-00000-of-00001.gz"
    shard.write_bytes(b"")
    message = (
        f"The summary says that {folder} holds 1 shards of split 't' with {size} bytes, but there "
        f"are 1 with 0 bytes. {LOSS}"
    )
    with pytest.raises(InputError, match=exactly(message)):
        read_predictions(folder)
    assert len(list(read_predictions(folder, "s"))) == 1
    shard.unlink()
    with pytest.raises(InputError, match=" but there are 0 with 0 bytes"):
        read_predictions(folder)
    moved = beside.rename(tmp_path / "moved")
    assert len(list(read_predictions(folder))) == 1
    with pytest.raises(InputError, match=" but there are 0 with 0 bytes"):
        read_predictions(folder, summary=moved)
    with pytest.raises(
        InputError, match=exactly(f"There is no summary.json in {beside}. Correct the folder.")
    ):
        read_predictions(folder, summary=beside)
