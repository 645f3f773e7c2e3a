"""A model of scikit-learn in a pipeline: trained by a Trainer, scored with `load_model`."""

from __future__ import annotations

import pandas as pd
import pytest
from tfx import v1 as tfx
from tfx.proto import example_gen_pb2

from bulk_inferencer import BulkInferencer, read_predictions
from bulk_inferencer import bulk_inferencer_pb2 as our
from tests.components.tfx_helpers import (
    LocalPipeline,
    custom_properties,
    summary_of,
    table_of,
)

# Trainer and BulkInferencer share the module, as an author would have it.
MODULE = """
import glob
import os

import joblib
import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression


def run_fn(fn_args):
    files = [file for pattern in fn_args.train_files for file in glob.glob(pattern)]
    rows = pd.concat(map(pd.read_parquet, files))
    os.makedirs(fn_args.serving_model_dir)
    model = LinearRegression().fit(rows[["a", "b"]].to_numpy(), rows["label"])
    joblib.dump(model, os.path.join(fn_args.serving_model_dir, "model.joblib"))


def load_model(path):
    model = joblib.load(os.path.join(path, "model.joblib"))

    def predict(features):
        return {"y": model.predict(np.column_stack([features["a"], features["b"]]))}

    return predict
"""


def example_gen(rows, folder, output):
    """Returns what makes Parquet examples of a table."""
    folder.mkdir()
    rows.to_parquet(folder / "rows.parquet")
    return tfx.components.ImportExampleGen(
        input_base=str(folder),
        output_config=output,
        payload_format=example_gen_pb2.PayloadFormat.FORMAT_PARQUET,
    ).with_id(f"ExampleGen_{folder.name}")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Runs the pipeline; returns what is recorded of a node."""
    folder = tmp_path_factory.mktemp("python_models")
    (folder / "user_model.py").write_text(MODULE)
    train = pd.DataFrame({"a": range(20), "b": [i * i % 7 for i in range(20)]})
    train["label"] = 5.0 * train["a"] + 10 * train["b"]
    unlabelled = pd.DataFrame({"id": ["u", "v", "w"], "a": [1, 2, None], "b": [0, 1, 2]})
    one_split = [tfx.proto.SplitConfig.Split(name="unlabelled", hash_buckets=1)]
    split = tfx.proto.Output(split_config=tfx.proto.SplitConfig(splits=one_split))
    labelled, inference = (
        example_gen(rows, folder / name, output)
        for name, rows, output in (("train", train, None), ("unlabelled", unlabelled, split))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNSUPPORTED_DO_NOT_PACKAGE_USER_MODULES", "1")
        trainer = tfx.components.Trainer(
            examples=labelled.outputs["examples"],
            module_file=str(folder / "user_model.py"),
            train_args=tfx.proto.TrainArgs(),
            eval_args=tfx.proto.EvalArgs(),
        )
        inferencer = BulkInferencer(
            examples=inference.outputs["examples"],
            model_export=trainer.outputs["model"],
            data_spec=our.DataSpec(
                example_splits=["unlabelled"],
                failure_limit=our.FailureLimit(max_count=1, max_fraction=1),
            ),
            module_file=folder / "user_model.py",
            table_spec=our.TableSpec(keep=["id"]),
        )
        pipeline = LocalPipeline(folder)
        pipeline.run(labelled, inference, trainer, inferencer)
    return pipeline.latest


@pytest.mark.slow
def test_model_of_scikit_learn_scores_parquet_into_a_table_and_logs(recorded):
    node = recorded("BulkInferencer")
    expected = pytest.approx([5, 20])
    assert table_of(node.output("prediction_table")) == {"id": ["u", "v"], "y": expected}
    result = node.output()
    logged = [p.outputs["y"].item() for p in read_predictions(result.uri)]
    assert logged == expected
    properties = custom_properties(result)
    assert (properties["gate"], properties["examples_failed"]) == ("no_blessing", 1)
    # Like that of any other model, over the files that the Trainer wrote.
    (model,) = node.inputs["model"]
    path = summary_of(node.output("summary")).model_path
    assert path == f"{model.uri}/Format-Serving"
    assert properties["model_fingerprint"] != ""
