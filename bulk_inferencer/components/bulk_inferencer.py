"""The BulkInferencer component: what a pipeline's author calls."""

from __future__ import annotations

import os

from tfx import types
from tfx.components.util import udf_utils
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._gate import INFRA_BLESSING, MODEL_BLESSING
from bulk_inferencer.components import arguments, channels, executor, expected_channels, keys
from bulk_inferencer.errors import SettingsError


class BulkInferencerSpec(ComponentSpec):
    """Channels and execution properties of `BulkInferencer`."""

    PARAMETERS = {
        **channels.COMMON_PARAMETERS,
        keys.MODEL_SPEC: ExecutionParameter(type=our.ModelSpec),
        keys.EXPECTATIONS: ExecutionParameter(type=our.Expectations, optional=True),
        # Named as TFX's helpers for user modules expect them.
        keys.MODULE_FILE: ExecutionParameter(type=str, optional=True),
        keys.MODULE_PATH: ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {
        **channels.COMMON_INPUTS,
        **channels.BASELINE_INPUT,
        keys.MODEL: ChannelParameter(type=standard_artifacts.Model, optional=True),
        keys.PUSHED_MODEL: ChannelParameter(type=standard_artifacts.PushedModel, optional=True),
        MODEL_BLESSING: ChannelParameter(type=standard_artifacts.ModelBlessing, optional=True),
        INFRA_BLESSING: ChannelParameter(type=standard_artifacts.InfraBlessing, optional=True),
    }
    OUTPUTS = {
        **channels.COMMON_OUTPUTS,
        **channels.RESULT_OUTPUT,
        **channels.OPTIONAL_OUTPUTS,
        keys.PREDICTION_BLESSING: ChannelParameter(
            type=standard_artifacts.ModelBlessing, optional=True
        ),
    }


class BulkInferencer(base_beam_component.BaseBeamComponent):
    """Scores examples with a validated model.

    ```python
    inferencer = BulkInferencer(
        examples=inference_example_gen.outputs["examples"],
        model_export=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
    )
    ```

    Outputs:
      - `inference_result`: PredictionLogs as TFRecord files, which are named
        `prediction_logs-<split>-SSSSS-of-NNNNN.gz`, or without `.gz` if `DataSpec.compression` is
        `NONE`.
      - `summary`: counts, gate and model in `summary.json`, and a list of the records that could
        not be scored, with reasons, in `failures-<split>.jsonl.gz`.
      - `failed_examples`: those records themselves, as examples with the same splits.
      - `output_examples`: only with `output_example_spec`; each record with its prediction as
        further features.
      - `prediction_table`: only with `table_spec`; a row for each record: its features that are
        kept, and its prediction.
      - `prediction_blessing`: only with `expectations`; whether the model is blessed, since its
        predictions are as expected. TFX's Pusher takes it.
    """

    SPEC_CLASS = BulkInferencerSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    @arguments.naming_settings()
    def __init__(
        self,
        examples: channels.Channels,
        model_export: types.BaseChannel | None = None,
        model_blessing: types.BaseChannel | None = None,
        data_spec: arguments.AnyDataSpec | arguments.Unknown | None = None,
        model_spec: arguments.AnyModelSpec | arguments.Unknown | None = None,
        output_example_spec: arguments.AnyOutputExampleSpec | arguments.Unknown | None = None,
        infra_blessing: types.BaseChannel | None = None,
        model: types.BaseChannel | None = None,
        module_file: str | os.PathLike[str] | arguments.Unknown | None = None,
        module_path: str | arguments.Unknown | None = None,
        table_spec: arguments.AnyTableSpec | arguments.Unknown | None = None,
        expectations: arguments.AnyExpectations | arguments.Unknown | None = None,
        baseline: types.BaseChannel | None = None,
        engine: arguments.AnyEngine | arguments.Unknown | None = None,
    ) -> None:
        """Constructs the component.

        Each `*_spec` is our message, TFX's of the same name, its JSON as text or as a dict, or a
        `RuntimeParameter` or placeholder that becomes such JSON when the pipeline runs.

        Args:
          examples: a channel of `Examples`, or a list of them. If several artifacts have a split of
            the same name, all of its records are scored.
          model_export: a channel of `Model` or `PushedModel`. Optional if `model_spec` names an
            endpoint; then it is the model that the blessings have to bless.
          model_blessing: a channel of `ModelBlessing`. If given, it must bless this model.
          data_spec: which splits, which columns of tables the model sees, how many records may
            fail, what to do about damaged files, and where what was scored waits for the next run.
          model_spec: signatures, tags, gate policy, batch bounds and modules with custom ops, or
            the endpoint that serves the model.
          output_example_spec: which outputs become features of `output_examples`.
          infra_blessing: a channel of `InfraBlessing`. If given, it must bless this model.
          model: another name of `model_export`: the one that TFX's BulkInferrer uses.
          module_file: a Python file with any of `preprocess(batch)` and
            `postprocess(records, outputs)`, see `bulk_inferencer.HookedModel`, and
            `load_model(path)`, which loads a model that is no SavedModel, see
            `bulk_inferencer.PythonModel`. TFX packages it, with the other Python files in its
            folder, for remote workers.
          module_path: an importable module with these functions, instead of a file.
          table_spec: what `prediction_table` is like: format, and which features are kept.
          expectations: what the predictions must be like for the model to be blessed:
            `bulk_inferencer.Expectations`, our message, or its JSON as text or as a dict.
          baseline: a channel of `InferenceResult`, which may be empty: earlier results, from which
            distributions must not drift too far. The report shows them side by side.
          engine: what spreads the work over workers: `engines.Beam()`, `engines.Ray()` or
            `engines.Spark()`, our message, or its JSON as text or as a dict. Default: Beam. Beam's
            options are the pipeline's `beam_pipeline_args`; with Ray or Spark, they open files.

        Raises:
          SettingsError: an argument is missing, has another type, or contradicts another.
        """
        data_spec = arguments.to_setting(keys.DATA_SPEC, data_spec, our.DataSpec)
        model_spec = arguments.to_setting(keys.MODEL_SPEC, model_spec, our.ModelSpec)
        blessings = {MODEL_BLESSING: model_blessing, INFRA_BLESSING: infra_blessing}
        given = {kind: channel for kind, channel in blessings.items() if channel is not None}
        needs_model = bool(given) or not channels.may_have_endpoint(model_spec)
        examples_by_key = channels.examples_by_key(examples)
        models = _model(model_export, model, needs_model)
        judged, prediction_blessing = expected_channels.for_one(
            expectations, baseline, [""] if models else []
        )
        spec_class = channels.extended(BulkInferencerSpec, examples_by_key)
        super().__init__(
            spec=spec_class(
                **examples_by_key,
                **models,
                **judged,
                **prediction_blessing,
                **given,
                **_hooks(module_file, module_path),
                **channels.new(channels.COMMON_OUTPUTS, channels.RESULT_OUTPUT),
                **channels.output_examples(output_example_spec, model_spec, may_be_unknown=True),
                **channels.prediction_table(table_spec, data_spec),
                **channels.engine(engine),
                **channels.run_id(model_spec),
                data_spec=data_spec,
                model_spec=model_spec,
                required_blessings=",".join(given),
            )
        )
        if module_file and udf_utils.should_package_user_modules():
            udf_utils.add_user_module_dependency(self, keys.MODULE_FILE, keys.MODULE_PATH)


def _model(
    model_export: types.BaseChannel | None, model: types.BaseChannel | None, is_needed: bool
) -> dict[str, types.BaseChannel]:
    """Returns the model's channel by the input that takes channels of its type."""
    if model_export is not None and model is not None:
        raise SettingsError(
            "model_export and model are two names of one argument. Give only one of them."
        )
    channel = model if model_export is None else model_export
    if channel is None and not is_needed:
        return {}
    if channel is None:
        raise SettingsError(
            "model_export is missing. Give it, or model, its other name. It can only be left out "
            "with an endpoint in ModelSpec and without a blessing."
        )
    channel = channels.checked_model("model_export", channel)
    return {keys.MODEL if channel.type_name == "Model" else keys.PUSHED_MODEL: channel}


def _hooks(
    module_file: str | os.PathLike[str] | arguments.Unknown | None,
    module_path: str | arguments.Unknown | None,
) -> dict[str, str | arguments.Unknown]:
    """Returns the module with hooks as an execution property."""
    if module_file and module_path:
        raise SettingsError(
            f"module_file and module_path are both given: {module_file} and {module_path}. Give "
            f"only one of them."
        )
    if isinstance(module_file, os.PathLike):
        module_file = os.fspath(module_file)
    hooks = {keys.MODULE_FILE: module_file, keys.MODULE_PATH: module_path}
    given = {name: value for name, value in hooks.items() if value}
    for name, value in given.items():
        if isinstance(value, str):
            arguments.check_text(name, value)
    return given
