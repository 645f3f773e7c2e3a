"""The stages of a cascade, one after the other, on a batch of records."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from bulk_inferencer._formats.example import append_columns
from bulk_inferencer._formats.partial import rows_with, spread
from bulk_inferencer._formats.rows import as_list, joined, taken
from bulk_inferencer._models.predictor import (
    OutOfMemory,
    Prediction,
    Predictor,
    RecordError,
    reason_of,
)
from bulk_inferencer._models.scorer import Scored, Scorer
from bulk_inferencer._signatures import Signature
from bulk_inferencer.errors import BulkInferencerError, ModelError, prefix_errors

if TYPE_CHECKING:
    from bulk_inferencer._models.cascade import Stage


class CascadePredictor:
    """Calls one stage after the other; see `Predictor`."""

    def __init__(
        self, stages: Sequence[Stage], predictors: Sequence[Predictor], signature: Signature
    ) -> None:
        self.signatures = (signature,)
        self._stages = tuple(zip(stages, predictors, strict=True))

    @property
    def input_name(self) -> str:
        return self._stages[0][1].input_name

    def predict(self, batch: Sequence[bytes]) -> Prediction:
        count = len(batch)
        records, rows = batch, np.arange(count)
        counts = {stage.name: 0 for stage, _ in self._stages}
        versions: set[str] = set()
        by_stage: dict[str, np.ndarray] = {}
        final: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        possible = dict.fromkeys(self.signatures[0].outputs)
        for stage, predictor in self._stages:
            with prefix_errors(stage.label):
                with _blaming_records(stage):
                    prediction = predictor.predict(records)
                outputs = _outputs_for(stage, prediction, len(rows))
                counts[stage.name] = len(rows)
                # Whether or not a stage of a cascade within this one ran.
                counts.update({f"{stage.name}/{n}": own for n, own in prediction.stages.items()})
                possible |= dict.fromkeys(f"{stage.name}/{name}" for name in sorted(outputs))
                if stage.exit_when or stage is self._stages[-1][0]:
                    possible |= dict.fromkeys(sorted(outputs))
                versions.update(f"{stage.name}/{version}" for version in prediction.versions)
                leaves = np.full(len(rows), stage is self._stages[-1][0])
                for exit_when in stage.exit_when:
                    leaves |= exit_when.settles(outputs)
                for name, values in outputs.items():
                    if len(rows) < count and not values.size:
                        continue  # an array without values cannot show which records have it
                    by_stage[f"{stage.name}/{name}"] = spread([(rows, values)], count)
                    if rows_with(values)[leaves].any():
                        final.setdefault(name, []).append((rows[leaves], values[leaves]))
                if leaves.all():
                    break
                stays = np.flatnonzero(~leaves)
                rows = rows[stays]
                records = taken(records, stays.tolist()) if len(stays) < len(leaves) else records
                records = _with_columns(
                    records, {name: values[stays] for name, values in outputs.items()}, stage
                )
        _check_alike(final)
        found = {name: spread(parts, count) for name, parts in final.items()} | by_stage
        # Outputs exist, too, that no record has: of stages that did not run, or settled none.
        # Sorted, since which stages settle records changes from batch to batch, and a second
        # attempt has to write the same as the first one.
        known = dict.fromkeys(possible, _absent(count))
        return Prediction({**known, **dict(sorted(found.items()))}, counts, frozenset(versions))


class Appending:
    """Appends the columns of a stage to records, without those that the stage cannot score."""

    def __init__(self, stage: Stage, record_format: str) -> None:
        self._stage = stage
        self._record_format = record_format

    @functools.cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self._stage.model.load(self._record_format))

    def __call__(self, records: Sequence[bytes]) -> Sequence[bytes]:
        appended = []
        with prefix_errors(self._stage.label):
            for result in self._scorer.score(records):
                if isinstance(result, Scored):
                    scored = records[result.start : result.stop]
                    outputs = result.prediction.outputs
                    appended.append(_with_columns(scored, outputs, self._stage))
        return joined(appended)


def _outputs_for(stage: Stage, prediction: Prediction, count: int) -> dict[str, np.ndarray]:
    """Returns outputs with those that a stage goes by, although none of the records has them."""
    outputs = dict(prediction.outputs)
    if not all(prediction.stages.values()):  # so that those of a stage within this one may lack
        used = [own.output for own in stage.exit_when] + [own.output for own in stage.columns]
        outputs = {**dict.fromkeys(used, _absent(count)), **outputs}
    return outputs


def _absent(count: int) -> np.ndarray:
    """Returns an output that none of the records has."""
    absent: np.ndarray = np.ma.masked_all(count, object)  # type: ignore[no-untyped-call]
    return absent


def _with_columns(
    records: Sequence[bytes], outputs: Mapping[str, np.ndarray], stage: Stage
) -> Sequence[bytes]:
    if not stage.columns:
        return records
    return append_columns(as_list(records), outputs, stage.columns, replace_features=True)


def _check_alike(final: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]) -> None:
    """Checks that an output does not change its dtype or shape with the stage it comes from."""
    for name, parts in final.items():
        kinds = sorted({(str(values.dtype), values.shape[1:]) for _, values in parts})
        if len(kinds) > 1:
            listed = " and ".join(f"{dtype} of shape {list(shape)}" for dtype, shape in kinds)
            raise ModelError(
                f"Output '{name}' differs between the stages that settle records: it is {listed}. "
                f"Rename or cast it in one of the serving signatures."
            )


@contextmanager
def _blaming_records(stage: Stage) -> Iterator[None]:
    """Names the stage in the errors that a model raises because of its batch."""
    try:
        yield
    except BulkInferencerError:
        raise
    except OutOfMemory as error:
        raise OutOfMemory(f"{stage.label}: {error}") from error
    except Exception as error:  # a model may run any code
        reason = reason_of(error)
        raise RecordError(reason.error_type, f"{stage.label}: {reason.message}") from error
