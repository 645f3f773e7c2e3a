from __future__ import annotations

import pytest
from tfx_bsl.public.proto.model_spec_pb2 import InferenceSpecType

from bulk_inferencer import HookedModel
from bulk_inferencer.beam import BatchBounds, Cascade, Column, ExitWhen, SavedModel, Stage
from bulk_inferencer.errors import SettingsError
from tests.beam.helpers import run_together, y_of
from tests.helpers import example

pytestmark = pytest.mark.slow

SIZES: list[int] = []


def count(batch):
    SIZES.append(len(batch))
    return batch


def test_stages_take_specs_and_hand_on_each_batch(linear_model):
    spec = InferenceSpecType(
        saved_model_spec={"model_path": linear_model}, batch_parameters={"max_batch_size": 2}
    )
    exits = [ExitWhen("y", at_least=50.0)]
    first = Stage("first", spec, [Column(output="y", name="x")], exits)
    second = Stage("second", HookedModel(SavedModel(linear_model), count))
    elements = [*((x, example(x=float(x))) for x in (1, 2, 3)), (12, {"x": 12.0}), ("bad", b"bad")]
    SIZES.clear()
    cascade = Cascade([first, second]).with_failures()
    found = run_together({"cascade": (cascade, elements)})["cascade"]
    logs = dict(found["predictions"])
    assert {x: y_of(log) for x, log in logs.items()} == {1: 25.0, 2: 50.0, 3: 75.0, 12: 60.0}
    outputs = {x: sorted(log.predict_log.response.outputs) for x, log in logs.items()}
    assert outputs[1] == outputs[2] == outputs[3] == ["first/y", "second/y", "y"]
    assert outputs[12] == ["first/y", "y"]
    assert (max(SIZES), sum(SIZES)) == (2, 3)
    (failure,) = found["failures"]
    assert failure.key == "bad"
    assert failure.message.startswith("Stage 'first': ")
    assert Cascade([first, second], bounds=BatchBounds(1))._bounds == BatchBounds(1)


def test_stages_are_checked_and_named_in_errors():
    with pytest.raises(SettingsError, match=r"^Stage 'six': An InferenceSpecType needs"):
        Cascade([Stage("six", InferenceSpecType())])
    with pytest.raises(SettingsError, match=r"is not a Stage\."):
        Cascade([SavedModel("models/six")])
