"""The example pipelines by name.

Importing this module is cheap. What an example is made of, and TFX with it, which takes ten
seconds, is imported by `Example.load()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tfx import v1 as tfx

    from pipelines.outcome import Report

# Beam's DirectRunner would first try to download another runner; this one is already there.
BEAM_PIPELINE_ARGS = ("--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",)


class Parts(NamedTuple):
    """What an example is made of.

    Attributes:
      create_pipeline: returns the pipeline; takes `data_root`, `inference_data_root`, `train_steps`
        and the arguments of `tfx.dsl.Pipeline`, all by keyword.
      make_data: writes the data into a folder, and says where: in `data_root` are the labelled
        examples, in `inference_data_root` the unlabelled ones, of which there are `records`.
      report: checks predictions, given the inferencer's output folders by name, and the data.
    """

    create_pipeline: Callable[..., tfx.dsl.Pipeline]
    make_data: Callable[[str], Any]
    report: Callable[[Mapping[str, str], Any], Report]


class Example(NamedTuple):
    """An example pipeline.

    Attributes:
      title: what it does, in a sentence.
      file: where its `create_pipeline` is.
      similar: the name of a similar example with other data.
      load: imports its parts.
    """

    title: str
    file: str
    similar: str
    load: Callable[[], Parts]


def _five_times_table() -> Parts:
    from pipelines.five_times_table import data, pipeline, report

    return Parts(pipeline.create_pipeline, data.make_data, report.report)


def _five_times_table_branch() -> Parts:
    from pipelines.five_times_table import branch_pipeline, data, report

    return Parts(branch_pipeline.create_pipeline, data.make_data, report.branch_report)


def _five_times_table_cascade() -> Parts:
    from pipelines.five_times_table import cascade_pipeline, data, report

    return Parts(cascade_pipeline.create_pipeline, data.make_data, report.cascade_report)


def _penguins() -> Parts:
    from pipelines.penguins import data, pipeline, report

    return Parts(pipeline.create_pipeline, data.make_data, report.report)


def _penguins_cascade() -> Parts:
    from pipelines.penguins import cascade_pipeline, data, report

    return Parts(cascade_pipeline.create_pipeline, data.make_data, report.cascade_report)


PIPELINES = {
    "five_times_table": Example(
        "A model learns y = 5x from examples, then predicts y for x without one.",
        "pipelines/five_times_table/pipeline.py",
        "penguins",
        _five_times_table,
    ),
    "five_times_table_branch": Example(
        "Two models learn y = 5x and y = 10x, then both predict y for x without one.",
        "pipelines/five_times_table/branch_pipeline.py",
        "penguins",
        _five_times_table_branch,
    ),
    "five_times_table_cascade": Example(
        "Two models learn y = 5x and y = 10x, then ten takes what five predicts: y = 50x.",
        "pipelines/five_times_table/cascade_pipeline.py",
        "penguins_cascade",
        _five_times_table_cascade,
    ),
    "penguins": Example(
        "A classifier learns the species of penguins, then names birds without a label.",
        "pipelines/penguins/pipeline.py",
        "five_times_table",
        _penguins,
    ),
    "penguins_cascade": Example(
        "A small classifier names the penguins it is sure of, a full one those that remain.",
        "pipelines/penguins/cascade_pipeline.py",
        "five_times_table_cascade",
        _penguins_cascade,
    ),
}
