"""Whole pipelines on LocalDagRunner, with ML Metadata read back by ml_metadata."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tfx import v1 as tfx
from tfx.types import Channel, channel_utils
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing

from bulk_inferencer import BulkInferencer
from bulk_inferencer.bulk_inferencer_pb2 import (
    FAIL,
    IGNORE,
    BatchSpec,
    DataSpec,
    FailureLimit,
    ModelSpec,
    OutputColumnsSpec,
    OutputExampleSpec,
    PredictOutput,
    PredictOutputCol,
)
from bulk_inferencer.errors import GateError, InputError
from tests.helpers import example, features_of, read_tfrecord, tree
from tests.tfx_helpers import (
    custom_properties,
    examples_of,
    five_times,
    importer,
    scored,
    write_examples,
)

pytest_plugins = ("tests.tfx_fixtures",)
pytestmark = pytest.mark.slow

LatestArtifactStrategy = tfx.dsl.experimental.LatestArtifactStrategy
LatestBlessedModelStrategy = tfx.dsl.experimental.LatestBlessedModelStrategy


@pytest.fixture
def new_examples(examples_uri):
    """Makes a node for each pipeline: TFX warns of one that is in two."""
    return lambda: importer("examples", Examples, examples_uri, ["train", "unlabelled"])


@pytest.fixture
def new_model(model_uri):
    return lambda: importer("model", Model, model_uri)


@pytest.fixture
def examples(new_examples):
    return new_examples()


@pytest.fixture
def model(new_model):
    return new_model()


@pytest.fixture
def new_blessing(tmp_path):
    folder = tmp_path / "blessing"
    folder.mkdir()
    return lambda **properties: importer("blessing", ModelBlessing, folder, **properties)


def result_of(node):
    return node.outputs["result"]


def inferencer(examples, model, **arguments):
    return BulkInferencer(examples=result_of(examples), model_export=result_of(model), **arguments)


def summary_of(recorded):
    return json.loads(Path(recorded.output("summary").uri, "summary.json").read_text())


def y_as(name):
    column = PredictOutputCol(output_key="y", output_column=name)
    predict = PredictOutput(output_columns=[column])
    return OutputExampleSpec(output_columns_spec=[OutputColumnsSpec(predict_output=predict)])


# What is recorded


def test_result_and_its_properties_are_recorded(local_pipeline, examples, model):
    component = inferencer(examples, model, data_spec=DataSpec(example_splits=["unlabelled"]))

    local_pipeline.run(examples, model, component)

    recorded = local_pipeline.latest()
    result = recorded.output("inference_result")
    properties = custom_properties(result)
    assert recorded.state == "COMPLETE"
    assert scored(result) == five_times(10, 11)
    assert {
        "examples_read": 2,
        "predictions_written": 2,
        "examples_failed": 0,
        "gate": "no_blessing",
        "model_fingerprint": summary_of(recorded)["model_fingerprint"],
        "signature_names": "serving_default",
    }.items() <= properties.items()


def test_other_outputs_are_recorded(local_pipeline, examples, model):
    component = inferencer(examples, model, output_example_spec=y_as("y5"))

    local_pipeline.run(examples, model, component)

    recorded = local_pipeline.latest()
    assert recorded.outputs.keys() == {
        "inference_result",
        "summary",
        "failed_examples",
        "output_examples",
    }
    assert recorded.output("summary").type == "bulk_inferencer.InferenceSummary"
    for key in ("failed_examples", "output_examples"):
        made = recorded.output(key)
        assert made.properties["split_names"].string_value == '["train", "unlabelled"]'
        assert custom_properties(made)["payload_format"] == "FORMAT_TF_EXAMPLE"


def test_settings_are_recorded_as_json(local_pipeline, examples, model):
    component = inferencer(examples, model, data_spec=DataSpec(example_splits=["train"]))

    local_pipeline.run(examples, model, component)

    properties = local_pipeline.latest().properties
    assert json.loads(properties["data_spec"]) == {"example_splits": ["train"]}
    assert json.loads(properties["model_spec"]) == {}


def test_failed_component_is_recorded_and_leaves_no_files(
    local_pipeline, examples, model, tmp_path
):
    component = inferencer(examples, model, data_spec=DataSpec(example_splits=["eval"]))

    with pytest.raises(InputError, match="Split 'eval' not found in the examples"):
        local_pipeline.run(examples, model, component)

    recorded = local_pipeline.latest()
    assert recorded.state == "FAILED"
    assert recorded.outputs == {}
    assert tree(tmp_path / "artifacts" / "BulkInferencer") == []


def test_run_after_a_failed_one_has_folders_of_its_own(
    local_pipeline, new_examples, new_model, tmp_path
):
    def run(splits):
        examples, model = new_examples(), new_model()
        data_spec = DataSpec(example_splits=splits)
        component = inferencer(examples, model, data_spec=data_spec)
        local_pipeline.run(examples, model, component, enable_cache=True)

    with pytest.raises(InputError):
        run(["unlabelled", "eval"])
    run(["unlabelled"])

    recorded = local_pipeline.latest()
    assert recorded.state == "COMPLETE"
    assert scored(recorded.output("inference_result")) == five_times(10, 11)
    results = tmp_path / "artifacts" / "BulkInferencer" / "inference_result"
    latest = Path(recorded.output("inference_result").uri)
    assert tree(results) == [f"{latest.name}/{file}" for file in tree(latest)]


# The gate


def test_blessed_model_is_scored_with(local_pipeline, examples, model, new_blessing, model_uri):
    blessing = new_blessing(blessed=1, current_model=model_uri)
    component = inferencer(examples, model, model_blessing=result_of(blessing))

    local_pipeline.run(examples, model, blessing, component)

    result = local_pipeline.latest().output("inference_result")
    assert custom_properties(result)["gate"] == "blessed"
    assert scored(result) == five_times(0, 1, 2, 10, 11)


def test_blessing_for_the_id_of_the_model_counts(local_pipeline, examples, new_model, new_blessing):
    local_pipeline.run(new_model())
    model_id = local_pipeline.latest("model").output("result").id
    model, blessing = new_model(), new_blessing(blessed=1, current_model_id=model_id)
    component = inferencer(examples, model, model_blessing=result_of(blessing))

    local_pipeline.run(examples, model, blessing, component)

    result = local_pipeline.latest().output("inference_result")
    assert custom_properties(result)["gate"] == "blessed"


def test_model_that_is_not_blessed_is_skipped_and_recorded(
    local_pipeline, examples, model, new_blessing
):
    blessing = new_blessing(blessed=0)
    component = inferencer(examples, model, model_blessing=result_of(blessing))

    local_pipeline.run(examples, model, blessing, component)

    recorded = local_pipeline.latest()
    result = recorded.output("inference_result")
    properties = custom_properties(result)
    assert recorded.state == "COMPLETE"
    assert properties["gate"] == "not_blessed"
    assert [properties[name] for name in ("examples_read", "predictions_written")] == [0, 0]
    assert tree(result.uri) == []
    assert summary_of(recorded)["gate"] == "not_blessed"


def test_policy_fail_fails_the_pipeline(local_pipeline, examples, model, new_blessing):
    blessing = new_blessing(blessed=0)
    component = inferencer(
        examples,
        model,
        model_blessing=result_of(blessing),
        model_spec=ModelSpec(gate_policy=FAIL),
    )

    with pytest.raises(GateError, match=r"says that the model is not blessed\. Nothing was scored"):
        local_pipeline.run(examples, model, blessing, component)

    assert local_pipeline.latest().state == "FAILED"


def test_policy_ignore_scores_and_records_not_blessed(
    local_pipeline, examples, model, new_blessing
):
    blessing = new_blessing(blessed=0)
    component = inferencer(
        examples,
        model,
        model_blessing=result_of(blessing),
        model_spec=ModelSpec(gate_policy=IGNORE),
    )

    local_pipeline.run(examples, model, blessing, component)

    result = local_pipeline.latest().output("inference_result")
    assert custom_properties(result)["gate"] == "not_blessed"
    assert scored(result) == five_times(0, 1, 2, 10, 11)


# Where artifacts come from


def test_channels_in_a_list_are_all_scored(local_pipeline, model, tmp_path):
    # One split in each and one in both.
    first, second = (
        importer(
            name,
            Examples,
            write_examples(tmp_path / name, shared=examples_of(x), **{name: examples_of(x + 1)}),
            ["shared", name],
        )
        for name, x in (("first", 10), ("second", 20))
    )
    component = BulkInferencer(
        examples=[result_of(first), result_of(second)], model_export=result_of(model)
    )

    local_pipeline.run(first, second, model, component)

    recorded = local_pipeline.latest()
    assert scored(recorded.output("inference_result")) == five_times(10, 11, 20, 21)
    assert {s: c["examples_read"] for s, c in summary_of(recorded)["splits"].items()} == {
        "shared": 2,
        "first": 1,
        "second": 1,
    }


def test_several_artifacts_of_one_channel_are_all_scored(local_pipeline, model, tmp_path):
    uris = [write_examples(tmp_path / str(x), a=examples_of(x)) for x in (1, 2)]
    sources = [importer(f"source_{i}", Examples, uri, ["a"]) for i, uri in enumerate(uris)]
    union = channel_utils.union([result_of(source) for source in sources])
    component = BulkInferencer(examples=union, model_export=result_of(model))

    local_pipeline.run(*sources, model, component)

    assert scored(local_pipeline.latest().output("inference_result")) == five_times(1, 2)


def test_pushed_model_of_a_pusher_is_scored_with(local_pipeline, examples, model, tmp_path):
    pusher = tfx.components.Pusher(
        model=result_of(model),
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=str(tmp_path / "pushed"))
        ),
    )
    component = BulkInferencer(
        examples=result_of(examples), model_export=pusher.outputs["pushed_model"]
    )

    local_pipeline.run(examples, model, pusher, component)

    assert scored(local_pipeline.latest().output("inference_result")) == five_times(0, 1, 2, 10, 11)


def test_examples_and_model_of_resolvers_are_scored(local_pipeline, examples, model):
    local_pipeline.run(examples, model)
    resolver = tfx.dsl.Resolver(
        strategy_class=LatestArtifactStrategy,
        examples=Channel(type=Examples),
        model=Channel(type=Model),
    ).with_id("latest")
    component = BulkInferencer(
        examples=resolver.outputs["examples"], model_export=resolver.outputs["model"]
    )

    local_pipeline.run(resolver, component)

    assert scored(local_pipeline.latest().output("inference_result")) == five_times(0, 1, 2, 10, 11)


def latest_blessed_model():
    return tfx.dsl.Resolver(
        strategy_class=LatestBlessedModelStrategy,
        model=Channel(type=Model),
        model_blessing=Channel(type=ModelBlessing),
    ).with_id("latest_blessed_model")


def test_latest_blessed_model_of_a_resolver_is_scored_with(
    local_pipeline, examples, model, other_model_uri, new_blessing
):
    local_pipeline.run(model)
    model_id = local_pipeline.latest("model").output("result").id
    blessing = new_blessing(blessed=1, current_model_id=model_id)
    later_model = importer("later_model", Model, other_model_uri)
    local_pipeline.run(blessing, later_model)
    resolver = latest_blessed_model()
    component = BulkInferencer(
        examples=result_of(examples),
        model_export=resolver.outputs["model"],
        model_blessing=resolver.outputs["model_blessing"],
    )

    local_pipeline.run(examples, resolver, component)

    result = local_pipeline.latest().output("inference_result")
    assert custom_properties(result)["gate"] == "blessed"
    assert scored(result) == five_times(0, 1, 2, 10, 11)


def test_resolver_that_finds_no_blessed_model_lets_nothing_be_scored(
    local_pipeline, examples, model
):
    local_pipeline.run(model)
    resolver = latest_blessed_model()
    component = BulkInferencer(
        examples=result_of(examples),
        model_export=resolver.outputs["model"],
        model_blessing=resolver.outputs["model_blessing"],
    )

    # LocalDagRunner goes on where a node's inputs cannot be resolved.
    local_pipeline.run(examples, resolver, component)

    recorded = local_pipeline.latest()
    assert recorded.state == "FAILED"
    assert "inputs[model] has min_count = 1" in recorded.properties["__execution_result__"]
    assert recorded.outputs == {}


@pytest.mark.parametrize("strategy", [LatestBlessedModelStrategy, LatestArtifactStrategy])
def test_resolver_that_finds_no_blessing_closes_the_gate(local_pipeline, examples, model, strategy):
    channels = {"model_blessing": Channel(type=ModelBlessing)}
    if strategy is LatestBlessedModelStrategy:
        channels["model"] = Channel(type=Model)
    resolver = tfx.dsl.Resolver(strategy_class=strategy, **channels).with_id("latest")
    component = inferencer(examples, model, model_blessing=resolver.outputs["model_blessing"])

    local_pipeline.run(examples, model, resolver, component)

    recorded = local_pipeline.latest()
    assert recorded.state == "COMPLETE"
    assert custom_properties(recorded.output("inference_result"))["gate"] == "not_blessed"
    assert tree(recorded.output("inference_result").uri) == []
    assert summary_of(recorded)["gate_reason"] == (
        "Expected a model_blessing, got none: its channel holds no artifact."
    )


# Where artifacts go


def test_failed_examples_feed_another_component(local_pipeline, model, tmp_path):
    records = [*examples_of(1), example(name="no x")]
    uri = write_examples(tmp_path / "mixed", a=records)
    examples = importer("examples", Examples, uri, ["a"])
    any_may_fail = DataSpec(failure_limit=FailureLimit(max_fraction=1))
    first = inferencer(examples, model, data_spec=any_may_fail).with_id("First")
    second = BulkInferencer(
        examples=first.outputs["failed_examples"],
        model_export=result_of(model),
        model_spec=ModelSpec(model_signature_name=["length"]),
    ).with_id("Second")

    local_pipeline.run(examples, model, first, second)

    counts = {
        name: custom_properties(local_pipeline.latest(name).output("inference_result"))
        for name in ("First", "Second")
    }
    assert [counts["First"][name] for name in ("examples_read", "examples_failed")] == [2, 1]
    assert [counts["Second"][name] for name in ("examples_read", "examples_failed")] == [1, 0]


def test_output_examples_feed_another_component(local_pipeline, examples, model):
    first = inferencer(examples, model, output_example_spec=y_as("first")).with_id("First")
    second = BulkInferencer(
        examples=first.outputs["output_examples"],
        model_export=result_of(model),
        output_example_spec=y_as("second"),
        data_spec=DataSpec(example_splits=["unlabelled"]),
    ).with_id("Second")

    local_pipeline.run(examples, model, first, second)

    uri = local_pipeline.latest("Second").output("output_examples").uri
    records = read_tfrecord(f"{uri}/Split-unlabelled/examples-00000-of-00001.gz")
    assert [features_of(record) for record in records] == [
        {"x": [10], "first": [50], "second": [50]},
        {"x": [11], "first": [55], "second": [55]},
    ]


# Runtime parameters and caching


def test_runtime_parameters_are_resolved(local_pipeline, examples, model):
    def parameter(name, json):
        return tfx.dsl.experimental.RuntimeParameter(name, ptype=str, default=json)

    component = inferencer(
        examples,
        model,
        data_spec=parameter("splits", '{"example_splits": ["unlabelled"]}'),
        model_spec=parameter("model", '{"batch": {"max_records": 1}}'),
        output_example_spec=parameter(
            "columns",
            '{"output_columns_spec": [{"predict_output": {"output_columns": '
            '[{"output_key": "y", "output_column": "y5"}]}}]}',
        ),
    )

    local_pipeline.run(examples, model, component)

    recorded = local_pipeline.latest()
    assert scored(recorded.output("inference_result")) == five_times(10, 11)
    assert tree(recorded.output("output_examples").uri) == [
        "Split-unlabelled/examples-00000-of-00001.gz"
    ]


@pytest.fixture
def run_cached(local_pipeline, new_examples, new_model):
    """Runs a pipeline with caching and returns what is recorded."""

    def run(max_records):
        examples, model = new_examples(), new_model()
        spec = ModelSpec(batch=BatchSpec(max_records=max_records))
        component = inferencer(examples, model, model_spec=spec)
        local_pipeline.run(examples, model, component, enable_cache=True)
        return local_pipeline.latest()

    return run


def test_run_with_nothing_changed_is_cached(run_cached):
    first, second = run_cached(max_records=1), run_cached(max_records=1)

    assert (first.state, second.state) == ("COMPLETE", "CACHED")
    assert second.output("inference_result").id == first.output("inference_result").id


def test_run_with_another_model_spec_is_not_cached(run_cached):
    first, second = run_cached(max_records=1), run_cached(max_records=2)

    assert (first.state, second.state) == ("COMPLETE", "COMPLETE")
    assert second.output("inference_result").id != first.output("inference_result").id
