"""What Google Cloud Dataflow needs before a job starts, and what became of a job.

`Beam` takes any runner. This one has more to check, because each of its jobs takes minutes to start
and costs money, and because no worker of it sees a disk of the launcher.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from bulk_inferencer import _extras, _files
from bulk_inferencer.engines import beam_options
from bulk_inferencer.errors import SettingsError, WorkerError

_NAMES = ("dataflow", "dataflowrunner", "testdataflowrunner")
# Beam's options with which no job runs to its end while the launcher waits.
_WITHOUT_END = (
    *("dry_run", "no_wait_until_finish", "streaming", "template_location"),
    *("transform_name_mapping", "update"),
)
_SHIPS_PACKAGES = (
    *("sdk_container_image", "worker_harness_container_image", "extra_packages", "setup_file"),
    *("requirements_file", "sdk_harness_container_image_overrides"),
)
_FAILURE = re.compile(r"State: (\w+), Error:\n(.*)", re.DOTALL)
_RAISED = re.compile(r"^([\w.]*(?:Error|Exception)\b.*?)(?: \[while running .*)?$", re.MULTILINE)
_BECAME = {"FAILED": "failed", "CANCELLED": "was cancelled"}
_MOST_CHARACTERS = 1000


def is_dataflow(options: PipelineOptions | Sequence[str]) -> bool:
    """Returns whether a pipeline with these options runs on Dataflow."""
    if isinstance(options, PipelineOptions):
        name = options.get_all_options().get("runner")
    else:
        name = beam_options.runner_of(options)
    return (name or "").rpartition(".")[2].lower() in _NAMES


def check_options(options: PipelineOptions | Sequence[str], has_hints: bool) -> None:
    """Checks what can be told without asking Google.

    Args:
      options: Beam's options for Dataflow.
      has_hints: whether the engine asks for other workers for the model than for the rest.

    Raises:
      MissingExtraError: Dataflow's client is not installed.
      SettingsError: an option has no meaning for a run, contradicts another one, or is missing.
    """
    _extras.require("google.cloud.storage", "gcp", "DataflowRunner")
    if not isinstance(options, PipelineOptions):
        options = PipelineOptions(list(options))
    given = options.get_all_options()
    if wrong := [name for name in _WITHOUT_END if given.get(name)]:
        raise SettingsError(
            f"A run waits for its Dataflow job, a batch job of its own, and then commits the "
            f"results. Leave out Beam's option --{wrong[0]}."
        )
    if not any(given.get(name) for name in _SHIPS_PACKAGES):
        raise SettingsError(
            "Dataflow's own workers lack this package. Name an image that has it with Beam's "
            "option --sdk_container_image, or let workers install it with --extra_package, "
            "--setup_file or --requirements_file."
        )
    if not has_hints:
        return
    services = [*(given.get("dataflow_service_options") or ()), *(given.get("experiments") or ())]
    if any(service.startswith("worker_accelerator=") for service in services):
        raise SettingsError(
            "Beam.accelerator and Beam.min_ram are for the workers that hold the model, but Beam's "
            "option --dataflow_service_options=worker_accelerator=... is for all workers. Leave "
            "out one of them."
        )
    if given.get("flexrs_goal"):
        raise SettingsError(
            "Dataflow's flexible scheduling knows no Beam.accelerator and no Beam.min_ram. Leave "
            "them out, or Beam's option --flexrs_goal."
        )


def check_paths(paths: Sequence[str], options: PipelineOptions | Sequence[str]) -> None:
    """Checks that workers in a data center of Google's can see paths, and that a job can start.

    Raises:
      SettingsError: a path is on a disk of this machine; there are no credentials; or Beam or
        Google refuses the options.
    """
    for path in paths:
        if _files.is_local(path):
            raise SettingsError(
                f"Dataflow's workers cannot see {path}, which is a path on this machine. Inputs, "
                f"model, results and checkpoint must be in a bucket: use gs://..."
            )
    google = beam_options.parsed(options).view_as(GoogleCloudOptions)
    own = filter(None, (google.temp_location, google.staging_location))
    beam_options.open_filesystems([*own, *paths], options)
    beam_options.make_pipeline(options)


def submitted(options: PipelineOptions) -> str:
    """Returns how to find a job that may have been submitted; empty text if none can have been."""
    google = options.view_as(GoogleCloudOptions)
    if not google.job_name:  # Beam gives one to each job.
        return ""
    return f"Dataflow job named {google.job_name} in {google.region} of {google.project}"


def explained(error: Exception, options: PipelineOptions) -> WorkerError | None:
    """Returns what became of the job that an error of Beam's is about; None for other errors."""
    runner = sys.modules.get("apache_beam.runners.dataflow.dataflow_runner")
    if runner is None or not isinstance(error, runner.DataflowRuntimeException):
        return None
    found = _FAILURE.search(str(error))
    google = options.view_as(GoogleCloudOptions)
    number = error.result.job_id()
    state, told = found.groups() if found else ("", str(error))
    became = _BECAME.get(state, f"ended in the state {state}" if state else "failed")
    reason = _reason(told)
    return WorkerError(
        f"The Dataflow job {number} {became}{reason and f': {reason}'}. Its log is at "
        f"https://console.cloud.google.com/dataflow/jobs/{google.region}/{number}"
        f"?project={google.project}. See what it says, and run again."
    )


def _reason(told: str) -> str:
    """Returns what went wrong, on one line, of a message that may hold a traceback."""
    if raised := _RAISED.findall(told):  # The last one is what the others led to.
        told = raised[-1]
    lines = told.strip().splitlines()
    return lines[0][:_MOST_CHARACTERS].rstrip(".") if lines and told != "None" else ""
