"""What the outputs of a model are like, found out before a run by calling it with few records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from bulk_inferencer import _signatures
from bulk_inferencer._formats.first_records import FirstRecords
from bulk_inferencer._formats.partial import rows_with
from bulk_inferencer._models.cascade import CascadeModel
from bulk_inferencer._models.hooks import HookedModel
from bulk_inferencer._models.predictor import Model
from bulk_inferencer._models.scorer import Failed, Scorer
from bulk_inferencer._signatures import OutputType, Signature, common_type
from bulk_inferencer.errors import ModelError

# How many records are tried; more only if none of the fewer ones can be scored.
_COUNTS = (16, 256)


def output_types(
    model: Model, signatures: Sequence[Signature], record_format: str, first: FirstRecords
) -> dict[str, OutputType]:
    """Returns what the rows of each output are like, by the names in `Prediction.outputs`.

    The model is loaded and called only if its signatures do not tell. Sizes that differ from call
    to call are None. Without any records, there are no types.

    Args:
      model: the model, as it is called in the run.
      signatures: what its `check` returned.
      record_format: one of `RECORD_FORMATS`.
      first: records to try. Those that fail are passed over.

    Raises:
      BulkInferencerError: see `Model.load`.
      ModelError: none of the records can be scored.
    """
    known = _signatures.output_types(signatures)
    if known and all(own.row_shape is not None for own in known.values()):
        return known
    found: dict[str, OutputType] = {}
    failures: list[str] = []
    for attempt in _to_try(model):
        predictions, tried, failed = _tried(attempt, record_format, first)
        found = _merged([found, types_of(predictions)])
        if failed and not predictions:
            failures.append(f"none of the first {tried:,} records. {failed.reason}")
    if not found and failures:
        raise ModelError(
            f"The columns of the table could not be found out, since {model.uri} scored "
            f"{failures[0].rstrip('.')}. Correct the model or the records, or leave out the table."
        )
    return _with_settled(model, found)


def _to_try(model: Model) -> list[Model]:
    """Returns what to call so that a record has every output."""
    # Exits may keep all of the first records from a stage that others will reach.
    whole = _without_exits(model)
    if whole is model or isinstance(model, CascadeModel):
        return [whole]
    return [model, whole]  # `postprocess` may need what a record has that was settled early


def _tried(
    model: Model, record_format: str, first: FirstRecords
) -> tuple[list[Mapping[str, np.ndarray]], int, Failed | None]:
    """Returns the outputs of each call, how many records were tried, and the first failure."""
    scorer = Scorer(model.load(record_format), first_records=1)  # so that calls differ in size
    predictions: list[Mapping[str, np.ndarray]] = []
    tried, failed = 0, None
    for count in _COUNTS:
        records = first.batch(count)
        if predictions or len(records) == tried:
            break
        tried = len(records)
        for result in scorer.score(records):
            if isinstance(result, Failed):
                failed = failed or result
            else:
                predictions.append(result.prediction.outputs)
    return predictions, tried, failed


def types_of(predictions: Sequence[Mapping[str, np.ndarray]]) -> dict[str, OutputType]:
    """Returns the types of outputs that a record has."""
    return _merged(
        {name: _type_of(values) for name, values in outputs.items() if rows_with(values).any()}
        for outputs in predictions
    )


def _merged(parts: Iterable[Mapping[str, OutputType]]) -> dict[str, OutputType]:
    types: dict[str, list[OutputType]] = {}
    for part in parts:
        for name, own in part.items():
            types.setdefault(name, []).append(own)
    merged = {name: common_type(_of_one_dtype(own)) for name, own in types.items()}
    return {name: own for name, own in merged.items() if own is not None}


def _type_of(values: np.ndarray) -> OutputType:
    dtype = "string" if values.dtype == object else values.dtype.name
    return OutputType(dtype, values.shape[1:])


def _of_one_dtype(types: Sequence[OutputType]) -> Iterator[OutputType]:
    """Yields types with a dtype that holds the values of all of them, or else the first one's."""
    dtype, others = types[0].dtype, {own.dtype for own in types[1:]} - {types[0].dtype}
    if others and "string" not in (dtype, *others):
        dtype = np.result_type(dtype, *others).name
    yield from (own._replace(dtype=dtype) for own in types)


def _without_exits(model: Model) -> Model:
    """Returns a model that runs all stages for each record; the same one if it does so already."""
    if isinstance(model, HookedModel):
        inner = _without_exits(model.model)
        return model if inner is model.model else replace(model, model=inner)
    if not isinstance(model, CascadeModel):
        return model
    stages = [
        replace(stage, model=_without_exits(stage.model), exit_when=()) for stage in model.stages
    ]
    return model if stages == list(model.stages) else CascadeModel(stages)


def _with_settled(model: Model, types: Mapping[str, OutputType]) -> dict[str, OutputType]:
    """Adds the outputs that a record has if an early stage of a cascade settles it."""
    while isinstance(model, HookedModel) and model.postprocess is None:
        model = model.model
    if not isinstance(model, CascadeModel):
        return dict(types)
    settled, by_stage = [], {}
    for stage in model.stages:
        start = f"{stage.name}/"
        own = {n.removeprefix(start): own for n, own in types.items() if n.startswith(start)}
        own = _with_settled(stage.model, own)
        by_stage.update({start + name: one for name, one in own.items()})
        if stage.exit_when or stage is model.stages[-1]:
            settled.append(own)
    return _merged([*settled, by_stage])
