"""Names of the files of a run, relative to the folder of their output.

inference_result/  prediction_logs-<split>-SSSSS-of-NNNNN.gz
failed_examples/   Split-<split>/failed_examples-SSSSS-of-NNNNN.gz
output_examples/   Split-<split>/examples-SSSSS-of-NNNNN.gz
prediction_table/  predictions-<split>-SSSSS-of-NNNNN.parquet
summary/           summary.json, statistics.json, failures-<split>.jsonl.gz,
                   failures-<split>-SSSSS-of-NNNNN.parquet, where there is a prediction table;
                   of a TFX component stats.tfrecord and report.html, too
comparison/        comparison.json
*/.work/           working files, which the run deletes at its end
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# The output of a run with a single model, and the name of this model where results do not name it.
INFERENCE_RESULT = "inference_result"
# The output of the predictions as a table.
PREDICTION_TABLE = "prediction_table"
# The output of the comparison of several models.
COMPARISON = "comparison"

SUMMARY_FILE = "summary.json"
COMPARISON_FILE = "comparison.json"
STATISTICS_FILE = "statistics.json"
# What the components add for TFDV and for people.
TFDV_FILE = "stats.tfrecord"
REPORT_FILE = "report.html"
WORK_FOLDER = ".work"

# Compressions of PredictionLogs. Examples are always gzip: TFX reads no other compression.
GZIP = "GZIP"
NONE = "NONE"
COMPRESSIONS = (GZIP, NONE)

# Formats of tables, and how the names of their files end.
PARQUET = "parquet"
CSV = "csv"
JSON_LINES = "json_lines"
TABLE_FORMATS = (PARQUET, CSV, JSON_LINES)
_TABLE_ENDINGS = {PARQUET: "parquet", CSV: "csv", JSON_LINES: "jsonl"}


def names_models(models: Iterable[str]) -> bool:
    """Returns whether results carry the names of these models: all but a lone, unnamed one."""
    return list(models) != [INFERENCE_RESULT]


def shard_name(index: int, count: int) -> str:
    """Returns `SSSSS-of-NNNNN` for shard `index`, from 0, of `count`."""
    return f"{index:05d}-of-{count:05d}"


def prediction_logs(split: str, shard: str, compression: str = GZIP) -> str:
    """Returns the file of a unit's PredictionLogs; `shard` comes from `shard_name`."""
    return f"prediction_logs-{split}-{shard}" + (".gz" if compression == GZIP else "")


def prediction_logs_pattern(split: str | None) -> re.Pattern[str]:
    """Returns a pattern for the names of PredictionLog files, of one split or of all."""
    name = re.escape(split) if split else ".+"
    return re.compile(rf"prediction_logs-(?P<split>{name})-(?P<index>\d+)-of-(?P<count>\d+)(\.gz)?")


def tfx_prediction_logs_pattern() -> re.Pattern[str]:
    """Returns a pattern for the names of files of TFX's BulkInferrer, which name no split."""
    return re.compile(r"prediction_logs(?P<split>)-(?P<index>\d+)-of-(?P<count>\d+)(\.gz)?")


def examples_folder(split: str) -> str:
    """Returns the folder of a split's examples, as TFX names it."""
    return f"Split-{split}"


def failed_examples(split: str, shard: str) -> str:
    """Returns the file of a unit's failed records."""
    return f"{examples_folder(split)}/failed_examples-{shard}.gz"


def output_examples(split: str, shard: str) -> str:
    """Returns the file of a unit's output examples."""
    return f"{examples_folder(split)}/examples-{shard}.gz"


def unit_failures(split: str, shard: str) -> str:
    """Returns the list of a unit's failures; the run joins these lists into `failures`."""
    return f"failures-{split}-{shard}.jsonl.gz"


def failures(split: str) -> str:
    """Returns the list of a split's failures."""
    return f"failures-{split}.jsonl.gz"


def prediction_table(split: str, shard: str, table_format: str) -> str:
    """Returns the file of a unit's predictions as a table."""
    return f"predictions-{split}-{shard}.{_TABLE_ENDINGS[table_format]}"


def failure_table(split: str, shard: str, table_format: str) -> str:
    """Returns the file of a unit's failures as a table."""
    return f"failures-{split}-{shard}.{_TABLE_ENDINGS[table_format]}"


def prediction_table_pattern(split: str | None) -> re.Pattern[str]:
    """Returns a pattern for the names of files of a prediction table, of one split or of all."""
    return _table_pattern("predictions", split)


def failure_table_pattern(split: str | None) -> re.Pattern[str]:
    """Returns a pattern for the names of files of a failure table, of one split or of all."""
    return _table_pattern("failures", split)


def table_format_of(name: str) -> str:
    """Returns the format of a file of a table, by its name."""
    ending = name.rpartition(".")[2]
    return next(own for own, its_ending in _TABLE_ENDINGS.items() if its_ending == ending)


def _table_pattern(table: str, split: str | None) -> re.Pattern[str]:
    name, endings = re.escape(split) if split else ".+", "|".join(_TABLE_ENDINGS.values())
    shard = r"(?P<index>\d+)-of-(?P<count>\d+)"
    return re.compile(rf"{table}-(?P<split>{name})-{shard}\.(?P<ending>{endings})")


_SHARD_FILE = r"(prediction_logs-.+|Split-.+/failed_examples|Split-.+/examples)-\d+-of-\d+(\.gz)?"
_TABLES = (prediction_table_pattern(None), failure_table_pattern(None))
_REPORT = "|".join(
    [
        *map(re.escape, (SUMMARY_FILE, STATISTICS_FILE, COMPARISON_FILE, TFDV_FILE, REPORT_FILE)),
        r"failures-.+\.jsonl\.gz",
    ]
)


def is_shard(name: str) -> bool:
    """Returns whether a unit's file has this name, relative to the folder of an output."""
    return bool(re.fullmatch(_SHARD_FILE, name)) or any(t.fullmatch(name) for t in _TABLES)


def is_result(name: str) -> bool:
    """Returns whether a run gives this name, relative to the folder of an output, to a file."""
    return bool(re.fullmatch(_REPORT, name)) or is_shard(name)


def is_no_input(name: str) -> bool:
    """Returns whether a run gives this name to a file of something else than examples or rows."""
    patterns = (prediction_logs_pattern(None), failure_table_pattern(None))
    return bool(re.fullmatch(_REPORT, name)) or any(own.fullmatch(name) for own in patterns)
