"""What components have for the blessings that models get from their own predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfx import types
from tfx.types import standard_artifacts

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._checks import did_you_mean
from bulk_inferencer.components import arguments, channels, keys, settings
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results.expectations import Expectations


def for_one(
    expectations: Any, baseline: Any, models: Sequence[str]
) -> tuple[dict[str, Any], dict[str, types.BaseChannel]]:
    """Returns what a component has whose only result is judged: arguments of its spec, and outputs.

    Args:
      expectations: what is expected of the predictions, as an author gives it.
      baseline: the channel of earlier results, or None.
      models: the names of those with a channel; "" for one without a name.

    Raises:
      SettingsError: there is no model to bless, or no baseline that is needed; or a value has
        another type.
    """
    found: dict[str, Any] = {}
    if baseline is not None:
        found[keys.BASELINE] = _checked_result(keys.BASELINE, baseline)
    if expectations is None:
        return found, {}
    spec = arguments.to_setting(keys.EXPECTATIONS, expectations, our.Expectations)
    found[keys.EXPECTATIONS] = spec
    if not isinstance(spec, arguments.Unknown):
        expected = settings.expectations(spec)
        if expected.baseline_model:
            raise SettingsError(
                f"Expectations.baseline_model is '{expected.baseline_model}', but there are no "
                f"models side by side. Leave it out, or use a BranchInferencer."
            )
        _check_baseline("baseline", expected, baseline)
    if not models:
        raise SettingsError(
            "expectations are given, but no model that could be blessed for meeting them: what an "
            "endpoint serves is no artifact. Give the model as well as the endpoint, or leave out "
            "expectations."
        )
    return found, {keys.prediction_blessing_key(name): _blessing() for name in models}


def for_several(
    expectations: Mapping[str, Any],
    baselines: Mapping[str, Any],
    models: Sequence[str],
    names: Sequence[str],
) -> tuple[dict[str, Any], dict[str, types.BaseChannel], dict[str, types.BaseChannel]]:
    """Returns what a component has whose results are judged each: settings, inputs and outputs.

    Args:
      expectations: what is expected of models, by their names.
      baselines: channels of earlier results, by the names of models.
      models: the names of those with a channel.
      names: the names of all models.

    Raises:
      SettingsError: see `for_one`; or there is no such model.
    """
    channels.check_by_name(expectations=expectations, baselines=baselines)
    for argument, given in ((keys.EXPECTATIONS, expectations), ("baselines", baselines)):
        for name in given:
            if name not in names:
                raise SettingsError(
                    f"{argument} has an entry for '{name}', but the models are "
                    f"{', '.join(names)}.{did_you_mean(str(name), names)} Use the same names "
                    f"everywhere."
                )
    inputs = {
        keys.baseline_key(name): _checked_result(f"baselines['{name}']", channel)
        for name, channel in baselines.items()
    }
    specs = {
        name: arguments.to_message(f"expectations['{name}']", own, our.Expectations)
        for name, own in expectations.items()
    }
    for name, spec in specs.items():
        _check_baseline(f"baselines['{name}']", settings.expectations(spec), baselines.get(name))
        if name not in models:
            raise SettingsError(
                f"expectations has an entry for '{name}', but models has none: what an endpoint "
                f"serves is no artifact that could be blessed. Give the model as well as the "
                f"endpoint, or leave out what is expected of it."
            )
    if not specs:
        return {}, inputs, {}
    outputs = {keys.prediction_blessing_key(name): _blessing() for name in specs}
    return {keys.EXPECTATIONS: our.ModelExpectations(models=specs)}, inputs, outputs


def _check_baseline(argument: str, expectations: Expectations, channel: Any) -> None:
    if channel is None and expectations.needs_baseline:
        raise SettingsError(
            f"OutputExpectations.max_drift needs earlier results to compare with. Give {argument}, "
            f"a channel of InferenceResult, for example of a Resolver; it may be empty at first."
        )


def _checked_result(argument: str, channel: Any) -> types.BaseChannel:
    sources = "a Resolver, an Importer or another inferencer"
    return channels.checked(argument, channel, ["InferenceResult"], sources)


def _blessing() -> types.BaseChannel:
    return types.Channel(type=standard_artifacts.ModelBlessing)
