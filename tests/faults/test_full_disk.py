"""Disks that are full: the error names the file, and no result is there in part."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bulk_inferencer import Outputs, run
from bulk_inferencer.errors import OutputError
from tests.faults.account import ALL_OR_NOTHING, lost_and_doubled
from tests.faults.child import job_in
from tests.faults.stderr import lines_of
from tests.helpers import tree, write_tfrecord

CHECKOUT = Path(__file__).parents[2]
OWN_DISKS = ["unshare", "--map-root-user", "--mount"]


def may_mount():
    try:
        return subprocess.run([*OWN_DISKS, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.faults
@pytest.mark.skipif(not may_mount(), reason="needs leave to mount a disk: unshare -rm")
@pytest.mark.parametrize(
    ("moment", "fault", "place", "least_reused"),
    [
        ("scoring", "a disk that gets full while records are scored", r"\w+/\.work/\S+", 1),
        (
            "copying",
            "a disk that gets full while a checkpoint becomes results",
            r"\w+/(Split-s/)?[\w-]+-of-00040\.gz",
            40,
        ),
        (
            "commit",
            "a disk that gets full in the commit",
            r"summary/(summary\.json\S*|failures-s\.jsonl\.gz)",
            40,
        ),
    ],
    ids=["scoring", "copying", "commit"],
)
def test_run_on_a_full_disk_leaves_nothing_and_goes_on_when_there_is_room(
    tmp_path, reliability, moment, fault, place, least_reused
):
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults.full_disk", tmp_path, moment]
    done = subprocess.run([*OWN_DISKS, *command], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said, visible, reused, lost, doubled = json.loads(done.stdout)
    message = (
        rf"Cannot write {tmp_path}/disk/out/{place}: No space left on device\. Make room there, or "
        rf"choose another folder, and run again\."
    )
    assert re.fullmatch(message, said), said
    assert visible == []
    assert reused >= least_reused
    assert len(lines_of(done.stderr)) <= 2, done.stderr
    reliability(ALL_OR_NOTHING, fault, lost, doubled)


def test_file_that_may_not_grow_is_named(tmp_path, reliability):
    """As by a quota or `ulimit -f`."""
    records = [bytes(1 << 20), b"small"]
    write_tfrecord(tmp_path / "in/0.gz", records)
    job = job_in(tmp_path, outputs=Outputs.under(tmp_path / "out", compression="NONE"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"^Cannot write \S+/inference_result/\S+: File too "):
            run(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path for path in tree(tmp_path / "out") if "/.work/" not in path] == []
    run(job)
    account = lost_and_doubled(records, tmp_path / "out/inference_result")
    reliability(ALL_OR_NOTHING, "a limit for the size of files", *account)
