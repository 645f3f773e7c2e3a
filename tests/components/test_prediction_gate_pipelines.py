"""Pipelines that act on predictions: TFX's own Pusher and Resolver, with blessings of ours."""

from __future__ import annotations

import pytest
from tfx import v1 as tfx
from tfx.types import Channel
from tfx.types.standard_artifacts import InferenceResult, Model, ModelBlessing

from bulk_inferencer import Summary
from bulk_inferencer import bulk_inferencer_pb2 as our
from tests.components.tfx_helpers import (
    UNLABELLED,
    LocalPipeline,
    Nodes,
    custom_properties,
    summary_of,
)
from tests.helpers import tree

pytestmark = pytest.mark.slow

MET, UNMET = ({"outputs": {"y": {"maximum": most}}} for most in (55, 54))


def expectations(**bounds):
    return {"outputs": {"y": bounds}}


def resolver(strategy, name, **channels):
    strategy_class = getattr(tfx.dsl.experimental, f"Latest{strategy}Strategy")
    return tfx.dsl.Resolver(strategy_class=strategy_class, **channels).with_id(name)


def nodes_of(folder, uris):
    """Returns the nodes of a pipeline with what judges predictions, and with what acts on it."""
    nodes = Nodes(folder, **uris)
    nodes.bless("refusal", "ten", blessed=0)

    def push(name, model, blessing):
        destination = tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=str(folder / name))
        )
        nodes.add(
            tfx.components.Pusher(
                model=nodes[model], model_blessing=blessing, push_destination=destination
            ).with_id(f"Push{name}")
        )

    def judge(name, model="five", **arguments):
        own = nodes.bulk(name, model_export=nodes[model], data_spec=UNLABELLED, **arguments)
        push(name, model, own.outputs["prediction_blessing"])

    judge("Met", expectations=MET, model_blessing=nodes["blessing"])
    judge("Unmet", expectations=UNMET, model_blessing=nodes["blessing"])
    ignore = our.ModelSpec(gate_policy=our.IGNORE)
    judge(
        "Overruled",
        "ten",
        expectations=expectations(maximum=110),
        model_blessing=nodes["refusal"],
        model_spec=ignore,
    )
    like_five = {"baseline_model": "five", **expectations(max_absolute_difference=55)}
    branch = nodes.branch(
        "Branch",
        data_spec=UNLABELLED,
        expectations={"ten": like_five, "five": expectations(min_mean=53)},
    )
    for name in ("five", "ten"):
        push(f"Branch_{name}", name, branch.outputs[f"prediction_blessing_{name}"])
    nodes.cascade(
        "Cascade",
        *(our.StageSpec(name=name) for name in ("five", "ten")),
        data_spec=UNLABELLED,
        expectations={"outputs": {"five/y": {"maximum": 55}, "y": {"maximum": 110}}},
    )
    own_results = Channel(
        type=InferenceResult, producer_component_id="Drift", output_key="inference_result"
    )
    earlier = nodes.add(resolver("Artifact", "earlier", baseline=own_results))
    judge("Drift", expectations=expectations(max_drift=0), baseline=earlier.outputs["baseline"])
    return nodes


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, uris):
    folder = tmp_path_factory.mktemp("gate")
    pipeline = LocalPipeline(folder)
    pipeline.run(*nodes_of(folder, uris).all.values())
    return pipeline


def pushed(pipeline, name):
    """Returns whether a model was pushed, by what ML Metadata and the destination say."""
    recorded = custom_properties(pipeline.latest(f"Push{name}").output("pushed_model"))["pushed"]
    files = tree(pipeline.root.parent / name)
    assert bool(recorded) == any(file.endswith("saved_model.pb") for file in files)
    return bool(recorded)


def test_pusher_pushes_only_a_model_whose_predictions_hold_up(pipeline):
    assert {name: pushed(pipeline, name) for name in ("Met", "Unmet", "Overruled")} == {
        "Met": True,
        "Unmet": False,
        "Overruled": False,
    }
    unmet = pipeline.latest("Unmet")
    assert unmet.state == "COMPLETE"
    assert [str(check) for check in summary_of(unmet.output("summary")).checks[1:]] == [
        "The largest number of 'y' should be at most 54, but is 55."
    ]


def test_each_of_several_models_has_a_blessing_of_its_own(pipeline):
    assert pushed(pipeline, "Branch_ten")
    assert not pushed(pipeline, "Branch_five")
    recorded = pipeline.latest("Branch")
    (ten,) = recorded.inputs["model_ten"]
    assert custom_properties(recorded.output("prediction_blessing_ten")) == {
        **custom_properties(recorded.output("prediction_blessing_ten")),
        "blessed": 1,
        "current_model": ten.uri,
        "current_model_id": ten.id,
    }
    branches = Summary.read(recorded.output("summary").uri).branches
    meets = {name: own.meets_expectations for name, own in branches.items()}
    assert meets == {"five": False, "ten": True}


def test_stages_of_a_cascade_are_blessed_together(pipeline):
    recorded = pipeline.latest("Cascade")
    for name in ("five", "ten"):
        (model,) = recorded.inputs[f"model_{name}"]
        blessing = custom_properties(recorded.output(f"prediction_blessing_{name}"))
        assert (blessing["blessed"], blessing["current_model_id"]) == (1, model.id)


def test_resolver_brings_the_model_that_some_blessing_blesses_or_that_one_component_does(pipeline):
    def blessings_of(producer):
        key = {"producer_component_id": producer, "output_key": "prediction_blessing"}
        return Channel(type=ModelBlessing, **key)

    channels = {"Met": blessings_of("Met"), "Unmet": blessings_of("Unmet")}
    channels["Any"] = Channel(type=ModelBlessing)
    found = {
        name: resolver(
            "BlessedModel", f"resolve{name}", model=Channel(type=Model), model_blessing=channel
        )
        for name, channel in channels.items()
    }
    pipeline.run(*found.values())
    models = {name: pipeline.latest(f"resolve{name}").outputs.get("model", []) for name in found}
    uris = {name: [model.uri for model in own] for name, own in models.items()}
    five, ten = (pipeline.latest(name).output("result").uri for name in ("five", "ten"))
    # The newest model for which there is any blessing: BranchInferencer's blesses ten.
    assert uris == {"Met": [five], "Unmet": [], "Any": [ten]}


def test_results_of_the_last_run_are_the_baseline_of_the_next(pipeline, uris):
    def drift():
        recorded = pipeline.latest("Drift")
        (_, check) = summary_of(recorded.output("summary")).checks
        blessing = custom_properties(recorded.output("prediction_blessing"))["blessed"]
        return recorded, check.found, blessing

    first, found, blessed = drift()
    assert (found, blessed) == ("unknown, since there is no baseline yet", 1)
    assert "baseline" not in first.inputs

    nodes = nodes_of(pipeline.root.parent, uris)
    needed = ("examples", "five", "earlier", "Drift")
    pipeline.run(*(nodes.all[name] for name in needed))

    second, found, blessed = drift()
    assert (found, blessed) == ("0", 1)
    assert [made.id for made in second.inputs["baseline"]] == [first.output().id]


@pytest.mark.parametrize("node", ["Met", "Overruled", "Branch", "Cascade", "Drift"])
def test_every_component_writes_a_report_and_statistics_for_tfdv(pipeline, node):
    written = tree(pipeline.latest(node).output("summary").uri)
    assert {"report.html", "stats.tfrecord"} <= set(written)
