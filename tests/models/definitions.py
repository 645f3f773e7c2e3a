"""SignatureDefs without a model."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

RECORDS = {"records": tf.TensorSpec([None], tf.string)}
Y = {"y": tf.TensorSpec([None], tf.float32)}


def definition(inputs=RECORDS, outputs=Y, method="predict", defaults=()):
    """Returns a SignatureDef; inputs and outputs are TensorSpecs or TensorInfos by name."""
    return meta_graph_pb2.SignatureDef(
        inputs={name: _info(spec) for name, spec in inputs.items()},
        outputs={name: _info(spec) for name, spec in outputs.items()},
        method_name=f"tensorflow/serving/{method}",
        defaults={name: tf.make_tensor_proto(value) for name, value in dict(defaults).items()},
    )


def _info(spec):
    if not isinstance(spec, tf.TensorSpec):
        return spec
    dtype, shape = spec.dtype.as_datatype_enum, spec.shape.as_proto()
    return meta_graph_pb2.TensorInfo(name="it", dtype=dtype, tensor_shape=shape)
