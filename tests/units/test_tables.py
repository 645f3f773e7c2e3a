"""That tables have what the settings of a run ask for. What follows from it: see sinks/."""

from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from bulk_inferencer._formats.table_settings import TableSettings
from bulk_inferencer._signatures import OutputType
from bulk_inferencer._units.basis import digest_of
from bulk_inferencer._units.routing import SplitRouting
from bulk_inferencer._units.tables import table_sinks
from bulk_inferencer.errors import SettingsError
from tests.helpers import exactly

TYPES = {"a": {"y": OutputType("float32", ())}, "b": {"y": OutputType("float32", ())}}
KEPT = pa.schema([("id", pa.int64()), ("tags", pa.list_(pa.string()))])


def planned(settings=None, **others):
    settings = settings or TableSettings()
    folders = {"table": "t", "summary": "s"}
    return table_sinks(settings, **folders, **{"types": TYPES, "kept": KEPT, **others})


@pytest.mark.parametrize(
    ("others", "predictions", "failures"),
    [
        ({"names_models": True}, ["id", "a/y", "b/y"], ["model", "id"]),
        ({"types": {"a": TYPES["a"]}, "splits": ["x"]}, ["id", "y"], ["id"]),
        (
            {"types": {"a": TYPES["a"]}, "splits": ["x", "y"], "has_keys": True},
            ["split", "key", "id", "y"],
            ["id"],
        ),
        (
            {"routing": SplitRouting({"a": 1, "b": 1}, "id"), "names_models": True},
            ["key", "id", "variant", "y"],
            ["model", "id"],
        ),
        (
            {"routing": SplitRouting({"a": 1, "b": 1}), "names_models": True},
            ["id", "variant", "y"],
            ["model", "id"],
        ),
    ],
)
def test_columns_follow_from_the_run(others, predictions, failures):
    table, failure_table = planned(**others)
    split = ["split"] * ("split" in predictions)
    assert table.columns.schema.names == predictions
    assert failure_table.schema.names == [*split, "file", "record", "reason", *failures]
    routing = others.get("routing")
    assert table.keys_are_routed_by == bool(routing and routing.split_key)


def test_sinks_travel_to_workers_and_have_a_digest():
    sinks = planned(names_models=True)
    assert pickle.loads(pickle.dumps(sinks)) == sinks
    assert digest_of(sinks) == digest_of(planned(names_models=True))
    others = planned(TableSettings(keep=["tags"]), names_models=True)
    for one, other in zip(sinks, others, strict=True):
        assert digest_of(one) != digest_of(other)


def test_files_are_named_by_table_and_format():
    for table_format, ending in (("parquet", "parquet"), ("csv", "csv"), ("json_lines", "jsonl")):
        table, failures = planned(TableSettings(table_format), names_models=True)
        assert table.file_name("x", "00000-of-00001") == f"predictions-x-00000-of-00001.{ending}"
        assert failures.file_name("x", "00000-of-00001") == f"failures-x-00000-of-00001.{ending}"


def test_kept_feature_that_the_format_cannot_hold_is_named():
    kept = pa.schema([("p", pa.struct([("x", pa.int64())]))])
    message = (
        "Column 'p' holds struct<x: int64>, which cannot be written as csv. Name the features that "
        "the table keeps in TableSettings.keep, without 'p', or write the table as parquet."
    )
    with pytest.raises(SettingsError, match=exactly(message)):
        planned(TableSettings("csv", keep=["p"]), kept=kept, names_models=True)
