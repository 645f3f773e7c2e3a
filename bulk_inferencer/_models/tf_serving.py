"""Models behind a TensorFlow Serving server as predictors, over gRPC."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import grpc
import numpy as np

from bulk_inferencer._checks import check_number, check_tuple
from bulk_inferencer._models import importing, signature_defs
from bulk_inferencer._models.predictor import OutOfMemory, Prediction, RecordError, without_graph
from bulk_inferencer._models.retries import Caller, Limits, TransientError
from bulk_inferencer._signatures import (
    CLASSES_OUTPUT,
    CLASSIFY,
    REGRESS,
    REGRESS_OUTPUT,
    SCORES_OUTPUT,
    Signature,
    output_prefix,
)
from bulk_inferencer.errors import EndpointError, SettingsError

_TRANSIENT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
# Errors that no record can cause.
_SERVER_ERRORS = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
)
_TOO_LARGE = re.compile(r"larger than max|OOM when allocating")
_Result: TypeAlias = tuple[Any, dict[str, np.ndarray]]  # a server's response, and outputs by name
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # The default, two minutes, is too long for a server that has come back.
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


@dataclass(frozen=True)
class TFServing:
    """A model that TensorFlow Serving serves.

    ```python
    TFServing("models.example.com:8500", "five_times", credentials="grpc:ssl_channel_credentials")
    ```

    Attributes:
      address: the server's gRPC port, as `host:port`.
      model_name: the model's name on the server.
      version: the version to ask for; default: the server chooses.
      version_label: the label of the version to ask for, instead of `version`.
      signatures: names of the signatures to call; default: `serving_default`.
      credentials: a function that makes the channel's credentials on each worker, which may include
        call credentials; or the name to import it by, as `package.module:function`.
        `grpc:ssl_channel_credentials` trusts the public certificate authorities. Default: no
        encryption.
      channel_options: gRPC's channel arguments, such as `(("grpc.keepalive_time_ms", 10000),)`.
      limits: how long to wait.

    Raises:
      SettingsError: the address or the name is missing, both a version and a label are given, the
        version is not a whole number, or signatures are not a tuple of names.
    """

    address: str
    model_name: str
    version: int | None = None
    version_label: str = ""
    signatures: tuple[str, ...] = ()
    credentials: Callable[[], grpc.ChannelCredentials] | str | None = None
    channel_options: tuple[tuple[str, Any], ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.address or not self.model_name:
            raise SettingsError(
                f"TFServing needs an address (host:port) and a model_name, but has "
                f"{self.address!r} and {self.model_name!r}. Fill in both."
            )
        check_tuple("TFServing.signatures", self.signatures, str)
        if self.version is not None:
            advice = "Leave it out, and the server chooses."
            check_number("TFServing.version", self.version, advice, 0, whole=True)
        if self.version is not None and self.version_label:
            raise SettingsError(
                f"TFServing takes either a version or a version_label, but has both: "
                f"{self.version} and {self.version_label!r}. Leave out one of them."
            )

    @property
    def uri(self) -> str:
        base = f"grpc://{self.address}/{self.model_name}"
        if self.version is not None:
            return f"{base}/versions/{self.version}"
        return f"{base}/labels/{self.version_label}" if self.version_label else base

    def check(self, record_format: str) -> tuple[Signature, ...]:
        """Asks the server for the signatures, for no longer than one request may take.

        Unlike a worker, the launcher should not wait minutes for a server to come back.
        """
        limits = replace(self.limits, total_seconds=self.limits.request_seconds)
        return replace(self, limits=limits).load(record_format).signatures

    def load(self, record_format: str) -> TFServingPredictor:
        return TFServingPredictor(self, record_format)

    def fingerprint(self) -> str:
        """Returns an empty string, since a server does not show the model's files."""
        return ""


class TFServingPredictor:
    """Sends batches to the server; see `Predictor`."""

    def __init__(self, model: TFServing, record_format: str) -> None:
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        self._model = model
        self._caller = Caller(model.uri, model.limits)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(_channel(model))
        definitions = signature_defs.select(
            self._signature_defs(),
            model.signatures,
            record_format,
            model.uri,
            "TFServing.signatures",
        )
        self.signatures = signature_defs.signatures(definitions)
        self._feeds = signature_defs.Feeds(definitions)
        self.input_name = self._feeds.input_name
        self._methods = {CLASSIFY: self._classify, REGRESS: self._regress}

    def predict(self, batch: Sequence[bytes]) -> Prediction:
        import tensorflow as tf

        try:
            feeds = self._feeds(batch)
        except tf.errors.OpError as error:
            raise RecordError(type(error).__name__, without_graph(error.message)) from error
        outputs = {}
        versions = set()
        for signature, inputs in zip(self.signatures, feeds, strict=True):
            if signature.method in self._methods:
                response, result = self._methods[signature.method](signature, batch)
            else:
                response, result = self._predict(signature, inputs)
            if response.model_spec.HasField("version"):
                versions.add(str(response.model_spec.version.value))
            prefix = output_prefix(signature, self.signatures)
            for name, values in sorted(result.items()):
                signature_defs.check_rows(name, values, len(batch))
                outputs[prefix + name] = values
        return Prediction(outputs, versions=frozenset(versions))

    def _predict(self, signature: Signature, inputs: dict[str, Any]) -> _Result:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        for name, tensor in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
        response = self._call(self._stub.Predict, request, signature)
        return response, {name: tf.make_ndarray(t) for name, t in response.outputs.items()}

    def _classify(self, signature: Signature, batch: Sequence[bytes]) -> _Result:
        from tensorflow_serving.apis import classification_pb2

        request = classification_pb2.ClassificationRequest()
        _add_examples(request, batch)
        response = self._call(self._stub.Classify, request, signature)
        rows = [result.classes for result in response.result.classifications]
        outputs = {
            SCORES_OUTPUT: np.array([[c.score for c in row] for row in rows], np.float32),
            CLASSES_OUTPUT: np.array([[c.label.encode() for c in row] for row in rows], object),
        }
        return response, {n: values for n, values in outputs.items() if n in signature.outputs}

    def _regress(self, signature: Signature, batch: Sequence[bytes]) -> _Result:
        from tensorflow_serving.apis import regression_pb2

        request = regression_pb2.RegressionRequest()
        _add_examples(request, batch)
        response = self._call(self._stub.Regress, request, signature)
        values = [regression.value for regression in response.result.regressions]
        return response, {REGRESS_OUTPUT: np.array(values, np.float32)}

    def _signature_defs(self) -> dict[str, Any]:
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        try:
            response = self._call(self._stub.GetModelMetadata, request)
        except RecordError as error:
            raise EndpointError(
                f"{self._model.uri} did not describe its signatures: {error}. Check the address "
                f"and the model's name."
            ) from error
        found = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(found)
        return dict(found.signature_def)

    def _call(self, method: Any, request: Any, signature: Signature | None = None) -> Any:
        spec = request.model_spec
        spec.name = self._model.model_name
        if signature:
            spec.signature_name = signature.name
        if self._model.version is not None:
            spec.version.value = self._model.version
        elif self._model.version_label:
            spec.version_label = self._model.version_label

        def attempt(timeout_seconds: float) -> Any:
            try:
                return method(request, timeout=timeout_seconds)
            except grpc.RpcError as error:
                raise self._translated(error) from error

        return self._caller.call(attempt)

    def _translated(self, error: grpc.RpcError) -> Exception:
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE.search(details):
            return OutOfMemory(details)
        if code in _TRANSIENT:
            return TransientError(f"{code.name}: {details}")
        if code in _SERVER_ERRORS:
            return EndpointError(
                f"{self._model.uri} refused a request: {code.name}: {details}. Check the address, "
                f"the model's name and version, and the credentials."
            )
        return RecordError(code.name, without_graph(details))


def _channel(model: TFServing) -> grpc.Channel:
    options = (*_CHANNEL_OPTIONS, *model.channel_options)
    if model.credentials is None:
        return grpc.insecure_channel(model.address, options)
    make_credentials = importing.function("TFServing.credentials", model.credentials)
    return grpc.secure_channel(model.address, make_credentials(), options)


def _add_examples(request: Any, batch: Sequence[bytes]) -> None:
    """Adds records to a request, which holds them as parsed tf.Examples."""
    from google.protobuf.message import DecodeError

    for record in batch:
        try:
            request.input.example_list.examples.add().MergeFromString(record)
        except DecodeError as error:
            raise RecordError("DecodeError", f"not a tf.Example: {error}") from error
