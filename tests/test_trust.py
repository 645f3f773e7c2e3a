"""What may be trusted: inputs are data, secrets stay where they are, dependencies are known."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path

import pytest

import bulk_inferencer
from bulk_inferencer import InferenceJob, Outputs, SavedModel, run
from bulk_inferencer.engines.beam import Beam
from tests.helpers import example, tree, write_tfrecord

PACKAGE = Path(bulk_inferencer.__file__).parent
REQUIREMENTS = PACKAGE.parent / "requirements"
CANARY = "CANARY-0123456789"
# Options that exist, which Beam takes, and that really hold secrets.
OPTIONS = [f"--s3_secret_access_key={CANARY}", f"--azure_connection_string={CANARY}"]


def calls_and_imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "id", "")
            yield from (keyword.arg for keyword in node.keywords)
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


# Between the launcher and workers, through a channel that runs code of theirs anyway.
CHANNELS = {"parcel.py", "pickling.py", "beam_unit.py", "unpacking.py", "stage_codec.py"}


def test_nothing_is_unpickled_or_evaluated_but_what_engines_carry():
    code = {"allow_pickle", "cloudpickle", "compile", "dill", "eval", "exec", "joblib", "marshal"}
    code |= {"pickle", "shelve"}
    paths = list(PACKAGE.rglob("*.py"))
    assert len(paths) > 50
    found = {path.name: code.intersection(calls_and_imports(path)) for path in paths}
    used = {name: words for name, words in found.items() if words}
    assert all(words <= {"pickle", "cloudpickle"} for words in used.values())
    assert used.keys() == CHANNELS | {"beam.py", "ray.py", "spark.py"}


@pytest.mark.parametrize(
    "name", ["a\nb.gz", "%2e%2e%2fa.gz", "$(touch a).gz", "-rf", "x" * 250], ids=ascii
)
def test_names_of_input_files_leave_no_trace_outside_the_outputs(tmp_path, linear_model, name):
    write_tfrecord(tmp_path / "in" / name, [example(x=1.0)])
    splits, outputs = {"s": [f"{tmp_path}/in/*"]}, Outputs.under(tmp_path / "out")
    run(InferenceJob(splits=splits, model=SavedModel(linear_model), outputs=outputs))
    assert tree(tmp_path) == sorted(
        [
            f"in/{name}",
            "out/failed_examples/Split-s/failed_examples-00000-of-00001.gz",
            "out/inference_result/prediction_logs-s-00000-of-00001.gz",
            "out/summary/failures-s.jsonl.gz",
            "out/summary/statistics.json",
            "out/summary/summary.json",
        ]
    )


# Secrets


def files_with_the_canary(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if CANARY.encode() in path.read_bytes()]


def test_secrets_in_options_of_beam_are_in_no_result_and_no_log(tmp_path, linear_model, caplog):
    write_tfrecord(tmp_path / "in/0.gz", [example(x=1.0), b"broken"])
    splits, outputs = {"s": [f"{tmp_path}/in/*"]}, Outputs.under(tmp_path / "out")
    job = InferenceJob(splits=splits, model=SavedModel(linear_model), outputs=outputs)
    with caplog.at_level(logging.DEBUG):
        with pytest.raises(bulk_inferencer.errors.FailureLimitError) as raised:
            run(job, Beam(OPTIONS))
        write_tfrecord(tmp_path / "in/0.gz", [example(x=1.0)])
        run(job, Beam(OPTIONS), restart=True)
    assert CANARY not in f"{raised.value} {caplog.text}"
    assert files_with_the_canary(tmp_path) == []


def test_log_names_the_model_and_its_fingerprint(tmp_path, linear_model, caplog):
    write_tfrecord(tmp_path / "in/0.gz", [example(x=1.0)])
    splits, outputs = {"s": [f"{tmp_path}/in/*"]}, Outputs.under(tmp_path / "out")
    with caplog.at_level(logging.INFO):
        summary = run(InferenceJob(splits=splits, model=SavedModel(linear_model), outputs=outputs))
    (branch,) = summary.branches.values()
    assert re.fullmatch("[0-9a-f]{64}", branch.model_fingerprint)
    expected = f"Scoring with {linear_model}; fingerprint: {branch.model_fingerprint}."
    assert expected in caplog.messages


@pytest.mark.slow
def test_secrets_in_a_pipeline_are_in_no_artifact_and_not_in_ml_metadata(
    tmp_path, linear_model, caplog
):
    from tfx.types import standard_artifacts

    from bulk_inferencer import BulkInferencer
    from tests.components.tfx_helpers import LocalPipeline, importer, write_examples

    uri = write_examples(tmp_path / "examples", eval=[example(x=1.0)])
    nodes = [
        importer("examples", standard_artifacts.Examples, uri, ["eval"]),
        importer("model", standard_artifacts.Model, linear_model),
    ]
    made = BulkInferencer(
        examples=nodes[0].outputs["result"], model_export=nodes[1].outputs["result"]
    ).with_beam_pipeline_args(OPTIONS)
    with caplog.at_level(logging.INFO):
        LocalPipeline(tmp_path).run(*nodes, made)
    assert (tmp_path / "metadata.sqlite").exists()
    assert files_with_the_canary(tmp_path) == []
    # TFX logs the whole configuration; nobody else may.
    leaks = {record.name for record in caplog.records if CANARY in record.getMessage()}
    assert leaks <= {"absl"}


# What is installed


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda path: path.stem)
def test_locks_carry_the_hash_of_each_package_and_constraints_for_users_none(path):
    text = path.read_text(encoding="utf-8")
    packages = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(packages) > 20
    has_hashes = ["--hash=sha256:" in package for package in packages]
    assert set(has_hashes) == {not path.name.startswith("constraints-")}
