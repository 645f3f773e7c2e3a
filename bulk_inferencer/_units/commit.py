"""Closes the books of a run: its folders hold complete results that add up, or nothing."""

from __future__ import annotations

import logging
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bulk_inferencer import _files
from bulk_inferencer._layout import SUMMARY_FILE, WORK_FOLDER
from bulk_inferencer._units.failure_limit import FailureLimit, check_failure_limit
from bulk_inferencer._units.manifest import BranchAccount, Manifest
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.sinks import prediction_logs
from bulk_inferencer._units.sinks.sink import Sink
from bulk_inferencer.errors import ReconciliationError, SettingsError, prefix_errors
from bulk_inferencer.results.summary import Counts

_logger = logging.getLogger(__name__)

_RUN_AGAIN = "Nothing was committed. Run again."


@dataclass(frozen=True)
class Books:
    """What all units of a run did together.

    Attributes:
      counts: by model and split.
      accounts: of each model.
      unrouted: records that failed before they reached a model, by split.
    """

    counts: Mapping[str, Mapping[str, Counts]]
    accounts: Mapping[str, BranchAccount]
    unrouted: Mapping[str, int]


@contextmanager
def all_or_nothing(folders: Sequence[str]) -> Iterator[None]:
    """Empties the folders of a run again if the code within `with` raises.

    Raises:
      SettingsError: a folder already holds something.
    """
    for folder in folders:
        if existing := _files.files_below(folder):
            raise SettingsError(
                f"The folder {folder} is not empty: it holds {len(existing)} files, such as "
                f"{min(existing)}. Choose another folder: results are never overwritten. If there "
                f"is no {SUMMARY_FILE}, they are from a run that is still going on or was killed. "
                f"When no run is going on, you can empty the folder."
            )
    try:
        yield
    except BaseException:
        for folder in folders:
            try:
                _files.delete_folder(folder)
                _files.make_folder(folder)
            except Exception:  # The error that is being raised says more.
                _logger.exception("Could not empty %s. Delete its content.", folder)
        raise


def make_folders(folders: Sequence[str], sinks: Sequence[Sink], splits: Sequence[str]) -> None:
    """Makes the folders that units write to."""
    for folder in folders:
        _files.make_folder(posixpath.join(folder, WORK_FOLDER))
    for sink in sinks:
        for folder in sink.folders(splits):
            _files.make_folder(folder)


def close_books(
    task: UnitTask,
    units: Sequence[Unit],
    manifests: Sequence[Manifest],
    folders: Sequence[str],
    failure_limit: FailureLimit,
) -> Books:
    """Checks that all units are there and add up, and finishes the sinks.

    Raises:
      ReconciliationError: units, counts or files do not add up.
      FailureLimitError: too many records failed.
    """
    manifests = sorted(manifests, key=lambda manifest: (manifest.split, manifest.index))
    books = add_up(units, manifests, task.labels, is_split=task.routing is not None)
    check_shards(manifests, folders)
    check_failure_limit(failure_limit, manifests, task.labels)
    splits = list(dict.fromkeys(unit.split for unit in units))
    for sink in task.sinks:
        sink.finish(splits, manifests)
    for folder in folders:
        _files.delete_folder(posixpath.join(folder, WORK_FOLDER))
    return books


def add_up(
    units: Sequence[Unit],
    manifests: Sequence[Manifest],
    labels: Mapping[str, str],
    is_split: bool = False,
) -> Books:
    """Returns the sums of all manifests, after checking them against each other.

    With `is_split`, each record goes to one of the models instead of to all.

    Raises:
      ReconciliationError: a unit has no manifest, or more than one, or its counts do not add up.
    """
    reported = Counter((manifest.split, manifest.index) for manifest in manifests)
    planned = Counter((unit.split, unit.index) for unit in units)
    if reported != planned:
        missing = ", ".join(map(str, sorted(planned - reported))) or "none"
        surplus = ", ".join(map(str, sorted(reported - planned))) or "none"
        raise ReconciliationError(
            f"{len(units)} units were planned, but {len(manifests)} reported back. Missing: "
            f"{missing}. Not planned, or reported twice: {surplus}. {_RUN_AGAIN}"
        )
    splits = dict.fromkeys(unit.split for unit in units)
    counts = {branch: dict.fromkeys(splits, Counts()) for branch in labels}
    accounts = {branch: BranchAccount() for branch in labels}
    unrouted = dict.fromkeys(splits, 0)
    for manifest in manifests:
        unrouted[manifest.split] += manifest.unrouted
        for branch, label in labels.items():
            with prefix_errors(label):
                counts[branch][manifest.split] += _branch_counts(manifest, branch, is_split)
            accounts[branch].merge(manifest.branches[branch])
        routed = sum(account.examples_read for account in manifest.branches.values())
        _check(
            manifest,
            not is_split or manifest.examples_read == routed + manifest.unrouted,
            f"{manifest.examples_read} records were read, but {routed} went to a model and "
            f"{manifest.unrouted} to none",
        )
    return Books(counts, accounts, unrouted)


def _branch_counts(manifest: Manifest, branch: str, is_split: bool) -> Counts:
    account = manifest.branches[branch]
    shards = manifest.sinks[prediction_logs.name_of(branch)].shards
    read, predicted = account.examples_read, account.predictions_made
    failed, written = account.examples_failed, sum(shard.records for shard in shards)
    _check(
        manifest,
        read == predicted + failed,
        f"{read} records were read, but {predicted} were predicted and {failed} failed",
    )
    _check(
        manifest,
        predicted == written,
        f"{predicted} predictions were made, but {written} were written",
    )
    _check(
        manifest,
        is_split or read == manifest.examples_read,
        f"{manifest.examples_read} records were read, but {read} went to the model",
    )
    return Counts(read, written, failed, len(shards), sum(shard.bytes for shard in shards))


def _check(manifest: Manifest, adds_up: bool, what: str) -> None:
    if not adds_up:
        raise ReconciliationError(
            f"The counts of unit {manifest.index} of split '{manifest.split}' do not add up: "
            f"{what}. {_RUN_AGAIN}"
        )


def check_shards(manifests: Sequence[Manifest], folders: Sequence[str]) -> None:
    """Checks that the folders hold the shards that the manifests name, and nothing else.

    In `.work` there may be more: files of attempts that were given up.

    Raises:
      ReconciliationError: a shard is missing, has another size, or is in no manifest.
    """
    expected = {shard.path: shard.bytes for manifest in manifests for shard in manifest.shards}
    found = {}
    for folder in folders:
        work = posixpath.join(folder, WORK_FOLDER) + "/"
        for path, size in _files.files_below(folder).items():
            if path in expected or not path.startswith(work):
                found[path] = size
    for path in sorted(expected.keys() | found.keys()):
        if expected.get(path) != found.get(path):
            raise ReconciliationError(
                f"There should be {_size(expected.get(path))} at {path}, but there is "
                f"{_size(found.get(path))}. {_RUN_AGAIN}"
            )


def _size(size: int | None) -> str:
    return "no file" if size is None else f"a file of {size} bytes"
