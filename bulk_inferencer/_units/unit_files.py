"""The files that a unit writes. They wait under names of their own until the run commits."""

from __future__ import annotations

import contextlib
import logging
import posixpath
import uuid
from collections.abc import Sequence

import google_crc32c
import pyarrow as pa

from bulk_inferencer import _files
from bulk_inferencer._formats import tfrecord
from bulk_inferencer._formats.table_writer import table_writer
from bulk_inferencer._layout import GZIP, NONE, WORK_FOLDER
from bulk_inferencer._units.manifest import Shard
from bulk_inferencer.errors import OutputError

_logger = logging.getLogger(__name__)


class ShardWriter:
    """Writes one file, under a unique name; see `UnitFiles.open`."""

    def __init__(self, path: str, compression: str) -> None:
        self.path = path
        self._is_gzip = compression == GZIP
        self._file = _files.open_to_write(path)
        self._records = self._bytes = self._checksum = 0

    def write_records(self, records: Sequence[bytes]) -> None:
        """Appends records as TFRecords; in a compressed file, as one gzip member."""
        self._write(tfrecord.frame(records), len(records))

    def write_lines(self, lines: Sequence[bytes]) -> None:
        """Appends lines of text; in a compressed file, as one gzip member."""
        self._write(b"".join(line + b"\n" for line in lines), len(lines))

    def write_part(self, part: bytes, records: int) -> None:
        """Appends a part of a file whose format is up to the caller, and as many records to it."""
        if part:
            self._append(part)
        self._records += records

    def close(self) -> Shard:
        """Closes the file and describes it."""
        if self._is_gzip and not self._bytes:
            self._append(tfrecord.gzip_member(b""))  # A file without records is gzip as well.
        self._file.close()
        return Shard(self.path, self._records, self._bytes, self._checksum)

    def discard(self) -> None:
        """Deletes the file. Logs errors instead of raising: an earlier one says more."""
        try:
            with contextlib.suppress(OutputError):  # A full disk says so again.
                self._file.close()
            _files.delete(self.path)
        except Exception:
            _logger.exception("Could not delete %s. The end of the run will.", self.path)

    def _write(self, data: bytes, records: int) -> None:
        if data:
            self._append(tfrecord.gzip_member(data) if self._is_gzip else data)
            self._records += records

    def _append(self, stored: bytes) -> None:
        self._file.write(stored)
        self._bytes += len(stored)
        self._checksum = google_crc32c.extend(self._checksum, stored)


class TableShard:
    """Writes one file of a table; see `UnitFiles.open_table`."""

    def __init__(self, file: ShardWriter, table_format: str, schema: pa.Schema) -> None:
        self._file = file
        self._table = table_writer(table_format, schema)

    def write(self, table: pa.Table) -> None:
        """Appends rows."""
        self._file.write_part(self._table.add(table), table.num_rows)

    def close(self) -> Shard:
        """Closes the file and describes it."""
        self._file.write_part(self._table.end(), 0)
        return self._file.close()


class UnitFiles:
    """The files of one unit. An error within `with` deletes them.

    They wait in `folder`, or by default in the `.work` of their outputs.

    ```python
    with UnitFiles() as files:
        writer = files.open("results/failed_examples", "Split-eval/failed_examples-00000-of-00001")
        ...
        shard = writer.close()
    ```
    """

    def __init__(self, folder: str = "") -> None:
        self._folder = folder
        self._writers: list[ShardWriter] = []

    def open(self, folder: str, name: str, compression: str = GZIP) -> ShardWriter:
        """Opens a file; `name` is its final path within the folder of an output."""
        waits_in = self._folder or posixpath.join(folder, WORK_FOLDER)
        attempt = f"{uuid.uuid4().hex}-{posixpath.basename(name)}"
        writer = ShardWriter(posixpath.join(waits_in, attempt), compression)
        self._writers.append(writer)
        return writer

    def open_table(
        self, folder: str, name: str, table_format: str, schema: pa.Schema
    ) -> TableShard:
        """Opens a file for the rows of a table; see `open`."""
        return TableShard(self.open(folder, name, NONE), table_format, schema)

    def __enter__(self) -> UnitFiles:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            for writer in self._writers:
                writer.discard()
