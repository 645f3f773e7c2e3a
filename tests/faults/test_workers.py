"""Worker processes that die."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from bulk_inferencer import run
from bulk_inferencer.engines import Beam
from bulk_inferencer.errors import WorkerError
from tests.faults.account import RESUMES, lost_and_doubled
from tests.faults.child import RECORDS, LengthModel, job_in, write_inputs

CALLS = 10
PROCESSES = Beam(
    [
        "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=2",
    ]
)


@dataclass(frozen=True)
class KillingModel(LengthModel):
    """Kills its process after ten calls, and only the first process that gets so far."""

    folder: str = ""

    def predict(self, batch):
        calls = Path(self.folder, "calls")
        if len(os.listdir(calls)) >= CALLS:
            with contextlib.suppress(FileExistsError):
                calls.with_name("killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        (calls / batch[0].decode()).touch()
        return LengthModel.predict(self, batch)


@pytest.mark.faults
def test_run_ends_when_a_worker_process_is_killed_and_goes_on_later(
    tmp_path, reliability, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    write_inputs(tmp_path)
    (tmp_path / "calls").mkdir()
    job = job_in(tmp_path, model=KillingModel(folder=f"{tmp_path}"))
    message = (
        "A process of Beam's local runner died: Worker subprocess exited with return code 137. "
        "Either memory ran out or somebody killed it. Run again, if need be with a lower "
        "--direct_num_workers."
    )
    with pytest.raises(WorkerError, match=f"^{re.escape(message)}$"):
        run(job, PROCESSES)
    assert run(job, PROCESSES).reused.units >= CALLS - 2  # of each process, the unit at work
    account = lost_and_doubled(RECORDS, tmp_path / "out/inference_result")
    reliability(RESUMES, "a worker process killed with -9", *account)
