"""Models without TensorFlow, and what several tests of models need."""

from __future__ import annotations

import logging
import traceback

import numpy as np
import pytest

from bulk_inferencer._models.predictor import Prediction, RecordError
from bulk_inferencer._signatures import PREDICT, Signature
from bulk_inferencer.errors import EndpointError


class Model:
    """Settings of a model that is a function of a batch, and the batches that it was called with.

    Its outputs are known before the run if they are named.
    """

    input_name = "records"

    def __init__(self, function, *outputs, fingerprint="f00d", stages=(), versions=()):
        self.uri = f"memory://{function.__name__}"
        self.signatures = (Signature("serving_default", PREDICT, outputs),)
        self.batches = []
        self.fingerprint = lambda: fingerprint
        self._function = function
        self._stages = stages
        self._versions = frozenset(versions)

    def check(self, record_format):
        return self.signatures

    def load(self, record_format):
        return self

    def predict(self, batch):
        self.batches.append(list(batch))
        stages = dict.fromkeys(self._stages, len(batch))
        return Prediction(self._function(batch), stages, self._versions)


def length(batch):
    """Returns the length of each record as `y`; `bad` cannot be scored."""
    if b"bad" in batch:
        raise ValueError("it is bad")
    return {"y": np.array([len(record) for record in batch], np.int64)}


def twice(batch):
    return {"y": 2 * length(batch)["y"]}


def raising(error):
    """Returns a model that raises an error, whatever it gets."""

    def fail(batch):
        raise error

    return Model(fail)


def assert_masked(secret, loaded, batch, shown, caplog):
    """Checks that a server's answers with a secret are shown without it, in errors and the log."""
    caplog.set_level(logging.DEBUG, "bulk_inferencer")
    for _ in range(3):
        with pytest.raises((RecordError, EndpointError)) as caught:
            loaded.predict(batch)
        shown += traceback.format_exception(caught.value)
    assert "Bearer ***" in caplog.text
    assert "Bearer ***" in "".join(shown)
    assert secret not in caplog.text + "".join(shown)
