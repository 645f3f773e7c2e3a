"""What the components share: checks of channels, and specs that grow with the channels given."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from tfx import types
from tfx.dsl.compiler import constants
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._models.predictor import check_name
from bulk_inferencer.components import arguments, keys, model_settings, settings
from bulk_inferencer.components.artifacts import InferenceSummary, PredictionTable
from bulk_inferencer.errors import SettingsError

Channels: TypeAlias = types.BaseChannel | Sequence[types.BaseChannel]
_Spec = TypeVar("_Spec", bound=ComponentSpec)

# One for all components, since they share the parameter that it is the default of.
_PROCESS_ID = uuid.uuid4().hex

_RESERVED_NAMES = (
    keys.EXAMPLES,
    keys.MODEL,
    keys.PUSHED_MODEL,
    keys.INFERENCE_RESULT,
    keys.SUMMARY,
    keys.FAILED_EXAMPLES,
    keys.OUTPUT_EXAMPLES,
    keys.COMPARISON,
    keys.PREDICTION_TABLE,
    keys.PREDICTION_BLESSING,
    keys.ROUTING,
    keys.EXPECTATIONS,
    keys.ENGINE,
    keys.REQUIRED_BLESSINGS,
    keys.RUN_ID,
    # Inputs of models with these names would collide with `model_names` and `model_specs`.
    "names",
    "specs",
    "self",
)
_RESERVED_BEGINNINGS = ("baseline_", "blessing_", "examples_", "model_", "prediction_blessing_")
_RESERVED_ENDS = ("_spec", "_specs")

# What every component has, and what some of them have. All channels may be empty, since TFX's
# launcher does not start an executor whose inputs are not there, and ends the run as if nothing
# were wrong: what it means is for the gate and the executor to say.
COMMON_INPUTS = {keys.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples, optional=True)}
COMMON_PARAMETERS = {
    keys.DATA_SPEC: ExecutionParameter(type=our.DataSpec),
    keys.OUTPUT_EXAMPLE_SPEC: ExecutionParameter(type=our.OutputExampleSpec, optional=True),
    keys.TABLE_SPEC: ExecutionParameter(type=our.TableSpec, optional=True),
    keys.ENGINE: ExecutionParameter(type=our.Engine, optional=True),
    keys.REQUIRED_BLESSINGS: ExecutionParameter(type=str),
    keys.RUN_ID: ExecutionParameter(type=str, optional=True),
}
COMMON_OUTPUTS = {
    keys.SUMMARY: ChannelParameter(type=InferenceSummary),
    keys.FAILED_EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
}
OPTIONAL_OUTPUTS = {
    keys.OUTPUT_EXAMPLES: ChannelParameter(type=standard_artifacts.Examples, optional=True),
    keys.PREDICTION_TABLE: ChannelParameter(type=PredictionTable, optional=True),
}
BASELINE_INPUT = {
    keys.BASELINE: ChannelParameter(type=standard_artifacts.InferenceResult, optional=True)
}
RESULT_OUTPUT = {keys.INFERENCE_RESULT: ChannelParameter(type=standard_artifacts.InferenceResult)}


def new(*outputs: Mapping[str, ChannelParameter]) -> dict[str, types.BaseChannel]:
    """Returns a new channel for each of the outputs."""
    return {k: types.Channel(type=p.type) for group in outputs for k, p in group.items()}


def _optional(key: str) -> dict[str, types.BaseChannel]:
    return new({key: OPTIONAL_OUTPUTS[key]})


def output_examples(
    spec: Any, *model_specs: our.ModelSpec | arguments.Unknown, may_be_unknown: bool = False
) -> dict[str, Any]:
    """Returns what a component with output examples has: an output and an execution property.

    Raises:
      SettingsError: the columns are inconsistent.
    """
    if spec is None:
        return {}
    convert: Any = arguments.to_setting if may_be_unknown else arguments.to_message
    found = convert(keys.OUTPUT_EXAMPLE_SPEC, spec, our.OutputExampleSpec)
    if not any(isinstance(given, arguments.Unknown) for given in (found, *model_specs)):
        model_settings.columns(found, *model_specs)
    return {keys.OUTPUT_EXAMPLE_SPEC: found, **_optional(keys.OUTPUT_EXAMPLES)}


def prediction_table(spec: Any, data_spec: our.DataSpec | arguments.Unknown) -> dict[str, Any]:
    """Returns what a component with a table has: an output and an execution property.

    Raises:
      SettingsError: the settings of the table are inconsistent, or there are neither PredictionLogs
        nor a table.
    """
    if spec is not None:
        found = arguments.to_setting(keys.TABLE_SPEC, spec, our.TableSpec)
        return {keys.TABLE_SPEC: found, **_optional(keys.PREDICTION_TABLE)}
    has_logs = isinstance(data_spec, arguments.Unknown) or settings.logs(data_spec).get(
        "prediction_logs", True
    )
    if not has_logs:
        raise SettingsError(
            "DataSpec.prediction_logs is false and there is no table_spec, so the predictions "
            "would be lost. Give a table_spec, or leave out prediction_logs."
        )
    return {}


def engine(given: Any) -> dict[str, our.Engine | arguments.Unknown]:
    """Returns the execution property of a component whose engine is named.

    Raises:
      SettingsError: it cannot be carried, or a setting of it is not valid.
    """
    return (
        {} if given is None else {keys.ENGINE: arguments.to_setting(keys.ENGINE, given, our.Engine)}
    )


def run_id(*model_specs: our.ModelSpec | arguments.Unknown) -> dict[str, Any]:
    """Returns a property that differs from run to run where a model may be behind an endpoint.

    What answers there may have changed since the last run, and TFX cannot see it: the property
    keeps it from taking results from the cache. Local runners give the run's own id, Airflow the
    default of the process that runs the task.
    """
    # The value of a parameter may name an endpoint even if its default does not.
    if not any(isinstance(s, arguments.Unknown) or may_have_endpoint(s) for s in model_specs):
        return {}
    name = constants.PIPELINE_RUN_ID_PARAMETER_NAME
    return {keys.RUN_ID: RuntimeParameter(name=name, ptype=str, default=_PROCESS_ID)}


def may_have_endpoint(model_spec: our.ModelSpec | arguments.Unknown) -> bool:
    """Returns whether an endpoint may stand in for the model."""
    if isinstance(model_spec, arguments.Unknown):
        is_parameter = isinstance(model_spec, RuntimeParameter)
        if not is_parameter or model_spec.default is None:
            return True
        default = {keys.MODEL_SPEC: str(model_spec.default)}
        model_spec = arguments.parse(default, keys.MODEL_SPEC, our.ModelSpec)
    return model_spec.WhichOneof("endpoint") is not None


def examples_by_key(examples: Channels) -> dict[str, types.BaseChannel]:
    """Returns the channels of examples by input: `examples`, `examples_1`, ...

    Each has an input of its own instead of a union: Kubeflow takes no union channels.

    Raises:
      SettingsError: there is no channel, or one has another type.
    """
    channels = list(examples) if isinstance(examples, (list, tuple)) else [examples]
    if not channels:
        raise SettingsError("examples is an empty list. Give at least one channel of Examples.")
    sources = "an ExampleGen, Transform, Importer or Resolver"
    return {
        keys.examples_key(i): checked(keys.EXAMPLES, channel, ["Examples"], sources)
        for i, channel in enumerate(channels)
    }


def checked_model(name: str, channel: Any) -> types.BaseChannel:
    """Returns the channel that was given as argument `name`, if it can hold a model.

    Raises:
      SettingsError: it cannot.
    """
    sources = "a Trainer, Pusher, Importer or Resolver"
    return checked(name, channel, ["Model", "PushedModel"], sources)


def checked(name: str, channel: Any, kinds: Sequence[str], sources: str) -> types.BaseChannel:
    """Returns the channel that was given as argument `name`, if it is of one of these types.

    Raises:
      SettingsError: it is not; the message says what it may come from.
    """
    got = getattr(channel, "type_name", type(channel).__name__)
    if not isinstance(channel, types.BaseChannel) or got not in kinds:
        raise SettingsError(
            f"{name} must be a channel of {' or '.join(kinds)}, not {got}. Take it from {sources}."
        )
    return channel


def check_by_name(**given: Any) -> None:
    """Checks that arguments hold something for each model by its name.

    Raises:
      SettingsError: one does not.
    """
    for name, value in given.items():
        if not isinstance(value, Mapping):
            raise SettingsError(
                f"{name} must be a dict keyed by model name, such as {{'five': ...}}, not "
                f"{arguments.a_type(value)}."
            )


def models_by_key(
    models: Mapping[str, types.BaseChannel],
    model_blessings: Mapping[str, types.BaseChannel],
    model_specs: Mapping[str, our.ModelSpec],
) -> dict[str, types.BaseChannel]:
    """Returns the channels of several models and of their blessings by input.

    Only `model_specs` holds an entry for every model.

    Raises:
      SettingsError: a name is not allowed, does not appear among the others or has no model, or a
        channel has another type.
    """
    for name, spec in model_specs.items():
        _check_model_name(name)
        if name not in models and not may_have_endpoint(spec):
            raise SettingsError(
                f"models has no channel for '{name}', only for {', '.join(models) or 'none'}. Use "
                f"the same names everywhere; only a model with an endpoint needs no channel."
            )
    for argument, given in (("models", models), ("model_blessings", model_blessings)):
        for name in given:
            if name not in model_specs:
                raise SettingsError(
                    f"{argument} has an entry for '{name}', but the models are "
                    f"{', '.join(model_specs)}. Use the same names everywhere."
                )
    by_key = {
        keys.model_key(name): checked_model(f"models['{name}']", channel)
        for name, channel in models.items()
    }
    for name, channel in model_blessings.items():
        if name not in models:
            raise SettingsError(
                f"model_blessings has an entry for '{name}', but models has none. Give the model "
                f"that the blessing is for, as well as the endpoint."
            )
        argument, sources = f"model_blessings['{name}']", "an Evaluator, Importer or Resolver"
        by_key[keys.blessing_key(name)] = checked(argument, channel, ["ModelBlessing"], sources)
    return by_key


def _check_model_name(name: str) -> None:
    check_name(name, "model")
    is_reserved = name in _RESERVED_NAMES
    if is_reserved or name.startswith(_RESERVED_BEGINNINGS) or name.endswith(_RESERVED_ENDS):
        raise SettingsError(
            f"A model cannot be named '{name}': the component has names of its own, which are "
            f"{', '.join(_RESERVED_NAMES)}, and those that begin with "
            f"{', '.join(_RESERVED_BEGINNINGS)} or end with {', '.join(_RESERVED_ENDS)}. Rename "
            f"the model."
        )


def extended(
    spec: type[_Spec],
    inputs: Mapping[str, types.BaseChannel],
    outputs: Mapping[str, types.BaseChannel] | None = None,
) -> type[_Spec]:
    """Returns a spec class with further channels, which differ from instance to instance."""
    more = {
        key: ChannelParameter(type=channel.type, optional=True)
        for key, channel in inputs.items()
        if key not in spec.INPUTS
    }
    outs = {key: ChannelParameter(type=channel.type) for key, channel in (outputs or {}).items()}
    if not more and not outs:
        return spec
    attributes = {
        "INPUTS": {**spec.INPUTS, **more},
        "OUTPUTS": {**spec.OUTPUTS, **outs},
        "__module__": spec.__module__,  # where TFX's JSON finds the class again
    }
    return type(spec.__name__, (spec,), attributes)
