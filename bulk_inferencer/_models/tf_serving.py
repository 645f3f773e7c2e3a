"""Models behind a TensorFlow Serving server as predictors, over gRPC."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import grpc
import numpy as np

from bulk_inferencer._checks import check_number, check_tuple
from bulk_inferencer._formats.first_records import FirstRecords
from bulk_inferencer._models import answers, importing, signature_defs
from bulk_inferencer._models.feeds import Call, Feeds, TakesRecords
from bulk_inferencer._models.judge import Judge
from bulk_inferencer._models.predictor import Prediction, RecordError, reason_of
from bulk_inferencer._models.retries import Caller, Limits
from bulk_inferencer._models.served_model import ServedModel
from bulk_inferencer._signatures import (
    CLASSES_OUTPUT,
    CLASSIFY,
    REGRESS,
    REGRESS_OUTPUT,
    SCORES_OUTPUT,
    Signature,
    output_names,
    output_prefix,
)
from bulk_inferencer.errors import EndpointError, SettingsError

_Result: TypeAlias = tuple[Any, dict[str, np.ndarray]]  # a ModelSpec, and outputs by name
_ADVICE = "Check the address, the model's name and version, and the credentials."
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
      takes_records: which inputs take the serialized record; see `SavedModel`.

    Raises:
      SettingsError: the address or the name is missing, both a version and a label are given, the
        version is not a whole number, or signatures are not a tuple of names.
    """

    address: str
    model_name: str
    version: int | None = None
    version_label: str = ""
    signatures: tuple[str, ...] = ()
    # What may hold secrets is not shown.
    credentials: Callable[[], grpc.ChannelCredentials] | str | None = field(
        default=None, repr=False
    )
    channel_options: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    limits: Limits = field(default_factory=Limits)
    takes_records: TakesRecords = None

    def __post_init__(self) -> None:
        if not self.address or not self.model_name:
            raise SettingsError(
                f"TFServing needs an address (host:port) and a model_name, but has "
                f"{self.address!r} and {self.model_name!r}. Fill in both."
            )
        check_tuple("TFServing.signatures", self.signatures, str)
        if self.takes_records is not None and not isinstance(self.takes_records, bool):
            check_tuple("TFServing.takes_records", self.takes_records, str)
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
        return self._load_soon(record_format).signatures

    def fitted(self, record_format: str, first: FirstRecords) -> TFServing:
        """Returns the model with `takes_records` as the records tell.

        Raises:
          EndpointError: the server does not answer.
          ModelError: no record has a feature for an input.
        """
        feeds = self._load_soon(record_format).feeds
        return feeds.fitted(self, first, f"The model at {self.uri}")

    def _load_soon(self, record_format: str) -> TFServingPredictor:
        limits = replace(self.limits, total_seconds=self.limits.request_seconds)
        return replace(self, limits=limits).load(record_format)

    def load(self, record_format: str) -> TFServingPredictor:
        return TFServingPredictor(self, record_format)

    def definitions(self) -> dict[str, Any]:
        """Returns the SignatureDefs of all signatures, as the server describes them.

        Raises:
          EndpointError: the server does not answer, or does not describe them.
        """
        limits = replace(self.limits, total_seconds=self.limits.request_seconds)
        return _Server(self, Caller(self.uri, limits)).signature_defs()

    def fingerprint(self) -> str:
        """Returns a digest of the version's name, or an empty string if the server chooses one.

        A server does not show the model's files, but keeps a version as it is.
        """
        return hashlib.sha256(self.uri.encode()).hexdigest() if self.version is not None else ""


class TFServingPredictor:
    """Sends batches to the server; see `Predictor`."""

    def __init__(self, model: TFServing, record_format: str, caller: Caller | None = None) -> None:
        self._model = model
        self._caller = caller or Caller(model.uri, model.limits)
        self._judge = Judge(self._caller)
        self._server = _Server(model, self._caller)
        definitions = signature_defs.select(
            self._server.signature_defs(),
            model.signatures,
            record_format,
            model.uri,
            "TFServing.signatures",
        )
        self.signatures = signature_defs.signatures(definitions)
        self.feeds = Feeds(definitions, record_format, model.takes_records)
        self._methods = {CLASSIFY: self._classify, REGRESS: self._regress}
        advice = "Set TFServing.version to ask for one of them."
        self._served = ServedModel(model.uri, output_names(self.signatures), advice)

    @property
    def input_name(self) -> str:
        return self.feeds.input_name

    def predict(self, batch: Sequence[bytes]) -> Prediction:
        return self._judge.predict(self._score, batch)

    def _score(self, batch: Sequence[bytes]) -> Prediction:
        import tensorflow as tf

        try:
            feeds = self.feeds(batch)
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise reason_of(error) from error
        outputs = {}
        versions: set[str] = set()
        for signature, calls in zip(self.signatures, feeds, strict=True):
            rows = len(batch)
            if signature.method in self._methods:
                answered = [self._methods[signature.method](signature, batch)]
            else:
                rows = sum(call.rows for call in calls)
                answered = [self._predict(signature, call) for call in calls]
            versions.update(*(self._version(spec) for spec, _ in answered))
            prefix = output_prefix(signature, self.signatures)
            for name in sorted(answered[0][1]):
                values = _joined([result[name] for _, result in answered if name in result])
                signature_defs.check_rows(name, values, rows)
                outputs[prefix + name] = values[: len(batch)]
        return self._served.check(Prediction(outputs, versions=frozenset(versions)))

    def _predict(self, signature: Signature, call: Call) -> _Result:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        for name, tensor in call.inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
        response = self._server.call(self._server.stub.Predict, request, signature)
        try:
            result = {name: tf.make_ndarray(t) for name, t in response.outputs.items()}
        except (TypeError, ValueError) as error:
            raise EndpointError(
                f"{self._model.uri} answered with a tensor that cannot be read: {error}. Check "
                f"what the server is."
            ) from error
        return response.model_spec, result

    def _classify(self, signature: Signature, batch: Sequence[bytes]) -> _Result:
        from tensorflow_serving.apis import classification_pb2

        request = classification_pb2.ClassificationRequest()
        _add_examples(request, batch)
        response = self._server.call(self._server.stub.Classify, request, signature)
        rows = [result.classes for result in response.result.classifications]
        outputs = {
            SCORES_OUTPUT: np.array([[c.score for c in row] for row in rows], np.float32),
            CLASSES_OUTPUT: np.array([[c.label.encode() for c in row] for row in rows], object),
        }
        named = {name: outputs[name] for name in outputs if name in signature.outputs}
        return response.model_spec, named

    def _regress(self, signature: Signature, batch: Sequence[bytes]) -> _Result:
        from tensorflow_serving.apis import regression_pb2

        request = regression_pb2.RegressionRequest()
        _add_examples(request, batch)
        response = self._server.call(self._server.stub.Regress, request, signature)
        values = [regression.value for regression in response.result.regressions]
        return response.model_spec, {REGRESS_OUTPUT: np.array(values, np.float32)}

    def _version(self, spec: Any) -> list[str]:
        """Returns the version that answered, if the server tells."""
        if not spec.HasField("version"):
            return []
        version = spec.version.value
        if self._model.version not in (None, version):
            raise EndpointError(
                f"{self._model.uri} was asked for version {self._model.version}, but answered with "
                f"version {version}. Check what the server is."
            )
        return [str(version)]


class _Server:
    """The connection to a server, for one model."""

    def __init__(self, model: TFServing, caller: Caller) -> None:
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        self._model = model
        self._caller = caller
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(_channel(model))

    def signature_defs(self) -> dict[str, Any]:
        """Returns what the server says of all signatures."""
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        try:
            response = self.call(self.stub.GetModelMetadata, request)
        except answers.Refused as refused:
            raise EndpointError(
                f"{self._model.uri} did not describe its signatures: {refused}. Check the address, "
                f"and the model's name and version."
            ) from refused
        found = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(found)
        return dict(found.signature_def)

    def call(self, method: Any, request: Any, signature: Signature | None = None) -> Any:
        """Sends a request about the model, and returns the answer."""
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
                code, details = error.code(), error.details() or ""
                raise answers.error(self._model.uri, code.name, details, _ADVICE) from None

        return self._caller.call(attempt)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


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
