from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bulk_inferencer._formats.example import Kind
from bulk_inferencer._formats.first_records import FirstRecords, of_batch, of_files
from bulk_inferencer._formats.input_format import InputFile
from bulk_inferencer._formats.tfrecord_reader import TFRecord
from tests.helpers import example, features_of, sequence_example, write_tfrecord

BAD = [b"no example", b"\xff" * 300, b"\0\0"]


def files(*paths):
    return [InputFile(path, Path(path).stat().st_size) for path in paths]


def of(*records):
    return FirstRecords(lambda: ([record] for record in records))


def test_features_are_those_of_examples_and_of_contexts_with_their_kinds():
    first = of(*BAD, sequence_example(x=[1.0, 2.0]), example(n=7, words=["a", "b"], nothing=[]))
    assert first.having(["x", "words", "steps"]) == {"x", "words"}
    kinds = {"x": Kind("float32", 2), "n": Kind("int64", 1), "words": Kind("string", 2)}
    assert first.seen == {**kinds, "nothing": Kind("float32", 0)}
    assert first.count == 5


def test_no_more_is_read_than_is_needed():
    first = of(example(a=1), example(b=1), example(c=1))
    assert first.having([]) == set()
    assert first.count == 0
    for wanted, count in (("a", 1), ("b", 2), ("a", 2), ("no such feature", 3)):
        first.having([wanted])
        assert first.count == count


def test_features_that_will_be_added_are_known_without_reading():
    def append(**feature):
        return lambda records: [record + example(**feature) for record in records]

    first = of(example(x=1)).with_features(["y"], append(y=2)).with_features(["z"], append(z=3))
    assert first.having(["y", "z"]) == {"y", "z"}
    assert first.count == 0
    assert first.having(["x"]) == {"x"}
    whole = {"x": [1], "y": [2], "z": [3]}
    assert [features_of(record) for record in first.batch(9)] == [whole]
    assert first.mapped(lambda records: records).having(["y"]) == {"y"}


def test_what_was_read_is_not_read_again():
    begun = []

    def read():
        for i in range(3):
            begun.append(i)
            yield [example(x=i)]

    first = FirstRecords(read)
    for count in (1, 2, 1, 9, 9):
        assert [features_of(own)["x"] for own in first.batch(count)] == [[i] for i in range(count)][
            :3
        ]
    assert first.having(["y"]) == set()
    assert first.mapped(lambda records: records).having(["x"]) == {"x"}
    assert begun == [0, 1, 2]


def test_records_are_looked_at_as_a_function_returns_them_and_bad_ones_are_left_out(caplog):
    def rename(batch):
        (record,) = batch
        if record == b"bad":
            raise ValueError("it is bad")
        return [example(y=1), "no bytes"]

    first = of(b"bad", example(x=1))
    with caplog.at_level(logging.INFO, "bulk_inferencer"):
        assert first.mapped(rename).having(["x", "y"]) == {"y"}
    assert caplog.messages == ["A record was left out before the run: ValueError('it is bad')"]


def test_only_one_file_is_opened_if_its_first_record_has_what_is_wanted(tmp_path):
    opened = []

    class Noting(TFRecord):
        def read(self, file, *bounds):
            opened.append(file.path)
            yield from super().read(file, *bounds)

    paths = [write_tfrecord(tmp_path / f"{i:02d}", [example(x=1)] * 9) for i in range(20)]
    first = of_files(Noting(), files(*paths))
    assert first.having(["x"]) == {"x"}
    assert (first.count, opened) == (1, paths[:1])
    assert of_files(TFRecord(), []).having(["x"]) == set()


@pytest.mark.parametrize("bad", BAD)
def test_feature_is_found_behind_many_bad_records_and_damaged_files(tmp_path, bad):
    small = write_tfrecord(tmp_path / "small", [bad] * 200 + [example(x=1)] * 200)
    assert of_files(TFRecord(), files(small)).having(["x"]) == {"x"}
    large = write_tfrecord(tmp_path / "large", [bad + bytes(50_000)] * 200 + [example(x=1)], "")
    assert of_files(TFRecord(), files(large)).having(["x"]) == {"x"}
    (tmp_path / "damaged").write_bytes(b"no TFRecord")
    damaged, missing = str(tmp_path / "damaged"), InputFile(str(tmp_path / "missing"), 9)
    listed = [*files(*[damaged] * 50), *[missing] * 50, *files(small)]
    assert of_files(TFRecord(), listed).having(["x"]) == {"x"}


def test_search_for_a_feature_that_is_not_there_ends(tmp_path):
    path = write_tfrecord(tmp_path / "many", [example(x=[0.5] * 100)] * 150_000, "")
    first = of_files(TFRecord(), files(path))
    assert first.having(["y"]) == set()
    assert first.count == 1000
    batch = of_batch([b""] * 5000)
    batch.having(["y"])
    assert batch.count == 20
