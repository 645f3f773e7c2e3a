"""DAGs with several models, on prepared artifacts: test_airflow.py runs them."""

from __future__ import annotations

import os
from functools import partial

from airflow.models import Variable
from tfx import v1 as tfx
from tfx.orchestration.airflow.airflow_dag_runner import AirflowDagRunner, AirflowPipelineConfig
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing

from bulk_inferencer import BranchInferencer, CascadeInferencer
from bulk_inferencer.bulk_inferencer_pb2 import DataSpec, ExitWhen, StageSpec
from pipelines.run_local import BEAM_PIPELINE_ARGS
from tests.tfx_helpers import importer

ROOT = Variable.get("several_models_root")
SPLIT = Variable.get("several_models_split", default_var="unlabelled")
# Five settles every y of at least 50; ten scores the rest.
STAGES = [
    StageSpec(name="five", exit_when=[ExitWhen(output_key="y", at_least=50.0)]),
    StageSpec(name="ten"),
]


def create_dag(dag_id, *create_components):
    """Returns a DAG of components that take examples, the models five and ten, and a blessing."""
    examples = importer("examples", Examples, os.path.join(ROOT, "examples"), ["unlabelled"])
    models = [importer(name, Model, os.path.join(ROOT, name)) for name in ("five", "ten")]
    blessing = importer(
        "blessing",
        ModelBlessing,
        os.path.join(ROOT, "blessing"),
        blessed=1,
        current_model=os.path.join(ROOT, "five"),
    )
    components = [
        create(
            examples=examples.outputs["result"],
            models={model.id: model.outputs["result"] for model in models},
            model_blessings={"five": blessing.outputs["result"]},
            data_spec=DataSpec(example_splits=[SPLIT]),
        )
        for create in create_components
    ]
    metadata = os.path.join(ROOT, "metadata.sqlite")
    pipeline = tfx.dsl.Pipeline(
        pipeline_name=dag_id,
        pipeline_root=os.path.join(ROOT, "artifacts"),
        components=[examples, *models, blessing, *components],
        metadata_connection_config=(
            tfx.orchestration.metadata.sqlite_metadata_connection_config(metadata)
        ),
        beam_pipeline_args=list(BEAM_PIPELINE_ARGS),
    )
    dag_config = {"schedule": None, "default_args": {"retries": 0}}
    return AirflowDagRunner(AirflowPipelineConfig(airflow_dag_config=dag_config)).run(pipeline)


create_cascade = partial(CascadeInferencer, stages=STAGES)
branch = create_dag("branch", BranchInferencer)
cascade = create_dag("cascade", create_cascade)
branch_and_cascade = create_dag("branch_and_cascade", BranchInferencer, create_cascade)
