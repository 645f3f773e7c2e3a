"""From protos to dataclasses: models, how they are called, and which outputs are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._formats.example import Column, check_columns
from bulk_inferencer._models.cascade import CascadeModel, ExitWhen, Stage
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._models.python_model import PythonModel
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
from bulk_inferencer.components.settings import given_fields, name_of
from bulk_inferencer.errors import SettingsError


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


def python_model(
    spec: our.ModelSpec, load: Callable[[str], Callable[..., Any]], path: str
) -> PythonModel:
    """Returns the model that `load` makes of the files at `path`.

    Raises:
      SettingsError: `spec` says something that only other models have.
    """
    others = ("model_signature_name", "tag", "import_modules", "tf_serving", "vertex_endpoint")
    if given := [field.name for field, _ in spec.ListFields() if field.name in others]:
        raise SettingsError(
            f"The module defines load_model, so ModelSpec.{given[0]} has no meaning: it is for "
            f"SavedModels and endpoints. Leave it out, or remove load_model."
        )
    return PythonModel(
        load,
        path,
        takes_records=spec.takes_records,
        features=tuple(spec.features),
        allow_missing=spec.allow_missing,
    )


def check_needs_no_module(spec: our.ModelSpec) -> None:
    """Checks that settings of a model that `load_model` loads are not given for another.

    Raises:
      SettingsError: one is.
    """
    given = [field.name for field, _ in spec.ListFields()]
    if unused := [name for name in ("features", "allow_missing") if name in given]:
        raise SettingsError(
            f"ModelSpec.{unused[0]} is for a model that load_model loads, but there is no "
            f"load_model. Define it in a module and name that in module_file or module_path, or "
            f"leave out ModelSpec.{unused[0]}."
        )


def gate_policy(spec: our.ModelSpec) -> str:
    """Returns what to do about a closed gate: `SKIP`, `FAIL` or `IGNORE`.

    Raises:
      SettingsError: there is no policy with this number.
    """
    return name_of(spec, "gate_policy", "Leave it out to skip a model that is not blessed.")


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
        limits=Limits(**given_fields(spec.limits)),
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
        limits=Limits(**given_fields(spec.limits)),
        **named,
    )


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
            bounds = given_fields(exit_when)
            exits.append(ExitWhen(bounds.pop("output_key", ""), **bounds))
        model_of_stage = model(stage.model_spec, paths.get(stage.name, ""))
        stages.append(Stage(stage.name, model_of_stage, columns_of_stage, tuple(exits)))
    return CascadeModel(tuple(stages))


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
