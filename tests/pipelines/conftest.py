"""Runs the example pipelines in another process while the tests before theirs go on here."""

from __future__ import annotations

import contextlib
import functools
import io
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pipelines import run_local
from pipelines.catalogue import PIPELINES

BAD_MODEL = "five_times_table --bad-model"
# By arguments of `run_local`: the folder of the run, and a future of its status and output.
STARTED = pytest.StashKey()


def run(arguments, workdir):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = run_local.main([*arguments.split(), f"--workdir={workdir}"])
    return status, printed.getvalue()


def pytest_collection_finish(session):
    """Starts the runs if a test asks for the fixture `runs`: they take a minute and more."""
    is_needed = any("runs" in getattr(item, "fixturenames", ()) for item in session.items)
    if not is_needed or session.config.option.collectonly:
        return
    root = TemporaryDirectory()
    # One process for all, since loading TFX takes as long as most of the pipelines.
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    session.config.add_cleanup(root.cleanup)
    session.config.add_cleanup(functools.partial(pool.shutdown, cancel_futures=True))
    session.stash[STARTED] = {}
    for arguments in (BAD_MODEL, *PIPELINES):
        folder = Path(root.name, arguments)
        session.stash[STARTED][arguments] = (folder, pool.submit(run, arguments, folder))
