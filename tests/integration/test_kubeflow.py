"""Compiled pipelines really run: task by task as Kubeflow's launcher does, and whole by kfp.local.

`make test-kubeflow` runs this: it makes an environment with kfp 2.17, which TFX 1.16 cannot have.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from google.protobuf import json_format
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing

from bulk_inferencer import BranchInferencer, CascadeInferencer, read_predictions
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.components import kubeflow_entrypoint
from bulk_inferencer.results.compare import Comparison
from bulk_inferencer.results.summary import BranchSummary, StageCounts, Summary
from pipelines import run_kubeflow
from pipelines.five_times_table.data import make_data
from tests.helpers import features_of
from tests.integration.kubeflow_launcher import Run, compile_nodes, container_environment
from tests.tfx_helpers import (
    examples_of,
    five_times,
    importer,
    save_model,
    scored,
    write_examples,
)

KFP_PYTHON = os.environ.get("KFP_PYTHON", "")
if not KFP_PYTHON:
    pytest.skip("run by make test-kubeflow", allow_module_level=True)

CHECKOUT = Path(__file__).parents[2]
TASKS = {
    "CsvExampleGen",
    "StatisticsGen",
    "SchemaGen",
    "InferenceExampleGen",
    "Trainer",
    "Evaluator",
    "BulkInferencer",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(str(tmp_path_factory.mktemp("data")))


def compile_five_times_table(data, folder, command=kubeflow_entrypoint.COMMAND):
    """Compiles for containers that see this checkout and the files of this machine."""
    path = folder / "pipeline.yaml"
    run_kubeflow.compile_pipeline(
        "five_times_table",
        # SubprocessRunner warns of an image whose name has no "python" in it.
        image="python",
        output=str(path),
        code_root=str(CHECKOUT),
        command=command,
        pipeline_name="five-times-table",
        pipeline_root=str(folder / "root"),
        data_root=data.data_root,
        inference_data_root=data.inference_data_root,
        enable_cache=False,
        beam_pipeline_args=list(run_kubeflow.BEAM_PIPELINE_ARGS),
    )
    return path


def assert_five_times(data, result, metadata):
    """Checks the predictions and what the result's metadata says of them."""
    predictions = [
        (*features_of(p.record)["x"], p.outputs["y"].item())
        for p in read_predictions(result, "unlabelled")
    ]
    assert sorted(x for x, _ in predictions) == pytest.approx(data.xs)
    # 1 % of the range of y, as in the pipeline's own report.
    assert max(abs(y - 5 * x) for x, y in predictions) < 0.01 * 5 * 200
    counts = (metadata["examples_read"], metadata["predictions_written"])
    assert (metadata["gate"], *counts) == ("blessed", data.records, data.records)


# Each container's command, as the launcher calls it


def test_every_component_runs_in_its_container_command(data, tmp_path):
    run = Run(compile_five_times_table(data, tmp_path), tmp_path / "tasks").run()

    assert set(run.commands) == TASKS
    for command in run.commands.values():
        assert tuple(command[:3]) == kubeflow_entrypoint.COMMAND
    result = run.outputs["BulkInferencer"]["inference_result"]
    assert_five_times(data, result.uri, json_format.MessageToDict(result.metadata))
    summary = Summary.read(run.outputs["BulkInferencer"]["summary"].uri)
    assert (summary.gate, summary.total.examples_read) == ("blessed", data.records)


@pytest.fixture(scope="module")
def model_uris(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return save_model(folder / "five"), save_model(folder / "ten", factor=10.0)


@pytest.fixture
def nodes(model_uris, tmp_path):
    """Nodes for examples, for the models five and ten, and for a blessing of five."""
    examples = write_examples(
        tmp_path / "examples", train=examples_of(0, 1, 2), unlabelled=examples_of(10, 11)
    )
    five, ten = model_uris
    (tmp_path / "blessing").mkdir()
    return {
        "examples": importer("examples", Examples, examples, ["train", "unlabelled"]),
        "five": importer("five", Model, five),
        "ten": importer("ten", Model, ten),
        "blessing": importer(
            "blessing", ModelBlessing, tmp_path / "blessing", blessed=1, current_model=five
        ),
    }


def result_of(node):
    return node.outputs["result"]


def test_branches_run_in_their_container_command(nodes, tmp_path):
    branch = BranchInferencer(
        examples=result_of(nodes["examples"]),
        models={name: result_of(nodes[name]) for name in ("five", "ten")},
        model_blessings={"five": result_of(nodes["blessing"])},
        comparison_spec=our.ComparisonSpec(key_features=["x"]),
    )
    path = compile_nodes(tmp_path / "pipeline.yaml", *nodes.values(), branch)

    outputs = Run(path, tmp_path / "tasks").run().outputs["BranchInferencer"]

    assert scored(outputs["five"]) == five_times(0, 1, 2, 10, 11)
    assert scored(outputs["ten"]) == sorted((x, 10 * x) for x in (0, 1, 2, 10, 11))
    models = BranchSummary.read(outputs["summary"].uri).models
    assert {name: of.gate for name, of in models.items()} == {
        "five": "blessed",
        "ten": "no_blessing",
    }
    (pair,) = Comparison.read(outputs["comparison"].uri).pairs
    assert (pair.models, pair.outputs["y"].max_absolute_difference) == (("five", "ten"), 55.0)


def test_cascade_runs_in_its_container_command(nodes, tmp_path):
    cascade = CascadeInferencer(
        examples=result_of(nodes["examples"]),
        models={name: result_of(nodes[name]) for name in ("five", "ten")},
        model_blessings={"five": result_of(nodes["blessing"])},
        stages=[
            our.StageSpec(name="five", exit_when=[our.ExitWhen(output_key="y", at_least=50.0)]),
            our.StageSpec(name="ten"),
        ],
    )
    path = compile_nodes(tmp_path / "pipeline.yaml", *nodes.values(), cascade)

    outputs = Run(path, tmp_path / "tasks").run().outputs["CascadeInferencer"]

    ten_times = [(float(x), 10.0 * x) for x in (0, 1, 2)]
    assert scored(outputs["inference_result"]) == [*ten_times, *five_times(10, 11)]
    summary = Summary.read(outputs["summary"].uri)
    assert summary.stages == {"five": StageCounts(5, 2, 3), "ten": StageCounts(3, 3, 0)}


# The whole spec, by kfp.local


def test_kfp_local_runs_the_whole_pipeline(data, tmp_path):
    # SubprocessRunner takes commands only that name KFP's own executor. A variable that nobody
    # reads names it; `env` then runs the command of every other test.
    command = ("env", "UNREAD=kfp.dsl.executor_main", *kubeflow_entrypoint.COMMAND)
    path = compile_five_times_table(data, tmp_path, command)
    script = Path(__file__).with_name("kubeflow_local.py")

    ran = subprocess.run(
        [KFP_PYTHON, script, path, tmp_path / "root"],
        cwd=tmp_path,
        env=container_environment(),
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    assert ran.stdout.startswith("kfp 2.17.")
    # kfp.local cuts as many letters from a component's name as its own prefix, "comp-", has.
    (folder,) = (tmp_path / "root").glob("five-times-table-*")
    assert {task.name for task in folder.iterdir()} == {name[len("comp-") :] for name in TASKS}
    task = folder / "BulkInferencer"[len("comp-") :]
    said = json.loads((task / "executor_output.json").read_text())["artifacts"]
    (result,) = said["inference_result"]["artifacts"]
    assert result["uri"] == str(task / "inference_result")
    assert_five_times(data, result["uri"], result["metadata"])
