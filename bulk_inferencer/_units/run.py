"""The road of a record: one unit is read, scored, encoded, written and counted here.

    files -> chunks -> batches -> Scored | Failed -> shards -> Manifest
             read      batching   scorer             encoders

With several models, each batch that was read goes to all of them, or its records are shared out:

                               -> scorer of five -> prediction logs of five
    files -> chunks -> batches                                               -> comparison
                               -> scorer of ten  -> prediction logs of ten

Nothing in this module knows a Beam pipeline: `run_unit` is called by one worker thread and works
just as well in a plain loop.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.example import Column, append_columns
from bulk_inferencer._formats.prediction_log import PredictionLogEncoder
from bulk_inferencer._models.batching import (
    Batch,
    BatchBounds,
    Chunk,
    Failed,
    Scorer,
    batches,
)
from bulk_inferencer._models.cascade import count_stages
from bulk_inferencer._models.names import in_words
from bulk_inferencer._models.routing import EVERY_RECORD_TO_EVERY_MODEL, SplitRouting
from bulk_inferencer._units.manifest import Failure, Manifest, Scores, Shard
from bulk_inferencer._units.outputs import VARIANT, Outputs
from bulk_inferencer._units.plan import InputFile, Unit
from bulk_inferencer._units.shards import UnitShards
from bulk_inferencer._work import Work
from bulk_inferencer.errors import located
from bulk_inferencer.results.compare import Comparing, Comparison, compare_batch

_KEPT_FAILURES = 5


def run_unit(
    unit: Unit,
    scorers: Mapping[str, Scorer],
    bounds: BatchBounds,
    outputs: Outputs,
    routing: SplitRouting | None = None,
    outcome_rows: Mapping[bytes, int] | None = None,
    new_work: Callable[[], Work] = Work,
) -> Manifest:
    """Scores every record of the unit's files and writes its shards.

    The shards appear under their final names, each by one rename, when the unit is whole. They
    have the same content each time, so that a second attempt replaces the first.

    Args:
      unit: what to score.
      scorers: what calls the model, by its name as in `Outputs.results`.
      bounds: bounds of a batch that is read.
      outputs: where results go. The folders exist, each with a `WORK_FOLDER`.
      routing: which model a record goes to; default: to each of them.
      outcome_rows: with routing, rows of the table of outcomes by key.
      new_work: makes the count of what scoring takes, for each model.

    Raises:
      InputError: a file cannot be read.
      ModelError: the model fails whatever the records are.
      SettingsError: a column would overwrite an input feature.
    """
    started = time.monotonic()
    read = unrouted = 0
    matched: set[int] = set()
    first_failures: list[Failure] = []
    comparison = Comparison()
    models = [_Model(name, scorer, new_work()) for name, scorer in scorers.items()]
    examples_of = _OutputExamples(outputs, routing)
    with UnitShards(unit, outputs) as shards:
        for batch in read_batches(unit.files, bounds):
            read += len(batch.records)
            routes = routing.route(batch.records) if routing else EVERY_RECORD_TO_EVERY_MODEL
            unrouted += len(routes.failed)
            failures = [Failure(*batch.locate(f.index), f.reason) for f in routes.failed]
            failed_rows = {failure.index for failure in routes.failed}
            scored = {}
            for model in models:
                with located(in_words(model.name)):
                    logs, scored[model.name], failed = model.score(
                        batch, routes.rows.get(model.name)
                    )
                shards.inference_result[model.name].write_records(logs)
                failures += [Failure(*batch.locate(f.index), f.reason, model.name) for f in failed]
                failed_rows |= {failure.index for failure in failed}
            if shards.output_examples:
                shards.output_examples.write_records(examples_of(batch.records, scored))
            if outputs.comparison and not routing and len(models) > 1:
                comparison = comparison.merge(_compare(batch, scored, outputs.comparing))
            if outcome_rows:
                matched |= _matched(outcome_rows, routes.keys, scored)
            shards.failed_examples.write_records([batch.records[i] for i in sorted(failed_rows)])
            shards.failures.write(b"".join(map(_json_line, failures)))
            _keep_first(failures, first_failures)
        predictions, others = shards.commit()
    return Manifest(
        split=unit.split,
        index=unit.index,
        of=unit.of,
        files=tuple(file.path for file in unit.files),
        examples_read=read,
        scores=tuple(model.scores(predictions[model.name]) for model in models),
        unrouted=unrouted,
        other_shards=others,
        failures=shards.failures.path,
        first_failures=tuple(first_failures),
        seconds=time.monotonic() - started,
        comparison=comparison,
        matched_outcomes=_bits(matched),
    )


class _Scored(NamedTuple):
    """Records of a batch that a model scored in one call.

    Attributes:
      rows: their indexes in the batch.
      records: themselves.
      outputs: arrays of a row per record.
      is_whole: whether all stages of a cascade ran, so that no output is left out.
    """

    rows: Sequence[int]
    records: list[bytes]
    outputs: dict[str, np.ndarray]
    is_whole: bool


class _Model:
    """One model's part in a unit."""

    def __init__(self, name: str, scorer: Scorer, work: Work) -> None:
        predictor = scorer.predictor
        self.name = name
        self._scorer = scorer
        self._work = work
        self._encoder = PredictionLogEncoder(predictor.signatures, predictor.input_name)
        self._read = self._predicted = self._failed = 0
        self._stages = dict.fromkeys(predictor.stages, 0)

    def score(
        self, batch: Batch, rows: Sequence[int] | None
    ) -> tuple[list[bytes], list[_Scored], list[Failed]]:
        """Returns PredictionLogs, what they were made of, and failures by row of the batch.

        Args:
          batch: the records.
          rows: those of them that go to this model; default: all.
        """
        records = batch.records if rows is None else [batch.records[i] for i in rows]
        rows = range(len(records)) if rows is None else rows
        logs: list[bytes] = []
        scored: list[_Scored] = []
        failed: list[Failed] = []
        for result in self._scorer.score(records, self._work):
            if isinstance(result, Failed):
                failed.append(dataclasses.replace(result, index=rows[result.index]))
                continue
            of_result = slice(result.start, result.stop)
            logs += self._encoder.encode(records[of_result], result.outputs)
            ran = count_stages(self._scorer.predictor.stages, result.outputs)
            for stage, count in ran.items():
                self._stages[stage] += count
            is_whole = all(ran.values())
            scored.append(_Scored(rows[of_result], records[of_result], result.outputs, is_whole))
        self._read += len(records)
        self._predicted += len(logs)
        self._failed += len(failed)
        return logs, scored, failed

    def scores(self, shard: Shard) -> Scores:
        """Returns the account of this model, after its predictions were written."""
        return Scores(
            model=self.name,
            examples_read=self._read,
            predictions_written=self._predicted,
            examples_failed=self._failed,
            shard=shard,
            work=self._work,
            model_versions=tuple(sorted(self._scorer.predictor.versions)),
            stages=self._stages,
        )


def _keep_first(failures: Sequence[Failure], kept: list[Failure]) -> None:
    """Appends to `kept` what makes it the first few failures of each model."""
    for failure in failures:
        if sum(earlier.model == failure.model for earlier in kept) < _KEPT_FAILURES:
            kept.append(failure)


def _matched(
    outcome_rows: Mapping[bytes, int],
    keys: Sequence[bytes],
    scored: Mapping[str, Sequence[_Scored]],
) -> set[int]:
    """Returns the rows of the table of outcomes that have the key of a record that was scored."""
    rows = (row for pieces in scored.values() for piece in pieces for row in piece.rows)
    matched = (outcome_rows.get(keys[row]) for row in rows)
    return {row for row in matched if row is not None}


def _bits(rows: set[int]) -> int:
    """Returns a number in which bit i is set for each i in `rows`."""
    bits = bytearray(max(rows, default=0) // 8 + 1)
    for row in rows:
        bits[row // 8] |= 1 << row % 8
    return int.from_bytes(bits, "little")


def _compare(
    batch: Batch, scored: Mapping[str, Sequence[_Scored]], comparing: Comparing
) -> Comparison:
    """Compares the records that each model scored in one call, call by call.

    An output may have another shape or dtype in the next one.
    """
    comparison = Comparison()
    pieces = [piece for of_model in scored.values() for piece in of_model]
    edges = {0, len(batch.records)}
    edges |= {edge for piece in pieces for edge in (piece.rows[0], piece.rows[-1] + 1)}
    for start, stop in itertools.pairwise(sorted(edges)):
        outputs = {}
        for model, of_model in scored.items():
            for piece in of_model:  # none of which has the rows if they could not be scored
                first = piece.rows[0]
                if first <= start <= piece.rows[-1]:
                    rows = slice(start - first, stop - first)
                    outputs[model] = {n: values[rows] for n, values in piece.outputs.items()}
        locate = functools.partial(_locate, batch, start)
        part = compare_batch(batch.records[start:stop], outputs, locate, comparing)
        comparison = comparison.merge(part)
    return comparison


def _locate(batch: Batch, start: int, index: int) -> tuple[str, int]:
    return batch.locate(start + index)


class _OutputExamples:
    """Makes output examples of a batch: records with the columns of whatever scored them."""

    def __init__(self, outputs: Outputs, routing: SplitRouting | None) -> None:
        self._columns = outputs.columns
        self._replace = outputs.replace_features
        self._is_split = routing is not None

    def __call__(
        self, records: Sequence[bytes], scored: Mapping[str, Sequence[_Scored]]
    ) -> list[bytes]:
        """Returns the examples in the order of the records, but for those that failed."""
        all_records = dict(enumerate(records))
        if self._is_split:
            examples: dict[int, bytes] = {}
            for model, pieces in scored.items():
                of_model = self._with_columns(all_records, pieces, "")
                examples.update(self._with_variant(of_model, model))
        else:
            examples = all_records  # and then those of them that each model scored
            for model, pieces in scored.items():
                examples = self._with_columns(examples, pieces, f"{model}/" if model else "")
        return [examples[row] for row in sorted(examples)]

    def _with_columns(
        self, examples: Mapping[int, bytes], pieces: Sequence[_Scored], prefix: str
    ) -> dict[int, bytes]:
        """Returns those of the examples, by row, that one model scored, with its columns."""
        longer: dict[int, bytes] = {}
        for piece in pieces:
            kept = [i for i, row in enumerate(piece.rows) if row in examples]
            if not kept:
                continue
            rows = [piece.rows[i] for i in kept]
            outputs = piece.outputs
            if len(kept) < len(piece.rows):
                outputs = {name: values[kept] for name, values in outputs.items()}
            columns = [
                Column(column.output, prefix + column.name)
                for column in self._columns
                if piece.is_whole or column.output in piece.outputs
            ]
            records = append_columns(
                [examples[row] for row in rows],
                outputs,
                columns,
                self._replace,
            )
            longer.update(zip(rows, records, strict=True))
        return longer

    def _with_variant(self, examples: Mapping[int, bytes], model: str) -> dict[int, bytes]:
        """Returns examples, by row, with the name of the model that they went to."""
        if not examples:
            return {}
        names = {VARIANT: np.full(len(examples), model.encode(), object)}
        columns = (Column(VARIANT, VARIANT),)
        records = append_columns(list(examples.values()), names, columns, self._replace)
        return dict(zip(examples, records, strict=True))


def read_batches(inputs: Sequence[InputFile], bounds: BatchBounds) -> Iterator[Batch]:
    """Yields the records of `inputs` as batches, in order."""
    return batches(_chunks(inputs, bounds), bounds)


def _chunks(inputs: Sequence[InputFile], bounds: BatchBounds) -> Iterator[Chunk]:
    for file in inputs:
        first = 0
        for records in tfrecord.read_chunks(file.path, bounds.max_bytes):
            yield Chunk(file.path, first, records)
            first += len(records)


def _json_line(failure: Failure) -> bytes:
    values = asdict(failure)
    if not failure.model:
        del values["model"]
    return json.dumps(values).encode() + b"\n"
