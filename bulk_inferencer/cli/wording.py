"""Messages that name settings of Python, in the options of the command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from re import Match
from typing import TypeAlias

_Rule: TypeAlias = str | Callable[[Match[str]], str]


def in_options(message: str) -> str:
    """Returns a message with options in the place of settings."""
    for pattern, replacement in _RULES:
        message = pattern.sub(replacement, message)
    return message


def _pair(option: str) -> Callable[[Match[str]], str]:
    return lambda found: f"{option} {shlex.quote(f'{found[1]}={found[2]}')}"


def _several(found: Match[str]) -> str:
    names = ",".join(name.strip(" '") for name in found[2].split(","))
    return f"--columns {shlex.quote(f'{found[1]}={names}')}"


def _typed(found: Match[str]) -> str:
    name = "csv" if found[1] == "CSV" else "json_lines"
    return f"--format {name} --type {shlex.quote(f'{found[2]}={found[3]}')}"


def _batch_bound(found: Match[str]) -> str:
    return f"--{found[1].replace('_', '-')}"


_OPTIONS = {
    "Beam.accelerator": "--accelerator",
    "Beam.min_ram": "--min-ram",
    "Beam.worker_timeout_seconds": "--worker-timeout",
    "Branch.baseline": "--baseline",
    "CSV.delimiter": "--delimiter",
    "CSV.types": "--type",
    "DamagedFiles.max_count": "--max-damaged-files",
    "DamagedFiles.skip": "--skip-damaged-files",
    "FailureLimit.max_count": "--max-failed",
    "FailureLimit.max_fraction": "--max-failed-fraction",
    "InferenceJob.limit": "--limit",
    "InferenceJob.modules": "--module",
    "InferenceJob.splits": "--split",
    "JSONLines.types": "--type",
    "Outputs.compression": "--compression",
    "Outputs.table": "--table",
    "PythonModel.allow_missing": "--allow-missing",
    "PythonModel.features": "--features",
    "PythonModel.load_model": "MODEL",
    "PythonModel.path": "--model-path",
    "PythonModel.takes_records": "--takes-records",
    "Ray's address": "--address",
    "Ray's max_retries": "--max-retries",
    "Ray's node_seconds": "--node-seconds",
    "Ray's num_cpus": "--num-cpus",
    "Ray's num_gpus": "--num-gpus",
    "Ray's runtime_env": "--runtime-env",
    "SavedModel.import_modules": "--import-module",
    "SavedModel.path": "MODEL",
    "SavedModel.signatures": "--signature",
    "SavedModel.tags": "--tag",
    "SavedModel.takes_records": "--takes-records",
    "Spark's conf": "--conf",
    "Spark's master": "--master",
    "TFServing.credentials": "--credentials",
    "TFServing.signatures": "--signature",
    "TFServing.takes_records": "--takes-records",
    "TableSettings.binary": "--binary",
    "TableSettings.format": "--table",
    "TableSettings.keep": "--keep",
    "VertexEndpoint.client": "--credentials",
    "VertexEndpoint.input_name": "--input-name",
}
_FIELDS = "|".join(map(re.escape, sorted(_OPTIONS, key=len, reverse=True)))
# In this order: a longer text before what it contains.
_RULES: tuple[tuple[re.Pattern[str], _Rule], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"Call run\(job, restart=True\)", "Add --restart"),
        (r"rename=\{'(.+?)': '(.+?)'\}", _pair("--rename")),
        (r"columns=\{'(.+?)': \[(.+?)\]\}", _several),
        (r"\brename= or columns=", "--rename or --columns"),
        (r"give its type in input_format\b", "give its type"),
        (r"\b(CSV|JSONLines)\(types=\{'(.+?)': '(.+?)'\}\)", _typed),
        (r"\bset takes_records=True", "add --takes-records"),
        (r"^takes_records\b", "--takes-records"),
        (r", or set allow_empty_splits if there may be none\.", " or leave it out."),
        (r"Correct the path, leave it out or leave it out\.", "Correct the path, or leave it out."),
        (r"\bset input_format to CSV\(delimiter=\.\.\.\)", "add --format csv --delimiter ..."),
        (r"\binput_format=\"(\w+)\"", r"--format \1"),
        (r"Name them in CSV\.names, or leave out the files\.", "Leave out the files."),
        (r"\bset input_format\b", "add --format"),
        (r"\binput_format\b", "--format"),
        (r"Correct the setting that names it\.", "Correct the option that names it."),
        (r"\bby naming the others in columns\b", "by naming the others in --columns"),
        (r"\bFailureLimit allows\b", "Allowed are"),
        (r"or raise the limit to keep the failures in failed_examples\.",
         "or raise --max-failed-fraction or --max-failed to keep the failures apart."),
        (r"Set TFServing\.version to", "Write grpc://host:port/model:VERSION to"),
        (r"\bSet PythonModel\.takes_records\b", "Add --takes-records"),
        (r"\bBatchBounds\.(\w+)", _batch_bound),
        (r"\bCorrect (binary|columns|model|split)\.", r"Correct --\1."),
        (r"^columns should name\b", "--columns should name"),
        (r"\b(?:Output)?Expectations\.(\w+)", r"\1"),  # as in the file
        (r"\bCorrect (pipeline)_name\.", r"Correct --\1."),
        (r"\b([Ss])et key to\b", r"\1et --key to"),
        (r"\bby another column with key\.", "by another column with --key."),
        (r"\bset allow_partial\.", "add --partial."),
        (r"\bone model at a time, with model\b", "one model at a time, with --model"),
        (r"\bRay\(runtime_env=\{'(\w+)': \[\.\.\.\]\}\)", r"""--runtime-env '{"\1": [...]}'"""),
        (r"\bSpark\(conf=\{'(.+?)': '(.+?)'\}\)", _pair("--conf")),
        (r"\bengines\.(Beam|Ray|Spark)\b(?:\(\))?", lambda found: f"--engine {found[1].lower()}"),
        (rf"\b({_FIELDS})\b", lambda found: _OPTIONS[found[1]]),
    )
)  # fmt: skip
