"""What the components have in common: checked channels, and specs with as many as are given."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from tfx import types
from tfx.dsl.compiler import constants
from tfx.orchestration import data_types
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec

from bulk_inferencer import bulk_inferencer_pb2
from bulk_inferencer._models.names import check_name
from bulk_inferencer.components import executor, settings
from bulk_inferencer.components.gated_model import blessing_key, model_key
from bulk_inferencer.errors import SettingsError

_Spec = TypeVar("_Spec", bound=ComponentSpec)

# One for all components, since they share the parameter that it is the default of.
_PROCESS_ID = uuid.uuid4().hex

_RESERVED_NAMES = (
    executor.EXAMPLES,
    executor.MODEL,
    executor.PUSHED_MODEL,
    executor.INFERENCE_RESULT,
    executor.SUMMARY,
    executor.FAILED_EXAMPLES,
    executor.OUTPUT_EXAMPLES,
    executor.COMPARISON,
    "prediction_table",
    # Their inputs would be the properties `model_specs` and `model_names`.
    "names",
    "specs",
    "self",
)
# Of inputs and execution properties, which share their names with the outputs.
_RESERVED_BEGINNINGS = ("blessing_", "examples_", "model_")
_RESERVED_ENDS = ("_spec", "_specs")
_RESERVED_PROPERTIES = (executor.ROUTING, executor.REQUIRED_BLESSINGS, executor.RUN_ID)


def examples_by_key(
    examples: types.BaseChannel | Sequence[types.BaseChannel],
) -> dict[str, types.BaseChannel]:
    """Returns the examples' channels by input: `examples`, `examples_1`, ...

    An input each, and not a union: Kubeflow takes no union channels.

    Raises:
      SettingsError: there is none, or it is of another type.
    """
    channels = list(examples) if isinstance(examples, (list, tuple)) else [examples]
    for channel in channels:
        if not isinstance(channel, types.BaseChannel) or channel.type_name != "Examples":
            raise SettingsError(
                f"Expected channels of Examples as examples, got {_kind(channel)}. Take them from "
                f"an ExampleGen, Transform, Importer or Resolver."
            )
    if not channels:
        raise SettingsError("Expected at least one channel as examples, got an empty list.")
    return {
        f"{executor.EXAMPLES}_{i}" if i else executor.EXAMPLES: channel
        for i, channel in enumerate(channels)
    }


def checked_model(what: str, channel: Any) -> types.BaseChannel:
    """Returns a channel that can hold a model.

    Args:
      what: the argument that it was given as.
      channel: what was given.

    Raises:
      SettingsError: it cannot.
    """
    is_channel = isinstance(channel, types.BaseChannel)
    if not is_channel or channel.type_name not in ("Model", "PushedModel"):
        raise SettingsError(
            f"Expected a channel of Model or PushedModel as {what}, got {_kind(channel)}. Take it "
            f"from a Trainer, Pusher, Importer or Resolver."
        )
    return channel


def check_by_name(what: str, given: Any) -> None:
    """Checks that something is given for each model by its name.

    Args:
      what: the argument that it was given as.
      given: what was given.

    Raises:
      SettingsError: it is not.
    """
    if not isinstance(given, Mapping):
        raise SettingsError(
            f"Expected {what} by the models' names, got {type(given).__name__}. Name them: "
            f"{{'five': ...}}."
        )


def models_by_key(
    names: Sequence[str],
    models: Mapping[str, types.BaseChannel],
    model_blessings: Mapping[str, types.BaseChannel] | None,
    model_specs: Mapping[str, bulk_inferencer_pb2.ModelSpec],
) -> dict[str, types.BaseChannel]:
    """Returns the channels of several models and of their blessings by input.

    Args:
      names: the names of the models.
      models: the models by name.
      model_blessings: their blessings by name, of all models or of some.
      model_specs: their settings by name.

    Raises:
      SettingsError: a name cannot be one, is not among the others, or has no model; or a channel
        is of another type.
    """
    for name in names:
        _check_free(name)
        if name not in models and model_specs[name].WhichOneof("endpoint") is None:
            raise SettingsError(
                f"Expected a channel for model '{name}' in models, got them for "
                f"{', '.join(models) or 'none'}. Give one; only an endpoint in its ModelSpec can "
                f"stand in for it."
            )
    given = {}
    for name, channel in models.items():
        _check_known("models", name, names)
        given[model_key(name)] = checked_model(f"models['{name}']", channel)
    for name, channel in (model_blessings or {}).items():
        _check_known("model_blessings", name, names)
        if name not in models:
            raise SettingsError(
                f"Expected a channel for model '{name}' in models, for its blessing to bless, got "
                f"none. Give it beside the endpoint."
            )
        if not isinstance(channel, types.BaseChannel) or channel.type_name != "ModelBlessing":
            raise SettingsError(
                f"Expected a channel of ModelBlessing as model_blessings['{name}'], got "
                f"{_kind(channel)}. Take it from an Evaluator, Importer or Resolver."
            )
        given[blessing_key(name)] = channel
    return given


def extended(
    spec: type[_Spec],
    inputs: Mapping[str, types.BaseChannel],
    outputs: Mapping[str, types.BaseChannel] | None = None,
) -> type[_Spec]:
    """Returns a spec class with further channels, which differ from instance to instance.

    Args:
      spec: the class with those channels that all instances have.
      inputs: channels by input.
      outputs: channels by output.
    """
    more = {
        key: ChannelParameter(
            type=channel.type,
            # Whether a blessing that did not arrive closes the gate is for the gate to judge.
            optional=channel.type is standard_artifacts.ModelBlessing,
        )
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


def may_have_endpoint(
    model_spec: bulk_inferencer_pb2.ModelSpec | data_types.RuntimeParameter | None,
) -> bool:
    """Returns whether an endpoint may stand in for the model."""
    if isinstance(model_spec, data_types.RuntimeParameter):
        if model_spec.default is None:
            return True
        default = str(model_spec.default)
        model_spec = settings.parse(executor.MODEL_SPEC, default, bulk_inferencer_pb2.ModelSpec)
    return model_spec is not None and model_spec.WhichOneof("endpoint") is not None


def run_id() -> data_types.RuntimeParameter:
    """Returns a property that is another one in every run, so that results are not cached.

    What answers behind an endpoint may have changed since the last run, and TFX cannot see it.
    Local runners give the run's own id, Airflow the default of the process that runs the task.
    """
    return data_types.RuntimeParameter(
        name=constants.PIPELINE_RUN_ID_PARAMETER_NAME, ptype=str, default=_PROCESS_ID
    )


def _check_free(name: str) -> None:
    """Checks that a model's name is none of a channel or property of the component."""
    check_name(name, "model")
    is_reserved = name in (*_RESERVED_NAMES, *_RESERVED_PROPERTIES)
    if is_reserved or name.startswith(_RESERVED_BEGINNINGS) or name.endswith(_RESERVED_ENDS):
        raise SettingsError(
            f"Expected the name of a model to be none of the component's own, got '{name}'; these "
            f"are: {', '.join((*_RESERVED_NAMES, *_RESERVED_PROPERTIES))}, what begins with "
            f"{', '.join(_RESERVED_BEGINNINGS)}, and what ends with {', '.join(_RESERVED_ENDS)}. "
            f"Rename the model."
        )


def _check_known(what: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise SettingsError(
            f"Expected the names in {what} to be among {', '.join(names)}, got '{name}'. Use the "
            f"same names everywhere."
        )


def _kind(channel: Any) -> str:
    return str(getattr(channel, "type_name", type(channel).__name__))
