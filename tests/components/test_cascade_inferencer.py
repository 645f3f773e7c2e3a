"""CascadeInferencer as a pipeline's author calls it; see test_channels.py for what all share."""

from __future__ import annotations

import pytest
from tfx.types.standard_artifacts import Examples, InferenceResult, ModelBlessing

from bulk_inferencer import InferenceSummary
from bulk_inferencer import bulk_inferencer_pb2 as our
from bulk_inferencer.errors import SettingsError
from tests.components.tfx_helpers import (
    assert_refused,
    cascade,
    channel,
    message_of,
    stages,
    types_of,
)


def test_cascade_has_the_outputs_of_bulk_inferencer():
    made = cascade(model_blessings={"ten": channel(ModelBlessing)})
    assert set(made.inputs) == {"examples", "model_five", "model_ten", "blessing_ten"}
    assert made.exec_properties["required_blessings"] == "ten"
    assert types_of(made.outputs) == {
        "inference_result": InferenceResult,
        "summary": InferenceSummary,
        "failed_examples": Examples,
    }


def test_stages_are_carried_in_their_order():
    for given in ([our.StageSpec(name="ten"), our.StageSpec(name="five")], tuple(stages())):
        spec = message_of(cascade(stages=given), "cascade_spec", our.CascadeSpec)
        assert list(spec.stages) == list(given)
        as_dicts = [{"name": stage.name} for stage in given]
        assert message_of(cascade(stages=as_dicts), "cascade_spec", our.CascadeSpec) == spec


def test_stages_are_checked_at_construction():
    message = (
        "stages must be a list of bulk_inferencer_pb2.StageSpec, not a StageSpec. Put the stages "
        "into a list, in their order."
    )
    assert_refused(message, cascade, stages=our.StageSpec(name="five"))
    with pytest.raises(SettingsError, match="no stage"):
        cascade(models={}, stages=[])
    with pytest.raises(SettingsError, match="at_least"):
        cascade(stages=stages(exit_when=[our.ExitWhen(output_key="y")]))
