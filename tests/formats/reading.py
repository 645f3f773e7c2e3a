"""What tests of readers share: files as a run lists them, and all that is read of them."""

from __future__ import annotations

import os

import pyarrow as pa

from bulk_inferencer._formats.columns import ColumnView, column_view
from bulk_inferencer._formats.input_format import InputFile

NO_LIMIT = 1 << 40
ALL = ColumnView()


def listed(path, content=None):
    """Returns a file as a run lists it; with content, it is written first."""
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return InputFile(str(path), os.path.getsize(path))


def reader_of(input_format, *files, columns=(), kept=None):
    return input_format.reader(files, column_view(columns), kept)


def chunks_of(reader, *files, max_bytes=1 << 20, max_record_bytes=NO_LIMIT):
    return [c for file in files for c in reader.read(file, max_bytes, max_record_bytes)]


def table_of(reader, *files, **bounds):
    """Returns all rows; checks that chunks have the promised columns, and numbers in order."""
    tables, numbers = [], {}
    for chunk in chunks_of(reader, *files, **bounds):
        assert chunk.records.source.schema == reader.schema
        assert chunk.records.columns.schema == reader.features
        assert chunk.before() + chunk.first == numbers.get(chunk.path, 0)
        numbers[chunk.path] = chunk.before() + chunk.first + len(chunk.records)
        tables.append(chunk.records.source)
    return pa.concat_tables(tables) if tables else reader.schema.empty_table()


def failures_of(reader, *files, **bounds):
    """Returns what is wrong with rows, by the numbers of the rows."""
    return {
        chunk.before() + chunk.first + index: reason.message
        for chunk in chunks_of(reader, *files, **bounds)
        for index, reason in chunk.unreadable.items()
    }
