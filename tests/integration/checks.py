"""What every orchestrator has to bring about, and prepared artifacts for several models."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bulk_inferencer import Comparison, Summary, read_predictions
from bulk_inferencer.bulk_inferencer_pb2 import ComparisonSpec, DataSpec, ExitWhen, StageSpec
from bulk_inferencer.results.summary import StageCounts
from tests.components.tfx_helpers import (
    Nodes,
    examples_of,
    save_model,
    scored,
    times,
    write_examples,
)
from tests.helpers import features_of

COMPONENTS = (
    *("CsvExampleGen", "InferenceExampleGen", "StatisticsGen", "SchemaGen"),
    *("Trainer", "Evaluator", "BulkInferencer"),
)
COUNTS = ("examples_read", "predictions_written", "examples_failed")
XS = (1, 2, 10, 11)
# Settings of the inferencers. In the cascade, five settles every y of at least 50, ten the rest.
COMPARISON = {"comparison_spec": ComparisonSpec(key_features=["x"])}
STAGES = {
    "stages": [
        StageSpec(name="five", exit_when=[ExitWhen(output_key="y", at_least=50.0)]),
        StageSpec(name="ten"),
    ]
}


def check_five_times_table(uri, properties, data):
    """Checks predictions, and what their artifact says of them."""
    predictions = [
        (*features_of(p.record)["x"], p.outputs["y"].item())
        for p in read_predictions(uri, "unlabelled")
    ]
    assert sorted(x for x, _ in predictions) == pytest.approx(data.xs)
    # 1 % of the range of y, as in the pipeline's own report.
    assert max(abs(y - 5 * x) for x, y in predictions) <= 0.01 * 5 * 200
    values = [properties[name] for name in ("gate", *COUNTS)]
    assert values == ["blessed", data.records, data.records, 0]


def write_artifacts(folder):
    """Writes examples and the models five and ten."""
    write_examples(folder / "examples", unlabelled=examples_of(*XS))
    save_model(folder / "five")
    save_model(folder / "ten", factor=10.0)


def import_artifacts(folder, split="unlabelled"):
    """Returns nodes for the artifacts, and the arguments of an inferencer that takes them."""
    uris = (os.path.join(folder, name) for name in ("examples", "five", "ten"))
    nodes = Nodes(Path(folder), *uris)
    settings = {"data_spec": DataSpec(example_splits=[split])}
    blessings = {"model_blessings": {"five": nodes["blessing"]}}
    return list(nodes.all.values()), {**nodes.several(), **blessings, **settings}


def check_branch(output):
    """Checks what BranchInferencer made, given a function from an output's name to its artifact."""
    assert scored(output("five")) == times(5, *XS)
    assert scored(output("ten")) == times(10, *XS)
    branches = Summary.read(output("summary").uri).branches
    gates = {name: branch.gate.verdict for name, branch in branches.items()}
    assert gates == {"five": "blessed", "ten": "no_blessing"}
    (pair,) = Comparison.read(output("comparison").uri).pairs
    assert (pair.models, pair.outputs["y"].max_absolute_difference) == (("five", "ten"), 55.0)


def check_cascade(output):
    """Checks what CascadeInferencer made."""
    assert scored(output("inference_result")) == sorted([*times(10, 1, 2), *times(5, 10, 11)])
    (summary,) = Summary.read(output("summary").uri).branches.values()
    assert summary.stages == {"five": StageCounts(4, 2, 2), "ten": StageCounts(2, 2, 0)}
