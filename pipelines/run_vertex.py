r"""Compiles an example pipeline and submits it to Vertex AI Pipelines.

    python -m pipelines.run_vertex five_times_table --project mine --location europe-west1 \
        --image IMAGE --pipeline-root gs://bucket/artifacts --data-root gs://bucket/labelled \
        --inference-data-root gs://bucket/unlabelled --service-account runner@mine.iam...

It submits what run_kubeflow compiles, as a PipelineJob.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from pipelines.run_kubeflow import add_arguments, compile_pipeline, settings_of


def main(argv: list[str] | None = None) -> int:
    """Does what the command line asks for."""
    args = _parse_args(argv)
    job = submit(
        args.name,
        project=args.project,
        location=args.location,
        service_account=args.service_account,
        labels=dict(args.label or []),
        accelerator=(args.accelerator, args.accelerator_count) if args.accelerator else None,
        **settings_of(args),
    )
    print(f"Submitted {job.resource_name}.")
    return 0


def submit(
    name: str,
    *,
    project: str,
    location: str,
    service_account: str | None = None,
    labels: Mapping[str, str] | None = None,
    credentials: Any = None,
    **settings: Any,
) -> Any:
    """Compiles pipeline `name` and starts a run of it on Vertex AI.

    Args:
      name: one of PIPELINES.
      project: the Google Cloud project.
      location: its region, such as `europe-west1`.
      service_account: the account that the components run as; default: Compute Engine's.
      labels: labels of the run.
      credentials: default: the application default credentials.
      **settings: further arguments of `run_kubeflow.compile_pipeline`.

    Returns:
      The `PipelineJob`, which has been started.
    """
    from google.cloud import aiplatform  # Here: it takes seconds to import.

    started = datetime.datetime.now(datetime.timezone.utc)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"{name}.json")
        compile_pipeline(name, output=path, **settings)
        job = aiplatform.PipelineJob(
            display_name=settings["pipeline_name"],
            template_path=path,
            job_id=f"{settings['pipeline_name']}-{started:%Y%m%d%H%M%S}",
            pipeline_root=settings["pipeline_root"],
            enable_caching=settings["enable_cache"],
            labels=dict(labels or {}),
            project=project,
            location=location,
            credentials=credentials,
        )
    job.submit(service_account=service_account)
    return job


def _parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.run_vertex",
        description="Compile an example pipeline and run it on Vertex AI Pipelines.",
    )
    add_arguments(parser)
    parser.add_argument("--project", required=True, help="the Google Cloud project")
    parser.add_argument("--location", required=True, help="its region, such as europe-west1")
    parser.add_argument("--service-account", help="what the components run as")
    parser.add_argument(
        "--label", action="append", type=_label, metavar="NAME=VALUE", help="can be repeated"
    )
    parser.add_argument(
        "--accelerator", metavar="TYPE", help="of the inferencer, such as NVIDIA_TESLA_T4"
    )
    parser.add_argument(
        "--accelerator-count", type=int, default=1, help="how many (default: %(default)s)"
    )
    return parser.parse_args(argv)


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text}")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
