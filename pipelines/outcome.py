"""What ML Metadata says about the latest run of a pipeline, and checks of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tfx import v1 as tfx

    from bulk_inferencer.results.summary import BranchSummary


class Report(NamedTuple):
    """What came of an example's predictions.

    Attributes:
      table: some of them, and how good all of them are, as lines of text.
      problems: what is wrong with them; empty if they are good.
    """

    table: str
    problems: list[str]


class Result(NamedTuple):
    """What one model predicted.

    Attributes:
      model: its name; empty if the run has only one model and does not name it.
      folder: where the predictions are.
      gate: "blessed", "not_blessed" or "no_blessing".
      counts: `examples_read`, `predictions_written` and `examples_failed`, in this order.
      summary: what `summary.json` says of the same model.
    """

    model: str
    folder: str
    gate: str
    counts: Mapping[str, int]
    summary: BranchSummary

    def count_predictions(self) -> int:
        """Returns how many predictions can be read."""
        from bulk_inferencer import read_predictions

        # A closed gate leaves an empty folder, in which the reader would miss its files.
        return sum(1 for _ in read_predictions(self.folder)) if os.listdir(self.folder) else 0


class Outcome(NamedTuple):
    """What came of the inferencer in one run, and of the Evaluators before it.

    Attributes:
      inferencer: id of the inferencer: BulkInferencer, BranchInferencer or CascadeInferencer.
      execution_id: id of its execution.
      state: last known state of that execution; "COMPLETE" after a run without errors.
      outputs: the folders of all its outputs, by name.
      results: one for each model, or one for a whole cascade.
      evaluations: by each Evaluator's id, why it did not bless its model; empty if it did.
    """

    inferencer: str
    execution_id: int
    state: str
    outputs: Mapping[str, str]
    results: list[Result]
    evaluations: Mapping[str, str]

    @property
    def is_blessed(self) -> bool:
        """Whether every model is blessed."""
        return all(result.gate == "blessed" for result in self.results)

    def problems(self, *, records: int, bad_model: bool) -> list[str]:
        """Returns what is wrong with the run; nothing if it went as it should.

        Args:
          records: number of unlabelled records that were generated.
          bad_model: whether the gate should be closed.
        """
        gate, scored = ("not_blessed", 0) if bad_model else ("blessed", records)
        facts: list[tuple[str, Any, Any]] = [
            (f"{self.inferencer}'s state in ML Metadata", self.state, "COMPLETE")
        ]
        for result in self.results:
            read, predicted, failed = result.counts.values()
            name = f"{result.model}: " if result.model else ""
            facts += [
                (f"{name}the gate", result.gate, gate),
                (f"{name}the gate in summary.json", result.summary.gate.verdict, result.gate),
                (f"{name}the number of records read", read, scored),
                (f"{name}the number of records predicted or failed", predicted + failed, scored),
                (f"{name}the number of predictions", result.count_predictions(), predicted),
            ]
            total = result.summary.total
            for count, in_metadata in result.counts.items():
                facts.append((f"{name}{count} in summary.json", getattr(total, count), in_metadata))
        return [f"{what} is {got}, not {wanted}." for what, got, wanted in facts if got != wanted]


def read_outcome(metadata_path: str, pipeline: tfx.dsl.Pipeline) -> Outcome:
    """Reads the outcome of a pipeline's latest run from ML Metadata's SQLite file."""
    from ml_metadata.metadata_store import metadata_store
    from ml_metadata.proto import metadata_store_pb2
    from tfx import v1 as tfx

    from bulk_inferencer import BranchInferencer, BulkInferencer, CascadeInferencer, Summary
    from bulk_inferencer.components import keys

    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = metadata_path
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
    store = metadata_store.MetadataStore(config)

    def nodes(*classes: type) -> list[Any]:
        return [node for node in pipeline.components if isinstance(node, classes)]

    def latest(node: Any) -> tuple[Any, dict[str, Any]]:
        name = f"{pipeline.pipeline_info.pipeline_name}.{node.id}"
        context = store.get_context_by_type_and_name("node", name)
        execution = max(store.get_executions_by_context(context.id), key=lambda e: e.id)
        outputs = {
            event.path.steps[0].key: store.get_artifacts_by_id([event.artifact_id])[0]
            for event in store.get_events_by_execution_ids([execution.id])
            if event.type == metadata_store_pb2.Event.OUTPUT
        }
        return execution, outputs

    evaluations = {}
    for node in nodes(tfx.components.Evaluator):
        _, outputs = latest(node)
        is_blessed = outputs["blessing"].custom_properties["blessed"].int_value == 1
        evaluations[node.id] = "" if is_blessed else _why_not_blessed(outputs["evaluation"].uri)

    (inferencer,) = nodes(BulkInferencer, BranchInferencer, CascadeInferencer)
    execution, outputs = latest(inferencer)
    results = []
    for name, summary in Summary.read(outputs[keys.SUMMARY].uri).branches.items():
        # A dict, since the proto's map would give an empty value for what is missing.
        properties = dict(outputs[name].custom_properties)
        counts = {count: properties[count].int_value for count in keys.COUNTS}
        model = "" if name == keys.INFERENCE_RESULT else name
        gate = properties[keys.GATE].string_value
        results.append(Result(model, outputs[name].uri, gate, counts, summary))
    return Outcome(
        inferencer=inferencer.id,
        execution_id=execution.id,
        state=metadata_store_pb2.Execution.State.Name(execution.last_known_state),
        outputs={key: artifact.uri for key, artifact in outputs.items()},
        results=results,
        evaluations=evaluations,
    )


def _why_not_blessed(evaluation: str) -> str:
    """Returns which metrics missed their thresholds."""
    import tensorflow_model_analysis as tfma

    reasons = []
    for per_slice in tfma.load_validation_result(evaluation).metric_validations_per_slice:
        for failure in per_slice.failures:
            threshold = failure.metric_threshold.value_threshold
            required = (
                f"at most {threshold.upper_bound.value:g}"
                if threshold.HasField("upper_bound")
                else f"at least {threshold.lower_bound.value:g}"
            )
            value = failure.metric_value.double_value.value
            reasons.append(f"{failure.metric_key.name} is {value:.4g}, {required} is required")
    return "; ".join(reasons) or "no reason given"
