"""Artifacts in, artifacts out: turns an execution into an InferenceJob and reports what it did."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from tfx import types
from tfx.components.util import examples_utils, udf_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils, path_utils

from bulk_inferencer import bulk_inferencer_pb2, files, job
from bulk_inferencer.components import gate, settings
from bulk_inferencer.errors import GateError, InputError, ModelError, SettingsError
from bulk_inferencer.models.hooks import Hooked
from bulk_inferencer.models.predictor import Model
from bulk_inferencer.models.saved_model import SavedModel
from bulk_inferencer.results.summary import Summary
from bulk_inferencer.units.run import Outputs

_logger = logging.getLogger(__name__)

EXAMPLES = "examples"
MODEL = "model"
PUSHED_MODEL = "pushed_model"
DATA_SPEC = "data_spec"
MODEL_SPEC = "model_spec"
OUTPUT_EXAMPLE_SPEC = "output_example_spec"
REQUIRED_BLESSINGS = "required_blessings"
MODULE_FILE = "module_file"
MODULE_PATH = "module_path"
RUN_ID = "run_id"
INFERENCE_RESULT = "inference_result"
SUMMARY = "summary"
FAILED_EXAMPLES = "failed_examples"
OUTPUT_EXAMPLES = "output_examples"

# The functions of a user's module that stand before and after the model.
PREPROCESS = "preprocess"
POSTPROCESS = "postprocess"
_HOOKS_OF_FILE = "bulk_inferencer_module_file"

# Runners of Beam that start no worker elsewhere.
_LOCAL_RUNNERS = ("BundleBasedDirectRunner", "DirectRunner", "FnApiRunner")

# How Examples artifacts name TFRecord files; one without the property holds them too.
_TFRECORD_FORMATS = ("", "tfrecords_gzip", "FORMAT_TFRECORDS_GZIP")


class Executor(base_beam_executor.BaseBeamExecutor):
    """Executes `BulkInferencer`."""

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
        our = bulk_inferencer_pb2
        data_spec = settings.parse(DATA_SPEC, exec_properties.get(DATA_SPEC), our.DataSpec)
        model_spec = settings.parse(MODEL_SPEC, exec_properties.get(MODEL_SPEC), our.ModelSpec)
        outputs = _outputs(output_dict, exec_properties, data_spec, model_spec)
        artifact = _model_artifact(input_dict, model_spec)
        model = settings.model(model_spec, _model_path(artifact) if artifact else "")
        decision = _decide(artifact, input_dict, exec_properties)
        _logger.info("Gate: %s. %s", decision.gate, decision.reason)
        if decision.gate == gate.NOT_BLESSED:
            if model_spec.gate_policy == our.FAIL:
                raise GateError(
                    f"{decision.reason} Nothing was scored; set ModelSpec.gate_policy to SKIP to "
                    f"let the pipeline go on, or to IGNORE to score all the same."
                )
            if model_spec.gate_policy == our.SKIP:
                summary = Summary({}, *decision, model.uri)
                summary.write(outputs.summary)
                _describe(output_dict, summary, model, payload_format=None)
                return
        examples = [a for key in sorted(input_dict) if _is_examples(key) for a in input_dict[key]]
        payload_format = _payload_format(examples)
        _, packages = udf_utils.decode_user_module_key(exec_properties.get(MODULE_PATH))
        self._beam_pipeline_args = [
            *self._beam_pipeline_args,
            *(f"--extra_package={package}" for package in packages),
        ]
        with _hooks(exec_properties, packages) as hooks:
            summary = job.run(
                job.InferenceJob(
                    splits=_splits(examples, data_spec.example_splits),
                    allow_empty_splits=True,
                    model=Hooked(model, **hooks) if hooks else model,
                    outputs=outputs,
                    record_format=payload_format,
                    bounds=settings.batch_bounds(model_spec),
                    failure_limit=settings.failure_limit(data_spec),
                    gate=decision.gate,
                    gate_reason=decision.reason,
                ),
                make_pipeline=self._make_beam_pipeline,
            )
        _describe(output_dict, summary, model, payload_format)

    def _make_beam_pipeline(self) -> Any:
        if self._make_beam_pipeline_fn is None and job.runner_of(self._beam_pipeline_args) is None:
            self._beam_pipeline_args = [
                *job.local_beam_args(),
                *self._beam_pipeline_args,
            ]
        return super()._make_beam_pipeline()


def _is_local(beam_args: Sequence[Any]) -> bool:
    """Returns whether Beam's workers are on this machine, with its Python environment."""
    runner = job.runner_of(beam_args)
    return runner is None or runner.rpartition(".")[2] in _LOCAL_RUNNERS


def _is_examples(key: str) -> bool:
    return re.fullmatch(rf"{EXAMPLES}(_\d+)?", key) is not None


def _single(artifacts: Mapping[str, list[types.Artifact]], key: str) -> types.Artifact:
    found = artifacts.get(key) or []
    if len(found) != 1:
        raise InputError(
            f"Expected one artifact as {key}, got {len(found)}. Narrow its channel down to one, "
            f"for example with a Resolver."
        )
    return found[0]


def _model_artifact(
    input_dict: Mapping[str, list[types.Artifact]], model_spec: bulk_inferencer_pb2.ModelSpec
) -> types.Artifact | None:
    """Returns the model, which only an endpoint can do without."""
    if input_dict.get(PUSHED_MODEL):
        return _single(input_dict, PUSHED_MODEL)
    if model_spec.WhichOneof("endpoint") and not input_dict.get(MODEL):
        return None
    return _single(input_dict, MODEL)


@contextlib.contextmanager
def _hooks(exec_properties: Mapping[str, Any], packages: list[str]) -> Iterator[dict[str, Any]]:
    """Yields the functions of the user's module by name, none without a module.

    TFX's own helpers reload a module that has the same name as an earlier one, and so mix both: two
    components of one process may well have a `hooks.py` each. Here modules go when the run is over.
    """
    file, path = exec_properties.get(MODULE_FILE), exec_properties.get(MODULE_PATH)
    name, _ = udf_utils.decode_user_module_key(path)
    with udf_utils.TempPipInstallContext(packages) as installed:
        _forget_modules(installed.temp_directory)
        try:
            yield _import_hooks(name, file) if path or file else {}
        finally:
            _forget_modules(installed.temp_directory)
            sys.modules.pop(_HOOKS_OF_FILE, None)


def _forget_modules(folder: str | None) -> None:
    """Makes Python import anew what the packages in `folder` hold."""
    for entry in os.listdir(folder) if folder else []:
        sys.modules.pop(entry.removesuffix(".py"), None)
    importlib.invalidate_caches()


def _import_hooks(module_path: str | None, module_file: str | None) -> dict[str, Any]:
    where = module_path or module_file
    try:
        if module_path:
            module = importlib.import_module(module_path)
        else:
            module = _import_file(io_utils.ensure_local(module_file))
    except Exception as error:  # a module of the user's may raise anything when it is imported
        raise SettingsError(
            f"Expected a module with hooks, but {where} cannot be imported: "
            f"{type(error).__name__}: {error}. Correct the module."
        ) from error
    hooks = {
        name: getattr(module, name) for name in (PREPROCESS, POSTPROCESS) if hasattr(module, name)
    }
    if not hooks:
        raise SettingsError(
            f"Expected {PREPROCESS}(batch), {POSTPROCESS}(records, outputs) or both in {where}, "
            f"got neither. Define one at the top level of the module."
        )
    return hooks


def _import_file(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_HOOKS_OF_FILE, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_HOOKS_OF_FILE] = module  # where what is pickled by its name is found again
    spec.loader.exec_module(module)
    return module


def _model_path(model: types.Artifact) -> str:
    """Returns the folder with `saved_model.pb` of a Model or PushedModel."""
    if model.type_name == standard_artifacts.PushedModel.TYPE_NAME:
        return str(model.uri)
    return str(path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model)))


def _decide(
    model: types.Artifact | None,
    input_dict: Mapping[str, list[types.Artifact]],
    exec_properties: Mapping[str, Any],
) -> gate.Decision:
    def has_content_of(uri: str) -> bool:
        try:
            other = SavedModel(path_utils.serving_model_path(uri))
            return SavedModel(_model_path(model)).fingerprint() == other.fingerprint()
        except ModelError:
            return False

    blessings = [
        _blessing(kind, _single(input_dict, kind))
        for kind in (gate.MODEL_BLESSING, gate.INFRA_BLESSING)
        if input_dict.get(kind)
    ]
    required = [kind for kind in exec_properties.get(REQUIRED_BLESSINGS, "").split(",") if kind]
    if model is None:
        if required:  # the component refuses that while the pipeline is built
            raise InputError(
                f"Expected a model for the {', '.join(required)} to bless, got none. Give "
                f"model_export beside the endpoint."
            )
        return gate.Decision(gate.NO_BLESSING, "No blessing was asked for.")
    candidate = gate.Candidate(model.id, model.name, model.uri, has_content_of)
    return gate.decide(candidate, required, blessings)


def _blessing(kind: str, artifact: types.Artifact) -> gate.Blessing:
    blessed = None
    if artifact.has_custom_property("blessed"):
        blessed = artifact.get_int_custom_property("blessed") == 1
    # Evaluator records the id as an integer, Kubeflow's driver a name as a string.
    model_id = artifact.get_int_custom_property("current_model_id")
    return gate.Blessing(
        kind,
        artifact.uri,
        blessed,
        str(model_id or artifact.get_string_custom_property("current_model_id")),
        artifact.get_string_custom_property("current_model"),
    )


def _outputs(
    output_dict: Mapping[str, list[types.Artifact]],
    exec_properties: Mapping[str, Any],
    data_spec: bulk_inferencer_pb2.DataSpec,
    model_spec: bulk_inferencer_pb2.ModelSpec,
) -> Outputs:
    outputs = Outputs(
        inference_result=_single(output_dict, INFERENCE_RESULT).uri,
        summary=_single(output_dict, SUMMARY).uri,
        failed_examples=_single(output_dict, FAILED_EXAMPLES).uri,
        compression=settings.compression(data_spec),
    )
    if not output_dict.get(OUTPUT_EXAMPLES):
        return outputs
    spec = settings.parse(
        OUTPUT_EXAMPLE_SPEC,
        exec_properties.get(OUTPUT_EXAMPLE_SPEC),
        bulk_inferencer_pb2.OutputExampleSpec,
    )
    return dataclasses.replace(
        outputs,
        output_examples=_single(output_dict, OUTPUT_EXAMPLES).uri,
        columns=settings.columns(spec, model_spec),
        replace_features=spec.replace_features,
    )


def _payload_format(examples: Sequence[types.Artifact]) -> str:
    for artifact in examples:
        file_format = artifact.get_string_custom_property("file_format")
        if file_format not in _TFRECORD_FORMATS:
            raise InputError(
                f"Expected examples as TFRecord files, got {file_format} at {artifact.uri}. "
                f"Write them with an ExampleGen whose output is TFRecord."
            )
    formats = {
        artifact.uri: examples_utils.get_payload_format_string(artifact) for artifact in examples
    }
    if len(set(formats.values())) != 1:
        listed = ", ".join(f"{name} at {uri}" for uri, name in sorted(formats.items()))
        raise InputError(
            f"Expected examples of one payload format, got {listed or 'no examples'}. Score them "
            f"with a BulkInferencer each."
        )
    return next(iter(formats.values()))


def _splits(examples: Sequence[types.Artifact], wanted: Sequence[str]) -> dict[str, list[str]]:
    """Returns the file patterns of each split that is scored, over all artifacts."""
    patterns: dict[str, list[str]] = {}
    for artifact in examples:
        for split in artifact_utils.decode_split_names(artifact.split_names):
            if not wanted or split in wanted:
                patterns.setdefault(split, []).append(_split_pattern(artifact, split))
    missing = [split for split in wanted if split not in patterns]
    if missing or not patterns:
        has = sorted(
            {s for a in examples for s in artifact_utils.decode_split_names(a.split_names)}
        )
        raise InputError(
            f"Split {', '.join(map(repr, missing)) or 'names'} not found in the examples; they "
            f"have: {', '.join(has) or 'none'}. Set DataSpec.example_splits."
        )
    return patterns


def _split_pattern(artifact: types.Artifact, split: str) -> str:
    if artifact.has_custom_property(examples_utils.CUSTOM_SPLIT_PATTERN_PROPERTY_NAME):
        (pattern,) = examples_utils.get_split_file_patterns([artifact], split)
        return str(pattern)
    uri = artifact_utils.get_split_uri([artifact], split)
    # Object stores have no folders: there, an empty split and a missing one are the same.
    if "://" not in uri and not os.path.isdir(uri):
        raise InputError(
            f"Expected a folder for split '{split}' at {uri}, got none. Restore the examples, or "
            f"run the ExampleGen again."
        )
    return files.literal(uri) + "/*"


def _describe(
    output_dict: Mapping[str, list[types.Artifact]],
    summary: Summary,
    model: Model,
    payload_format: str | None,
) -> None:
    """Sets the properties of the output artifacts that ML Metadata keeps."""
    result = _single(output_dict, INFERENCE_RESULT)
    total = summary.total
    for name in ("examples_read", "predictions_written", "examples_failed"):
        result.set_int_custom_property(name, getattr(total, name))
    result.set_string_custom_property("gate", summary.gate)
    result.set_string_custom_property("model_fingerprint", summary.model_fingerprint)
    result.set_string_custom_property("signature_names", ",".join(summary.signature_names))
    if not isinstance(model, SavedModel):
        result.set_string_custom_property("model_endpoint", model.uri)
        result.set_string_custom_property("model_version", ",".join(summary.model_versions))
    _single(output_dict, SUMMARY).set_string_custom_property("gate", summary.gate)
    for key in (FAILED_EXAMPLES, OUTPUT_EXAMPLES):
        for artifact in output_dict.get(key) or []:
            artifact.split_names = artifact_utils.encode_split_names(sorted(summary.splits))
            artifact.set_string_custom_property("file_format", "tfrecords_gzip")
            if payload_format:
                artifact.set_string_custom_property("payload_format", payload_format)
