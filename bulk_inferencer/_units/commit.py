"""Closes the books of a run, and commits its results: all that add up, or none."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from bulk_inferencer import _files, _layout
from bulk_inferencer._layout import WORK_FOLDER
from bulk_inferencer._units.failure_limit import FailureLimit, check_failure_limit
from bulk_inferencer._units.manifest import BranchAccount, Manifest, Shard
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.sinks.failure_list import FirstFailures
from bulk_inferencer._units.sinks.sink import Sink
from bulk_inferencer.errors import ReconciliationError, prefix_errors
from bulk_inferencer.results.summary import Counts

_RUN_AGAIN = "Nothing was committed. Run again."

# Shards that become results, by their final paths.
Finals: TypeAlias = Mapping[str, Shard]


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


def close_books(
    task: UnitTask,
    units: Sequence[Unit],
    manifests: Sequence[Manifest],
    failure_limit: FailureLimit,
    first_failures: FirstFailures,
) -> Books:
    """Returns what the units of a run did, after checking that they are all there and add up.

    Raises:
      ReconciliationError: units or counts do not add up.
      FailureLimitError: too many records failed.
    """
    books = add_up(units, manifests, task.labels, task.sinks, task.routing is not None)
    check_failure_limit(failure_limit, manifests, task.labels, first_failures)
    return books


def final_names(
    sinks: Sequence[Sink], units: Sequence[Unit], manifests: Sequence[Manifest]
) -> Finals:
    """Returns the final paths of the shards that become results."""
    by_unit = {(manifest.split, manifest.index): manifest for manifest in manifests}
    finals = {}
    for unit in units:
        for sink in sinks:
            name = sink.file_name(unit.split, unit.shard_name)
            manifest = by_unit.get((unit.split, unit.index))
            if name and manifest:
                (shard,) = manifest.sinks[sink.name].shards
                finals[posixpath.join(sink.folder, name)] = shard
    return finals


@contextmanager
def placed(finals: Finals, keeps_shards: bool) -> Iterator[None]:
    """Gives shards their final names. If the code within `with` raises, takes them back.

    With `keeps_shards` they are copied, and otherwise moved.
    """
    done: list[str] = []

    def place(item: tuple[str, Shard]) -> None:
        path, shard = item
        if keeps_shards:
            _files.copy(shard.path, path)
        else:
            _files.move(shard.path, path)
        done.append(path)

    try:
        for folder in {posixpath.dirname(path) for path in finals}:
            _files.make_folder(folder)
        _files.in_parallel(place, finals.items())
        yield
    except BaseException:
        if not keeps_shards:
            take_back({path: finals[path] for path in done})
        raise


def take_back(finals: Finals) -> None:
    """Moves shards from their final names, so far as they have them, to where they waited."""

    def move_back(item: tuple[str, Shard]) -> None:
        path, shard = item
        if _files.exists(path) and not _files.exists(shard.path):
            _files.move(path, shard.path)

    _files.in_parallel(move_back, finals.items())


def add_up(
    units: Sequence[Unit],
    manifests: Sequence[Manifest],
    labels: Mapping[str, str],
    sinks: Sequence[Sink],
    is_split: bool = False,
) -> Books:
    """Returns the sums of all manifests, after checking them against each other.

    What the sinks say that they have written must be what the models predicted. With `is_split`,
    each record goes to one of the models instead of to all.

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
                counts[branch][manifest.split] += _branch_counts(manifest, branch, sinks, is_split)
            accounts[branch].merge(manifest.branches[branch])
        routed = sum(account.examples_read for account in manifest.branches.values())
        _check(
            manifest,
            not is_split or manifest.examples_read == routed + manifest.unrouted,
            f"{manifest.examples_read} records were read, but {routed} went to a model and "
            f"{manifest.unrouted} to none",
        )
    return Books(counts, accounts, unrouted)


def _branch_counts(
    manifest: Manifest, branch: str, sinks: Sequence[Sink], is_split: bool
) -> Counts:
    account = manifest.branches[branch]
    read, predicted, failed = (
        account.examples_read,
        account.predictions_made,
        account.examples_failed,
    )
    _check(
        manifest,
        read == predicted + failed,
        f"{read} records were read, but {predicted} were predicted and {failed} failed",
    )
    shards: Sequence[Shard] | None = None  # of the first sink that writes predictions
    for sink in sinks:
        of_sink = manifest.sinks[sink.name]
        written = sink.predictions_written(of_sink).get(branch)
        if written is None:
            continue
        shards = of_sink.shards if shards is None else shards
        _check(
            manifest,
            predicted == written,
            f"{predicted} predictions were made, but {written} were written to {sink.folder}",
        )
    shards = shards or ()
    _check(
        manifest,
        is_split or read == manifest.examples_read,
        f"{manifest.examples_read} records were read, but {read} went to the model",
    )
    return Counts(read, predicted, failed, len(shards), sum(shard.bytes for shard in shards))


def _check(manifest: Manifest, adds_up: bool, what: str) -> None:
    if not adds_up:
        raise ReconciliationError(
            f"The counts of unit {manifest.index} of split '{manifest.split}' do not add up: "
            f"{what}. {_RUN_AGAIN}"
        )


def check_shards(finals: Finals, folders: Sequence[str]) -> None:
    """Checks that the folders hold the shards of all units, whole, and no others.

    Raises:
      ReconciliationError: a shard is missing, has another size, or is of no unit.
    """
    expected = {path: shard.bytes for path, shard in finals.items()}
    found = {}
    for folder in folders:
        for path, size in results_in(folder).items():
            if path in expected or _layout.is_shard(_files.name_within(folder, path)):
                found[path] = size
    for path in sorted(expected.keys() | found.keys()):
        if expected.get(path) != found.get(path):
            raise ReconciliationError(
                f"There should be {_size(expected.get(path))} at {path}, but there is "
                f"{_size(found.get(path))}. {_RUN_AGAIN}"
            )


def results_in(folder: str) -> dict[str, int]:
    """Returns the sizes of all files in a folder but for those in its `.work`."""
    work = posixpath.join(folder, WORK_FOLDER) + "/"
    return {p: size for p, size in _files.files_below(folder).items() if not p.startswith(work)}


def _size(size: int | None) -> str:
    return "no file" if size is None else f"a file of {size} bytes"
