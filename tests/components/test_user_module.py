"""A module of the user's as a setting of the component, as a file or importable."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from bulk_inferencer import read_predictions
from bulk_inferencer.components import user_module
from tests.components.tfx_helpers import (
    UNLABELLED,
    Nodes,
    assert_refused,
    columns_spec,
    parameter,
    scored,
)
from tests.helpers import features_of, read_tfrecord

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


def write_module(folder, source, name="user_hooks"):
    """Writes a module of hooks and returns its path."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(source))
    return str(path)


def functions_of(file):
    with user_module.imported({"module_file": file}) as module:
        return module.functions


def test_functions_are_those_that_the_module_has(tmp_path):
    assert functions_of(write_module(tmp_path, HOOKS)).keys() == {"preprocess", "postprocess"}
    for one in ("postprocess", "load_model"):
        path = write_module(tmp_path, f"def {one}(*arguments):\n    return arguments")
        assert functions_of(path).keys() == {one}
    assert functions_of(None) == {}


def test_changed_file_is_read_anew(tmp_path):
    for number in (1, 22):
        path = write_module(tmp_path, f"def preprocess(batch):\n    return {number}")
        assert functions_of(path)["preprocess"]([]) == number


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        (
            "import no_such_library",
            "hooks.py",
            "ModuleNotFoundError: No module named 'no_such_library'",
        ),
        (
            # Not taken for a hook that is missing.
            "import math\nmath.no_such_name\ndef preprocess(batch): ...",
            "hooks.py",
            "AttributeError: module 'math' has no attribute 'no_such_name'",
        ),
        ("no Python", "hooks.txt", "ImportError: it is not a Python file"),
    ],
)
def test_module_that_cannot_be_imported_is_refused(tmp_path, source, name, reason):
    path = tmp_path / name
    path.write_text(source)
    message = f"Cannot import {path}: {reason}. Fix the module."
    assert_refused(message, functions_of, str(path))


def test_module_without_any_of_the_functions_is_refused(tmp_path):
    path = write_module(tmp_path, "def preprocessing_fn(inputs):\n    return inputs")
    message = (
        f"{path} has nothing that the component could use. Define preprocess(batch), "
        f"postprocess(records, outputs) or load_model(path), or several of them, at the top level "
        f"of the module."
    )
    assert_refused(message, functions_of, path)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, uris):
    """Runs a pipeline with hooks that come in several ways; returns what is recorded of a node."""
    folder = tmp_path_factory.mktemp("hooks")
    nodes = Nodes(folder, **uris)
    no_packages = "UNSUPPORTED_DO_NOT_PACKAGE_USER_MODULES"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(no_packages, raising=False)
        for name, number, hook in [
            ("A", 1, "preprocess(batch):\n    return batch[::-1]"),
            ("B", 1000, "postprocess(records, outputs):\n    return {'y': outputs['y'] + K}"),
            ("C", 7, "load_model(path):\n    return lambda features: {'y': features['x'] * K}"),
        ]:
            source = f"from constants import K\n\ndef {hook}\n"
            write_module(folder / name, f"K = {number}\n", name="constants")
            path = write_module(folder / name, source, name="hooks")
            nodes.bulk(name, module_file=path, data_spec=UNLABELLED)
        path = write_module(folder / "modules", HOOKS)
        engine = parameter('{"beam": {}}', name="engine")
        nodes.bulk("Parameter", module_file=parameter(path), data_spec=UNLABELLED, engine=engine)
        patch.setenv(no_packages, "1")
        nodes.bulk("File", module_file=path, data_spec=UNLABELLED)
        patch.syspath_prepend(folder / "modules")
        spec = columns_spec(size="bytes")
        nodes.bulk("Path", module_path="user_hooks", data_spec=UNLABELLED, output_example_spec=spec)
        return nodes.run()


@pytest.mark.slow
def test_module_file_is_packaged_and_those_of_one_name_do_not_mix_in_one_process(recorded):
    ys = {"A": (55, 50), "B": (1050, 1055), "C": (70, 77)}
    for name, (of_10, of_11) in ys.items():
        assert scored(recorded(name).output()) == [(10, of_10), (11, of_11)]
        module, _, wheel = recorded(name).properties["module_path"].partition("@")
        assert (module, wheel.endswith(".whl"), Path(wheel).is_file()) == ("hooks", True, True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["File", "Parameter", "Path"])
def test_records_pass_the_hooks_without_a_package_and_results_carry_them_as_they_were(
    recorded, name
):
    result = recorded(name).output()
    assert ("module_file" in recorded(name).properties) == (name != "Path")
    assert ("module_path" in recorded(name).properties) == (name == "Path")
    assert recorded("Parameter").properties["engine"] == '{"beam": {}}'
    assert scored(result) == [(10, 501), (11, 551)]
    for prediction in read_predictions(result.uri):
        assert prediction.outputs["bytes"] == len(prediction.record)
    if name == "Path":
        folder = recorded(name).output("output_examples").uri
        shard = f"{folder}/Split-unlabelled/examples-00000-of-00001.gz"
        assert [set(features_of(r)) for r in read_tfrecord(shard)] == [{"x", "size"}] * 2
