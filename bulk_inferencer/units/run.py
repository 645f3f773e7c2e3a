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
import json
import logging
import posixpath
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import NamedTuple

import google_crc32c
import numpy as np

from bulk_inferencer import files
from bulk_inferencer.errors import SettingsError
from bulk_inferencer.formats import tfrecord
from bulk_inferencer.formats.example import Column, append_columns
from bulk_inferencer.formats.prediction_log import PredictionLogEncoder
from bulk_inferencer.models.batching import (
    Batch,
    BatchBounds,
    Chunk,
    Failed,
    Scorer,
    batches,
)
from bulk_inferencer.models.cascade import count_stages
from bulk_inferencer.models.routing import SplitRouting
from bulk_inferencer.results.compare import Comparing, Comparison, compare_batch
from bulk_inferencer.units.manifest import Failure, Manifest, Scores, Shard
from bulk_inferencer.units.plan import InputFile, Unit
from bulk_inferencer.work import Work

_logger = logging.getLogger(__name__)

WORK_FOLDER = ".work"

# Compressions of inference_result. Examples are always gzip: TFX reads them as nothing else.
GZIP = "GZIP"
NONE = "NONE"
_COMPRESSIONS = (GZIP, NONE)
_KEPT_FAILURES = 5


# The feature of output examples that says which model a record went to.
VARIANT = "variant"


@dataclass(frozen=True)
class Outputs:
    """Where results go, and which.

    Attributes:
      inference_result: folder of the PredictionLogs; with several models, a folder for each name.
      summary: folder of the summary and of the lists of failures.
      failed_examples: folder of the records that could not be scored, by split.
      output_examples: folder of the records with predictions as features, by split; optional.
      columns: the outputs that become features of the output examples. Where every record goes to
        several models, they stand there for each of them as `<model>/<column>`, and where it goes
        to one, beside its name in the feature `variant`.
      replace_features: whether a column may take the place of an input feature.
      compression: of the PredictionLogs: `GZIP` or `NONE`.
      comparison: folder of what several models' outputs have in common; optional.
      comparing: what of that is kept.

    Raises:
      SettingsError: there is no such compression.
    """

    inference_result: str | Mapping[str, str]
    summary: str
    failed_examples: str
    output_examples: str | None = None
    columns: tuple[Column, ...] = ()
    replace_features: bool = False
    compression: str = GZIP
    comparison: str | None = None
    comparing: Comparing = field(default_factory=Comparing)

    def __post_init__(self) -> None:
        if self.compression not in _COMPRESSIONS:
            raise SettingsError(
                f"Expected one of {', '.join(_COMPRESSIONS)} as Outputs.compression, got "
                f"{self.compression!r}. Leave it out for {GZIP}."
            )

    @classmethod
    def under(cls, folder: str, compression: str = GZIP) -> Outputs:
        """Returns outputs in folders of their own names below `folder`, without examples."""
        return cls(
            compression=compression,
            inference_result=posixpath.join(folder, "inference_result"),
            summary=posixpath.join(folder, "summary"),
            failed_examples=posixpath.join(folder, "failed_examples"),
        )

    @property
    def results(self) -> Mapping[str, str]:
        """The folders of PredictionLogs by model; the name of the only one is empty."""
        if isinstance(self.inference_result, str):
            return {"": self.inference_result}
        return self.inference_result

    @property
    def folders(self) -> tuple[str, ...]:
        """All folders that are written to."""
        optional = (self.output_examples, self.comparison)
        always = (*self.results.values(), self.summary, self.failed_examples)
        return (*always, *(folder for folder in optional if folder))


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
    with _UnitShards(unit, outputs) as shards:
        for batch in read_batches(unit.files, bounds):
            read += len(batch.records)
            rows, failed = _route(routing, batch.records)
            unrouted += len(failed)
            failures = [Failure(*batch.locate(f.index), f.reason) for f in failed]
            failed_rows = {failure.index for failure in failed}
            scored = {}
            for model in models:
                logs, scored[model.name], failed = model.score(batch, rows.get(model.name))
                shards.inference_result[model.name].write_records(logs)
                failures += [Failure(*batch.locate(f.index), f.reason, model.name) for f in failed]
                failed_rows |= {failure.index for failure in failed}
            if shards.output_examples:
                shards.output_examples.write_records(examples_of(batch.records, scored))
            if outputs.comparison and not routing and len(models) > 1:
                comparison = comparison.merge(_compare(batch, scored, outputs.comparing))
            if routing and outcome_rows:
                matched |= _matched(routing, outcome_rows, scored)
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
    """Records of a batch that a model scored: their rows, themselves and their outputs."""

    rows: Sequence[int]
    records: list[bytes]
    outputs: dict[str, np.ndarray]


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
            scored.append(_Scored(rows[of_result], records[of_result], result.outputs))
            logs += self._encoder.encode(records[of_result], result.outputs)
            for stage, count in count_stages(tuple(self._stages), result.outputs).items():
                self._stages[stage] += count
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


def _route(
    routing: SplitRouting | None, records: Sequence[bytes]
) -> tuple[Mapping[str, Sequence[int]], list[Failed]]:
    """Returns the rows of each model, none where all records go to all, and what goes to none."""
    return routing.route(records) if routing else ({}, [])


def _keep_first(failures: Sequence[Failure], kept: list[Failure]) -> None:
    """Appends to `kept` what makes it the first few failures of each model."""
    for failure in failures:
        if sum(earlier.model == failure.model for earlier in kept) < _KEPT_FAILURES:
            kept.append(failure)


def _matched(
    routing: SplitRouting,
    outcome_rows: Mapping[bytes, int],
    scored: Mapping[str, Sequence[_Scored]],
) -> set[int]:
    """Returns the rows of the table of outcomes that have the key of a record that was scored."""
    records = (record for pieces in scored.values() for piece in pieces for record in piece.records)
    rows = (outcome_rows.get(routing.key_of(record)) for record in records)
    return {row for row in rows if row is not None}


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
    call_of = {model: np.full(len(batch.records), -1) for model in scored}
    for model, pieces in scored.items():
        for i, piece in enumerate(pieces):
            call_of[model][list(piece.rows)] = i
    calls = np.stack(list(call_of.values()), axis=1)
    cuts = np.flatnonzero((calls[1:] != calls[:-1]).any(axis=1)) + 1
    for rows in np.split(np.arange(len(calls)), cuts):
        outputs = {}
        for model, pieces in scored.items():
            if (i := call_of[model][rows[0]]) >= 0:  # else they could not be scored
                of_call = rows - pieces[i].rows[0]
                outputs[model] = {n: values[of_call] for n, values in pieces[i].outputs.items()}
        records = [batch.records[row] for row in rows]
        locate = functools.partial(_locate, batch, int(rows[0]))
        comparison = comparison.merge(compare_batch(records, outputs, locate, comparing))
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
        if len(scored) == 1 or self._is_split:
            examples: dict[int, bytes] = {}
            for model, pieces in scored.items():
                for piece in pieces:
                    examples.update(zip(piece.rows, self._of_one(model, piece), strict=True))
            return [examples[row] for row in sorted(examples)]
        return self._side_by_side(records, scored)

    def _of_one(self, model: str, piece: _Scored) -> list[bytes]:
        examples = append_columns(piece.records, piece.outputs, self._columns, self._replace)
        if not self._is_split:
            return examples
        variants = {VARIANT: np.full(len(examples), model.encode(), object)}
        return append_columns(examples, variants, (Column(VARIANT, VARIANT),), self._replace)

    def _side_by_side(
        self, records: Sequence[bytes], scored: Mapping[str, Sequence[_Scored]]
    ) -> list[bytes]:
        examples = dict(enumerate(records))
        for model, pieces in scored.items():
            columns = [Column(c.output, f"{model}/{c.name}") for c in self._columns]
            before, examples = examples, {}
            for piece in pieces:
                kept = [i for i, row in enumerate(piece.rows) if row in before]
                rows = [piece.rows[i] for i in kept]
                outputs = {name: values[kept] for name, values in piece.outputs.items()}
                longer = append_columns(
                    [before[row] for row in rows], outputs, columns, self._replace
                )
                examples.update(zip(rows, longer, strict=True))
        return [examples[row] for row in sorted(examples)]


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


class _ShardWriter:
    """Writes one file under a name of its own; `commit` gives it the final one."""

    def __init__(self, root: str, path: str, compression: str = GZIP) -> None:
        self.path = posixpath.join(root, path)
        self._is_gzip = compression == GZIP
        name = f"{uuid.uuid4().hex}-{posixpath.basename(path)}"
        self._attempt = posixpath.join(root, WORK_FOLDER, name)
        self._file = files.open_to_write(self._attempt)
        self._bytes = 0
        self._checksum = 0

    def write_records(self, records: Sequence[bytes]) -> None:
        self.write(tfrecord.frame(records))

    def write(self, data: bytes) -> None:
        """Appends `data`, unless there is none; as one gzip member where files are compressed."""
        if data:
            self._append(tfrecord.gzip_member(data) if self._is_gzip else data)

    def _append(self, stored: bytes) -> None:
        self._file.write(stored)
        self._bytes += len(stored)
        self._checksum = google_crc32c.extend(self._checksum, stored)

    def close(self) -> None:
        if self._is_gzip and not self._bytes:
            self._append(tfrecord.gzip_member(b""))  # A file without records is gzip as well.
        self._file.close()

    def commit(self) -> Shard:
        """Renames the closed file; call once."""
        files.rename(self._attempt, self.path)
        return Shard(self.path, self._bytes, self._checksum)

    def discard(self) -> None:
        try:
            self._file.close()
            files.delete(self._attempt)
        except Exception:  # the error that is on its way says more
            _logger.exception("Could not delete %s; the end of the run does.", self._attempt)


class _UnitShards:
    """The files of one unit: all of them are committed, or none."""

    def __init__(self, unit: Unit, outputs: Outputs) -> None:
        shard = unit.shard_name
        split_folder = f"Split-{unit.split}"
        suffix = ".gz" if outputs.compression == GZIP else ""
        self.inference_result = {
            model: _ShardWriter(
                folder, shard(f"prediction_logs-{unit.split}", suffix), outputs.compression
            )
            for model, folder in outputs.results.items()
        }
        self.failed_examples = _ShardWriter(
            outputs.failed_examples,
            posixpath.join(split_folder, shard("failed_examples", ".gz")),
        )
        self.failures = _ShardWriter(
            outputs.summary,
            posixpath.join(WORK_FOLDER, shard(f"failures-{unit.split}", ".jsonl.gz")),
        )
        self.output_examples = None
        if outputs.output_examples:
            self.output_examples = _ShardWriter(
                outputs.output_examples,
                posixpath.join(split_folder, shard("examples", ".gz")),
            )

    @property
    def _others(self) -> list[_ShardWriter]:
        writers = [self.failed_examples, self.failures]
        return [*writers, self.output_examples] if self.output_examples else writers

    def commit(self) -> tuple[dict[str, Shard], tuple[Shard, ...]]:
        """Returns the files of predictions by model, and the others."""
        for writer in (*self.inference_result.values(), *self._others):
            writer.close()
        predictions = {model: writer.commit() for model, writer in self.inference_result.items()}
        return predictions, tuple(writer.commit() for writer in self._others)

    def __enter__(self) -> _UnitShards:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            for writer in (*self.inference_result.values(), *self._others):
                writer.discard()
