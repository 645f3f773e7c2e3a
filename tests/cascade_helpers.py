"""What the tests of cascades share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from bulk_inferencer._formats.example import Column
from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._models.cascade import CascadeModel
from bulk_inferencer._models.predictor import (
    FORMAT_TF_EXAMPLE,
)
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer._units.outputs import Outputs
from bulk_inferencer.job import FailureLimit, InferenceJob
from bulk_inferencer.results.reader import read_predictions
from tests.helpers import (
    FLOAT,
    RECORDS,
    example,
    features_of,
    parsed_log,
    read_tfrecord,
    save_functions,
    write_tfrecord,
)

X_OF_Y = (Column("y", "x"),)


def x_of(record):
    return features_of(record)["x"][0]


def xs(*values):
    return [example(x=float(x)) for x in values]


class Model:
    """Settings of a model that is a function of a batch, and the batches that it was called with.

    What it returns is known before the run where outputs are named.
    """

    def __init__(self, function, *outputs, fingerprint="f00d", versions=()):
        self.uri = f"memory://{function.__name__}"
        self.signatures = (Signature("serving_default", PREDICT, outputs),)
        self.input_name = "records"
        self.versions = versions
        self.stages = ()
        self.batches = []
        self._function = function
        self._fingerprint = fingerprint

    def check(self, record_format):
        return self.signatures

    def load(self, record_format):
        return self

    def fingerprint(self):
        return self._fingerprint

    def predict(self, batch):
        self.batches.append(list(batch))
        return self._function(batch)


def length(batch):
    return {"y": np.array([len(record) for record in batch], np.int64)}


def twice(batch):
    return {"y": np.array([2 * len(record) for record in batch], np.int64)}


def values_of(array):
    """Returns the values of an output as a list, None where a record does not have it."""
    return np.ma.asarray(array).tolist()


def predict(stages, batch, record_format=FORMAT_TF_EXAMPLE):
    outputs = CascadeModel(stages).load(record_format).predict(batch)
    return {name: values_of(values) for name, values in outputs.items()}


def logged(model, batch, record_format=FORMAT_TF_EXAMPLE):
    """Returns the outputs in the PredictionLog of each record, and the records."""
    predictor = model.load(record_format)
    encoder = PredictionLogEncoder(predictor.signatures, predictor.input_name)
    logs = [parsed_log(log) for log in encoder.encode(batch, predictor.predict(batch))]
    outputs = [log.predict_log.response.outputs for log in logs]
    records = [r for log in logs for r in log.predict_log.request.inputs["examples"].string_val]
    return [{n: tf.make_ndarray(t).tolist() for n, t in o.items()} for o in outputs], records


def save_times(path, factor):
    weight = tf.Variable(float(factor))

    def serve(examples):
        return {"y": weight * tf.io.parse_example(examples, {"x": FLOAT})["x"]}

    return save_functions(path, [weight], serving_default=(serve, {"examples": RECORDS}))


def refuse_negative(batch):
    if any(x_of(record) < 0 for record in batch):
        raise ValueError("x is negative")
    return batch


def job_of(folder, model, records, *columns, **settings):
    for i in range(2):
        write_tfrecord(folder / f"in/{i}.gz", records[i::2])
    outputs = dataclasses.replace(
        Outputs.under(f"{folder}/out"),
        output_examples=f"{folder}/out/output_examples" if columns else None,
        columns=columns,
    )
    settings = {"failure_limit": FailureLimit(max_fraction=0.2), **settings}
    return InferenceJob({"s": [f"{folder}/in/*"]}, model, outputs, **settings)


def predictions(folder):
    return list(read_predictions(f"{folder}/out/inference_result"))


def output_examples(folder):
    shards = sorted(Path(folder, "out/output_examples/Split-s").iterdir())
    return [features_of(record) for path in shards for record in read_tfrecord(path)]
