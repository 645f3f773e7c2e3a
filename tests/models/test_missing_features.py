from __future__ import annotations

import pytest

from bulk_inferencer._formats.example import Kind
from bulk_inferencer._models.inputs import DENSE, RAGGED, Input
from bulk_inferencer._models.missing_features import message

COLUMN = Input(DENSE, "float32", (None, 1), ("a",))
ONE, TWO = Kind("float32", 1), Kind("float32", 2)
KERAS = "Such names come from Keras' own model.export(), which loses the names of a model's inputs."


def end(spec="feature_spec"):
    return (
        f"Export the model with bulk_inferencer.serving.export(model, path, {spec}), which parses "
        f"the records; its transform= says which feature goes to which input. Or call the inputs "
        f"and the features by the same names."
    )


@pytest.mark.parametrize(
    ("wanted", "missing", "seen", "expected"),
    [
        ({"keras_tensor": COLUMN}, ["keras_tensor"], {"x": ONE, "y": TWO},
         (f"The model wants keras_tensor, but the records have x, y. Perhaps keras_tensor is x. "
          f"{KERAS} {end('{' + repr('x') + ': tf.io.FixedLenFeature([1], tf.float32)}')}")),
        ({"args_0": COLUMN, "inputs_1": COLUMN}, ["args_0", "inputs_1"], {"y": ONE, "x": ONE},
         (f"The model wants args_0, inputs_1, but the records have x, y. Perhaps args_0 is x or y. "
          f"Perhaps inputs_1 is x or y. {KERAS} {end()}")),
        ({"age": COLUMN, "income": COLUMN}, ["income"], {"age": ONE, "pay": Kind("int64", 1)},
         (f"The model wants age, income, but the records have age, pay, and no income. Perhaps "
          f"income is pay. {end()}")),
        ({"Age": COLUMN}, ["Age"], {"age": Kind("string", 9), "pay": ONE},
         (f"The model wants Age, but the records have age, pay. Perhaps Age is age. "
          f"{end('{' + repr('age') + ': tf.io.FixedLenFeature([1], tf.float32)}')}")),
        ({"words": Input(RAGGED, "string", (None, None), ("a", "b"))}, ["words"],
         {"text": Kind("string", 9), "later": None},
         (f"The model wants words, but the records have later, text. Perhaps words is text. "
          f"{end()}")),
        ({"z": COLUMN}, ["z"], {f"f{i:02d}": ONE for i in range(40)},
         (f"The model wants z, but the records have {', '.join(f'f{i:02d}' for i in range(30))} "
          f"and 10 more. {end()}")),
        ({"z": COLUMN}, ["z"], {},
         (f"The model wants z, but the records have no features. Check that they are tf.Examples. "
          f"{end()}")),
    ],
)  # fmt: skip
def test_message_lists_inputs_and_features_and_guesses_which_belong_together(
    wanted, missing, seen, expected
):
    assert message("The model", wanted, missing, seen) == expected
