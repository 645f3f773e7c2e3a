"""The folders of a run: what they may hold before it, and what they hold after it.

before    empty, or what an unfinished run of the same job left
within    results/.../.work   files of units and, beside the summary, the checkpoint
after     complete results, or nothing but what finished units left in .work
"""

from __future__ import annotations

import contextlib
import logging
import posixpath
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bulk_inferencer import _files, _layout
from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._layout import SUMMARY_FILE, WORK_FOLDER
from bulk_inferencer._units import checkpoint
from bulk_inferencer._units.basis import Basis
from bulk_inferencer._units.checkpoint import Checkpoint, Unfinished
from bulk_inferencer._units.claim import Claims, claimed
from bulk_inferencer._units.commit import final_names, results_in, take_back
from bulk_inferencer._units.gathering import Gathered, gather
from bulk_inferencer._units.manifest import Manifest
from bulk_inferencer._units.manifest_files import delete_manifests, read_manifests
from bulk_inferencer._units.plan import Unit, numbered, plan_units
from bulk_inferencer._units.run import UnitTask
from bulk_inferencer._units.run_file import begin_run, end_runs
from bulk_inferencer.errors import (
    FailureLimitError,
    FolderInUseError,
    HookError,
    ModelError,
    SettingsError,
)

# These go away only if the job changes, and then nothing can be reused.
_NEED_ANOTHER_JOB = (SettingsError, ModelError, HookError, FailureLimitError)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workspace:
    """Where a run works.

    Attributes:
      folders: the folders of its outputs, which it owns.
      checkpoint: the folder of what finished units leave.
      manifests_folder: the folder of their manifests. Runs of another model or with other settings
        have another, so that a worker that outlives its run does no harm.
      files_folder: where the files of units wait; empty for the `.work` of their outputs.
      claims: its claims on the folders.
      run_file: the file that is there for as long as the run goes on.
    """

    folders: Sequence[str]
    checkpoint: str
    manifests_folder: str
    files_folder: str
    claims: Claims
    run_file: str = ""

    def plan(
        self, task: UnitTask, inputs: Mapping[str, Sequence[InputFile]]
    ) -> tuple[list[Unit], list[Manifest]]:
        """Returns all units of the run, and the manifests of those that need not run again.

        Those that must run again lose their manifests, so that a new attempt can finish them.
        """
        earlier = self.finished()
        # In the outputs, units are those of the run that was interrupted, and have its numbers.
        groups = [(m.split, m.files) for m in earlier] if self.files_folder else []
        units = plan_units(inputs, groups, in_one=task.limit is not None)
        done = numbered(units, earlier)
        if earlier and not self.files_folder:
            take_back(final_names(task.sinks, units, done))
            self.clear_results()
        done = checkpoint.reusable(done)
        todo = {unit.key for unit in units} - {manifest.key for manifest in done}
        delete_manifests(self.manifests_folder, todo)
        if done:
            _logger.warning(
                "%d of %d units were done before; %d to do.",
                len(done),
                len(units),
                len(units) - len(done),
            )
        return units, done

    def finished(self) -> list[Manifest]:
        """Returns the manifests of finished units, without what is large."""
        return [own.without_notes() for own in read_manifests(self.manifests_folder)]

    def gather(self, task: UnitTask, units: Sequence[Unit], reused: Sequence[Manifest]) -> Gathered:
        """Returns what all units of the run have left."""
        manifests = read_manifests(self.manifests_folder, [unit.key for unit in units])
        return gather(units, manifests, task.sinks, {manifest.key for manifest in reused})

    def clear_results(self) -> None:
        """Deletes all results that are not committed, but nothing that no run of ours made."""
        paths = [
            path
            for folder in self.folders
            for path in results_in(folder)
            if _layout.is_result(_files.name_within(folder, path))
        ]
        _files.in_parallel(_files.delete, paths)
        for folder in {posixpath.dirname(path) for path in paths}:
            _files.delete_empty_folder(folder)


def clear_work(folders: Sequence[str]) -> None:
    """Deletes everything in the `.work` of outputs but for the claims."""
    checkpoint.clear(*(posixpath.join(folder, WORK_FOLDER) for folder in folders))


def tidy(folders: Sequence[str]) -> None:
    """Deletes what a run that was killed after its commit left beside its results."""
    work = [path for f in folders for path in _files.files_below(posixpath.join(f, WORK_FOLDER))]
    if work:
        with contextlib.suppress(FolderInUseError), claimed(folders):
            clear_work(folders)


@contextmanager
def workspace(
    folders: Sequence[str],
    summary: str,
    basis: Basis | None,
    setting: Checkpoint | None = None,
    restart: bool = False,
) -> Iterator[Workspace]:
    """Owns the folders of a run within `with`.

    Without an error, the code within has committed. After an error, nothing is left under a final
    name. What finished units left stays for the next run, if it can tell that its job is the same
    and the error can go away without another job.

    Raises:
      FolderInUseError: another run is writing to a folder.
      SettingsError: a folder holds something else than what an unfinished run of the same job left.
    """
    in_place = posixpath.join(summary, WORK_FOLDER)
    run = basis.digest if basis else uuid.uuid4().hex
    if setting and basis:
        checkpoint.delete_old(setting.folder, setting.max_age_days)
        folder = posixpath.join(setting.folder, run[:32])
        owned, files_folder = [*folders, folder], posixpath.join(folder, "files")
    else:
        folder, owned, files_folder = in_place, list(folders), ""
    manifests_folder = posixpath.join(folder, f"units-{run[:16]}")
    with claimed(owned) as claims:
        space = Workspace(folders, folder, manifests_folder, files_folder, claims)
        _prepare(space, basis, summary, restart)
        space = replace(space, run_file=begin_run(manifests_folder))
        try:
            yield space
        except BaseException as error:
            _leave_after_error(space, basis, error)
            raise
        if setting and setting.keep and files_folder:
            # Before anything goes, so that attempts know that they have to tidy up themselves.
            _files.delete(space.run_file)
            checkpoint.sweep(folder, manifests_folder)
        elif files_folder:
            checkpoint.clear(folder)
        clear_work(folders)
    if files_folder:
        _files.delete_empty_folder(folder)


def _prepare(space: Workspace, basis: Basis | None, summary: str, restart: bool) -> None:
    in_place = posixpath.join(summary, WORK_FOLDER)
    is_committed = _files.exists(posixpath.join(summary, SUMMARY_FILE))
    earlier = None if is_committed else checkpoint.read_job(in_place)
    for folder in space.folders:
        existing = results_in(folder)
        is_left_over = earlier and folder in earlier.folders and _all_ours(folder, existing)
        if existing and not is_left_over:
            raise _not_empty(folder, existing, "" if is_committed else summary)
    for claim in {claim.run: claim for claim in space.claims.taken_over.values()}.values():
        folders = [f for f, taken in space.claims.taken_over.items() if taken.run == claim.run]
        what = ", ".join(folders)
        _logger.warning("Taking over from a run that was killed: %s. Folders: %s.", claim, what)
    goes_on = earlier and not restart and not earlier.checkpoint
    if earlier and goes_on:
        _check_same(in_place, earlier, basis, has_checkpoint=bool(space.files_folder))
    if restart and space.files_folder:
        checkpoint.clear(space.checkpoint)
    if not goes_on or space.files_folder:
        space.clear_results()
        clear_work(space.folders)
    end_runs(space.manifests_folder)
    for folder in (space.manifests_folder, space.files_folder):
        if folder:
            _files.make_folder(folder)
    if basis:
        waits_in = space.checkpoint if space.files_folder else ""
        job = Unfinished(basis, tuple(space.folders), waits_in)
        for folder in dict.fromkeys([in_place, space.checkpoint]):
            checkpoint.write_job(folder, job)


def _check_same(
    in_place: str, earlier: Unfinished, basis: Basis | None, has_checkpoint: bool
) -> None:
    differ = basis.differences(earlier.basis) if basis else ["this one cannot be compared"]
    if has_checkpoint:
        differ.append("it had no checkpoint")
    if differ:
        raise SettingsError(
            f"An unfinished run left results in {in_place}, but not of this job. Different: "
            f"{', '.join(differ)}. Nothing was scored. Call run(job, restart=True) to delete them "
            f"and start anew, choose other folders, or go on with the job as it was."
        )


def _not_empty(folder: str, existing: Mapping[str, int], without_summary: str) -> SettingsError:
    hint = ""
    if not without_summary and _all_ours(folder, existing):
        hint = (
            " They are the finished results of another job: of other inputs or another model, or "
            "with other settings, as those of a trial."
        )
    elif without_summary:
        hint = (
            f" There is no {SUMMARY_FILE} in {without_summary}, so they may be from a run that was "
            f"killed. If nobody needs them, delete them."
        )
    return SettingsError(
        f"The folder {folder} is not empty: it holds {len(existing)} files, such as "
        f"{min(existing)}. Choose another folder: results are never overwritten.{hint}"
    )


def _all_ours(folder: str, paths: Mapping[str, int]) -> bool:
    return all(_layout.is_result(_files.name_within(folder, path)) for path in paths)


def _leave_after_error(space: Workspace, basis: Basis | None, error: BaseException) -> None:
    try:
        _files.delete(space.run_file)
        space.claims.check()  # What another run owns by now is none of ours.
        space.clear_results()
        if isinstance(error, FailureLimitError) and space.files_folder:
            # The next run must not fail for what has been put right outside of what it compares.
            failed = {own.key for own in space.finished() if own.examples_failed}
            delete_manifests(space.manifests_folder, failed)
        is_worth_it = space.files_folder or not isinstance(error, _NEED_ANOTHER_JOB)
        kept = len(space.finished()) if basis and is_worth_it else 0
        if kept:
            _logger.warning(
                "The run did not end, but %s kept in %s. Run again to go on.",
                "1 finished unit is" if kept == 1 else f"{kept} finished units are",
                space.checkpoint,
            )
        elif not isinstance(error, Exception):  # Ctrl-C or SIGTERM
            _logger.warning("The run did not end, and no finished unit is kept.")
        if not kept or space.files_folder:
            clear_work(space.folders)
    except FolderInUseError:
        _logger.info("Left all folders as they are.", exc_info=True)
    except Exception:  # The error that is being raised says more.
        _logger.exception("Could not empty %s. Delete what is in there.", ", ".join(space.folders))
