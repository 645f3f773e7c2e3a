"""Whole pipelines on LocalDagRunner, with ML Metadata read back by ml_metadata.

One pipeline runs many components once; each test looks at what is recorded of some of them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from google.protobuf import json_format
from tfx import v1 as tfx
from tfx.dsl.placeholder import placeholder as ph
from tfx.proto import bulk_inferrer_pb2
from tfx.types import Channel, channel_utils
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing

from bulk_inferencer import Comparison, Summary, _gate, read_predictions
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.errors import GateError, InputError
from bulk_inferencer.results.summary import StageCounts
from tests.components.tfx_helpers import (
    UNLABELLED,
    LocalPipeline,
    Nodes,
    columns_of,
    columns_spec,
    custom_properties,
    examples_of,
    five_times,
    importer,
    parameter,
    scored,
    summary_of,
    times,
    write_examples,
)
from tests.helpers import example, features_of, read_tfrecord, tree
from tests.models import model_server

pytestmark = pytest.mark.slow

USERS = [f"user{i}" for i in range(100)]


@pytest.fixture
def local_pipeline(tmp_path):
    return LocalPipeline(tmp_path)


@pytest.fixture
def new_nodes(tmp_path, uris):
    return lambda: Nodes(tmp_path, **uris)


@pytest.fixture
def run_bulk(local_pipeline, new_nodes):
    """Runs a BulkInferencer with the cache; returns what is recorded of it."""

    def run(**arguments):
        nodes = new_nodes()
        nodes.bulk(**arguments)
        local_pipeline.run(*nodes.all.values(), enable_cache=True)
        return local_pipeline.latest()

    return run


def ids_of(artifacts):
    return ",".join(str(artifact.id) for artifact in artifacts)


def examples_in(artifact, split="unlabelled"):
    (path,) = Path(artifact.uri, f"Split-{split}").iterdir()
    return [features_of(record) for record in read_tfrecord(path)]


# One model


@pytest.fixture(scope="module")
def bulk(tmp_path_factory, uris):
    """Runs BulkInferencers once; returns what is recorded of a node."""
    folder = tmp_path_factory.mktemp("bulk")
    nodes = Nodes(folder, **uris)
    blessed = nodes.bulk(
        "Blessed",
        model_blessing=nodes["blessing"],
        data_spec=UNLABELLED,
        output_example_spec=columns_spec(first="y"),
    )
    nodes.bulk(
        "Again",
        examples=blessed.outputs["output_examples"],
        output_example_spec=columns_spec(second="y"),
    )
    signatures, batch = ["serving_default", "length"], our.BatchSpec(max_records=1)
    x_is_y = [columns_of("serving_default", x="y")]
    settings = {
        "data_spec": our.DataSpec(example_splits=["unlabelled"], compression="NONE"),
        "model_spec": our.ModelSpec(model_signature_name=signatures, batch=batch),
        "output_example_spec": our.OutputExampleSpec(
            output_columns_spec=x_is_y, replace_features=True
        ),
        "table_spec": our.TableSpec(format="CSV", keep_none=True),
    }
    as_json = {n: json_format.MessageToJson(spec, indent=None) for n, spec in settings.items()}
    nodes.bulk("Parameters", **{n: parameter(text, n) for n, text in as_json.items()})
    entry = [json_format.MessageToDict(columns_of(PLACE="y"))]
    before, after = json.dumps({"output_columns_spec": entry}).split("PLACE")
    nodes.bulk(
        "Placeholders",
        data_spec=ph.make_proto(bulk_inferrer_pb2.DataSpec(example_splits=["unlabelled"])),
        model_spec={"batch": {"max_records": 1}},
        output_example_spec=before + ph.execution_invocation().pipeline_info.id + after,
    )
    pushed = tfx.proto.PushDestination(filesystem={"base_directory": str(folder / "pushed")})
    pusher = nodes.add(tfx.components.Pusher(model=nodes["five"], push_destination=pushed))
    nodes.bulk("Pushed", model_export=pusher.outputs["pushed_model"])
    # One split in each and one in both.
    for name, x in (("first", 10), ("second", 20)):
        splits = {"shared": examples_of(x), name: examples_of(x + 1)}
        uri = write_examples(folder / name, **splits)
        nodes.add(importer(name, Examples, uri, list(splits)))
    sources = [nodes["first"], nodes["second"]]
    nodes.bulk("Listed", examples=sources)
    nodes.bulk("Union", examples=channel_utils.union(sources))
    return nodes.run()


def test_outputs_their_lineage_and_settings_are_recorded(bulk):
    recorded = bulk("Blessed")

    assert recorded.state == "COMPLETE"
    assert scored(recorded.output()) == five_times(10, 11)
    properties = custom_properties(recorded.output())
    assert (properties["gate"], properties["examples_read"]) == ("blessed", 2)
    assert properties["model_id"] == ids_of(recorded.inputs["model"])
    assert properties["blessing_id"] == ids_of(recorded.inputs["model_blessing"])
    assert properties["examples_ids"] == ids_of(recorded.inputs["examples"])
    examples = ("failed_examples", "output_examples")
    assert recorded.outputs.keys() == {"inference_result", "summary", *examples}
    assert recorded.output("summary").type == "bulk_inferencer.InferenceSummary"
    for key in examples:
        made = recorded.output(key)
        assert made.properties["split_names"].string_value == '["unlabelled"]'
        assert custom_properties(made)["payload_format"] == "FORMAT_TF_EXAMPLE"
    assert json.loads(recorded.properties["data_spec"]) == {"example_splits": ["unlabelled"]}
    assert json.loads(recorded.properties["model_spec"]) == {}


def test_runtime_parameters_are_resolved_and_reach_the_job(bulk):
    recorded = bulk("Parameters")
    assert tree(recorded.output().uri) == ["prediction_logs-unlabelled-00000-of-00001"]
    for prediction in read_predictions(recorded.output().uri):
        assert prediction.outputs.keys() == {"serving_default/y", "length/length"}
        assert prediction.outputs["length/length"] == len(prediction.record)
    signatures = custom_properties(recorded.output())["signature_names"]
    assert signatures == "serving_default,length"
    assert summary_of(recorded.output("summary")).work.batches == 2
    assert examples_in(recorded.output("output_examples")) == [{"x": [50]}, {"x": [55]}]
    (table,) = Path(recorded.output("prediction_table").uri).iterdir()
    assert table.read_text().splitlines()[0] == '"serving_default/y","length/length"'


def test_placeholders_and_dicts_reach_the_job_too(bulk):
    recorded = bulk("Placeholders")
    assert scored(recorded.output()) == five_times(10, 11)
    assert summary_of(recorded.output("summary")).work.batches == 2
    columns = [{"x": [10], "pipeline": [50]}, {"x": [11], "pipeline": [55]}]
    assert examples_in(recorded.output("output_examples")) == columns


def test_pushed_model_of_a_pusher_is_scored_with(bulk):
    assert scored(bulk("Pushed").output()) == five_times(0, 1, 2, 10, 11)


def test_channels_in_a_list_or_union_are_all_scored(bulk):
    for recorded in (bulk("Listed"), bulk("Union")):
        assert scored(recorded.output()) == five_times(10, 11, 20, 21)
        splits = summary_of(recorded.output("summary")).splits
        read = {split: counts.examples_read for split, counts in splits.items()}
        assert read == {"shared": 2, "first": 1, "second": 1}


def test_output_examples_feed_another_component(bulk):
    assert examples_in(bulk("Again").output("output_examples")) == [
        {"x": [10], "first": [50], "second": [50]},
        {"x": [11], "first": [55], "second": [55]},
    ]


# Failures and the cache


def test_failed_component_leaves_no_files_and_the_next_run_has_folders_of_its_own(
    local_pipeline, run_bulk
):
    with pytest.raises(InputError, match=r"^The examples do not have split 'eval'\."):
        run_bulk(data_spec=our.DataSpec(example_splits=["unlabelled", "eval"]))
    recorded = local_pipeline.latest()
    assert (recorded.state, recorded.outputs) == ("FAILED", {})
    assert tree(local_pipeline.root / "BulkInferencer") == []

    result = run_bulk(data_spec=UNLABELLED).output()
    assert scored(result) == five_times(10, 11)
    folder = Path(result.uri)
    assert tree(folder.parent) == [f"{folder.name}/{file}" for file in tree(folder)]


def test_only_a_run_with_nothing_changed_is_cached(run_bulk):
    batches = [our.BatchSpec(max_records=max_records) for max_records in (1, 1, 2)]
    runs = [run_bulk(model_spec=our.ModelSpec(batch=batch)) for batch in batches]
    assert [run.state for run in runs] == ["COMPLETE", "CACHED", "COMPLETE"]
    first, second, third = (run.output().id for run in runs)
    assert first == second != third


def test_what_an_endpoint_answered_is_recorded_and_never_taken_from_the_cache(
    run_bulk, model_uri, monkeypatch
):
    with model_server.ModelServer(f"{model_uri}/Format-Serving") as server:
        spec = our.TFServingSpec(address=server.address, model_name=model_server.NAME)
        for version in ("7", "8"):
            monkeypatch.setattr(model_server, "VERSION", int(version))
            recorded = run_bulk(
                model_export=None, model_spec=our.ModelSpec(tf_serving=spec), data_spec=UNLABELLED
            )
            assert recorded.state == "COMPLETE"
            assert scored(recorded.output()) == five_times(10, 11)
            expected = {
                "model_endpoint": f"grpc://{server.address}/five_times",
                "model_version": version,
                "model_fingerprint": "",
                "model_id": "",
                "gate": "no_blessing",
            }
            assert custom_properties(recorded.output()).items() >= expected.items()
        assert server.scored == 4


# Resolvers


def latest_of(strategy, name, **kinds):
    channels = {key: Channel(type=kind) for key, kind in kinds.items()}
    strategy_class = getattr(tfx.dsl.experimental, f"Latest{strategy}Strategy")
    return tfx.dsl.Resolver(strategy_class=strategy_class, **channels).with_id(name)


def test_resolvers_bring_examples_models_and_blessings(local_pipeline, new_nodes):
    both = {"model": Model, "model_blessing": ModelBlessing}
    nodes = new_nodes()
    local_pipeline.run(nodes.all["examples"], nodes.all["five"])
    model_id = local_pipeline.latest("five").output("result").id

    # There is no blessing yet. LocalDagRunner would go on where an input that TFX requires is
    # missing.
    nodes = new_nodes()
    newest = latest_of("Artifact", "newest", examples=Examples, model=Model)
    blessing = latest_of("Artifact", "blessing", model_blessing=ModelBlessing)
    blessed = latest_of("BlessedModel", "blessed", **both)
    examples, model = (newest.outputs[key] for key in ("examples", "model"))
    local_pipeline.run(
        *(nodes.all["examples"], nodes.all["five"], newest, blessing, blessed),
        nodes.bulk("Newest", examples=examples, model_export=model),
        nodes.bulk("NoBlessing", model_blessing=blessing.outputs["model_blessing"]),
        nodes.bulk("NoneBlessed", model_blessing=blessed.outputs["model_blessing"]),
        nodes.bulk("NoModel", model_export=blessed.outputs["model"]),
    )
    assert scored(local_pipeline.latest("Newest").output()) == five_times(0, 1, 2, 10, 11)
    for name in ("NoBlessing", "NoneBlessed"):
        recorded = local_pipeline.latest(name)
        assert recorded.state == "COMPLETE"
        assert custom_properties(recorded.output())["gate"] == "not_blessed"
        assert tree(recorded.output().uri) == []
        assert "no artifact" in summary_of(recorded.output("summary")).gate.reason
    recorded = local_pipeline.latest("NoModel")
    assert recorded.state == "COMPLETE"
    assert custom_properties(recorded.output())["gate"] == "no_model"
    assert tree(recorded.output().uri) == []
    summary = summary_of(recorded.output("summary"))
    assert (summary.splits, summary.gate) == ({}, _gate.ABSENT)

    # A blessing arrives, and a later model, which nobody blessed.
    nodes = new_nodes()
    by_id = {"blessed": 1, "current_model_id": model_id}
    local_pipeline.run(
        importer("by_id", ModelBlessing, nodes.blessing_folder, **by_id), nodes.all["ten"]
    )
    nodes = new_nodes()
    blessed = latest_of("BlessedModel", "blessed", **both)
    model, blessing = (blessed.outputs[key] for key in both)
    inferencer = nodes.bulk("Blessed", model_export=model, model_blessing=blessing)
    local_pipeline.run(nodes.all["examples"], blessed, inferencer)
    result = local_pipeline.latest("Blessed").output()
    assert custom_properties(result)["gate"] == "blessed"
    assert scored(result) == five_times(0, 1, 2, 10, 11)


def test_run_fails_where_a_resolver_finds_no_examples_or_no_model_that_must_be_there(
    local_pipeline, new_nodes, tmp_path
):
    nodes = new_nodes()
    both = {"model": Model, "model_blessing": ModelBlessing}
    blessed = nodes.add(latest_of("BlessedModel", "blessed", **both))
    model, blessing = (blessed.outputs[key] for key in both)
    must_be_there = {"gate_policy": "FAIL"}
    nodes.bulk(model_export=model, model_blessing=blessing, model_spec=must_be_there)
    with pytest.raises(GateError, match=r"^There is no model yet: its channel holds no artifact\."):
        local_pipeline.run(*nodes.all.values())
    assert local_pipeline.latest().state == "FAILED"

    nodes = new_nodes()
    newest = latest_of("Artifact", "newest", examples=Examples)
    inferencer = nodes.bulk(examples=newest.outputs["examples"])
    with pytest.raises(InputError, match=r"^There is no artifact in the channel of examples\."):
        LocalPipeline(tmp_path / "new").run(nodes.all["five"], newest, inferencer)


# Several models


def rows_by_x(recorded):
    rows = pd.read_parquet(recorded.output("prediction_table").uri).to_dict("records")
    return {row["x"]: row for row in rows}


@pytest.fixture(scope="module")
def several(tmp_path_factory, uris):
    """Runs branches and cascades once; returns what is recorded of a node."""
    folder = tmp_path_factory.mktemp("several")
    nodes = Nodes(folder, **uris)
    nodes.branch(
        "Compared",
        model_blessings={"five": nodes["blessing"]},
        output_example_spec=columns_spec(times="y"),
        comparison_spec=our.ComparisonSpec(key_features=["x"], most_different=2),
        table_spec=our.TableSpec(),
    )
    nodes.bless("refusal", "ten", blessed=0)
    nodes.branch("OneRefused", model_blessings={"ten": nodes["refusal"]})
    users = write_examples(folder / "users", all=[example(x=1.0, user=user) for user in USERS])
    nodes.add(importer("users", Examples, users, ["all"]))
    outcomes = folder / "outcomes.csv"
    outcomes.write_text("key,value\nuser1,1.0\nuser2,0.0\nuser3,1.0\nnobody,9.0\n")
    split = our.SplitRouting(weights={"five": 3, "ten": 1}, split_key="user", salt="1")
    nodes.branch(
        "Split",
        examples=nodes["users"],
        routing=our.Routing(split=split),
        output_example_spec=columns_spec(y="y"),
        comparison_spec=our.ComparisonSpec(outcomes=str(outcomes)),
        table_spec=our.TableSpec(keep_none=True),
    )
    five, ten = (our.StageSpec(name=name) for name in ("five", "ten"))
    settles = our.ExitWhen(output_key="y", at_least=50.0)
    nodes.cascade(
        "Cascade",
        our.StageSpec(name="five", output_columns_spec=columns_of(x="y"), exit_when=[settles]),
        ten,
        model_blessings={"five": nodes["blessing"]},
        output_example_spec=columns_spec(y="y", ten="ten/y"),
        table_spec=our.TableSpec(),
    )
    blessings = {"five": nodes["blessing"], "ten": nodes["refusal"]}
    nodes.cascade("StageRefused", five, ten, model_blessings=blessings)
    return nodes.run()


def test_every_model_has_a_result_of_its_own_and_they_are_compared(several):
    recorded = several("Compared")

    assert recorded.state == "COMPLETE"
    assert scored(recorded.output("five")) == five_times(0, 1, 2, 10, 11)
    assert scored(recorded.output("ten")) == times(10, 0, 1, 2, 10, 11)
    summary = Summary.read(recorded.output("summary").uri)
    gates = {name: branch.gate.verdict for name, branch in summary.branches.items()}
    assert (summary.routing, gates) == ("all", {"five": "blessed", "ten": "no_blessing"})
    assert examples_in(recorded.output("output_examples")) == [
        {"x": [10.0], "five/times": [50.0], "ten/times": [100.0]},
        {"x": [11.0], "five/times": [55.0], "ten/times": [110.0]},
    ]
    assert recorded.output("prediction_table").type == "bulk_inferencer.PredictionTable"
    table = rows_by_x(recorded)
    assert list(table[11.0]) == ["split", "x", "five/y", "ten/y"]
    assert list(table[11.0].values()) == ["unlabelled", 11.0, 55.0, 110.0]
    (pair,) = Comparison.read(recorded.output("comparison").uri).pairs
    y = pair.outputs["y"]
    assert (pair.models, y.records, y.max_absolute_difference) == (("five", "ten"), 5, 55.0)
    assert [different.keys for different in y.most_different] == [{"x": [11.0]}, {"x": [10.0]}]


def test_lineage_leads_from_each_model_to_its_result(several):
    recorded = several("Compared")
    assert set(recorded.inputs) == {"examples", "model_five", "model_ten", "blessing_five"}
    for name in ("five", "ten"):
        properties = custom_properties(recorded.output(name))
        assert (properties["model_name"], properties["examples_read"]) == (name, 5)
        assert properties["model_id"] == ids_of(recorded.inputs[f"model_{name}"])
        assert properties["examples_ids"] == ids_of(recorded.inputs["examples"])
        blessing = recorded.inputs.get(f"blessing_{name}", [])
        assert properties["blessing_id"] == ids_of(blessing)
        assert properties["gate"] == ("blessed" if blessing else "no_blessing")


def test_model_that_is_not_blessed_leaves_the_others_running(several):
    recorded = several("OneRefused")
    assert scored(recorded.output("five")) == five_times(0, 1, 2, 10, 11)
    assert tree(recorded.output("ten").uri) == []
    assert custom_properties(recorded.output("ten"))["gate"] == "not_blessed"
    ten = Summary.read(recorded.output("summary").uri).branches["ten"]
    assert (ten.splits, "says that the model is not blessed" in ten.gate.reason) == ({}, True)
    assert Comparison.read(recorded.output("comparison").uri) == Comparison()


def test_each_record_goes_to_one_model_and_outcomes_are_joined(several):
    recorded = several("Split")

    user_of = {
        name: {features_of(p.record)["user"][0].decode() for p in read_predictions(result.uri)}
        for name, result in ((name, recorded.output(name)) for name in ("five", "ten"))
    }
    assert sorted([*user_of["five"], *user_of["ten"]]) == sorted(USERS)
    for features in examples_in(recorded.output("output_examples"), "all"):
        variant = features["variant"][0].decode()
        assert features["user"][0].decode() in user_of[variant]
        assert features["y"] == [{"five": 5.0, "ten": 10.0}[variant]]
    table = pd.read_parquet(recorded.output("prediction_table").uri)
    of_variant = {name: set(rows["key"]) for name, rows in table.groupby("variant")}
    assert of_variant == user_of
    for name, outcome in Comparison.read(recorded.output("comparison").uri).outcomes.items():
        assert outcome.count == len(user_of[name] & {"user1", "user2", "user3"})


def test_cascade_feeds_the_next_stage_what_is_not_settled(several):
    recorded = several("Cascade")

    settled = five_times(10, 11)
    assert scored(recorded.output()) == sorted([*times(50, 0, 1, 2), *settled])
    stages = summary_of(recorded.output("summary")).stages
    assert stages == {"five": StageCounts(5, 2, 3), "ten": StageCounts(3, 3, 0)}
    examples = recorded.output("output_examples")
    assert examples_in(examples, "train")[2] == {"x": [2.0], "y": [100.0], "ten": [100.0]}
    assert examples_in(examples)[1] == {"x": [11.0], "y": [55.0]}
    table = rows_by_x(recorded)
    assert (table[2.0]["y"], table[2.0]["five/y"], table[2.0]["ten/y"]) == (100, 10, 100)
    assert pd.isna(table[11.0]["ten/y"])
    # In ML Metadata, each stage keeps its place.
    properties = custom_properties(recorded.output())
    five, ten = (ids_of(recorded.inputs[f"model_{name}"]) for name in ("five", "ten"))
    blessing = ids_of(recorded.inputs["blessing_five"])
    assert properties["model_name"] == "five,ten"
    assert (properties["model_id"], properties["blessing_id"]) == (f"{five},{ten}", f"{blessing},")
    assert properties["signature_names"] == "five/serving_default,ten/serving_default"


def test_cascade_with_a_stage_that_is_not_blessed_scores_nothing(several):
    recorded = several("StageRefused")
    assert tree(recorded.output().uri) == []
    summary = summary_of(recorded.output("summary"))
    assert (summary.gate.verdict, summary.splits) == ("not_blessed", {})
    assert summary.gate.reason.startswith("Stage 'five': ")
