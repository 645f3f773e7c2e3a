"""The engine as a setting of a component: what a pipeline carries of it, and what comes back."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
from google.protobuf import json_format
from tfx import v1 as tfx

from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer import engines
from bulk_inferencer.components import engine_setting
from bulk_inferencer.components.arguments import to_setting
from bulk_inferencer.errors import MissingExtraError, SettingsError
from tests.components.tfx_helpers import (
    assert_refused,
    branch,
    bulk,
    cascade,
    execute,
    message_of,
    parameter,
)
from tests.helpers import tree

COMPONENTS = pytest.mark.parametrize("make", [bulk, branch, cascade])
BEAM = engines.Beam(accelerator="type:nvidia-tesla-t4;count:1", min_ram="30GB")
RAY = engines.Ray(
    "ray://head:10001",
    num_cpus=0.5,
    num_gpus=0.25,
    max_retries=0,
    runtime_env={"pip": ["a==1"], "env_vars": {"A": "b"}, "config": {"setup_timeout_seconds": 600}},
)
SPARK = engines.Spark("spark://head:7077", conf={"spark.executor.memory": "3g"})

CLASS = (
    r"^engine must be a bulk_inferencer_pb2\.Engine, engines\.Beam\(\), engines\.Ray\(\), "
    r"engines\.Spark\(\), or its JSON as text or a dict, not an ABCMeta\.$"
)


class OwnEngine(engines.Ray):
    pass


def carried(engine):
    """Returns an engine after its way through a component's JSON."""
    text = json_format.MessageToJson(to_setting("engine", engine, our.Engine))
    return engine_setting.engine(json_format.Parse(text, our.Engine()))


@pytest.mark.parametrize("name", engine_setting.KINDS)
def test_message_has_the_fields_of_its_engine(name):
    message = our.Engine.DESCRIPTOR.fields_by_name[name].message_type
    fields = {field.name for field in dataclasses.fields(engine_setting.KINDS[name])}
    assert {field.name for field in message.fields} == fields - {*engine_setting.OF_PIPELINE}


@pytest.mark.parametrize(
    "engine", [engines.Beam(), engines.Ray(), engines.Spark(), BEAM, RAY, SPARK], ids=repr
)
def test_engine_arrives_as_it_was_given(engine):
    assert carried(engine) == engine


def test_memory_in_bytes_arrives_with_its_unit():
    assert carried(engines.Beam(min_ram=1 << 30)) == engines.Beam(min_ram=f"{1 << 30}B")


def test_whole_numbers_of_an_environment_stay_whole():
    found = carried(RAY).runtime_env["config"]["setup_timeout_seconds"]
    assert (found, type(found)) == (600, int)


@pytest.mark.parametrize("name", engine_setting.KINDS)
def test_options_come_from_the_pipeline(name):
    spec = our.Engine(**{name: {}})
    args = ["--s3_region_name=eu", 1]
    engine = engine_setting.engine(spec, args, make_pipeline=len)
    assert engine.options == ("--s3_region_name=eu", "1")
    assert getattr(engine, "make_pipeline", None) is (len if name == "beam" else None)


def test_engine_that_a_pipeline_cannot_carry_is_refused():
    message = (
        "engine is of the class OwnEngine, which a pipeline cannot carry to where it runs. Give "
        "engines.Beam(), engines.Ray() or engines.Spark(). bulk_inferencer.run and predict take "
        "any engine."
    )
    assert_refused(message, bulk, engine=OwnEngine())


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        (engines.Beam(["--runner=FlinkRunner"]), "options"),
        (engines.Spark(options=["--s3_region_name=eu"]), "options"),
        (engines.Beam(make_pipeline=len), "make_pipeline"),
    ],
    ids=["beam", "spark", "pipeline"],
)
def test_what_comes_from_the_pipeline_is_refused(engine, name):
    message = (
        f"engine has {name}, but in a pipeline, these come from beam_pipeline_args, on every "
        f"engine. Move Beam's options there, or to the component's with_beam_pipeline_args, and "
        f"leave out {name}."
    )
    assert_refused(message, bulk, engine=engine)


@COMPONENTS
def test_every_component_takes_an_engine_in_any_form(make):
    assert "engine" not in make().exec_properties
    expected = our.Engine(ray=our.Ray(address="auto", num_gpus=1))
    as_dict = {"ray": {"address": "auto", "num_gpus": 1}}
    for given in (engines.Ray("auto", num_gpus=1), expected, as_dict, json.dumps(as_dict)):
        assert message_of(make(engine=given), "engine", our.Engine) == expected
    for given in (parameter(), tfx.dsl.placeholders.execution_invocation().pipeline_run_id):
        assert make(engine=given).exec_properties["engine"] is given


@COMPONENTS
@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("ray", r"^engine must be JSON of bulk_inferencer\.Engine, but it is 'ray': "),
        ({"dask": {}}, r"^engine must be JSON .* has no field named \"dask\""),
        (parameter('{"ray": {"cores": 1}}'), r"^engine must be JSON .* has no field named \"cores"),
        (engines.Spark(conf={"a": "{{APP_ID}}"}), r"^engine has '{{' in '{{APP_ID}}', "),
        (engines.Ray, CLASS),
    ],
    ids=["name", "unknown", "parameter", "template", "class"],
)
def test_mistake_in_an_engine_is_found_while_the_pipeline_is_built(make, engine, message):
    with pytest.raises(SettingsError, match=message):
        make(engine=engine)


@pytest.mark.parametrize("name", ["ray", "spark"])
def test_engine_of_the_property_runs_the_job(outputs, inputs, name, monkeypatch):
    package = {"ray": "ray", "spark": "pyspark"}[name]
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=rf"^engines\.{name.title()} needs {package}, "):
        execute(outputs, inputs, engine=our.Engine(**{name: {}}))
    assert not any(tree(made.uri) for made in outputs)
