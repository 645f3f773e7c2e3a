"""The BulkInferencer component: what a pipeline's author calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfx import types
from tfx.components.util import udf_utils
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.orchestration import data_types
from tfx.proto import bulk_inferrer_pb2
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from bulk_inferencer import bulk_inferencer_pb2
from bulk_inferencer.components import channels, executor, settings
from bulk_inferencer.components.artifacts import InferenceSummary
from bulk_inferencer.components.gate import INFRA_BLESSING, MODEL_BLESSING
from bulk_inferencer.errors import SettingsError


class BulkInferencerSpec(ComponentSpec):
    """Channels and execution properties of `BulkInferencer`."""

    PARAMETERS = {
        executor.DATA_SPEC: ExecutionParameter(type=bulk_inferencer_pb2.DataSpec),
        executor.MODEL_SPEC: ExecutionParameter(type=bulk_inferencer_pb2.ModelSpec),
        executor.OUTPUT_EXAMPLE_SPEC: ExecutionParameter(
            type=bulk_inferencer_pb2.OutputExampleSpec, optional=True
        ),
        executor.REQUIRED_BLESSINGS: ExecutionParameter(type=str),
        # Named as TFX's helpers for user modules expect them.
        executor.MODULE_FILE: ExecutionParameter(type=str, optional=True),
        executor.MODULE_PATH: ExecutionParameter(type=str, optional=True),
        executor.RUN_ID: ExecutionParameter(type=str, optional=True),
    }
    INPUTS = {
        executor.EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        # An optional channel that was given must hold something: `allow_empty` is for blessings,
        # whose absence is for the gate to judge.
        executor.MODEL: ChannelParameter(
            type=standard_artifacts.Model, optional=True, allow_empty=False
        ),
        executor.PUSHED_MODEL: ChannelParameter(
            type=standard_artifacts.PushedModel, optional=True, allow_empty=False
        ),
        MODEL_BLESSING: ChannelParameter(type=standard_artifacts.ModelBlessing, optional=True),
        INFRA_BLESSING: ChannelParameter(type=standard_artifacts.InfraBlessing, optional=True),
    }
    OUTPUTS = {
        executor.INFERENCE_RESULT: ChannelParameter(type=standard_artifacts.InferenceResult),
        executor.SUMMARY: ChannelParameter(type=InferenceSummary),
        executor.FAILED_EXAMPLES: ChannelParameter(type=standard_artifacts.Examples),
        executor.OUTPUT_EXAMPLES: ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }


class BulkInferencer(base_beam_component.BaseBeamComponent):
    """Scores examples with a model that was validated.

    ```python
    inferencer = BulkInferencer(
        examples=inference_example_gen.outputs["examples"],
        model_export=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
    )
    ```

    Outputs:
      - `inference_result`: PredictionLogs, as TFRecord, named
        `prediction_logs-<split>-SSSSS-of-NNNNN.gz`, or without `.gz` where
        `DataSpec.compression` is `NONE`.
      - `summary`: counts, gate and model in `summary.json`; the records that could not be scored,
        with reasons, in `failures-<split>.jsonl.gz`.
      - `failed_examples`: those records themselves, as examples with the same splits.
      - `output_examples`: with `output_example_spec`, each record with its prediction as further
        features.
    """

    SPEC_CLASS = BulkInferencerSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: types.BaseChannel | Sequence[types.BaseChannel],
        model_export: types.BaseChannel | None = None,
        model_blessing: types.BaseChannel | None = None,
        data_spec: bulk_inferencer_pb2.DataSpec
        | bulk_inferrer_pb2.DataSpec
        | data_types.RuntimeParameter
        | None = None,
        model_spec: bulk_inferencer_pb2.ModelSpec
        | bulk_inferrer_pb2.ModelSpec
        | data_types.RuntimeParameter
        | None = None,
        output_example_spec: bulk_inferencer_pb2.OutputExampleSpec
        | bulk_inferrer_pb2.OutputExampleSpec
        | data_types.RuntimeParameter
        | None = None,
        infra_blessing: types.BaseChannel | None = None,
        model: types.BaseChannel | None = None,
        module_file: str | data_types.RuntimeParameter | None = None,
        module_path: str | data_types.RuntimeParameter | None = None,
    ) -> None:
        """Constructs the component.

        Args:
          examples: a channel of `Examples`, or a list of them. Where several artifacts share a
            split name, all their records are scored.
          model_export: a channel of `Model` or `PushedModel`. Optional where `model_spec` names an
            endpoint; then it is the model that the blessings have to bless.
          model_blessing: a channel of `ModelBlessing`. If given, it must bless this model.
          data_spec: which splits, and how many records may fail.
          model_spec: signatures, tags, gate policy, batch bounds, modules with custom ops, or the
            endpoint that serves the model.
          output_example_spec: which outputs become features of `output_examples`.
          infra_blessing: a channel of `InfraBlessing`. If given, it must bless this model.
          model: another name of `model_export`, as TFX's BulkInferrer has it.
          module_file: a Python file with hooks: `preprocess(batch)` and
            `postprocess(records, outputs)`, or one of them; see
            `bulk_inferencer._models.hooks.Hooked`. TFX packages it, with the other Python files in
            its folder, for remote workers.
          module_path: an importable module with hooks, instead of a file.

        Raises:
          SettingsError: an argument is missing, doubled, of another type or not consistent.
        """
        our = bulk_inferencer_pb2
        data_spec = settings.to_setting(executor.DATA_SPEC, data_spec, our.DataSpec)
        model_spec = settings.to_setting(executor.MODEL_SPEC, model_spec, our.ModelSpec)
        blessings = {MODEL_BLESSING: model_blessing, INFRA_BLESSING: infra_blessing}
        given = {kind: channel for kind, channel in blessings.items() if channel is not None}
        has_endpoint = channels.may_have_endpoint(model_spec)
        models = _models(model_export, model, may_be_missing=has_endpoint and not given)
        examples_by_key = channels.examples_by_key(examples)
        output_example_spec = settings.to_setting(
            executor.OUTPUT_EXAMPLE_SPEC, output_example_spec, our.OutputExampleSpec
        )
        if isinstance(output_example_spec, our.OutputExampleSpec) and (
            model_spec is None or isinstance(model_spec, our.ModelSpec)
        ):
            settings.columns(output_example_spec, model_spec or our.ModelSpec())
        outputs: dict[str, Any] = {
            executor.INFERENCE_RESULT: types.Channel(type=standard_artifacts.InferenceResult),
            executor.SUMMARY: types.Channel(type=InferenceSummary),
            executor.FAILED_EXAMPLES: types.Channel(type=standard_artifacts.Examples),
        }
        if output_example_spec is not None:
            outputs[executor.OUTPUT_EXAMPLES] = types.Channel(type=standard_artifacts.Examples)
            outputs[executor.OUTPUT_EXAMPLE_SPEC] = output_example_spec
        # Whatever its default, a run may give the parameter an endpoint.
        if has_endpoint or isinstance(model_spec, data_types.RuntimeParameter):
            outputs[executor.RUN_ID] = channels.run_id()
        spec_class = channels.extended(BulkInferencerSpec, examples_by_key)
        super().__init__(
            spec=spec_class(
                **examples_by_key,
                **models,
                **given,
                **_hooks(module_file, module_path),
                **outputs,
                data_spec=data_spec or our.DataSpec(),
                model_spec=model_spec or our.ModelSpec(),
                required_blessings=",".join(given),
            )
        )
        if module_file and udf_utils.should_package_user_modules():
            udf_utils.add_user_module_dependency(self, executor.MODULE_FILE, executor.MODULE_PATH)


def _hooks(
    module_file: str | data_types.RuntimeParameter | None,
    module_path: str | data_types.RuntimeParameter | None,
) -> dict[str, str | data_types.RuntimeParameter]:
    """Returns the module with hooks as execution property."""
    if module_file and module_path:
        raise SettingsError(
            f"Expected module_file or module_path, got both: {module_file} and {module_path}. "
            f"Give one of them."
        )
    hooks = {executor.MODULE_FILE: module_file, executor.MODULE_PATH: module_path}
    given = {name: value for name, value in hooks.items() if value}
    for name, value in given.items():
        if isinstance(value, str):
            settings.check_text(name, value)
    return given


def _models(
    model_export: types.BaseChannel | None,
    model: types.BaseChannel | None,
    may_be_missing: bool,
) -> dict[str, types.BaseChannel]:
    """Returns the model's channel by the input that takes channels of its type."""
    if model_export is None and model is None and may_be_missing:
        return {}
    if model_export is None and model is None:
        raise SettingsError(
            "Expected model_export or its other name, model, got neither. Give one of them; only "
            "with an endpoint in ModelSpec, and without a blessing, can it be left out."
        )
    if model_export is not None and model is not None:
        raise SettingsError(
            "Expected model_export or its other name, model, got both. Give one of them."
        )
    channel = channels.checked_model(
        "model_export", model if model_export is None else model_export
    )
    keys = {"Model": executor.MODEL, "PushedModel": executor.PUSHED_MODEL}
    return {keys[channel.type_name]: channel}
