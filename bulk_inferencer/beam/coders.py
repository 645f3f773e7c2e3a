"""How a batch travels between stages that do not run on the same worker."""

from __future__ import annotations

import struct

import numpy as np
from apache_beam import coders

from bulk_inferencer.models.batching import Batch, Segment


class BatchCoder(coders.Coder):
    """Encodes a `Batch` as counts, lengths and then all records in one piece.

        uint32 records | uint32 segments
        uint64 length, per record
        (uint64 first, uint64 count, uint32 path length, path), per segment
        records

    Numbers are little-endian. Decoding cuts the records out of one buffer.
    """

    _COUNTS = struct.Struct("<II")
    _SEGMENT = struct.Struct("<QQI")

    def encode(self, batch: Batch) -> bytes:
        """Returns the batch as bytes."""
        lengths = np.array([len(record) for record in batch.records], "<u8")
        parts = [
            self._COUNTS.pack(len(batch.records), len(batch.segments)),
            lengths.tobytes(),
        ]
        for segment in batch.segments:
            path = segment.path.encode()
            parts += [self._SEGMENT.pack(segment.first, segment.count, len(path)), path]
        return b"".join(parts + batch.records)

    def decode(self, encoded: bytes) -> Batch:
        """Returns the batch that `encode` was given."""
        record_count, segment_count = self._COUNTS.unpack_from(encoded)
        lengths = np.frombuffer(encoded, "<u8", record_count, self._COUNTS.size)
        position = self._COUNTS.size + lengths.nbytes
        segments = []
        for _ in range(segment_count):
            first, count, path_bytes = self._SEGMENT.unpack_from(encoded, position)
            position += self._SEGMENT.size
            path = encoded[position : position + path_bytes].decode()
            segments.append(Segment(path, first, count))
            position += path_bytes
        ends = (position + np.cumsum(lengths)).tolist()
        starts = [position, *ends[:-1]]
        records = [encoded[start:end] for start, end in zip(starts, ends, strict=False)]
        return Batch(records, tuple(segments))

    def is_deterministic(self) -> bool:
        """Equal batches have equal bytes."""
        return True

    def to_type_hint(self) -> type:
        """The type that this coder is for."""
        return Batch


coders.registry.register_coder(Batch, BatchCoder)
