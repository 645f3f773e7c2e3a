"""Whole pipelines with several models on LocalDagRunner, with ML Metadata read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing

from bulk_inferencer import BranchInferencer, CascadeInferencer, read_predictions
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.errors import GateError
from bulk_inferencer.results.compare import Comparison
from bulk_inferencer.results.summary import BranchSummary, StageCounts, Summary
from tests.helpers import example, features_of, read_tfrecord, tree
from tests.tfx_helpers import (
    custom_properties,
    examples_of,
    five_times,
    importer,
    save_model,
    scored,
    write_examples,
)

pytest_plugins = ("tests.tfx_fixtures",)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def ten_uri(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("ten"), factor=10.0)


@pytest.fixture
def nodes(examples_uri, model_uri, ten_uri, tmp_path):
    """Nodes for examples, for the models five and ten, and for a blessing of five."""
    Path(tmp_path, "blessing").mkdir()
    return {
        "examples": importer("examples", Examples, examples_uri, ["train", "unlabelled"]),
        "five": importer("five", Model, model_uri),
        "ten": importer("ten", Model, ten_uri),
        "blessing": importer(
            "blessing", ModelBlessing, tmp_path / "blessing", blessed=1, current_model=model_uri
        ),
    }


def result_of(node):
    return node.outputs["result"]


def branch_of(nodes, **arguments):
    return BranchInferencer(
        examples=result_of(nodes["examples"]),
        models={name: result_of(nodes[name]) for name in ("five", "ten")},
        **arguments,
    )


def cascade_of(nodes, stages, **arguments):
    return CascadeInferencer(
        examples=result_of(nodes["examples"]),
        models={stage.name: result_of(nodes[stage.name]) for stage in stages},
        stages=stages,
        **arguments,
    )


def column(output, name):
    return our.PredictOutput(
        output_columns=[our.PredictOutputCol(output_key=output, output_column=name)]
    )


def times_ten(*xs):
    return sorted((x, 10 * x) for x in xs)


def ids_of(artifacts):
    return ",".join(str(artifact.id) for artifact in artifacts)


# Branch


def test_every_model_has_a_result_of_its_own_and_they_are_compared(local_pipeline, nodes):
    branch = branch_of(
        nodes,
        model_blessings={"five": result_of(nodes["blessing"])},
        output_example_spec=our.OutputExampleSpec(
            output_columns_spec=[our.OutputColumnsSpec(predict_output=column("y", "times"))]
        ),
        comparison_spec=our.ComparisonSpec(key_features=["x"], most_different=2),
    )

    local_pipeline.run(*nodes.values(), branch)

    recorded = local_pipeline.latest("BranchInferencer")
    assert recorded.state == "COMPLETE"
    assert scored(recorded.output("five")) == five_times(0, 1, 2, 10, 11)
    assert scored(recorded.output("ten")) == times_ten(0, 1, 2, 10, 11)

    summary = BranchSummary.read(recorded.output("summary").uri)
    assert {name: of.gate for name, of in summary.models.items()} == {
        "five": "blessed",
        "ten": "no_blessing",
    }
    assert (summary.routing, summary.models["ten"].total.predictions_written) == ("all", 5)

    (path,) = Path(recorded.output("output_examples").uri, "Split-unlabelled").iterdir()
    assert [features_of(record) for record in read_tfrecord(path)] == [
        {"x": [10.0], "five/times": [50.0], "ten/times": [100.0]},
        {"x": [11.0], "five/times": [55.0], "ten/times": [110.0]},
    ]

    (pair,) = Comparison.read(recorded.output("comparison").uri).pairs
    y = pair.outputs["y"]
    assert (pair.models, y.records, y.max_absolute_difference) == (("five", "ten"), 5, 55.0)
    assert y.mean_absolute_difference == (0 + 5 + 10 + 50 + 55) / 5
    assert [different.keys for different in y.most_different] == [{"x": [11.0]}, {"x": [10.0]}]


def test_lineage_leads_from_each_model_to_its_result(local_pipeline, nodes):
    branch = branch_of(nodes, model_blessings={"five": result_of(nodes["blessing"])})

    local_pipeline.run(*nodes.values(), branch)

    recorded = local_pipeline.latest("BranchInferencer")
    assert set(recorded.inputs) == {"examples", "model_five", "model_ten", "blessing_five"}
    assert {"five", "ten"} <= set(recorded.outputs)
    for name in ("five", "ten"):
        properties = custom_properties(recorded.output(name))
        assert properties["model_name"] == name
        assert properties["model_id"] == ids_of(recorded.inputs[f"model_{name}"])
        assert properties["examples_ids"] == ids_of(recorded.inputs["examples"])
    five, ten = (custom_properties(recorded.output(name)) for name in ("five", "ten"))
    assert five["blessing_id"] == ids_of(recorded.inputs["blessing_five"])
    assert ten["blessing_id"] == ""
    assert (five["examples_read"], five["gate"], ten["gate"]) == (5, "blessed", "no_blessing")


def test_model_that_is_not_blessed_leaves_the_others_running(
    local_pipeline, nodes, ten_uri, tmp_path
):
    Path(tmp_path, "refusal").mkdir()
    refusal = importer(
        "refusal", ModelBlessing, tmp_path / "refusal", blessed=0, current_model=ten_uri
    )
    branch = branch_of(nodes, model_blessings={"ten": result_of(refusal)})

    local_pipeline.run(*nodes.values(), refusal, branch)

    recorded = local_pipeline.latest("BranchInferencer")
    assert scored(recorded.output("five")) == five_times(0, 1, 2, 10, 11)
    assert tree(recorded.output("ten").uri) == []
    assert custom_properties(recorded.output("ten"))["gate"] == "not_blessed"
    summary = BranchSummary.read(recorded.output("summary").uri)
    assert list(summary.scored) == ["five"]
    assert summary.models["ten"].gate_reason == (
        f"The model_blessing at {tmp_path / 'refusal'} says that the model is not blessed."
    )
    assert Comparison.read(recorded.output("comparison").uri) == Comparison()


def test_policy_to_fail_fails_the_branches(local_pipeline, nodes, ten_uri, tmp_path):
    Path(tmp_path, "refusal").mkdir()
    refusal = importer(
        "refusal", ModelBlessing, tmp_path / "refusal", blessed=0, current_model=ten_uri
    )
    branch = branch_of(
        nodes,
        model_blessings={"ten": result_of(refusal)},
        model_specs={"ten": our.ModelSpec(gate_policy=our.FAIL)},
    )

    with pytest.raises(GateError, match=r"^Model 'ten': The model_blessing at "):
        local_pipeline.run(*nodes.values(), refusal, branch)


def test_each_record_goes_to_one_model_and_outcomes_are_joined(local_pipeline, nodes, tmp_path):
    users = [f"user{i}" for i in range(100)]
    uri = write_examples(tmp_path / "in", all=[example(x=1.0, user=user) for user in users])
    outcomes = tmp_path / "outcomes.csv"
    outcomes.write_text("key,value\nuser1,1.0\nuser2,0.0\nuser3,1.0\nnobody,9.0\n")
    split = our.SplitRouting(weights={"five": 3, "ten": 1}, split_key="user", salt="1")
    branch = BranchInferencer(
        examples=result_of(given := importer("given", Examples, uri, ["all"])),
        models={name: result_of(nodes[name]) for name in ("five", "ten")},
        routing=our.Routing(split=split),
        output_example_spec=our.OutputExampleSpec(
            output_columns_spec=[our.OutputColumnsSpec(predict_output=column("y", "y"))]
        ),
        comparison_spec=our.ComparisonSpec(outcomes=str(outcomes)),
    )

    local_pipeline.run(given, nodes["five"], nodes["ten"], branch)

    recorded = local_pipeline.latest("BranchInferencer")
    user_of = {
        name: {
            features_of(p.record)["user"][0].decode()
            for p in read_predictions(recorded.output(name).uri)
        }
        for name in ("five", "ten")
    }
    assert user_of["five"] | user_of["ten"] == set(users)
    assert not user_of["five"] & user_of["ten"]

    (path,) = Path(recorded.output("output_examples").uri, "Split-all").iterdir()
    for record in read_tfrecord(path):
        features = features_of(record)
        variant = features["variant"][0].decode()
        assert features["user"][0].decode() in user_of[variant]
        assert features["y"] == [{"five": 5.0, "ten": 10.0}[variant]]

    found = Comparison.read(recorded.output("comparison").uri).outcomes
    for name, outcome in found.items():
        assert outcome.count == len(user_of[name] & {"user1", "user2", "user3"})
    assert sum(outcome.count * outcome.mean for outcome in found.values() if outcome.count) == 2.0


def test_lineage_of_a_cascade_keeps_the_places_of_its_stages(local_pipeline, nodes):
    stages = [our.StageSpec(name="ten"), our.StageSpec(name="five")]
    cascade = cascade_of(nodes, stages, model_blessings={"five": result_of(nodes["blessing"])})

    local_pipeline.run(*nodes.values(), cascade)

    recorded = local_pipeline.latest("CascadeInferencer")
    properties = custom_properties(recorded.output("inference_result"))
    ten, five = (ids_of(recorded.inputs[f"model_{name}"]) for name in ("ten", "five"))
    blessing = ids_of(recorded.inputs["blessing_five"])
    assert properties["model_name"] == "ten,five"
    assert (properties["model_id"], properties["blessing_id"]) == (f"{ten},{five}", f",{blessing}")


def test_saved_model_is_imported_as_a_model(local_pipeline, nodes, ten_uri):
    bare = importer("bare", Model, Path(ten_uri, "Format-Serving"))
    branch = BranchInferencer(
        examples=result_of(nodes["examples"]), models={"bare": result_of(bare)}
    )

    local_pipeline.run(nodes["examples"], bare, branch)

    recorded = local_pipeline.latest("BranchInferencer")
    assert scored(recorded.output("bare")) == times_ten(0, 1, 2, 10, 11)


# Cascade


def test_five_times_and_then_ten_times_is_fifty_times(local_pipeline, nodes):
    stages = [
        our.StageSpec(
            name="five",
            output_columns_spec=our.OutputColumnsSpec(predict_output=column("y", "x")),
        ),
        our.StageSpec(name="ten"),
    ]
    cascade = cascade_of(nodes, stages)

    local_pipeline.run(nodes["examples"], nodes["five"], nodes["ten"], cascade)

    recorded = local_pipeline.latest("CascadeInferencer")
    predictions = [
        (*features_of(p.record)["x"], *(p.outputs[n].item() for n in ("five/y", "ten/y", "y")))
        for p in read_predictions(recorded.output("inference_result").uri, "unlabelled")
    ]
    assert sorted(predictions) == [(10.0, 50.0, 500.0, 500.0), (11.0, 55.0, 550.0, 550.0)]
    properties = custom_properties(recorded.output("inference_result"))
    models = [*recorded.inputs["model_five"], *recorded.inputs["model_ten"]]
    assert properties["model_name"] == "five,ten"
    assert properties["model_id"] == ids_of(models)
    assert properties["signature_names"] == "five/serving_default,ten/serving_default"


def test_settled_records_are_not_seen_by_the_next_stage(local_pipeline, nodes):
    stages = [
        our.StageSpec(name="five", exit_when=[our.ExitWhen(output_key="y", at_least=50.0)]),
        our.StageSpec(name="ten"),
    ]
    cascade = cascade_of(
        nodes,
        stages,
        output_example_spec=our.OutputExampleSpec(
            output_columns_spec=[
                our.OutputColumnsSpec(predict_output=column("y", "y")),
                our.OutputColumnsSpec(predict_output=column("ten/y", "ten")),
            ]
        ),
    )

    local_pipeline.run(nodes["examples"], nodes["five"], nodes["ten"], cascade)

    recorded = local_pipeline.latest("CascadeInferencer")
    assert scored(recorded.output("inference_result")) == [
        *times_ten(0, 1, 2),
        *five_times(10, 11),
    ]
    summary = Summary.read(recorded.output("summary").uri)
    assert summary.stages == {"five": StageCounts(5, 2, 3), "ten": StageCounts(3, 3, 0)}
    examples = [
        features_of(record)
        for path in sorted(Path(recorded.output("output_examples").uri).glob("*/*"))
        for record in read_tfrecord(path)
    ]
    assert examples == [
        {"x": [0.0], "y": [0.0], "ten": [0.0]},
        {"x": [1.0], "y": [10.0], "ten": [10.0]},
        {"x": [2.0], "y": [20.0], "ten": [20.0]},
        {"x": [10.0], "y": [50.0]},
        {"x": [11.0], "y": [55.0]},
    ]


def test_failure_names_its_stage(local_pipeline, nodes, tmp_path):
    uri = write_examples(tmp_path / "in", all=[*examples_of(*range(200)), b"no tf.Example"])
    given = importer("given", Examples, uri, ["all"])
    cascade = CascadeInferencer(
        examples=result_of(given),
        models={name: result_of(nodes[name]) for name in ("five", "ten")},
        stages=[our.StageSpec(name="five"), our.StageSpec(name="ten")],
    )

    local_pipeline.run(given, nodes["five"], nodes["ten"], cascade)

    recorded = local_pipeline.latest("CascadeInferencer")
    summary = Summary.read(recorded.output("summary").uri)
    assert (summary.total.examples_read, summary.total.examples_failed) == (201, 1)
    (failure,) = failures_of(recorded.output("summary").uri, "all")
    assert failure["record"] == 200
    assert failure["reason"].startswith("InvalidArgumentError: Stage 'five': ")


def test_cascade_with_a_stage_that_is_not_blessed_scores_nothing(
    local_pipeline, nodes, ten_uri, tmp_path
):
    Path(tmp_path, "refusal").mkdir()
    refusal = importer(
        "refusal", ModelBlessing, tmp_path / "refusal", blessed=0, current_model=ten_uri
    )
    cascade = cascade_of(
        nodes,
        [our.StageSpec(name="five"), our.StageSpec(name="ten")],
        model_blessings={"five": result_of(nodes["blessing"]), "ten": result_of(refusal)},
    )

    local_pipeline.run(*nodes.values(), refusal, cascade)

    recorded = local_pipeline.latest("CascadeInferencer")
    assert tree(recorded.output("inference_result").uri) == []
    summary = Summary.read(recorded.output("summary").uri)
    assert (summary.gate, summary.splits) == ("not_blessed", {})
    assert summary.gate_reason == (
        f"Stage 'five': The model_blessing at {tmp_path / 'blessing'} blesses the model. Stage "
        f"'ten': The model_blessing at {tmp_path / 'refusal'} says that the model is not blessed."
    )


def failures_of(uri, split):
    import gzip

    text = gzip.decompress(Path(uri, f"failures-{split}.jsonl.gz").read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]
