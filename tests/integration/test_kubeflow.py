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

from bulk_inferencer import BranchInferencer, CascadeInferencer
from bulk_inferencer.components import kubeflow_entrypoint
from pipelines import run_kubeflow
from pipelines.catalogue import BEAM_PIPELINE_ARGS
from pipelines.five_times_table.data import make_data
from tests.integration import checks
from tests.integration.kubeflow_launcher import Run, compile_nodes, container_environment

KFP_PYTHON = os.environ.get("KFP_PYTHON", "")
if not KFP_PYTHON:
    pytest.skip("run by make test-kubeflow", allow_module_level=True)

CHECKOUT = Path(__file__).parents[2]
# For an environment that has kfp and no TFX; the tasks' `python` is the one on PATH, with TFX.
RUN_BY_KFP_LOCAL = """
import sys, kfp
from kfp import components, local

print(f"kfp {kfp.__version__}")
runner = local.SubprocessRunner(use_venv=False)
local.init(runner=runner, pipeline_root=sys.argv[2], raise_on_error=True)
components.load_component_from_file(sys.argv[1])()
"""


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
        beam_pipeline_args=list(BEAM_PIPELINE_ARGS),
    )
    return path


# Each container's command, as the launcher calls it


def test_every_component_runs_in_its_container_command(data, tmp_path):
    run = Run(compile_five_times_table(data, tmp_path), tmp_path / "tasks").run()

    assert set(run.commands) == set(checks.COMPONENTS)
    for command in run.commands.values():
        assert tuple(command[:3]) == kubeflow_entrypoint.COMMAND
    result = run.outputs["BulkInferencer"]["inference_result"]
    checks.check_five_times_table(result.uri, json_format.MessageToDict(result.metadata), data)


def test_several_models_run_in_their_container_command(tmp_path):
    checks.write_artifacts(tmp_path)
    nodes, arguments = checks.import_artifacts(tmp_path)
    branch = BranchInferencer(**arguments, **checks.COMPARISON)
    cascade = CascadeInferencer(**arguments, **checks.STAGES)
    path = compile_nodes(tmp_path / "pipeline.yaml", *nodes, branch, cascade)

    outputs = Run(path, tmp_path / "tasks").run().outputs

    checks.check_branch(outputs["BranchInferencer"].__getitem__)
    checks.check_cascade(outputs["CascadeInferencer"].__getitem__)


# The whole spec, by kfp.local


def test_kfp_local_runs_the_whole_pipeline(data, tmp_path):
    # SubprocessRunner takes commands only that name KFP's own executor. A variable that nobody
    # reads names it; `env` then runs the command of every other test.
    command = ("env", "UNREAD=kfp.dsl.executor_main", *kubeflow_entrypoint.COMMAND)
    path = compile_five_times_table(data, tmp_path, command)

    ran = subprocess.run(
        [KFP_PYTHON, "-c", RUN_BY_KFP_LOCAL, path, tmp_path / "root"],
        cwd=tmp_path,
        env=container_environment(),
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    assert ran.stdout.startswith("kfp 2.17.")
    # kfp.local cuts as many letters from a component's name as its own prefix, "comp-", has.
    (folder,) = (tmp_path / "root").glob("five-times-table-*")
    assert {task.name for task in folder.iterdir()} == {name[5:] for name in checks.COMPONENTS}
    task = folder / "BulkInferencer"[len("comp-") :]
    said = json.loads((task / "executor_output.json").read_text())["artifacts"]
    (result,) = said["inference_result"]["artifacts"]
    assert result["uri"] == str(task / "inference_result")
    checks.check_five_times_table(result["uri"], result["metadata"], data)
