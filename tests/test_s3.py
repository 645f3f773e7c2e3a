"""Runs whose files are in S3: moto's server, on this machine, with the options that Beam has."""

from __future__ import annotations

import re

import boto3
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from moto.server import ThreadedMotoServer

from bulk_inferencer import (
    InferenceJob,
    Outputs,
    SavedModel,
    Summary,
    _files,
    read_predictions,
    run,
)
from bulk_inferencer._formats import tfrecord
from bulk_inferencer._units.inputs import list_files
from bulk_inferencer.engines.beam import Beam
from bulk_inferencer.errors import InputError, SettingsError
from tests.helpers import exactly, example, features_of, write_tfrecord

KEYS = {"s3_access_key_id": "id", "s3_secret_access_key": "secret"}


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def options(server, monkeypatch):
    """Beam's options for a bucket that holds nothing yet; nothing else says where it is."""
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    names = ("aws_access_key_id", "aws_secret_access_key")
    keys = dict(zip(names, KEYS.values(), strict=True))
    client = boto3.client("s3", endpoint_url=server, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="bucket")
    yield [f"--s3_endpoint_url={server}", *(f"--{key}={value}" for key, value in KEYS.items())]
    for item in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=item["Key"])
    client.delete_bucket(Bucket="bucket")


def upload(options, path, target):
    FileSystems.set_options(PipelineOptions(options))
    _files.copy(path, target)
    FileSystems.set_options(None)


def job_of(linear_model, *patterns):
    return InferenceJob(
        splits={"s": list(patterns)},
        model=SavedModel(linear_model),
        outputs=Outputs.under("s3://bucket/out[1]"),
    )


@pytest.mark.slow
def test_inputs_and_outputs_are_in_s3(tmp_path, linear_model, options):
    for i in range(2):
        path = write_tfrecord(tmp_path / f"{i}.gz", [example(x=float(x)) for x in (i, i + 10)])
        upload(options, path, f"s3://bucket/in/{i}.gz")
    upload(options, path, "s3://bucket/in/_SUCCESS")

    summary = run(job_of(linear_model, "s3://bucket/in/*"), Beam(options))

    assert (summary.total.examples_read, summary.total.predictions_written) == (4, 4)
    found = read_predictions("s3://bucket/out[1]/inference_result")
    assert sorted((features_of(p.record)["x"][0], p.outputs["y"].item()) for p in found) == [
        (float(x), 5.0 * x) for x in (0, 1, 10, 11)
    ]
    assert Summary.read("s3://bucket/out[1]/summary") == summary
    left = [path.rpartition("/")[2] for path in _files.files_below("s3://bucket/out[1]")]
    assert sorted(left) == [
        *(f"failed_examples-{i:05d}-of-00002.gz" for i in range(2)),
        "failures-s.jsonl.gz",
        *(f"prediction_logs-s-{i:05d}-of-00002.gz" for i in range(2)),
        "statistics.json",
        "summary.json",
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
def test_files_in_s3_are_found_read_and_deleted_by_their_names(tmp_path, options):
    path = write_tfrecord(tmp_path / "a", [b"a"])
    names = ["s3://bucket/a[1].gz", "s3://bucket/a1.gz", "s3://bucket//a1.gz"]
    for name in names:
        upload(options, path, name)
    FileSystems.set_options(PipelineOptions(options))
    assert [file.path for file in list_files("s", names)] == sorted(names)
    assert list(tfrecord.read_chunks(names[0])) == [[b"a"]]
    _files.delete(names[0])
    assert list(_files.files_below("s3://bucket")) == sorted(names[1:])
    with pytest.raises(InputError, match=rf"^Cannot read {re.escape(names[0])} as TFRecord: "):
        list(tfrecord.read_chunks(names[0]))


def test_missing_credentials_are_named_within_seconds(linear_model, options):
    message = (
        "There are no credentials for s3://bucket/in/*. Run `aws configure`, set AWS_ACCESS_KEY_ID "
        "and AWS_SECRET_ACCESS_KEY, or give Beam's options --s3_access_key_id and "
        "--s3_secret_access_key to the run."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        run(job_of(linear_model, "s3://bucket/in/*"), Beam(options[:1]))
