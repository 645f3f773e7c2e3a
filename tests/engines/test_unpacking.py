"""Parcels on a worker that has this package."""

from __future__ import annotations

import gc
import importlib
import json
import pickle
import socket
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

from bulk_inferencer import PythonModel
from bulk_inferencer._units.manifest_files import find_manifest
from bulk_inferencer.engines import unpacking
from bulk_inferencer.engines.modules import read_modules
from bulk_inferencer.engines.parcel import pack
from bulk_inferencer.engines.unpacking import opened
from bulk_inferencer.errors import WorkerError
from tests.engines.test_modules import forgets_modules  # noqa: F401, a fixture
from tests.helpers import exactly
from tests.models.fakes import Model, length
from tests.units.helpers import worker_in

LENGTHS = """
import numpy as np

def load(path):
    return lambda records: {"y": np.array(list(map(len, records)))}
"""


@pytest.fixture
def elsewhere(monkeypatch):
    """Lets this process be another one than that which packed."""

    def move():
        monkeypatch.setattr(unpacking, "_workers", weakref.WeakValueDictionary())

    return move


@pytest.fixture
def lengths_parcel(tmp_path, monkeypatch):
    """Makes a parcel whose model comes from a module of a user; returns it, a unit and the module.

    By then, Python cannot import the module any more.
    """
    path = tmp_path / "modules/users_lengths.py"
    path.parent.mkdir()
    path.write_text(LENGTHS)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(path.parent)
        module = importlib.import_module("users_lengths")
        model = PythonModel(module.load, takes_records=True)
        own, (unit,) = worker_in(tmp_path, model)
        packed = pack(own, "Install it.")
        del sys.modules["users_lengths"]
    return packed, own, unit, path


def test_process_that_packed_a_worker_uses_it_as_it_is(tmp_path):
    own, _ = worker_in(tmp_path, Model(length))
    assert opened(pack(own, "")) is own


def test_worker_is_unpacked_once_and_goes_with_its_run(tmp_path, elsewhere):
    own, (unit,) = worker_in(tmp_path, Model(length))
    packed, other = pack(own, ""), pack(replace(own, task=replace(own.task, labels={})), "")
    elsewhere()
    others = {*threading.enumerate()}
    found = opened(packed)
    assert found is not own
    assert found(unit)
    assert find_manifest(own.task.manifests_folder, unit.key)
    reference = weakref.ref(found)
    del found
    opened(other)  # The same run may have parcels of several kinds.
    assert opened(packed) is reference()
    reference().forget()
    for thread in {*threading.enumerate()} - others:  # which watch the run, and end now
        thread.join(60)
    gc.collect()
    assert reference() is None


def test_module_that_a_worker_lacks_is_named(lengths_parcel, elsewhere):
    packed, _, _, _ = lengths_parcel
    elsewhere()
    message = (
        f"The worker on {socket.gethostname()} ({sys.executable}) cannot import what the model or "
        f"its functions need: ModuleNotFoundError: No module named 'users_lengths'. Install it."
    )
    with pytest.raises(WorkerError, match=exactly(message)):
        opened(packed)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("raise ValueError('no weights')", "ValueError: no weights"),
        ("def other():\n    pass", "AttributeError: .*'load'.*"),
    ],
    ids=["raises", "lacks the function"],
)
@pytest.mark.usefixtures("forgets_modules")
def test_module_that_does_not_work_on_a_worker_is_told_of(lengths_parcel, elsewhere, source, what):
    packed, _, _, path = lengths_parcel
    path.write_text(source)
    elsewhere()
    with pytest.raises(WorkerError, match=rf"functions need: {what}\. Install it\.$"):
        opened(packed._replace(modules=read_modules([str(path)])))


@pytest.mark.slow
def test_units_run_in_another_process_with_a_module_from_memory(lengths_parcel, tmp_path):
    packed, own, unit, path = lengths_parcel
    packed = packed._replace(modules=read_modules([str(path)]), options=[])
    path.unlink()
    code = (
        "import pickle, sys; from bulk_inferencer.engines.parcel import run_parcel;"
        "problem = run_parcel(*pickle.load(sys.stdin.buffer));"
        "import json, users_lengths; print(json.dumps([problem, users_lengths.__file__]))"
    )
    content = pickle.dumps((tuple(packed), [pickle.dumps(unit)]))
    command = [sys.executable, "-W", "ignore", "-c", code]
    ran = subprocess.run(command, input=content, capture_output=True, check=True, cwd="/")
    assert json.loads(ran.stdout) == ["", "/<modules>/users_lengths.py"]
    assert not own.stop.is_up()
    assert find_manifest(own.task.manifests_folder, unit.key).predictions_made == 2


def test_relative_paths_begin_where_the_run_was_started(tmp_path, elsewhere, monkeypatch):
    own, _ = worker_in(tmp_path, Model(length))
    (tmp_path / "started").mkdir()
    monkeypatch.chdir(tmp_path / "started")
    parcel = pack(own, "")
    monkeypatch.chdir(tmp_path)
    elsewhere()
    opened(parcel)
    assert Path.cwd() == tmp_path / "started"
