"""Reads predictions back as arrays."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from bulk_inferencer import _files, _layout
from bulk_inferencer._access import check_access
from bulk_inferencer._formats import tfrecord
from bulk_inferencer._signatures import CLASSES_OUTPUT, REGRESS_OUTPUT, SCORES_OUTPUT
from bulk_inferencer.errors import InputError
from bulk_inferencer.results.summary import Counts, Summary

_PARTIAL = (
    "The results are not complete: files were lost, or the run did not end. Run again, or set "
    "allow_partial to read what is there."
)


class RecordPrediction(NamedTuple):
    """A record and its outputs.

    ```python
    for prediction in read_predictions("results/inference_result"):
        prediction.outputs["y"]
    ```

    Attributes:
      record: the serialized record.
      outputs: arrays by output name, without a batch dimension; strings as object arrays of
        `bytes`. Outputs of a multi-inference log are named `<signature>/<output>`.
    """

    record: bytes
    outputs: dict[str, np.ndarray]


def read_prediction_logs(
    uri: str | os.PathLike[str],
    split: str | None = None,
    *,
    summary: str | os.PathLike[str] | None = None,
    allow_partial: bool = False,
) -> Iterator[Any]:
    """Yields the PredictionLog protos of an `inference_result` folder, shard by shard.

    Args:
      uri: the folder.
      split: the split to read; default: all splits.
      summary: the folder of the run's `summary.json`, to check the predictions against; default:
        the one beside, if there is one.
      allow_partial: whether to read what is there, although shards may be missing.

    Raises:
      InputError: the folder has no shard of the split, shards are missing or do not add up to what
        the summary says, or a shard cannot be read.
    """
    folder = _files.as_path("The folder of predictions", uri)
    check_access([folder])
    shards = _shards(folder, split)
    if not allow_partial:
        _check_names(folder, shards)
        found = _summary_of(folder, summary)
        if found is not None:  # It is written last, when everything else is there.
            splits = found if split is None else {s: c for s, c in found.items() if s == split}
            check_complete(folder, splits)
        elif _files.files_below(posixpath.join(folder, _layout.WORK_FOLDER)):
            raise InputError(f"A run that writes to {folder} has not ended. {_PARTIAL}")
    if not shards:
        raise _nothing_found(folder, split)
    # Checked above at once, and not only when the first prediction is asked for.
    return _logs(list(shards))


def _nothing_found(folder: str, split: str | None) -> InputError:
    which = f" of split '{split}'" if split else ""
    below = posixpath.join(folder, _layout.INFERENCE_RESULT)
    if not _files.exists(folder):
        hint = "There is no such folder."
    elif split is None and _shards(below, None):
        hint = f"They are in {below}."
    else:
        hint = (
            "Check the folder and the split. A model that was not blessed leaves no predictions; "
            "its summary.json says so."
        )
    return InputError(f"There are no predictions{which} in {folder}. {hint}")


def read_predictions(
    uri: str | os.PathLike[str],
    split: str | None = None,
    *,
    summary: str | os.PathLike[str] | None = None,
    allow_partial: bool = False,
) -> Iterator[RecordPrediction]:
    """Yields the predictions of an `inference_result` folder; see `read_prediction_logs`."""
    logs = read_prediction_logs(uri, split, summary=summary, allow_partial=allow_partial)
    return map(prediction_of, logs)


def check_complete(folder: str, splits: Mapping[str, Counts]) -> None:
    """Checks that a folder holds as many shards and bytes of predictions as a summary says.

    Raises:
      InputError: it does not.
    """
    for split, counts in splits.items():
        shards = _shards(folder, split)
        found = (len(shards), sum(shards.values()))
        if found != (counts.shards, counts.bytes_written):
            raise InputError(
                f"The summary says that {folder} holds {counts.shards} shards of split '{split}' "
                f"with {counts.bytes_written} bytes, but there are {found[0]} with {found[1]} "
                f"bytes. {_PARTIAL}"
            )


def _shards(folder: str, split: str | None) -> dict[str, int]:
    """Returns the sizes of the files of predictions, by path."""
    pattern = _layout.prediction_logs_pattern(split)
    files = _files.matching(_files.literal(folder) + "/*")
    return {p: f.bytes for p, f in files.items() if pattern.fullmatch(posixpath.basename(p))}


def _check_names(folder: str, shards: Iterable[str]) -> None:
    """Checks that of `SSSSS-of-NNNNN`, each number is there."""
    pattern = _layout.prediction_logs_pattern(None)
    numbers: dict[str, dict[int, list[int]]] = {}
    for path in shards:
        match = pattern.fullmatch(posixpath.basename(path))
        assert match  # that is how they were found
        by_count = numbers.setdefault(match["split"], {})
        by_count.setdefault(int(match["count"]), []).append(int(match["index"]))
    for split, by_count in numbers.items():
        if len(by_count) > 1:
            counts = " and ".join(map(str, sorted(by_count)))
            raise InputError(
                f"The shards of split '{split}' in {folder} belong to several runs: their names "
                f"say that there are {counts} of them. Keep the files of one run."
            )
        ((count, found),) = by_count.items()
        if missing := sorted(set(range(count)) - set(found)):
            first = ", ".join(map(str, missing[:5]))
            raise InputError(
                f"{len(missing)} of {count} shards of split '{split}' are missing from {folder}, "
                f"such as {first}. {_PARTIAL}"
            )
        if len(found) > count:
            raise InputError(
                f"{folder} has {len(found)} files for {count} shards of split '{split}', some of "
                f"them twice, with and without .gz. Keep one of each."
            )


def _summary_of(folder: str, summary: str | os.PathLike[str] | None) -> Mapping[str, Counts] | None:
    """Returns the counts of the predictions in a folder by split, if a summary has them."""
    if summary is not None:
        places = [_files.as_path("summary", summary)]
    else:
        # `results/summary` beside `results/inference_result`, and in TFX `summary/7` beside
        # `inference_result/7`.
        parent, name = posixpath.split(folder.rstrip("/"))
        places = [posixpath.join(parent, "summary")]
        places.append(posixpath.join(posixpath.dirname(parent), "summary", name))
    for place in places:
        if _files.exists(posixpath.join(place, _layout.SUMMARY_FILE)):
            branches = Summary.read(place).branches
            branch = _branch_of(folder, branches)
            return branches[branch].splits if branch else {}
    if summary is not None:
        raise InputError(f"There is no {_layout.SUMMARY_FILE} in {places[0]}. Correct the folder.")
    return None


def _branch_of(folder: str, branches: Mapping[str, Any]) -> str | None:
    if len(branches) == 1:
        return next(iter(branches))
    names = folder.rstrip("/").split("/")[-2:]
    return next((name for name in reversed(names) if name in branches), None)


def _logs(shards: Iterable[str]) -> Iterator[Any]:
    from tensorflow_serving.apis import prediction_log_pb2

    for path in shards:
        for chunk in tfrecord.read_chunks(path, max_record_bytes=tfrecord.NO_LIMIT):
            for log in chunk:
                yield prediction_log_pb2.PredictionLog.FromString(log)


def prediction_of(log: Any) -> RecordPrediction:
    """Returns the record and the outputs of a PredictionLog proto."""
    import tensorflow as tf

    kind = log.WhichOneof("log_type")
    entry = getattr(log, kind)
    if kind == "predict_log":
        (record,) = next(iter(entry.request.inputs.values())).string_val
        arrays = {name: tf.make_ndarray(t) for name, t in entry.response.outputs.items()}
        return RecordPrediction(record, {n: a.reshape(a.shape[1:]) for n, a in arrays.items()})
    record = entry.request.input.example_list.examples[0].SerializeToString()
    if kind == "classify_log":
        return RecordPrediction(record, _classification(entry.response.result))
    if kind == "regress_log":
        return RecordPrediction(record, _regression(entry.response.result))
    outputs = {}
    for result in entry.response.results:
        if result.HasField("classification_result"):
            values = _classification(result.classification_result)
        else:
            values = _regression(result.regression_result)
        for name, value in values.items():
            outputs[f"{result.model_spec.signature_name}/{name}"] = value
    return RecordPrediction(record, outputs)


def _classification(result: Any) -> dict[str, np.ndarray]:
    classes = result.classifications[0].classes
    return {
        CLASSES_OUTPUT: np.array([c.label.encode() for c in classes], object),
        SCORES_OUTPUT: np.array([c.score for c in classes], np.float32),
    }


def _regression(result: Any) -> dict[str, np.ndarray]:
    return {REGRESS_OUTPUT: np.float32(result.regressions[0].value).reshape(())}
