"""Names of the files of a run, relative to the folder of their output.

inference_result/  prediction_logs-<split>-SSSSS-of-NNNNN.gz
failed_examples/   Split-<split>/failed_examples-SSSSS-of-NNNNN.gz
output_examples/   Split-<split>/examples-SSSSS-of-NNNNN.gz
summary/           summary.json, failures-<split>.jsonl.gz
comparison/        comparison.json
*/.work/           working files, which the run deletes at its end
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# The output of a run with a single model, and the name of this model where results do not name it.
INFERENCE_RESULT = "inference_result"

SUMMARY_FILE = "summary.json"
COMPARISON_FILE = "comparison.json"
WORK_FOLDER = ".work"

# Compressions of PredictionLogs. Examples are always gzip: TFX reads no other compression.
GZIP = "GZIP"
NONE = "NONE"
COMPRESSIONS = (GZIP, NONE)


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


_SHARD_FILE = r"(prediction_logs-.+|Split-.+/failed_examples|Split-.+/examples)-\d+-of-\d+(\.gz)?"
_REPORT = rf"{SUMMARY_FILE}|{COMPARISON_FILE}|failures-.+\.jsonl\.gz"
_RESULT = re.compile(rf"{_REPORT}|{_SHARD_FILE}")


def is_shard(name: str) -> bool:
    """Returns whether a unit's file has this name, relative to the folder of an output."""
    return bool(re.fullmatch(_SHARD_FILE, name))


def is_result(name: str) -> bool:
    """Returns whether a run gives this name, relative to the folder of an output, to a file."""
    return bool(_RESULT.fullmatch(name))


def is_no_input(name: str) -> bool:
    """Returns whether a run gives this name to a file of something else than examples."""
    return bool(re.fullmatch(_REPORT, name) or prediction_logs_pattern(None).fullmatch(name))
