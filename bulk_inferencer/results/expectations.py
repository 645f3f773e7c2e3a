"""What is expected of models: read from a file, and checked against what they are."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from bulk_inferencer import _files
from bulk_inferencer._checks import did_you_mean
from bulk_inferencer._layout import INFERENCE_RESULT
from bulk_inferencer.errors import SettingsError, prefix_errors
from bulk_inferencer.results.checks import Check as Check
from bulk_inferencer.results.expected import Expectations as Expectations
from bulk_inferencer.results.expected import OutputExpectations as OutputExpectations
from bulk_inferencer.results.judgement import judge as judge
from bulk_inferencer.results.settings_file import read_settings

# What stands for no bound in YAML, where all text is kept as it is.
_NONE = ("", "~", "null")


def check_outputs(expectations: Expectations, available: Collection[str], model: str) -> None:
    """Checks that a model has the outputs that something is expected of.

    Args:
      expectations: what is expected.
      available: the outputs; none where only the model's answers will tell.
      model: what messages call the model.

    Raises:
      SettingsError: it has no such output.
    """
    for name in expectations.outputs:
        if available and name not in available:
            raise SettingsError(
                f"Something is expected of the output '{name}', but {model} has "
                f"{', '.join(available)}.{did_you_mean(name, available)} Correct "
                f"Expectations.outputs."
            )


def check_baseline_models(
    expectations: Mapping[str, Expectations], models: Collection[str], is_split: bool
) -> None:
    """Checks that each baseline model is another one of the same run.

    Args:
      expectations: by model, for those that have any.
      models: the names of all models.
      is_split: whether each record goes to one of them only.

    Raises:
      SettingsError: one is not, or no record goes to both models.
    """
    for name, own in expectations.items():
        if not own.baseline_model:
            continue
        others = [model for model in models if model != name]
        if own.baseline_model not in others:
            known = f"the others are {', '.join(others)}" if others else "there is no other one"
            raise SettingsError(
                f"Model '{name}': Expectations.baseline_model is '{own.baseline_model}', but "
                f"{known}.{did_you_mean(own.baseline_model, others)} Name another model of the "
                f"same run."
            )
        if is_split:
            raise SettingsError(
                f"Model '{name}': Expectations.baseline_model is '{own.baseline_model}', but in an "
                f"A/B test no record goes to both models. Leave it out."
            )


def read_expectations(path: str | os.PathLike[str]) -> Mapping[str, Expectations]:
    """Reads what is expected of models from a YAML or JSON file, on any filesystem that Beam knows.

    ```yaml
    max_failed_fraction: 0.01
    outputs:
      y:
        minimum: 0
        quantiles: {0.5: [10, 20]}
    ```

    Args:
      path: a file with the fields of `Expectations`, or with these by the name of each model.

    Returns:
      The expectations by model. Those of a model without a name are `inference_result`.

    Raises:
      SettingsError: there is no such file, it is neither YAML nor JSON, or holds something else.
    """
    path = _files.as_path("The path of expectations", path)
    content = read_settings(path)
    with prefix_errors(path):
        values = _settings_of("The file", content)
        known = {own.name for own in fields(Expectations)}
        if not values:
            raise SettingsError("The file is empty. Write what is expected, such as outputs.")
        if known & set(values) or not all(isinstance(v, Mapping) for v in values.values()):
            return {INFERENCE_RESULT: expectations_of(values)}
        made = {}
        for model, own in values.items():
            meant = did_you_mean(model, known)
            label = f"Model '{model}'" + (f" (or is it none?{meant})" if meant else "")
            with prefix_errors(label):
                made[model] = expectations_of(own)
        return made


def expectations_of(values: Mapping[str, Any]) -> Expectations:
    """Returns expectations that are written as dicts, lists, and numbers or their text.

    Raises:
      SettingsError: there is an unknown key, or a value cannot be.
    """
    given = _checked(Expectations, values)
    outputs = {}
    for name, own in _settings_of("outputs", given.pop("outputs", {})).items():
        with prefix_errors(f"Output '{name}'"):
            outputs[str(name)] = _output_expectations(_settings_of("It", own))
    given = {key: _as_number(value) for key, value in given.items()}
    if isinstance(records := given.get("min_records"), float) and records.is_integer():
        given["min_records"] = int(records)
    given = {key: value for key, value in given.items() if value is not None}
    return Expectations(outputs=outputs, **given)


def _output_expectations(values: Mapping[str, Any]) -> OutputExpectations:
    given = _checked(OutputExpectations, values)
    shares = _settings_of("class_shares", given.pop("class_shares", {}))
    quantiles: dict[Any, Any] = {}
    for written, bounds in _settings_of("quantiles", given.pop("quantiles", {})).items():
        if (q := _as_number(written)) in quantiles:
            raise SettingsError(f"quantiles has {q} twice. Remove one of them.")
        quantiles[q] = _as_pair(bounds)
    return OutputExpectations(
        quantiles=quantiles,
        class_shares={str(name): _as_pair(bounds) for name, bounds in shares.items()},
        **{key: _as_number(value) for key, value in given.items()},
    )


def _checked(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a dataclass, after checking that it has them."""
    known = [own.name for own in fields(kind)]
    for key in values:
        if key not in known:
            raise SettingsError(
                f"There is no expectation '{key}'.{did_you_mean(str(key), known)} There are "
                f"{', '.join(known)}."
            )
    return dict(values)


def _settings_of(what: str, value: Any) -> Mapping[str, Any]:
    if value is None or (isinstance(value, str) and value in _NONE):
        return {}
    if not isinstance(value, Mapping):
        raise SettingsError(
            f"{what} must hold names and values, such as minimum: 0, not {value!r}."
        )
    return value


def _as_number(value: Any) -> Any:
    """Returns the number that a text stands for; what is none is left for the dataclass to say."""
    if not isinstance(value, str):
        return value
    if value in _NONE:
        return None
    try:
        return float(value.replace(".inf", "inf"))
    except ValueError:
        return value


def _as_pair(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) <= {"at_least", "at_most"}:
        value = [value.get("at_least"), value.get("at_most")]
    return [_as_number(bound) for bound in value] if isinstance(value, (list, tuple)) else value
