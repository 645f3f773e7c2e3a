"""Models that raise, return nonsense or run out of memory: every record is accounted for."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import tensorflow as tf

from bulk_inferencer import FailureLimit, SavedModel, run
from bulk_inferencer._models.predictor import OutOfMemory, Prediction
from bulk_inferencer.errors import FailureLimitError, ModelError
from tests.faults import child
from tests.faults.account import ADDS_UP, ALL_OR_NOTHING, lost_and_doubled
from tests.faults.child import RECORDS, LengthModel, job_in, write_inputs
from tests.helpers import RECORDS as ANY_STRINGS
from tests.helpers import save_functions, tree


@dataclass(frozen=True)
class FaultyModel(LengthModel):
    """Raises for every tenth record, or returns something wrong."""

    fault: str = ""

    def predict(self, batch):
        outputs = LengthModel.predict(self, batch).outputs
        if self.fault == "raises":
            raise ValueError("it is broken")
        if self.fault == "raises for some" and any(record.endswith(b"7") for record in batch):
            raise ValueError("it ends in 7")
        if self.fault == "out of memory" and len(batch) > MOST_RECORDS:
            raise OutOfMemory("too large")
        if self.fault == "NaN":
            outputs = {"length": np.full(len(batch), np.nan)}
        return Prediction(outputs)


def too_few_rows(folder):
    """Returns a model that loses the last record of each batch."""

    def serve(records):
        return {"length": tf.strings.length(records)[:-1]}

    serving_default = (serve, {"records": ANY_STRINGS})
    return SavedModel(save_functions(folder / "model", serving_default=serving_default))


@pytest.mark.parametrize(
    ("fault", "make_model", "error"),
    [
        ("raises", lambda folder: FaultyModel(fault="raises"), FailureLimitError),
        ("returns too few rows", too_few_rows, ModelError),
    ],
    ids=["raises", "too few rows"],
)
def test_model_that_cannot_score_leaves_nothing(tmp_path, reliability, fault, make_model, error):
    write_inputs(tmp_path)
    with pytest.raises(error):
        run(job_in(tmp_path, model=make_model(tmp_path)))
    assert [path for path in tree(tmp_path / "out") if "/.work/" not in path] == []
    run(job_in(tmp_path), restart=True)
    account = lost_and_doubled(RECORDS, tmp_path / "out/inference_result")
    reliability(ALL_OR_NOTHING, f"a model that {fault}", *account)


def failed_records(folder):
    return [
        json.loads(line)["record"]
        for path in folder.glob("failures-*.jsonl.gz")
        for line in gzip.open(path)
    ]


def test_records_that_a_model_refuses_are_failures_and_the_rest_is_scored(tmp_path, reliability):
    write_inputs(tmp_path)
    model, limit = FaultyModel(fault="raises for some"), FailureLimit(max_fraction=1)
    total = run(job_in(tmp_path, model=model, failure_limit=limit)).total
    good = [record for record in RECORDS if not record.endswith(b"7")]
    assert (total.examples_read, total.examples_failed) == (len(RECORDS), len(RECORDS) - len(good))
    assert len(failed_records(tmp_path / "out/summary")) == total.examples_failed
    account = lost_and_doubled(good, tmp_path / "out/inference_result")
    reliability(ADDS_UP, "a model that raises for some records", *account)


def test_predictions_that_are_no_numbers_are_kept(tmp_path, reliability):
    write_inputs(tmp_path)
    run(job_in(tmp_path, model=FaultyModel(fault="NaN")))
    account = lost_and_doubled(RECORDS, tmp_path / "out/inference_result")
    reliability(ADDS_UP, "a model that returns NaN", *account)


MOST_RECORDS = 3


def without_memory(folder):
    """Returns a real model that wants more memory than any machine has for more records."""

    def serve(records):
        too_many = tf.maximum(tf.shape(records, tf.int64)[0] - MOST_RECORDS, 0)
        huge = tf.random.uniform([too_many * 2**46])
        with tf.control_dependencies([huge]):
            return {"length": tf.strings.length(records)}

    serving_default = (serve, {"records": ANY_STRINGS})
    return SavedModel(save_functions(folder / "model", serving_default=serving_default))


@pytest.mark.parametrize(
    ("make_model", "files"),
    [
        (lambda folder: FaultyModel(fault="out of memory"), child.FILES),
        # TensorFlow waits for memory for ten seconds each time.
        pytest.param(without_memory, 1, marks=pytest.mark.faults),
    ],
    ids=["function", "SavedModel"],
)
def test_batches_that_do_not_fit_into_memory_are_halved(tmp_path, reliability, make_model, files):
    write_inputs(tmp_path)
    splits = {"s": [f"{tmp_path}/in/{i:02d}.gz" for i in range(files)]}
    job = replace(job_in(tmp_path, model=make_model(tmp_path)), splits=splits)
    (branch,) = run(job).branches.values()
    assert branch.work.halvings > 0
    account = lost_and_doubled(RECORDS[: 10 * files], tmp_path / "out/inference_result")
    reliability(ADDS_UP, "batches that do not fit into memory", *account)
