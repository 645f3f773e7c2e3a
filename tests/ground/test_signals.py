from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from bulk_inferencer._signals import Terminated, _woken_by_sigterm, ended_by_sigterm

CODE = """
import signal, sys
from bulk_inferencer._signals import ended_by_sigterm
with ended_by_sigterm():
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        print("cleaned", flush=True)
        signal.raise_signal(signal.SIGTERM)  # which must not disturb it
        print("up", flush=True)
print("not reached", flush=True)
"""


def test_sigterm_ends_the_process_after_it_has_cleaned_up():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout.split() == ["cleaned", "up"]
    assert done.stderr == ""


def test_signal_that_somebody_else_handles_stays_theirs():
    def handler(number, frame):
        raise ValueError("theirs")

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(ValueError, match="theirs"), ended_by_sigterm():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signal_is_left_alone_after_a_run_and_in_other_threads():
    with ended_by_sigterm():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    found = []

    def in_thread():
        with ended_by_sigterm():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]
    assert not issubclass(Terminated, Exception)


def test_signal_that_another_thread_got_ends_the_wait_of_the_main_thread():
    is_noticed = threading.Event()

    def notice(number, frame):
        is_noticed.set()
        raise Terminated

    def get_it():
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    def wait():
        threading.Thread(target=get_it).start()
        threading.Event().wait(60)

    before = signal.signal(signal.SIGTERM, notice)
    try:
        with pytest.raises(Terminated), _woken_by_sigterm(is_noticed):
            wait()
    finally:
        signal.signal(signal.SIGTERM, before)
