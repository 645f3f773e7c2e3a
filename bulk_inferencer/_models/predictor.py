"""The interface of a model and of its predictor, and what all kinds of models share."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from bulk_inferencer._formats.first_records import FirstRecords
from bulk_inferencer._models import recognition
from bulk_inferencer._signatures import Signature
from bulk_inferencer.errors import EndpointError, ModelError, SettingsError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")

_WHERE_IN_GRAPH = re.compile(r"^\{\{function_node .*?\}\} ")
_OF_TENSORFLOW = re.compile(rb"\{\{(function_)?node |\[Op:")
_ABOUT_GRAPH = re.compile(r"Graph execution error|Detected at node|<stack traces|\s*\[\[\{\{")
_MOST_CHARACTERS = 1000


class RecordError(Exception):
    """Raised by a predictor when a record of the batch cannot be scored.

    Attributes:
      error_type: the kind of error, as its source names it, such as `InvalidArgumentError`.
      message: the reason, on one line.
    """

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(error_type, message)
        self.error_type = error_type
        self.message = message

    def __str__(self) -> str:
        return f"{self.error_type}: {self.message}"


class NothingScored(EndpointError):
    """Raised by a predictor that no record has been scored with yet, the batch included.

    If it scores a record from elsewhere, the batch may be tried again.
    """


class OutOfMemory(Exception):
    """Raised by a predictor when a batch does not fit; a smaller one may."""


def reason_of(error: Exception) -> RecordError:
    """Returns an error of a model, or of a hook, as what a failed record shows of it.

    It cannot fail itself, and the message is on one line and not endless, whatever the error is.
    """
    if isinstance(error, RecordError):
        return error
    try:
        kind, message = type(error).__name__, str(error)
    except Exception as broken:  # noqa: BLE001, `__str__` is code of whoever wrote the error
        kind, raised = type(error).__name__, type(broken).__name__
        message = f"it has no message, because str() of it raised {raised}"
    # TensorFlow's message quotes a record that is not UTF-8, which Python cannot decode.
    if isinstance(error, UnicodeDecodeError) and _OF_TENSORFLOW.search(error.object):
        kind, message = "InvalidArgumentError", error.object.decode(errors="backslashreplace")
    return RecordError(kind, shortened(without_graph(message)))


def without_graph(message: str) -> str:
    """Returns the lines of TensorFlow's message that are about the data, not about the graph."""
    lines = [line for line in message.splitlines() if line and not _ABOUT_GRAPH.match(line)]
    joined = _WHERE_IN_GRAPH.sub("", " ".join(lines or message.splitlines()))
    return joined.removeprefix("Name: <unknown>, ").partition(" [Op:")[0]


def shortened(text: str) -> str:
    """Returns a text without its middle, if it is very long: it may quote a whole record."""
    if len(text) <= _MOST_CHARACTERS:
        return text
    half = _MOST_CHARACTERS // 2
    return f"{text[:half]} [...] {text[-half:]}"


def shown(value: Any) -> str:
    """Returns a value for a message, where it may be anything that a user has passed."""
    try:
        return shortened(" ".join(repr(value).split()))
    except Exception:  # noqa: BLE001, `__repr__` is code of whoever wrote the class
        return f"an object of type {type(value).__name__}"


@dataclass(frozen=True)
class Prediction:
    """What a predictor returns for a batch of n records.

    Attributes:
      outputs: arrays of shape [n, ...] by output name, or by `<signature>/<output>` if there are
        several signatures. Strings are object arrays of `bytes`. If only some of the records have
        an output, it is a masked array in which the rows of the others are masked.
      stages: for a cascade, how many of the records each stage ran for, in the order of the stages;
        for one within a stage, by `<stage>/<its stage>`. Outputs that only a stage with none of the
        records has may be missing.
      versions: the versions of the model that answered, for models whose server may change them.
    """

    outputs: Mapping[str, np.ndarray]
    stages: Mapping[str, int] = field(default_factory=dict)
    versions: frozenset[str] = frozenset()


class Predictor(Protocol):
    """Scores batches of records. Several threads call it at once.

    Attributes:
      signatures: the signatures that `predict` calls, in the order of the results.
      input_name: the name under which a PredictionLog carries the record.
    """

    @property
    def signatures(self) -> Sequence[Signature]: ...

    @property
    def input_name(self) -> str: ...

    def predict(self, batch: Sequence[bytes]) -> Prediction:
        """Scores a batch.

        Args:
          batch: n serialized records.

        Raises:
          BulkInferencerError: the model breaks the contract above, or does not answer. No record is
            at fault.
          OutOfMemory: the batch is too large.
          RecordError: a record of the batch cannot be scored. Any other exception means the same,
            since models may run any code.
        """
        ...


class Model(Protocol):
    """Settings that say which model to use. A worker turns them into a predictor."""

    @property
    def uri(self) -> str:
        """Where the model is, for messages and results."""
        ...

    def check(self, record_format: str) -> tuple[Signature, ...]:
        """Returns the signatures to call, without loading the model.

        Args:
          record_format: one of `RECORD_FORMATS`.

        Raises:
          BulkInferencerError: the model does not exist or cannot take records of this format.
        """
        ...

    def load(self, record_format: str) -> Predictor:
        """Returns the predictor.

        Args:
          record_format: one of `RECORD_FORMATS`.

        Raises:
          BulkInferencerError: as for `check`, or the model does not load.
        """
        ...

    def fingerprint(self) -> str:
        """Returns a digest of the model's content, or an empty string if it is out of reach."""
        ...


class Files(NamedTuple):
    """What a model's files were like when the run began.

    Attributes:
      fingerprint: see `Model.fingerprint`.
      stamp: what changes if a file is replaced; empty if the model has no files.
    """

    fingerprint: str
    stamp: str


def files_of(model: Model) -> Files:
    """Returns what a model's files are like; workers compare them by `check_unchanged`."""
    # First the stamp: files that change after it make workers compare the fingerprint.
    own_stamp = stamp(model)
    return Files(model.fingerprint(), own_stamp)


def stamp(model: Model) -> str:
    """Returns what changes if a file of the model is replaced; empty if the model has no files."""
    return model.stamp() if isinstance(model, _ModelOfFiles) else ""


def check_unchanged(model: Model, before: Files) -> None:
    """Raises ModelError if the model's files are no longer those that the run has found."""
    if stamp(model) != before.stamp and model.fingerprint() != before.fingerprint:
        raise ModelError(
            f"The files of {model.uri} have changed since the run began, so that what was loaded "
            f"is not the model whose fingerprint the results would carry. Nothing was committed. "
            f"Run again, and let a new model have a folder of its own."
        )


def fitted(model: Model, record_format: str, first: FirstRecords) -> Model:
    """Returns the model as it is called for records like these.

    Raises:
      ModelError: the records lack what the model needs.
    """
    return model.fitted(record_format, first) if isinstance(model, _ModelOfFeatures) else model


@runtime_checkable
class _ModelOfFiles(Protocol):
    def stamp(self) -> str: ...


@runtime_checkable
class _ModelOfFeatures(Protocol):
    def fitted(self, record_format: str, first: FirstRecords) -> Model: ...


def check_is_model(value: Any) -> None:
    """Raises SettingsError if a value lacks an attribute of the protocol `Model`."""
    if isinstance(value, (str, os.PathLike)):  # most likely the folder of a model
        kind, path = "string" if isinstance(value, str) else "path", os.fspath(value)
        raise SettingsError(f"The {kind} {path!r} is not a model. Use SavedModel({path!r}).")
    # Not by `hasattr`, which runs properties: those of a model may raise.
    names = ("uri", "check", "load", "fingerprint")
    found = [inspect.getattr_static(value, name, None) for name in names]
    if isinstance(value, type) or None in found:
        if known := recognition.about_object(value):
            raise SettingsError(f"{shown(value)} is not a model, but {known}.")
        raise SettingsError(
            f"{shown(value)} is not a model. Use SavedModel(path), PythonModel(load_model, path), "
            f"TFServing(address, model_name) or VertexEndpoint(name)."
        )


def model_label(name: str) -> str:
    """Returns what messages about a named model begin with."""
    return f"Model '{name}'"


def check_name(name: str, what: str) -> None:
    """Raises SettingsError if the name of a model or stage cannot be part of files and outputs."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} cannot be the name of a {what}. Use up to 100 lower-case letters, digits "
            f"and underscores, and begin with a letter."
        )
