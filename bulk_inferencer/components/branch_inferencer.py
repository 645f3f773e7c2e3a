"""The BranchInferencer component: several models side by side."""

from __future__ import annotations

from collections.abc import Mapping

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._units.outcomes import check_outcomes
from bulk_inferencer._units.sinks.output_examples import check_no_variant
from bulk_inferencer.components import (
    arguments,
    channels,
    executor,
    expected_channels,
    keys,
    model_settings,
    settings,
)
from bulk_inferencer.components.artifacts import ModelComparison
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results.expectations import check_baseline_models


class BranchInferencerSpec(ComponentSpec):
    """Channels and execution properties that every `BranchInferencer` has."""

    PARAMETERS = {
        **channels.COMMON_PARAMETERS,
        keys.MODEL_SPECS: ExecutionParameter(type=our.ModelSpecs),
        keys.ROUTING: ExecutionParameter(type=our.Routing),
        keys.COMPARISON_SPEC: ExecutionParameter(type=our.ComparisonSpec),
        keys.EXPECTATIONS: ExecutionParameter(type=our.ModelExpectations, optional=True),
        keys.MODEL_NAMES: ExecutionParameter(type=str),
    }
    INPUTS = channels.COMMON_INPUTS
    OUTPUTS = {
        **channels.COMMON_OUTPUTS,
        **channels.OPTIONAL_OUTPUTS,
        keys.COMPARISON: ChannelParameter(type=ModelComparison, optional=True),
    }


class BranchInferencer(base_beam_component.BaseBeamComponent):
    """Scores examples with several validated models, and reads the examples only once.

    ```python
    branch = BranchInferencer(
        examples=inference_example_gen.outputs["examples"],
        models={"five": trainer_5.outputs["model"], "ten": trainer_10.outputs["model"]},
        model_blessings={"five": evaluator_5.outputs["blessing"]},
    )
    ```

    Every record goes to every model or, with `Routing.split`, to one of them. If a model is not
    blessed and its gate policy is to skip it, the others still run.

    Outputs:
      - an output with the name of each model (`branch.outputs["five"]`): its PredictionLogs, as
        `BulkInferencer` writes them.
      - `summary`: a summary for each model in `summary.json`, and a list of the records that could
        not be scored, with model and reason, in `failures-<split>.jsonl.gz`.
      - `failed_examples`: those records themselves, as examples with the same splits.
      - `output_examples`: only with `output_example_spec`; each record with its predictions as
        further features: `<model>/<column>` for every model, or, with `Routing.split`, `<column>`
        and the model's name in `variant`.
      - `prediction_table`: only with `table_spec`; a row for each record: its features that are
        kept, and its predictions: `<model>/<output>` of every model, or, with `Routing.split`,
        `<output>` and the model's name in `variant`.
      - `comparison`: how the models' outputs differ or, with `Routing.split`, the business outcomes
        of each model if `ComparisonSpec.outcomes` names a table of them.
      - `prediction_blessing_<name>` for each model with `expectations`: whether it is blessed,
        since its predictions are as expected. TFX's Pusher takes it.
    """

    SPEC_CLASS = BranchInferencerSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.BranchExecutor)

    @arguments.naming_settings()
    def __init__(
        self,
        examples: channels.Channels,
        models: Mapping[str, types.BaseChannel],
        model_blessings: Mapping[str, types.BaseChannel] | None = None,
        routing: our.Routing | arguments.Json | None = None,
        data_spec: arguments.AnyDataSpec | arguments.Unknown | None = None,
        model_specs: Mapping[str, arguments.AnyModelSpec] | None = None,
        output_example_spec: arguments.AnyOutputExampleSpec | None = None,
        comparison_spec: our.ComparisonSpec | arguments.Json | None = None,
        table_spec: arguments.AnyTableSpec | arguments.Unknown | None = None,
        expectations: Mapping[str, arguments.AnyExpectations] | None = None,
        baselines: Mapping[str, types.BaseChannel] | None = None,
        engine: arguments.AnyEngine | arguments.Unknown | None = None,
    ) -> None:
        """Constructs the component.

        Settings are our messages, those of TFX, or their JSON as text or as a dict. Only
        `data_spec`, `table_spec` and `engine` may also be a `RuntimeParameter` or placeholder.

        Args:
          examples: a channel of `Examples`, or a list of them.
          models: channels of `Model` or `PushedModel` by the models' names, which are lower-case
            letters, digits and underscores. A model behind an endpoint needs none.
          model_blessings: channels of `ModelBlessing` by the models' names. A model that has one
            runs only if the blessing is for this model.
          routing: which model a record goes to; default: all of them.
          data_spec: which splits, which columns of tables the models see, how many records may
            fail, what to do about damaged files, and where what was scored waits for the next run.
          model_specs: signatures, tags, gate policy and so on by the models' names. The tightest
            batch bounds apply to all of them.
          output_example_spec: which outputs become features of `output_examples`.
          comparison_spec: what the comparison keeps, and the outcomes of an A/B test.
          table_spec: what `prediction_table` is like: format, and which features are kept.
          expectations: what predictions must be like for their model to be blessed, by the models'
            names: `bulk_inferencer.Expectations`, our messages, or their JSON as text or as dicts.
          baselines: channels of `InferenceResult` by the models' names, which may be empty: earlier
            results, from which distributions must not drift too far.
          engine: what spreads the work over workers: `engines.Beam()`, `engines.Ray()` or
            `engines.Spark()`, our message, or its JSON as text or as a dict. Default: Beam. Beam's
            options are the pipeline's `beam_pipeline_args`; with Ray or Spark, they open files.

        Raises:
          SettingsError: an argument is missing, has another type, or contradicts another.
        """
        blessings, given_specs = model_blessings or {}, model_specs or {}
        channels.check_by_name(models=models, model_blessings=blessings, model_specs=given_specs)
        specs = {name: our.ModelSpec() for name in models}
        for name, spec in given_specs.items():
            specs[name] = arguments.to_message(f"model_specs['{name}']", spec, our.ModelSpec)
        if not specs:
            raise SettingsError("models is empty. Give at least one model.")
        inputs = {
            **channels.examples_by_key(examples),
            **channels.models_by_key(models, blessings, specs),
        }
        judged, baseline_inputs, blessings_of = expected_channels.for_several(
            expectations or {}, baselines or {}, list(models), list(specs)
        )
        inputs |= baseline_inputs
        data_spec = arguments.to_setting(keys.DATA_SPEC, data_spec, our.DataSpec)
        routing = arguments.to_message(keys.ROUTING, routing, our.Routing)
        comparison_spec = arguments.to_message(
            keys.COMPARISON_SPEC, comparison_spec, our.ComparisonSpec
        )
        optional = channels.output_examples(output_example_spec, *specs.values())
        if split := settings.routing(routing):
            split.check_names(specs)
            if columns_spec := optional.get(keys.OUTPUT_EXAMPLE_SPEC):
                check_no_variant(model_settings.columns(columns_spec, *specs.values()))
        if spec := judged.get(keys.EXPECTATIONS):
            expected = {name: settings.expectations(own) for name, own in spec.models.items()}
            check_baseline_models(expected, list(specs), is_split=split is not None)
        if comparison_spec.outcomes:
            check_outcomes(comparison_spec.outcomes, split)
        if comparison_spec.outcomes or (len(specs) > 1 and not split):
            optional[keys.COMPARISON] = types.Channel(type=ModelComparison)
        results: dict[str, types.BaseChannel] = {
            name: types.Channel(type=standard_artifacts.InferenceResult) for name in specs
        }
        results |= blessings_of
        spec_class = channels.extended(BranchInferencerSpec, inputs, results)
        super().__init__(
            spec=spec_class(
                **inputs,
                **results,
                **judged,
                **optional,
                **channels.prediction_table(table_spec, data_spec),
                **channels.engine(engine),
                **channels.run_id(*specs.values()),
                **channels.new(channels.COMMON_OUTPUTS),
                data_spec=data_spec,
                model_specs=our.ModelSpecs(models=specs),
                routing=routing,
                comparison_spec=comparison_spec,
                model_names=",".join(specs),
                required_blessings=",".join(blessings),
            )
        )
