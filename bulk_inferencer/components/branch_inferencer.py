"""The BranchInferencer component: several models beside one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.orchestration import data_types
from tfx.proto import bulk_inferrer_pb2
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from bulk_inferencer import bulk_inferencer_pb2
from bulk_inferencer._units.outputs import VARIANT
from bulk_inferencer.components import channels, executor, settings
from bulk_inferencer.components.artifacts import InferenceSummary, ModelComparison
from bulk_inferencer.errors import SettingsError


class BranchInferencerSpec(ComponentSpec):
    """Channels and execution properties that every `BranchInferencer` has."""

    PARAMETERS = {
        executor.DATA_SPEC: ExecutionParameter(type=bulk_inferencer_pb2.DataSpec),
        executor.MODEL_SPECS: ExecutionParameter(type=bulk_inferencer_pb2.ModelSpecs),
        executor.ROUTING: ExecutionParameter(type=bulk_inferencer_pb2.Routing),
        executor.COMPARISON_SPEC: ExecutionParameter(type=bulk_inferencer_pb2.ComparisonSpec),
        executor.OUTPUT_EXAMPLE_SPEC: ExecutionParameter(
            type=bulk_inferencer_pb2.OutputExampleSpec, optional=True
        ),
        executor.MODEL_NAMES: ExecutionParameter(type=str),
        executor.REQUIRED_BLESSINGS: ExecutionParameter(type=str),
        executor.RUN_ID: ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {executor.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {
        executor.SUMMARY: ChannelParameter(type=InferenceSummary),
        executor.FAILED_EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        executor.OUTPUT_EXAMPLES: ChannelParameter(type=standard_artifacts.Examples, optional=True),
        executor.COMPARISON: ChannelParameter(type=ModelComparison, optional=True),
    }


class BranchInferencer(base_beam_component.BaseBeamComponent):
    """Scores examples with several models, each of which was validated, and reads them once.

    ```python
    branch = BranchInferencer(
        examples=inference_example_gen.outputs["examples"],
        models={"five": trainer_5.outputs["model"], "ten": trainer_10.outputs["model"]},
        model_blessings={"five": evaluator_5.outputs["blessing"]},
    )
    ```

    Every record goes to every model or, with `Routing.split`, to one of them. A model that is not
    blessed is left out, as its gate policy says, and the others run.

    Outputs:
      - one of each model's name (`branch.outputs["five"]`): its PredictionLogs, as
        `BulkInferencer` writes them.
      - `summary`: a summary for each model in `summary.json`; the records that could not be scored,
        with model and reason, in `failures-<split>.jsonl.gz`.
      - `failed_examples`: those records themselves, as examples with the same splits.
      - `output_examples`: with `output_example_spec`, each record with its predictions as further
        features: `<model>/<column>` of every model, or `<column>` of one and its name in `variant`.
      - `comparison`: how the models' outputs differ where every record goes to every model, or
        what came of the records where each goes to one and `ComparisonSpec.outcomes` says so.
    """

    SPEC_CLASS = BranchInferencerSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.BranchExecutor)

    def __init__(
        self,
        examples: types.BaseChannel | Sequence[types.BaseChannel],
        models: Mapping[str, types.BaseChannel],
        model_blessings: Mapping[str, types.BaseChannel] | None = None,
        routing: bulk_inferencer_pb2.Routing | None = None,
        data_spec: bulk_inferencer_pb2.DataSpec
        | bulk_inferrer_pb2.DataSpec
        | data_types.RuntimeParameter
        | None = None,
        model_specs: Mapping[str, bulk_inferencer_pb2.ModelSpec | bulk_inferrer_pb2.ModelSpec]
        | None = None,
        output_example_spec: bulk_inferencer_pb2.OutputExampleSpec
        | bulk_inferrer_pb2.OutputExampleSpec
        | None = None,
        comparison_spec: bulk_inferencer_pb2.ComparisonSpec | None = None,
    ) -> None:
        """Constructs the component.

        Args:
          examples: a channel of `Examples`, or a list of them.
          models: channels of `Model` or `PushedModel` by the models' names, which are lower-case
            letters, digits and underscores. A model behind an endpoint needs none.
          model_blessings: channels of `ModelBlessing` by the models' names. A model that has one is
            used only if it blesses this model.
          routing: which model a record goes to; default: to each of them.
          data_spec: which splits, and how many records may fail.
          model_specs: signatures, tags, gate policy and so on by the models' names; the tightest
            batch bounds hold for all.
          output_example_spec: which outputs become features of `output_examples`.
          comparison_spec: what the comparison keeps, and the outcomes of an A/B test.

        Raises:
          SettingsError: an argument is missing, of another type or not consistent.
        """
        our = bulk_inferencer_pb2
        channels.check_by_name("models", models)
        channels.check_by_name("model_blessings", model_blessings or {})
        channels.check_by_name("model_specs", model_specs or {})
        given_specs = {
            name: settings.to_message(f"model_specs['{name}']", spec, our.ModelSpec)
            for name, spec in (model_specs or {}).items()
        }
        names = _names(models, given_specs)
        specs = {name: given_specs.get(name) or our.ModelSpec() for name in names}
        models_by_key = channels.models_by_key(names, models, model_blessings, specs)
        routing = settings.to_message(executor.ROUTING, routing, our.Routing)
        comparison_spec = settings.to_message(
            executor.COMPARISON_SPEC, comparison_spec, our.ComparisonSpec
        )
        is_split = routing.HasField("split")
        if is_split:
            _check_split(names, routing.split, comparison_spec)
        elif comparison_spec.outcomes:
            raise SettingsError(
                "Expected Routing.split beside ComparisonSpec.outcomes, got none: only where each "
                "record goes to one model do outcomes tell the models apart."
            )
        results: dict[str, types.BaseChannel] = {
            name: types.Channel(type=standard_artifacts.InferenceResult) for name in names
        }
        optional: dict[str, Any] = {}
        if output_example_spec is not None:
            columns = settings.to_message(
                executor.OUTPUT_EXAMPLE_SPEC, output_example_spec, our.OutputExampleSpec
            )
            found = settings.columns(columns, *specs.values())
            if is_split and any(column.name == VARIANT for column in found):
                raise SettingsError(
                    f"Expected no column '{VARIANT}' in OutputExampleSpec, since the name of the "
                    f"model stands in that feature. Choose another name."
                )
            optional[executor.OUTPUT_EXAMPLE_SPEC] = columns
            optional[executor.OUTPUT_EXAMPLES] = types.Channel(type=standard_artifacts.Examples)
        if comparison_spec.outcomes or (len(names) > 1 and not is_split):
            optional[executor.COMPARISON] = types.Channel(type=ModelComparison)
        if any(channels.may_have_endpoint(spec) for spec in specs.values()):
            optional[executor.RUN_ID] = channels.run_id()
        inputs = {**channels.examples_by_key(examples), **models_by_key}
        spec_class = channels.extended(BranchInferencerSpec, inputs, results)
        super().__init__(
            spec=spec_class(
                **inputs,
                **results,
                **optional,
                summary=types.Channel(type=InferenceSummary),
                failed_examples=types.Channel(type=standard_artifacts.Examples),
                data_spec=settings.to_setting(executor.DATA_SPEC, data_spec, our.DataSpec)
                or our.DataSpec(),
                model_specs=our.ModelSpecs(models=specs),
                routing=routing,
                comparison_spec=comparison_spec,
                model_names=",".join(names),
                required_blessings=",".join(model_blessings or {}),
            )
        )


def _names(
    models: Mapping[str, Any], specs: Mapping[str, bulk_inferencer_pb2.ModelSpec]
) -> list[str]:
    """Returns the names of the models: of those with a channel, and of those behind an endpoint."""
    names = list(models)
    for name, spec in specs.items():
        if name not in models and spec.WhichOneof("endpoint") is None:
            raise SettingsError(
                f"Expected the names in model_specs to be among {', '.join(models) or 'none'}, got "
                f"'{name}'. Use the same names everywhere; only a model with an endpoint needs no "
                f"channel in models."
            )
        if name not in models:
            names.append(name)
    if not names:
        raise SettingsError("Expected at least one model in models, got none. Name the models.")
    return names


def _check_split(
    names: Sequence[str],
    split: bulk_inferencer_pb2.SplitRouting,
    comparison_spec: bulk_inferencer_pb2.ComparisonSpec,
) -> None:
    if sorted(split.weights) != sorted(names):
        raise SettingsError(
            f"Expected weights of SplitRouting for the models {', '.join(sorted(names))}, got them "
            f"for {', '.join(sorted(split.weights)) or 'none'}. Use the same names."
        )
    if comparison_spec.outcomes and not split.split_key:
        raise SettingsError(
            f"Expected a split_key to find the outcomes of {comparison_spec.outcomes} by, got "
            f"none. Name the feature that holds the key in SplitRouting.split_key."
        )
