"""Artifacts in, artifacts out: turns an execution into a job and reports what it did."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.utils import name_utils, telemetry_utils

from bulk_inferencer import _gate
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer._access import check_access
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._run import run
from bulk_inferencer.components import (
    arguments,
    engine_setting,
    gated_model,
    inputs,
    keys,
    model_settings,
    pages,
    prediction_gate,
    properties,
    settings,
    user_module,
)
from bulk_inferencer.components.gated_model import GatedModel
from bulk_inferencer.engines import beam_options
from bulk_inferencer.job import Branch, InferenceJob, Outputs
from bulk_inferencer.results.expectations import Expectations
from bulk_inferencer.results.places import Place


@dataclass(frozen=True)
class _PlannedBranch:
    """What becomes a branch of the job.

    Attributes:
      name: its name, and that of its output.
      model: the model, which may be a cascade of several.
      gated: the models among the inputs that it is made of.
      columns_spec: how to call the model whose outputs become columns.
      expectations: what its predictions must be like; None if anything will do.
      baseline: the folder of its earlier results; empty if there are none.
    """

    name: str
    model: Model
    gated: Sequence[GatedModel]
    columns_spec: our.ModelSpec
    expectations: Expectations | None = None
    baseline: str = ""

    @property
    def gate(self) -> _gate.Decision:
        return gated_model.decide_together(self.gated)


class _InferencerExecutor(base_beam_executor.BaseBeamExecutor):
    """What the executors have in common. They differ in how they find their models."""

    _beam_pipeline_args: list[Any]

    def __init__(self, context: Any = None) -> None:
        """Takes Beam's arguments from the context.

        TFX's constructor packs all of TFX's sources for the workers whenever there is an argument.
        That takes longer than scoring a hundred thousand records, and no worker of ours needs TFX.
        """
        args = list(getattr(context, "beam_pipeline_args", None) or [])
        if args:
            context = copy.copy(context)
            context.beam_pipeline_args = []
        super().__init__(context)
        self._beam_pipeline_args = args
        if not beam_options.is_local(args):
            executor = {telemetry_utils.LABEL_TFX_EXECUTOR: name_utils.get_full_name(type(self))}
            with telemetry_utils.scoped_labels(executor):
                self._beam_pipeline_args += telemetry_utils.make_beam_labels_args()

    def _make_beam_pipeline(self) -> Any:
        if self._make_beam_pipeline_fn is None:
            self._beam_pipeline_args = beam_options.with_runner(self._beam_pipeline_args)
        return super()._make_beam_pipeline()

    @arguments.naming_settings()
    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Decides the gates, runs the job and describes its outputs.

        Args:
          input_dict: examples, models, blessings and earlier results; `components.keys` has the
            names of all three arguments.
          output_dict: an artifact for each output of the component.
          exec_properties: settings, as JSON of our protos; `required_blessings`, the names of the
            blessings that must be there; `module_file` or `module_path`, a module with functions.

        Raises:
          BulkInferencerError: see `bulk_inferencer.run`. A `GateError` means that a model was not
            blessed, and that its gate policy is `FAIL`.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = inputs.examples(input_dict)
        engine_spec = arguments.parse(exec_properties, keys.ENGINE, our.Engine)
        engine = engine_setting.engine(
            engine_spec, self._beam_pipeline_args, self._make_beam_pipeline
        )
        artifacts = itertools.chain(*input_dict.values(), *output_dict.values())
        uris = [artifact.uri for artifact in artifacts if artifact not in examples]
        beam_options.open_filesystems(uris, self._beam_pipeline_args)
        branches = self._planned_branches(input_dict, exec_properties)
        running = [branch for branch in branches if branch.gate.is_open]
        found_format = None
        if running:  # A closed gate must not fail because of examples that nobody would read.
            inputs.check_examples(input_dict)
            check_access(artifact.uri for artifact in examples)
            found_format = inputs.examples_format(examples)
        record_format = found_format.records if found_format else None
        data_spec = arguments.parse(exec_properties, keys.DATA_SPEC, our.DataSpec)
        example_splits = settings.example_splits(data_spec)
        checkpoint = settings.checkpoint(data_spec)
        comparison_spec = arguments.parse(exec_properties, keys.COMPARISON_SPEC, our.ComparisonSpec)
        routing = arguments.parse(exec_properties, keys.ROUTING, our.Routing)
        with user_module.imported(exec_properties if running else {}) as module:
            job = InferenceJob(
                splits=inputs.splits(examples, example_splits) if running else {},
                branches=[
                    Branch(
                        branch.name,
                        _with_functions(branch, module.functions),
                        inputs.single(output_dict, branch.name).uri,
                        branch.gate,
                        branch.expectations,
                        branch.baseline if _needs_baseline(branch) else "",
                    )
                    for branch in branches
                ],
                outputs=Outputs(
                    summary=inputs.single(output_dict, keys.SUMMARY).uri,
                    failed_examples=inputs.single(output_dict, keys.FAILED_EXAMPLES).uri,
                    compression=settings.compression(data_spec),
                    comparison=_optional_uri(output_dict, keys.COMPARISON),
                    comparing=settings.comparing(comparison_spec),
                    **settings.logs(data_spec),
                    **_table(output_dict, exec_properties),
                    **_output_examples(output_dict, exec_properties, branches),
                ),
                input_format=found_format.files if found_format else None,
                **settings.view(data_spec),
                record_format=record_format or FORMAT_TF_EXAMPLE,
                bounds=settings.batch_bounds(
                    data_spec, *(gated.spec for branch in running for gated in branch.gated)
                ),
                failure_limit=settings.failure_limit(data_spec),
                damaged_files=settings.damaged_files(data_spec),
                checkpoint=checkpoint,
                # The next run gets other folders, and would never find what this one leaves.
                resumable=checkpoint is not None,
                routing=settings.routing(routing),
                outcomes=comparison_spec.outcomes,
                modules=module.files,
            )
            summary = run(job, engine)
        for branch in branches:
            result, found = inputs.single(output_dict, branch.name), summary.branches[branch.name]
            properties.describe_result(result, found, branch.gated, examples)
            prediction_gate.bless(output_dict, branch.gated, found)
        properties.describe_others(output_dict, summary, record_format)
        place = Place(
            name=job.outputs.summary,
            logs={branch.name: branch.folder for branch in job.branches if branch.folder},
            table=job.outputs.table,
            summary=summary,
            summary_folder=job.outputs.summary,
        )
        baselines = [branch.baseline for branch in branches if branch.baseline]
        against = baselines[0] if len(baselines) == 1 else ""
        pages.write_pages(place, settings.has_report(data_spec), against)

    def _planned_branches(
        self, input_dict: inputs.Artifacts, exec_properties: Mapping[str, Any]
    ) -> list[_PlannedBranch]:
        """Returns the models of the execution, each with its gate decided."""
        raise NotImplementedError


class Executor(_InferencerExecutor):
    """Executes `BulkInferencer`: one model, `model` or `pushed_model`."""

    def _planned_branches(
        self, input_dict: inputs.Artifacts, exec_properties: Mapping[str, Any]
    ) -> list[_PlannedBranch]:
        spec = arguments.parse(exec_properties, keys.MODEL_SPEC, our.ModelSpec)
        gated = gated_model.read(input_dict, exec_properties, spec)
        model = model_settings.model(spec, gated.path)
        return [
            _PlannedBranch(
                keys.INFERENCE_RESULT,
                model,
                [gated],
                spec,
                prediction_gate.expectations_of_one(exec_properties),
                prediction_gate.baseline(input_dict),
            )
        ]


class CascadeExecutor(_InferencerExecutor):
    """Executes `CascadeInferencer`: one model of several stages, `model_<stage>`."""

    def _planned_branches(
        self, input_dict: inputs.Artifacts, exec_properties: Mapping[str, Any]
    ) -> list[_PlannedBranch]:
        spec = arguments.parse(exec_properties, keys.CASCADE_SPEC, our.CascadeSpec)
        gated = [
            gated_model.read(input_dict, exec_properties, stage.model_spec, stage.name)
            for stage in spec.stages
        ]
        cascade = model_settings.cascade(spec, {stage.name: stage.path for stage in gated})
        # The names of a cascade's outputs do not depend on the signatures of its stages.
        return [
            _PlannedBranch(
                keys.INFERENCE_RESULT,
                cascade,
                gated,
                our.ModelSpec(),
                prediction_gate.expectations_of_one(exec_properties),
                prediction_gate.baseline(input_dict),
            )
        ]


class BranchExecutor(_InferencerExecutor):
    """Executes `BranchInferencer`: several models, `model_<name>`."""

    def _planned_branches(
        self, input_dict: inputs.Artifacts, exec_properties: Mapping[str, Any]
    ) -> list[_PlannedBranch]:
        specs = arguments.parse(exec_properties, keys.MODEL_SPECS, our.ModelSpecs)
        expectations = prediction_gate.expectations_of_several(exec_properties)
        branches = []
        for name in arguments.names(exec_properties, keys.MODEL_NAMES):
            spec = specs.models.get(name) or our.ModelSpec()
            gated = gated_model.read(input_dict, exec_properties, spec, name)
            branches.append(
                _PlannedBranch(
                    name,
                    model_settings.model(spec, gated.path),
                    [gated],
                    spec,
                    expectations.get(name),
                    prediction_gate.baseline(input_dict, name),
                )
            )
        return branches


def _with_functions(branch: _PlannedBranch, functions: Mapping[str, Callable[..., Any]]) -> Model:
    """Returns the branch's model with the functions of the user's module."""
    hooks = dict(functions)
    model = branch.model
    if load := hooks.pop(user_module.LOAD_MODEL, None):
        (gated,) = branch.gated
        model = model_settings.python_model(gated.spec, load, gated.path)
    elif branch.gate.is_open:
        for gated in branch.gated:
            model_settings.check_needs_no_module(gated.spec)
    return HookedModel(model, **hooks) if hooks else model


def _needs_baseline(branch: _PlannedBranch) -> bool:
    return branch.expectations is not None and branch.expectations.needs_baseline


def _optional_uri(output_dict: inputs.Artifacts, key: str) -> str | None:
    return inputs.single(output_dict, key).uri if output_dict.get(key) else None


def _table(output_dict: inputs.Artifacts, exec_properties: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of `Outputs` that are about a table, if there is one."""
    folder = _optional_uri(output_dict, keys.PREDICTION_TABLE)
    if not folder:
        return {}
    spec = arguments.parse(exec_properties, keys.TABLE_SPEC, our.TableSpec)
    return {"table": folder, "table_settings": settings.table(spec)}


def _output_examples(
    output_dict: inputs.Artifacts,
    exec_properties: Mapping[str, Any],
    branches: Sequence[_PlannedBranch],
) -> dict[str, Any]:
    """Returns the fields of `Outputs` that are about output examples, if there are any."""
    folder = _optional_uri(output_dict, keys.OUTPUT_EXAMPLES)
    if not folder:
        return {}
    spec = arguments.parse(exec_properties, keys.OUTPUT_EXAMPLE_SPEC, our.OutputExampleSpec)
    return {
        "output_examples": folder,
        "columns": model_settings.columns(spec, *(branch.columns_spec for branch in branches)),
        "replace_features": spec.replace_features,
    }
