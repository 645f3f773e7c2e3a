"""Results that ML Metadata has recorded: the newest of a pipeline, and a list of all runs."""

from __future__ import annotations

import numpy as np
import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.components.bulk_inferrer.component import BulkInferrer
from tfx.types import standard_artifacts

from bulk_inferencer import latest_results
from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.components import artifacts, keys, recorded_results
from bulk_inferencer.components.recorded_results import RecordedResult, recorded_runs
from bulk_inferencer.errors import InputError, SettingsError
from tests.components.tfx_helpers import UNLABELLED, LocalPipeline, Nodes
from tests.helpers import exactly, example

# What pipelines write


@pytest.fixture(scope="module")
def metadata(tmp_path_factory, uris):
    """ML Metadata of a pipeline that ran twice: the second run took its results from the cache."""
    folder = tmp_path_factory.mktemp("recorded")
    for _ in range(2):
        nodes = Nodes(folder, **uris)
        nodes.bless("refusal", "ten", blessed=0)
        nodes.add(BulkInferrer(examples=nodes["examples"], model=nodes["five"]).with_id("Theirs"))
        nodes.bulk("Ours", data_spec=UNLABELLED)
        nodes.branch("Both", data_spec=UNLABELLED, model_blessings={"ten": nodes["refusal"]})
        LocalPipeline(folder).run(*nodes.all.values(), enable_cache=True)
    return folder / "metadata.sqlite"


def values(results, *columns):
    return sorted(tuple(row[column] for column in columns) for row in results)


@pytest.mark.slow
def test_newest_results_of_a_component_come_with_counts_gate_and_rows(metadata):
    ours = latest_results(metadata, "pipeline", "Ours")
    assert values(ours, "x", "y") == [(10.0, 50.0), (11.0, 55.0)]
    assert (ours.counts.predictions_written, ours.gate.verdict) == (2, "no_blessing")
    both = latest_results(metadata, component_id="Both")
    assert (both.models, both.gate.verdict) == (("five", "ten"), "not_blessed")
    assert values(both, "x", "five/y") == [(10.0, 50.0), (11.0, 55.0)]
    assert len(latest_results(metadata, component_id="Both", model="ten")) == 0


@pytest.mark.slow
def test_results_of_tfx_bulk_inferrer_are_read_as_well(metadata):
    theirs = latest_results(metadata, component_id="Theirs")
    assert values(theirs, "x", "y") == [(x, 5 * x) for x in (0.0, 1.0, 2.0, 10.0, 11.0)]
    assert (theirs.summary, theirs.counts.predictions_written, theirs.splits) == (None, 5, ())


@pytest.mark.slow
def test_runs_of_a_pipeline_are_listed_with_gates_counts_models_and_places(metadata, uris):
    runs = recorded_runs(metadata, "pipeline")
    assert [run.state for run in runs] == ["CACHED"] * 3 + ["COMPLETE"] * 3
    by_component = {run.component: run for run in runs[3:]}
    both, ours, theirs = (by_component[name] for name in ("Both", "Ours", "Theirs"))
    assert {run.component for run in runs[:3]} == by_component.keys()
    assert {run.pipeline for run in runs} == {"pipeline"}
    assert both.run == ours.run != runs[0].run
    assert both.started < both.ended < min(run.started for run in runs[:3])
    folder = metadata.parent / "artifacts"
    counts = {"examples_read": 2, "predictions_written": 2, "examples_failed": 0}
    (own,) = ours.results
    assert own.model == uris["five_uri"]
    assert own.uri == f"{folder}/Ours/inference_result/{ours.execution_id}"
    assert ours.summary == f"{folder}/Ours/summary/{ours.execution_id}"
    assert own == RecordedResult(
        "inference_result", own.uri, "no_blessing", own.model, None, **counts
    )
    assert [(r.name, r.gate, r.predictions_written) for r in both.results] == [
        ("five", "no_blessing", 2),
        ("ten", "not_blessed", 0),
    ]
    (own,) = theirs.results
    assert own == RecordedResult("inference_result", own.uri, "", uris["five_uri"])


# What is recorded by hand


class Recorder:
    """ML Metadata to which executions are added."""

    def __init__(self, folder):
        self.folder = folder
        self.config = mlmd.ConnectionConfig()
        self.config.sqlite.filename_uri = str(folder / "metadata.sqlite")
        self.config.sqlite.connection_mode = 3  # opened, or else made
        self.store = metadata_store.MetadataStore(self.config)
        self._ids = iter(range(100))

    def context(self, kind, name):
        type_id = self.store.put_context_type(mlmd.ContextType(name=kind))
        if found := self.store.get_context_by_type_and_name(kind, name):
            return found.id
        return self.store.put_contexts([mlmd.Context(type_id=type_id, name=name)])[0]

    def add(
        self,
        pipeline,
        component,
        y=None,
        state=mlmd.Execution.COMPLETE,
        output="result",
        kind="",
        blessed=None,
    ):
        """Adds an execution; with `y`, it has written a prediction."""
        type_id = self.store.put_execution_type(mlmd.ExecutionType(name=kind or component))
        execution = mlmd.Execution(type_id=type_id, last_known_state=state)
        (execution_id,) = self.store.put_executions([execution])
        names = [("pipeline", pipeline), ("node", f"{pipeline}.{component}")]
        links = [
            mlmd.Association(context_id=self.context(*own), execution_id=execution_id)
            for own in names
        ]
        self.store.put_attributions_and_associations([], links)
        if y is None:
            return
        folder = self.folder / str(next(self._ids))
        folder.mkdir()
        encoder = PredictionLogEncoder([Signature("s", PREDICT)], "examples")
        logs = encoder.encode([example(x=1.0)], {"y": np.array([y])})
        (folder / "prediction_logs-00000-of-00001").write_bytes(tfrecord.frame(logs))
        kind = self.store.put_artifact_type(mlmd.ArtifactType(name="InferenceResult"))
        self._put(mlmd.Artifact(type_id=kind, uri=str(folder)), output, execution_id)
        if blessed is not None:
            kind = self.store.put_artifact_type(mlmd.ArtifactType(name="ModelBlessing"))
            blessing = mlmd.Artifact(type_id=kind, uri=f"{folder}-blessing")
            blessing.custom_properties["blessed"].int_value = blessed
            self._put(blessing, keys.prediction_blessing_key(""), execution_id)

    def _put(self, artifact, key, execution_id):
        (artifact_id,) = self.store.put_artifacts([artifact])
        event = mlmd.Event(
            type=mlmd.Event.OUTPUT, artifact_id=artifact_id, execution_id=execution_id
        )
        event.path.steps.add().key = key
        self.store.put_events([event])


@pytest.fixture
def recorder(tmp_path):
    return Recorder(tmp_path)


def test_newest_execution_that_ended_well_and_wrote_predictions_counts(recorder):
    recorder.add("a", "first", y=1)
    recorder.add("b", "second", y=2, state=mlmd.Execution.CACHED)
    recorder.add("a", "first", y=3)
    recorder.add("b", "second", y=4, state=mlmd.Execution.FAILED)
    recorder.add("b", "trainer")

    def newest(*names, metadata=recorder.config):
        return [row["y"] for row in latest_results(metadata, *names)]

    assert newest() == newest("a") == newest("", "first") == newest("a", "first") == [3]
    assert newest("b") == newest("b", "second") == [2]
    for metadata in (recorder.store, recorder.config.sqlite.filename_uri):
        assert newest(metadata=metadata) == [3]


NONE = "ML Metadata has recorded no results"
ENDED = "has ended well and written predictions. Run the pipeline first."


def test_what_is_not_recorded_is_an_error_that_says_what_is(recorder):
    recorder.add("a", "first", y=1, state=mlmd.Execution.FAILED)
    recorder.add("b", "second")
    for names, message in (
        (("c",), "ML Metadata has no pipeline 'c', but a, b. Correct pipeline_name."),
        (
            ("a", "second"),
            "ML Metadata has no component 'second', but first. Correct component_id.",
        ),
        (
            ("a", "first"),
            f"{NONE} of the component 'first' in the pipeline 'a': of 1 execution, none {ENDED}",
        ),
        (
            (),
            f"{NONE} of an inferencer: of 2 executions, none {ENDED}",
        ),
    ):
        with pytest.raises(InputError, match=exactly(message)):
            latest_results(recorder.store, *names)


def test_metadata_that_is_not_there_is_an_error_and_is_not_made(tmp_path):
    missing = tmp_path / "none.sqlite"
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(missing)
    for metadata in (missing, str(missing), config):
        message = f"There is no file {missing}. Give the SQLite file of ML Metadata."
        with pytest.raises(InputError, match=exactly(message)):
            latest_results(metadata)
    assert not missing.exists()
    message = (
        "metadata must be the SQLite file of ML Metadata, or a ConnectionConfig, not 3 of type int."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        latest_results(3)


@pytest.mark.parametrize("content", [b"", b"x", b"text " * 200, b"SQLite format 3\0" + b"x" * 200])
def test_file_of_something_else_is_no_metadata(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    message = (
        f"{path} is not an SQLite file of ML Metadata. Give the file that the pipeline writes, "
        f"often metadata.sqlite or metadata.db."
    )
    with pytest.raises(InputError, match=exactly(message)):
        latest_results(path)


# A list of runs


def test_executions_of_inferencers_are_listed_the_newest_first(recorder):
    recorder.add("a", "first", y=1)
    recorder.add("a", "trainer")
    recorder.add("a", "imported", y=1, kind="tfx.dsl.components.common.importer.Importer")
    failed, running = mlmd.Execution.FAILED, mlmd.Execution.RUNNING
    recorder.add(
        "b", "theirs", state=failed, kind="tfx.components.bulk_inferrer.component.BulkInferrer"
    )
    recorder.add("b", "ours", state=running, kind="bulk_inferencer.components.any.Inferencer")

    def listed(*args):
        return [(run.component, run.state, len(run.results)) for run in recorded_runs(*args)]

    expected = [("ours", "RUNNING", 0), ("theirs", "FAILED", 0), ("first", "COMPLETE", 1)]
    assert listed(recorder.config.sqlite.filename_uri) == expected
    assert listed(recorder.store, "a") == expected[2:]
    assert listed(recorder.store, "", 2) == expected[:2]


def test_listing_runs_writes_nothing(recorder):
    recorder.add("a", "first", y=1)
    path = recorder.folder / "metadata.sqlite"
    before = path.read_bytes()
    path.chmod(0o400)
    assert len(recorded_runs(path)) == 1
    assert path.read_bytes() == before


def test_types_of_artifacts_have_the_names_that_are_looked_for():
    for name, kind in (
        (recorded_results._PREDICTIONS, standard_artifacts.InferenceResult),
        (recorded_results._TABLE, artifacts.PredictionTable),
        (recorded_results._SUMMARY, artifacts.InferenceSummary),
        (recorded_results._COMPARISON, artifacts.ModelComparison),
        (recorded_results._MODEL, standard_artifacts.Model),
    ):
        assert name == kind.TYPE_NAME
