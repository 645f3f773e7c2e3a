from __future__ import annotations

import sys

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from bulk_inferencer import _access
from bulk_inferencer._access import check_access
from bulk_inferencer.errors import MissingExtraError, SettingsError
from tests.helpers import exactly

LOG_IN = {
    "gs": "Run `gcloud auth application-default login`, set GOOGLE_APPLICATION_CREDENTIALS, or, "
    "for a bucket that is open to everybody, give Beam's option --no_auth to the run.",
    "s3": "Run `aws configure`, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give Beam's "
    "options --s3_access_key_id and --s3_secret_access_key to the run.",
}


@pytest.fixture(autouse=True)
def logged_out(tmp_path, monkeypatch):
    """Nobody is logged in anywhere, and this is nobody's cloud."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("GCE_METADATA_IP", "127.0.0.1:9")
    for name in ("CLOUDSDK_CONFIG", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@pytest.mark.parametrize("scheme", [pytest.param("gs", marks=pytest.mark.slow), "s3"])
def test_missing_credentials_are_named(scheme, caplog):
    path = f"{scheme}://bucket/in/*"
    message = f"There are no credentials for {path}. {LOG_IN[scheme]}"
    with pytest.raises(SettingsError, match=exactly(message)):
        check_access(["/in/*", path])
    assert [record for record in caplog.records if record.name.startswith("google")] == []
    check_access([path], needs_credentials=False)


@pytest.mark.parametrize(
    ("scheme", "option"), [("gs", "--no_auth"), ("s3", "--s3_access_key_id=key")]
)
def test_options_of_beam_stand_for_credentials(monkeypatch, scheme, option):
    monkeypatch.setattr(FileSystems, "_pipeline_options", PipelineOptions([option]))
    check_access([f"{scheme}://bucket/in"])


def test_credentials_that_the_environment_has_are_found(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "STORAGE_EMULATOR_HOST"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    check_access(["s3://bucket/in", "gs://bucket/in"])


@pytest.mark.parametrize(
    ("path", "module", "install"),
    [
        ("gs://b/x", "google.cloud.storage", "'bulk-inferencer[gcp]'"),
        ("s3://b/x", "boto3", "'bulk-inferencer[aws]'"),
        ("hdfs://b/x", "hdfs", "hdfs"),
        ("azfs://b/x", "azure.storage.blob", "'apache-beam[azure]'"),
    ],
)
def test_missing_libraries_are_named_with_what_installs_them(monkeypatch, path, module, install):
    monkeypatch.setitem(sys.modules, module, None)
    message = (
        f"{path} needs {module}, which is not installed. Install it with: pip install {install}"
    )
    with pytest.raises(MissingExtraError, match=exactly(message)):
        check_access([path])


@pytest.mark.parametrize(
    "path", ["http://example.com/x.gz", "https://x/y", "ftp://x/y", "minio://x"]
)
def test_unknown_filesystem_is_named(path):
    scheme = path.partition(":")[0]
    message = (
        f"There is no filesystem for {scheme}://, as in {path}. Copy the files to a disk, to gs:// "
        f"or to s3://."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        check_access([path])


def test_paths_on_a_disk_and_of_filesystems_of_others_need_nothing():
    check_access(["/in/*", "in", "C:/in", "bucket://tmp/x"])
    assert _access.is_known("s3://b/x")
    assert not _access.is_known("grpc://server:8500/five")
