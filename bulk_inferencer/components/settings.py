"""From protos to dataclasses: the one place where settings change their form."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from tfx.dsl.placeholder.placeholder import Placeholder
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import bulk_inferrer_pb2

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._checks import check_tuple
from bulk_inferencer._formats.batches import BatchBounds
from bulk_inferencer._formats.example import Column, check_columns
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer._models.signature_defs import DEFAULT_SIGNATURE
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer._models.vertex import VertexEndpoint
from bulk_inferencer._signatures import (
    CLASSES_OUTPUT,
    REGRESS_OUTPUT,
    SCORES_OUTPUT,
    Signature,
    output_prefix,
)
from bulk_inferencer._units.checkpoint import Checkpoint
from bulk_inferencer._units.damaged_files import DamagedFiles
from bulk_inferencer._units.failure_limit import FailureLimit
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer.errors import BulkInferencerError, SettingsError
from bulk_inferencer.results.compare import Comparing

# Arguments of the components accept what TFX's own take, so that moving over is easy: messages of
# TFX, and JSON of a message, as text or as a dict.
Json: TypeAlias = str | Mapping[str, Any]
AnyDataSpec: TypeAlias = our.DataSpec | bulk_inferrer_pb2.DataSpec | Json
AnyModelSpec: TypeAlias = our.ModelSpec | bulk_inferrer_pb2.ModelSpec | Json
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
    "SavedModel.import_modules": "ModelSpec.import_modules",
    "SavedModel.signatures": "ModelSpec.model_signature_name",
    "SavedModel.tags": "ModelSpec.tag",
    "SavedModel.takes_records": "ModelSpec.takes_records",
    "Stage.columns": "StageSpec.output_columns_spec",
    "Stage.exit_when": "StageSpec.exit_when",
    "TFServing.signatures": "ModelSpec.model_signature_name",
    "TFServing.takes_records": "ModelSpec.takes_records",
    "VertexEndpoint.signature": "ModelSpec.model_signature_name",
}
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
        named = dict.fromkeys(_FIELD.findall(_QUOTED_OR_PATH.sub("", str(error))))
        fields = [field for field in named if field in _SETTING_OF_FIELD]
        if not fields:
            raise
        sources = [f"{field} comes from {_SETTING_OF_FIELD[field]}." for field in fields]
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
    if isinstance(value, (str, Mapping)):
        return _from_json(name, value, kind)
    if isinstance(value, kind):
        return value
    # By name: a placeholder makes messages of classes that TFX builds as it runs.
    known = [message.DESCRIPTOR.full_name for message in (kind, peer) if message]
    if isinstance(value, Message) and value.DESCRIPTOR.full_name in known:
        return kind.FromString(value.SerializeToString())
    of_tfx = "TFX's message of the same name, " if peer else ""
    raise SettingsError(
        f"{name} must be a bulk_inferencer_pb2.{kind.DESCRIPTOR.name}, {of_tfx}or its JSON as "
        f"text or a dict, not {a_type(value)}."
    )


def _from_json(name: str, value: Json, kind: type[_Setting]) -> _Setting:
    try:
        # As text, so that a dict may hold tuples and paths too.
        text = value if isinstance(value, str) else json.dumps(value, default=os.fspath)
        # A list would pass as a message without fields.
        if not text.lstrip().startswith("{"):
            raise json_format.ParseError("it is not a JSON object")
        return json_format.Parse(text, kind())
    except (json_format.ParseError, DecodeError, TypeError) as error:
        raise SettingsError(
            f"{name} must be JSON of {kind.DESCRIPTOR.full_name}, but it is {value!r}: "
            f"{str(error).rstrip('.')}."
        ) from error


def a_type(value: Any) -> str:
    """Returns the name of a value's type after its article, for messages."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _check(name: str, message: Message) -> None:
    """Checks what can be checked while the pipeline is being built."""
    for text in _strings(json_format.MessageToDict(message)):
        check_text(name, text)
    if isinstance(message, our.ModelSpec):
        batch_bounds(our.DataSpec(), message)
        gate_policy(message)
        model(message, "")
    elif isinstance(message, our.CascadeSpec):
        for stage in message.stages:
            _check(name, stage.model_spec)
        cascade(message, {})
    elif isinstance(message, our.Routing):
        routing(message)
    elif isinstance(message, our.ComparisonSpec):
        comparing(message)
    elif isinstance(message, our.DataSpec):
        example_splits(message)
        failure_limit(message)
        compression(message)
        checkpoint(message)
        damaged_files(message)
        batch_bounds(message)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
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


def model(spec: our.ModelSpec, path: str) -> Model:
    """Returns the endpoint of `spec`, or else the model at `path`.

    Raises:
      SettingsError: the endpoint's settings are inconsistent.
    """
    signatures = tuple(spec.model_signature_name)
    kind = spec.WhichOneof("endpoint")
    if kind == "tf_serving":
        return _tf_serving(spec.tf_serving, signatures, _takes_records(spec))
    if kind == "vertex_endpoint":
        return _vertex_endpoint(spec.vertex_endpoint, signatures)
    return SavedModel(
        path,
        signatures=signatures,
        tags=tuple(spec.tag),
        import_modules=tuple(spec.import_modules),
        takes_records=_takes_records(spec),
    )


def gate_policy(spec: our.ModelSpec) -> str:
    """Returns what to do about a closed gate: `SKIP`, `FAIL` or `IGNORE`.

    Raises:
      SettingsError: there is no policy with this number.
    """
    return _name_of(spec, "gate_policy", "Leave it out to skip a model that is not blessed.")


def _takes_records(spec: our.ModelSpec) -> bool | None:
    return spec.takes_records if spec.HasField("takes_records") else None


def _tf_serving(
    spec: our.TFServingSpec, signatures: tuple[str, ...], takes_records: bool | None
) -> TFServing:
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
        limits=Limits(**_given(spec.limits)),
        takes_records=takes_records,
    )


def _vertex_endpoint(spec: our.VertexEndpointSpec, signatures: tuple[str, ...]) -> VertexEndpoint:
    if len(signatures) > 1:
        raise SettingsError(
            f"{spec.name} can only be called with one signature, but "
            f"ModelSpec.model_signature_name has {', '.join(signatures)}. Keep one of them."
        )
    named = {"signature": signatures[0]} if signatures else {}
    return VertexEndpoint(
        spec.name,
        input_name=spec.input_name,
        raw=spec.raw,
        client=spec.client or None,
        limits=Limits(**_given(spec.limits)),
        **named,
    )


def _given(message: Message) -> dict[str, Any]:
    """Returns the fields that are set by name; the others keep the defaults of a dataclass."""
    return {field.name: value for field, value in message.ListFields()}


def cascade(spec: our.CascadeSpec, paths: Mapping[str, str]) -> CascadeModel:
    """Returns the models that score one after the other; `paths` has their folders by name.

    Raises:
      SettingsError: a stage's settings are inconsistent.
    """
    stages = []
    for stage in spec.stages:
        columns_of_stage: tuple[Column, ...] = ()
        if stage.HasField("output_columns_spec"):
            field, entries = "StageSpec.output_columns_spec", [stage.output_columns_spec]
            columns_of_stage = _columns_of(field, entries, stage.model_spec)
        exits = []
        for exit_when in stage.exit_when:
            bounds = _given(exit_when)
            exits.append(ExitWhen(bounds.pop("output_key", ""), **bounds))
        model_of_stage = model(stage.model_spec, paths.get(stage.name, ""))
        stages.append(Stage(stage.name, model_of_stage, columns_of_stage, tuple(exits)))
    return CascadeModel(tuple(stages))


def routing(spec: our.Routing) -> SplitRouting | None:
    """Returns which model a record goes to, or None if it goes to all of them.

    Raises:
      SettingsError: a weight is not a positive number.
    """
    if not spec.HasField("split"):
        return None
    return SplitRouting(dict(spec.split.weights), spec.split.split_key, spec.split.salt)


def comparing(spec: our.ComparisonSpec) -> Comparing:
    """Returns what the comparison of several models keeps.

    Raises:
      SettingsError: a number is out of range.
    """
    most = {"most_different": spec.most_different} if spec.HasField("most_different") else {}
    return Comparing(tuple(spec.key_features), **most)


def batch_bounds(data_spec: our.DataSpec, *model_specs: our.ModelSpec) -> BatchBounds:
    """Returns the tightest of the models' bounds of a batch; zero stands for the default.

    Raises:
      SettingsError: a bound is less than 1.
    """
    tightest: dict[str, int] = {}
    for spec in model_specs:
        for name, value in _given(spec.batch).items():
            tightest[name] = min(value, tightest.get(name, value))
    if data_spec.max_record_bytes:
        tightest["max_record_bytes"] = data_spec.max_record_bytes
    return BatchBounds(**tightest)


def example_splits(spec: our.DataSpec) -> tuple[str, ...]:
    """Returns the names of the splits to score; none stands for all.

    Raises:
      SettingsError: they are the letters of one name.
    """
    names = tuple(spec.example_splits)
    check_tuple("DataSpec.example_splits", names, str)
    return names


def failure_limit(spec: our.DataSpec) -> FailureLimit:
    """Returns how many records may fail.

    Raises:
      SettingsError: a limit is out of its range.
    """
    return FailureLimit(**_given(spec.failure_limit))


def damaged_files(spec: our.DataSpec) -> DamagedFiles:
    """Returns what to do about damaged files.

    Raises:
      SettingsError: there is no such policy, or the limit is less than 0.
    """
    policy = _name_of(spec, "damaged_files", "Leave it out to fail on damaged files.")
    most = {"max_count": spec.max_damaged_files} if spec.HasField("max_damaged_files") else {}
    return DamagedFiles(skip=policy == "SKIP", **most)


def checkpoint(spec: our.DataSpec) -> Checkpoint | None:
    """Returns where finished units wait, or None if every run starts anew.

    Raises:
      SettingsError: what the checkpoint is like is said, but not where it is, or the number of days
        is less than 0.
    """
    days = {"max_age_days": spec.checkpoint_days} if spec.HasField("checkpoint_days") else {}
    if spec.checkpoint_dir:
        return Checkpoint(spec.checkpoint_dir, keep=spec.keep_checkpoint, **days)
    if spec.keep_checkpoint or days:
        given = "keep_checkpoint" if spec.keep_checkpoint else "checkpoint_days"
        raise SettingsError(
            f"DataSpec.{given} needs a folder for the checkpoint. Name one in "
            f"DataSpec.checkpoint_dir."
        )
    return None


def compression(spec: our.DataSpec) -> str:
    """Returns the compression of PredictionLogs.

    Raises:
      SettingsError: there is none with this number.
    """
    return _name_of(spec, "compression", "Leave it out for gzip.")


def _name_of(message: Message, field: str, advice: str) -> str:
    """Returns the name of an enum's value; protos take any number, also from JSON."""
    number = getattr(message, field)
    enum: Any = message.DESCRIPTOR.fields_by_name[field].enum_type
    if number not in enum.values_by_number:
        known = ", ".join(f"{value.name} ({value.number})" for value in enum.values)
        raise SettingsError(
            f"{message.DESCRIPTOR.name}.{field} must be one of {known}, not {number}. {advice}"
        )
    return str(enum.values_by_number[number].name)


def columns(spec: our.OutputExampleSpec, *model_specs: our.ModelSpec) -> tuple[Column, ...]:
    """Returns the columns of output examples; `model_specs` says how each model is called.

    Raises:
      SettingsError: a column has no name or output, two have the same name, a signature is not
        called, or the models do not have the columns' outputs in common.
    """
    field = "OutputExampleSpec.output_columns_spec"
    found, *others = [_columns_of(field, spec.output_columns_spec, own) for own in model_specs]
    for other in others:
        if other != found:
            raise SettingsError(
                f"The columns of OutputExampleSpec must come from the same outputs of all models, "
                f"but they are {', '.join(c.output for c in found)} of one and "
                f"{', '.join(c.output for c in other)} of another. Call one signature of each "
                f"model, or several of each."
            )
    return found


def _columns_of(
    field: str, entries: Iterable[our.OutputColumnsSpec], model_spec: our.ModelSpec
) -> tuple[Column, ...]:
    called = list(model_spec.model_signature_name) or [DEFAULT_SIGNATURE]
    signatures = [Signature(name, "") for name in called]
    found: list[Column] = []
    for entry in entries:
        name = entry.signature_name or (called[0] if len(called) == 1 else "")
        if name not in called:
            raise SettingsError(
                f"OutputColumnsSpec.signature_name is '{name}', but the model is called with "
                f"{', '.join(called)}. Name one of these, or add it to "
                f"ModelSpec.model_signature_name."
            )
        prefix = output_prefix(Signature(name, ""), signatures)
        found += [Column(prefix + output, column) for output, column in _mapping(entry)]
    if not found:
        raise SettingsError(
            f"{field} has no columns. Name the outputs that become features, or leave out the "
            f"whole spec."
        )
    check_columns(field, found)
    return tuple(found)


def _mapping(entry: our.OutputColumnsSpec) -> Iterator[tuple[str, str]]:
    """Yields output and column of an entry; a classification may leave out either of its two."""
    kind = entry.WhichOneof("output_type")
    if kind == "classify_output":
        classify = entry.classify_output
        pairs = ((CLASSES_OUTPUT, classify.label_column), (SCORES_OUTPUT, classify.score_column))
        yield from (pair for pair in pairs if pair[1])
    elif kind == "regress_output":
        yield REGRESS_OUTPUT, entry.regress_output.value_column
    elif kind == "predict_output":
        for column in entry.predict_output.output_columns:
            yield column.output_key, column.output_column
