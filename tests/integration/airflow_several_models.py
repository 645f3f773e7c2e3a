"""DAGs with several models, on prepared artifacts: test_airflow.py runs them."""

from __future__ import annotations

import os
from functools import partial

from airflow.models import Variable
from tfx import v1 as tfx
from tfx.orchestration.airflow.airflow_dag_runner import AirflowDagRunner, AirflowPipelineConfig

from bulk_inferencer import BranchInferencer, CascadeInferencer
from pipelines.catalogue import BEAM_PIPELINE_ARGS
from tests.integration.checks import COMPARISON, STAGES, import_artifacts

ROOT = Variable.get("several_models_root")
SPLIT = Variable.get("several_models_split", default_var="unlabelled")


def create_dag(dag_id, *create_components):
    """Returns a DAG of components that take examples, the models five and ten, and a blessing."""
    nodes, arguments = import_artifacts(ROOT, SPLIT)
    metadata = os.path.join(ROOT, "metadata.sqlite")
    pipeline = tfx.dsl.Pipeline(
        pipeline_name=dag_id,
        pipeline_root=os.path.join(ROOT, "artifacts"),
        components=[*nodes, *(create(**arguments) for create in create_components)],
        metadata_connection_config=(
            tfx.orchestration.metadata.sqlite_metadata_connection_config(metadata)
        ),
        beam_pipeline_args=list(BEAM_PIPELINE_ARGS),
    )
    dag_config = {"schedule": None, "default_args": {"retries": 0}}
    return AirflowDagRunner(AirflowPipelineConfig(airflow_dag_config=dag_config)).run(pipeline)


create_branch = partial(BranchInferencer, **COMPARISON)
create_cascade = partial(CascadeInferencer, **STAGES)
branch = create_dag("branch", create_branch)
cascade = create_dag("cascade", create_cascade)
branch_and_cascade = create_dag("branch_and_cascade", create_branch, create_cascade)
