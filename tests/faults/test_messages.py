"""What a user sees of an error: Python's own traceback and at most three lines more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bulk_inferencer import run
from tests.faults.account import NOTICES, lost_and_doubled
from tests.faults.child import RECORDS, job_in, write_inputs
from tests.faults.stderr import lines_of
from tests.helpers import write_tfrecord

CHECKOUT = Path(__file__).parents[2]
CODE = """
import sys
from pathlib import Path
from tests.faults.child import job_in
from bulk_inferencer import run

run(job_in(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_damaged_file_takes_three_lines_at_most_and_is_named_once(tmp_path, reliability):
    write_inputs(tmp_path)
    path = tmp_path / "in/07.gz"
    path.write_bytes(path.read_bytes()[:-9])
    command = [sys.executable, "-W", "ignore", "-c", CODE, tmp_path]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    lines = lines_of(done.stderr)
    lines = [line for line in lines if not line.startswith(("Traceback (most recent", "  "))]
    assert len(lines) <= 3, done.stderr
    assert done.stderr.count(str(path)) == 1
    start = f"bulk_inferencer.errors.InputError: Cannot read {path} as TFRecord: "
    assert lines[-1].startswith(start)
    assert lines[-1].endswith("Write the file again, or leave it out of the inputs.")
    write_tfrecord(path, RECORDS[70:80])
    run(job_in(tmp_path), restart=True)
    account = lost_and_doubled(RECORDS, tmp_path / "out/inference_result")
    reliability(NOTICES, "a damaged file, in a program of its own", *account)
