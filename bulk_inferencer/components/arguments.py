"""From what a pipeline's author gives to our messages, and from JSON back to them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from tfx.dsl.placeholder.placeholder import Placeholder
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import bulk_inferrer_pb2

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer._models.vertex import VertexEndpoint
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer.components import engine_setting, model_settings, settings
from bulk_inferencer.engines.engine import Engine
from bulk_inferencer.errors import BulkInferencerError, SettingsError
from bulk_inferencer.results.compare import Comparing
from bulk_inferencer.results.expectations import Expectations

# Arguments of the components accept what TFX's own take, so that moving over is easy: messages of
# TFX, and JSON of a message, as text or as a dict.
Json: TypeAlias = str | Mapping[str, Any]
AnyDataSpec: TypeAlias = our.DataSpec | bulk_inferrer_pb2.DataSpec | Json
AnyModelSpec: TypeAlias = our.ModelSpec | bulk_inferrer_pb2.ModelSpec | Json
AnyTableSpec: TypeAlias = our.TableSpec | Json
AnyExpectations: TypeAlias = our.Expectations | Expectations | Json
AnyEngine: TypeAlias = our.Engine | Engine | Json
AnyOutputExampleSpec: TypeAlias = our.OutputExampleSpec | bulk_inferrer_pb2.OutputExampleSpec | Json
# What has no value until the pipeline runs.
Unknown: TypeAlias = RuntimeParameter | Placeholder

_Setting = TypeVar("_Setting", bound=Message)

_TEMPLATE_MARKS = ("{{", "{%", "{#")

_SETTING_OF_CLASS = {
    BatchBounds: "ModelSpec.batch",
    Comparing: "ComparisonSpec",
    FailureLimit: "DataSpec.failure_limit",
    Limits: "RequestLimits",
    TFServing: "ModelSpec.tf_serving",
    VertexEndpoint: "ModelSpec.vertex_endpoint",
}
# From the fields of lower floors to the settings of the components.
_SETTING_OF_FIELD = {
    **{
        f"{kind.__name__}.{field.name}": f"{setting}.{field.name}"
        for kind, setting in _SETTING_OF_CLASS.items()
        for field in dataclasses.fields(kind)
    },
    "BatchBounds.max_record_bytes": "DataSpec.max_record_bytes",
    "Checkpoint.folder": "DataSpec.checkpoint_dir",
    "Checkpoint.keep": "DataSpec.keep_checkpoint",
    "Checkpoint.max_age_days": "DataSpec.checkpoint_days",
    "DamagedFiles.max_count": "DataSpec.max_damaged_files",
    "DamagedFiles.skip": "DataSpec.damaged_files",
    "Outputs.columns": "OutputExampleSpec.output_columns_spec",
    "Outputs.compression": "DataSpec.compression",
    "Outputs.prediction_logs": "DataSpec.prediction_logs",
    "Outputs.records_in_logs": "DataSpec.records_in_logs",
    "Outputs.table": "TableSpec",
    "PythonModel.allow_missing": "ModelSpec.allow_missing",
    "PythonModel.features": "ModelSpec.features",
    "PythonModel.takes_records": "ModelSpec.takes_records",
    "SavedModel.import_modules": "ModelSpec.import_modules",
    "SavedModel.signatures": "ModelSpec.model_signature_name",
    "SavedModel.tags": "ModelSpec.tag",
    "SavedModel.takes_records": "ModelSpec.takes_records",
    "Stage.columns": "StageSpec.output_columns_spec",
    "Stage.exit_when": "StageSpec.exit_when",
    "TableSettings.binary": "TableSpec.binary_columns",
    "TableSettings.format": "TableSpec.format",
    "TableSettings.keep": "TableSpec.keep",
    "TFServing.signatures": "ModelSpec.model_signature_name",
    "TFServing.takes_records": "ModelSpec.takes_records",
    "VertexEndpoint.signature": "ModelSpec.model_signature_name",
}
# What a component has instead of that argument.
_FORMAT_OF_EXAMPLES = (
    "The format of Examples comes from their custom property payload_format: FORMAT_PARQUET stands "
    "for Parquet files, and an ExampleGen converts others."
)
_FIELD = re.compile(r"(?<![\w.])[A-Z]\w*\.[a-z_]+\b(?!\.\w)")
# Quoted text, paths and URIs: what they hold only looks like a field.
_QUOTED_OR_PATH = re.compile(r"""(?<!\w)(['"]).*?\1(?!\w)|\S*/\S*""")


@contextlib.contextmanager
def naming_settings() -> Iterator[None]:
    """Adds to our errors which settings of the component they are about.

    The floors below name the fields of their own dataclasses, which a pipeline's author never sees.
    """
    try:
        yield
    except BulkInferencerError as error:
        text = _QUOTED_OR_PATH.sub("", str(error))
        sources = [
            f"{field} comes from {_SETTING_OF_FIELD[field]}."
            for field in dict.fromkeys(_FIELD.findall(text))
            if field in _SETTING_OF_FIELD
        ]
        if "input_format=" in text:
            sources.append(_FORMAT_OF_EXAMPLES)
        if not sources:
            raise
        raise type(error)(" ".join([str(error), *sources])) from error


def to_setting(name: str, value: Any, kind: type[_Setting]) -> _Setting | Unknown:
    """Returns an argument of a component as one of our messages, or what stands for its JSON.

    Args:
      name: the argument's name, for messages.
      value: None for an empty message, our message, TFX's message of the same name, its JSON as
        text or as a dict, or a runtime parameter or placeholder that becomes one of these.
      kind: the type of our message.

    Raises:
      SettingsError: the value has another type, is inconsistent, or holds a mark that Airflow would
        render.
    """
    if isinstance(value, Placeholder):
        return value
    if not isinstance(value, RuntimeParameter):
        return _checked(name, value, kind)
    if value.default is not None:
        _checked(name, str(value.default), kind)
    return value


def to_message(name: str, value: Any, kind: type[_Setting]) -> _Setting:
    """Returns an argument of a component as one of our messages; see `to_setting`.

    For what has to be known while the pipeline is being built.
    """
    if isinstance(value, Unknown):
        raise SettingsError(
            f"{name} must be known while the pipeline is being built, so it cannot be "
            f"{a_type(value)}. Give a bulk_inferencer_pb2.{kind.DESCRIPTOR.name}."
        )
    return _checked(name, value, kind)


def _checked(name: str, value: Any, kind: type[_Setting]) -> _Setting:
    message = _to_message(name, value, kind)
    _check(name, message)
    return message


def _to_message(name: str, value: Any, kind: type[_Setting]) -> _Setting:
    peer = getattr(bulk_inferrer_pb2, kind.DESCRIPTOR.name, None)
    if value is None or value == "":
        return kind()
    if isinstance(value, Expectations) and kind is our.Expectations:
        value = dataclasses.asdict(value)
    if isinstance(value, Engine) and kind is our.Engine:
        value = engine_setting.as_json(value)
    if isinstance(value, (str, Mapping)):
        return _from_json(name, value, kind)
    if isinstance(value, kind):
        return value
    # By name: a placeholder makes messages of classes that TFX builds as it runs.
    known = [message.DESCRIPTOR.full_name for message in (kind, peer) if message]
    if isinstance(value, Message) and value.DESCRIPTOR.full_name in known:
        return kind.FromString(value.SerializeToString())
    others = "TFX's message of the same name, " if peer else ""
    if kind is our.Engine:
        others = "engines.Beam(), engines.Ray(), engines.Spark(), "
    raise SettingsError(
        f"{name} must be a bulk_inferencer_pb2.{kind.DESCRIPTOR.name}, {others}or its JSON as "
        f"text or a dict, not {a_type(value)}."
    )


def _from_json(name: str, value: Json, kind: type[_Setting]) -> _Setting:
    try:
        # As text, so that a dict may hold tuples and paths too.
        if kind is our.Expectations:
            value = _with_named_bounds(json.loads(value) if isinstance(value, str) else value)
        text = value if isinstance(value, str) else json.dumps(value, default=os.fspath)
        # A list would pass as a message without fields.
        if not text.lstrip().startswith("{"):
            raise json_format.ParseError("it is not a JSON object")
        return json_format.Parse(text, kind())
    except (json_format.ParseError, json.JSONDecodeError, DecodeError, TypeError) as error:
        raise SettingsError(
            f"{name} must be JSON of {kind.DESCRIPTOR.full_name}, but it is {value!r}: "
            f"{str(error).rstrip('.')}."
        ) from error


def _with_named_bounds(value: Any) -> Any:
    """Returns JSON of expectations with `{"at_least": low, "at_most": high}` for `[low, high]`."""
    if isinstance(value, Mapping):
        named = {key: _with_named_bounds(own) for key, own in value.items()}
        return {key: own for key, own in named.items() if own is not None}
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return _with_named_bounds({"at_least": value[0], "at_most": value[1]})
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"  # as protobuf writes it in JSON
    return value


def a_type(value: Any) -> str:
    """Returns the name of a value's type after its article, for messages."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _check(name: str, message: Message) -> None:
    """Checks what can be checked while the pipeline is being built."""
    for text in _strings(json_format.MessageToDict(message)):
        check_text(name, text)
    if isinstance(message, our.ModelSpec):
        settings.batch_bounds(our.DataSpec(), message)
        model_settings.gate_policy(message)
        model_settings.model(message, "")
    elif isinstance(message, our.CascadeSpec):
        for stage in message.stages:
            _check(name, stage.model_spec)
        model_settings.cascade(message, {})
    elif isinstance(message, our.Routing):
        settings.routing(message)
    elif isinstance(message, our.ComparisonSpec):
        settings.comparing(message)
    elif isinstance(message, our.DataSpec):
        settings.example_splits(message)
        settings.failure_limit(message)
        settings.compression(message)
        settings.checkpoint(message)
        settings.damaged_files(message)
        settings.batch_bounds(message)
        settings.view(message)
    elif isinstance(message, our.TableSpec):
        settings.table(message)
    elif isinstance(message, our.Expectations):
        settings.expectations(message)
    elif isinstance(message, our.Engine):
        engine_setting.engine(message)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _strings(item)


def check_text(name: str, text: str) -> None:
    """Checks that all orchestrators pass on a text of the author's unchanged.

    Raises:
      SettingsError: Airflow would render a part of it.
    """
    for mark in _TEMPLATE_MARKS:
        if mark in text:
            raise SettingsError(
                f"{name} has '{mark}' in {text!r}, which Airflow would render as a template. "
                f"Rename what it refers to."
            )


def names(exec_properties: Mapping[str, Any], name: str) -> list[str]:
    """Returns the names in an execution property, where commas separate them."""
    return [entry for entry in (exec_properties.get(name) or "").split(",") if entry]


def parse(exec_properties: Mapping[str, Any], name: str, kind: type[_Setting]) -> _Setting:
    """Returns the message that an execution property holds as JSON; it is empty by default.

    A placeholder may also have become a message or a dict.

    Raises:
      SettingsError: the property is not JSON of this message.
    """
    return _to_message(name, exec_properties.get(name), kind)
