"""DAGs on Airflow 2: its own command line, its database, and ML Metadata. `make test-airflow`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

# Importing Airflow to see whether it is there would make ~/airflow.
if not find_spec("airflow"):
    pytest.skip("run by make test-airflow", allow_module_level=True)

from bulk_inferencer import read_predictions
from pipelines.catalogue import BEAM_PIPELINE_ARGS
from pipelines.five_times_table.data import make_data
from tests.components.tfx_helpers import custom_properties, open_store, recorded_of
from tests.helpers import tree
from tests.integration import checks
from tests.integration.checks import COMPONENTS, COUNTS

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
FIVE_TIMES_TABLE = CHECKOUT / "pipelines" / "airflow_dag.py"
FIVE_TIMES_TABLE_GOES_WRONG = Path(__file__).with_name("airflow_five_times_table.py")
SEVERAL_MODELS = Path(__file__).with_name("airflow_several_models.py")


class Run(NamedTuple):
    """A DAG run as Airflow's database has it: its state, and that of each task."""

    dag_id: str
    run_id: str
    state: str
    tasks: dict[str, str]
    printed: str = ""


class Airflow:
    """An Airflow of our own, with everything that it writes in one folder."""

    def __init__(self, home):
        self.home = home
        self.dags = home / "dags"
        self.dags.mkdir()
        # What developers have set for their own Airflow must not reach this one.
        inherited = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
        self.environment = inherited | {
            # The scheduler starts each task with the command `airflow`.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONWARNINGS": "ignore",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            # What a site may have set for all its DAGs.
            "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "3",
            # Importing TFX takes long on a slow machine.
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
            "AIRFLOW__CORE__DAG_FILE_PROCESSOR_TIMEOUT": "300",
            "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "600",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        self("db", "migrate")

    def __call__(self, *arguments, status=0, **environment):
        """Runs a command of `airflow`, and returns what it prints."""
        made = subprocess.run(
            ["airflow", *arguments],
            env=self.environment | environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=400,
        )
        printed = made.stdout + made.stderr
        assert made.returncode == status, printed[-5000:]
        return printed

    def add(self, file):
        """Puts a file into the DAG folder and returns its path there."""
        return shutil.copy(file, self.dags)

    def test(self, file, dag_id, *arguments, **environment):
        """Runs a DAG with `airflow dags test`."""
        command = ("dags", "test", "--subdir", self.add(file), dag_id, *arguments)
        printed = self(*command, **environment)
        return self.latest(dag_id)._replace(printed=printed)

    @contextlib.contextmanager
    def scheduler(self, file):
        """A scheduler of this DAG file runs inside the context, which is given `wait_for`."""
        command = ["airflow", "scheduler", "--skip-serve-logs", "--subdir", self.add(file)]
        path = self.home / "scheduler.log"
        with (
            open(path, "w") as log,
            subprocess.Popen(
                command, env=self.environment, cwd=self.home, stdout=log, stderr=log
            ) as process,
        ):

            def wait_for(statement, *arguments, seconds=400):
                """Waits until a query finds something."""
                # A scheduler reports to its database only: there is no event to wait for.
                deadline = time.monotonic() + seconds
                while not self.query(statement, *arguments):
                    running = process.poll() is None and time.monotonic() < deadline
                    assert running, path.read_text()[-5000:]
                    time.sleep(1)

            try:
                yield wait_for
            finally:
                process.terminate()  # It ends what it has started.

    def query(self, statement, *arguments):
        database = f"file:{self.home / 'airflow.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(database, timeout=60, uri=True)) as connection:
            return connection.execute(statement, arguments).fetchall()

    def latest(self, dag_id):
        """Returns the latest run of a DAG."""
        runs = self.query("SELECT run_id, state FROM dag_run WHERE dag_id = ? ORDER BY id", dag_id)
        run_id, state = runs[-1]
        tasks = "SELECT task_id, state FROM task_instance WHERE dag_id = ? AND run_id = ?"
        return Run(dag_id, run_id, state, dict(self.query(tasks, dag_id, run_id)))

    def recorded(self, run, component, folder="five_times_table"):
        """Returns what ML Metadata says of the execution of a component in a DAG run."""
        store = open_store(self.home / folder / "metadata.sqlite")
        wanted = {"pipeline_name": run.dag_id, "run_id": run.run_id, "component_id": component}
        (execution,) = (
            execution
            for execution in store.get_executions()
            if all(execution.properties[name].string_value == wanted[name] for name in wanted)
        )
        return recorded_of(store, execution)


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    return Airflow(tmp_path_factory.mktemp("airflow"))


# Five times table


@pytest.fixture(scope="module")
def data(airflow):
    root = airflow.home / "five_times_table"
    airflow.environment["AIRFLOW_VAR_FIVE_TIMES_TABLE_ROOT"] = str(root)
    return make_data(str(root / "data"))


@pytest.fixture(scope="module")
def blessed(airflow, data):
    return airflow.test(FIVE_TIMES_TABLE, "five_times_table")


@pytest.fixture(scope="module")
def not_blessed(airflow, data):
    options = json.dumps([*BEAM_PIPELINE_ARGS, "--direct_num_workers=2"])
    variable = {"AIRFLOW_VAR_BEAM_PIPELINE_ARGS": options}
    return airflow.test(FIVE_TIMES_TABLE_GOES_WRONG, "not_blessed", **variable)


@pytest.fixture(scope="module")
def model_missing(airflow, data):
    conf = json.dumps({"lose_model": True})
    return airflow.test(FIVE_TIMES_TABLE_GOES_WRONG, "model_missing", "--conf", conf, status=1)


@pytest.fixture(scope="module")
def next_run(airflow, model_missing):
    """A new run of the same DAG, by a scheduler, with the model back in its place."""
    artifacts = airflow.home / "five_times_table" / "artifacts" / "model_missing"
    (model,) = (artifacts / "Trainer" / "model").iterdir()
    (artifacts / "Format-Serving").rename(model / "Format-Serving")
    with airflow.scheduler(FIVE_TIMES_TABLE_GOES_WRONG) as wait_for:
        wait_for("SELECT 1 FROM dag WHERE dag_id = 'model_missing'")
        airflow("dags", "trigger", "model_missing", "--run-id", "next")
        wait_for("SELECT 1 FROM dag_run WHERE run_id = 'next' AND state IN ('success', 'failed')")
    return airflow.latest("model_missing")


def test_all_tasks_succeed_and_predictions_are_5x(airflow, blessed, data):
    assert blessed.state == "success"
    assert blessed.tasks == dict.fromkeys(COMPONENTS, "success")
    inferencer = airflow.recorded(blessed, "BulkInferencer")
    assert inferencer.state == "COMPLETE"
    result = inferencer.output("inference_result")
    checks.check_five_times_table(result.uri, custom_properties(result), data)


def test_model_that_is_not_blessed_is_not_scored_with(airflow, not_blessed):
    inferencer = airflow.recorded(not_blessed, "BulkInferencer")
    result = inferencer.output("inference_result")

    assert not_blessed.tasks == dict.fromkeys(COMPONENTS, "success")
    properties = custom_properties(result)
    assert inferencer.state == "COMPLETE"
    assert [properties[name] for name in ("gate", *COUNTS)] == ["not_blessed", 0, 0, 0]
    assert tree(result.uri) == []


def test_beam_options_come_from_a_variable(blessed, not_blessed):
    # What TFX says to two workers in one thread, which is not what BEAM_PIPELINE_ARGS asks for.
    warning = "If direct_num_workers is not equal to 1"

    assert warning not in blessed.printed
    assert warning in not_blessed.printed


def test_task_without_its_model_fails(airflow, model_missing):
    assert model_missing.state == "failed"
    assert model_missing.tasks == {
        **dict.fromkeys((*COMPONENTS, "lose_model"), "success"),
        "BulkInferencer": "failed",
    }
    assert "ModelError: There is no folder " in model_missing.printed
    inferencer = airflow.recorded(model_missing, "BulkInferencer")
    # TFX's launcher on Airflow does not tell ML Metadata of failures.
    assert inferencer.state == "RUNNING"
    assert tree(inferencer.output("inference_result").uri) == []


def test_tasks_are_not_retried(airflow, blessed, model_missing):
    assert airflow.query("SELECT DISTINCT max_tries FROM task_instance") == [(0,)]


def test_next_run_by_a_scheduler_succeeds_and_repeats_only_what_failed(airflow, next_run):
    assert next_run.state == "success"
    assert next_run.tasks == dict.fromkeys((*COMPONENTS, "lose_model"), "success")
    made = {name: airflow.recorded(next_run, name) for name in COMPONENTS}
    states = {name: recorded.state for name, recorded in made.items()}
    assert states == {**dict.fromkeys(COMPONENTS, "CACHED"), "BulkInferencer": "COMPLETE"}
    result = made["BulkInferencer"].output("inference_result")
    assert len(list(read_predictions(result.uri, "unlabelled"))) == 1001


# Several models


@pytest.fixture(scope="module")
def artifacts(airflow):
    folder = airflow.home / "several_models"
    checks.write_artifacts(folder)
    airflow.environment["AIRFLOW_VAR_SEVERAL_MODELS_ROOT"] = str(folder)


def test_branch_has_a_result_for_each_model(airflow, artifacts):
    run = airflow.test(SEVERAL_MODELS, "branch")

    assert run.tasks["BranchInferencer"] == run.state == "success"
    made = airflow.recorded(run, "BranchInferencer", "several_models")
    checks.check_branch(made.output)


@pytest.fixture(scope="module")
def cascade(airflow, artifacts):
    return airflow.test(SEVERAL_MODELS, "cascade", "2026-01-01")


def test_cascade_hands_down_what_is_not_settled(airflow, cascade):
    assert cascade.tasks["CascadeInferencer"] == cascade.state == "success"
    made = airflow.recorded(cascade, "CascadeInferencer", "several_models")
    checks.check_cascade(made.output)


def test_second_attempt_in_a_run_cannot_succeed(airflow, cascade):
    again = airflow.test(SEVERAL_MODELS, "cascade", "2026-01-01", status=1)

    assert again.run_id == cascade.run_id
    assert again.tasks["CascadeInferencer"] == "failed"
    assert "AlreadyExistsError: Given node already exists" in again.printed


def test_two_outputs_of_one_name_and_type_do_not_fit_into_one_dag(airflow, artifacts):
    run = airflow.test(SEVERAL_MODELS, "branch_and_cascade", status=1)

    assert sorted(run.tasks.values()) == ["failed", *["success"] * 5]
    assert "AlreadyExistsError: Given node already exists" in run.printed
    assert f'name: "summary:{run.run_id}"' in run.printed


# What is refused


def test_marks_that_airflow_would_render_are_refused(airflow, artifacts):
    printed = airflow(
        *("dags", "list-import-errors", "--subdir", airflow.add(SEVERAL_MODELS)),
        *("--output", "json"),
        status=1,
        AIRFLOW_VAR_SEVERAL_MODELS_SPLIT="{{ ds }}",
    )

    (error,) = json.loads(printed.splitlines()[-1])
    message = error["error"].splitlines()[-1]
    assert message.startswith("bulk_inferencer.errors.SettingsError: data_spec has '{{' in ")


@pytest.mark.parametrize("version", ["2.9.3", "3.0.0", "3.1.0rc1"])
def test_other_versions_of_airflow_are_refused(version, tmp_path):
    metadata = f"Metadata-Version: 2.1\nName: apache-airflow\nVersion: {version}\n"
    folder = tmp_path / f"apache_airflow-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(metadata)

    made = subprocess.run(
        [sys.executable, "-c", "import pipelines.airflow_dag"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{CHECKOUT}"},
        capture_output=True,
        text=True,
    )

    assert made.returncode == 1
    assert made.stderr.splitlines()[-1] == (
        f"ImportError: This pipeline needs Airflow 2.10 or newer, but below 3, not Airflow "
        f"{version}: TFX imports modules that Airflow 3 no longer has. Install "
        f"'apache-airflow>=2.10,<3'."
    )
    assert "tfx" not in made.stderr
