"""Models behind a Vertex AI endpoint as predictors, over REST."""

from __future__ import annotations

import base64
import email.utils
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bulk_inferencer.errors import EndpointError, ModelError, SettingsError
from bulk_inferencer.models import importing
from bulk_inferencer.models.predictor import FORMAT_TF_EXAMPLE, OutOfMemory, RecordError
from bulk_inferencer.models.retries import Caller, Limits, PassingError
from bulk_inferencer.models.signature_defs import DEFAULT_SIGNATURE
from bulk_inferencer.signatures import PREDICT, Signature

_PASSING = (429, 502, 503, 504)
# What no record can be the cause of.
_OF_THE_SERVER = (401, 403, 404)
_TOO_LARGE = re.compile(r"payload size|too large", re.IGNORECASE)
_UNNAMED_OUTPUT = "outputs"


@dataclass(frozen=True)
class VertexEndpoint:
    """A model that a Vertex AI endpoint serves.

    An instance is made from each tf.Example: `{"x": 1.0, "words": [{"b64": "..."}, ...]}`, a value
    alone where a feature has one, bytes in base64. With `input_name` it is the record itself, of
    any format, in base64 under that name. Numbers come back as float64, since JSON does not tell
    their types; predictions that are not objects become an output named `outputs`.

    Attributes:
      name: `projects/<project>/locations/<location>/endpoints/<endpoint>`.
      input_name: the name of an input that takes serialized records; default: features are sent.
      signature: the signature that the results name; a raw request asks for it.
      raw: whether to call `rawPredict`, which hands the request to the container as it is.
      client: makes the `PredictionServiceClient` on each worker; or where to import that function
        from, as `package.module:function`. Default: a REST client with the application default
        credentials.
      limits: how long to wait.

    Raises:
      SettingsError: the name is not that of an endpoint.
    """

    name: str
    input_name: str = ""
    signature: str = DEFAULT_SIGNATURE
    raw: bool = False
    client: Callable[[], Any] | str | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"projects/[^/]+/locations/[^/]+/endpoints/[^/]+", self.name):
            raise SettingsError(
                f"Expected projects/<project>/locations/<location>/endpoints/<endpoint> as name of "
                f"a VertexEndpoint, got {self.name!r}. Copy it from the endpoint's page."
            )

    @property
    def uri(self) -> str:
        """See `Model.uri`."""
        return f"vertex://{self.name}"

    def check(self, record_format: str) -> tuple[Signature, ...]:
        """Returns the signature; see `Model.check`. Its outputs are known with the first answer.

        Raises:
          ModelError: features are asked for, and records are not tf.Examples.
        """
        if not self.input_name and record_format != FORMAT_TF_EXAMPLE:
            raise ModelError(
                f"Expected {FORMAT_TF_EXAMPLE} records to make instances for {self.uri} from, got "
                f"{record_format}. Set input_name to send records as they are."
            )
        return (Signature(self.signature, PREDICT),)

    def load(self, record_format: str) -> VertexPredictor:
        """Makes the client; see `Model.load`."""
        return VertexPredictor(self, self.check(record_format))

    def fingerprint(self) -> str:
        """Returns nothing: an endpoint does not show the model's files."""
        return ""


class VertexPredictor:
    """Sends batches to the endpoint. See `Predictor`."""

    def __init__(self, model: VertexEndpoint, signatures: tuple[Signature, ...]) -> None:
        """Makes the client; see `VertexEndpoint.load`."""
        self.signatures = signatures
        self.input_name = model.input_name or "examples"
        self.versions: set[str] = set()
        self._model = model
        self._caller = Caller(model.uri, model.limits)
        make_client = model.client or (lambda: _rest_client(model.name))
        self._client = importing.function("VertexEndpoint.client", make_client)()

    def predict(self, batch: Sequence[bytes]) -> dict[str, np.ndarray]:
        """See `Predictor.predict`."""
        instances = [self._instance(record) for record in batch]
        request = self._raw_request(instances) if self._model.raw else self._request(instances)

        def attempt(timeout_seconds: float) -> list[Any]:
            from google.api_core.exceptions import GoogleAPICallError
            from google.auth.exceptions import TransportError
            from requests.exceptions import ConnectionError, Timeout

            try:
                return request(timeout_seconds)
            except GoogleAPICallError as error:
                raise self._translated(error) from error
            except (ConnectionError, Timeout, TransportError) as error:
                raise PassingError(f"{type(error).__name__}: {error}") from error

        predictions = self._caller.call(attempt)
        if len(predictions) != len(batch):
            raise EndpointError(
                f"Expected {len(batch)} predictions for {len(batch)} instances, got "
                f"{len(predictions)} from {self._model.uri}. Return one per instance."
            )
        return self._outputs(predictions)

    def _instance(self, record: bytes) -> dict[str, Any]:
        if self._model.input_name:
            return {self._model.input_name: _base64(record)}
        return features(record)

    def _request(self, instances: list[dict[str, Any]]) -> Callable[[float], list[Any]]:
        from google.protobuf import json_format, struct_pb2

        values = [json_format.ParseDict(instance, struct_pb2.Value()) for instance in instances]

        def request(timeout_seconds: float) -> list[Any]:
            response = self._client.predict(
                endpoint=self._model.name, instances=values, retry=None, timeout=timeout_seconds
            )
            self.versions.add(response.model_version_id or response.deployed_model_id)
            return [json_format.MessageToDict(p) for p in type(response).pb(response).predictions]

        return request

    def _raw_request(self, instances: list[dict[str, Any]]) -> Callable[[float], list[Any]]:
        from google.api import httpbody_pb2

        content = {"signature_name": self._model.signature, "instances": instances}
        body = httpbody_pb2.HttpBody(
            content_type="application/json", data=json.dumps(content).encode()
        )

        def request(timeout_seconds: float) -> list[Any]:
            response = self._client.raw_predict(
                request={"endpoint": self._model.name, "http_body": body},
                retry=None,
                timeout=timeout_seconds,
            )
            try:
                predictions: list[Any] = json.loads(response.data)["predictions"]
            except (ValueError, KeyError, TypeError) as error:
                raise EndpointError(
                    f"Expected JSON with predictions from {self._model.uri}, got "
                    f"{response.data[:200]!r}. Check what the container returns."
                ) from error
            return predictions

        return request

    def _outputs(self, predictions: list[Any]) -> dict[str, np.ndarray]:
        rows = [p if isinstance(p, dict) else {_UNNAMED_OUTPUT: p} for p in predictions]
        names = sorted(rows[0])
        for row in rows:
            if sorted(row) != names:
                raise EndpointError(
                    f"Expected every prediction of a batch to have the outputs "
                    f"{', '.join(names)}, got {', '.join(sorted(row))} from {self._model.uri}. "
                    f"Return the same outputs for each instance."
                )
        return {name: self._array(name, [row[name] for row in rows]) for name in names}

    def _array(self, name: str, values: list[Any]) -> np.ndarray:
        try:
            array = np.array(_decoded(values))
        except ValueError as error:  # rows of different lengths
            raise EndpointError(
                f"Expected output '{name}' to have one shape for all records of a batch, got "
                f"different ones from {self._model.uri}. Pad it to one length."
            ) from error
        if array.dtype.kind in "SU":
            # From the values once more: arrays of strings drop zero bytes at their ends.
            shape = array.shape
            array = np.empty(array.size, object)
            array[:] = list(_flattened(_decoded(values)))
            return array.reshape(shape)
        return array if array.dtype == bool else array.astype(np.float64)

    def _translated(self, error: Any) -> Exception:
        code = int(error.code)
        if code == 413 or (code == 400 and _TOO_LARGE.search(error.message)):
            return OutOfMemory(error.message)
        if code in _PASSING:
            return PassingError(f"{code}: {error.message}", _retry_after_seconds(error.response))
        if code in _OF_THE_SERVER:
            return EndpointError(
                f"Expected {self._model.uri} to answer, got {code}: {error.message}. Check the "
                f"endpoint's name, the location and the credentials."
            )
        return RecordError(type(error).__name__, error.message)


def features(record: bytes) -> dict[str, Any]:
    """Returns the features of a serialized tf.Example as JSON values.

    Raises:
      RecordError: it is not a tf.Example.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        example = tf.train.Example.FromString(record)
    except DecodeError as error:
        raise RecordError("DecodeError", f"not a tf.Example: {error}") from error
    instance = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        if kind == "bytes_list":
            values = [_base64(value) for value in values]
        instance[name] = values[0] if len(values) == 1 else values
    return instance


def _rest_client(endpoint: str) -> Any:
    from google.cloud.aiplatform_v1 import PredictionServiceClient

    location = endpoint.split("/")[3]
    return PredictionServiceClient(
        transport="rest",
        client_options={"api_endpoint": f"{location}-aiplatform.googleapis.com"},
    )


def _base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _decoded(value: Any) -> Any:
    """Returns a JSON value with strings as bytes."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, Mapping) and value.keys() == {"b64"}:
        return base64.b64decode(value["b64"])
    return value.encode() if isinstance(value, str) else value


def _flattened(value: Any) -> Any:
    if isinstance(value, list):
        for item in value:
            yield from _flattened(item)
    else:
        yield value


def _retry_after_seconds(response: Any) -> float | None:
    """Returns what the header says, in seconds or as a date (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After") if response is not None else None
    if value is None:
        return None
    if value.isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())
