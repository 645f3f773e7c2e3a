"""Installs as users do: plain pip, a clean environment, the commands of the README.

`make test-install` runs it; it downloads what it installs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# By version, set by `make test-install`.
PYTHONS = {v: os.environ.get(f"PYTHON_{v.replace('.', '_')}", "") for v in ("3.10", "3.12")}
MOST_MINUTES = 10

pytestmark = pytest.mark.skipif(not all(PYTHONS.values()), reason="run by make test-install")


def run(*command, **more):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=MOST_MINUTES * 60, **more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def command_of(words):
    """Returns the one command of the README that installs for these users."""
    (command,) = re.findall(rf"^pip install .*{re.escape(words)}.*$", README, re.MULTILINE)
    return [word.strip("'\"") for word in command.partition(" #")[0].split()[1:]]


def installed(folder, version, words):
    """Installs by the README's command, within ten minutes; returns the environment's Python."""
    run(PYTHONS[version], "-m", "venv", folder)
    python = folder / "bin" / "python"
    # A run of its own, so that nothing of this environment leads pip elsewhere.
    log = run(python, "-m", "pip", *command_of(words), cwd=ROOT)
    # What pip says when it tries one old version after the other.
    assert "taking longer than usual" not in log
    assert "multiple versions" not in log
    run(python, "-m", "pip", "check")
    return python


@pytest.mark.parametrize("version", PYTHONS)
def test_core_installs_and_scores_without_tfx(tmp_path, version):
    python = installed(tmp_path / "env", version, "constraints-core.txt")
    packages = run(python, "-m", "pip", "list", "--format=freeze").lower()
    assert not re.search(r"^(tfx|tfx-bsl|ml-metadata|scipy|kfp)==", packages, re.MULTILINE)
    (tmp_path / "data").mkdir()
    code = f"""
import tensorflow as tf
from bulk_inferencer.serving import export

features = {{"x": tf.io.FixedLenFeature([], tf.float32)}}
export(tf.function(lambda x: 5 * x), "models/five_times", features, output_name="y")
with tf.io.TFRecordWriter("data/part.tfrecord.gz", "GZIP") as writer:
    for x in range(3):
        example = tf.train.Example()
        example.features.feature["x"].float_list.value.append(x)
        writer.write(example.SerializeToString())

{snippet("InferenceJob(")}
assert summary.total.predictions_written == 3, summary
{snippet("RunInference(")}
"""
    printed = run(python, "-W", "ignore", "-c", code, cwd=tmp_path)
    assert printed.count("predict_log {") == 3
    error = subprocess.run(
        [python, "-c", "from bulk_inferencer import BulkInferencer"], capture_output=True, text=True
    ).stderr
    assert error.rstrip().endswith("pip install 'bulk-inferencer[tfx]'")
    get_a_report(python, tmp_path / "models", tmp_path / "by_commands")


def get_a_report(python, models, folder):
    """Runs the two commands of the README on a model and a Parquet file."""
    folder.mkdir()
    (folder / "models").symlink_to(models)
    table = "pd.DataFrame({'id': ['a', 'b'], 'x': [1.5, 2.5]}).to_parquet('points.parquet')"
    run(python, "-c", f"import pandas as pd; {table}", cwd=folder)
    (commands,) = re.findall(r"```sh\n(bulk-inferencer predict .*?)```", README, re.DOTALL)
    path = {"PATH": f"{python.parent}:{os.environ['PATH']}"}
    run("sh", "-ec", commands, cwd=folder, env={**os.environ, **path})
    assert "models/five_times" in (folder / "report.html").read_text(encoding="utf-8")


def snippet(text):
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if text in b]
    return block


def test_tfx_extra_installs_with_constraints_and_an_environment_with_tfx_stays_as_it_is(tmp_path):
    python = installed(tmp_path / "env", "3.10", "constraints-tfx-1.16.txt")
    code = "import tfx; from bulk_inferencer import BulkInferencer; print(tfx.__version__)"
    assert run(python, "-W", "ignore", "-c", code).split()[-1] == "1.16.0"

    before = run(python, "-m", "pip", "freeze")
    run(python, "-m", "pip", "uninstall", "--yes", "bulk-inferencer")
    run(python, "-m", "pip", *command_of("into an environment that has TFX already"), cwd=ROOT)
    assert run(python, "-m", "pip", "freeze") == before


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return {path.suffix: path for path in folder.iterdir()}


def test_distributions_pass_the_index_checks(distributions):
    run(sys.executable, "-m", "twine", "check", "--strict", *distributions.values())


def test_metadata_is_complete(distributions):
    with tarfile.open(distributions[".gz"]) as archive:
        (name,) = [n for n in archive.getnames() if re.fullmatch(r"[^/]+/PKG-INFO", n)]
        metadata = HeaderParser().parsestr(archive.extractfile(name).read().decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert "tfx" in metadata["Keywords"].split(",")
    assert metadata["Requires-Python"] == "<3.14,>=3.10"
    assert {f"Programming Language :: Python :: 3.{n}" for n in (10, 11, 12, 13)} <= set(
        metadata.get_all("Classifier")
    )
    extras = {"airflow", "aws", "dev", "gcp", "kubeflow", "ray", "spark", "tfx", "vertex"}
    assert set(metadata.get_all("Provides-Extra")) == extras
    core = [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r]
    assert not [requirement for requirement in core if re.match(r"tfx|scipy|kfp", requirement)]


def test_source_distribution_holds_what_its_tests_need(distributions, tmp_path):
    with tarfile.open(distributions[".gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    tracked = set(run("git", "ls-files", cwd=ROOT).splitlines())
    assert tracked - names <= {".dockerignore", ".gitignore"}
    (folder,) = tmp_path.iterdir()
    run(sys.executable, "setup.py", "build_ext", "--inplace", cwd=folder)
    printed = run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/formats",
        "tests/docs", "-m", "not slow",
        cwd=folder,
    )  # fmt: skip
    assert re.search(r"\d+ passed", printed)


def test_without_a_compiler_the_package_works_and_says_what_that_costs(distributions, tmp_path):
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    env = {**os.environ, "CC": "false"}
    run(*command, "--target", tmp_path, distributions[".gz"], env=env)
    assert not list(tmp_path.rglob("_framing*.so"))
    code = """
import bulk_inferencer
from bulk_inferencer._formats import framing
print(bulk_inferencer.__file__, framing.is_compiled, framing.frame([b"x"]).hex())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    path, is_compiled, frame = done.stdout.split()
    assert Path(path).parents[1] == tmp_path
    assert (is_compiled, frame[:16]) == ("False", "0100000000000000")
    assert done.stderr.startswith("This package was built without a C compiler here (")


def test_wheel_serves_all_versions_of_python(distributions, tmp_path):
    assert re.search(r"-cp310-abi3-linux_\w+\.whl$", str(distributions[".whl"]))
    run(sys.executable, "-m", "zipfile", "-e", distributions[".whl"], tmp_path)
    code = "import _framing; print(_framing.frame([b'x']).hex())"
    (folder,) = {path.parent for path in tmp_path.rglob("_framing*.so")}
    printed = {run(python, "-c", code, cwd=folder) for python in PYTHONS.values()}
    assert len(printed) == 1


def test_wheel_holds_the_package_alone(distributions, tmp_path):
    run(sys.executable, "-m", "zipfile", "-e", distributions[".whl"], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "bulk_inferencer",
        "bulk_inferencer-0.1.0.dist-info",
    }
    assert (tmp_path / "bulk_inferencer" / "py.typed").exists()
    assert (tmp_path / "bulk_inferencer" / "bulk_inferencer_pb2.pyi").exists()
