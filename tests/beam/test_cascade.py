"""Cascade on Beam's local runner, with real models."""

from __future__ import annotations

import functools

import pytest
from tfx_bsl.public.proto.model_spec_pb2 import InferenceSpecType

from bulk_inferencer import HookedModel
from bulk_inferencer.beam import BatchBounds, Cascade, Column, ExitWhen, SavedModel, Stage
from bulk_inferencer.errors import ModelError, SettingsError
from tests.beam.helpers import given, pipeline_of, run_together, y_of
from tests.helpers import example

pytestmark = pytest.mark.slow

SIZES: dict[str, list[int]] = {}


def count(label, batch):
    SIZES.setdefault(label, []).append(len(batch))
    return batch


def test_stages_take_specs_and_hand_on_each_batch(linear_model):
    spec = InferenceSpecType(
        saved_model_spec={"model_path": linear_model}, batch_parameters={"max_batch_size": 2}
    )
    settles, column = ExitWhen("y", at_least=50.0), Column(output="y", name="x")
    first = Stage("first", spec, columns=[column], exit_when=[settles])

    def second(label):
        model = HookedModel(SavedModel(linear_model), functools.partial(count, label))
        return Stage("second", model)

    elements = [(x, example(x=float(x))) for x in (1, 2, 3, 12)]
    SIZES.clear()
    found = run_together(
        {
            "spec": (Cascade([first, second("spec")]), elements),
            "given": (Cascade([first, second("given")], bounds=BatchBounds(1)), elements),
            "failures": (Cascade([first, second("failures")]).with_failures(), [b"bad"]),
        }
    )
    assert {x: y_of(log) for x, log in found["spec"]} == {1: 25.0, 2: 50.0, 3: 75.0, 12: 60.0}
    assert sorted(map(str, found["given"])) == sorted(map(str, found["spec"]))
    outputs = {x: sorted(log.predict_log.response.outputs) for x, log in found["spec"]}
    assert outputs[1] == outputs[2] == outputs[3] == ["first/y", "second/y", "y"]
    assert outputs[12] == ["first/y", "y"]
    assert {label: (max(sizes), sum(sizes)) for label, sizes in SIZES.items()} == {
        "spec": (2, 3), "given": (1, 3)
    }  # fmt: skip
    (failure,) = found["failures"]["failures"]
    assert failure.record == b"bad"
    assert failure.message.startswith("Stage 'first': ")


def test_stage_is_named_in_errors_while_the_pipeline_is_built(linear_model, tmp_path):
    stages = [Stage("five", SavedModel(linear_model)), Stage("six", SavedModel(str(tmp_path)))]
    with pytest.raises(ModelError, match=r"^Stage 'six': .* saved_model\.pb"):
        given(pipeline_of(), [example(x=1.0)]) | Cascade(stages)
    with pytest.raises(SettingsError, match=r"^Stage 'six': .*, got nothing"):
        Cascade([Stage("six", InferenceSpecType())])
    with pytest.raises(SettingsError, match="Stage"):
        Cascade([SavedModel(linear_model)])
