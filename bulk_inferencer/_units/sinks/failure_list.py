"""The list of failures: file, record number and reason of each."""

from __future__ import annotations

import json
import posixpath
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bulk_inferencer import _files, _layout
from bulk_inferencer._units.manifest import Account, Manifest, Shard
from bulk_inferencer._units.plan import Unit
from bulk_inferencer._units.sinks.sink import OpenSink, ScoredBatch, Sink
from bulk_inferencer._units.unit_files import ShardWriter, UnitFiles
from bulk_inferencer.results import codec

_MOST_NOTED = 5  # for each model, for messages
_BUFFER_BYTES = 8 << 20


@dataclass(frozen=True)
class Failure:
    """A record that could not be scored.

    Attributes:
      file: its input file.
      record: its number within the file, from 0.
      reason: why, in a line.
      branch: the model that it failed in; None where it reached none.
    """

    file: str
    record: int
    reason: str
    branch: str | None = None


# Of each split and model. Those that reached no model have None.
FirstFailures: TypeAlias = Mapping[tuple[str, str | None], tuple[Failure, ...]]


@dataclass(frozen=True)
class FailureList(Sink):
    """Writes each failure as a line of JSON, into one file per split.

    With `names_models`, a line says which model failed.
    """

    folder: str
    names_models: bool
    name = "failures"

    def open(self, unit: Unit, files: UnitFiles) -> _OpenFailureList:
        writer = files.open(self.folder, _layout.unit_failures(unit.split, unit.shard_name))
        return _OpenFailureList(writer, self.names_models)

    def merged(self, notes: FirstFailures | None, manifests: Sequence[Manifest]) -> FirstFailures:
        first = dict(notes or {})
        for own in manifests:
            for failure in first_failures(own):
                place = own.split, failure.branch
                first[place] = (*first.get(place, ()), failure)[:_MOST_NOTED]
        return first

    def finish(self, splits: Sequence[str], manifests: Sequence[Manifest], notes: Any) -> None:
        """Joins the files of each split's units: gzip members may follow one another."""
        for split in splits:
            path = posixpath.join(self.folder, _layout.failures(split))
            parts = [p for m in manifests if m.split == split for p in m.sinks[self.name].shards]
            # Without failures, an empty one, so that the file is gzip.
            parts = [part for part in parts if part.records] or parts[:1]
            with _files.open_to_write(path) as whole:
                for some in _side_by_side(parts):
                    if len(some) == 1:  # It may be larger than memory.
                        with _files.open_to_read(some[0].path) as file:
                            shutil.copyfileobj(file, whole, _BUFFER_BYTES)
                    else:
                        whole.write(b"".join(_files.in_parallel(_content, some)))


def first_failures(manifest: Manifest) -> tuple[Failure, ...]:
    """Returns the first failures of each model in a unit, and of records that reached none."""
    return codec.from_json(tuple[Failure, ...], manifest.sinks[FailureList.name].notes)


def _side_by_side(parts: Sequence[Shard]) -> Iterator[Sequence[Shard]]:
    """Yields consecutive files that are small together, or one that is not."""
    some: list[Shard] = []
    size = 0
    for part in parts:
        size += part.bytes
        if some and size > _BUFFER_BYTES:
            yield some
            some, size = [], part.bytes
        some.append(part)
    if some:
        yield some


def _content(part: Shard) -> bytes:
    with _files.open_to_read(part.path) as file:
        return file.read()


class _OpenFailureList(OpenSink):
    def __init__(self, writer: ShardWriter, names_models: bool) -> None:
        self._writer = writer
        self._names_models = names_models
        self._first: list[Failure] = []
        self._counts: Counter[str | None] = Counter()

    def write(self, scored: ScoredBatch) -> None:
        lines = []
        for failed, branch in scored.failures():
            failure = Failure(*scored.batch.locate(failed.index), failed.reason, branch)
            lines.append(self._line(failure))
            self._counts[branch] += 1
            if self._counts[branch] <= _MOST_NOTED:
                self._first.append(failure)
        self._writer.write_lines(lines)

    def close(self) -> Account:
        return Account((self._writer.close(),), codec.to_json(self._first))

    def _line(self, failure: Failure) -> bytes:
        values = {"file": failure.file, "record": failure.record, "reason": failure.reason}
        if self._names_models and failure.branch is not None:
            values["model"] = failure.branch
        return json.dumps(values).encode()
