"""Artifacts in, artifacts out: turns an execution into a job and reports what it did."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils

from bulk_inferencer import bulk_inferencer_pb2, job
from bulk_inferencer._models.hooks import Hooked
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._units.outputs import Outputs
from bulk_inferencer.components import gate, gated_model, inputs, settings, user_module
from bulk_inferencer.components.gated_model import GatedModel
from bulk_inferencer.results.compare import Comparing, Comparison
from bulk_inferencer.results.summary import BranchSummary, Summary

_logger = logging.getLogger(__name__)

# Channels and execution properties.
EXAMPLES = inputs.EXAMPLES
MODEL = gated_model.MODEL
PUSHED_MODEL = "pushed_model"
DATA_SPEC = "data_spec"
MODEL_SPEC = "model_spec"
MODEL_SPECS = "model_specs"
CASCADE_SPEC = "cascade_spec"
ROUTING = "routing"
COMPARISON_SPEC = "comparison_spec"
OUTPUT_EXAMPLE_SPEC = "output_example_spec"
MODEL_NAMES = "model_names"
REQUIRED_BLESSINGS = "required_blessings"
MODULE_FILE = user_module.MODULE_FILE
MODULE_PATH = user_module.MODULE_PATH
RUN_ID = "run_id"
INFERENCE_RESULT = "inference_result"
SUMMARY = "summary"
FAILED_EXAMPLES = "failed_examples"
OUTPUT_EXAMPLES = "output_examples"
COMPARISON = "comparison"

# Runners of Beam that start no worker elsewhere.
_LOCAL_RUNNERS = ("BundleBasedDirectRunner", "DirectRunner", "FnApiRunner")


class _BeamExecutor(base_beam_executor.BaseBeamExecutor):
    """What the executors have in common: how they start Beam."""

    _beam_pipeline_args: list[Any]

    def __init__(self, context: Any = None) -> None:
        """Takes Beam's arguments from the context, and prepares remote workers if there are any.

        TFX's constructor packs all of TFX's sources for the workers whenever there is an argument,
        which takes longer than scoring a hundred thousand records; local workers have them.
        """
        args = list(getattr(context, "beam_pipeline_args", None) or [])
        if not args or not _is_local(args):
            super().__init__(context)
            return
        without_args = copy.copy(context)
        without_args.beam_pipeline_args = []
        super().__init__(without_args)
        self._beam_pipeline_args = args

    def _make_beam_pipeline(self) -> Any:
        if self._make_beam_pipeline_fn is None and job.runner_of(self._beam_pipeline_args) is None:
            self._beam_pipeline_args = [
                *job.local_beam_args(),
                *self._beam_pipeline_args,
            ]
        return super()._make_beam_pipeline()

    def _score(
        self,
        input_dict: inputs.Artifacts,
        output_dict: inputs.Artifacts,
        exec_properties: Mapping[str, Any],
        candidates: Sequence[GatedModel],
        model: Model,
    ) -> None:
        """Scores the examples with one model, which may be a cascade of the candidates."""
        data_spec = _data_spec(exec_properties)
        specs = [candidate.spec for candidate in candidates]
        # A stage has a name; the outputs of a cascade do not depend on its stages' signatures.
        columns_spec = bulk_inferencer_pb2.ModelSpec() if candidates[0].name else specs[0]
        result = inputs.single(output_dict, INFERENCE_RESULT)
        outputs = _outputs(output_dict, exec_properties, result.uri, [columns_spec])
        decision = gated_model.decide_together(candidates)
        examples = inputs.examples(input_dict)
        payload_format = None
        # A list, since a policy of any of them may be to fail.
        let_through = [candidate.is_let_through() for candidate in candidates]
        if all(let_through):
            payload_format = inputs.payload_format(examples)
            with user_module.hooks(exec_properties) as hooks:
                summary = job.run(
                    job.InferenceJob(
                        splits=inputs.splits(examples, data_spec.example_splits),
                        allow_empty_splits=True,
                        model=Hooked(model, **hooks) if hooks else model,
                        outputs=outputs,
                        record_format=payload_format,
                        bounds=settings.batch_bounds(*specs),
                        failure_limit=settings.failure_limit(data_spec),
                        gate=decision.gate,
                        gate_reason=decision.reason,
                    ),
                    make_pipeline=self._make_beam_pipeline,
                )
        else:
            summary = Summary({}, *decision, model.uri)
            summary.write(outputs.summary)
        _describe_result(result, summary, candidates, examples)
        inputs.single(output_dict, SUMMARY).set_string_custom_property("gate", summary.gate)
        _describe_examples(output_dict, summary.splits, payload_format)


class Executor(_BeamExecutor):
    """Executes `BulkInferencer`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Decides the gate, runs the job and describes its outputs.

        Args:
          input_dict: `examples` (and `examples_1`, ...), `model` or `pushed_model`,
            `model_blessing`, `infra_blessing`.
          output_dict: `inference_result`, `summary`, `failed_examples`, `output_examples`.
          exec_properties: `data_spec`, `model_spec`, `output_example_spec` as JSON of our protos;
            `required_blessings`, the names of the blessings that must be there; `module_file` or
            `module_path`, a module with hooks.

        Raises:
          BulkInferencerError: see `bulk_inferencer.job.run`; and under the gate policy `FAIL`, a
            `GateError` if the model was not blessed.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        spec = settings.parse(
            MODEL_SPEC, exec_properties.get(MODEL_SPEC), bulk_inferencer_pb2.ModelSpec
        )
        candidate = gated_model.take(
            input_dict,
            name="",
            spec=spec,
            model_keys=(PUSHED_MODEL, MODEL),
            blessing_keys={kind: kind for kind in (gate.MODEL_BLESSING, gate.INFRA_BLESSING)},
            required=_names(exec_properties.get(REQUIRED_BLESSINGS)),
        )
        self._beam_pipeline_args = [
            *self._beam_pipeline_args,
            *(f"--extra_package={package}" for package in user_module.packages(exec_properties)),
        ]
        model = settings.model(spec, candidate.path)
        self._score(input_dict, output_dict, exec_properties, [candidate], model)


class CascadeExecutor(_BeamExecutor):
    """Executes `CascadeInferencer`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Decides the gate of each stage, runs the job and describes its outputs.

        Args:
          input_dict: `examples` (and `examples_1`, ...), `model_<stage>` and `blessing_<stage>`.
          output_dict: as of `BulkInferencer`.
          exec_properties: `data_spec`, `cascade_spec`, `output_example_spec` as JSON of our protos;
            `required_blessings`, the names of the stages whose blessings must be there.

        Raises:
          BulkInferencerError: see `Executor`.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        spec = settings.parse(
            CASCADE_SPEC, exec_properties.get(CASCADE_SPEC), bulk_inferencer_pb2.CascadeSpec
        )
        required = _names(exec_properties.get(REQUIRED_BLESSINGS))
        candidates = [
            gated_model.take_named(input_dict, stage.name, stage.model_spec, required)
            for stage in spec.stages
        ]
        model = settings.cascade(spec, {c.name: c.path for c in candidates})
        self._score(input_dict, output_dict, exec_properties, candidates, model)


class BranchExecutor(_BeamExecutor):
    """Executes `BranchInferencer`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Decides the gate of each model, runs those that it lets through, describes the outputs.

        Args:
          input_dict: `examples` (and `examples_1`, ...), `model_<name>` and `blessing_<name>`.
          output_dict: `<name>`, `summary`, `failed_examples`, `output_examples`, `comparison`.
          exec_properties: `data_spec`, `model_specs`, `routing`, `comparison_spec`,
            `output_example_spec` as JSON of our protos; `model_names`, the names of the models;
            `required_blessings`, the names of those whose blessings must be there.

        Raises:
          BulkInferencerError: see `Executor`.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        our = bulk_inferencer_pb2
        specs = settings.parse(MODEL_SPECS, exec_properties.get(MODEL_SPECS), our.ModelSpecs).models
        required = _names(exec_properties.get(REQUIRED_BLESSINGS))
        candidates = [
            gated_model.take_named(input_dict, name, specs.get(name) or our.ModelSpec(), required)
            for name in _names(exec_properties[MODEL_NAMES])
        ]
        running = [candidate for candidate in candidates if candidate.is_let_through()]
        examples = inputs.examples(input_dict)
        payload_format = None
        if running:
            payload_format = inputs.payload_format(examples)
            branches = self._branches(
                running, candidates, examples, payload_format, output_dict, exec_properties
            )
            summary = job.run_branches(branches, make_pipeline=self._make_beam_pipeline)
        else:
            routing = settings.parse(ROUTING, exec_properties.get(ROUTING), our.Routing)
            summary = BranchSummary(
                {c.name: c.blocked_summary() for c in candidates},
                routing="split" if routing.HasField("split") else "all",
            )
            summary.write(inputs.single(output_dict, SUMMARY).uri)
            if output_dict.get(COMPARISON):
                Comparison().write(inputs.single(output_dict, COMPARISON).uri)
        for candidate in candidates:
            _describe_result(
                inputs.single(output_dict, candidate.name),
                summary.models[candidate.name],
                [candidate],
                examples,
            )
        splits = next((of_model.splits for of_model in summary.scored.values()), {})
        _describe_examples(output_dict, splits, payload_format)

    def _branches(
        self,
        running: Sequence[GatedModel],
        candidates: Sequence[GatedModel],
        examples: Sequence[types.Artifact],
        payload_format: str,
        output_dict: inputs.Artifacts,
        exec_properties: Mapping[str, Any],
    ) -> job.BranchJob:
        our = bulk_inferencer_pb2
        data_spec = _data_spec(exec_properties)
        comparison_spec = settings.parse(
            COMPARISON_SPEC, exec_properties.get(COMPARISON_SPEC), our.ComparisonSpec
        )
        names = [candidate.name for candidate in running]
        specs = [candidate.spec for candidate in running]
        return job.BranchJob(
            splits=inputs.splits(examples, data_spec.example_splits),
            models={c.name: settings.model(c.spec, c.path) for c in running},
            outputs=_outputs(
                output_dict,
                exec_properties,
                {name: inputs.single(output_dict, name).uri for name in names},
                specs,
                settings.comparing(comparison_spec),
            ),
            record_format=payload_format,
            bounds=settings.batch_bounds(*specs),
            failure_limit=settings.failure_limit(data_spec),
            allow_empty_splits=True,
            routing=settings.routing(
                settings.parse(ROUTING, exec_properties.get(ROUTING), our.Routing), names
            ),
            outcomes=comparison_spec.outcomes,
            gates={candidate.name: candidate.decision for candidate in running},
            blocked={c.name: c.blocked_summary() for c in candidates if c not in running},
        )


def _is_local(beam_args: Sequence[Any]) -> bool:
    """Returns whether Beam's workers are on this machine, with its Python environment."""
    runner = job.runner_of(beam_args)
    return runner is None or runner.rpartition(".")[2] in _LOCAL_RUNNERS


def _names(joined: str | None) -> list[str]:
    return [name for name in (joined or "").split(",") if name]


def _data_spec(exec_properties: Mapping[str, Any]) -> bulk_inferencer_pb2.DataSpec:
    return settings.parse(DATA_SPEC, exec_properties.get(DATA_SPEC), bulk_inferencer_pb2.DataSpec)


def _outputs(
    output_dict: inputs.Artifacts,
    exec_properties: Mapping[str, Any],
    inference_result: str | Mapping[str, str],
    model_specs: Sequence[bulk_inferencer_pb2.ModelSpec],
    comparing: Comparing | None = None,
) -> Outputs:
    """Returns where results go, of those outputs that the execution has.

    Args:
      output_dict: the outputs.
      exec_properties: the settings.
      inference_result: see `Outputs`.
      model_specs: how the models are called whose outputs become columns.
      comparing: what a comparison keeps.
    """

    def optional(key: str) -> str | None:
        return inputs.single(output_dict, key).uri if output_dict.get(key) else None

    outputs = Outputs(
        inference_result=inference_result,
        summary=inputs.single(output_dict, SUMMARY).uri,
        failed_examples=inputs.single(output_dict, FAILED_EXAMPLES).uri,
        output_examples=optional(OUTPUT_EXAMPLES),
        compression=settings.compression(_data_spec(exec_properties)),
        comparison=optional(COMPARISON),
        comparing=comparing or Comparing(),
    )
    if not outputs.output_examples:
        return outputs
    spec = settings.parse(
        OUTPUT_EXAMPLE_SPEC,
        exec_properties.get(OUTPUT_EXAMPLE_SPEC),
        bulk_inferencer_pb2.OutputExampleSpec,
    )
    return dataclasses.replace(
        outputs,
        columns=settings.columns(spec, *model_specs),
        replace_features=spec.replace_features,
    )


# What ML Metadata keeps of the outputs


def _describe_result(
    result: types.Artifact,
    summary: Summary,
    candidates: Sequence[GatedModel],
    examples: Sequence[types.Artifact],
) -> None:
    """Sets what a result says of itself: counts, the gate, and what it was made of.

    The events of ML Metadata tell the inputs of an execution, not which result came from which.
    """
    total = summary.total
    for name in ("examples_read", "predictions_written", "examples_failed"):
        result.set_int_custom_property(name, getattr(total, name))
    texts = {
        "gate": summary.gate,
        "model_fingerprint": summary.model_fingerprint,
        "signature_names": ",".join(summary.signature_names),
        # Of several models, each has its place, which is empty where there is no artifact.
        "model_id": ",".join(_ids([c.artifact] if c.artifact else []) for c in candidates),
        "blessing_id": ",".join(_ids(candidate.blessings) for candidate in candidates),
        "examples_ids": _ids(examples),
    }
    if names := [candidate.name for candidate in candidates if candidate.name]:
        texts["model_name"] = ",".join(names)
    if any(candidate.spec.WhichOneof("endpoint") for candidate in candidates):
        texts["model_endpoint"] = summary.model_path
        texts["model_version"] = ",".join(summary.model_versions)
    for name, text in texts.items():
        result.set_string_custom_property(name, text)


def _ids(artifacts: Sequence[types.Artifact]) -> str:
    return ",".join(str(artifact.id) for artifact in artifacts)


def _describe_examples(
    output_dict: inputs.Artifacts, splits: Mapping[str, Any], payload_format: str | None
) -> None:
    for key in (FAILED_EXAMPLES, OUTPUT_EXAMPLES):
        for artifact in output_dict.get(key) or []:
            artifact.split_names = artifact_utils.encode_split_names(sorted(splits))
            artifact.set_string_custom_property("file_format", "tfrecords_gzip")
            if payload_format:
                artifact.set_string_custom_property("payload_format", payload_format)
