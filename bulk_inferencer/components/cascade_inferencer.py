"""The CascadeInferencer component: several models one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types.component_spec import ComponentSpec, ExecutionParameter

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.components import arguments, channels, executor, expected_channels, keys
from bulk_inferencer.errors import SettingsError


class CascadeInferencerSpec(ComponentSpec):
    """Channels and execution properties that every `CascadeInferencer` has."""

    PARAMETERS = {
        **channels.COMMON_PARAMETERS,
        keys.CASCADE_SPEC: ExecutionParameter(type=our.CascadeSpec),
        keys.EXPECTATIONS: ExecutionParameter(type=our.Expectations, optional=True),
    }
    INPUTS = {**channels.COMMON_INPUTS, **channels.BASELINE_INPUT}
    OUTPUTS = {**channels.COMMON_OUTPUTS, **channels.RESULT_OUTPUT, **channels.OPTIONAL_OUTPUTS}


class CascadeInferencer(base_beam_component.BaseBeamComponent):
    """Scores examples with several models in order: each stage can use the outputs of the last.

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

    A stage may settle records, which later stages then do not see. If one of the models is not
    blessed and its gate policy is to skip, nothing is scored.

    Outputs: those of `BulkInferencer`. A PredictionLog holds the outputs of the last stage that ran
    for its record and, under `<stage>/<output>`, those of every stage that ran. `summary.json`
    counts the records that each stage settled and those that it passed on. With `expectations`,
    there is a `prediction_blessing_<stage>` for each model: they make the predictions together, so
    all of them are blessed or none.
    """

    SPEC_CLASS = CascadeInferencerSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.CascadeExecutor)

    @arguments.naming_settings()
    def __init__(
        self,
        examples: channels.Channels,
        models: Mapping[str, types.BaseChannel],
        stages: Sequence[our.StageSpec | arguments.Json],
        model_blessings: Mapping[str, types.BaseChannel] | None = None,
        data_spec: arguments.AnyDataSpec | arguments.Unknown | None = None,
        output_example_spec: arguments.AnyOutputExampleSpec | None = None,
        table_spec: arguments.AnyTableSpec | arguments.Unknown | None = None,
        expectations: arguments.AnyExpectations | arguments.Unknown | None = None,
        baseline: types.BaseChannel | None = None,
        engine: arguments.AnyEngine | arguments.Unknown | None = None,
    ) -> None:
        """Constructs the component.

        Settings are our messages, those of TFX, or their JSON as text or as a dict. Only
        `data_spec`, `table_spec` and `engine` may also be a `RuntimeParameter` or placeholder.

        Args:
          examples: a channel of `Examples`, or a list of them.
          models: channels of `Model` or `PushedModel` by the stages' names, which are lower-case
            letters, digits and underscores. A model behind an endpoint needs none.
          stages: the stages in order. Each says which model it uses and how to call it, which
            outputs become features for the next stage, and which records it settles.
          model_blessings: channels of `ModelBlessing` by the stages' names. A model that has one
            runs only if the blessing is for this model.
          data_spec: which splits, which columns of tables the models see, how many records may
            fail, what to do about damaged files, and where what was scored waits for the next run.
          output_example_spec: which outputs become features of `output_examples`: `<output>` of the
            last stage, or `<stage>/<output>` of any.
          table_spec: what `prediction_table` is like: format, and which features are kept.
          expectations: what the predictions must be like for the models to be blessed:
            `bulk_inferencer.Expectations`, our message, or its JSON as text or as a dict.
          baseline: a channel of `InferenceResult`, which may be empty: earlier results, from which
            distributions must not drift too far. The report shows them side by side.
          engine: what spreads the work over workers: `engines.Beam()`, `engines.Ray()` or
            `engines.Spark()`, our message, or its JSON as text or as a dict. Default: Beam. Beam's
            options are the pipeline's `beam_pipeline_args`; with Ray or Spark, they open files.

        Raises:
          SettingsError: an argument is missing, has another type, or contradicts another.
        """
        blessings = model_blessings or {}
        channels.check_by_name(models=models, model_blessings=blessings)
        if not isinstance(stages, (list, tuple)):
            raise SettingsError(
                f"stages must be a list of bulk_inferencer_pb2.StageSpec, not "
                f"{arguments.a_type(stages)}. Put the stages into a list, in their order."
            )
        given = [arguments.to_message("stages", stage, our.StageSpec) for stage in stages]
        spec = our.CascadeSpec(stages=given)
        arguments.to_message("stages", spec, our.CascadeSpec)
        data_spec = arguments.to_setting(keys.DATA_SPEC, data_spec, our.DataSpec)
        specs = {stage.name: stage.model_spec for stage in given}
        inputs = {
            **channels.examples_by_key(examples),
            **channels.models_by_key(models, blessings, specs),
        }
        judged, blessings_of = expected_channels.for_one(expectations, baseline, list(models))
        spec_class = channels.extended(CascadeInferencerSpec, inputs, blessings_of)
        super().__init__(
            spec=spec_class(
                **inputs,
                **judged,
                **blessings_of,
                **channels.new(channels.COMMON_OUTPUTS, channels.RESULT_OUTPUT),
                **channels.output_examples(output_example_spec, our.ModelSpec()),
                **channels.prediction_table(table_spec, data_spec),
                **channels.engine(engine),
                **channels.run_id(*specs.values()),
                data_spec=data_spec,
                cascade_spec=spec,
                required_blessings=",".join(blessings),
            )
        )
