from __future__ import annotations

import pytest

from bulk_inferencer._models.predictor import check_is_model, check_name, without_graph
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
            f"{value!r} is not a model. Use SavedModel(path), TFServing(address, model_name) or "
            f"VertexEndpoint(name)."
        )
        with pytest.raises(SettingsError, match=exactly(message)):
            check_is_model(value)
    message = "The string '/five' is not a model. Use SavedModel('/five')."
    with pytest.raises(SettingsError, match=exactly(message)):
        check_is_model("/five")
    for model in (SavedModel("models/five"), Unreachable()):
        check_is_model(model)


@pytest.mark.parametrize("name", ["", "Small", "1st", "_a", "a/b", "a b", "ä", "a\n", None])
def test_name_that_does_not_fit_into_channels_and_files_is_refused(name):
    message = (
        f"{name!r} cannot be the name of a stage. Use lower-case letters, digits and underscores, "
        f"and begin with a letter."
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
