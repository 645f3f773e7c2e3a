from __future__ import annotations

from bulk_inferencer._layout import NONE
from bulk_inferencer._units.sinks.prediction_logs import PredictionLogs
from bulk_inferencer.results.reader import read_predictions
from tests.helpers import Lengths, parsed_log, read_tfrecord, tree, write_tfrecord
from tests.units.helpers import score, score_records, unit_of


def test_prediction_logs_of_a_model_are_those_of_the_records_that_it_scored(tmp_path):
    manifest = score_records(tmp_path, {"a": Lengths()}, [b"1", b"bad", b"333"])
    (shard,) = manifest.sinks["prediction_logs/a"].shards
    assert shard.records == 2
    logs = [parsed_log(log).predict_log for log in read_tfrecord(shard.path)]
    assert [log.request.inputs["records"].string_val[0] for log in logs] == [b"1", b"333"]
    assert [log.response.outputs["length"].int64_val[0] for log in logs] == [1, 3]


def test_prediction_logs_may_leave_out_the_records(tmp_path):
    path = write_tfrecord(tmp_path / "in/1.gz", [b"a", b"bb"])
    sink = PredictionLogs("a", f"{tmp_path}/a", with_records=False)
    manifest = score(unit_of(path), {"a": Lengths()}, [sink])
    found = [(own.record, int(own.outputs["length"])) for own in read_predictions(f"{tmp_path}/a")]
    assert found == [(None, 1), (None, 2)]
    assert sink.predictions_written(manifest.sinks[sink.name]) == {"a": 2}


def test_prediction_logs_are_stored_as_they_are_where_compression_is_none(tmp_path):
    path = write_tfrecord(tmp_path / "in/1.gz", [b"a", b"bb"])
    manifest = score(unit_of(path), {"a": Lengths()}, [PredictionLogs("a", f"{tmp_path}/a", NONE)])
    assert tree(tmp_path / "a") == ["prediction_logs-s-00000-of-00001"]
    assert len(read_tfrecord(manifest.shards[0].path, compression="")) == 2
    assert [prediction.record for prediction in read_predictions(f"{tmp_path}/a")] == [b"a", b"bb"]
