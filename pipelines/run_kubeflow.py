r"""Compiles an example pipeline for Kubeflow Pipelines v2 or Vertex AI Pipelines.

    python -m pipelines.run_kubeflow five_times_table --image IMAGE \
        --pipeline-root gs://bucket/artifacts --data-root gs://bucket/labelled \
        --inference-data-root gs://bucket/unlabelled --output five_times_table.yaml

Nothing runs here: Kubeflow takes the YAML file, a PipelineSpec; Vertex takes a JSON file, a
PipelineJob. docs/kubeflow.md says how to build the image and where to put the data.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from pipelines.catalogue import BEAM_PIPELINE_ARGS, PIPELINES

# Where the Dockerfile puts this repository's pipelines.
CODE_ROOT = "/app"

_CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def main(argv: list[str] | None = None) -> int:
    """Does what the command line asks for."""
    args = _parse_args(argv)
    job = compile_pipeline(
        args.name, output=args.output, spec_2_1=args.spec == "2.1", **settings_of(args)
    )
    spec = job["pipelineSpec"]
    tasks = ", ".join(sorted(spec["root"]["dag"]["tasks"]))
    print(f"Wrote {args.output}, schema version {spec['schemaVersion']}: {tasks}.")
    return 0


def compile_pipeline(
    name: str,
    *,
    image: str,
    output: str,
    code_root: str = CODE_ROOT,
    command: Sequence[str] | None = None,
    spec_2_1: bool = True,
    accelerator: tuple[str, int] | None = None,
    **pipeline_arguments: Any,
) -> dict[str, Any]:
    """Writes pipeline `name` to a file for Kubeflow.

    Args:
      name: one of PIPELINES.
      image: the image that each component runs in.
      output: the file; `.yaml` for a PipelineSpec, `.json` for a PipelineJob.
      code_root: the folder in the image that holds `pipelines/`.
      command: what each container runs; by default the entrypoint that restores types.
      spec_2_1: whether to write schema version 2.1, the only one that open-source Kubeflow takes,
        or else 2.0.
      accelerator: type and number of accelerators for the inferencer's container, such as
        `("NVIDIA_TESLA_T4", 1)`; default: none.
      **pipeline_arguments: arguments of the pipeline's `create_pipeline`.

    Returns:
      The PipelineJob.
    """
    # Here, so that `--help` does not wait seconds for TFX.
    from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

    from bulk_inferencer.components import kubeflow_entrypoint

    pipeline = PIPELINES[name].load().create_pipeline(**pipeline_arguments)
    for node in pipeline.components:
        path = node.exec_properties.get("module_file")
        if path:
            node.exec_properties["module_file"] = path.replace(_CHECKOUT, code_root, 1)
    if accelerator:
        from kfp.pipeline_spec import pipeline_spec_pb2

        resources = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec()
        resources.accelerator.type, resources.accelerator.count = accelerator
        pipeline.components[-1].with_platform_config(resources)  # The inferencer comes last.

    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        config=kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
            default_image=image,
            default_commands=list(command or kubeflow_entrypoint.COMMAND),
            use_pipeline_spec_2_1=spec_2_1,
        ),
        output_dir=os.path.dirname(os.path.abspath(output)),
        output_filename=os.path.basename(output),
    )
    return runner.run(pipeline)


def _parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.run_kubeflow",
        description="Compile an example pipeline for Kubeflow Pipelines v2 or Vertex AI.",
    )
    add_arguments(parser)
    parser.add_argument(
        "--output", required=True, help=".yaml for a PipelineSpec, .json for a PipelineJob"
    )
    parser.add_argument("--spec", choices=("2.1", "2.0"), default="2.1", help="schema version")
    args = parser.parse_args(argv)
    if not args.output.endswith((".yaml", ".yml", ".json")):
        parser.error(f"--output must end with .yaml, .yml or .json, not {args.output!r}.")
    return args


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Returns what `add_arguments` asked for as arguments of `compile_pipeline`."""
    return {
        "image": args.image,
        "code_root": args.code_root,
        "pipeline_name": args.pipeline_name or args.name.replace("_", "-"),
        "pipeline_root": args.pipeline_root,
        "data_root": args.data_root,
        "inference_data_root": args.inference_data_root,
        "enable_cache": args.cache,
        "beam_pipeline_args": args.beam_arg or list(BEAM_PIPELINE_ARGS),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what a compiled pipeline needs to know, whichever service runs it."""
    parser.add_argument("name", choices=PIPELINES, help="which pipeline")
    parser.add_argument("--image", required=True, help="image that the Dockerfile makes")
    parser.add_argument("--pipeline-root", required=True, help="where the artifacts are written")
    parser.add_argument("--data-root", required=True, help="folder with labelled examples")
    parser.add_argument(
        "--inference-data-root", required=True, help="folder with unlabelled examples"
    )
    parser.add_argument("--pipeline-name", help="default: the name, with - for _")
    parser.add_argument(
        "--code-root",
        default=CODE_ROOT,
        help="folder in the image that holds pipelines/ (default: %(default)s)",
    )
    parser.add_argument(
        "--cache",
        action="store_true",
        help="skip tasks with unchanged inputs; see docs/kubeflow.md before",
    )
    parser.add_argument(
        "--beam-arg",
        action="append",
        help="an option of the Beam jobs, as --beam-arg=--runner=DataflowRunner; can be repeated",
    )


if __name__ == "__main__":
    sys.exit(main())
