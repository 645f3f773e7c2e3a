"""Endpoints as a setting of the component: a server takes the place of a model in the worker."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from google.protobuf import json_format
from tfx import types
from tfx import v1 as tfx
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types.standard_artifacts import Examples, Model, ModelBlessing

from bulk_inferencer import BulkInferencer
from bulk_inferencer._models.retries import Limits
from bulk_inferencer._models.tf_serving import TFServing
from bulk_inferencer._models.vertex import VertexEndpoint
from bulk_inferencer.bulk_inferencer_pb2 import (
    ChannelOption,
    DataSpec,
    ModelSpec,
    RequestLimits,
    TFServingSpec,
    VertexEndpointSpec,
)
from bulk_inferencer.components import settings
from bulk_inferencer.errors import EndpointError, InputError, SettingsError
from bulk_inferencer.results.summary import Summary
from tests import model_server
from tests.helpers import tree
from tests.tfx_helpers import (
    artifact,
    custom_properties,
    execute,
    five_times,
    importer,
    scored,
)

pytest_plugins = ("tests.tfx_fixtures",)
pytestmark = pytest.mark.slow

ENDPOINT = "projects/p/locations/l/endpoints/1"
OF_NO_SERVER = ModelSpec(tf_serving=TFServingSpec(address="localhost:1", model_name="five_times"))


@pytest.fixture
def server(model_uri):
    with model_server.ModelServer(str(Path(model_uri, "Format-Serving"))) as server:
        yield server


def model_spec(server, **limits):
    spec = TFServingSpec(
        address=server.address,
        model_name=model_server.NAME,
        limits=RequestLimits(**limits),
        channel_options=[ChannelOption(name=n, number=value) for n, value in model_server.QUICK],
    )
    return ModelSpec(tf_serving=spec)


@pytest.fixture
def inputs(examples_uri):
    return {"examples": artifact(Examples, examples_uri, ["unlabelled"])}


# Settings


def test_tf_serving_spec_gives_all_settings():
    spec = ModelSpec(
        model_signature_name=["a", "b"],
        tf_serving=TFServingSpec(
            address="host:8500",
            model_name="m",
            version=3,
            credentials="grpc:ssl_channel_credentials",
            channel_options=[
                ChannelOption(name="number", number=-1),
                ChannelOption(name="text", text="t"),
            ],
            limits=RequestLimits(request_seconds=1, total_seconds=2),
        ),
    )

    assert settings.model(spec, "") == TFServing(
        "host:8500",
        "m",
        version=3,
        signatures=("a", "b"),
        credentials="grpc:ssl_channel_credentials",
        channel_options=(("number", -1), ("text", "t")),
        limits=Limits(1, 2),
    )


def test_empty_fields_of_tf_serving_spec_are_defaults():
    assert settings.model(OF_NO_SERVER, "") == TFServing("localhost:1", "five_times")


def test_version_zero_is_a_version():
    spec = TFServingSpec(address="host:8500", model_name="m", version=0)

    assert settings.model(ModelSpec(tf_serving=spec), "").version == 0


def test_vertex_endpoint_spec_gives_all_settings():
    spec = VertexEndpointSpec(
        name=ENDPOINT,
        input_name="examples",
        raw=True,
        client="module:client",
        limits=RequestLimits(request_seconds=1, total_seconds=2),
    )
    found = settings.model(ModelSpec(model_signature_name=["s"], vertex_endpoint=spec), "")

    assert found == VertexEndpoint(
        ENDPOINT,
        input_name="examples",
        signature="s",
        raw=True,
        client="module:client",
        limits=Limits(1, 2),
    )


def test_empty_fields_of_vertex_endpoint_spec_are_defaults():
    spec = ModelSpec(vertex_endpoint=VertexEndpointSpec(name=ENDPOINT))

    assert settings.model(spec, "") == VertexEndpoint(ENDPOINT)


def test_several_signatures_of_a_vertex_endpoint_are_refused():
    spec = ModelSpec(
        model_signature_name=["a", "b"], vertex_endpoint=VertexEndpointSpec(name=ENDPOINT)
    )

    with pytest.raises(SettingsError) as raised:
        settings.to_setting("model_spec", spec, ModelSpec)

    assert str(raised.value) == (
        f"Expected at most one signature for {ENDPOINT}, got a, b: an endpoint calls one. Correct "
        f"ModelSpec.model_signature_name."
    )


# The component


def component(spec, **inputs):
    return BulkInferencer(types.Channel(type=Examples), model_spec=spec, **inputs)


def test_model_may_be_left_out():
    assert "model" not in component(OF_NO_SERVER).inputs


def test_mistake_in_an_endpoint_is_told_while_the_pipeline_is_built():
    spec = ModelSpec(tf_serving=TFServingSpec(address="localhost:1"))

    with pytest.raises(SettingsError, match=r"^Expected TFServing to have an address"):
        component(spec)


def test_blessing_needs_the_model_that_it_blesses():
    blessing = types.Channel(type=ModelBlessing)

    with pytest.raises(SettingsError, match="got neither"):
        component(OF_NO_SERVER, model_blessing=blessing)

    made = component(OF_NO_SERVER, model_blessing=blessing, model_export=types.Channel(type=Model))
    assert {"model", "model_blessing"} <= set(made.inputs)


@pytest.mark.parametrize(
    ("spec", "has_run_id"),
    [
        (ModelSpec(), False),
        (OF_NO_SERVER, True),
        (RuntimeParameter("spec", str), True),
        (RuntimeParameter("spec", str, default="{}"), True),
        (RuntimeParameter("spec", str, default=json_format.MessageToJson(OF_NO_SERVER)), True),
    ],
    ids=["none", "endpoint", "unknown", "default without", "default with"],
)
def test_run_is_part_of_what_is_cached_where_there_may_be_an_endpoint(spec, has_run_id):
    made = component(spec, model_export=types.Channel(type=Model))

    assert ("run_id" in made.exec_properties) == has_run_id


# The executor


def test_records_are_scored_by_the_server(outputs, inputs, server):
    execute(outputs, inputs, model_spec=model_spec(server))

    assert scored(outputs.inference_result) == five_times(10, 11)
    assert server.scored == 2
    properties = custom_properties(outputs.inference_result.mlmd_artifact)
    assert properties["model_endpoint"] == f"grpc://{server.address}/five_times"
    assert properties["model_version"] == "7"
    assert properties["model_fingerprint"] == ""
    assert properties["gate"] == "no_blessing"
    summary = Summary.read(outputs.summary.uri)
    assert summary.model_path == f"grpc://{server.address}/five_times"
    assert summary.model_versions == ("7",)


def test_model_in_the_worker_has_no_endpoint(outputs, inputs, model_uri):
    execute(outputs, {**inputs, "model": artifact(Model, model_uri)})

    properties = custom_properties(outputs.inference_result.mlmd_artifact)
    assert not {"model_endpoint", "model_version"} & properties.keys()


def test_blessing_of_the_model_beside_the_endpoint_decides(
    outputs, inputs, server, model_uri, tmp_path
):
    blessing = artifact(ModelBlessing, tmp_path, blessed=0, current_model=model_uri)
    judged = {"model": artifact(Model, model_uri), "model_blessing": blessing}

    execute(outputs, {**inputs, **judged}, "model_blessing", model_spec=model_spec(server))

    assert server.calls == []
    assert custom_properties(outputs.inference_result.mlmd_artifact)["gate"] == "not_blessed"


def test_required_blessing_without_a_model_is_refused(outputs, inputs):
    message = (
        "Expected a model for the model_blessing to bless, got none. Give model_export beside the "
        "endpoint."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        execute(outputs, inputs, "model_blessing", model_spec=OF_NO_SERVER)


def test_server_that_does_not_answer_fails_the_run_and_leaves_nothing(outputs, inputs):
    spec = ModelSpec()
    spec.CopyFrom(OF_NO_SERVER)
    spec.tf_serving.limits.CopyFrom(RequestLimits(request_seconds=0.2, total_seconds=0.2))

    with pytest.raises(EndpointError, match=r"^Expected an answer from grpc://localhost:1/"):
        execute(outputs, inputs, model_spec=spec)

    assert tree(outputs.inference_result.uri) == []


def test_server_that_turns_half_of_the_requests_down_gets_every_record_once(
    outputs, inputs, model_uri
):
    faults = itertools.cycle([model_server.unavailable, None])
    with model_server.ModelServer(str(Path(model_uri, "Format-Serving")), faults=faults) as server:
        execute(outputs, inputs, model_spec=model_spec(server))

        assert scored(outputs.inference_result) == five_times(10, 11)
        assert server.scored == 2


# Pipelines


@pytest.mark.slow
def test_new_version_behind_the_endpoint_is_not_served_from_the_cache(
    local_pipeline, examples_uri, server, monkeypatch
):
    def run():
        examples = importer("examples", Examples, examples_uri, ["train", "unlabelled"])
        inferencer = BulkInferencer(
            examples=examples.outputs["result"],
            data_spec=DataSpec(example_splits=["unlabelled"]),
            model_spec=model_spec(server),
        )
        local_pipeline.run(examples, inferencer, enable_cache=True)
        return local_pipeline.latest()

    first = run()
    monkeypatch.setattr(model_server, "VERSION", 8)
    second = run()

    assert (first.state, second.state) == ("COMPLETE", "COMPLETE")
    versions = [
        custom_properties(run.output("inference_result"))["model_version"]
        for run in (first, second)
    ]
    assert versions == ["7", "8"]
    assert scored(second.output("inference_result")) == five_times(10, 11)


@pytest.mark.slow
def test_same_pipeline_run_twice_asks_the_endpoint_twice(local_pipeline, examples_uri, server):
    examples = importer("examples", Examples, examples_uri, ["train", "unlabelled"])
    inferencer = BulkInferencer(
        examples=examples.outputs["result"],
        data_spec=DataSpec(example_splits=["unlabelled"]),
        model_spec=model_spec(server),
    )
    pipeline = local_pipeline.of(examples, inferencer, enable_cache=True)

    tfx.orchestration.LocalDagRunner().run(pipeline)
    tfx.orchestration.LocalDagRunner().run(pipeline)

    assert local_pipeline.latest().state == "COMPLETE"
    assert server.scored == 4
