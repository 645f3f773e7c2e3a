"""The engine for Ray, so far as it needs no Ray; `tests/integration/engines` has the rest."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from bulk_inferencer.engines import Ray, ray_nodes, ray_session
from bulk_inferencer.engines.ray_nodes import Nodes, places_on
from bulk_inferencer.engines.ray_session import check_session, line_of, opened_session
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
                "Leave it out for the cluster that RAY_ADDRESS names, that of this machine, or a "
                "new one."
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
def test_line_of_an_error_is_the_line_that_says_most(text, reason):
    assert line_of(OSError(text)) == reason


def test_environment_of_a_wrong_kind_is_refused():
    message = "Ray's runtime_env must have a dict such as {'LANG': 'C'} as env_vars, not 1."
    with pytest.raises(SettingsError, match=exactly(message)):
        Ray(runtime_env={"env_vars": 1})


# Sessions


class FakeRay:
    """What a session needs of Ray."""

    def __init__(self):
        self.is_connected = False
        self.said = []
        self.error = None
        self.gcs_address = "10.0.0.1:6379"
        self.util = SimpleNamespace(get_node_ip_address=lambda: "10.0.0.2")

    def is_initialized(self):
        return self.is_connected

    def init(self, address, **settings):
        self.said.append(("init", address, settings.get("runtime_env")))
        if self.error:
            raise self.error
        self.is_connected = True

    def shutdown(self):
        self.said.append("shutdown")
        self.is_connected = False

    def get_runtime_context(self):
        return self


@pytest.fixture
def fake(monkeypatch):
    own = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", own)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert ray_session._opened is None
    yield own
    assert ray_session._opened is None


def test_runs_share_the_session_that_the_first_one_opens_until_the_last_one_ends(fake):
    first, second, third = (opened_session("h:1", {"pip": [name]}) for name in "abc")
    assert first.__enter__() == {}  # as the session has it
    assert second.__enter__() == {"pip": ["b"]}
    first.__exit__(None, None, None)
    assert third.__enter__() == {"pip": ["c"]}
    third.__exit__(None, None, None)
    assert fake.is_connected
    second.__exit__(None, None, None)
    assert fake.said == [("init", "h:1", {"pip": ["a"]}), "shutdown"]


def test_runs_in_threads_connect_once(fake):
    has_begun, may_go_on, inside = threading.Event(), threading.Event(), threading.Barrier(2)
    init = fake.init

    def slow_init(*args, **settings):
        has_begun.set()
        assert may_go_on.wait(10)
        init(*args, **settings)

    def use():
        with opened_session(None, {}):
            inside.wait(10)

    fake.init = slow_init
    threads = [threading.Thread(target=use) for _ in range(2)]
    threads[0].start()
    assert has_begun.wait(10)
    threads[1].start()
    may_go_on.set()
    for thread in threads:
        thread.join(10)
    assert fake.said == [("init", None, None), "shutdown"]


def test_session_whose_connection_was_lost_is_not_ended_in_the_place_of_a_new_one(fake):
    with contextlib.ExitStack() as later:
        with opened_session(None, {}):
            fake.is_connected = False
            later.enter_context(opened_session(None, {}))
        assert fake.is_connected
    assert not fake.is_connected


def test_session_of_the_user_is_never_ended(fake):
    fake.is_connected = True
    with opened_session(None, {"pip": []}) as needed:
        assert needed == {"pip": []}
    assert fake.said == []


@pytest.mark.parametrize(
    ("error", "is_ended"),
    [
        (ValueError("no such package"), True),
        (ConnectionError("timed out"), True),
        (KeyboardInterrupt(), True),
        # The user's own, which came in between.
        (RuntimeError("Maybe you called ray.init twice by accident? This error"), False),
        (Exception("ray.init() called, but ray client is already connected"), False),
    ],
)
def test_attempt_to_connect_that_fails_ends_what_it_has_begun(fake, error, is_ended):
    fake.error = error
    expected = SettingsError if isinstance(error, Exception) else type(error)
    with pytest.raises(expected), opened_session(None, {}):
        pass
    assert fake.said[1:] == ["shutdown"] * is_ended


@pytest.mark.parametrize(
    ("address", "found", "goes"),
    [
        (None, "10.0.0.1:6379", True),
        ("auto", "10.0.0.1:6379", True),
        ("10.0.0.1:6379", "10.0.0.1:6379", True),
        ("10.0.0.1:6380", "10.0.0.1:6379", False),
        ("localhost:6379", "10.0.0.2:6379", True),
        ("ray://10.0.0.1:10001", "10.0.0.1:6379", True),
        ("ray://10.0.0.1", "10.0.0.1:6379", True),
        ("ray://localhost", "10.0.0.2:6379", True),
        ("ray://localhost", "10.0.0.1:6379", False),
        ("ray://10.0.0.3:10001", "10.0.0.1:6379", False),
        ("other://10.0.0.1:6379", "10.0.0.1:6379", False),
        ("local", "10.0.0.2:6379", True),
        ("local", "127.0.0.1:6379", True),
        ("local", "10.0.0.1:6379", False),
    ],
)
def test_address_has_to_be_that_of_the_session(fake, address, found, goes):
    fake.is_connected, fake.gcs_address = True, found
    if goes:
        check_session(address)
        return
    message = (
        f"Ray(address={address!r}) does not go with the session of this process, which is "
        f"connected to {found}. Leave it out to use that session, or call ray.shutdown() first."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        check_session(address)


def test_address_has_to_be_that_of_the_session_of_another_run(fake):
    message = (
        "Ray(address='h:2') does not go with the session of this process, which is connected to "
        "10.0.0.1:6379. Another run has opened it: wait for its end, or use a process for each of "
        "the runs."
    )
    with opened_session("ray://behind.a.proxy:1", {}):
        with opened_session("ray://behind.a.proxy:1", {}):
            pass
        with pytest.raises(SettingsError, match=exactly(message)), opened_session("h:2", {}):
            pass


# Errors of Ray's


@pytest.fixture
def exceptions():
    return pytest.importorskip("ray.exceptions")


def explained(error):
    return Ray(max_retries=2)._explained(error)


def test_units_whose_process_or_node_died_too_often_are_told_of(exceptions):
    died = (
        exceptions.WorkerCrashedError(),
        exceptions.NodeDiedError("The node died."),
        exceptions.OutOfMemoryError("Memory on the node was low.\nMore."),
    )
    for error in died:
        told = explained(error)
        assert type(told) is WorkerError
        assert str(told) == (
            f"Ray gave up a unit: {line_of(error)}. Its process or its node died more often than "
            f"Ray's max_retries, 2, allows. Memory may have run out. Run again, and what is "
            f"finished is not scored again."
        )


def test_unit_that_somebody_cancelled_is_told_of(exceptions):
    told = explained(exceptions.TaskCancelledError(error_message="By hand."))
    assert type(told) is WorkerError
    assert str(told) == (
        "Somebody has cancelled a unit: By hand. Run again, and what is finished is not scored "
        "again."
    )


def test_other_errors_of_rays_are_told_of(exceptions):
    told = explained(exceptions.RaySystemError("It is broken."))
    assert type(told) is WorkerError
    assert str(told) == (
        "Ray gave up a unit: System error: It is broken. See whether the cluster is well, and "
        "Ray's logs. Run again, and what is finished is not scored again."
    )


def test_environment_that_cannot_be_prepared_is_told_of(exceptions):
    told = explained(exceptions.RuntimeEnvSetupError("No such package."))
    assert type(told) is WorkerError
    assert str(told) == (
        "Ray cannot prepare its workers: No such package. Correct Ray's runtime_env."
    )


class CannotBeSent(Exception):
    def __reduce__(self):
        raise TypeError("it holds a lock")


def test_error_of_a_unit_that_cannot_be_sent_is_a_line(exceptions):
    told = explained(exceptions.RayTaskError("f", "Traceback\nmore", CannotBeSent("x")))
    assert type(told) is WorkerError
    assert str(told) == (
        f"A unit failed with an error that cannot be sent here: Exception {__name__}.CannotBeSent "
        f"isn't serializable: it holds a lock. Correct what raises it. The log of this run has "
        f"its traceback, at level INFO."
    )


# Nodes


def test_places_are_what_nodes_have_room_for():
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.5}, {"memory": 1.0}]
    assert places_on(nodes, {"CPU": 1}) == 11
    assert places_on(nodes, {"CPU": 0.5}) == 23
    assert places_on(nodes, {"CPU": 4, "GPU": 0.5}) == 2
    assert places_on(nodes, {"GPU": 4}) == places_on([], {"CPU": 1}) == 0


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
import logging, os, sys, types, warnings
sys.path.insert(0, sys.argv[1])
from bulk_inferencer.engines.ray_worker import unit_runner

seen = {}
worker = types.SimpleNamespace(task=types.SimpleNamespace(run_file=""))
unpacking = types.SimpleNamespace(opened={("p",): worker}.get)
sys.modules["bulk_inferencer.engines.unpacking"] = unpacking

def run_parcel(parcel, units):
    if not units:
        return "a problem" if parcel == ("damaged",) else ""
    warnings.warn_explicit("of Google's", FutureWarning, "x.py", 1, "google.api_core", seen)
    warnings.warn_explicit("of the user's", FutureWarning, "x.py", 1, "own", seen)
    logger = logging.getLogger("bulk_inferencer.x")
    logger.debug("too low")
    logger.info("a line")
    return f"{os.environ['OWN']} {os.environ['THEIRS']} {parcel} {units}"

run_unit = unit_runner(run_parcel, {"OWN": "ours", "THEIRS": "ours"}, logging.INFO)
print(run_unit(("damaged",), b"u"))
print(run_unit(("p",), b"u"), run_unit(("p",), b"u"), sep="\\n")
"""


def test_worker_is_set_up_before_it_runs_a_unit():
    command = [sys.executable, "-c", _RUN, sys.path[0]]
    env = {"THEIRS": "theirs"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "a problem\n" + "ours theirs ('p',) [b'u']\n" * 2
    assert done.stderr.splitlines() == [
        "x.py:1: FutureWarning: of the user's",
        "INFO:bulk_inferencer.x:a line",
        "INFO:bulk_inferencer.x:a line",
    ]


_END = """
import sys, threading, types
sys.path.insert(0, sys.argv[1])
from bulk_inferencer.engines import ray_worker

ray_worker._IDLE_SECONDS = 0.01
looks, ended = [], threading.Event()

class Worker:
    task = types.SimpleNamespace(run_file="/a/file")

    def is_over(self):
        looks.append(ray_worker.process_of_run.__self__._units)
        if len(looks) == 1:
            raise OSError("the disk is away")
        if len(looks) < 4:
            return False
        print(looks, flush=True)
        return True

with ray_worker.process_of_run(Worker()):
    with ray_worker.process_of_run(Worker()):
        print("at work", threading.active_count(), flush=True)
    assert not ended.wait(0.1)
    print("still at work", looks, flush=True)
ended.wait(60)
"""


def test_process_ends_when_its_run_is_over_and_no_unit_is_at_work():
    command = [sys.executable, "-W", "ignore", "-c", _END, sys.path[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    assert done.stdout.splitlines() == ["at work 2", "still at work []", "[0, 0, 0, 0]"]
