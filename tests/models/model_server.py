"""A model server on loopback: a real model behind TensorFlow Serving's gRPC API, with faults.

Faults are functions of a request's context: one for each request to score, None for no fault.
Damages are functions of the response to such a request, likewise.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import functools
import ipaddress
import threading
import time
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.retries import Caller
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.tf_serving import TFServing, TFServingPredictor

NAME = "five_times"
VERSION = 7
# Connections come back at once where a server does.
QUICK = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100))
TOKEN = "let-me-in"


class Call(NamedTuple):
    method: str
    signature: str
    count: int
    spec: str
    metadata: dict[str, str]
    seconds_left: float


class ModelServer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Serves a SavedModel as TensorFlow Serving does.

    Attributes:
      calls: the requests to score, in their order.
      scored: how many records the model has scored, answers that got lost included.
      port: its port, which it keeps when it comes back.
    """

    def __init__(
        self,
        path,
        faults=(),
        damages=(),
        metadata_faults=(),
        max_receive_bytes=-1,
        token=None,
        labels=None,
    ):
        self.calls = []
        self.scored = 0
        self.port = 0
        self._model = tf.saved_model.load(path)
        content = Path(path, "saved_model.pb").read_bytes()
        (graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
        self._definitions = graph.signature_def
        self._faults = iter(faults)
        self._damages = iter(damages)
        self._metadata_faults = iter(metadata_faults)
        self._options = (("grpc.max_receive_message_length", max_receive_bytes),)
        self._token = token  # asked for over TLS
        self._labels = labels or {}
        self._lock = threading.Lock()
        self._stopped = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.stop()
        self._stopped.wait()
        self._threads.shutdown()

    def start(self):
        """Starts, after `stop` on the same port."""
        if self._stopped:
            self._stopped.wait()
        self._threads = concurrent.futures.ThreadPoolExecutor(8)
        self._server = grpc.server(self._threads, options=self._options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, self._server)
        if self._token:
            credentials = grpc.ssl_server_credentials([certificate()])
            self.port = self._server.add_secure_port(self.address, credentials)
        else:
            self.port = self._server.add_insecure_port(self.address)
        self._server.start()

    def stop(self):
        """Stops at once, whatever is under way."""
        self._stopped = self._server.stop(None)

    def repair(self):
        """Lets no more requests fail."""
        self._faults = iter(())

    def Predict(self, request, context):
        response = predict_pb2.PredictResponse()
        rows = [proto.tensor_shape.dim[0].size for proto in request.inputs.values()]
        signature = self._begin("Predict", request.model_spec, rows[0], response, context)
        inputs = {name: tf.constant(tf.make_ndarray(p)) for name, p in request.inputs.items()}
        for name, values in self._outputs(signature, inputs, rows[0], context).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
        with self._lock:
            damage = next(self._damages, None)
        if damage:
            damage(response)
        return response

    def Classify(self, request, context):
        response = classification_pb2.ClassificationResponse()
        for classes, scores in self._rows("Classify", request, response, context):
            row = response.result.classifications.add()
            for label, score in zip(classes, scores, strict=True):
                row.classes.add(label=label, score=score)
        return response

    def Regress(self, request, context):
        response = regression_pb2.RegressionResponse()
        for (value,) in self._rows("Regress", request, response, context):
            response.result.regressions.add(value=value)
        return response

    def GetModelMetadata(self, request, context):
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        self._check(request.model_spec, response.model_spec, context)
        with self._lock:
            fault = next(self._metadata_faults, None)
        if fault:
            fault(context)
        found = get_model_metadata_pb2.SignatureDefMap(signature_def=self._definitions)
        for field in request.metadata_field:
            response.metadata[field].Pack(found)
        return response

    def _rows(self, method, request, response, context):
        """Yields the classes and the scores, or the value of each example."""
        examples = request.input.example_list.examples
        signature = self._begin(method, request.model_spec, len(examples), response, context)
        (name,) = self._definitions[signature].inputs
        records = tf.constant([example.SerializeToString() for example in examples])
        outputs = self._outputs(signature, {name: records}, len(examples), context)
        if method == "Regress":
            yield from outputs["outputs"].reshape(len(examples), 1)
            return
        shape = next(iter(outputs.values())).shape
        classes = outputs.get("classes", np.full(shape, b"", object))
        yield from zip(classes, outputs.get("scores", np.zeros(shape)), strict=True)

    def _begin(self, method, spec, count, response, context):
        """Counts the request, fails as planned, and returns the signature to call."""
        metadata = dict(context.invocation_metadata())
        signature = spec.signature_name or "serving_default"
        with self._lock:
            described = str(spec.version.value or "") or spec.version_label
            left = context.time_remaining()
            self.calls.append(Call(method, signature, count, described, metadata, left))
            fault = next(self._faults, None)
        if fault:
            fault(context)
        self._check(spec, response.model_spec, context)
        response.model_spec.signature_name = signature
        return signature

    def _check(self, spec, answered, context):
        authorization = dict(context.invocation_metadata()).get("authorization")
        if self._token and authorization != f"Bearer {self._token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no valid token")
        version = self._labels.get(spec.version_label, spec.version.value or VERSION)
        if spec.name != NAME or version != VERSION:
            context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: Specific({spec.name}, {version})",
            )
        answered.name = NAME
        answered.version.value = VERSION

    def _outputs(self, signature, inputs, count, context):
        outputs = self._model.signatures[signature](**inputs)
        with self._lock:
            self.scored += count
        return {name: values.numpy() for name, values in outputs.items()}


def failing(code, details="as planned"):
    """Returns a fault: the request is turned down."""
    return lambda context: context.abort(code, details)


def answering(version):
    """Returns a damage: another version answers."""

    def damage(response):
        response.model_spec.version.value = version

    return damage


unavailable = failing(grpc.StatusCode.UNAVAILABLE)


def tf_serving(server, *signatures, **settings):
    """Returns the model behind a server."""
    settings = {"channel_options": QUICK, **settings}
    return TFServing(server.address, NAME, signatures=signatures, **settings)


def predictor(server, *signatures, record_format=FORMAT_TF_EXAMPLE, pauses=None, **settings):
    """Returns a predictor; with `pauses`, it notes its pauses instead of making them."""
    model = tf_serving(server, *signatures, **settings)
    if pauses is None:
        return model.load(record_format)
    clock = lambda: time.monotonic() + sum(pauses)  # noqa: E731
    caller = Caller(model.uri, model.limits, clock, pauses.append)
    return TFServingPredictor(model, record_format, caller)


def assert_as_local(path, found, records, *signatures):
    """Checks a prediction against that of the same model in this process."""
    expected = SavedModel(path, signatures).load(FORMAT_TF_EXAMPLE).predict(records).outputs
    assert list(found.outputs) == list(expected)
    for name, values in expected.items():
        output = found.outputs[name]
        assert output.dtype == values.dtype, name
        assert output.shape in (values.shape, values.shape[:1]), name
        np.testing.assert_array_equal(output.reshape(values.shape), values)


@functools.cache
def certificate():
    """Returns the key and a self-signed certificate of 127.0.0.1, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "model server")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.datetime.now(datetime.timezone.utc)
    hour = datetime.timedelta(hours=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.public_key(key.public_key())
    builder = builder.not_valid_before(now - hour).not_valid_after(now + hour)
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    return private, builder.sign(key, hashes.SHA256()).public_bytes(pem)


def client_credentials(token=TOKEN):
    """Returns credentials that trust the server, with a token for each call."""
    return grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(certificate()[1]), grpc.access_token_call_credentials(token)
    )
