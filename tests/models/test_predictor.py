from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bulk_inferencer._models.predictor import (
    RecordError,
    check_is_model,
    check_name,
    reason_of,
    shown,
    without_graph,
)
from bulk_inferencer._models.saved_model import SavedModel
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly


class Unreachable:
    """A model whose property raises an AttributeError."""

    check = load = fingerprint = print
    uri = property(lambda self: self.network)


def test_value_that_is_not_a_model_is_refused():
    for value in (3, None, SavedModel):
        message = (
            f"{value!r} is not a model. Use SavedModel(path), PythonModel(load_model, path), "
            f"TFServing(address, model_name) or VertexEndpoint(name)."
        )
        with pytest.raises(SettingsError, match=exactly(message)):
            check_is_model(value)
    for path, kind in (("/five", "string"), (Path("/five"), "path")):
        message = f"The {kind} '/five' is not a model. Use SavedModel('/five')."
        with pytest.raises(SettingsError, match=exactly(message)):
            check_is_model(path)
    for model in (SavedModel("models/five"), Unreachable()):
        check_is_model(model)


@pytest.mark.parametrize(
    "name", ["", "Small", "1st", "_a", "a/b", "a b", "ä", "a\n", "x" * 101, None]
)
def test_name_that_does_not_fit_into_channels_and_files_is_refused(name):
    message = (
        f"{name!r} cannot be the name of a stage. Use up to 100 lower-case letters, digits and "
        f"underscores, and begin with a letter."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        check_name(name, "stage")
    check_name("small_2", "stage")


@pytest.mark.parametrize(
    "message",
    [
        "Name: <unknown>, it is bad [Op:Inference]",
        "{{function_node __inference_7}} it is bad\n\t [[{{node x}}]] [Op:Inference]",
        "Graph execution error:\n\nDetected at node x\n<stack traces unavailable>\nit is bad",
    ],
)
def test_message_of_tensorflow_is_shown_without_its_graph(message):
    assert without_graph(message) == "it is bad"


class Mute(Exception):
    def __str__(self):
        raise AttributeError("no text")

    __repr__ = __str__


def test_reason_of_any_error_is_one_line_with_its_cause():
    quoted = b"Could not parse example input, value: '\xff' [Op:ParseExampleV2]"
    not_utf8 = [UnicodeDecodeError("utf-8", text, 0, 1, "bad") for text in (quoted, b"\xff")]
    for error, expected in (
        (ValueError("it is\n\nbad"), "ValueError: it is bad"),
        (KeyError("x"), "KeyError: 'x'"),
        (RecordError("Kind", "as it is"), "Kind: as it is"),
        (not_utf8[0], r"InvalidArgumentError: Could not parse example input, value: '\xff'"),
        (not_utf8[1], f"UnicodeDecodeError: {not_utf8[1]}"),
        (Mute(), "Mute: it has no message, because str() of it raised AttributeError"),
        (ValueError("a" * 900 + "b" * 9000), f"ValueError: {'a' * 500} [...] {'b' * 500}"),
    ):
        assert str(reason_of(error)) == expected


def test_value_of_any_kind_can_be_shown_in_a_message():
    assert shown("a\nb") == r"'a\nb'"
    assert shown(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    assert shown(Mute()) == "an object of type Mute"
    assert len(shown(list(range(10_000)))) < 1100
