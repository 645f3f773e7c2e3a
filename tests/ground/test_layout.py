from __future__ import annotations

import pytest

from bulk_inferencer import _layout
from bulk_inferencer._layout import NONE, prediction_logs, prediction_logs_pattern, shard_name


def test_results_name_models_unless_there_is_a_lone_one_without_a_name():
    named = [_layout.names_models(names) for names in (["inference_result"], ["a"], ["a", "b"])]
    assert named == [False, True, True]


def test_files_of_a_run_have_their_documented_names():
    shard = shard_name(7, 123)
    assert prediction_logs("eval", shard) == "prediction_logs-eval-00007-of-00123.gz"
    assert prediction_logs("eval", shard, NONE) == "prediction_logs-eval-00007-of-00123"
    failed = "Split-eval/failed_examples-00007-of-00123.gz"
    assert _layout.failed_examples("eval", shard) == failed
    assert _layout.output_examples("eval", shard) == "Split-eval/examples-00007-of-00123.gz"
    assert _layout.unit_failures("eval", shard) == "failures-eval-00007-of-00123.jsonl.gz"
    assert _layout.failures("eval") == "failures-eval.jsonl.gz"
    endings = {"parquet": "parquet", "csv": "csv", "json_lines": "jsonl"}
    for table_format, ending in endings.items():
        predictions = _layout.prediction_table("eval", shard, table_format)
        assert predictions == f"predictions-eval-00007-of-00123.{ending}"
        failures = _layout.failure_table("eval", shard, table_format)
        assert failures == f"failures-eval-00007-of-00123.{ending}"
        assert _layout.table_format_of(failures) == table_format


@pytest.mark.parametrize("compression", _layout.COMPRESSIONS)
@pytest.mark.parametrize("split", ["eval", "eval-late", "a.b[1]"])
def test_pattern_finds_the_files_of_one_split_or_of_all(split, compression):
    name = prediction_logs(split, shard_name(0, 2), compression)
    matching = [s for s in ("eval", "a.b[1]", None) if prediction_logs_pattern(s).fullmatch(name)]
    assert matching == [s for s in ("eval", "a.b[1]", None) if s in (split, None)]


TABLES = (_layout.prediction_table, _layout.failure_table)


@pytest.mark.parametrize("split", ["eval", "eval-late", "a.b[1]"])
def test_patterns_find_the_files_of_a_table(split):
    patterns = (_layout.prediction_table_pattern, _layout.failure_table_pattern)
    for make, pattern in zip(TABLES, patterns, strict=True):
        name = make(split, shard_name(0, 2), "json_lines")
        matching = [s for s in ("eval", "a.b[1]", None) if pattern(s).fullmatch(name)]
        assert matching == [s for s in ("eval", "a.b[1]", None) if s in (split, None)]
        assert not pattern(None).fullmatch(name + ".gz")


def test_rows_are_inputs_and_other_results_are_none():
    shard = shard_name(0, 1)
    inputs = [_layout.prediction_table("s", shard, "parquet"), "examples-00000-of-00001.gz"]
    others = [_layout.failure_table("s", shard, "parquet"), prediction_logs("s", shard)]
    assert not any(map(_layout.is_no_input, inputs))
    assert all(map(_layout.is_no_input, [*others, "summary.json", _layout.failures("s")]))


def test_names_that_a_run_gives_are_told_from_others():
    shard = shard_name(7, 123)
    shards = [
        prediction_logs("a-b", shard),
        prediction_logs("eval", shard, NONE),
        _layout.failed_examples("eval", shard),
        _layout.output_examples("eval", shard),
    ]
    tables = [make("a-b", shard, "csv") for make in TABLES]
    for name in [*shards, *tables]:
        assert _layout.is_shard(name)
        assert _layout.is_result(name)
    for name in ("summary.json", "comparison.json", _layout.failures("eval")):
        assert _layout.is_result(name)
        assert not _layout.is_shard(name)
    for name in ("notes.txt", "summary.json.bak", "x/summary.json", f"old-{shards[0]}", "README"):
        assert not _layout.is_result(name)
