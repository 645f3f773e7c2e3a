"""Trains and exports a times table; its label decides which one.

Trainer imports this file by its path, so it imports no sibling.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import v1 as tfx
from tfx_bsl.public import tfxio

_BATCH_SIZE = 64


def build_model() -> keras.Model:
    """Returns a model with one weight and one bias, which learns its factor from the labels.

    With x scaled to about -1..1, gradient descent at this learning rate takes a third off the
    weight's error with every step: a hundred steps reach the limits of float32.
    """
    x = keras.Input(shape=(1,), name="x")
    y = keras.layers.Dense(1)(keras.layers.Rescaling(1 / 100)(x))
    model = keras.Model({"x": x}, y)
    model.compile(optimizer=keras.optimizers.SGD(learning_rate=0.5), loss="mse")
    return model


def export_model(model: keras.Model, path: str) -> None:
    """Writes a SavedModel whose serving signature parses tf.Examples: `examples` in, `y` out."""

    def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        features = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        return {"y": tf.squeeze(model(features), axis=-1)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default", serve, [tf.TensorSpec([None], tf.string, name="examples")]
    )
    archive.write_out(path, verbose=False)


def run_fn(fn_args: Any) -> None:
    """Trainer's entry point: trains for `fn_args.train_steps`, exports to `serving_model_dir`.

    `custom_config["label"]` names the feature that is learnt.
    """
    keras.utils.set_random_seed(5)
    schema = tfx.utils.parse_pbtxt_file(fn_args.schema_path, schema_pb2.Schema())
    batches = fn_args.data_accessor.tf_dataset_factory(
        fn_args.train_files,
        tfxio.TensorFlowDatasetOptions(
            batch_size=_BATCH_SIZE, label_key=fn_args.custom_config["label"], shuffle_seed=5
        ),
        schema,
    )
    # To the dataset, the label of the other model is a feature.
    batches = batches.map(lambda features, y: ({"x": features["x"]}, y))
    model = build_model()
    model.fit(batches, steps_per_epoch=fn_args.train_steps, verbose=0)
    export_model(model, fn_args.serving_model_dir)
