"""The interface of a model and of its predictor, and what all kinds of models share."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from bulk_inferencer._signatures import Signature
from bulk_inferencer.errors import SettingsError

_NAME = re.compile(r"[a-z][a-z0-9_]*")

_WHERE_IN_GRAPH = re.compile(r"^\{\{function_node .*?\}\} ")
_ABOUT_GRAPH = re.compile(r"Graph execution error|Detected at node|<stack traces|\s*\[\[\{\{")


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


class OutOfMemory(Exception):
    """Raised by a predictor when a batch does not fit; a smaller one may."""


def without_graph(message: str) -> str:
    """Returns the lines of TensorFlow's message that are about the data, not about the graph."""
    lines = [line for line in message.splitlines() if line and not _ABOUT_GRAPH.match(line)]
    joined = _WHERE_IN_GRAPH.sub("", " ".join(lines or message.splitlines()))
    return joined.removeprefix("Name: <unknown>, ").partition(" [Op:")[0]


@dataclass(frozen=True)
class Prediction:
    """What a predictor returns for a batch of n records.

    Attributes:
      outputs: arrays of shape [n, ...] by output name, or by `<signature>/<output>` if there are
        several signatures. Strings are object arrays of `bytes`. If only some of the records have
        an output, it is a masked array in which the rows of the others are masked.
      stages: for a cascade, how many of the records each stage ran for, in the order of the stages.
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


def check_is_model(value: Any) -> None:
    """Raises SettingsError if a value lacks an attribute of the protocol `Model`."""
    if isinstance(value, str):  # most likely a path
        raise SettingsError(f"The string {value!r} is not a model. Use SavedModel({value!r}).")
    # Not by `hasattr`, which runs properties: those of a model may raise.
    names = ("uri", "check", "load", "fingerprint")
    found = [inspect.getattr_static(value, name, None) for name in names]
    if isinstance(value, type) or None in found:
        raise SettingsError(
            f"{value!r} is not a model. Use SavedModel(path), TFServing(address, model_name) or "
            f"VertexEndpoint(name)."
        )


def model_label(name: str) -> str:
    """Returns what messages about a named model begin with."""
    return f"Model '{name}'"


def check_name(name: str, what: str) -> None:
    """Raises SettingsError if the name of a model or stage cannot be part of files and outputs."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} cannot be the name of a {what}. Use lower-case letters, digits and "
            f"underscores, and begin with a letter."
        )
