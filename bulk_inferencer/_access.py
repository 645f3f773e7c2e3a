"""Whether paths can be opened here: the libraries, credentials and options that they need."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

from bulk_inferencer import _extras
from bulk_inferencer._patterns import scheme_of
from bulk_inferencer.errors import MissingExtraError, SettingsError

_GOOGLE = "gs"
_AWS = "s3"
# By scheme: the module that opens paths, and the extra of ours that installs it,
_EXTRAS = {_GOOGLE: ("google.cloud.storage", "gcp"), _AWS: ("boto3", "aws")}
# or what else does.
_PACKAGES = {
    "azfs": ("azure.storage.blob", "'apache-beam[azure]'"),
    "hdfs": ("hdfs", "hdfs"),
}
_LOG_IN = {
    _GOOGLE: (
        "Run `gcloud auth application-default login`, set GOOGLE_APPLICATION_CREDENTIALS, or, for "
        "a bucket that is open to everybody, give Beam's option --no_auth to the run."
    ),
    _AWS: (
        "Run `aws configure`, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give Beam's "
        "options --s3_access_key_id and --s3_secret_access_key to the run."
    ),
}


def check_access(paths: Iterable[str], needs_credentials: bool = True) -> None:
    """Checks that there are the libraries, credentials and options that paths need.

    Beam looks for credentials for minutes, or up to an hour, and then fails for another reason.

    Args:
      paths: paths and patterns on any filesystem.
      needs_credentials: whether they must be here already.

    Raises:
      MissingExtraError: a library is missing.
      SettingsError: credentials or options of Beam are missing, or Beam knows no such filesystem.
    """
    for scheme, path in {scheme_of(path): path for path in paths}.items():
        if scheme:
            _check_library(scheme, path)
            _check_options(scheme, path)
            if needs_credentials and not _has_credentials(scheme):
                raise SettingsError(f"There are no credentials for {path}. {_LOG_IN[scheme]}")


def is_known(path: str) -> bool:
    """Returns whether a path is of a scheme whose needs are known here."""
    return scheme_of(path) in {*_EXTRAS, *_PACKAGES}


def _check_library(scheme: str, path: str) -> None:
    from apache_beam.io.filesystem import FileSystem
    from apache_beam.io.filesystems import FileSystems  # noqa: F401  which registers them

    if scheme in _EXTRAS:
        _extras.require(*_EXTRAS[scheme], path)
    if scheme in _PACKAGES:
        module, package = _PACKAGES[scheme]
        if not _extras.is_installed(module):
            raise MissingExtraError(
                f"{path} needs {module}, which is not installed. Install it with: pip install "
                f"{package}"
            )
    if all(known.scheme() != scheme for known in FileSystem.get_all_subclasses()):
        raise SettingsError(
            f"There is no filesystem for {scheme}://, as in {path}. Copy the files to a disk, to "
            f"gs:// or to s3://."
        )


def _check_options(scheme: str, path: str) -> None:
    from apache_beam.io.filesystems import FileSystems

    try:
        FileSystems.get_filesystem(path)
    except ValueError as error:
        raise SettingsError(
            f"{path} cannot be opened: {error}. Give Beam's options for {scheme}:// to the run."
        ) from error


def _has_credentials(scheme: str) -> bool:
    from apache_beam.io.filesystems import FileSystems

    given = getattr(FileSystems, "_pipeline_options", None)
    options = given.get_all_options() if given else {}
    if scheme == _GOOGLE:
        return bool(options.get("no_auth")) or _has_google_credentials()
    if scheme == _AWS:
        return bool(options.get("s3_access_key_id")) or _has_aws_credentials()
    return True


def _has_google_credentials() -> bool:
    import google.auth

    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return True
    logger = logging.getLogger("google.auth")
    level = logger.level
    logger.setLevel(logging.ERROR)  # It warns of each attempt.
    try:
        google.auth.default()
    except google.auth.exceptions.DefaultCredentialsError:
        return False
    finally:
        logger.setLevel(level)
    return True


def _has_aws_credentials() -> bool:
    import boto3

    return boto3.session.Session().get_credentials() is not None
