"""What several tests need: records, TFRecord files, SavedModels of every age, and folders."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import tensorflow as tf
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from bulk_inferencer._models.predictor import Prediction
from bulk_inferencer._signatures import PREDICT, Signature

RECORDS = tf.TensorSpec([None], tf.string)
FLOAT = tf.io.FixedLenFeature([], tf.float32)

# Records and files


def example(**features):
    """Returns a serialized tf.Example; a feature is a number, text, bytes or a list of them."""
    return _example(features).SerializeToString()


def sequence_example(**context):
    """Returns a serialized tf.SequenceExample with a context and one feature list, `steps`."""
    steps = tf.train.FeatureList(feature=[_feature(step) for step in (1, 2, 3)])
    return tf.train.SequenceExample(
        context=_example(context).features,
        feature_lists=tf.train.FeatureLists(feature_list={"steps": steps}),
    ).SerializeToString()


def features_of(record):
    """Returns the features of a serialized tf.Example as lists, by name."""
    features = tf.train.Example.FromString(record).features.feature
    return {name: _values(feature) for name, feature in features.items()}


def context_of(record):
    """Returns the context of a serialized tf.SequenceExample as lists, by name."""
    context = tf.train.SequenceExample.FromString(record).context.feature
    return {name: _values(feature) for name, feature in context.items()}


def write_tfrecord(path, records, compression="GZIP"):
    """Writes records with TensorFlow's own writer, and returns the path as text."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), options=compression) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def read_tfrecord(path, compression="GZIP"):
    """Returns the records of a file, read with TensorFlow's own reader."""
    return list(tf.data.TFRecordDataset(str(path), compression).as_numpy_iterator())


def tree(folder):
    """Returns the paths of all files below `folder`, relative to it, in order."""
    root = Path(folder)
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def parsed_log(serialized):
    """Returns a PredictionLog."""
    return prediction_log_pb2.PredictionLog.FromString(serialized)


def _example(features):
    features = {name: _feature(value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=features))


def _feature(value):
    values = value if isinstance(value, list) else [value]
    if values and isinstance(values[0], (str, bytes)):
        values = [v.encode() if isinstance(v, str) else v for v in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if values and isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=list(map(int, values))))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _values(feature):
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []


def exactly(message):
    """Returns a pattern for a message and nothing around it."""
    return f"^{re.escape(message)}$"


class Bucket(LocalFileSystem):
    """`bucket://tmp/x` is the file /tmp/x, in a store without folders that only Beam can open.

    Beam finds the class by its scheme.
    """

    @classmethod
    def scheme(cls):
        return "bucket"

    def has_dirs(self):
        return False

    def mkdirs(self, path):
        pass

    def exists(self, path):
        return os.path.isfile(_in_folder(path))

    def metadata(self, path):
        found = os.stat(_in_folder(path))
        return FileMetadata(path, found.st_size, found.st_mtime)

    def open(self, path, *args, **kwargs):
        return open(_in_folder(path), "rb")

    def create(self, path, *args, **kwargs):
        os.makedirs(posixpath.dirname(_in_folder(path)), exist_ok=True)
        return open(_in_folder(path), "wb")

    def rename(self, sources, targets):
        for source, target in zip(map(_in_folder, sources), map(_in_folder, targets), strict=True):
            os.makedirs(posixpath.dirname(target), exist_ok=True)
            os.replace(source, target)

    def copy(self, sources, targets):
        for source, target in zip(map(_in_folder, sources), map(_in_folder, targets), strict=True):
            os.makedirs(posixpath.dirname(target), exist_ok=True)
            shutil.copyfile(source, target)

    def delete(self, patterns):
        for found in [f for match in self.match(patterns) for f in match.metadata_list]:
            os.remove(_in_folder(found.path))

    def _list(self, prefix):
        for folder, _, names in os.walk(_in_folder(posixpath.dirname(prefix + "x"))):
            yield FileMetadata(in_bucket(folder) + "/", 0)  # the "folder" that TensorFlow makes
            for name in names:
                path = in_bucket(posixpath.join(folder, name))
                if path.startswith(prefix):
                    with contextlib.suppress(FileNotFoundError):  # It has just been deleted.
                        yield self.metadata(path)


def in_bucket(path):
    """Returns the name in the `Bucket` of a file or folder."""
    return f"bucket:/{path}"


def _in_folder(path):
    return path.removeprefix("bucket:/")


# Predictors


class Lengths:
    """A predictor without TensorFlow: the length of each record; `bad...` cannot be scored."""

    signatures = (Signature("serving_default", PREDICT, ("length",)),)
    input_name = "records"

    def predict(self, batch):
        if any(record.startswith(b"bad") for record in batch):
            raise ValueError("a bad record")
        return Prediction({"length": np.array([len(record) for record in batch], np.int64)})


# SavedModels


def save_functions(path, tracked=(), **signatures):
    """Saves a tf.Module with signatures `name=(function, {input: TensorSpec})`; returns its path.

    `tracked` are the variables that the functions use.
    """
    module = tf.Module()
    module.tracked = list(tracked)
    functions = {
        name: tf.function(function, autograph=False).get_concrete_function(**inputs)
        for name, (function, inputs) in signatures.items()
    }
    tf.saved_model.save(module, str(path), signatures=functions)
    return str(path)


def save_linear(path):
    """Saves a tf.Module: records with a feature `x` give `y` = 5 x, of shape [batch, 1]."""
    weight = tf.Variable(5.0)

    def serve(examples):
        return {"y": weight * tf.io.parse_example(examples, {"x": FLOAT})["x"][:, tf.newaxis]}

    return save_functions(path, [weight], serving_default=(serve, {"examples": RECORDS}))


def linear_keras(keras):
    """Returns a Keras model of `keras` or `tf_keras`: input `x` [batch, 1] gives 5 x."""
    inputs = keras.Input((1,), name="x")
    layer = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(5.0), name="y")
    return keras.Model(inputs, layer(inputs))


def save_with_signature(model, path):
    """Saves a Keras model of any version with a signature that parses tf.Examples."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples):
        x = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        return {"y": model(x)}

    tf.saved_model.save(model, str(path), signatures={"serving_default": serve})
    return str(path)


def save_tf1(path, vocabulary):
    """Saves what estimators saved: reference variables, a table, and signatures of all methods.

    y = 5 x; the classes `small` and `big`, read from the file `vocabulary`, have scores -y and y.
    """
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        examples = v1.placeholder(tf.string, [None], "input_example_tensor")
        x = tf.io.parse_example(examples, {"x": FLOAT})["x"]
        weight = v1.get_variable("weight", initializer=5.0, use_resource=False)
        y = weight * x
        scores = tf.stack([-y, y], 1)
        Path(vocabulary).write_text("small\nbig\n")
        number, line = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
        lines = tf.lookup.TextFileInitializer(str(vocabulary), tf.int64, number, tf.string, line)
        table = tf.lookup.StaticHashTable(lines, "unknown")
        classes = tf.tile(table.lookup(tf.constant([[0, 1]], tf.int64)), [tf.shape(x)[0], 1])
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        classify = v1.saved_model.classification_signature_def
        regress = v1.saved_model.regression_signature_def
        signatures = {
            "serving_default": classify(examples, classes, scores),
            "scores_only": classify(examples, None, scores),
            "classes_only": classify(examples, classes, None),
            "regress": regress(examples, y),
            "regress_column": regress(examples, y[:, tf.newaxis]),
            "predict": v1.saved_model.predict_signature_def(
                {"examples": examples}, {"y": y, "scores": scores, "classes": classes}
            ),
        }
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signatures,
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()
    return str(path)


def edit_saved_model(path, change):
    """Applies `change` to the SavedModel proto in a folder."""
    file = Path(path, "saved_model.pb")
    proto = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(proto)
    file.write_bytes(proto.SerializeToString())


# Amounts of work


def calls_of(function):
    """Returns how often Python functions and C functions were called."""
    calls = Counter()
    sys.setprofile(lambda frame, event, argument: calls.update([event]))
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls["call"], calls["c_call"]
