"""Threads of this process, with which the other engines are compared."""

from __future__ import annotations

from bulk_inferencer.engines import Beam
from tests.integration.engines import behaviour

THREADS = Beam(["--direct_num_workers=2"])


def test_saved_model(tmp_path, linear_model):
    behaviour.scores_a_saved_model(THREADS, tmp_path, linear_model)


def test_components_of_a_pipeline(tmp_path):
    behaviour.scores_in_a_pipeline(None, tmp_path)


def test_error_of_a_thread(tmp_path):
    behaviour.raises_errors_of_workers_once(THREADS, tmp_path, workers=1, at_once=2)


def test_killed_run(tmp_path):
    behaviour.goes_on_elsewhere(THREADS, tmp_path, workers=1, other=THREADS, at_once=2)


def test_interrupted_run(tmp_path):
    behaviour.stops_when_interrupted(THREADS, tmp_path, workers=1, at_once=2)
