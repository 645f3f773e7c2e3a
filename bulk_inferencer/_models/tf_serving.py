"""Models behind a TensorFlow Serving server as predictors, over gRPC."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import numpy as np

from bulk_inferencer._models import importing, signature_defs
from bulk_inferencer._models.predictor import OutOfMemory, RecordError, cause
from bulk_inferencer._models.retries import Caller, Limits, PassingError
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

_PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
# What no record can be the cause of.
_OF_THE_SERVER = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
)
_TOO_LARGE = re.compile(r"larger than max|OOM when allocating")
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A server that comes back should not wait two minutes for us, which is the default.
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


@dataclass(frozen=True)
class TFServing:
    """A model that TensorFlow Serving serves.

    Attributes:
      address: `host:port` of its gRPC port.
      model_name: the model's name there.
      version: which version; default: the one that the server chooses.
      version_label: which version, by its label, instead of `version`.
      signatures: names of the signatures to call; default: `serving_default`.
      credentials: makes the channel's credentials on each worker, with call credentials if need
        be; or where to import that function from, as `package.module:function`. The public
        certificate authorities: `grpc:ssl_channel_credentials`. Default: no encryption.
      channel_options: gRPC's channel arguments, such as `(("grpc.keepalive_time_ms", 10000),)`.
      limits: how long to wait.

    Raises:
      SettingsError: the address or the name is missing, or both a version and a label are given.
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
                f"Expected TFServing to have an address (host:port) and a model_name, got "
                f"{self.address!r} and {self.model_name!r}. Fill in both."
            )
        if self.version is not None and self.version_label:
            raise SettingsError(
                f"Expected a version or a version_label in TFServing, got both: {self.version} "
                f"and {self.version_label!r}. Give one of them."
            )

    @property
    def uri(self) -> str:
        """See `Model.uri`."""
        base = f"grpc://{self.address}/{self.model_name}"
        if self.version is not None:
            return f"{base}/versions/{self.version}"
        return f"{base}/labels/{self.version_label}" if self.version_label else base

    def check(self, record_format: str) -> tuple[Signature, ...]:
        """Asks the server for the signatures, for as long as one request takes; see `Model.check`.

        Unlike a worker, the launcher has no use for a server that comes back minutes later.
        """
        limits = replace(self.limits, total_seconds=self.limits.request_seconds)
        return replace(self, limits=limits).load(record_format).signatures

    def load(self, record_format: str) -> TFServingPredictor:
        """Asks the server for the signatures; see `Model.load`."""
        return TFServingPredictor(self, record_format)

    def fingerprint(self) -> str:
        """Returns nothing: a server does not show the model's files."""
        return ""


class TFServingPredictor:
    """Sends batches to the server. See `Predictor`."""

    stages: tuple[str, ...] = ()

    def __init__(self, model: TFServing, record_format: str) -> None:
        """Connects; see `TFServing.load`."""
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        self._model = model
        self._caller = Caller(model.uri, model.limits)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(_channel(model))
        definitions = signature_defs.select(
            self._signature_defs(), model.signatures, record_format, model.uri
        )
        self.signatures = signature_defs.signatures(definitions)
        self.versions: set[str] = set()
        self._feeds = signature_defs.Feeds(definitions)
        self._methods = {CLASSIFY: self._classify, REGRESS: self._regress}

    @property
    def input_name(self) -> str:
        """See `Predictor.input_name`."""
        return self._feeds.input_name

    def predict(self, batch: Sequence[bytes]) -> dict[str, np.ndarray]:
        """See `Predictor.predict`."""
        import tensorflow as tf

        try:
            feeds = self._feeds(batch)
        except tf.errors.OpError as error:
            raise RecordError(type(error).__name__, cause(error.message)) from error
        outputs = {}
        for signature, inputs in zip(self.signatures, feeds, strict=True):
            if signature.method in self._methods:
                result = self._methods[signature.method](signature, batch)
            else:
                result = self._predict(signature, inputs)
            prefix = output_prefix(signature, self.signatures)
            for name, values in sorted(result.items()):
                signature_defs.check_rows(name, values, len(batch))
                outputs[prefix + name] = values
        return outputs

    def _predict(self, signature: Signature, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        for name, tensor in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
        response = self._call(self._stub.Predict, request, signature)
        return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}

    def _classify(self, signature: Signature, batch: Sequence[bytes]) -> dict[str, np.ndarray]:
        from tensorflow_serving.apis import classification_pb2

        request = classification_pb2.ClassificationRequest()
        _add_examples(request, batch)
        response = self._call(self._stub.Classify, request, signature)
        rows = [result.classes for result in response.result.classifications]
        outputs = {
            SCORES_OUTPUT: np.array([[c.score for c in row] for row in rows], np.float32),
            CLASSES_OUTPUT: np.array([[c.label.encode() for c in row] for row in rows], object),
        }
        return {name: values for name, values in outputs.items() if name in signature.outputs}

    def _regress(self, signature: Signature, batch: Sequence[bytes]) -> dict[str, np.ndarray]:
        from tensorflow_serving.apis import regression_pb2

        request = regression_pb2.RegressionRequest()
        _add_examples(request, batch)
        response = self._call(self._stub.Regress, request, signature)
        values = [regression.value for regression in response.result.regressions]
        return {REGRESS_OUTPUT: np.array(values, np.float32)}

    def _signature_defs(self) -> dict[str, Any]:
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        try:
            response = self._call(self._stub.GetModelMetadata, request)
        except RecordError as error:
            raise EndpointError(
                f"Expected {self._model.uri} to describe its signatures, got {error.error_type}: "
                f"{error.message}. Check the address and the model's name."
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

        response = self._caller.call(attempt)
        if signature and response.model_spec.HasField("version"):
            self.versions.add(str(response.model_spec.version.value))
        return response

    def _translated(self, error: grpc.RpcError) -> Exception:
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE.search(details):
            return OutOfMemory(details)
        if code in _PASSING:
            return PassingError(f"{code.name}: {details}")
        if code in _OF_THE_SERVER:
            return EndpointError(
                f"Expected {self._model.uri} to answer, got {code.name}: {details}. Check the "
                f"address, the model's name and version, and the credentials."
            )
        return RecordError(code.name, cause(details))


def _channel(model: TFServing) -> grpc.Channel:
    options = (*_CHANNEL_OPTIONS, *model.channel_options)
    if model.credentials is None:
        return grpc.insecure_channel(model.address, options)
    make_credentials = importing.function("TFServing.credentials", model.credentials)
    return grpc.secure_channel(model.address, make_credentials(), options)


def _add_examples(request: Any, batch: Sequence[bytes]) -> None:
    """Adds records as tf.Examples; the server parses them all, so each has to be one."""
    from google.protobuf.message import DecodeError

    for record in batch:
        try:
            request.input.example_list.examples.add().MergeFromString(record)
        except DecodeError as error:
            raise RecordError("DecodeError", f"not a tf.Example: {error}") from error
