"""Runs a compiled pipeline with kfp.local, in an environment that has kfp and no TFX.

python kubeflow_local.py PIPELINE_YAML PIPELINE_ROOT
"""

from __future__ import annotations

import sys

import kfp
from kfp import components, local


def main(pipeline_yaml: str, pipeline_root: str) -> None:
    print(f"kfp {kfp.__version__}")
    local.init(
        # The tasks' `python` is the one on PATH, with TFX.
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=pipeline_root,
        raise_on_error=True,
    )
    components.load_component_from_file(pipeline_yaml)()


if __name__ == "__main__":
    main(*sys.argv[1:])
