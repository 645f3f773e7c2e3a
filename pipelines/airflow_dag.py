"""The five times table as a DAG of Airflow 2: docs/airflow.md says how to run it.

Airflow finds it in a DAG folder that holds this file or a link to it. Two Airflow Variables say
what differs between environments:

    five_times_table_root   folder with the data; artifacts and ML Metadata are written there
    beam_pipeline_args      options of the Beam jobs, as a JSON list
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pipelines.catalogue import BEAM_PIPELINE_ARGS, PIPELINES

if TYPE_CHECKING:
    from airflow import DAG


_AIRFLOW = version("apache-airflow")
if not (2, 10) <= tuple(map(int, _AIRFLOW.split(".")[:2])) < (3, 0):
    raise ImportError(
        f"This pipeline needs Airflow 2.10 or newer, but below 3, not Airflow {_AIRFLOW}: TFX "
        "imports modules that Airflow 3 no longer has. Install 'apache-airflow>=2.10,<3'."
    )


def create_dag(pipeline_name: str = "five_times_table", **settings: Any) -> DAG:
    """Returns the DAG of the five times table.

    Args:
      pipeline_name: id of the DAG, and name of the pipeline in ML Metadata.
      **settings: further arguments of `create_pipeline`.
    """
    from airflow.configuration import AIRFLOW_HOME
    from airflow.models import Variable
    from tfx import v1 as tfx
    from tfx.orchestration.airflow.airflow_dag_runner import AirflowDagRunner, AirflowPipelineConfig

    root = Variable.get(
        "five_times_table_root", default_var=os.path.join(AIRFLOW_HOME, "five_times_table")
    )
    metadata = os.path.join(root, "metadata.sqlite")
    connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(metadata)
    beam_pipeline_args = Variable.get(
        "beam_pipeline_args", default_var=BEAM_PIPELINE_ARGS, deserialize_json=True
    )
    example = PIPELINES["five_times_table"].load()
    pipeline = example.create_pipeline(
        pipeline_name=pipeline_name,
        pipeline_root=os.path.join(root, "artifacts", pipeline_name),
        data_root=os.path.join(root, "data", "labelled"),
        inference_data_root=os.path.join(root, "data", "unlabelled"),
        enable_cache=True,  # A new run repeats only what failed.
        metadata_connection_config=connection,
        beam_pipeline_args=list(beam_pipeline_args),
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


dag = create_dag()
