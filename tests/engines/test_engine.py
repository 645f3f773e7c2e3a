"""The interface of an engine, by one that is a loop."""

from __future__ import annotations

import atexit
from dataclasses import dataclass

import pytest

from bulk_inferencer import InferenceJob, Outputs, engines, read_predictions, run
from bulk_inferencer._signals import _end_if_busy
from bulk_inferencer._units.manifest_files import read_manifests
from bulk_inferencer.engines.engine import Engine, run_units
from bulk_inferencer.errors import ModelError, SettingsError, WorkerError
from tests.helpers import exactly, tree, write_tfrecord
from tests.models.fakes import Model, length, raising
from tests.units.helpers import worker_in


@dataclass(frozen=True)
class Loop(Engine):
    """Runs units in this thread, one after the other."""

    error: BaseException | None = None  # raised at the end
    options: tuple[str, ...] = ()

    def run_units(self, worker, units):
        for unit in units:
            worker(unit)
        if self.error:
            raise self.error


def test_engine_is_a_class_with_one_method(tmp_path):
    write_tfrecord(tmp_path / "in/0.gz", [b"1", b"22"])
    job = InferenceJob(
        splits={"s": [f"{tmp_path}/in/*"]},
        model=Model(length, "y"),
        outputs=Outputs.under(f"{tmp_path}/out"),
    )
    summary = run(job, Loop())
    assert summary.total.predictions_written == 2
    found = read_predictions(f"{tmp_path}/out/inference_result")
    assert [int(prediction.outputs["y"]) for prediction in found] == [1, 2]
    assert issubclass(engines.Beam, engines.Engine)
    with pytest.raises(TypeError, match="run_units"):
        Engine()


def test_all_units_are_finished_when_the_engine_returns(tmp_path):
    own, units = worker_in(tmp_path, Model(length), files=3)
    run_units(Loop(), own, units)
    manifests = list(read_manifests(own.task.manifests_folder))
    assert {manifest.key for manifest in manifests} == {unit.key for unit in units}
    assert not [name for name in tree(tmp_path / "units") if name.startswith("stop-")]


@pytest.mark.parametrize("error", [None, OSError("the cluster is gone")])
def test_error_of_a_worker_says_more_than_what_the_engine_makes_of_it(tmp_path, error):
    own, units = worker_in(tmp_path, raising(ModelError("wrong")), files=3)
    with pytest.raises(ModelError, match=exactly("wrong")) as caught:
        run_units(Loop(error), own, units)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert len(own.task.models["inference_result"].batches) == 1  # No more units started.
    assert not [name for name in tree(tmp_path / "units") if name.startswith("stop-")]


@pytest.mark.parametrize("error", [WorkerError("died"), OSError("the cluster is gone")])
def test_error_of_the_engine_is_raised_as_it_is(tmp_path, error):
    own, units = worker_in(tmp_path, Model(length))
    with pytest.raises(type(error), match=exactly(str(error))):
        run_units(Loop(error), own, units)
    assert not [name for name in tree(tmp_path / "units") if name.startswith("stop-")]


def test_no_unit_starts_after_somebody_has_put_up_the_stop_sign(tmp_path):
    model = Model(length)
    own, units = worker_in(tmp_path, model)
    own.stop.put_up(SettingsError("enough"))
    with pytest.raises(SettingsError, match=exactly("enough")):
        run_units(Loop(), own, units)
    assert model.batches == []


def test_no_unit_starts_after_an_interruption_and_no_model_is_kept(tmp_path, monkeypatch):
    guards = []
    monkeypatch.setattr(atexit, "register", guards.append)
    model = Model(length)
    own, (first, second) = worker_in(tmp_path, model, files=2)
    with pytest.raises(KeyboardInterrupt):
        run_units(Loop(KeyboardInterrupt()), own, [first])
    model.batches.clear()
    assert own(second) is None  # as a thread does that is still alive
    assert model.batches == []
    assert guards == [_end_if_busy]
