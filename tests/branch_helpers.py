"""What the tests of several models share."""

from __future__ import annotations

import dataclasses
import re

from bulk_inferencer.job import BranchJob, FailureLimit
from bulk_inferencer.units.outputs import Outputs
from tests.helpers import (
    features_of,
)

ANY_FAILURES = FailureLimit(max_fraction=1)


def exactly(message):
    return f"^{re.escape(message)}$"


def x_of(record):
    return features_of(record)["x"][0]


def outputs_in(folder, models, *columns, has_comparison=False, **settings):
    outputs = Outputs.under(f"{folder}/out")
    return dataclasses.replace(
        outputs,
        inference_result={name: f"{folder}/out/{name}" for name in models},
        output_examples=f"{folder}/out/output_examples" if columns else None,
        columns=columns,
        comparison=f"{folder}/out/comparison" if has_comparison else None,
        **settings,
    )


def branch_job(folder, models, *columns, has_comparison=False, **settings):
    settings = {"failure_limit": ANY_FAILURES, "splits": {"s": [f"{folder}/in/*"]}, **settings}
    outputs = outputs_in(folder, models, *columns, has_comparison=has_comparison)
    return BranchJob(**{"models": models, "outputs": outputs, **settings})
