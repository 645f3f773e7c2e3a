"""The examples that an executor is given, as its job needs them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tfx import types
from tfx.components.util import examples_utils
from tfx.types import artifact_utils

from bulk_inferencer import _files
from bulk_inferencer._formats.input_format import InputFormat
from bulk_inferencer._formats.parquet import Parquet
from bulk_inferencer._formats.record_format import FORMAT_TF_EXAMPLE
from bulk_inferencer._formats.tfrecord_reader import TFRecord
from bulk_inferencer._units.inputs import list_files
from bulk_inferencer.components import keys
from bulk_inferencer.errors import InputError

Artifacts = Mapping[str, Sequence[types.Artifact]]

_EXAMPLES_KEY = re.compile(rf"{keys.EXAMPLES}(_\d+)?")

# How Examples artifacts name TFRecord files; one without the property holds them too.
_TFRECORD_FILES = ("", "tfrecords_gzip", "FORMAT_TFRECORDS_GZIP")
# The payload that stands for tables. TFX's ExampleGens then write Parquet files, and say all the
# same that they were TFRecord files.
_PARQUET = "FORMAT_PARQUET"
_PARQUET_FILES = (*_TFRECORD_FILES, "FILE_FORMAT_PARQUET")


class ExamplesFormat(NamedTuple):
    """The format of examples: that of their files, and that of their records."""

    files: InputFormat
    records: str


def single(artifacts: Artifacts, key: str) -> types.Artifact:
    """Returns the only artifact of a channel.

    Raises:
      InputError: there is none, or more than one.
    """
    found = artifacts.get(key) or []
    if len(found) != 1:
        raise InputError(
            f"{key} must be one artifact, but there are {len(found)}. Narrow its channel down to "
            f"one, for example with a Resolver."
        )
    return found[0]


def examples(artifacts: Artifacts) -> list[types.Artifact]:
    """Returns the examples of all channels: `examples`, `examples_1`, ..."""
    found = sorted(key for key in artifacts if _EXAMPLES_KEY.fullmatch(key))
    return [artifact for key in found for artifact in artifacts[key]]


def check_examples(artifacts: Artifacts) -> None:
    """Checks that each channel of examples holds some.

    Raises:
      InputError: one is empty, for example because a Resolver has found nothing.
    """
    empty = [key for key, found in artifacts.items() if _EXAMPLES_KEY.fullmatch(key) and not found]
    if empty or not examples(artifacts):
        raise InputError(
            f"There is no artifact in the channel of {', '.join(empty) or keys.EXAMPLES}. Run what "
            f"makes the examples first, or leave the channel out."
        )


def examples_format(examples: Sequence[types.Artifact]) -> ExamplesFormat:
    """Returns what the artifacts say of their format; no file is opened.

    Raises:
      InputError: there are no examples, or several formats, or files that are neither TFRecord nor
        Parquet files.
    """
    formats = {}
    for artifact in examples:
        payload = examples_utils.get_payload_format_string(artifact)
        files = artifact.get_string_custom_property("file_format")
        if files not in (_PARQUET_FILES if payload == _PARQUET else _TFRECORD_FILES):
            raise InputError(
                f"The examples at {artifact.uri} are {files} files with the payload {payload}, but "
                f"only TFRecord files and Parquet files with the payload {_PARQUET} can be scored. "
                f"Write them with an ExampleGen that makes one of these."
            )
        formats[artifact.uri] = payload
    if len(set(formats.values())) != 1:
        listed = ", ".join(f"{name} at {uri}" for uri, name in sorted(formats.items()))
        raise InputError(
            f"All examples must have the same payload format, but there are "
            f"{listed or 'no examples'}. Score each format with a BulkInferencer of its own."
        )
    (payload,) = set(formats.values())
    if payload == _PARQUET:
        return ExamplesFormat(Parquet(), FORMAT_TF_EXAMPLE)
    return ExamplesFormat(TFRecord(), payload)


def splits(examples: Sequence[types.Artifact], wanted: Sequence[str]) -> dict[str, list[str]]:
    """Returns the file patterns of each wanted split, over all artifacts; default: of all splits.

    Raises:
      InputError: a split does not exist, or an artifact has no files of it. An empty split has
        files without records.
    """
    patterns: dict[str, list[str]] = {}
    existing: set[str] = set()
    for artifact in examples:
        for split in artifact_utils.decode_split_names(artifact.split_names):
            existing.add(split)
            if not wanted or split in wanted:
                patterns.setdefault(split, []).append(_split_pattern(artifact, split))
    missing = [repr(split) for split in wanted if split not in existing]
    if missing or not existing:
        raise InputError(
            f"The examples do not have split {', '.join(missing) or 'names'}. They have: "
            f"{', '.join(sorted(existing)) or 'none'}. Correct DataSpec.example_splits."
        )
    return patterns


def _split_pattern(artifact: types.Artifact, split: str) -> str:
    if artifact.has_custom_property(examples_utils.CUSTOM_SPLIT_PATTERN_PROPERTY_NAME):
        (pattern,) = examples_utils.get_split_file_patterns([artifact], split)
    else:
        uri = artifact_utils.get_split_uri([artifact], split)
        pattern = _files.literal(uri) + "/*"
    if not list_files(split, [pattern], allow_none=True):
        raise InputError(
            f"The examples at {artifact.uri} have no files of split '{split}': nothing matches "
            f"{pattern}. Restore them, or run the ExampleGen again."
        )
    return str(pattern)
