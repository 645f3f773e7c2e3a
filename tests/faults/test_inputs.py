"""Files that are damaged, or change under the run: an error that names them, or equal results."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from bulk_inferencer import read_predictions, run
from bulk_inferencer._formats import tfrecord
from bulk_inferencer._units.damaged_files import DamagedFiles
from bulk_inferencer.errors import InputError
from tests.faults import child
from tests.faults.account import ADDS_UP, ALL_OR_NOTHING, NOTICES, difference, lost_and_doubled
from tests.faults.child import RECORDS, job_in, write_inputs
from tests.helpers import tree, write_tfrecord


def visible(folder):
    return [path for path in tree(folder) if "/.work/" not in path]


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.faults
@pytest.mark.parametrize("compression", ["", "GZIP"], ids=["plain", "gzip"])
def test_any_flipped_bit_is_noticed_or_changes_no_record(tmp_path, reliability, compression):
    path = Path(write_tfrecord(tmp_path / "records", RECORDS[:12], compression))
    content = path.read_bytes()
    noticed = lost = doubled = 0
    for bit in range(8 * len(content)):
        flip(path, bit)
        try:
            read = [record for chunk in tfrecord.read_chunks(str(path)) for record in chunk]
        except InputError as error:
            noticed += str(error).startswith(f"Cannot read {path} as ")
        else:
            own_lost, own_doubled = difference(RECORDS[:12], read)
            lost, doubled = lost + own_lost, doubled + own_doubled
        path.write_bytes(content)
    # The header of gzip holds what no reader needs, such as a time.
    assert noticed == 8 * len(content) if not compression else noticed > 6 * len(content)
    reliability(NOTICES, f"each bit of a {compression or 'plain'} file flipped", lost, doubled)


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("fault", "damage"),
    [
        ("a flipped bit", lambda path: flip(path, 300)),
        ("a file cut short", cut),
        ("an empty .gz file", lambda path: path.write_bytes(b"")),
    ],
    ids=["flipped", "cut", "emptied"],
)
def test_damaged_file_ends_the_run_without_results(tmp_path, reliability, fault, damage):
    write_inputs(tmp_path)
    path = tmp_path / "in/07.gz"
    shutil.copy2(path, tmp_path / "good")
    damage(path)
    with pytest.raises(InputError, match=re.escape(str(path))):
        run(job_in(tmp_path))
    assert visible(tmp_path / "out") == []
    with pytest.raises(InputError, match=r"^(A run that writes|There are no predictions)"):
        read_predictions(tmp_path / "out/inference_result")
    shutil.copy2(tmp_path / "good", path)
    run(job_in(tmp_path), restart=True)
    reliability(NOTICES, fault, *lost_and_doubled(RECORDS, tmp_path / "out/inference_result"))


def rewritten(folder):
    """Leaves the files that were listed, with half of their records."""
    for path in folder.iterdir():
        write_tfrecord(path, [b"half"] * 5)


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("files that disappear after they were listed", shutil.rmtree),
        ("files that are rewritten after they were listed", rewritten),
    ],
    ids=["gone", "rewritten"],
)
def test_files_that_change_under_a_run_end_it(tmp_path, reliability, monkeypatch, fault, change):
    write_inputs(tmp_path)
    shutil.copytree(tmp_path / "in", tmp_path / "good")

    def change_once():
        monkeypatch.setattr(child, "before_call", lambda: None)
        change(tmp_path / "in")

    monkeypatch.setattr(child, "before_call", change_once)
    with pytest.raises(InputError, match=rf"{tmp_path}/in/\d\d\.gz"):
        run(job_in(tmp_path))
    assert visible(tmp_path / "out") == []
    shutil.rmtree(tmp_path / "in", ignore_errors=True)
    shutil.copytree(tmp_path / "good", tmp_path / "in")
    assert run(job_in(tmp_path)).reused.units < child.FILES
    account = lost_and_doubled(RECORDS, tmp_path / "out/inference_result")
    reliability(ALL_OR_NOTHING, fault, *account)


def test_run_may_go_on_past_a_damaged_file(tmp_path, reliability):
    write_inputs(tmp_path)
    path = tmp_path / "in/07.gz"
    write_tfrecord(path, RECORDS[70:80], "")
    frame = 8 + 4 + len(RECORDS[70]) + 4
    flip(path, 8 * (6 * frame + 13))
    summary = run(job_in(tmp_path, damaged_files=DamagedFiles(skip=True)))
    (damaged,) = summary.damaged_files
    assert (damaged.file, summary.total.examples_read) == (str(path), len(RECORDS) - 4)
    account = lost_and_doubled(RECORDS[:76] + RECORDS[80:], tmp_path / "out/inference_result")
    reliability(ADDS_UP, "a damaged file that is skipped", *account)
