"""The directory of a run on this machine: what lies where, and how it is emptied."""

from __future__ import annotations

import os
import shutil

DATA, ARTIFACTS, METADATA, LOG = "data", "artifacts", "metadata.sqlite", "run_local.log"


def clear(workdir: str) -> None:
    """Makes `workdir` an empty directory, but removes nothing that is not from an earlier run.

    Raises:
      FileExistsError: `workdir` holds something else, or is a file.
    """
    if os.path.exists(workdir) and not os.path.isdir(workdir):
        raise FileExistsError(f"{workdir} is a file. Name a directory with --workdir.")
    os.makedirs(workdir, exist_ok=True)
    names = set(os.listdir(workdir))
    strangers = names - {DATA, ARTIFACTS, METADATA, LOG}
    # A folder called "data" may be anybody's; our log is the first that a run writes.
    if strangers or (names and LOG not in names):
        raise FileExistsError(
            f"{workdir} is neither empty nor from an earlier run: it has "
            f"{', '.join(sorted(strangers or names)[:3])}. Name another directory with --workdir."
        )
    for path in (os.path.join(workdir, name) for name in names):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
