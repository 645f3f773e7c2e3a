"""The five times table as a DAG of Airflow 2: docs/airflow.md says how to run it.

Airflow finds it in a DAG folder that holds this file or a link to it. What differs from one
environment to the next is said by two Airflow Variables:

    five_times_table_root   folder with the data; artifacts and ML Metadata are written there
    beam_pipeline_args      options of the Beam jobs, as a JSON list
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pipelines.run_local import BEAM_PIPELINE_ARGS

if TYPE_CHECKING:
    from airflow import DAG


def check_airflow(version: str) -> None:
    """Checks that TFX works with this version of Airflow.

    Raises:
      ImportError: it does not.
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    if not (2, 10) <= (major, minor) < (3, 0):
        raise ImportError(
            f"Expected Airflow 2.10 or newer and below 3, got Airflow {version}. TFX imports "
            "modules that Airflow 3 no longer has: install 'apache-airflow>=2.10,<3'."
        )


def create_dag(pipeline_name: str = "five_times_table", **settings: Any) -> DAG:
    """Returns the DAG of a five times table.

    Args:
      pipeline_name: id of the DAG, and name of the pipeline in ML Metadata.
      **settings: further arguments of `create_pipeline`.
    """
    # Trainer would build a wheel of the model's file whenever Airflow parses this one.
    os.environ.setdefault("UNSUPPORTED_DO_NOT_PACKAGE_USER_MODULES", "1")
    from airflow.configuration import AIRFLOW_HOME
    from airflow.models import Variable
    from tfx import v1 as tfx
    from tfx.orchestration.airflow.airflow_dag_runner import AirflowDagRunner, AirflowPipelineConfig

    from pipelines.five_times_table.pipeline import create_pipeline

    root = Variable.get(
        "five_times_table_root", default_var=os.path.join(AIRFLOW_HOME, "five_times_table")
    )
    pipeline = create_pipeline(
        pipeline_name=pipeline_name,
        pipeline_root=os.path.join(root, "artifacts", pipeline_name),
        data_root=os.path.join(root, "data", "labelled"),
        inference_data_root=os.path.join(root, "data", "unlabelled"),
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            os.path.join(root, "metadata.sqlite")
        ),
        beam_pipeline_args=Variable.get(
            "beam_pipeline_args", default_var=BEAM_PIPELINE_ARGS, deserialize_json=True
        ),
        **settings,
    )
    dag_config = {
        "schedule": None,
        # A second attempt would find the artifacts of the first in ML Metadata, and fail on them.
        "default_args": {"retries": 0},
        # ML Metadata in a SQLite file takes one writer at a time.
        "max_active_runs": 1,
        "max_active_tasks": 1,
    }
    return AirflowDagRunner(AirflowPipelineConfig(airflow_dag_config=dag_config)).run(pipeline)


check_airflow(version("apache-airflow"))
dag = create_dag()
