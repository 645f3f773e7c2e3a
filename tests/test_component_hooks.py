"""Hooks as a setting of the component: a module of the user's, as a file or importable."""

from __future__ import annotations

import textwrap

import pytest
from tfx import types
from tfx import v1 as tfx
from tfx.types.standard_artifacts import Examples, Model

from bulk_inferencer import BulkInferencer, read_predictions
from bulk_inferencer.bulk_inferencer_pb2 import (
    DataSpec,
    OutputColumnsSpec,
    OutputExampleSpec,
    PredictOutput,
    PredictOutputCol,
)
from bulk_inferencer.errors import HookError, SettingsError
from tests.helpers import features_of, read_tfrecord
from tests.tfx_helpers import artifact, execute, importer, make_outputs, scored

pytest_plugins = ("tests.tfx_fixtures",)
pytestmark = pytest.mark.slow

HOOKS = """
    import tensorflow as tf

    def preprocess(batch):
        return [tenfold(record) for record in batch]

    def tenfold(record):
        parsed = tf.train.Example.FromString(record)
        parsed.features.feature["x"].float_list.value[0] *= 10
        return parsed.SerializeToString()

    def postprocess(records, outputs):
        return {"y": outputs["y"] + 1, "bytes": [len(record) for record in records]}
"""


@pytest.fixture
def write_module(tmp_path):
    """Writes a module of hooks and returns its path."""

    def write(source, name="user_hooks"):
        path = tmp_path / "modules" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return str(path)

    return write


@pytest.fixture
def inputs(examples_uri, model_uri):
    return {
        "examples": artifact(Examples, examples_uri, ["unlabelled"]),
        "model": artifact(Model, model_uri),
    }


def inferencer(examples, model, **settings):
    return BulkInferencer(
        examples=examples.outputs["result"],
        model_export=model.outputs["result"],
        data_spec=DataSpec(example_splits=["unlabelled"]),
        **settings,
    )


def test_records_pass_the_hooks_and_results_carry_them_as_they_were(outputs, inputs, write_module):
    execute(outputs, inputs, module_file=write_module(HOOKS))

    assert scored(outputs.inference_result) == [(10, 501), (11, 551)]
    for prediction in read_predictions(outputs.inference_result.uri):
        assert prediction.outputs["bytes"] == len(prediction.record)


def test_one_hook_is_enough(outputs, inputs, write_module):
    source = "def postprocess(records, outputs):\n    return {'y': -outputs['y']}"

    execute(outputs, inputs, module_file=write_module(source))

    assert scored(outputs.inference_result) == [(10, -50), (11, -55)]


def test_module_can_be_one_that_is_installed(outputs, inputs, write_module, monkeypatch, tmp_path):
    write_module(HOOKS, name="installed_hooks")
    monkeypatch.syspath_prepend(tmp_path / "modules")

    execute(outputs, inputs, module_path="installed_hooks")

    assert scored(outputs.inference_result) == [(10, 501), (11, 551)]


def test_output_of_a_hook_becomes_a_column(tmp_path, inputs, write_module):
    outputs = make_outputs(tmp_path / "outputs", with_output_examples=True)
    columns = [PredictOutputCol(output_key="bytes", output_column="size")]
    entry = OutputColumnsSpec(predict_output=PredictOutput(output_columns=columns))
    spec = OutputExampleSpec(output_columns_spec=[entry])

    execute(outputs, inputs, output_example_spec=spec, module_file=write_module(HOOKS))

    shard = f"{outputs.output_examples.uri}/Split-unlabelled/examples-00000-of-00001.gz"
    records = [features_of(record) for record in read_tfrecord(shard)]
    assert [set(features) for features in records] == [{"x", "size"}] * 2


def test_hook_that_loses_a_record_fails_the_run_by_name(outputs, inputs, write_module):
    path = write_module("def preprocess(batch):\n    return batch[1:]")

    with pytest.raises(HookError, match=r"^Expected preprocess to return 2 records for 2, got 1 "):
        execute(outputs, inputs, module_file=path)


def test_module_without_a_hook_is_refused(outputs, inputs, write_module):
    path = write_module("def preprocessing_fn(inputs):\n    return inputs")

    with pytest.raises(SettingsError) as raised:
        execute(outputs, inputs, module_file=path)

    assert str(raised.value) == (
        f"Expected preprocess(batch), postprocess(records, outputs) or both in {path}, got "
        f"neither. Define one at the top level of the module."
    )


def test_module_that_cannot_be_imported_is_refused(outputs, inputs, write_module):
    path = write_module("import no_such_library")

    with pytest.raises(SettingsError) as raised:
        execute(outputs, inputs, module_file=path)

    assert str(raised.value) == (
        f"Expected a module with hooks, but {path} cannot be imported: ModuleNotFoundError: No "
        f"module named 'no_such_library'. Correct the module."
    )


def test_file_and_path_together_are_refused():
    channel = types.Channel(type=Examples)

    with pytest.raises(SettingsError) as raised:
        BulkInferencer(channel, types.Channel(type=Model), module_file="a.py", module_path="b")

    assert str(raised.value) == (
        "Expected module_file or module_path, got both: a.py and b. Give one of them."
    )


@pytest.mark.parametrize("name", ["module_file", "module_path"])
def test_template_mark_is_refused(name):
    with pytest.raises(SettingsError) as raised:
        BulkInferencer(
            types.Channel(type=Examples), types.Channel(type=Model), **{name: "{{ ds }}.py"}
        )

    assert str(raised.value) == (
        f"Expected no template mark in {name}, got '{{{{' in '{{{{ ds }}}}.py': Airflow would "
        f"render it. Rename what it names."
    )


def test_mistake_in_a_module_is_not_taken_for_a_missing_hook(outputs, inputs, write_module):
    path = write_module("import math\nmath.no_such_name\n" + textwrap.dedent(HOOKS))

    with pytest.raises(SettingsError, match=r"cannot be imported: AttributeError: .*no_such_name"):
        execute(outputs, inputs, module_file=path)


def test_file_that_is_no_python_is_refused(outputs, inputs, tmp_path):
    (tmp_path / "hooks.txt").write_text("no Python")

    with pytest.raises(SettingsError, match="cannot be imported: ImportError: it is not a Python"):
        execute(outputs, inputs, module_file=str(tmp_path / "hooks.txt"))


def test_changed_file_is_read_anew(tmp_path, inputs, write_module):
    for name, source, expected in [
        ("first", HOOKS, [(10, 501), (11, 551)]),
        ("second", "def postprocess(records, outputs):\n    return outputs", [(10, 50), (11, 55)]),
    ]:
        outputs = make_outputs(tmp_path / name)
        execute(outputs, inputs, module_file=write_module(source))
        assert scored(outputs.inference_result) == expected


@pytest.mark.slow
def test_modules_of_one_name_do_not_mix_in_one_process(
    local_pipeline, examples_uri, model_uri, tmp_path
):
    for name, number, hook in [
        ("a", 1, "preprocess(batch):\n    return batch[::-1]"),
        ("b", 1000, "postprocess(records, outputs):\n    return {'y': outputs['y'] + K}"),
    ]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "constants.py").write_text(f"K = {number}\n")
        (folder / "hooks.py").write_text(f"from constants import K\n\ndef {hook}\n")
        examples = importer("examples", Examples, examples_uri, ["train", "unlabelled"])
        model = importer("model", Model, model_uri)
        component = inferencer(examples, model, module_file=str(folder / "hooks.py"))
        local_pipeline.run(examples, model, component)

    assert scored(local_pipeline.latest().output("inference_result")) == [(10, 1050), (11, 1055)]


@pytest.mark.slow
@pytest.mark.parametrize("is_packaged", [True, False])
def test_pipeline_with_a_module_file(
    local_pipeline, examples_uri, model_uri, write_module, monkeypatch, is_packaged
):
    if not is_packaged:
        monkeypatch.setenv("UNSUPPORTED_DO_NOT_PACKAGE_USER_MODULES", "1")
    examples = importer("examples", Examples, examples_uri, ["train", "unlabelled"])
    model = importer("model", Model, model_uri)

    component = inferencer(examples, model, module_file=write_module(HOOKS))
    local_pipeline.run(examples, model, component)

    recorded = local_pipeline.latest()
    assert recorded.state == "COMPLETE"
    assert scored(recorded.output("inference_result")) == [(10, 501), (11, 551)]
    module = recorded.properties.get("module_path", recorded.properties.get("module_file"))
    assert module.endswith(".whl" if is_packaged else ".py")


@pytest.mark.slow
def test_module_may_be_a_runtime_parameter(local_pipeline, examples_uri, model_uri, write_module):
    examples = importer("examples", Examples, examples_uri, ["train", "unlabelled"])
    model = importer("model", Model, model_uri)
    parameter = tfx.dsl.experimental.RuntimeParameter(
        name="hooks", ptype=str, default=write_module(HOOKS)
    )

    component = inferencer(examples, model, module_file=parameter)
    local_pipeline.run(examples, model, component)

    assert scored(local_pipeline.latest().output("inference_result")) == [(10, 501), (11, 551)]
