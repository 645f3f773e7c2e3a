"""The CascadeInferencer component: several models one after the other."""

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
from bulk_inferencer.components import channels, executor, settings
from bulk_inferencer.components.artifacts import InferenceSummary
from bulk_inferencer.errors import SettingsError


class CascadeInferencerSpec(ComponentSpec):
    """Channels and execution properties that every `CascadeInferencer` has."""

    PARAMETERS = {
        executor.DATA_SPEC: ExecutionParameter(type=bulk_inferencer_pb2.DataSpec),
        executor.CASCADE_SPEC: ExecutionParameter(type=bulk_inferencer_pb2.CascadeSpec),
        executor.OUTPUT_EXAMPLE_SPEC: ExecutionParameter(
            type=bulk_inferencer_pb2.OutputExampleSpec, optional=True
        ),
        executor.REQUIRED_BLESSINGS: ExecutionParameter(type=str),
        executor.RUN_ID: ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {executor.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {
        executor.INFERENCE_RESULT: ChannelParameter(type=standard_artifacts.InferenceResult),
        executor.SUMMARY: ChannelParameter(type=InferenceSummary),
        executor.FAILED_EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        executor.OUTPUT_EXAMPLES: ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }


class CascadeInferencer(base_beam_component.BaseBeamComponent):
    """Scores examples with several models in order: a stage gets what the one before it returned.

    ```python
    cascade = CascadeInferencer(
        examples=inference_example_gen.outputs["examples"],
        models={"small": small_trainer.outputs["model"], "full": full_trainer.outputs["model"]},
        stages=[
            bulk_inferencer_pb2.StageSpec(
                name="small",
                exit_when=[bulk_inferencer_pb2.ExitWhen(output_key="probabilities", at_least=0.9)],
            ),
            bulk_inferencer_pb2.StageSpec(name="full"),
        ],
    )
    ```

    A stage may settle records, so that later ones see only the rest. If one of the models is not
    blessed and its gate policy is to skip, nothing is scored.

    Outputs: those of `BulkInferencer`. A PredictionLog holds the outputs of the last stage that ran
    for its record and, under `<stage>/<output>`, those of every stage that did; `summary.json`
    counts for each stage the records that it settled and those that it handed on.
    """

    SPEC_CLASS = CascadeInferencerSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.CascadeExecutor)

    def __init__(
        self,
        examples: types.BaseChannel | Sequence[types.BaseChannel],
        models: Mapping[str, types.BaseChannel],
        stages: Sequence[bulk_inferencer_pb2.StageSpec],
        model_blessings: Mapping[str, types.BaseChannel] | None = None,
        data_spec: bulk_inferencer_pb2.DataSpec
        | bulk_inferrer_pb2.DataSpec
        | data_types.RuntimeParameter
        | None = None,
        output_example_spec: bulk_inferencer_pb2.OutputExampleSpec
        | bulk_inferrer_pb2.OutputExampleSpec
        | None = None,
    ) -> None:
        """Constructs the component.

        Args:
          examples: a channel of `Examples`, or a list of them.
          models: channels of `Model` or `PushedModel` by the stages' names, which are lower-case
            letters, digits and underscores. A model behind an endpoint needs none.
          stages: the stages in order: each names its model, says how it is called, which of its
            outputs become features for the next stage, and which records it settles.
          model_blessings: channels of `ModelBlessing` by the stages' names. A model that has one is
            used only if it blesses this model.
          data_spec: which splits, and how many records may fail.
          output_example_spec: which outputs become features of `output_examples`: `<output>` of the
            last stage, or `<stage>/<output>` of any.

        Raises:
          SettingsError: an argument is missing, of another type or not consistent.
        """
        our = bulk_inferencer_pb2
        channels.check_by_name("models", models)
        channels.check_by_name("model_blessings", model_blessings or {})
        if not isinstance(stages, (list, tuple)):
            raise SettingsError(
                f"Expected a list of bulk_inferencer_pb2.StageSpec as stages, got "
                f"{type(stages).__name__}. Put the stages into a list, in their order."
            )
        given = [settings.to_message("stages", stage, our.StageSpec) for stage in stages]
        cascade_spec = our.CascadeSpec(stages=given)
        settings.to_message("stages", cascade_spec, our.CascadeSpec)
        specs = {stage.name: stage.model_spec for stage in given}
        models_by_key = channels.models_by_key(list(specs), models, model_blessings, specs)
        optional: dict[str, Any] = {}
        if output_example_spec is not None:
            columns = settings.to_message(
                executor.OUTPUT_EXAMPLE_SPEC, output_example_spec, our.OutputExampleSpec
            )
            settings.columns(columns, our.ModelSpec())
            optional[executor.OUTPUT_EXAMPLE_SPEC] = columns
            optional[executor.OUTPUT_EXAMPLES] = types.Channel(type=standard_artifacts.Examples)
        if any(channels.may_have_endpoint(spec) for spec in specs.values()):
            optional[executor.RUN_ID] = channels.run_id()
        inputs = {**channels.examples_by_key(examples), **models_by_key}
        spec_class = channels.extended(CascadeInferencerSpec, inputs)
        super().__init__(
            spec=spec_class(
                **inputs,
                **optional,
                inference_result=types.Channel(type=standard_artifacts.InferenceResult),
                summary=types.Channel(type=InferenceSummary),
                failed_examples=types.Channel(type=standard_artifacts.Examples),
                data_spec=settings.to_setting(executor.DATA_SPEC, data_spec, our.DataSpec)
                or our.DataSpec(),
                cascade_spec=cascade_spec,
                required_blessings=",".join(model_blessings or {}),
            )
        )
