"""What ML Metadata keeps of outputs: custom properties, and splits of examples."""

from __future__ import annotations

from collections.abc import Sequence

from tfx import types
from tfx.types import artifact_utils

from bulk_inferencer._layout import names_models
from bulk_inferencer.components import inputs, keys
from bulk_inferencer.components.gated_model import GatedModel
from bulk_inferencer.results.summary import BranchSummary, Summary


def describe_result(
    result: types.Artifact,
    summary: BranchSummary,
    gated: Sequence[GatedModel],
    examples: Sequence[types.Artifact],
) -> None:
    """Sets the properties of a model's predictions: counts, the gate, and what they were made of.

    The events of ML Metadata tell the inputs of an execution, not which result came from which. Of
    the several models of a cascade, each has its place in a list, which stays empty where there is
    no artifact.
    """
    total = summary.total
    for name in keys.COUNTS:
        result.set_int_custom_property(name, getattr(total, name))
    texts = {
        keys.GATE: summary.gate.verdict,
        keys.MODEL_FINGERPRINT: summary.model_fingerprint,
        keys.SIGNATURE_NAMES: ",".join(summary.signature_names),
        keys.MODEL_ID: ",".join(_ids([m.artifact] if m.artifact else []) for m in gated),
        keys.BLESSING_ID: ",".join(_ids(model.blessings) for model in gated),
        keys.EXAMPLES_IDS: _ids(examples),
    }
    if names := [model.name for model in gated if model.name]:
        texts[keys.MODEL_NAME] = ",".join(names)
    if any(model.spec.WhichOneof("endpoint") for model in gated):
        texts[keys.MODEL_ENDPOINT] = summary.model_path
        texts[keys.MODEL_VERSION] = ",".join(summary.model_versions)
    for name, text in texts.items():
        result.set_string_custom_property(name, text)


def describe_others(
    output_dict: inputs.Artifacts, summary: Summary, payload_format: str | None
) -> None:
    """Sets the properties of what all models share; examples have no format if none ran."""
    if not names_models(summary.branches):  # Named models have a gate each.
        gate = summary.branches[keys.INFERENCE_RESULT].gate.verdict
        for key in (keys.SUMMARY, keys.PREDICTION_TABLE):
            for artifact in output_dict.get(key) or []:
                artifact.set_string_custom_property(keys.GATE, gate)
    splits = {split for branch in summary.branches.values() for split in branch.splits}
    for key in (keys.FAILED_EXAMPLES, keys.OUTPUT_EXAMPLES):
        for artifact in output_dict.get(key) or []:
            artifact.split_names = artifact_utils.encode_split_names(sorted(splits))
            artifact.set_string_custom_property("file_format", "tfrecords_gzip")
            if payload_format:
                artifact.set_string_custom_property("payload_format", payload_format)


def _ids(artifacts: Sequence[types.Artifact]) -> str:
    return ",".join(str(artifact.id) for artifact in artifacts)
