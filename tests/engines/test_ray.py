"""The engine for Ray, so far as it needs no Ray; `tests/integration/engines` has the rest."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bulk_inferencer.engines import Ray, ray_nodes
from bulk_inferencer.engines.ray_nodes import Nodes, places
from bulk_inferencer.engines.ray_session import reason_of
from bulk_inferencer.errors import MissingExtraError, SettingsError, WorkerError
from tests.helpers import exactly

# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"address": "head"},
            (
                "Ray's address must be text such as 'head:6379' or 'ray://head:10001', not 'head'. "
                "Leave it out for the cluster that RAY_ADDRESS names, or for this machine alone."
            ),
        ),
        (
            {"num_cpus": -1},
            (
                "Ray's num_cpus must be a number from 0 to 10000, not -1. Leave it out for the "
                "default."
            ),
        ),
        (
            {"num_gpus": "1"},
            (
                "Ray's num_gpus must be a number from 0 to 10000, not '1'. Leave it out for the "
                "default."
            ),
        ),
        (
            {"num_gpus": 1.5},
            "Ray's num_gpus must be a part of a GPU or a whole number of them, not 1.5.",
        ),
        (
            {"num_cpus": 0},
            (
                "Ray's num_cpus and num_gpus are both 0, so a node would run all units at once. "
                "Leave out num_cpus, or set num_gpus."
            ),
        ),
        (
            {"max_retries": -2},
            (
                "Ray's max_retries must be a whole number of at least -1, not -2. Leave it out for "
                "the default."
            ),
        ),
        (
            {"node_seconds": None},
            (
                "Ray's node_seconds must be a number of at least 0, not None. Leave it out for the "
                "default."
            ),
        ),
        (
            {"runtime_env": ["scikit-learn"]},
            (
                "Ray's runtime_env must be a dict such as {'pip': ['scikit-learn']}, not "
                "['scikit-learn']."
            ),
        ),
        (
            {"options": "--s3_region_name=eu-west-1"},
            (
                "Ray's options must be a list, not '--s3_region_name=eu-west-1'. Write "
                "['--s3_region_name=eu-west-1']."
            ),
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingsError, match=exactly(message)):
        Ray(**settings)


@pytest.mark.parametrize("address", [None, "auto", "local", "h:1", "ray://h:1", "ray://h", "x://y"])
def test_addresses_of_all_forms_are_taken(address):
    assert Ray(address, num_cpus=0.5, num_gpus=0.25).address == address


def test_engine_without_ray_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"^engines\.Ray needs ray, which is not installed"):
        Ray().check()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("No space left.\nSee the log.", "No space left"),
        (
            "Failure from server:\nTraceback:\n  File x\nRuntimeError: It is broken.\n",
            "RuntimeError: It is broken",
        ),
        ("", "OSError"),
    ],
)
def test_reason_is_the_line_that_says_most(text, reason):
    assert reason_of(OSError(text)) == reason


# Nodes


def test_places_are_what_nodes_have_room_for():
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.5}, {"memory": 1.0}]
    assert places({"CPU": 1}, nodes) == 11
    assert places({"CPU": 0.5}, nodes) == 23
    assert places({"CPU": 4, "GPU": 0.5}, nodes) == 2
    assert places({"GPU": 4}, nodes) == places({"CPU": 1}, []) == 0


@pytest.fixture
def found(monkeypatch):
    """The nodes of a cluster, which a test changes."""
    nodes = [{"CPU": 4.0}]
    monkeypatch.setattr(ray_nodes, "_resources", lambda: nodes)
    return nodes


def test_nodes_that_are_too_small_end_the_run_unless_a_larger_one_joins(found, caplog):
    patient, at_once = (Nodes({"CPU": 0, "GPU": 1}, seconds) for seconds in (60, 0))
    patient.check()
    patient.check()
    (warning,) = caplog.messages
    assert warning == (
        "No node of the Ray cluster has CPU: 0 and GPU: 1, which a unit takes: CPU: 4 and GPU: 0. "
        "Waiting 60 s for one."
    )
    with pytest.raises(WorkerError, match=r"^No node of the Ray cluster has CPU: 0 and GPU: 1, "):
        at_once.check()
    found.append({"CPU": 4.0, "GPU": 8.0})
    at_once.check()
    patient.check()
    assert patient.places() == 8
    # What has gone since is waited for as long again.
    found.clear()
    patient.check()
    assert caplog.messages[1].endswith(": there are none. Waiting 60 s for one.")


# Workers

_RUN = """
import logging, os, sys, warnings
sys.path.insert(0, sys.argv[1])
from bulk_inferencer.engines.ray_worker import unit_runner

seen = {}

def run_parcel(parcel, units):
    warnings.warn_explicit("of Google's", FutureWarning, "x.py", 1, "google.api_core", seen)
    warnings.warn_explicit("of the user's", FutureWarning, "x.py", 1, "own", seen)
    logger = logging.getLogger("bulk_inferencer.x")
    logger.debug("too low")
    logger.info("a line")
    return f"{os.environ['OWN']} {os.environ['THEIRS']} {parcel} {units}"

run_unit = unit_runner(run_parcel, {"OWN": "ours", "THEIRS": "ours"}, logging.INFO)
print(run_unit(("p",), b"u"), run_unit(("p",), b"u"), sep="\\n")
"""


def test_worker_is_set_up_before_it_runs_a_unit():
    command = [sys.executable, "-c", _RUN, sys.path[0]]
    env = {"THEIRS": "theirs"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "ours theirs ('p',) [b'u']\n" * 2
    assert done.stderr.splitlines() == [
        "x.py:1: FutureWarning: of the user's",
        "INFO:bulk_inferencer.x:a line",
        "INFO:bulk_inferencer.x:a line",
    ]
