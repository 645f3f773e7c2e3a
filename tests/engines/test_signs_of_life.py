"""Signs of life: files of workers that grow, and how long the launcher has seen none."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from bulk_inferencer._units.run_file import begin_run, end_runs
from bulk_inferencer.engines import signs_of_life as signs
from bulk_inferencer.engines.signs_of_life import Silence, delete_signs, signs_of_life


@pytest.fixture
def task(tmp_path, monkeypatch):
    """What signs need of a task; its run goes on, and a sign is due every 20 ms."""
    monkeypatch.setattr(signs, "_SIGN_SECONDS", 0.02)
    earlier = set(threads())  # of other tests
    monkeypatch.setattr(signs, "_of_runs", {})
    yield SimpleNamespace(manifests_folder=str(tmp_path), run_file=begin_run(str(tmp_path)))
    end_runs(str(tmp_path))
    wait_until(lambda: set(threads()) <= earlier)


def wait_until(is_so):
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)  # Another thread writes files.


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "signs of life"]


def sizes(folder):
    # A file that is being written has a longer name, and may be renamed at any time.
    return [path.stat().st_size for path in folder.glob("alive-*") if path.name.count("-") == 1]


def test_file_of_a_process_grows_while_any_of_its_threads_works(task, tmp_path):
    with signs_of_life(task):
        wait_until(lambda: sum(sizes(tmp_path)) >= 3)
        with signs_of_life(task):
            pass
        (size,) = sizes(tmp_path)
        wait_until(lambda: sizes(tmp_path) > [size + 2])
    assert len(sizes(tmp_path)) == 1


def test_process_without_work_gives_no_signs(task, tmp_path):
    with signs_of_life(task):
        pass
    wait_until(lambda: sizes(tmp_path))
    silence = Silence(str(tmp_path))
    wait_until(lambda: silence.seconds() > 0.2)


def test_nobody_gives_signs_once_the_run_is_over(task, tmp_path):
    with signs_of_life(task):
        wait_until(lambda: sizes(tmp_path))
        end_runs(str(tmp_path))
        wait_until(lambda: not signs._of_runs)
        delete_signs(str(tmp_path))
        with signs_of_life(task):
            wait_until(lambda: not signs._of_runs)
    assert sizes(tmp_path) == []


def test_signs_go_on_after_a_filesystem_has_failed(task, tmp_path, monkeypatch):
    write, errors = signs.write_for_run, [OSError("no network"), OSError("no network")]

    def write_or_fail(*args):
        if errors:
            raise errors.pop()
        return write(*args)

    monkeypatch.setattr(signs, "write_for_run", write_or_fail)
    with signs_of_life(task):
        wait_until(lambda: sizes(tmp_path))
    assert not errors


def test_silence_ends_with_each_sign(task, tmp_path):
    silence = Silence(str(tmp_path))
    wait_until(lambda: silence.seconds() > 0.1)
    assert silence.is_first
    with signs_of_life(task):
        wait_until(lambda: silence.seconds() < 0.1)
    assert not silence.is_first
