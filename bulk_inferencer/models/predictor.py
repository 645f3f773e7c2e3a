"""What everything that scores records has in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from bulk_inferencer.signatures import Signature

# Formats of a record, named as in TFX's example_gen.proto.
FORMAT_TF_EXAMPLE = "FORMAT_TF_EXAMPLE"
FORMAT_TF_SEQUENCE_EXAMPLE = "FORMAT_TF_SEQUENCE_EXAMPLE"
FORMAT_PROTO = "FORMAT_PROTO"
RECORD_FORMATS = (FORMAT_TF_EXAMPLE, FORMAT_TF_SEQUENCE_EXAMPLE, FORMAT_PROTO)


class RecordError(Exception):
    """Raised by a predictor for a batch with a record that cannot be scored; says why."""


class OutOfMemory(Exception):
    """Raised by a predictor for a batch that does not fit; a smaller one may."""


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

    def predict(self, batch: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Scores a batch.

        Args:
          batch: n serialized records.

        Returns:
          Arrays of shape [n, ...] by output name, or by `<signature>/<output>` where there are
          several signatures. Strings are object arrays of `bytes`.

        Raises:
          ModelError: the model does not keep the contract above, whatever the records are.
          OutOfMemory: the batch is too large.
          RecordError: a record of the batch cannot be scored. So can any other exception be held
            against a record, since models may run any code.
        """
        ...
