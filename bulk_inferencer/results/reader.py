"""Reads predictions back as arrays."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from bulk_inferencer import _files, _layout
from bulk_inferencer._access import check_access
from bulk_inferencer._formats import tfrecord
from bulk_inferencer._signatures import CLASSES_OUTPUT, REGRESS_OUTPUT, SCORES_OUTPUT
from bulk_inferencer.errors import InputError
from bulk_inferencer.results.places import branch_of, nothing_found, summaries_beside
from bulk_inferencer.results.shards import (
    PARTIAL,
    Shard,
    check_counts,
    check_names,
    log_shards,
    table_shards,
)
from bulk_inferencer.results.summary import Counts, Summary


class RecordPrediction(NamedTuple):
    """A record and its outputs.

    ```python
    for prediction in read_predictions("results/inference_result"):
        prediction.outputs["y"]
    ```

    Attributes:
      record: the serialized record; None where the PredictionLogs were written without records.
      outputs: arrays by output name, without a batch dimension; strings as object arrays of
        `bytes`. Outputs of a multi-inference log are named `<signature>/<output>`.
    """

    record: bytes | None
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
    shards = log_shards(folder, split)
    if not allow_partial:
        check_names(folder, shards)
        found = _summary_of(folder, summary)
        if found is not None:  # It is written last, when everything else is there.
            splits = found if split is None else {s: c for s, c in found.items() if s == split}
            check_counts(folder, shards, splits)
        else:
            check_has_ended(folder)
    if not shards:
        raise nothing_found(folder, split)
    # Checked above at once, and not only when the first prediction is asked for.
    return parsed_logs(shards)


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
    check_counts(folder, log_shards(folder), splits)


def check_complete_table(
    folder: str, splits: Mapping[str, Counts], check_bytes: bool = True
) -> None:
    """Checks that a folder holds the files of a prediction table that a summary says.

    Args:
      folder: the folder of the table.
      splits: the counts of a model.
      check_bytes: whether the bytes that they count are those of the table, since the run has
        written no PredictionLogs.

    Raises:
      InputError: it does not.
    """
    shards = table_shards(folder)
    check_names(folder, shards)
    check_counts(folder, shards, splits, check_bytes)


def check_has_ended(folder: str) -> None:
    """Checks that no run has left its working files in a folder.

    Raises:
      InputError: one has.
    """
    if _files.files_below(posixpath.join(folder, _layout.WORK_FOLDER)):
        raise InputError(f"A run that writes to {folder} has not ended. {PARTIAL}")


def _summary_of(folder: str, summary: str | os.PathLike[str] | None) -> Mapping[str, Counts] | None:
    """Returns the counts of the predictions in a folder by split, if a summary has them."""
    if summary is None:
        place = next(iter(summaries_beside(folder)), None)
    else:
        place = _files.as_path("summary", summary)
        if not _files.exists(posixpath.join(place, _layout.SUMMARY_FILE)):
            raise InputError(f"There is no {_layout.SUMMARY_FILE} in {place}. Correct the folder.")
    if place is None:
        return None
    branches = Summary.read(place).branches
    branch = branch_of(folder, branches)
    return branches[branch].splits if branch else {}


def serialized_logs(shards: Iterable[Shard]) -> Iterator[list[bytes]]:
    """Yields the serialized PredictionLogs of shards in chunks, in order."""
    for shard in shards:
        yield from tfrecord.read_chunks(shard.path, max_record_bytes=tfrecord.NO_LIMIT)


def parsed_logs(shards: Iterable[Shard]) -> Iterator[Any]:
    """Yields the PredictionLog protos of shards, in order."""
    from tensorflow_serving.apis import prediction_log_pb2

    for chunk in serialized_logs(shards):
        yield from map(prediction_log_pb2.PredictionLog.FromString, chunk)


def record_of(log: Any) -> bytes | None:
    """Returns the serialized record that a PredictionLog proto holds, if it does."""
    kind = _kind_of(log)
    request = getattr(log, kind).request
    if kind == "predict_log":
        values = next((tensor.string_val for tensor in request.inputs.values()), ())
        return values[0] if values else None
    examples = request.input.example_list.examples
    return examples[0].SerializeToString() if examples else None


def prediction_of(log: Any) -> RecordPrediction:
    """Returns the record and the outputs of a PredictionLog proto."""
    kind = _kind_of(log)
    response = getattr(log, kind).response
    return RecordPrediction(record_of(log), _OUTPUTS_OF_KIND[kind](response))


def _kind_of(log: Any) -> str:
    kind = str(log.WhichOneof("log_type"))
    if kind not in _OUTPUTS_OF_KIND:
        raise InputError(
            f"A PredictionLog should hold one of {', '.join(_OUTPUTS_OF_KIND)}, but one holds "
            f"{kind}. Read it with read_prediction_logs."
        )
    return kind


def _predict_outputs(response: Any) -> dict[str, np.ndarray]:
    import tensorflow as tf

    arrays = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    return {name: array.reshape(array.shape[1:]) for name, array in arrays.items()}


def _multi_inference_outputs(response: Any) -> dict[str, np.ndarray]:
    outputs = {}
    for result in response.results:
        if result.HasField("classification_result"):
            values = _classification(result.classification_result)
        else:
            values = _regression(result.regression_result)
        for name, value in values.items():
            outputs[f"{result.model_spec.signature_name}/{name}"] = value
    return outputs


def _classification(result: Any) -> dict[str, np.ndarray]:
    classes = result.classifications[0].classes
    return {
        CLASSES_OUTPUT: np.array([c.label.encode() for c in classes], object),
        SCORES_OUTPUT: np.array([c.score for c in classes], np.float32),
    }


def _regression(result: Any) -> dict[str, np.ndarray]:
    return {REGRESS_OUTPUT: np.float32(result.regressions[0].value).reshape(())}


_OUTPUTS_OF_KIND: dict[str, Callable[[Any], dict[str, np.ndarray]]] = {
    "predict_log": _predict_outputs,
    "classify_log": lambda response: _classification(response.result),
    "regress_log": lambda response: _regression(response.result),
    "multi_inference_log": _multi_inference_outputs,
}
