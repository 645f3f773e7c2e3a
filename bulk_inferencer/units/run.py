"""The road of a record: one unit is read, scored, encoded, written and counted here.

    files -> chunks -> batches -> Scored | Failed -> shards -> Manifest
             read      batching   scorer             encoders

Nothing in this module knows a Beam pipeline: `run_unit` is called by one worker thread and works
just as well in a plain loop.
"""

from __future__ import annotations

import json
import logging
import posixpath
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType

import google_crc32c

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
from bulk_inferencer.units.manifest import Failure, Manifest, Shard
from bulk_inferencer.units.plan import InputFile, Unit
from bulk_inferencer.work import Work

_logger = logging.getLogger(__name__)

WORK_FOLDER = ".work"

# Compressions of inference_result. Examples are always gzip: TFX reads them as nothing else.
GZIP = "GZIP"
NONE = "NONE"
_COMPRESSIONS = (GZIP, NONE)
_KEPT_FAILURES = 5


@dataclass(frozen=True)
class Outputs:
    """Where results go, and which.

    Attributes:
      inference_result: folder of the PredictionLogs.
      summary: folder of the summary and of the lists of failures.
      failed_examples: folder of the records that could not be scored, by split.
      output_examples: folder of the records with predictions as features, by split; optional.
      columns: the outputs that become features of the output examples.
      replace_features: whether a column may take the place of an input feature.
      compression: of the PredictionLogs: `GZIP` or `NONE`.

    Raises:
      SettingsError: there is no such compression.
    """

    inference_result: str
    summary: str
    failed_examples: str
    output_examples: str | None = None
    columns: tuple[Column, ...] = ()
    replace_features: bool = False
    compression: str = GZIP

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
    def folders(self) -> tuple[str, ...]:
        """All folders that are written to."""
        folders = (self.inference_result, self.summary, self.failed_examples)
        return (*folders, self.output_examples) if self.output_examples else folders


def run_unit(
    unit: Unit,
    scorer: Scorer,
    bounds: BatchBounds,
    outputs: Outputs,
    work: Work | None = None,
) -> Manifest:
    """Scores every record of the unit's files and writes its shards.

    The shards appear under their final names, each by one rename, when the unit is whole. They
    have the same content each time, so that a second attempt replaces the first.

    Args:
      unit: what to score.
      scorer: calls the model.
      bounds: bounds of a batch.
      outputs: where results go. The folders exist, each with a `WORK_FOLDER`.
      work: counts what scoring takes, for the manifest; default: a new count.

    Raises:
      InputError: a file cannot be read.
      ModelError: the model fails whatever the records are.
      SettingsError: a column would overwrite an input feature.
    """
    started = time.monotonic()
    work = work or Work()
    encoder = PredictionLogEncoder(scorer.predictor.signatures, scorer.predictor.input_name)
    read = predicted = failed = 0
    first_failures: list[Failure] = []
    with _UnitShards(unit, outputs) as shards:
        for batch in read_batches(unit.files, bounds):
            read += len(batch.records)
            logs: list[bytes] = []
            examples: list[bytes] = []
            failures: list[Failure] = []
            failed_records: list[bytes] = []
            for result in scorer.score(batch.records, work):
                if isinstance(result, Failed):
                    failures.append(Failure(*batch.locate(result.index), result.reason))
                    failed_records.append(batch.records[result.index])
                    continue
                records = batch.records[result.start : result.stop]
                logs += encoder.encode(records, result.outputs)
                if shards.output_examples:
                    examples += append_columns(
                        records,
                        result.outputs,
                        outputs.columns,
                        outputs.replace_features,
                    )
            shards.inference_result.write_records(logs)
            if shards.output_examples:
                shards.output_examples.write_records(examples)
            shards.failed_examples.write_records(failed_records)
            shards.failures.write(b"".join(map(_json_line, failures)))
            predicted += len(logs)
            failed += len(failures)
            first_failures += failures[: _KEPT_FAILURES - len(first_failures)]
        written = shards.commit()
    return Manifest(
        split=unit.split,
        index=unit.index,
        of=unit.of,
        files=tuple(file.path for file in unit.files),
        examples_read=read,
        predictions_written=predicted,
        examples_failed=failed,
        shards=written,
        failures=shards.failures.path,
        first_failures=tuple(first_failures),
        seconds=time.monotonic() - started,
        work=work,
        model_versions=tuple(sorted(scorer.predictor.versions)),
    )


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
    return json.dumps(asdict(failure)).encode() + b"\n"


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
        self.inference_result = _ShardWriter(
            outputs.inference_result,
            shard(f"prediction_logs-{unit.split}", suffix),
            outputs.compression,
        )
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
    def _writers(self) -> list[_ShardWriter]:
        writers = [self.inference_result, self.failed_examples, self.failures]
        return [*writers, self.output_examples] if self.output_examples else writers

    def commit(self) -> tuple[Shard, ...]:
        for writer in self._writers:
            writer.close()
        return tuple(writer.commit() for writer in self._writers)

    def __enter__(self) -> _UnitShards:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            for writer in self._writers:
                writer.discard()
