"""From protos to dataclasses: the one place where settings change their form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from tfx.orchestration import data_types
from tfx.proto import bulk_inferrer_pb2

from bulk_inferencer import bulk_inferencer_pb2
from bulk_inferencer._formats.example import Column
from bulk_inferencer._models.batching import BatchBounds
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.routing import SplitRouting
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer._models.vertex import VertexEndpoint
from bulk_inferencer._signatures import (
    CLASSES_OUTPUT,
    REGRESS_OUTPUT,
    SCORES_OUTPUT,
    Signature,
    output_prefix,
)
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results.compare import Comparing

_Setting = TypeVar("_Setting", bound=Message)

_TEMPLATE_MARKS = ("{{", "{%", "{#")


def to_setting(
    name: str, value: Any, kind: type[_Setting]
) -> _Setting | data_types.RuntimeParameter | None:
    """Returns what a pipeline's author gave as a message of ours, or as a runtime parameter.

    Args:
      name: the component's parameter, for messages.
      value: None, one of our messages, TFX's message of the same name, or a runtime parameter
        that holds JSON.
      kind: our message type.

    Raises:
      SettingsError: it is something else, is not consistent, or holds a mark that Airflow would
        render.
    """
    if value is None:
        return None
    if isinstance(value, data_types.RuntimeParameter):
        if value.default is not None:
            _check(name, parse(name, str(value.default), kind))
        return value
    message = _converted(value, kind)
    if message is None:
        name_of_peer = _peer(kind).DESCRIPTOR.full_name
        raise SettingsError(
            f"Expected {kind.DESCRIPTOR.full_name}, TFX's {name_of_peer} or a RuntimeParameter "
            f"with its JSON as {name}, got {type(value).__name__}."
        )
    _check(name, message)
    return message


def to_message(name: str, value: Any, kind: type[_Setting]) -> _Setting:
    """Returns what a pipeline's author gave as a message, or an empty one for None.

    For what has to be known while the pipeline is being built: no runtime parameter can say it.

    Args:
      name: the component's parameter, for messages.
      value: None, one of our messages or TFX's message of the same name.
      kind: our message type.

    Raises:
      SettingsError: see `to_setting`.
    """
    if value is None:
        return kind()
    message = _converted(value, kind)
    if message is None:
        raise SettingsError(
            f"Expected bulk_inferencer_pb2.{kind.DESCRIPTOR.name} as {name}, got "
            f"{type(value).__name__}. A runtime parameter cannot say it either: it has to be known "
            f"while the pipeline is being built."
        )
    _check(name, message)
    return message


def _peer(kind: type[_Setting]) -> type[Message]:
    """Returns TFX's message of the same name, or `kind` itself where TFX has none."""
    peer: type[Message] = getattr(bulk_inferrer_pb2, kind.DESCRIPTOR.name, kind)
    return peer


def _converted(value: Any, kind: type[_Setting]) -> _Setting | None:
    """Returns a message of ours, or TFX's of the same name, as ours; None for anything else."""
    if isinstance(value, kind):
        return value
    return kind.FromString(value.SerializeToString()) if isinstance(value, _peer(kind)) else None


def parse(name: str, text: str | None, kind: type[_Setting]) -> _Setting:
    """Returns the message that an execution property holds as JSON.

    Raises:
      SettingsError: the text is not JSON of this message.
    """
    try:
        # A list would pass as a message without fields.
        if text and not text.lstrip().startswith("{"):
            raise json_format.ParseError("it is not a JSON object")
        return json_format.Parse(text or "{}", kind())
    except (json_format.ParseError, DecodeError) as error:
        raise SettingsError(
            f"Expected JSON of {kind.DESCRIPTOR.full_name} as {name}, got {text!r}: {error}."
        ) from error


def model(spec: bulk_inferencer_pb2.ModelSpec, path: str) -> Model:
    """Returns the endpoint of `spec`, or else the model at `path`, to be called as `spec` says.

    Raises:
      SettingsError: the endpoint's settings are not consistent.
    """
    signatures = tuple(spec.model_signature_name)
    kind = spec.WhichOneof("endpoint")
    if kind == "tf_serving":
        return _tf_serving(spec.tf_serving, signatures)
    if kind == "vertex_endpoint":
        return _vertex_endpoint(spec.vertex_endpoint, signatures)
    return SavedModel(
        path,
        signatures=signatures,
        tags=tuple(spec.tag),
        import_modules=tuple(spec.import_modules),
    )


def _tf_serving(spec: bulk_inferencer_pb2.TFServingSpec, signatures: tuple[str, ...]) -> TFServing:
    return TFServing(
        spec.address,
        spec.model_name,
        version=spec.version if spec.HasField("version") else None,
        version_label=spec.version_label,
        signatures=signatures,
        credentials=spec.credentials or None,
        channel_options=tuple(
            (option.name, option.text if option.HasField("text") else option.number)
            for option in spec.channel_options
        ),
        limits=_limits(spec.limits),
    )


def _vertex_endpoint(
    spec: bulk_inferencer_pb2.VertexEndpointSpec, signatures: tuple[str, ...]
) -> VertexEndpoint:
    if len(signatures) > 1:
        raise SettingsError(
            f"Expected at most one signature for {spec.name}, got {', '.join(signatures)}: an "
            f"endpoint calls one. Correct ModelSpec.model_signature_name."
        )
    named = {"signature": signatures[0]} if signatures else {}
    return VertexEndpoint(
        spec.name,
        input_name=spec.input_name,
        raw=spec.raw,
        client=spec.client or None,
        limits=_limits(spec.limits),
        **named,
    )


def _limits(spec: bulk_inferencer_pb2.RequestLimits) -> Limits:
    given = {field.name: value for field, value in spec.ListFields()}
    return Limits(**given)


def cascade(spec: bulk_inferencer_pb2.CascadeSpec, paths: Mapping[str, str]) -> CascadeModel:
    """Returns the models that score one after the other.

    Args:
      spec: the stages.
      paths: the folders of their models by name.

    Raises:
      SettingsError: a stage's settings are not consistent.
    """
    stages = []
    for stage in spec.stages:
        columns_of_stage: tuple[Column, ...] = ()
        if stage.HasField("output_columns_spec"):
            as_output = bulk_inferencer_pb2.OutputExampleSpec(
                output_columns_spec=[stage.output_columns_spec]
            )
            columns_of_stage = columns(as_output, stage.model_spec)
        exits = []
        for exit_when in stage.exit_when:
            bounds = {f.name: v for f, v in exit_when.ListFields() if f.name != "output_key"}
            exits.append(ExitWhen(exit_when.output_key, **bounds))
        model_of_stage = model(stage.model_spec, paths.get(stage.name, ""))
        stages.append(Stage(stage.name, model_of_stage, columns_of_stage, tuple(exits)))
    return CascadeModel(tuple(stages))


def routing(spec: bulk_inferencer_pb2.Routing, names: Sequence[str]) -> SplitRouting | None:
    """Returns which model a record goes to, None where it goes to all.

    Args:
      spec: the settings.
      names: the models that the gate let through.

    Raises:
      SettingsError: a weight is no positive number.
    """
    if not spec.HasField("split"):
        return None
    weights = dict(spec.split.weights)
    kept_out = frozenset(weights) - frozenset(names)
    return SplitRouting(weights, spec.split.split_key, spec.split.salt, kept_out)


def comparing(spec: bulk_inferencer_pb2.ComparisonSpec) -> Comparing:
    """Returns what the comparison of several models keeps.

    Raises:
      SettingsError: a number is out of its range.
    """
    most = {"most_different": spec.most_different} if spec.HasField("most_different") else {}
    return Comparing(tuple(spec.key_features), **most)


def batch_bounds(*model_specs: bulk_inferencer_pb2.ModelSpec) -> BatchBounds:
    """Returns the tightest of the models' bounds of a batch; zero stands for the default."""
    given: dict[str, int] = {}
    for spec in model_specs:
        for field, value in spec.batch.ListFields():
            given[field.name] = min(value, given.get(field.name, value))
    return BatchBounds(**given)


def failure_limit(spec: bulk_inferencer_pb2.DataSpec) -> FailureLimit:
    """Returns how many records may fail."""
    given = {field.name: value for field, value in spec.failure_limit.ListFields()}
    return FailureLimit(**given)


def compression(spec: bulk_inferencer_pb2.DataSpec) -> str:
    """Returns the compression of PredictionLogs.

    Raises:
      SettingsError: its number stands for none.
    """
    known = bulk_inferencer_pb2.Compression
    if spec.compression not in known.values():
        names = ", ".join(f"{name} ({number})" for name, number in known.items())
        raise SettingsError(
            f"Expected DataSpec.compression to be one of {names}, got {spec.compression}. Leave it "
            f"out for gzip."
        )
    return str(known.Name(spec.compression))


def columns(
    spec: bulk_inferencer_pb2.OutputExampleSpec, *model_specs: bulk_inferencer_pb2.ModelSpec
) -> tuple[Column, ...]:
    """Returns the columns of the output examples.

    Args:
      spec: the columns.
      *model_specs: the models, at least one.

    Raises:
      SettingsError: a column has no name or output, two have the same name, a signature is not
        called, or the columns come from other outputs of each model.
    """
    found, *others = [_columns_of(spec, model_spec) for model_spec in model_specs]
    for other in others:
        if other != found:
            raise SettingsError(
                f"Expected the columns of OutputExampleSpec to come from the same outputs of all "
                f"models, got {', '.join(c.output for c in found)} and "
                f"{', '.join(c.output for c in other)}. Call as many signatures of each model."
            )
    return found


def _columns_of(
    spec: bulk_inferencer_pb2.OutputExampleSpec, model_spec: bulk_inferencer_pb2.ModelSpec
) -> tuple[Column, ...]:
    names = list(model_spec.model_signature_name)
    signatures = [Signature(name, "") for name in names]
    found: list[Column] = []
    for entry in spec.output_columns_spec:
        prefix = ""
        if len(names) > 1 or entry.signature_name:
            if entry.signature_name not in (names or ["serving_default"]):
                raise SettingsError(
                    f"Expected OutputColumnsSpec.signature_name to be one of "
                    f"{', '.join(names) or 'serving_default'}, got '{entry.signature_name}'. Name "
                    f"a signature of ModelSpec.model_signature_name."
                )
            prefix = output_prefix(Signature(entry.signature_name, ""), signatures)
        found += [Column(prefix + output, name) for output, name in _mapping(entry)]
    if not found:
        raise SettingsError(
            "Expected at least one column in OutputExampleSpec.output_columns_spec, got none. "
            "Name the outputs that become features, or leave out output_example_spec."
        )
    _check_names(found)
    return tuple(found)


def _mapping(entry: bulk_inferencer_pb2.OutputColumnsSpec) -> Iterator[tuple[str, str]]:
    kind = entry.WhichOneof("output_type")
    if kind == "classify_output":
        if entry.classify_output.label_column:
            yield CLASSES_OUTPUT, entry.classify_output.label_column
        if entry.classify_output.score_column:
            yield SCORES_OUTPUT, entry.classify_output.score_column
    elif kind == "regress_output":
        yield REGRESS_OUTPUT, entry.regress_output.value_column
    elif kind == "predict_output":
        for column in entry.predict_output.output_columns:
            yield column.output_key, column.output_column


def _check_names(found: list[Column]) -> None:
    names = [column.name for column in found]
    for column in found:
        if not column.name or not column.output:
            raise SettingsError(
                f"Expected an output and a column name, got output '{column.output}' and column "
                f"'{column.name}' in OutputExampleSpec. Fill in both."
            )
        if names.count(column.name) > 1:
            outputs = ", ".join(c.output for c in found if c.name == column.name)
            raise SettingsError(
                f"Expected every column of OutputExampleSpec once, got '{column.name}' for the "
                f"outputs {outputs}. Choose another name."
            )


def _check(name: str, message: Message) -> None:
    """Checks what can be checked while the pipeline is being built."""
    for text in _strings(json_format.MessageToDict(message)):
        check_text(name, text)
    if isinstance(message, bulk_inferencer_pb2.ModelSpec):
        batch_bounds(message)
        model(message, "")
    if isinstance(message, bulk_inferencer_pb2.CascadeSpec):
        batch_bounds(*(stage.model_spec for stage in message.stages))
        cascade(message, {})
    if isinstance(message, bulk_inferencer_pb2.Routing):
        routing(message, list(message.split.weights))
    if isinstance(message, bulk_inferencer_pb2.ComparisonSpec):
        comparing(message)
    if isinstance(message, bulk_inferencer_pb2.DataSpec):
        failure_limit(message)
        compression(message)


def check_text(name: str, text: str) -> None:
    """Checks that a text of the author's passes every orchestrator unchanged.

    Raises:
      SettingsError: it holds a mark that Airflow would render.
    """
    for mark in _TEMPLATE_MARKS:
        if mark in text:
            raise SettingsError(
                f"Expected no template mark in {name}, got '{mark}' in {text!r}: Airflow "
                f"would render it. Rename what it names."
            )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
