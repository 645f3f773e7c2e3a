from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tfx.orchestration.experimental.interactive.visualizations import (
    ArtifactVisualization,
    ArtifactVisualizationRegistry,
)
from tfx.types.standard_artifacts import Examples, InferenceResult, Model

from bulk_inferencer import InferenceSummary, ModelComparison, PredictionTable
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.components import visualizations
from tests.components.tfx_helpers import SPLITS, artifact, execute, make_outputs


@pytest.fixture(scope="module")
def ran(tmp_path_factory, model_uri, examples_uri):
    """The outputs of a component that scored five records, with a table."""
    outputs = make_outputs(tmp_path_factory.mktemp("outputs"))
    inputs = {
        "examples": artifact(Examples, examples_uri, SPLITS),
        "model": artifact(Model, model_uri),
    }
    execute(outputs, inputs, table_spec=our.TableSpec())
    return outputs


@pytest.fixture
def registry(monkeypatch):
    """TFX's registry, without what other tests have registered."""
    own = ArtifactVisualizationRegistry()
    monkeypatch.setattr(visualizations.visualizations, "_REGISTRY", own)
    return own


def shown(registry, output):
    """Returns the headings of what is shown of an artifact, up to the gate."""
    own = registry.get_visualization(output.type_name)
    pages = [page._repr_html_() for page in own.shown(output.uri)]
    return [re.search(r"<p><b>(.*?)(, gate.*)?</b>", page)[1] for page in pages]


def test_outputs_are_shown_by_their_type(ran, registry):
    visualizations.register()
    logs, table = ran.inference_result, ran.prediction_table
    assert shown(registry, logs) == [f"Results of {logs.uri}: 5 predicted, 0 failed"]
    assert shown(registry, table) == [f"Results of {table.uri}: 5 predicted, 0 failed"]
    assert shown(registry, ran.summary) == [
        "Summary: 5 predicted, 0 failed",
        "Statistics of 1 output, 0 failed",
    ]


def test_results_of_tfx_bulk_inferrer_are_shown_too(ran, registry, tmp_path):
    visualizations.register()
    (file,) = Path(ran.inference_result.uri).glob("prediction_logs-train-*")
    shutil.copy(file, tmp_path / "prediction_logs-00000-of-00001.gz")
    theirs = artifact(InferenceResult, tmp_path)
    assert shown(registry, theirs) == [f"Results of {tmp_path}: predictions without a summary"]


def test_what_the_user_shows_in_another_way_stays(registry):
    class Own(ArtifactVisualization):
        ARTIFACT_TYPE = InferenceResult

        def display(self, artifact):
            pass

    registry.register(Own)
    visualizations.register()
    assert isinstance(registry.get_visualization("InferenceResult"), Own)
    for kind in (InferenceSummary, ModelComparison, PredictionTable):
        assert registry.get_visualization(kind.TYPE_NAME) is not None


@pytest.mark.slow
def test_without_a_notebook_nothing_is_registered():
    check = (
        "import sys, bulk_inferencer.components.executor, bulk_inferencer.components.artifacts;"
        "assert 'bulk_inferencer.components.visualizations' not in sys.modules;"
        "assert 'tfx.orchestration.experimental.interactive' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
