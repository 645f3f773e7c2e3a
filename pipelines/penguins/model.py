"""Preprocesses the measurements, trains a classifier and exports it.

Transform and Trainer import this file by its path, so it imports no sibling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx_bsl.public import tfxio

_FEATURES = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
_LABEL = "species"
_LABEL_INDEX = "species_index"
_BATCH_SIZE = 32


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Transform's entry point: scales the measurements and numbers the species."""
    outputs = {name: tft.scale_to_z_score(inputs[name]) for name in _FEATURES}
    outputs[_LABEL_INDEX] = tft.compute_and_apply_vocabulary(inputs[_LABEL], vocab_filename=_LABEL)
    return outputs


def build_model(features: Sequence[str], classes: int) -> keras.Model:
    """Returns a model with one hidden layer, and one probability per species."""
    inputs = {name: keras.Input(shape=(1,), name=name) for name in features}
    hidden = keras.layers.Concatenate()([inputs[name] for name in features])
    hidden = keras.layers.Dense(8, activation="relu")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(hidden))
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=0.02), loss="sparse_categorical_crossentropy"
    )
    return model


def export_model(model: keras.Model, transform: tft.TFTransformOutput, path: str) -> None:
    """Writes a SavedModel that takes raw tf.Examples.

    Signatures:
      serving_default: `examples` in; `species` and `probabilities` out. Needs neither the label
        nor features that the model does not use.
      transform_features: `examples` in; the transformed features and label out, for Evaluator.
    """
    features_layer = transform.transform_features_layer()
    raw_spec = transform.raw_feature_spec()
    feature_spec = {name: raw_spec[name] for name in model.input}
    species = tf.constant(transform.vocabulary_by_name(_LABEL))

    def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        features = features_layer(tf.io.parse_example(examples, feature_spec))
        probabilities = model({name: features[name] for name in model.input})
        return {
            "species": tf.gather(species, tf.argmax(probabilities, axis=-1)),
            "probabilities": probabilities,
        }

    def transform_features(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return features_layer(tf.io.parse_example(examples, raw_spec))

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.track(features_layer)  # Or the vocabulary is missing from the SavedModel.
    examples = [tf.TensorSpec([None], tf.string, name="examples")]
    archive.add_endpoint("serving_default", serve, examples)
    archive.add_endpoint("transform_features", transform_features, examples)
    archive.write_out(path, verbose=False)


def run_fn(fn_args: Any) -> None:
    """Trainer's entry point: trains for `fn_args.train_steps`, exports to `serving_model_dir`.

    `custom_config["features"]` names the measurements that the model uses; default: all.
    """
    features = (fn_args.custom_config or {}).get("features", _FEATURES)
    keras.utils.set_random_seed(5)
    transform = tft.TFTransformOutput(fn_args.transform_output)
    batches = fn_args.data_accessor.tf_dataset_factory(
        fn_args.train_files,
        tfxio.TensorFlowDatasetOptions(
            batch_size=_BATCH_SIZE, label_key=_LABEL_INDEX, shuffle_seed=5
        ),
        transform.transformed_metadata.schema,
    )
    batches = batches.map(lambda scaled, label: ({name: scaled[name] for name in features}, label))
    model = build_model(features, transform.vocabulary_size_by_name(_LABEL))
    model.fit(batches, steps_per_epoch=fn_args.train_steps, verbose=0)
    export_model(model, transform, fn_args.serving_model_dir)
