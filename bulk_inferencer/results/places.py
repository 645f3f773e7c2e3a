"""Where the results of a run lie, found from any of its folders.

of a run              results/{inference_result,prediction_table,summary}
of a TFX component    BulkInferencer/{inference_result,prediction_table,summary}/7
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bulk_inferencer import _files
from bulk_inferencer._layout import (
    COMPARISON,
    INFERENCE_RESULT,
    PREDICTION_TABLE,
    SUMMARY_FILE,
    WORK_FOLDER,
)
from bulk_inferencer.errors import InputError, SettingsError
from bulk_inferencer.results.shards import Shard, log_shards, table_shards
from bulk_inferencer.results.summary import Summary

_SUMMARY = "summary"


@dataclass(frozen=True)
class Place:
    """Where the results of a run are.

    Attributes:
      name: the folder that messages name.
      logs: the folders of PredictionLogs, by model.
      table: the folder of the prediction table; None if there is none.
      comparison: the folder where the comparison of several models is, if there is one.
      summary: what the run says of itself; None if it says nothing, as TFX's BulkInferrer.
      summary_folder: where it does.
      model: the only model whose results were asked for; empty for all.
      is_table: whether the table was asked for, whatever else there is.
    """

    name: str
    logs: Mapping[str, str] = field(default_factory=dict)
    table: str | None = None
    comparison: str | None = None
    summary: Summary | None = None
    summary_folder: str = ""
    model: str = ""
    is_table: bool = False


def find_place(folder: str) -> Place:
    """Returns where the results of the run are that a folder is of, or holds.

    Raises:
      InputError: there are none, or those of several executions.
    """
    found = _find_summary(folder)
    if found is None:
        return _place_without_summary(folder)
    run = place_of_run(found)
    if found in (folder, posixpath.join(folder, _SUMMARY)):
        return run
    if table_shards(folder):
        return dataclasses.replace(run, name=folder, table=folder, is_table=True)
    branch = branch_of(folder, run.logs)
    if log_shards(folder):
        if branch is None:
            return Place(folder, {INFERENCE_RESULT: folder})
        # What was named is read, and not the table beside it.
        return dataclasses.replace(
            run, name=folder, logs={branch: folder}, table=None, model=branch
        )
    if branch and _absolute(folder) == _absolute(run.logs[branch]):
        return dataclasses.replace(run, name=folder, model=branch)
    raise nothing_found(folder)


def place_of_run(summary_folder: str) -> Place:
    """Returns where the results are that the summary in a folder is of."""
    run, execution = _run_of(summary_folder)

    def at(output: str) -> str:
        return posixpath.join(run, output, execution) if execution else posixpath.join(run, output)

    summary = Summary.read(summary_folder)
    table = at(PREDICTION_TABLE)
    return Place(
        name=summary_folder if execution else run,
        logs={branch: at(branch) for branch in summary.branches},
        table=table if table_shards(table) else None,
        comparison=at(COMPARISON),
        summary=summary,
        summary_folder=summary_folder,
    )


def _place_without_summary(folder: str) -> Place:
    logs = _first_with(log_shards, folder, posixpath.join(folder, INFERENCE_RESULT))
    table = _first_with(table_shards, folder, posixpath.join(folder, PREDICTION_TABLE))
    if not logs and not table:
        raise nothing_found(folder)
    return Place(folder, {INFERENCE_RESULT: logs} if logs else {}, table)


def _first_with(shards: Callable[[str], list[Shard]], *folders: str) -> str | None:
    return next((folder for folder in folders if shards(folder)), None)


def nothing_found(folder: str, split: str | None = None) -> InputError:
    """Returns the error of a folder in which there are no predictions."""
    which = f" of split '{split}'" if split else ""
    below = posixpath.join(folder, INFERENCE_RESULT)
    if not _files.exists(folder):
        hint = "There is no such folder."
    elif place := _unfinished(folder):
        run, execution = _run_of(place)
        return InputError(
            f"The run in {shown(place if execution else run)} has not ended, so there are no "
            f"predictions yet. If it was stopped, run the same call again. It goes on where it "
            f"stopped."
        )
    elif split is None and log_shards(below):
        hint = f"They are in {below}."
    else:
        hint = (
            "Check the folder and the split. A model that was not blessed leaves no predictions; "
            "its summary.json says so."
        )
    return InputError(f"There are no predictions{which} in {shown(folder)}. {hint}")


def shown(folder: str) -> str:
    """Returns a folder as a sentence can name it: `.` and `..` look like its end."""
    ends_in_dots = posixpath.basename(folder.rstrip("/")) in (".", "..")
    return _absolute(folder) if ends_in_dots else folder


def folder_of(source: Any) -> str:
    """Returns the folder that a path, an artifact, or a channel or list of one, stands for.

    Raises:
      SettingsError: it stands for none, or for several.
    """
    artifacts = source.get() if hasattr(source, "type_name") and hasattr(source, "get") else source
    if isinstance(artifacts, (list, tuple)):
        if len(artifacts) != 1:
            raise SettingsError(
                f"Results are read from one artifact, but there are {len(artifacts)}. Give one of "
                f"them."
                if artifacts
                else "There is no artifact to read results from. Run what makes it first."
            )
        return folder_of(artifacts[0])
    if not isinstance(artifacts, (str, os.PathLike)):
        uri = getattr(artifacts, "uri", None)
        if not isinstance(uri, str):
            raise SettingsError(
                f"Results are read from a folder or an artifact, not from {artifacts!r} of type "
                f"{type(artifacts).__name__}."
            )
        artifacts = uri
    folder = _files.as_path("The folder of results", artifacts)
    if not folder:
        raise SettingsError("The folder of results is empty text. Use '.' for this one.")
    return folder


def summaries_beside(folder: str) -> list[str]:
    """Returns the folders beside an output in which there is a summary of its run, at most two."""
    return [own for own in _places_beside(folder) if _has_summary(own)]


def branch_of(folder: str, branches: Iterable[str]) -> str | None:
    """Returns the model whose PredictionLogs are in a folder, by the folder's name."""
    branches = list(branches)
    if len(branches) == 1:
        return branches[0]
    names = _absolute(folder).split("/")[-2:]
    return next((name for name in reversed(names) if name in branches), None)


def _find_summary(folder: str) -> str | None:
    for place in (folder, posixpath.join(folder, _SUMMARY)):
        if _has_summary(place):
            return place
    if beside := summaries_beside(folder):
        return beside[0]
    within = _files.literal(posixpath.join(folder, _SUMMARY)) + f"/*/{SUMMARY_FILE}"
    if executions := [posixpath.dirname(path) for path in _files.matching(within)]:
        raise InputError(
            f"{shown(folder)} holds the results of {len(executions)} executions. Name one, such as "
            f"{executions[-1]}."
        )
    return None


def _unfinished(folder: str) -> str | None:
    """Returns the folder for the summary of a run that has not ended, if a folder is of one."""
    places = (folder, posixpath.join(folder, _SUMMARY), *_places_beside(folder))
    return next(
        (
            own
            for own in places
            if _files.files_below(posixpath.join(own, WORK_FOLDER)) and not _has_summary(own)
        ),
        None,
    )


def _run_of(summary: str) -> tuple[str, str]:
    """Returns the folder above the outputs, and the name of the execution within each, if any."""
    above, name = posixpath.split(_absolute(summary))
    if name != _SUMMARY and posixpath.basename(above) == _SUMMARY:
        return posixpath.dirname(above), name
    return (posixpath.dirname(summary.rstrip("/")) or ".", "")


def _places_beside(folder: str) -> list[str]:
    # `results/summary` beside `results/inference_result`, and in TFX `summary/7` beside
    # `inference_result/7`.
    parent, name = posixpath.split(_absolute(folder))
    return [
        posixpath.join(parent, _SUMMARY),
        posixpath.join(posixpath.dirname(parent), _SUMMARY, name),
    ]


def _absolute(folder: str) -> str:
    return os.path.abspath(folder) if _files.is_local(folder) else folder.rstrip("/")


def _has_summary(folder: str) -> bool:
    return _files.exists(posixpath.join(folder, SUMMARY_FILE))
