"""Models behind a Vertex AI endpoint as predictors, over REST."""

from __future__ import annotations

import base64
import email.utils
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bulk_inferencer._models import importing
from bulk_inferencer._models.predictor import FORMAT_TF_EXAMPLE, OutOfMemory, RecordError
from bulk_inferencer._models.retries import Caller, Limits, PassingError
from bulk_inferencer._models.signature_defs import DEFAULT_SIGNATURE
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.errors import EndpointError, ModelError, SettingsError

_PASSING = (429, 502, 503, 504)
# What no record can be the cause of.
_OF_THE_SERVER = (401, 403, 404, 405, 501)
_NOT_READY = re.compile(r"FAILED_PRECONDITION|no deployed", re.IGNORECASE)
_TOO_LARGE = re.compile(r"(payload|request) size", re.IGNORECASE)
# What answers to raw requests say of the model, the most telling first.
_VERSION_HEADERS = ("X-Vertex-AI-Model-Version-Id", "X-Vertex-AI-Deployed-Model-Id")
_UNNAMED_OUTPUT = "outputs"
# Vertex AI reads JSON's numbers as float64, which do not tell larger integers apart.
_LARGEST_JSON_INTEGER = 2**53
_LONGEST_BODY = 500  # in messages
# What an output may consist of; null is how JSON writes NaN.
_KINDS = {
    bool: "booleans",
    int: "numbers",
    float: "numbers",
    type(None): "numbers",
    bytes: "strings",
}
_DTYPES: dict[str, Any] = {"booleans": bool, "numbers": np.float64, "strings": object}


@dataclass(frozen=True)
class VertexEndpoint:
    """A model that a Vertex AI endpoint serves.

    An instance is made from each tf.Example: `{"x": 1.0, "words": [{"b64": "..."}, ...]}`, a value
    alone where a feature has one, bytes in base64. With `input_name` it is the record itself, of
    any format, in base64 under that name. Numbers come back as float64, since JSON does not tell
    their types, and null as NaN; predictions that are not objects become an output named `outputs`.

    Attributes:
      name: `projects/<project>/locations/<location>/endpoints/<endpoint>`.
      input_name: the name of an input that takes serialized records; default: features are sent.
      signature: the signature that the results name; a raw request asks for it.
      raw: whether to call `rawPredict`, which hands the request to the container as it is.
      client: makes the `PredictionServiceClient` on each worker; or where to import that function
        from, as `package.module:function`. Raw requests need one with the REST transport. Default:
        a REST client with the application default credentials.
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

    stages: tuple[str, ...] = ()

    def __init__(self, model: VertexEndpoint, signatures: tuple[Signature, ...]) -> None:
        """Makes the client; see `VertexEndpoint.load`."""
        self.signatures = signatures
        self.input_name = model.input_name or "examples"
        self.versions: set[str] = set()
        self._model = model
        self._caller = Caller(model.uri, model.limits)
        self._client = self._make_client()

    def predict(self, batch: Sequence[bytes]) -> dict[str, np.ndarray]:
        """See `Predictor.predict`."""
        instances = [self._instance(record) for record in batch]
        request = self._raw_request(instances) if self._model.raw else self._request(instances)

        def attempt(timeout_seconds: float) -> Any:
            from google.api_core.exceptions import GoogleAPICallError
            from google.auth.exceptions import GoogleAuthError, TransportError
            from requests.exceptions import (
                ChunkedEncodingError,
                ConnectionError,
                SSLError,
                Timeout,
            )

            try:
                return request(timeout_seconds)
            except GoogleAPICallError as error:
                code = int(error.code or 500)
                raise self._translated(code, error.message, error.response) from error
            except SSLError as error:
                raise EndpointError(
                    f"Expected an encrypted connection to {self._model.uri}, got {error}. Check "
                    f"the certificates of worker and server."
                ) from error
            except (ChunkedEncodingError, ConnectionError, Timeout, TransportError) as error:
                raise PassingError(f"{type(error).__name__}: {error}") from error
            except GoogleAuthError as error:
                if error.retryable:
                    raise PassingError(f"{type(error).__name__}: {error}") from error
                raise self._credentials_error(error) from error

        predictions = self._caller.call(attempt)
        if len(predictions) != len(batch):
            raise EndpointError(
                f"Expected {len(batch)} predictions for {len(batch)} instances, got "
                f"{len(predictions)} from {self._model.uri}. Return one per instance."
            )
        return self._outputs(predictions)

    def _make_client(self) -> Any:
        from google.auth.exceptions import GoogleAuthError

        make_client = self._model.client or (lambda: _rest_client(self._model.name))
        try:
            client = importing.function("VertexEndpoint.client", make_client)()
        except GoogleAuthError as error:
            raise self._credentials_error(error) from error
        if self._model.raw and client.transport.kind != "rest":
            raise SettingsError(
                f"Expected VertexEndpoint.client to return a client with the REST transport for "
                f"raw requests, got {client.transport.kind}. Make it with transport='rest'."
            )
        return client

    def _instance(self, record: bytes) -> dict[str, Any]:
        if self._model.input_name:
            return {self._model.input_name: _base64(record)}
        return features(record)

    def _request(self, instances: list[dict[str, Any]]) -> Callable[[float], list[Any]]:
        from google.protobuf import json_format, struct_pb2

        for instance in instances:
            _check_numbers(instance)
        values = [json_format.ParseDict(instance, struct_pb2.Value()) for instance in instances]

        def request(timeout_seconds: float) -> list[Any]:
            try:
                response = self._client.predict(
                    endpoint=self._model.name, instances=values, retry=None, timeout=timeout_seconds
                )
            except json_format.ParseError as error:
                raise self._unreadable(error, str(error)) from error
            except (AttributeError, TypeError) as error:
                # Google's client cannot read an error whose JSON is not of Google's own form, such
                # as a proxy's, and hides its status; an overloaded server is the likely one.
                raise PassingError(f"an error that is not Google's: {error}") from error
            self._add_version(response.model_version_id, response.deployed_model_id)
            return [json_format.MessageToDict(p) for p in type(response).pb(response).predictions]

        return request

    def _raw_request(self, instances: list[dict[str, Any]]) -> Callable[[float], list[Any]]:
        content = {"signature_name": self._model.signature, "instances": instances}
        body = json.dumps(content).encode()
        # Not the client's raw_predict: over REST it wraps the body in a message and takes the
        # answer for another one, while the service hands both on as they are.
        transport = self._client.transport
        url = f"{transport.host}/v1/{self._model.name}:rawPredict"
        headers = {"Content-Type": "application/json"}

        def request(timeout_seconds: float) -> list[Any]:
            response = transport._session.post(
                url, data=body, headers=headers, timeout=timeout_seconds
            )
            if response.status_code >= 400:
                message = response.text[:_LONGEST_BODY]
                raise self._translated(response.status_code, message, response)
            try:
                predictions = json.loads(response.content)["predictions"]
                if not isinstance(predictions, list):
                    raise TypeError(f"a list is not {type(predictions).__name__}")
            except (ValueError, KeyError, TypeError) as error:
                raise self._unreadable(error, repr(response.content[:_LONGEST_BODY])) from error
            self._add_version(*(response.headers.get(name) for name in _VERSION_HEADERS))
            return predictions

        return request

    def _add_version(self, *names: str | None) -> None:
        """Adds the first of the names that the answer has."""
        self.versions.update([name for name in names if name][:1])

    def _outputs(self, predictions: list[Any]) -> dict[str, np.ndarray]:
        rows = [p if _is_object(p) else {_UNNAMED_OUTPUT: p} for p in predictions]
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
        values = _decoded(values)
        leaves = list(_flattened(values))
        kinds = {_KINDS.get(type(leaf), "objects") for leaf in leaves} or {"numbers"}
        if len(kinds) > 1 or "objects" in kinds:
            raise EndpointError(
                f"Expected output '{name}' to consist of numbers, of strings or of booleans, got "
                f"{' and '.join(sorted(kinds))} from {self._model.uri}. Return values of one kind, "
                f"under a name of their own."
            )
        try:
            shape = np.array(values).shape
        except ValueError as error:  # rows of different lengths
            raise EndpointError(
                f"Expected output '{name}' to have one shape for all records of a batch, got "
                f"different ones from {self._model.uri}. Pad it to one length."
            ) from error
        # From the leaves: NumPy's own strings drop zero bytes at their ends.
        array = np.empty(len(leaves), _DTYPES[kinds.pop()])
        array[:] = leaves
        return array.reshape(shape)

    def _unreadable(self, error: Exception, got: str) -> Exception:
        """Returns the error for an answer that is no JSON with predictions."""
        if _is_cut_short(error):
            return PassingError(f"an answer that was cut short: {got}")
        return self._no_predictions(got)

    def _no_predictions(self, got: str) -> EndpointError:
        return EndpointError(
            f"Expected JSON with a list of predictions from {self._model.uri}, got {got}. Check "
            f"what the container returns."
        )

    def _credentials_error(self, error: Exception) -> EndpointError:
        return EndpointError(
            f"Expected credentials for {self._model.uri}, got {type(error).__name__}: {error}. "
            f"Give workers a service account, or set VertexEndpoint.client."
        )

    def _translated(self, code: int, message: str, response: Any) -> Exception:
        if code == 413 or (code == 400 and _TOO_LARGE.search(message)):
            return OutOfMemory(message)
        if code in _PASSING:
            return PassingError(f"{code}: {message}", _retry_after_seconds(response))
        if code in _OF_THE_SERVER or (code == 400 and _NOT_READY.search(message)):
            return EndpointError(
                f"Expected {self._model.uri} to answer, got {code}: {message}. Check the "
                f"endpoint's name, the location and the credentials."
            )
        return RecordError(f"HTTP {code}", message)


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


def _check_numbers(instance: Mapping[str, Any]) -> None:
    """Checks what would arrive as another number, or as a string such as "NaN"."""
    for name, values in instance.items():
        for value in values if isinstance(values, list) else [values]:
            is_rounded = isinstance(value, int) and abs(value) > _LARGEST_JSON_INTEGER
            is_text = isinstance(value, float) and not math.isfinite(value)
            if is_rounded or is_text:
                raise RecordError(
                    "ValueError", f"feature '{name}' is {value}, which JSON's numbers cannot hold"
                )


def _base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_bytes(value)


def _is_cut_short(error: BaseException | None) -> bool:
    """Returns whether JSON could not be read because it ends too early.

    urllib3 2 notices that itself, when fewer bytes come than were announced. Older ones, which
    kfp 2.5 needs, hand on what came.
    """
    while error is not None:
        if isinstance(error, json.JSONDecodeError):
            is_at_end = error.pos == len(error.doc) or error.msg.startswith("Unterminated string")
            return is_at_end and bool(error.doc)
        error = error.__cause__ or error.__context__
    return False


def _decoded(value: Any) -> Any:
    """Returns a JSON value with strings as bytes."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if _is_bytes(value):
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
    headers = getattr(response, "headers", {})  # clients with another transport have none
    value = headers.get("Retry-After")
    if value is None:
        return None
    if value.isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())
