"""The files that a unit writes: all of them appear under their names, or none."""

from __future__ import annotations

import logging
import posixpath
import uuid
from collections.abc import Sequence
from types import TracebackType

import google_crc32c

from bulk_inferencer import _files
from bulk_inferencer._formats import tfrecord
from bulk_inferencer._units.manifest import Shard
from bulk_inferencer._units.outputs import GZIP, WORK_FOLDER, Outputs
from bulk_inferencer._units.plan import Unit

_logger = logging.getLogger(__name__)


class _ShardWriter:
    """Writes one file under a name of its own; `commit` gives it the final one."""

    def __init__(self, root: str, path: str, compression: str = GZIP) -> None:
        self.path = posixpath.join(root, path)
        self._is_gzip = compression == GZIP
        name = f"{uuid.uuid4().hex}-{posixpath.basename(path)}"
        self._attempt = posixpath.join(root, WORK_FOLDER, name)
        self._file = _files.open_to_write(self._attempt)
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
        _files.rename(self._attempt, self.path)
        return Shard(self.path, self._bytes, self._checksum)

    def discard(self) -> None:
        try:
            self._file.close()
            _files.delete(self._attempt)
        except Exception:  # the error that is on its way says more
            _logger.exception("Could not delete %s; the end of the run does.", self._attempt)


class UnitShards:
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

    def __enter__(self) -> UnitShards:
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
