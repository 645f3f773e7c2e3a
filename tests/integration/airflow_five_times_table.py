"""DAGs of the five times table in which something goes wrong: test_airflow.py runs them."""

from __future__ import annotations

from airflow.models import Variable
from airflow.operators.bash import BashOperator

from pipelines.airflow_dag import create_dag

not_blessed = create_dag("not_blessed", train_steps=1)

model_missing = create_dag("model_missing")
# Only in a run that asks for it: the next one finds what Evaluator blessed.
lose_model = BashOperator(
    task_id="lose_model",
    bash_command=(
        "{% if dag_run.conf.get('lose_model') %} mv Trainer/model/*/Format-Serving . {% endif %}"
    ),
    cwd=Variable.get("five_times_table_root") + "/artifacts/model_missing",
    dag=model_missing,
)
model_missing.get_task("Evaluator") >> lose_model >> model_missing.get_task("BulkInferencer")
