"""What everything that scores records has in common."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np

from bulk_inferencer._signatures import Signature
from bulk_inferencer.errors import SettingsError

# Formats of a record, named as in TFX's example_gen.proto.
FORMAT_TF_EXAMPLE = "FORMAT_TF_EXAMPLE"
FORMAT_TF_SEQUENCE_EXAMPLE = "FORMAT_TF_SEQUENCE_EXAMPLE"
FORMAT_PROTO = "FORMAT_PROTO"
RECORD_FORMATS = (FORMAT_TF_EXAMPLE, FORMAT_TF_SEQUENCE_EXAMPLE, FORMAT_PROTO)

_WHERE_IN_GRAPH = re.compile(r"^\{\{function_node .*?\}\} ")
_ABOUT_GRAPH = re.compile(r"Graph execution error|Detected at node|<stack traces|\s*\[\[\{\{")


class RecordError(Exception):
    """Raised by a predictor for a batch with a record that cannot be scored.

    Attributes:
      error_type: what kind of error it was, where it came from, such as `InvalidArgumentError`.
      message: why, in a line.
    """

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(error_type, message)
        self.error_type = error_type
        self.message = message

    def __str__(self) -> str:
        return f"{self.error_type}: {self.message}"


class OutOfMemory(Exception):
    """Raised by a predictor for a batch that does not fit; a smaller one may."""


def cause(message: str) -> str:
    """Returns the lines of TensorFlow's message that speak of the data and not of the graph."""
    lines = [line for line in message.splitlines() if line and not _ABOUT_GRAPH.match(line)]
    joined = _WHERE_IN_GRAPH.sub("", " ".join(lines or message.splitlines()))
    return joined.removeprefix("Name: <unknown>, ").partition(" [Op:")[0]


class Predictor(Protocol):
    """Scores batches of records. Called from several threads at once."""

    @property
    def signatures(self) -> Sequence[Signature]:
        """The signatures that `predict` calls, in the order of the results."""
        ...

    @property
    def input_name(self) -> str:
        """The name under which a PredictionLog carries the record."""
        ...

    @property
    def versions(self) -> Collection[str]:
        """The versions of the model that have answered so far, where a server may change them."""
        ...

    @property
    def stages(self) -> Sequence[str]:
        """The stages of a cascade, in order; none for a model by itself."""
        ...

    def predict(self, batch: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Scores a batch.

        Args:
          batch: n serialized records.

        Returns:
          Arrays of shape [n, ...] by output name, or by `<signature>/<output>` where there are
          several signatures. Strings are object arrays of `bytes`. An output that some of the
          records do not have is a masked array with their rows masked.

        Raises:
          BulkInferencerError: not because of a record: the model does not keep the contract above,
            or does not answer.
          OutOfMemory: the batch is too large.
          RecordError: a record of the batch cannot be scored. So can any other exception be held
            against a record, since models may run any code.
        """
        ...


class Model(Protocol):
    """Settings that say which model to use, and how to get a predictor from them on a worker."""

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
        """Returns a digest of the model's content, or nothing where it cannot be seen."""
        ...


def check_is_model(value: Any) -> None:
    """Checks that a path was not given for the model that is there.

    Raises:
      SettingsError: it was.
    """
    if isinstance(value, str):
        raise SettingsError(
            f"Expected a model, got the string {value!r}. Give SavedModel({value!r})."
        )
