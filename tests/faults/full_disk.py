"""A job whose results go to a small disk of its own, which is full at some point.

unshare --map-root-user --mount python -m tests.faults.full_disk FOLDER MOMENT

Prints, as JSON, what the run said, which results were visible then, and the account of a second run
after somebody made room.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bulk_inferencer import Checkpoint, Outputs, _files, run
from bulk_inferencer.errors import OutputError
from tests.faults.account import lost_and_doubled
from tests.faults.child import RECORDS, job_in, write_inputs
from tests.helpers import tree

# A file takes at least 4 KiB: 40 units want about 700 KiB, and their copies half as much.
_SIZES = {"scoring": "200k", "commit": "64m", "copying": "200k"}


def mount(*options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", *options], check=True)


def fill_when_moving(disk):
    """Fills the disk as soon as the first shard gets its final name."""
    move = _files.move

    def fill_and_move(source, target):
        if not (disk / "filler").exists():
            with open(disk / "filler", "wb", buffering=0) as filler:
                while filler.write(bytes(1 << 20)) == 1 << 20:
                    pass
        move(source, target)

    _files.move = fill_and_move


def main(folder, moment):
    write_inputs(folder)
    disk = folder / "disk"
    disk.mkdir()
    mount(f"size={_SIZES[moment]}", "tmpfs", disk)
    settings = {"outputs": Outputs.under(disk / "out")}
    if moment == "copying":
        settings["checkpoint"] = Checkpoint(folder / "checkpoint")
    if moment == "commit":
        fill_when_moving(disk)
    try:
        run(job_in(folder, **settings))
    except OutputError as error:
        said = str(error)
    visible = [path for path in tree(disk / "out") if "/.work/" not in path]
    (disk / "filler").unlink(missing_ok=True)
    mount("remount,size=64m", "tmpfs", disk)
    (disk / "filler").touch()  # It stays empty from now on.
    reused = run(job_in(folder, **settings)).reused.units
    account = lost_and_doubled(RECORDS, disk / "out/inference_result")
    print(json.dumps([said, visible, reused, *account]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
