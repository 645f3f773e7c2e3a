"""What workers get, and what they say of it where they cannot use it."""

from __future__ import annotations

import functools
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

import bulk_inferencer
from bulk_inferencer.engines import parcel
from bulk_inferencer.engines.parcel import pack, problem_here, run_parcel
from tests.helpers import exactly, tree
from tests.models.fakes import Model, length, raising
from tests.units.helpers import worker_in

ADVICE = "Install it."
HERE = f"The worker on {socket.gethostname()} ({sys.executable})"
PYTHON = "{}.{}".format(*sys.version_info)
CHECKOUT = Path(bulk_inferencer.__file__).parents[1]


@pytest.fixture
def run_elsewhere(tmp_path):
    """Runs a parcel in a process that has cloudpickle and some more packages, and no others."""
    code = "import pickle, sys; sys.path += sys.argv[1:]; print(pickle.load(sys.stdin.buffer)())"

    def run(own, units, packages=()):
        folder = tmp_path / "packages"
        folder.mkdir()
        for path in (Path(cloudpickle.__file__).parent, *packages):
            os.symlink(path, folder / path.name)
        cloudpickle.register_pickle_by_value(parcel)
        try:
            pickled = cloudpickle.dumps(functools.partial(run_parcel, tuple(own), units))
        finally:
            cloudpickle.unregister_pickle_by_value(parcel)
        command = [sys.executable, "-I", "-S", "-c", code, folder]
        ran = subprocess.run(command, input=pickled, capture_output=True, check=True)
        return ran.stdout.decode().strip()

    return run


def test_worker_without_the_package_says_so(tmp_path, run_elsewhere):
    own, units = worker_in(tmp_path, Model(length))
    found = run_elsewhere(pack(own, ADVICE), [pickle.dumps(units[0])])
    assert found == (
        f"{HERE} cannot import bulk_inferencer: No module named 'bulk_inferencer'. Install it."
    )


def test_worker_without_the_packages_that_this_one_needs_says_so(tmp_path, run_elsewhere):
    own, units = worker_in(tmp_path, Model(length))
    packages = [CHECKOUT / "bulk_inferencer"]
    found = run_elsewhere(pack(own, ADVICE), [pickle.dumps(units[0])], packages)
    start, _, end = found.partition("No module named ")
    assert start == f"{HERE} cannot import bulk_inferencer: "
    assert end.endswith("'. Install it.")
    assert "bulk_inferencer" not in end


def test_worker_with_another_version_of_the_package_says_so(tmp_path):
    own = pack(worker_in(tmp_path, Model(length))[0], ADVICE)
    assert problem_here(own) == ""
    version = bulk_inferencer.__version__
    assert run_parcel(own._replace(version="0.0.1"), []) == (
        f"{HERE} has bulk-inferencer {version}, but the run was started with 0.0.1. Install it."
    )


def test_worker_with_another_python_says_so(tmp_path):
    own = pack(worker_in(tmp_path, Model(length))[0], ADVICE)
    assert problem_here(own._replace(python="2.7")) == (
        f"{HERE} has Python {PYTHON}, but the run was started with 2.7. Use the same version on "
        f"both."
    )


def test_units_run_one_after_the_other(tmp_path):
    model = Model(length)
    own, units = worker_in(tmp_path, model, files=2, records=[b"1"])
    assert run_parcel(pack(own, ADVICE), [pickle.dumps(unit) for unit in units]) == ""
    assert model.batches == [[b"1"], [b"1"]]
    assert len([name for name in tree(tmp_path / "units") if name.endswith(".json")]) == 2


def test_folder_that_a_worker_does_not_see_comes_back_as_text(tmp_path):
    own, (unit,) = worker_in(tmp_path, Model(length))
    (tmp_path / "units").rename(tmp_path / "elsewhere")
    found = run_parcel(pack(own, ADVICE), [pickle.dumps(unit)])
    assert found.startswith(f"A worker on {socket.gethostname()} cannot see {own.task.run_file}")


def test_error_that_is_not_ours_comes_out(tmp_path):
    own, (unit,) = worker_in(tmp_path, raising(KeyboardInterrupt("stop")))
    with pytest.raises(KeyboardInterrupt, match=exactly("stop")):
        run_parcel(pack(own, ADVICE), [pickle.dumps(unit)])
