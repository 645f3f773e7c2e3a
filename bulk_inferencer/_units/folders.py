"""The folders of a run: all of them are complete at the end, or empty."""

from __future__ import annotations

import itertools
import logging
import posixpath
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from bulk_inferencer import _files
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.outputs import WORK_FOLDER, Outputs
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.results.summary import SUMMARY_FILE

_logger = logging.getLogger(__name__)

_COPY_BUFFER_BYTES = 8 << 20


@contextmanager
def all_or_nothing(outputs: Outputs) -> Iterator[None]:
    """Empties the outputs again if what runs within raises.

    Raises:
      SettingsError: a folder holds something already.
    """
    for folder in outputs.folders:
        if existing := _files.files_below(folder):
            raise SettingsError(
                f"Expected an empty folder to write to, got {len(existing)} files in {folder}, "
                f"such as {min(existing)}. Choose another folder: results are never overwritten. "
                f"Where there is no {SUMMARY_FILE}, they are of a run that was killed, or that is "
                f"not over, and once it is, the folder can be emptied."
            )
    try:
        yield
    except BaseException:
        for folder in outputs.folders:
            try:
                _files.delete_folder(folder)
                _files.make_folder(folder)
            except Exception:  # the error that is on its way says more
                _logger.exception("Could not empty %s: delete what is in it.", folder)
        raise


def make_folders(outputs: Outputs, splits: Iterable[str]) -> None:
    """Makes the folders that units write to."""
    by_split = [outputs.failed_examples]
    if outputs.output_examples:
        by_split.append(outputs.output_examples)
    for folder in outputs.folders:
        _files.make_folder(posixpath.join(folder, WORK_FOLDER))
    for folder, split in itertools.product(by_split, splits):
        _files.make_folder(posixpath.join(folder, f"Split-{split}"))


def existing_sizes(outputs: Outputs) -> dict[str, int]:
    """Returns the sizes of all files that units committed: not of attempts that came to nothing."""
    sizes = {}
    for folder in outputs.folders:
        work = posixpath.join(folder, WORK_FOLDER) + "/"
        for path, size in _files.files_below(folder).items():
            if not path.startswith(work) or path.startswith(work + "failures-"):
                sizes[path] = size
    return sizes


def merge_failures(folder: str, splits: Iterable[str], manifests: Sequence[Manifest]) -> None:
    """Concatenates the failures of each split's units; gzip members may follow one another."""
    for split in splits:
        parts = [m.failures for m in sorted(manifests, key=lambda m: m.index) if m.split == split]
        path = posixpath.join(folder, f"failures-{split}.jsonl.gz")
        with _files.open_to_write(path) as merged:
            for part in parts:
                with _files.open_to_read(part) as file:
                    shutil.copyfileobj(file, merged, _COPY_BUFFER_BYTES)


def delete_work_folders(outputs: Outputs) -> None:
    """Deletes what units kept for the end of the run."""
    for folder in outputs.folders:
        _files.delete_folder(posixpath.join(folder, WORK_FOLDER))
