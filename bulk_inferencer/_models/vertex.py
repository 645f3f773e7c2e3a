"""Models behind a Vertex AI endpoint as predictors, over REST."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from bulk_inferencer import _extras
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models import answers, importing, json_instances
from bulk_inferencer._models.judge import Judge
from bulk_inferencer._models.predictor import Prediction
from bulk_inferencer._models.retries import Caller, Limits, TransientError
from bulk_inferencer._models.served_model import ServedModel
from bulk_inferencer._models.signature_defs import DEFAULT_SIGNATURE
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.errors import EndpointError, ModelError, SettingsError

_ADVICE = "Check the endpoint's name, the location and the credentials."
# What answers to raw requests say about the model, the most specific first.
_VERSION_HEADERS = ("X-Vertex-AI-Model-Version-Id", "X-Vertex-AI-Deployed-Model-Id")
_LONGEST_BODY = 500  # in messages

_Answer: TypeAlias = tuple[list[Any], str]  # predictions as JSON, and the version that made them


@dataclass(frozen=True)
class VertexEndpoint:
    """A model that a Vertex AI endpoint serves.

    ```python
    VertexEndpoint("projects/my-project/locations/us-central1/endpoints/1234567890")
    ```

    Each tf.Example becomes an instance, such as `{"x": 1.0, "words": [{"b64": "..."}, ...]}`: a
    feature with one value is that value alone, and bytes are in base64. A row of a table becomes
    one with its columns: lists and text are what they are, and what is missing is null. With
    `input_name`, the instance holds the record itself, of any format, in base64 under that name.
    Numbers come back as float64, since JSON does not tell their types, and null as NaN. Predictions
    that are not objects become an output named `outputs`.

    Attributes:
      name: `projects/<project>/locations/<location>/endpoints/<endpoint>`.
      input_name: the name of an input that takes serialized records; default: features are sent.
      signature: the name of the signature in the results; a raw request asks for it.
      raw: whether to call `rawPredict`, which passes the request to the container unchanged.
      client: a function that makes the `PredictionServiceClient` on each worker; or the name to
        import it by, as `package.module:function`. Raw requests need the REST transport. Default:
        a REST client with the application default credentials.
      limits: how long to wait.

    Raises:
      SettingsError: the name is not that of an endpoint.
    """

    name: str
    input_name: str = ""
    signature: str = DEFAULT_SIGNATURE
    raw: bool = False
    client: Callable[[], Any] | str | None = field(default=None, repr=False)  # may hold secrets
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"projects/[^/]+/locations/[^/]+/endpoints/[^/]+", self.name):
            raise SettingsError(
                f"VertexEndpoint.name must be projects/<project>/locations/<location>/endpoints/"
                f"<endpoint>, not {self.name!r}. Copy it from the endpoint's page."
            )

    @property
    def uri(self) -> str:
        return f"vertex://{self.name}"

    def check(self, record_format: str) -> tuple[Signature, ...]:
        """Returns the signature, without outputs: only an answer tells those.

        Raises:
          MissingExtraError: google-cloud-aiplatform is not installed.
          ModelError: instances are made from features, but the records are not tf.Examples.
        """
        _extras.require("google.cloud.aiplatform_v1", extra="vertex", user="VertexEndpoint")
        if not self.input_name and record_format != FORMAT_TF_EXAMPLE:
            raise ModelError(
                f"Instances for {self.uri} can only be made from {FORMAT_TF_EXAMPLE} records, not "
                f"from {record_format}. Set VertexEndpoint.input_name to send records as they are, "
                f"or write a preprocess function that returns a serialized tf.Example for each."
            )
        return (Signature(self.signature, PREDICT),)

    def load(self, record_format: str) -> VertexPredictor:
        return VertexPredictor(self, self.check(record_format))

    def fingerprint(self) -> str:
        """Returns an empty string, since an endpoint does not show the model's files."""
        return ""


class VertexPredictor:
    """Sends batches to the endpoint; see `Predictor`."""

    def __init__(
        self,
        model: VertexEndpoint,
        signatures: tuple[Signature, ...],
        caller: Caller | None = None,
    ) -> None:
        self.signatures = signatures
        self.input_name = model.input_name or "examples"
        self._model = model
        self._caller = caller or Caller(model.uri, model.limits)
        self._judge = Judge(self._caller)
        advice = "Send all traffic of the endpoint to one of them."
        self._served = ServedModel(model.uri, (), advice)
        self._client = self._make_client()

    def predict(self, batch: Sequence[bytes]) -> Prediction:
        return self._judge.predict(self._score, batch)

    def _score(self, batch: Sequence[bytes]) -> Prediction:
        instances = json_instances.instances(batch, self._model.input_name)
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
                raise self._refusal(error) from None
            except SSLError as error:
                raise EndpointError(
                    f"Could not make an encrypted connection to {self._model.uri}: {error}. Check "
                    f"the certificates of the worker and of the server."
                ) from None
            except (ChunkedEncodingError, ConnectionError, Timeout, TransportError) as error:
                raise TransientError(_told(error)) from None
            except GoogleAuthError as error:
                if error.retryable:
                    raise TransientError(_told(error)) from None
                raise self._credentials_error(error) from None

        predictions, version = self._caller.call(attempt)
        if len(predictions) != len(batch):
            raise EndpointError(
                f"{self._model.uri} returned {len(predictions)} predictions for {len(batch)} "
                f"instances. Return one for each instance."
            )
        outputs = json_instances.outputs(predictions, self._model.uri)
        versions = frozenset([version] if version else [])
        return self._served.check(Prediction(outputs, versions=versions))

    def _make_client(self) -> Any:
        from google.auth.exceptions import GoogleAuthError

        make_client = self._model.client or (lambda: _rest_client(self._model.name))
        try:
            client = importing.function("VertexEndpoint.client", make_client)()
        except GoogleAuthError as error:
            raise self._credentials_error(error) from None
        if self._model.raw and client.transport.kind != "rest":
            raise SettingsError(
                f"Raw requests need the REST transport, but VertexEndpoint.client has "
                f"{client.transport.kind}. Create the client with transport='rest'."
            )
        return client

    def _request(self, instances: list[dict[str, Any]]) -> Callable[[float], _Answer]:
        from google.protobuf import json_format, struct_pb2

        for instance in instances:
            json_instances.check_numbers(instance)
        values = [json_format.ParseDict(instance, struct_pb2.Value()) for instance in instances]

        def request(timeout_seconds: float) -> _Answer:
            try:
                response = self._client.predict(
                    endpoint=self._model.name, instances=values, retry=None, timeout=timeout_seconds
                )
            except json_format.ParseError as error:
                raise self._unreadable(error, str(error)) from error
            except (AttributeError, TypeError) as error:
                # Google's client cannot read an error in another form than Google's own, such as a
                # proxy's, and hides its status. An overloaded server is the most likely cause.
                raise TransientError(f"an error in another form than Google's: {error}") from None
            found = type(response).pb(response).predictions
            version = response.model_version_id or response.deployed_model_id
            return [json_format.MessageToDict(prediction) for prediction in found], version

        return request

    def _raw_request(self, instances: list[dict[str, Any]]) -> Callable[[float], _Answer]:
        content = {"signature_name": self._model.signature, "instances": instances}
        body = json.dumps(content).encode()
        # Not the client's raw_predict: over REST, it wraps the body in a message and expects the
        # answer in another, but the service passes both on as they are.
        transport = self._client.transport
        url = f"{transport.host}/v1/{self._model.name}:rawPredict"
        headers = {"Content-Type": "application/json"}

        def request(timeout_seconds: float) -> _Answer:
            response = transport._session.post(
                url, data=body, headers=headers, timeout=timeout_seconds
            )
            if response.status_code >= 400:
                raise self._refusal_of(response)
            try:
                predictions = json.loads(response.content)["predictions"]
                if not isinstance(predictions, list):
                    raise TypeError(f"predictions is not a list, but {predictions!r}")
            except (ValueError, KeyError, TypeError) as error:
                raise self._unreadable(error, repr(response.content[:_LONGEST_BODY])) from error
            versions = (response.headers.get(name) for name in _VERSION_HEADERS)
            return predictions, next(filter(None, versions), "")

        return request

    def _unreadable(self, error: Exception, got: str) -> Exception:
        """Returns the error to raise for an answer that is not JSON with predictions."""
        if _is_cut_short(error):
            return TransientError(f"an answer that was cut short: {got}")
        return EndpointError(
            f"{self._model.uri} did not answer with JSON that has a list of predictions, but "
            f"with {got}. Check what the container returns."
        )

    def _credentials_error(self, error: Exception) -> EndpointError:
        return EndpointError(
            f"No valid credentials for {self._model.uri}: {_told(error)}. Give workers a service "
            f"account, or set VertexEndpoint.client."
        )

    def _refusal(self, error: Any) -> Exception:
        """Returns the error to raise for one of Google's client."""
        if hasattr(error.response, "status_code"):
            return self._refusal_of(error.response)
        status = error.grpc_status_code  # of another transport than REST
        code = status.name if status else str(int(error.code or 500))
        return answers.error(self._model.uri, code, error.message, _ADVICE)

    def _refusal_of(self, response: Any) -> Exception:
        """Returns the error to raise for an HTTP answer."""
        status, message = _described(response)
        code, seconds = str(response.status_code), _retry_after_seconds(response)
        return answers.error(self._model.uri, code, message, _ADVICE, status, seconds)


def _rest_client(endpoint: str) -> Any:
    from google.cloud.aiplatform_v1 import PredictionServiceClient

    location = endpoint.split("/")[3]
    return PredictionServiceClient(
        transport="rest",
        client_options={"api_endpoint": f"{location}-aiplatform.googleapis.com"},
    )


def _told(error: Exception) -> str:
    text = answers.without_secrets(f"{type(error).__name__}: {error}")
    return text.rstrip(". ")  # A sentence goes on behind it.


def _described(response: Any) -> tuple[str, str]:
    """Returns the name of an error's gRPC status, if it has one, and the message.

    Google's services answer `{"error": {"status": ..., "message": ...}}`, TensorFlow Serving
    `{"error": message}`, and others as they like.
    """
    text = response.text[:_LONGEST_BODY]
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return "", text
    if not isinstance(error, dict):
        return "", str(error)
    return str(error.get("status", "")), str(error.get("message", text))


def _is_cut_short(error: BaseException | None) -> bool:
    """Returns whether JSON could not be parsed because it ends too early.

    urllib3 2 notices by itself that fewer bytes came than were announced. Older versions, which
    kfp 2.5 needs, return what came.
    """
    while error is not None:
        if isinstance(error, json.JSONDecodeError):
            is_at_end = error.pos == len(error.doc) or error.msg.startswith("Unterminated string")
            return is_at_end and bool(error.doc)
        error = error.__cause__ or error.__context__
    return False


def _retry_after_seconds(response: Any) -> float | None:
    """Returns the header's value, which is in seconds or a date (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After")
    if value is None:
        return None
    if value.isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())
