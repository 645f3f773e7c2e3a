"""Options of the engine become an engine, and modules of the user's go to its workers."""

from __future__ import annotations

import json
import sys
import zipfile

import click
import pytest

from bulk_inferencer import engines
from bulk_inferencer.cli.engine_options import engine_of, is_local
from bulk_inferencer.cli.modules import files_here, let_import
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly, tree

NONE = {
    **dict.fromkeys(("accelerator", "min_ram", "worker_timeout_seconds", "master")),
    **dict.fromkeys(("address", "num_cpus", "num_gpus")),
    **dict.fromkeys(("runtime_env", "node_seconds", "max_retries")),
    "conf": (),
    "engine": "beam",
}


def made(*args, **given):
    engine, others = engine_of({**NONE, **given, "limit": 3}, args)
    assert others == {"limit": 3}
    return engine


@pytest.mark.parametrize(
    ("args", "given", "expected"),
    [
        ([], {}, engines.Beam(())),
        (
            ["--direct_num_workers=2"],
            {"accelerator": "type:a;count:1", "min_ram": "2GB"},
            engines.Beam(("--direct_num_workers=2",), accelerator="type:a;count:1", min_ram="2GB"),
        ),
        ([], {"worker_timeout_seconds": 30.0}, engines.Beam((), worker_timeout_seconds=30)),
        ([], {"engine": "ray"}, engines.Ray()),
        (
            ["--s3_region_name=eu", "--s3_endpoint_url", "http://a"],
            {"engine": "ray", "address": "ray://head:10001", "num_cpus": 2, "num_gpus": 0.5},
            engines.Ray(
                "ray://head:10001",
                num_cpus=2,
                num_gpus=0.5,
                options=("--s3_region_name=eu", "--s3_endpoint_url", "http://a"),
            ),
        ),
        (
            [],
            {"engine": "ray", "runtime_env": {"pip": []}, "node_seconds": 0.0, "max_retries": 0},
            engines.Ray(runtime_env={"pip": []}, node_seconds=0, max_retries=0),
        ),
        (
            ["--project=p"],
            {"engine": "spark", "master": "local[2]", "conf": (("a.b", "1"), ("c", "x=y"))},
            engines.Spark("local[2]", {"a.b": "1", "c": "x=y"}, options=("--project=p",)),
        ),
    ],
)
def test_options_become_an_engine(args, given, expected):
    assert made(*args, **given) == expected


@pytest.mark.parametrize(
    ("args", "given", "message"),
    [
        ([], {"address": "auto"}, (
            "--address is for --engine ray, but the engine is beam. Write --engine ray, or leave "
            "out --address.")),
        ([], {"num_gpus": 1.0, "engine": "spark"}, (
            "--num-gpus is for --engine ray, but the engine is spark. Write --engine ray, or leave "
            "out --num-gpus.")),
        ([], {"conf": (("a", "b"),), "engine": "ray"}, (
            "--conf is for --engine spark, but the engine is ray. Write --engine spark, or leave "
            "out --conf.")),
        ([], {"worker_timeout_seconds": 1.0, "engine": "ray"}, (
            "--worker-timeout is for --engine beam, but the engine is ray. Write --engine beam, or "
            "leave out --worker-timeout.")),
        (["--s3_region_name=eu", "--runner=FlinkRunner"], {"engine": "ray"}, (
            "With --engine ray, Beam's options only open files, as --s3_region_name does, but "
            "--runner does not. Leave it out.")),
        ([], {"conf": (("a", "1"), ("a", "2")), "engine": "spark"},
         "--conf names 'a' twice. Name it once."),
    ],
)  # fmt: skip
def test_option_of_another_engine_is_refused(args, given, message):
    with pytest.raises(click.UsageError, match=exactly(message)):
        made(*args, **given)


def test_option_for_files_needs_its_value_on_every_engine():
    for engine in ("beam", "ray", "spark"):
        with pytest.raises(SettingsError, match="--s3_region_name: expected one argument"):
            made("--s3_region_name", engine=engine)


def test_engine_that_is_not_installed_is_a_line_with_its_extra(here, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    command = ("predict", "own_models:times_five", "data.parquet", "-o", "out", "--engine", "ray")
    code, out, err = call(*command)
    assert (code, out, tree(here / "out")) == (1, "", [])
    (error,) = err.splitlines()[1:]
    assert error == (
        "Error: --engine ray needs ray, which is not installed. Install it with: pip install "
        "'bulk-inferencer[ray]'"
    )


def test_wrong_engine_is_wrong_usage(here, call):
    command = ("predict", "own_models:times_five", "data.parquet", "-o", "out", "--num-gpus", "1")
    code, _, err = call(*command)
    assert (code, (here / "out").exists()) == (2, False)
    assert err.splitlines()[-1].startswith("Error: --num-gpus is for --engine ray, ")


@pytest.mark.parametrize("text", ["pip", "[1]", '{"pip": '])
def test_environment_that_is_no_object_in_json_is_wrong_usage(here, call, text):
    command = ("predict", "own_models:times_five", "data.parquet", "-o", "out", "--engine", "ray")
    code, _, err = call(*command, "--runtime-env", text)
    assert (code, (here / "out").exists()) == (2, False)
    assert err.splitlines()[-1] == (
        f"Error: Invalid value for '--runtime-env': {text!r} is no object in JSON, such as "
        f"""'{{"pip": ["scikit-learn"]}}'."""
    )


def test_settings_of_ray_are_taken_from_the_command_line(here, call, monkeypatch):
    made = []
    monkeypatch.setattr(engines.Ray, "check", lambda engine: made.append(engine) or 1 / 0)
    command = ("predict", "own_models:times_five", "data.parquet", "-o", "out", "--engine", "ray")
    environment = '{"env_vars": {"A": "1"}}'
    more = ("--runtime-env", environment, "--node-seconds", "5", "--max-retries", "-1")
    call(*command, *more)
    expected = engines.Ray(runtime_env=json.loads(environment), node_seconds=5, max_retries=-1)
    assert made == [expected]


def test_workers_that_start_in_the_folder_of_this_process_are_local():
    processes = ("--runner=FnApiRunner", "--direct_running_mode=multi_processing")
    assert is_local(made())
    assert is_local(made(*processes))
    assert not is_local(made("--runner=PortableRunner", "--job_endpoint=localhost:1"))
    assert not is_local(made(engine="ray"))


def test_files_of_this_folder_are_found_by_the_functions_that_are_named(here, monkeypatch):
    (here / "hooks.py").touch()
    (here / "json.py").touch()  # which is not the one that Python imports
    names = ["own_models:times_five", "hooks", "hooks:a", "json:loads", "no_such:f", "a.b:f"]
    assert files_here(names, []) == ["own_models.py", "hooks.py"]
    assert files_here(names, ["code/hooks.py", "own.whl"]) == ["own_models.py"]


@pytest.mark.parametrize("kind", ["file", "wheel"])
def test_module_that_is_named_is_imported_from_its_file(here, call, monkeypatch, kind):
    source = "def load(path):\n    return lambda features: {'y': 2 * features['x']}\n"
    (here / "code").mkdir()
    (here / "code/doubling.py").write_text(source)
    module = "code/doubling.py"
    if kind == "wheel":
        module = "doubling-1-py3-none-any.whl"
        with zipfile.ZipFile(here / module, "w") as wheel:
            wheel.write(here / "code/doubling.py", "doubling.py")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "doubling", raising=False)
    code, out, _ = call(
        *("predict", "doubling:load", "data.parquet", "--limit", "5", "--module", module)
    )
    assert (code, out.splitlines()[2].split()[-1]) == (0, "0.2")


def test_file_that_is_not_there_is_no_place_to_import_from(tmp_path):
    before = list(sys.path)
    let_import([str(tmp_path / "gone.py"), "gs://bucket/code/hooks.py"])
    assert sys.path == before


def test_module_that_is_missing_is_named_by_its_option(here, call):
    command = ("predict", "own_models:times_five", "data.parquet", "-o", "out")
    code, _, err = call(*command, "--module", "gone.py")
    assert code == 2
    assert err.splitlines()[1:] == ["Error: There is no module gone.py. Correct --module."]
