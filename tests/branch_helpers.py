"""What the tests of several models share."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from bulk_inferencer._units.outputs import Outputs
from bulk_inferencer.job import BranchJob, FailureLimit
from tests.helpers import FLOAT, RECORDS, features_of, save_functions

ANY_FAILURES = FailureLimit(max_fraction=1)


def x_of(record):
    return features_of(record)["x"][0]


def outputs_in(folder, models, *columns, has_comparison=False, **settings):
    outputs = Outputs.under(f"{folder}/out")
    return dataclasses.replace(
        outputs,
        inference_result={name: f"{folder}/out/{name}" for name in models},
        output_examples=f"{folder}/out/output_examples" if columns else None,
        columns=columns,
        comparison=f"{folder}/out/comparison" if has_comparison else None,
        **settings,
    )


def branch_job(folder, models, *columns, has_comparison=False, **settings):
    settings = {"failure_limit": ANY_FAILURES, "splits": {"s": [f"{folder}/in/*"]}, **settings}
    outputs = outputs_in(folder, models, *columns, has_comparison=has_comparison)
    return BranchJob(**{"models": models, "outputs": outputs, **settings})


def save_ten(path):
    """Saves a model, y = 10 x of shape [batch, 1], that refuses negative x."""
    weight = tf.Variable(10.0)

    def serve(examples):
        x = tf.io.parse_example(examples, {"x": FLOAT})["x"]
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, "x is negative")]):
            return {"y": weight * x[:, tf.newaxis], "half": x / 2}

    return save_functions(path, [weight], serving_default=(serve, {"examples": RECORDS}))
