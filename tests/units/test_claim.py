"""That only one run owns a folder, for as long as it lives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest

from bulk_inferencer._units import claim
from bulk_inferencer._units.claim import Claim, Claims, claimed
from bulk_inferencer.errors import FolderInUseError
from tests.helpers import exactly, in_bucket, tree

ELSEWHERE = Claim(run="r", host="elsewhere", process=1, machine="2")


def leave(folder, left, number=1):
    path = folder / f".work/claim-{number:06d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(left)))
    return path


@pytest.mark.parametrize("place", [str, in_bucket], ids=["disk", "bucket"])
def test_folder_of_a_run_that_is_going_on_is_refused(tmp_path, place):
    folder = place(f"{tmp_path}/out")
    with claimed([folder]) as claims:
        before = tree(tmp_path)
        message = (
            f"Another run is writing to {folder}: {claims._claim}. Choose another folder, or wait "
            f"until it is over. If it was killed, its claim ends 120 s after its last sign of life."
        )
        with (
            pytest.raises(FolderInUseError, match=exactly(message)),
            claimed([place(f"{tmp_path}/other"), folder]),
        ):
            pass
        assert tree(tmp_path) == before
    assert tree(tmp_path) == []
    assert place is in_bucket or not list(tmp_path.rglob(".work"))


@pytest.mark.parametrize(("place", "fewest"), [(str, 1), (in_bucket, 0)], ids=["disk", "bucket"])
def test_of_many_runs_at_once_only_one_gets_the_folder(tmp_path, place, fewest):
    for attempt in range(5):
        folder = place(f"{tmp_path}/{attempt}")
        ready, done = threading.Barrier(8, timeout=20), threading.Barrier(8, timeout=20)

        def attempts(folder=folder, ready=ready, done=done):
            ready.wait()
            try:
                with claimed([folder]):
                    done.wait()
                    return 1
            except FolderInUseError:
                done.wait()
                return 0

        with ThreadPoolExecutor(8) as pool:
            winners = sum(future.result() for future in [pool.submit(attempts) for _ in range(8)])
        assert fewest <= winners <= 1


def test_claim_of_a_process_that_has_ended_is_taken_over(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    dead = Claim(process=int(ended.stdout))
    path = leave(tmp_path, dead)
    # A live one elsewhere must be believed until it has been silent for long.
    silent = replace(ELSEWHERE, alive=time.time() - 121)
    leave(tmp_path, silent, 2)
    with claimed([str(tmp_path)]) as claims:
        assert claims.taken_over == {str(tmp_path): silent}
        claims.check()
    assert not path.exists()
    assert tree(tmp_path) == []
    leave(tmp_path, replace(silent, alive=time.time() - 60))
    with pytest.raises(FolderInUseError), claimed([str(tmp_path)]):
        pass


def test_claim_that_is_just_being_written_counts_as_alive(tmp_path):
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work/claim-000001.json").write_text("")
    with (
        pytest.raises(FolderInUseError, match="process 0 on unknown host"),
        claimed([f"{tmp_path}"]),
    ):
        pass


def test_what_a_process_left_that_was_killed_while_it_claimed_is_deleted(tmp_path):
    for name, age in (("0" * 32, 121), ("1" * 32, 0)):
        path = tmp_path / f".work/claim-000001.json-{name}"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    with claimed([str(tmp_path)]):
        pass
    assert tree(tmp_path) == [f".work/claim-000001.json-{'1' * 32}"]


def test_run_that_lost_its_folder_is_told_so(tmp_path):
    with claimed([str(tmp_path)]) as claims:
        later = leave(tmp_path, ELSEWHERE, 2)
        message = (
            f"Another run has taken over {tmp_path}: {ELSEWHERE}. This run gave no sign of life "
            f"for 120 s, for example because its machine slept. Nothing was committed. Run again "
            f"when the other one is over."
        )
        with pytest.raises(FolderInUseError, match=exactly(message)):
            claims.check()
    assert tree(tmp_path) == [".work/claim-000002.json"]
    assert json.loads(later.read_text())["host"] == "elsewhere"


def test_claim_that_was_deleted_is_not_called_another_run(tmp_path):
    with claimed([str(tmp_path)]) as claims:
        (tmp_path / ".work/claim-000001.json").unlink()
        message = (
            f"The claim of this run on {tmp_path} is gone: its .work was deleted or moved while "
            f"the run was going on. Nothing was committed. Run again."
        )
        with pytest.raises(FolderInUseError, match=exactly(message)):
            claims.check()


def test_run_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "_SIGN_SECONDS", 0.01)
    claims = Claims()
    claims.take(str(tmp_path))
    (path,) = (tmp_path / ".work").iterdir()
    first = json.loads(path.read_text())
    claims.keep_alive()
    deadline = time.monotonic() + 10
    while (now := json.loads(path.read_text())) == first and time.monotonic() < deadline:
        pass
    claims.release_all()
    assert tree(tmp_path) == []
    assert now["alive"] > first["alive"]
    assert {**now, "alive": 0} == {**first, "alive": 0}


def test_what_is_beside_the_claims_stays(tmp_path):
    with claimed([str(tmp_path)]):
        (tmp_path / ".work/file").touch()
    assert tree(tmp_path) == [".work/file"]
