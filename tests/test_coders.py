from __future__ import annotations

import apache_beam as beam
from apache_beam.coders import registry
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from bulk_inferencer.beam.coders import BatchCoder
from bulk_inferencer.models.batching import Batch, Segment

segments = st.builds(
    Segment, st.text(max_size=30), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)
)
batches = st.builds(
    Batch,
    st.lists(st.binary(max_size=300), max_size=20),
    st.lists(segments, max_size=4).map(tuple),
)


@given(batches)
def test_batch_survives_the_coder(batch):
    assert BatchCoder().decode(BatchCoder().encode(batch)) == batch


@given(batches)
def test_coder_adds_little_to_the_records(batch):
    places = sum(20 + len(segment.path.encode()) for segment in batch.segments)
    records = sum(8 + len(record) for record in batch.records)
    assert len(BatchCoder().encode(batch)) == 8 + places + records


def test_beam_finds_the_coder_by_the_type():
    coder = registry.get_coder(Batch)
    assert isinstance(coder, BatchCoder)
    assert coder.is_deterministic()
    assert coder.to_type_hint() is Batch


def test_batches_travel_between_stages():
    found = [
        Batch([b"", b"\0\0", b"x" * 70_000], (Segment("file ä", 2**40, 3),)),
        Batch([b"record"] * 1000, (Segment("a", 0, 999), Segment("b", 0, 1))),
        Batch([], ()),
    ]
    with beam.Pipeline(FnApiRunner()) as pipeline:
        travelled = (
            pipeline
            | beam.Create(range(len(found)))
            | beam.Map(found.__getitem__).with_output_types(Batch)
            | beam.Reshuffle()
        )
        assert travelled.element_type is Batch
        assert_that(travelled, equal_to(found))
